//! What a `[[service]]` takes from the catalogue: `catalog = "microsoft-365/sign-in"`, with `tenant_name` in the places for it.

use super::problem::{At, Problems, quoted};
use super::reader::Table;
use super::tenant::few;
use crate::catalog::{Catalogue, NotFound, is_tenant_name};
use crate::policy::HostPattern;

/// Nothing where there is no `catalog`, or it leads nowhere.
pub(super) struct Taken {
    /// `entry/part`, and where it stands.
    pub reference: Option<(String, At)>,
    pub tenant_name: Option<String>,
    pub hosts: Vec<HostPattern>,
    /// What the service's are where it names none.
    pub ports: Vec<u16>,
    pub plain_http: bool,
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
    let mut taken = Taken { reference: None, tenant_name, hosts: Vec::new(), ports: vec![443], plain_http: false };
    let Some(text) = table.text("catalog", problems) else { return taken };
    let (entry, part) = match catalogue.part(text.text) {
        Ok(found) => found,
        Err(why) => {
            let (expected, hint) = match why {
                NotFound::PartMissing(parts) => ("one part of this entry", parts),
                NotFound::Part(parts) => ("a part that this entry has", parts),
                NotFound::Entry(near) => ("an entry of the catalogue and one of its parts (entry/part)", near),
            };
            let near: Vec<_> = hint.iter().map(|name| quoted(name)).collect();
            let near = if near.is_empty() { String::new() } else { format!("there is {}\n", few(&near)) };
            let hint = format!("{near}`sekisho catalog list` shows all of them");
            problems.error(&text.at, quoted(text.text), expected).hint(hint);
            return taken;
        }
    };
    taken.reference = Some((format!("{}/{}", entry.id, part.id), text.at.clone()));
    taken.ports.clone_from(&part.ports);
    taken.plain_http = part.plain_http;
    for template in &part.hosts {
        match template.fill(taken.tenant_name.as_deref()) {
            Ok(pattern) => taken.hosts.push(pattern),
            // Said once, for all of them.
            Err(_) if table.has("tenant_name") => {}
            Err(_) => {
                let found = format!("{} without tenant_name", quoted(text.text));
                let expected = format!("tenant_name = \"…\", your tenant's name, for hosts such as {template}");
                problems.error(&text.at, found, expected);
                break;
            }
        }
    }
    taken
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
            assert!(said.iter().any(|line| line == expected), "{services}\n{said:#?}");
        }
    }

    #[test]
    fn a_service_takes_hosts_ports_and_plain_http_from_a_part() {
        for services in [
            "[[service]]\nname = \"A\"\ncatalog = \"revocation/digicert\"\n",
            "[[service]]\nname = \"A\"\ncatalog = \"kintone/tenant\"\ntenant_name = \"city-x\"\n",
            "[[service]]\nname = \"A\"\ncatalog = \"microsoft-365/sign-in\"\nhosts = [\"own.example.com\"]\nports = [443, 8443]\n\
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
