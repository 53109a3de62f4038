//! Tenant restrictions as a service configures them: the grammar of their values, and the headers they come to.
//!
//! Values are secrets: a problem tells their length only. What may not be here: facts of vendors (`profiles`), the rules of plain
//! headers (`header`), other services (`finding`).

use super::header::{self, Placed};
use super::problem::{At, Problems, quoted};
use super::profiles::{MICROSOFT_POLICY, MSA_HOST, PROFILES, Profile, Restriction, V1_CONTEXT, V1_LIST};
use super::reader::{Secrecy, Table, Text};
use super::service::Host;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use crate::names::DnsName;
use crate::policy::{HeaderHosts, HostPattern, SetHeader};

/// A `[service.tenant]`: its profile and where that stands.
#[derive(Debug)]
pub(super) struct Tenant {
    pub profile: &'static Profile,
    pub at: At,
}

/// `[service.tenant]` and the headers it comes to; `None` where there is none, or no profile is known for it.
pub(super) fn read<'t>(
    service: &Table<'t>,
    hosts: &[Host],
    problems: &mut Problems<'_>,
) -> Option<(Tenant, Vec<Placed>)> {
    let table = service.table("tenant", None, problems);
    if !table.is_present() {
        return None;
    }
    let names: Vec<(&str, &'static Profile)> = PROFILES.iter().map(|profile| (profile.name, profile)).collect();
    if !table.has("profile") {
        table.missing("profile", "the vendor's restriction, such as \"microsoft-v1\"", problems);
    }
    let profile = table.choice("profile", &names, problems)?;
    let at = table.place("profile");
    let table = table.restrict(&profile.keys, problems).masked();
    let headers = match profile.restriction {
        Restriction::MicrosoftV1 => microsoft_v1(&table, hosts, problems),
        Restriction::MicrosoftV2 => microsoft_v2(&table, problems),
        Restriction::GoogleWorkspace => google_workspace(&table, problems),
        Restriction::GoogleCloud => google_cloud(&table, problems),
        Restriction::YouTube => youtube(&table, problems),
        Restriction::Slack => slack(&table, problems),
        Restriction::Dropbox => allowed(&table, profile, "the id of a team: digits, in quotes", is_number, problems),
        Restriction::Webex => {
            allowed(&table, profile, "a domain registered with your Webex organisation", is_domain, problems)
        }
        Restriction::GitHub => {
            allowed(&table, profile, "the id of an enterprise: digits, in quotes", is_number, problems)
        }
        Restriction::ChatGpt => allowed(&table, profile, "the id (UUID) of a workspace", is_guid, problems),
        Restriction::Anthropic => allowed(&table, profile, "the id (UUID) of an organisation", is_guid, problems),
    };
    let placed = headers.into_iter().filter_map(|header| {
        if let Err(expected) = header::check_value(&header.value) {
            problems.error(&table.at, Secrecy::Masked.show(&header.value), expected);
            return None;
        }
        Some(Placed { header, at: at.clone() })
    });
    let placed = placed.collect();
    Some((Tenant { profile, at }, placed))
}

fn microsoft_v1<'t>(table: &Table<'t>, hosts: &[Host], problems: &mut Problems<'_>) -> Vec<SetHeader> {
    let allowed = list(
        table,
        "allowed",
        "a domain or the id (GUID) of a tenant that may be signed in to",
        is_domain_or_guid,
        problems,
    );
    let context = one(table, "context", "the id (GUID) of your own tenant", is_guid, problems);
    let msa = |host: &&Host| host.pattern.as_str() == MSA_HOST;
    let restrict_msa = table.flag("restrict_msa", problems).unwrap_or(false);
    let mut headers = Vec::new();
    let mut everywhere_else = HeaderHosts::All;
    if restrict_msa {
        if let Some(host) = hosts.iter().find(msa) {
            let rest = hosts.iter().filter(|host| !msa(host)).map(|host| host.pattern.clone());
            everywhere_else = HeaderHosts::Only(rest.collect());
            let only = HeaderHosts::Only(vec![host.pattern.clone()]);
            headers.push(SetHeader { name: MICROSOFT_POLICY.into(), value: "restrict-msa".into(), hosts: only });
        } else {
            let expected = format!("{MSA_HOST:?} in the hosts of this service, the only host it is for");
            problems.error(&table.place("restrict_msa"), "restrict_msa = true", expected);
        }
    }
    headers.extend(allowed.map(|value| SetHeader { name: V1_LIST.into(), value, hosts: everywhere_else.clone() }));
    headers.extend(context.map(|value| SetHeader { name: V1_CONTEXT.into(), value, hosts: everywhere_else }));
    headers
}

