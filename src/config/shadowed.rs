//! What the administrator is told of patterns that hide what a wider pattern of another service permits or sets.
//!
//! The narrower pattern answers for its names alone, and its ports and clients are not completed from a wider one. What may not be
//! here: how that is found (`policy`).

use super::problem::{At, Problems, quoted};
use super::profiles::Profile;
use super::service::Service;
use super::tenant::{self, few};
use crate::catalog::Catalogue;
use crate::policy::{HostPattern, Listed, Policy, Shadow};

const ALONE: &str = "the narrower pattern answers for them alone";

pub(super) fn warn(policy: &Policy, services: &[Service], catalogue: &Catalogue, problems: &mut Problems<'_>) {
    for shadow in policy.shadows() {
        warn_of(&shadow, services, catalogue, problems);
    }
}

fn warn_of(shadow: &Shadow<'_>, services: &[Service], catalogue: &Catalogue, problems: &mut Problems<'_>) {
    let (Some(first), Some(of)) = (shadow.narrow.first(), services.get(shadow.of)) else { return };
    let at = place(first, shadow, services, problems);
    let names = shown(&shadow.narrow);
    let (wide, line) = (shadow.wide.pattern(), shadow.wide.line());
    let wide_of = format!("\"{wide}\" of service {} (line {line})", quoted(&of.name));
    let lost = &shadow.lost;
    if !lost.groups.is_empty() {
        let groups: Vec<_> = lost.groups.iter().map(|group| quoted(group)).collect();
        let found = format!("{names}, not for {}, to which {wide_of} is open", few(&groups));
        problems.warning(&at, found, format!("every [[clients]] that is to reach these names: {ALONE}"));
    }
    if !lost.ports.is_empty() {
        let groups: Vec<_> = lost.ports_for.iter().map(|group| quoted(group)).collect();
        let whose = if groups.is_empty() { String::new() } else { format!(", for {},", few(&groups)) };
        let found = format!("{names}{whose} without {}, which {wide_of} has", ports(&lost.ports));
        problems.warning(&at, found, format!("every port that these names are to have: {ALONE}"));
    }
    if !lost.plain.is_empty() {
        let found = format!("{names} without plain HTTP on {}, which {wide_of} permits", ports(&lost.plain));
        problems.warning(&at, found, format!("plain_http = true here too, or the names in that service: {ALONE}"));
    }
    if !lost.headers.is_empty() {
        warn_of_headers(shadow, services, catalogue, problems);
    }
}

/// A sign-in host without any restriction is told already (`finding`), and what must stay closed can carry none.
fn warn_of_headers(shadow: &Shadow<'_>, services: &[Service], catalogue: &Catalogue, problems: &mut Problems<'_>) {
    let Some(of) = services.get(shadow.of) else { return };
    let closed = |pattern: &HostPattern| {
        let mut exceptions = catalogue.never_inspected().flat_map(|(.., exception)| &exception.hosts);
        exceptions.any(|host| host.as_str() == pattern.as_str())
    };
    let restricted = shadow.by.iter().filter_map(|by| services.get(*by)).all(|service| service.tenant.is_some());
    let due = |pattern: &HostPattern| match of.tenant.as_ref().map(|tenant| tenant.profile) {
        None => !closed(pattern),
        Some(Profile { whole, hosts, .. }) => {
            restricted && *whole && hosts.iter().any(|vendor| tenant::within(pattern, vendor))
        }
    };
    let narrow: Vec<&Listed> = shadow.narrow.iter().copied().filter(|listed| due(listed.pattern())).collect();
    let Some(first) = narrow.first() else { return };
    let at = place(first, shadow, services, problems);
    let headers: Vec<String> = shadow.lost.headers.iter().map(|name| (*name).to_owned()).collect();
    let (wide, line) = (shadow.wide.pattern(), shadow.wide.line());
    let found = format!(
        "{} without {}, which service {} sets for \"{wide}\" (line {line})",
        shown(&narrow),
        few(&headers),
        quoted(&of.name)
    );
    problems.warning(&at, found, format!("the same header here, if these names are to have it: {ALONE}"));
}

/// Where the first service that lists it has it.
fn place(listed: &Listed, shadow: &Shadow<'_>, services: &[Service], problems: &Problems<'_>) -> At {
    let hosts = shadow.by.iter().filter_map(|by| services.get(*by)).flat_map(|service| &service.hosts);
    let mut same = hosts.filter(|host| host.pattern == *listed.pattern());
    let at = same.next().map(|host| host.at.clone());
    at.unwrap_or_else(|| At { offset: problems.line_start(listed.line()), key: String::new() })
}

