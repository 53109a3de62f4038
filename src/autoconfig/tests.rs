use super::*;

fn asked(fields: &[(HeaderName, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name.clone(), HeaderValue::from_str(value).expect("a value"));
    }
    map
}

#[test]
fn gzip_is_sent_to_who_takes_it() {
    for (values, taken) in [
        (&[][..], false),
        (&["gzip"], true),
        (&["deflate, GZIP;q=0.5"], true),
        (&["deflate", "br, gzip"], true),
        (&["x-gzip"], true),
        (&["*"], true),
        (&["*;q=0"], false),
        (&["gzip;q=0, *"], false),
        (&["gzip; q=0.0"], false),
        (&["identity, br"], false),
        (&["gzipped"], false),
    ] {
        let fields: Vec<_> = values.iter().map(|value| (header::ACCEPT_ENCODING, *value)).collect();
        assert_eq!(takes_gzip(&asked(&fields)), taken, "{values:?}");
    }
}

#[test]
fn a_tag_is_known_by_either_representation() {
    let page = Page::new("var A = 1;\n".repeat(100)).expect("a page");
    let [plain, zipped] = page.tags.clone().map(|tag| tag.to_str().expect("text").to_owned());
    assert_ne!(plain, zipped);
    for (value, known) in [
        (plain.as_str(), true),
        (zipped.as_str(), true),
        (&format!("\"x\", W/{plain}"), true),
        ("*", true),
        ("\"x\"", false),
        (plain.trim_matches('"'), false),
    ] {
        let (served, answer) = script(&page, &asked(&[(header::IF_NONE_MATCH, value)]));
        assert_eq!(served == Served::Unchanged, known, "{value}");
        assert_eq!(answer.status() == StatusCode::NOT_MODIFIED, known, "{value}");
        assert_eq!(answer.headers()[header::ETAG].to_str().expect("text"), plain);
    }
    assert!(page.zipped.len() < page.text.len() / 5);
}
