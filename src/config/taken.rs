//! What a `[[service]]` takes from the catalogue: `catalog = "microsoft-365/sign-in"`, or a list of parts, with `tenant_name` in the
//! places for it.

use std::collections::HashSet;

use super::problem::{At, Problems, quoted};
use super::reader::{Table, Text};
use super::tenant::few;
use crate::catalog::{Catalogue, Entry, NotFound, PLACEHOLDER, Part, Template, TemplateError, is_tenant_name};
use crate::policy::{Breadth, HostPattern};

/// Nothing where there is no `catalog`, or it leads nowhere.
pub(super) struct Taken {
    /// Each as `entry/part`, and where it stands.
    pub parts: Vec<(String, At)>,
    pub tenant_name: Option<String>,
    /// Each with the place of the first part it is taken from.
    pub hosts: Vec<(HostPattern, At)>,
    /// What the service's are where it names none.
    pub ports: Vec<u16>,
    pub plain_http: bool,
    /// The patterns of `hosts`.
    known: HashSet<HostPattern>,
    /// Whether its hosts have a place for the tenant's name.
    has_places: bool,
}

pub(super) fn read<'t>(table: &Table<'t>, catalogue: &Catalogue, problems: &mut Problems<'_>) -> Taken {
    let mut taken = Taken {
        parts: Vec::new(),
        tenant_name: tenant_name(table, problems),
        hosts: Vec::new(),
        ports: vec![443],
        plain_http: false,
        known: HashSet::new(),
        has_places: false,
    };
    if table.is_empty_list("catalog") {
        problems.error(&table.place("catalog"), "an empty list", "parts of the catalogue, such as \"slack/app\"");
    }
    let mut first: Option<(String, &Part)> = None;
    for text in table.one_or_more("catalog", problems) {
        let (entry, part) = match catalogue.part(text.text) {
            Ok(found) => found,
            Err(why) => {
                refuse(&text, why, problems);
                continue;
            }
        };
        let reference = format!("{}/{}", entry.id, part.id);
        if taken.parts.iter().any(|(other, _)| *other == reference) {
            let found = format!("{} a second time", quoted(&reference));
            problems.error(&text.at, found, "each part once in a service");
            continue;
        }
        match &first {
            Some((before, other)) => refuse_another_way(table, (before, other), (&text, part), problems),
            None => {
                taken.ports.clone_from(&part.ports);
                taken.plain_http = part.plain_http;
                first = Some((reference.clone(), part));
            }
        }
        if part.hosts.is_empty() {
            let found = format!("{}, of which the approved feed has nothing left", quoted(text.text));
            problems.warning(&text.at, found, "another part, or none: nothing is permitted by it");
        }
        taken.has_places |= part.hosts.iter().any(Template::needs_tenant);
        take_hosts(table, (entry, part), &text, &mut taken, problems);
        taken.parts.push((reference, text.at));
    }
    taken
}

fn tenant_name(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let text = table.text("tenant_name", problems)?;
    let sound = is_tenant_name(text.text);
    if !sound {
        let expected = "your tenant's name as it stands in host names: lower-case letters, digits and hyphens";
        problems
            .error(&text.at, quoted(text.text), expected)
            .hint("\"city-x\" where the host is city-x.sharepoint.com");
    }
    sound.then(|| text.text.to_owned())
}

/// What parts say of ports and plain HTTP holds for their own hosts only: a service that takes several has to say it for all.
fn refuse_another_way(
    table: &Table<'_>,
    (before, other): (&str, &Part),
    (text, part): (&Text<'_>, &Part),
    problems: &mut Problems<'_>,
) {
    let spoken = |part: &Part| if part.plain_http { "plain HTTP" } else { "TLS" };
    if part.plain_http != other.plain_http && !table.has("plain_http") {
        let (this, that) = (spoken(part), spoken(other));
        let found = format!("{}, which is {this}, beside {}, which is {that}", quoted(text.text), quoted(before));
        problems.error(&text.at, found, "parts that speak the same, or a service of its own for each");
    } else if part.ports != other.ports && !table.has("ports") {
        let shown = |part: &Part| part.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let (this, that) = (shown(part), shown(other));
        let found = format!("{} on {this}, beside {} on {that}", quoted(text.text), quoted(before));
        problems.error(&text.at, found, "parts on the same ports, ports said for all of them, or a service of its own");
    }
}

fn take_hosts<'t>(
    table: &Table<'t>,
    (entry, part): (&Entry, &Part),
    text: &Text<'t>,
    taken: &mut Taken,
    problems: &mut Problems<'_>,
) {
    for template in &part.hosts {
        match template.fill(taken.tenant_name.as_deref()) {
            Ok(pattern) => {
                // A tenant's name may make a public suffix of what was none.
                let own = entry.file.is_some() || template.needs_tenant();
                judge(own, text.text, &pattern, &text.at, problems);
                // Two parts may have it both; it is permitted once.
                if taken.known.insert(pattern.clone()) {
                    taken.hosts.push((pattern, text.at.clone()));
                }
            }
            // An unsound name is said already, where it stands.
            Err(TemplateError::NoTenant) if table.has("tenant_name") => {}
            Err(TemplateError::Pattern(error)) => {
                let found = format!("{}, whose {template} is no host pattern with this tenant_name", quoted(text.text));
                problems.error(&text.at, found, "another tenant_name").hint(error.to_string());
            }
            Err(TemplateError::NoTenant | TemplateError::Braces) => {
                let found = format!("{} without tenant_name", quoted(text.text));
                let expected = format!("tenant_name = \"…\", your tenant's name, for hosts such as {template}");
                problems.error(&text.at, found, expected);
                break;
            }
        }
    }
}