fn microsoft_v2<'t>(table: &Table<'t>, problems: &mut Problems<'_>) -> Vec<SetHeader> {
    let tenant = one(table, "tenant", "the id (GUID) of your own tenant", is_guid, problems);
    let policy = one(table, "policy", "the id (GUID) of the cross-tenant access policy", is_guid, problems);
    let value = tenant.zip(policy).map(|(tenant, policy)| format!("{tenant}:{policy}"));
    value.map(|value| set(MICROSOFT_POLICY, value)).into_iter().collect()
}

fn google_workspace<'t>(table: &Table<'t>, problems: &mut Problems<'_>) -> Vec<SetHeader> {
    let expected = "a domain registered with your Google Workspace (second domains too)";
    let allowed = list(table, "allowed", expected, is_domain, problems);
    allowed.map(|value| set("X-GoogApps-Allowed-Domains", value)).into_iter().collect()
}

fn slack<'t>(table: &Table<'t>, problems: &mut Problems<'_>) -> Vec<SetHeader> {
    // Without a right requester Slack lets every workspace in: it is never left out.
    let requester =
        one(table, "requester", "the id of your own workspace or organisation (T… or E…)", is_slack_id, problems);
    let allowed = list(table, "allowed", "the id of a workspace or organisation (T… or E…)", is_slack_id, problems);
    let Some((requester, allowed)) = requester.zip(allowed) else { return Vec::new() };
    vec![set("X-Slack-Allowed-Workspaces-Requester", requester), set("X-Slack-Allowed-Workspaces", allowed)]
}

/// The value is the JSON text of the vendor in the alphabet of RFC 4648 section 5, padded as the vendor's own example is.
fn google_cloud<'t>(table: &Table<'t>, problems: &mut Problems<'_>) -> Vec<SetHeader> {
    const OPTIONS: [(&str, &str); 2] =
        [("strict", "strict"), ("cloud-storage-read-allowed", "cloudStorageReadAllowed")];
    let expected = "the id of an organization: digits, in quotes";
    let organizations = list(table, "organizations", expected, is_number, problems);
    let options = table.choice("options", &OPTIONS, problems).unwrap_or("strict");
    let json = organizations.map(|ids| {
        let resources: Vec<_> = ids.split(',').map(|id| format!("\"organizations/{id}\"")).collect();
        format!("{{\"resources\":[{}],\"options\":\"{options}\"}}", resources.join(","))
    });
    json.map(|json| set("X-Goog-Allowed-Resources", URL_SAFE.encode(json))).into_iter().collect()
}

fn youtube<'t>(table: &Table<'t>, problems: &mut Problems<'_>) -> Vec<SetHeader> {
    const LEVELS: [(&str, &str); 2] = [("strict", "Strict"), ("moderate", "Moderate")];
    if !table.has("level") {
        table.missing("level", "\"strict\" or \"moderate\"", problems);
    }
    let level = table.choice("level", &LEVELS, problems);
    level.map(|level| set("YouTube-Restrict", level.to_owned())).into_iter().collect()
}

