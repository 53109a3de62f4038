use super::*;

fn part(id: &str, hosts: &[&str]) -> Part {
    Part {
        id: id.to_owned(),
        title: format!("The {id} of it"),
        purpose: "application",
        hosts: hosts.iter().map(|host| Template::parse(host).expect(host)).collect(),
        ports: vec![443],
        plain_http: false,
        profiles: Vec::new(),
        no_profile: None,
        shared_content: None,
        never_inspect: Vec::new(),
        notes: None,
        sources: Vec::new(),
    }
}

fn catalogue() -> Catalogue {
    let entry = |id: &str, parts| Entry {
        id: id.to_owned(),
        name: id.to_uppercase(),
        provider: "Somebody".to_owned(),
        category: "chat",
        notes: None,
        parts,
        file: None,
    };
    let mut catalogue = Catalogue::default();
    catalogue
        .put(entry("talk-box", vec![part("app", &["talk.example", "*.talk.example"]), part("media", &["m.example"])]));
    catalogue.put(entry("box", vec![part("app", &["{tenant}.box.example"])]));
    catalogue
}

#[test]
fn a_reference_leads_to_a_part_or_says_what_there_is() {
    let catalogue = catalogue();
    let found = |reference| catalogue.part(reference).map(|(entry, part)| format!("{}/{}", entry.id, part.id));
    assert_eq!(found("talk-box/media").as_deref(), Ok("talk-box/media"));
    let parts = || vec!["talk-box/app".to_owned(), "talk-box/media".to_owned()];
    assert_eq!(found("talk-box"), Err(NotFound::PartMissing(parts())));
    assert_eq!(found("talk-box/nothing"), Err(NotFound::Part(parts())));
    assert_eq!(found("box7/app"), Err(NotFound::Entry(vec!["box".to_owned(), "talk-box".to_owned()])));
    assert_eq!(found(""), Err(NotFound::Entry(Vec::new())));
}

#[test]
fn a_search_finds_words_and_names_of_hosts() {
    let catalogue = catalogue();
    let found = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let parts = catalogue.search(&words).into_iter().map(|(entry, part)| format!("{}/{}", entry.id, part.id));
        parts.collect::<Vec<_>>().join(" ")
    };
    for (words, expected) in [
        (["TALK"].as_slice(), "talk-box/app talk-box/media"),
        (&["talk", "media"], "talk-box/media"),
        (&["deep.below.talk.example"], "talk-box/app"),
        (&["eviltalk.example"], ""),
        (&["city.box.example"], "box/app"),
        (&["chat", "somebody"], "box/app talk-box/app talk-box/media"),
        (&["nowhere"], ""),
    ] {
        assert_eq!(found(words), expected, "{words:?}");
    }
}
