//! What only shows when all services are seen together: sign-in hosts that slip past a tenant restriction (G09), two
//! restrictions that exclude each other, hosts that must not be opened, a measure the site's case asks for.
//!
//! What may not be here: rules of one service (`service`, `tenant`).

use super::header::fold;
use super::problem::{At, Problems, quoted};
use super::profiles::{MSA_HOST, PROFILES, Profile, Restriction};
use super::service::Service;
use super::tenant::{self, few};
use super::{Case, Site};
use crate::catalog::{Catalogue, Template, Why};
use crate::policy::{HostPattern, Mode};

pub(super) fn look(
    site: &Site,
    case_at: &At,
    services: &[Service],
    catalogue: &Catalogue,
    problems: &mut Problems<'_>,
) {
    for service in services {
        if let Some(tenant) = &service.tenant {
            tenant::warn_strangers(tenant, &service.hosts, &service.headers, problems);
        }
    }
    for profile in &PROFILES {
        let first = services
            .iter()
            .filter_map(|service| service.tenant.as_ref())
            .find(|tenant| tenant.profile.name == profile.name);
        if let Some(tenant) = first {
            warn_unrestricted(profile, &tenant.at, services, catalogue, problems);
        }
    }
    refuse_both_microsofts(services, problems);
    warn_never_inspected(services, catalogue, problems);
    warn_unused_restriction(site, services, catalogue, problems);
    warn_shared_content(site, services, catalogue, problems);
    warn_every_sharepoint(services, problems);
    warn_missing_measure(site, case_at, services, problems);
}

/// Whether the service sets the profile's header, by the profile or by hand.
fn carries(service: &Service, profile: &Profile) -> bool {
    let is_profile = service.tenant.as_ref().is_some_and(|tenant| tenant.profile.restriction == profile.restriction);
    is_profile || service.headers.iter().any(|placed| fold(&placed.header.name) == fold(profile.header))
}

/// The hosts that the vendors list for the restrictions that some service carries.
pub(super) fn restricted(services: &[Service]) -> Vec<HostPattern> {
    let carried = PROFILES.iter().filter(|profile| services.iter().any(|service| carries(service, profile)));
    // Where consumers sign in stays closed with version 1 too, which restricts them there only where it is asked to.
    let hosts = carried.flat_map(|profile| {
        let consumers = (profile.restriction == Restriction::MicrosoftV1).then_some(&MSA_HOST);
        profile.hosts.iter().chain(consumers)
    });
    hosts.filter_map(|host| HostPattern::parse(host).ok()).collect()
}

/// G09: a sibling of the sign-in host, left out, is the way past the restriction.
fn warn_unrestricted(
    profile: &Profile,
    at: &At,
    services: &[Service],
    catalogue: &Catalogue,
    problems: &mut Problems<'_>,
) {
    let covered = |vendor: &str| {
        let mut carriers = services.iter().filter(|service| carries(service, profile));
        carriers.any(|service| service.hosts.iter().any(|host| tenant::covers(&host.pattern, vendor)))
    };
    let open: Vec<_> = profile.hosts.iter().filter(|vendor| !covered(vendor)).map(|vendor| quoted(vendor)).collect();
    if profile.whole && !open.is_empty() {
        let found = format!("no service that inspects {} with {}", few(&open), profile.name);
        problems.warning(at, found, "every sign-in host the vendor lists").hint(
            "add it to this service's hosts: where another service permits it, any tenant can be signed in to there",
        );
    }
    for service in services.iter().filter(|service| service.tenant.is_none() && !carries(service, profile)) {
        let past = |pattern| profile.hosts.iter().any(|vendor| tenant::within(pattern, vendor));
        // What must stay closed can carry no header.
        let closed = |pattern: &HostPattern| {
            let mut exceptions = catalogue.never_inspected().flat_map(|(.., exception)| &exception.hosts);
            exceptions.any(|host| host.as_str() == pattern.as_str())
        };
        let past: Vec<_> = service.hosts.iter().filter(|host| past(&host.pattern) && !closed(&host.pattern)).collect();
        if let Some(first) = past.first() {
            let names: Vec<_> = past.iter().map(|host| quoted(host.pattern.as_str())).collect();
            let found = format!("{} without the tenant restriction {} of another service", few(&names), profile.name);
            problems
                .warning(&first.at, found, "the same restriction on every host the vendor lists")
                .hint("move it to the service with the tenant, or make sure that nobody can sign in there");
        }
    }
}