fn shown(listed: &[&Listed]) -> String {
    few(&listed.iter().map(|listed| quoted(listed.pattern().as_str())).collect::<Vec<_>>())
}

fn ports(ports: &[u16]) -> String {
    let shown: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{} {}", if ports.len() == 1 { "port" } else { "ports" }, few(&shown))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::{built_in, problems_of};
    use crate::catalog::Template;

    const BASE: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\"]\n\
                        [issuing_ca]\ncertificate = \"ca.pem\"\nkey = \"ca.key\"\n";

    /// What is hidden in `text`, without the places.
    fn hidden(text: &str) -> Vec<String> {
        let problems = problems_of("f", text);
        assert!(!problems.iter().any(super::super::Problem::is_error), "{problems:#?}");
        let hidden = problems.into_iter().filter(|problem| problem.expected.ends_with(super::ALONE));
        hidden.map(|problem| problem.found).collect()
    }

    /// Taken together, the parts of the program hide where something is hidden, and nowhere else: a client that asks for these by
    /// HTTPS is refused indeed, as only their plain HTTP is listed.
    #[test]
    fn every_part_of_the_catalogue_in_one_file() {
        let mut text = BASE.to_owned();
        for entry in built_in().entries() {
            for part in &entry.parts {
                let reference = format!("{}/{}", entry.id, part.id);
                let _ = write!(text, "[[service]]\nname = \"{reference}\"\ncatalog = \"{reference}\"\n");
                if part.hosts.iter().any(Template::needs_tenant) {
                    text.push_str("tenant_name = \"city-x\"\n");
                }
            }
        }
        let found: Vec<_> =
            hidden(&text).iter().map(|found| found.split(" (line ").next().map(str::to_owned)).collect();
        let found: Vec<_> = found.into_iter().flatten().collect();
        assert_eq!(
            found,
            [
                "\"armdl.adobe.com\" without port 443, which \"*.adobe.com\" of service \"adobe/app\"",
                "\"crl.microsoft.com\", \"mscrl.microsoft.com\", \"oneocsp.microsoft.com\" without port 443, which \"*.microsoft.com\" of \
                 service \"microsoft-365/common-broad\"",
                "\"emdl.ws.microsoft.com\" without port 443, which \"*.microsoft.com\" of service \"microsoft-365/common-broad\"",
            ]
        );
    }

    /// Another vendor's restriction in place of the one that is due on all of a domain, and one that is due on its own hosts only.
    #[test]
    fn another_restriction_on_a_part_of_the_hosts() {
        let service = |part: &str, tenant: &str| {
            format!(
                "[[service]]\nname = \"{part}\"\ncatalog = \"{part}\"\nmode = \"inspect\"\n[service.tenant]\nprofile = {tenant}\n"
            )
        };
        let workspace = service("google-workspace/app", "\"google-workspace\"\nallowed = [\"city.example.lg.jp\"]");
        let console = service("google-cloud/console", "\"google-cloud\"\norganizations = [\"1\"]");
        let youtube = service("google-workspace/youtube", "\"youtube\"\nlevel = \"strict\"");
        let api = service("google-cloud/api", "\"google-cloud\"\norganizations = [\"1\"]");
        let found = hidden(&format!("{BASE}{workspace}{console}{youtube}{api}"));
        assert_eq!(
            found,
            [
                "\"*.cloud.google.com\" without X-GoogApps-Allowed-Domains, which service \"google-workspace/app\" sets for \
              \"*.google.com\" (line 11)"
            ]
        );
    }

    /// The pattern of a tunnel that is meant: what must not be opened says nothing.
    #[test]
    fn what_must_stay_closed_is_left_out_of_a_header_on_purpose() {
        let text = format!(
            "{BASE}[[service]]\nname = \"A\"\nhosts = [\"*.microsoftonline.com\"]\nmode = \"inspect\"\n[[service.header]]\n\
             name = \"X-Org\"\nvalue = \"city\"\n[[service]]\nname = \"B\"\ncatalog = \"microsoft-365/device\"\n[[service]]\n\
             name = \"C\"\nhosts = [\"other.microsoftonline.com\"]\n"
        );
        assert_eq!(
            hidden(&text),
            [
                "\"other.microsoftonline.com\" without X-Org, which service \"A\" sets for \"*.microsoftonline.com\" (line 11)"
            ]
        );
    }
}