/// The one header of a profile, of a list of ids or domains.
fn allowed<'t>(
    table: &Table<'t>,
    profile: &Profile,
    expected: &str,
    grammar: fn(&str) -> bool,
    problems: &mut Problems<'_>,
) -> Vec<SetHeader> {
    let value = list(table, "allowed", expected, grammar, problems);
    let count = value.as_ref().map_or(0, |value| value.split(',').count());
    if let Some(most) = profile.most.filter(|most| count > *most) {
        problems.error(
            &table.place("allowed"),
            format!("a list of {count}"),
            format!("at most {most}: the vendor takes no more"),
        );
        return Vec::new();
    }
    value.map(|value| set(profile.header, value)).into_iter().collect()
}

fn set(name: &str, value: String) -> SetHeader {
    SetHeader { name: name.to_owned(), value, hosts: HeaderHosts::All }
}

/// The items of a required list, joined as every vendor wants them; `None` where one is wrong or there is none.
fn list<'t>(
    table: &Table<'t>,
    name: &str,
    expected: &str,
    grammar: fn(&str) -> bool,
    problems: &mut Problems<'_>,
) -> Option<String> {
    if !table.has(name) {
        table.missing(name, &format!("a list, each {expected}"), problems);
        return None;
    }
    let texts = table.texts(name, problems)?;
    if texts.is_empty() {
        problems.error(&table.place(name), "an empty list", format!("at least one: {expected}"));
        return None;
    }
    let mut sound = true;
    for text in &texts {
        sound &= matches(text, expected, grammar, problems);
    }
    let values: Vec<_> = texts.iter().map(|text| text.text).collect();
    sound.then(|| values.join(","))
}

fn one<'t>(
    table: &Table<'t>,
    name: &str,
    expected: &str,
    grammar: fn(&str) -> bool,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let text = table.required_text(name, expected, problems)?;
    matches(&text, expected, grammar, problems).then(|| text.text.to_owned())
}

fn matches(text: &Text<'_>, expected: &str, grammar: fn(&str) -> bool, problems: &mut Problems<'_>) -> bool {
    let sound = grammar(text.text);
    if !sound {
        problems.error(&text.at, Secrecy::Masked.show(text.text), expected);
    }
    sound
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_guid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
    parts.len() == lengths.len() && parts.iter().zip(lengths).all(|(part, length)| hex(part, length))
}

/// A registered domain as the vendors take it: at least two labels, ASCII.
fn is_domain(text: &str) -> bool {
    text.contains('.') && !text.ends_with('.') && DnsName::parse(text.as_bytes()).is_ok()
}

fn is_domain_or_guid(text: &str) -> bool {
    is_domain(text) || is_guid(text)
}