/// Microsoft: with v2, v1 must not be sent. Two services may only use both where no client could meet both.
fn refuse_both_microsofts(services: &[Service], problems: &mut Problems<'_>) {
    const WORDS: &str = "microsoft-v1 or microsoft-v2, not both: Microsoft takes only one of them";
    let restriction = |service: &Service, wanted| {
        service.tenant.as_ref().filter(|tenant| tenant.profile.restriction == wanted).is_some()
    };
    for service in services {
        let Some(tenant) = &service.tenant else { continue };
        let rival = match tenant.profile.restriction {
            Restriction::MicrosoftV1 => PROFILES.iter().find(|profile| profile.restriction == Restriction::MicrosoftV2),
            Restriction::MicrosoftV2 => PROFILES.iter().find(|profile| profile.restriction == Restriction::MicrosoftV1),
            Restriction::GoogleWorkspace
            | Restriction::GoogleCloud
            | Restriction::YouTube
            | Restriction::Slack
            | Restriction::Dropbox
            | Restriction::Webex
            | Restriction::GitHub
            | Restriction::ChatGpt
            | Restriction::Anthropic => None,
        };
        let Some(rival) = rival else { continue };
        let by_hand = |name: &str| {
            service
                .headers
                .iter()
                .find(|placed| fold(&placed.header.name) == fold(name) && placed.at.offset != tenant.at.offset)
        };
        if let Some(placed) = by_hand(rival.header) {
            problems.error(
                &placed.at,
                format!("{} beside profile {}", quoted(&placed.header.name), tenant.profile.name),
                WORDS,
            );
        }
        if tenant.profile.restriction != Restriction::MicrosoftV2 {
            continue;
        }
        let other = services.iter().find(|other| restriction(other, Restriction::MicrosoftV1) && meet(service, other));
        if let Some(other) = other {
            let line = problems.line(other.at.offset);
            problems.error(
                &tenant.at,
                format!("microsoft-v2 on sign-in hosts that have microsoft-v1 too (line {line})"),
                WORDS,
            );
        }
    }
}

/// Whether some client could reach one sign-in host of Microsoft through both services.
fn meet(one: &Service, other: &Service) -> bool {
    let clients = match (&one.clients, &other.clients) {
        (Some(names), Some(others)) => names.iter().any(|name| others.contains(name)),
        (Some(_), None) | (None, Some(_)) | (None, None) => true,
    };
    let has = |service: &Service, vendor: &str| service.hosts.iter().any(|host| tenant::covers(&host.pattern, vendor));
    let vendors = PROFILES
        .iter()
        .filter(|profile| profile.restriction == Restriction::MicrosoftV2)
        .flat_map(|profile| profile.hosts);
    let same = |service: &Service, text: &str| service.hosts.iter().any(|host| host.pattern.as_str() == text);
    clients
        && (vendors.into_iter().any(|vendor| has(one, vendor) && has(other, vendor))
            || one.hosts.iter().any(|host| same(other, host.pattern.as_str())))
}

/// Hosts that break where they are opened, each service's of one kind together.
fn warn_never_inspected(services: &[Service], catalogue: &Catalogue, problems: &mut Problems<'_>) {
    let tunnelled = |host: &HostPattern| {
        let mut tunnels = services.iter().filter(|service| service.mode == Mode::Tunnel);
        tunnels.any(|service| service.hosts.iter().any(|own| own.pattern == *host))
    };
    for service in services.iter().filter(|service| service.mode == Mode::Inspect) {
        for (entry, part, exception) in catalogue.never_inspected() {
            let filled = exception.hosts.iter().filter_map(|host| host.fill(service.tenant_name.as_deref()).ok());
            let opened = filled.filter(|host| !tunnelled(host)).filter_map(|host| {
                // What a vendor only asks for is no reason against a wide pattern that something else is due for.
                let reaches = |pattern: &HostPattern| match exception.why {
                    Why::VendorAsks => *pattern == host,
                    Why::CertificatePinned | Why::ClientCertificate => {
                        tenant::covers(pattern, host.as_str()) || tenant::within(pattern, host.as_str())
                    }
                };
                let by = service.hosts.iter().find(|own| reaches(&own.pattern))?;
                Some((by, host))
            });
            let opened: Vec<_> = opened.collect();
            let Some((by, first)) = opened.first() else { continue };
            let names: Vec<_> = opened.iter().map(|(_, host)| quoted(host.as_str())).collect();
            let found = format!("{}, so that {} is inspected", quoted(by.pattern.as_str()), few(&names));
            let expected = format!("this host in a tunnel: {}", exception.why.sentence());
            problems.warning(&by.at, found, expected).hint(format!(
                "see `sekisho catalog show {}/{}`: list \"{first}\" in a service with mode = \"tunnel\", or take a pattern that \
                 does not reach it",
                entry.id, part.id
            ));
        }
    }
}

