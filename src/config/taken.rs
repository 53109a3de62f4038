//! What a `[[service]]` takes from the catalogue: `catalog = "microsoft-365/sign-in"`, with `tenant_name` in the places for it.

use super::problem::{At, Problems, quoted};
use super::reader::{Table, Text};
use super::tenant::few;
use crate::catalog::{Catalogue, NotFound, PLACEHOLDER, Template, TemplateError, is_tenant_name};
use crate::policy::{Breadth, HostPattern};

/// Nothing where there is no `catalog`, or it leads nowhere.
pub(super) struct Taken {
    /// `entry/part`, and where it stands.
    pub reference: Option<(String, At)>,
    pub tenant_name: Option<String>,
    pub hosts: Vec<HostPattern>,
    /// What the service's are where it names none.
    pub ports: Vec<u16>,
    pub plain_http: bool,
    /// Whether its hosts have a place for the tenant's name.
    has_places: bool,
}

pub(super) fn read<'t>(table: &Table<'t>, catalogue: &Catalogue, problems: &mut Problems<'_>) -> Taken {
    let tenant_name = table.text("tenant_name", problems).filter(|text| {
        let sound = is_tenant_name(text.text);
        if !sound {
            let expected = "your tenant's name as it stands in host names: lower-case letters, digits and hyphens";
            problems
                .error(&text.at, quoted(text.text), expected)
                .hint("\"city-x\" where the host is city-x.sharepoint.com");
        }
        sound
    });
    let tenant_name = tenant_name.map(|text| text.text.to_owned());
    let mut taken = Taken {
        reference: None,
        tenant_name,
        hosts: Vec::new(),
        ports: vec![443],
        plain_http: false,
        has_places: false,
    };
    let Some(text) = table.text("catalog", problems) else { return taken };
    let (entry, part) = match catalogue.part(text.text) {
        Ok(found) => found,
        Err(why) => {
            refuse(&text, why, problems);
            return taken;
        }
    };
    taken.reference = Some((format!("{}/{}", entry.id, part.id), text.at.clone()));
    taken.ports.clone_from(&part.ports);
    taken.plain_http = part.plain_http;
    taken.has_places = part.hosts.iter().any(Template::needs_tenant);
    if part.hosts.is_empty() {
        let found = format!("{}, of which the approved feed has nothing left", quoted(text.text));
        problems.warning(&text.at, found, "another part, or none: nothing is permitted by it");
    }
    for template in &part.hosts {
        match template.fill(taken.tenant_name.as_deref()) {
            Ok(pattern) => {
                // A tenant's name may make a public suffix of what was none.
                let own = entry.file.is_some() || template.needs_tenant();
                judge(own, text.text, &pattern, &text.at, problems);
                taken.hosts.push(pattern);
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
    taken
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
    if let Some((reference, at)) = &taken.reference
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