/// `^[TE][A-Z0-9]+$`.
fn is_slack_id(text: &str) -> bool {
    let rest = text.strip_prefix(['T', 'E']).unwrap_or_default();
    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn is_number(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether `pattern` is `vendor` or lies within it.
pub(super) fn within(pattern: &HostPattern, vendor: &str) -> bool {
    let below = vendor.strip_prefix('*').and_then(|suffix| pattern.as_str().strip_suffix(suffix));
    pattern.as_str() == vendor || below.is_some_and(|head| !head.is_empty())
}

/// Whether `pattern` is `vendor` or reaches all of it.
pub(super) fn covers(pattern: &HostPattern, vendor: &str) -> bool {
    let probe = DnsName::parse(vendor.replace('*', "sekisho-probe").as_bytes());
    pattern.as_str() == vendor || probe.is_ok_and(|name| pattern.matches(&name))
}

/// Says which hosts of the service the vendor does not list: the headers go there all the same.
pub(super) fn warn_strangers(tenant: &Tenant, hosts: &[Host], headers: &[Placed], problems: &mut Problems<'_>) {
    let msa = headers.iter().any(|placed| placed.header.value == "restrict-msa");
    let listed = |host: &&Host| {
        tenant.profile.hosts.iter().any(|vendor| within(&host.pattern, vendor))
            || (msa && host.pattern.as_str() == MSA_HOST)
    };
    let strangers: Vec<_> =
        hosts.iter().filter(|host| !listed(host)).map(|host| quoted(host.pattern.as_str())).collect();
    if !strangers.is_empty() {
        let found = format!("hosts that the vendor does not list for {}: {}", tenant.profile.name, few(&strangers));
        let expected = format!("only {}: the headers tell other hosts who you are", tenant.profile.hosts.join(", "));
        problems.warning(&tenant.at, found, expected);
    }
}

/// The first few of `names`, and how many more.
pub(super) fn few(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let head = names.get(..SHOWN.min(names.len())).unwrap_or_default().join(", ");
    if names.len() > SHOWN { format!("{head} and {} more", names.len() - SHOWN) } else { head }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_grammars_and_their_neighbours() {
        const GUID: &str = "11111111-2222-3333-4444-55555555abCD";
        for (grammar, good, bad) in [
            (
                is_guid as fn(&str) -> bool,
                [GUID, "00000000-0000-0000-0000-000000000000"].as_slice(),
                ["", "11111111-2222-3333-4444-55555555abC", "{11111111-2222-3333-4444-55555555abCD}", "x"].as_slice(),
            ),
            (
                is_domain,
                &["city.example.lg.jp", "a.b"],
                &["", "city", "city.example.", "*.a.b", "a,b.c", "10.0.0.1", "市.jp", "a b.c"],
            ),
            (is_domain_or_guid, &[GUID, "a.b"], &["a"]),
            (is_slack_id, &["T0", "E9ABC"], &["", "T", "t0", "T0a", "U0", "T0,T1", "T0 "]),
            (is_number, &["4875936", "1"], &["", "1,2", "-1", "x", "１", "123456789012345678901"]),
        ] {
            for text in good {
                assert!(grammar(text), "{text}");
            }
            for text in bad {
                assert!(!grammar(text), "{text}");
            }
        }
    }

    /// The lists are the vendors': three, four, and the two forms of a whole domain.
    #[test]
    fn g09_the_shipped_host_lists() {
        let hosts: Vec<_> = PROFILES.iter().map(|profile| (profile.name, profile.hosts.join(" "))).collect();
        assert_eq!(
            hosts,
            [
                ("microsoft-v1", "login.microsoftonline.com login.microsoft.com login.windows.net".to_owned()),
                (
                    "microsoft-v2",
                    "login.microsoftonline.com login.microsoft.com login.windows.net login.live.com".to_owned()
                ),
                ("google-workspace", "google.com *.google.com".to_owned()),
                ("google-cloud", "*.google.com *.googleapis.com".to_owned()),
                (
                    "youtube",
                    "www.youtube.com m.youtube.com youtubei.googleapis.com youtube.googleapis.com www.youtube-nocookie.com"
                        .to_owned()
                ),
                ("slack", "slack.com *.slack.com".to_owned()),
                ("dropbox", "dropbox.com *.dropbox.com".to_owned()),
                (
                    "webex",
                    "identity.webex.com identity-eu.webex.com idbroker.webex.com idbroker-secondary.webex.com \
                     idbroker-b-us.webex.com idbroker-eu.webex.com atlas-a.wbx2.com \
                     identity-ca.webex.com idbroker-ca.webex.com"
                        .to_owned()
                ),
                ("github", "github.com api.github.com *.githubcopilot.com".to_owned()),
                ("chatgpt", "chatgpt.com *.chatgpt.com".to_owned()),
                ("anthropic", "claude.ai api.anthropic.com".to_owned()),
            ]
        );
    }

    #[test]
    fn within_and_covers() {
        let pattern = |text: &str| HostPattern::parse(text).expect(text);
        for (text, vendor, inside, over) in [
            ("slack.com", "slack.com", true, true),
            ("slack.com", "*.slack.com", false, false),
            ("*.slack.com", "*.slack.com", true, true),
            ("*.slack.com", "slack.com", false, false),
            ("files.slack.com", "*.slack.com", true, false),
            ("*.com", "*.slack.com", false, true),
            ("*.com", "slack.com", false, true),
            ("evilslack.com", "*.slack.com", false, false),
        ] {
            assert_eq!(
                (within(&pattern(text), vendor), covers(&pattern(text), vendor)),
                (inside, over),
                "{text} {vendor}"
            );
        }
    }
}
