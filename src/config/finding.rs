//! What only shows when all services are seen together: sign-in hosts that slip past a tenant restriction (G09), two
//! restrictions that exclude each other, hosts that must not be opened, a measure the site's case asks for.
//!
//! What may not be here: rules of one service (`service`, `tenant`).

use super::header::fold;
use super::problem::{At, Problems, quoted};
use super::service::Service;
use super::tenant::{self, PROFILES, Profile, Restriction, few};
use super::{Case, Site};
use crate::policy::Mode;

/// Device registration signs in with a client certificate, which an opened connection cannot carry on.
/// learn.microsoft.com/entra/identity/enterprise-apps/tenant-restrictions names both as exceptions.
static DEVICE_HOSTS: [&str; 2] = ["device.login.microsoftonline.com", "enterpriseregistration.windows.net"];

pub(super) fn look(site: &Site, case_at: &At, services: &[Service], problems: &mut Problems<'_>) {
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
            warn_unrestricted(profile, &tenant.at, services, problems);
        }
    }
    refuse_both_microsofts(services, problems);
    warn_device_hosts(services, problems);
    warn_missing_measure(site, case_at, services, problems);
}

/// Whether the service sets the profile's header, by the profile or by hand.
fn carries(service: &Service, profile: &Profile) -> bool {
    let is_profile = service.tenant.as_ref().is_some_and(|tenant| tenant.profile.restriction == profile.restriction);
    is_profile || service.headers.iter().any(|placed| fold(&placed.header.name) == fold(profile.header))
}

/// G09: a sibling of the sign-in host, left out, is the way past the restriction.
fn warn_unrestricted(profile: &Profile, at: &At, services: &[Service], problems: &mut Problems<'_>) {
    let covered = |vendor: &str| {
        let mut carriers = services.iter().filter(|service| carries(service, profile));
        carriers.any(|service| service.hosts.iter().any(|host| tenant::covers(&host.pattern, vendor)))
    };
    let open: Vec<_> = profile.hosts.iter().filter(|vendor| !covered(vendor)).map(|vendor| quoted(vendor)).collect();
    if !open.is_empty() {
        let found = format!("no service that inspects {} with {}", few(&open), profile.name);
        problems.warning(at, found, "every sign-in host the vendor lists").hint(
            "add it to this service's hosts: where another service permits it, any tenant can be signed in to there",
        );
    }
    for service in services.iter().filter(|service| service.tenant.is_none() && !carries(service, profile)) {
        let past = |pattern| profile.hosts.iter().any(|vendor| tenant::within(pattern, vendor));
        let past: Vec<_> = service.hosts.iter().filter(|host| past(&host.pattern)).collect();
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
            Restriction::GoogleWorkspace | Restriction::Slack | Restriction::Dropbox => None,
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

fn warn_device_hosts(services: &[Service], problems: &mut Problems<'_>) {
    for device in DEVICE_HOSTS {
        let by_mode = |mode| services.iter().filter(move |service| service.mode == mode);
        let is_tunnelled =
            by_mode(Mode::Tunnel).any(|service| service.hosts.iter().any(|host| host.pattern.as_str() == device));
        let opened = by_mode(Mode::Inspect).flat_map(|service| &service.hosts);
        let mut opened = opened.filter(|host| tenant::covers(&host.pattern, device));
        if let (false, Some(host)) = (is_tunnelled, opened.next()) {
            let found = format!("{}, so that {device} is inspected", quoted(host.pattern.as_str()));
            problems
                .warning(&host.at, found, "this host in a tunnel: devices sign in there with a client certificate")
                .hint(format!(
                    "Microsoft excludes it from inspection (and *.login.microsoftonline.com with it):\n\
                     list {device:?} in a service with mode = \"tunnel\""
                ));
        }
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