fn refuse(reference: &Text<'_>, why: NotFound, problems: &mut Problems<'_>) {
    let (expected, near) = match why {
        NotFound::PartMissing(parts) => ("one part of this entry", parts),
        NotFound::Part(parts) => ("a part that this entry has", parts),
        NotFound::Entry(near) => ("an entry of the catalogue and one of its parts (entry/part)", near),
    };
    let near: Vec<_> = near.iter().map(|name| quoted(name)).collect();
    let near = if near.is_empty() { String::new() } else { format!("there is {}\n", few(&near)) };
    let hint = format!("{near}`sekisho catalog list` shows all of them");
    problems.error(&reference.at, quoted(reference.text), expected).hint(hint);
}

/// What the service's own hosts make of what is taken.
pub(super) fn judge_beside<'t>(table: &Table<'t>, taken: &Taken, problems: &mut Problems<'_>) {
    // Wrong types are said where the hosts are read.
    let value = table.value("hosts");
    let own: &[_] = value.as_ref().and_then(|value| value.node.as_array()).map_or(&[], |list| &**list);
    let places = own.iter().filter_map(|host| host.get_ref().as_str()).any(|host| host.contains(PLACEHOLDER));
    if let Some(name) = &taken.tenant_name
        && !places
        && !taken.has_places
    {
        let found = format!("{}, for which no host of the service has a place", quoted(name));
        problems.warning(&table.place("tenant_name"), found, "\"{tenant}\" in one of them, or no tenant_name");
    }
    if let Some((reference, at)) = taken.parts.first()
        && taken.plain_http
        && !own.is_empty()
        && !table.has("plain_http")
    {
        let found = format!("{}, which is plain HTTP, beside hosts of the service's own", quoted(reference));
        problems
            .error(at, found, "plain_http = true or false said for all of them, or a service of their own")
            .hint("what is permitted in plain HTTP is not encrypted: only lists of revoked certificates and the like belong there");
    }
}