/// A part that could be restricted to one's own tenant, and is not; or for which that takes another way than a header.
fn warn_unused_restriction(site: &Site, services: &[Service], catalogue: &Catalogue, problems: &mut Problems<'_>) {
    // Case ア has no tenant of its own.
    if site.case == Some(Case::Authentication) {
        return;
    }
    let parts = services.iter().flat_map(|service| service.catalog.iter().map(move |taken| (service, taken)));
    for (service, (reference, at)) in parts {
        let Ok((_, part)) = catalogue.part(reference) else { continue };
        let mut offered = PROFILES.iter().filter(|profile| part.profiles.iter().any(|name| name == profile.name));
        if offered.clone().count() > 0 {
            if offered.any(|profile| carries(service, profile)) {
                continue;
            }
            let found = format!("{} without a tenant restriction", quoted(reference));
            let expected = format!(
                "mode = \"inspect\" and [service.tenant] with profile = \"{}\": anybody's tenant can be signed in to",
                part.profiles.join("\" or \"")
            );
            problems.warning(at, found, expected);
        } else if let Some(advice) = &part.no_profile
            && service.headers.is_empty()
            && !part.hosts.iter().any(Template::needs_tenant)
        {
            problems.warning(at, format!("{}, which no tenant profile restricts", quoted(reference)), advice.as_str());
        }
    }
}

/// Where files are exchanged or looked at, what serves everybody's is a way out and in that no tenant restriction closes.
fn warn_shared_content(site: &Site, services: &[Service], catalogue: &Catalogue, problems: &mut Problems<'_>) {
    if !matches!(site.case, Some(Case::Collaboration | Case::FileExchange)) {
        return;
    }
    for (reference, at) in services.iter().flat_map(|service| &service.catalog) {
        let Ok((_, part)) = catalogue.part(reference) else { continue };
        let Some(content) = &part.shared_content else { continue };
        let found = format!("{}, which serves content of every account", quoted(reference));
        let expected = "no such part where the service works without it: no tenant restriction holds there";
        problems.warning(at, found, expected).hint(content.as_str());
    }
}

/// Microsoft's own feed permits SharePoint of every tenant in the world.
fn warn_every_sharepoint(services: &[Service], problems: &mut Problems<'_>) {
    const EVERY: &str = "*.sharepoint.com";
    let named = services.iter().find_map(|service| Some((service.tenant_name.as_ref()?, service.at.offset)));
    let Some((name, offset)) = named else { return };
    let line = problems.line(offset);
    for host in services.iter().flat_map(|service| &service.hosts).filter(|host| host.pattern.as_str() == EVERY) {
        let found = format!("\"{EVERY}\", which is SharePoint of every tenant in the world");
        let expected =
            format!("\"{name}.sharepoint.com\" and \"{name}-my.sharepoint.com\", the tenant named in line {line}");
        problems.warning(&host.at, found, expected);
    }
}

fn warn_missing_measure(site: &Site, case_at: &At, services: &[Service], problems: &mut Problems<'_>) {
    let table = match site.case {
        Some(Case::Collaboration) => "図表27, case イ",
        Some(Case::FileExchange) => "図表29, case ウ",
        Some(Case::Authentication) | None => return,
    };
    if services.iter().all(|service| service.headers.is_empty()) {
        let found = "no [service.tenant] and no [[service.header]] in any service";
        problems
            .warning(
                case_at,
                found,
                format!("the measure LBOテナントアクセス制御, mandatory by the draft (案) of 2024-02-01 ({table}; 確定版は要確認)"),
            )
            .hint("restrict sign-in to your own tenant: [service.tenant] on the service with the sign-in hosts");
    }
}