/// What `allow_broad` permits of a service's own hosts, nothing permits of the catalogue's.
fn judge(own: bool, reference: &str, pattern: &HostPattern, at: &At, problems: &mut Problems<'_>) {
    match pattern.breadth() {
        Breadth::AboveIcann(suffix) => {
            let found =
                format!("{}, which permits \"{pattern}\", at or above the public suffix {suffix:?}", quoted(reference));
            problems.error(at, found, "hosts below what one organisation holds");
        }
        Breadth::PrivateSuffix(suffix) if own => {
            let found =
                format!("{}, which permits \"{pattern}\": under {suffix} anybody may get a name", quoted(reference));
            problems.warning(at, found, "the names the service really uses");
        }
        Breadth::PrivateSuffix(_) | Breadth::Fine => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems_of;
    use super::*;

    const BASE: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\"]\n\
                        [issuing_ca]\ncertificate = \"ca.pem\"\nkey = \"ca.key\"\n";

    /// What is said of the services, each problem on lines of its own, the first of them in line 9.
    fn said(services: &str) -> Vec<String> {
        problems_of("f", &format!("{BASE}{services}")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_finding_with_its_text() {
        for (services, expected) in [
            (
                "[[service]]\nname = \"A\"\ncatalog = \"kintone/tenant\"\ntenant_name = \"xn--a\"\n",
                "f:11:11: error: service[0].catalog: found \"kintone/tenant\", whose {tenant}.cybozu.com is no host pattern with this \
                 tenant_name, expected another tenant_name\n    hint: ",
            ),
            (
                "[[service]]\nname = \"A\"\ncatalog = \"slack/content\"\ntenant_name = \"city\"\n",
                "f:12:15: warning: service[0].tenant_name: found \"city\", for which no host of the service has a place, expected \
                 \"{tenant}\" in one of them, or no tenant_name",
            ),
            (
                "[[service]]\nname = \"A\"\ncatalog = \"revocation/digicert\"\nhosts = [\"files.city.example.com\"]\n",
                "f:11:11: error: service[0].catalog: found \"revocation/digicert\", which is plain HTTP, beside hosts of the service's own, \
                 expected plain_http = true or false said for all of them, or a service of their own\n    hint: ",
            ),
            (
                "[[service]]\nname = \"A\"\ncatalog = \"microsoft-365/signin\"\n",
                "f:11:11: error: service[0].catalog: found \"microsoft-365/signin\", expected a part that this entry has\n    \
                 hint: there is \"microsoft-365/sign-in\", \"microsoft-365/sign-in-consumer\", \"microsoft-365/sign-in-other\", \
                 \"microsoft-365/device\" and 18 more\n          `sekisho catalog list` shows all of them",
            ),
            (
                "[[service]]\nname = \"A\"\ncatalog = \"slack\"\n",
                "f:11:11: error: service[0].catalog: found \"slack\", expected one part of this entry\n    \
                 hint: there is \"slack/app\", \"slack/content\", \"slack/huddles\"\n          \
                 `sekisho catalog list` shows all of them",
            ),
            (
                "[[service]]\nname = \"A\"\ncatalog = \"nowhere/app\"\n",
                "f:11:11: error: service[0].catalog: found \"nowhere/app\", expected an entry of the catalogue and one of its parts \
                 (entry/part)\n    hint: `sekisho catalog list` shows all of them",
            ),
            (
                "[[service]]\nname = \"A\"\ncatalog = \"kintone/tenant\"\n",
                "f:11:11: error: service[0].catalog: found \"kintone/tenant\" without tenant_name, expected tenant_name = \"…\", your \
                 tenant's name, for hosts such as {tenant}.cybozu.com",
            ),
            (
                "[[service]]\nname = \"A\"\ntenant_name = \"City.X\"\ncatalog = \"kintone/tenant\"\n",
                "f:11:15: error: service[0].tenant_name: found \"City.X\", expected your tenant's name as it stands in host names: \
                 lower-case letters, digits and hyphens\n    hint: \"city-x\" where the host is city-x.sharepoint.com",
            ),
            (
                "[[service]]\nname = \"A\"\nhosts = [\"{tenant}.sharepoint.com\"]\n",
                "f:11:10: error: service[0].hosts[0]: found \"{tenant}.sharepoint.com\", expected tenant_name = \"…\" beside it, or the \
                 name itself in its place\n    hint: the pattern has a place for the name of a tenant (\"{tenant}\"), and none is given",
            ),
            (
                "[[service]]\nname = \"A\"\ncatalog = \"slack/app\"\n",
                "f:11:11: warning: service[0].catalog: found \"slack/app\" without a tenant restriction, expected mode = \"inspect\" and \
                 [service.tenant] with profile = \"slack\": anybody's tenant can be signed in to",
            ),
            (
                "[[service]]\nname = \"A\"\ntenant_name = \"city\"\nhosts = [\"*.sharepoint.com\"]\n",
                "f:12:10: warning: service[0].hosts[0]: found \"*.sharepoint.com\", which is SharePoint of every tenant in the world, \
                 expected \"city.sharepoint.com\" and \"city-my.sharepoint.com\", the tenant named in line 9",
            ),
            (
                "[[service]]\nname = \"A\"\ncatalog = \"windows-update/edge\"\nhosts = [\"*.wdcp.microsoft.com\"]\nmode = \"inspect\"\n",
                "f:12:10: warning: service[0].hosts[0]: found \"*.wdcp.microsoft.com\", so that \"*.wdcp.microsoft.com\" is inspected, \
                 expected this host in a tunnel: its clients accept the vendor's own certificate only\n    \
                 hint: see `sekisho catalog show defender/cloud-protection`: list \"*.wdcp.microsoft.com\" in a service with mode = \
                 \"tunnel\", or take a pattern that does not reach it",
            ),
            (
                "[[service]]\nname = \"A\"\ncatalog = \"github/app\"\nmode = \"inspect\"\n[service.tenant]\nprofile = \"github\"\n\
                 allowed = [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\", \"10\", \"11\", \"12\", \"13\", \"14\", \"15\", \
                 \"16\", \"17\", \"18\", \"19\", \"20\", \"21\"]\n",
                "f:15:11: error: service[0].tenant.allowed: found a list of 21, expected at most 20: the vendor takes no more",
            ),
        ] {
            let said = said(services);
            assert!(said.iter().any(|line| line.starts_with(expected)), "{services}\n{said:#?}");
        }
    }

    /// Each pattern stands where its part does, and what two parts have both is taken once.
    #[test]
    fn several_parts_are_taken_each_with_its_place() {
        let text = format!(
            "{BASE}[[service]]\nname = \"A\"\ncatalog = [\n    \"google-workspace/app\",\n    \"google-workspace/sign-in\",\n    \
             \"microsoft-365/sign-in-consumer\",\n    \"microsoft-365/sign-in\",\n]\n"
        );
        let mut problems = Problems::new("f", &text);
        let tree = super::super::document::parse(&mut problems).expect("TOML");
        let catalogue = super::super::built_in();
        let root = Table::root(&tree, &super::super::schema::ROOT, &mut problems);
        let services = root.tables("service", &super::super::schema::SERVICE, &mut problems);
        let taken = read(services.first().expect("a service"), &catalogue, &mut problems);
        let hosts: Vec<_> = taken.hosts.iter().map(|(host, at)| (host.as_str(), problems.line(at.offset))).collect();
        let parts: Vec<_> = taken.parts.iter().map(|(part, at)| format!("{part} {}", at.key)).collect();
        assert_eq!(parts.first().map(String::as_str), Some("google-workspace/app service[0].catalog[0]"));
        assert_eq!(
            hosts.get(..3),
            Some([("google.com", 12), ("*.google.com", 12), ("accounts.google.com", 13)].as_slice())
        );
        assert!(hosts.contains(&("login.microsoftonline.com", 15)), "{hosts:?}");
        assert_eq!(hosts.iter().filter(|(host, _)| *host == "login.live.com").count(), 1, "{hosts:?}");
    }

    /// Of the program's parts those of one way have the same ports; a site's own need not.
    #[test]
    fn parts_on_other_ports_are_not_taken_together_unless_the_service_says_its_own() {
        let mut catalogue = super::super::built_in();
        let mut entry = catalogue.entry("claude").expect("there").clone();
        if let Some(part) = entry.parts.first_mut() {
            part.ports = vec![443, 8443];
        }
        catalogue.put(entry);
        for (ports, expected) in [
            (
                "",
                "f:11:25: error: service[0].catalog[1]: found \"claude/app\" on 443, 8443, beside \"slack/app\" on 443, expected parts on \
                 the same ports, ports said for all of them, or a service of its own\n",
            ),
            ("ports = [443]\n", ""),
        ] {
            let text = format!("{BASE}[[service]]\nname = \"A\"\ncatalog = [\"slack/app\", \"claude/app\"]\n{ports}");
            let mut problems = Problems::new("f", &text);
            let tree = super::super::document::parse(&mut problems).expect("TOML");
            let root = Table::root(&tree, &super::super::schema::ROOT, &mut problems);
            let services = root.tables("service", &super::super::schema::SERVICE, &mut problems);
            read(services.first().expect("a service"), &catalogue, &mut problems);
            let said: String = problems.into_sorted().iter().map(|problem| format!("{problem}\n")).collect();
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn a_service_takes_hosts_ports_and_plain_http_from_a_part() {
        for services in [
            "[[service]]\nname = \"A\"\ncatalog = \"revocation/digicert\"\n",
            "[[service]]\nname = \"A\"\ncatalog = \"kintone/tenant\"\ntenant_name = \"city-x\"\n",
            "[[service]]\nname = \"A\"\ncatalog = \"adobe/app\"\nhosts = [\"own.example.com\"]\nports = [443, 8443]\n\
             mode = \"inspect\"\n[[service.header]]\nname = \"X-Org\"\nvalue = \"city\"\n",
        ] {
            assert_eq!(said(services), Vec::<String>::new(), "{services}");
        }
        // Found as any other host would be.
        let twice = said(
            "[[service]]\nname = \"A\"\ncatalog = \"claude/app\"\n[[service]]\nname = \"B\"\nhosts = [\"claude.ai\"]\n",
        );
        assert!(
            twice.iter().any(|line| line.contains("\"claude.ai\", which service \"A\" (line 11) has too")),
            "{twice:#?}"
        );
    }
}
