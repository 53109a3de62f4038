//! The vendors' restrictions by header: their hosts, headers and keys. Each fact was read in the vendor's own documentation, which is named
//! at the profile; a mechanism of which only others tell is no profile, but a `[[service.header]]` of the administrator's own.

use super::schema::Keys;

/// The profiles by the vendor's restriction they configure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restriction {
    MicrosoftV1,
    MicrosoftV2,
    GoogleWorkspace,
    GoogleCloud,
    YouTube,
    Slack,
    Dropbox,
    Webex,
    GitHub,
    ChatGpt,
    Anthropic,
}

/// What is known of one vendor's restriction.
#[derive(Debug)]
pub(super) struct Profile {
    pub name: &'static str,
    pub restriction: Restriction,
    /// The header by which a service is seen to carry the restriction.
    pub header: &'static str,
    /// The hosts the vendor lists, as patterns.
    pub hosts: &'static [&'static str],
    /// One sign-in goes over all of them, so that one left out is a gap.
    pub whole: bool,
    /// Values the vendor takes at most, where it says so.
    pub most: Option<usize>,
    /// The keys that are due, a line each, with values that are refused and what belongs in their place.
    pub example: &'static [&'static str],
    pub keys: Keys,
}

pub(super) const V1_LIST: &str = "Restrict-Access-To-Tenants";
pub(super) const V1_CONTEXT: &str = "Restrict-Access-Context";
pub(super) const MICROSOFT_POLICY: &str = "sec-Restrict-Tenant-Access-Policy";
/// Where consumer accounts sign in: `restrict-msa` is for this host only.
pub(super) const MSA_HOST: &str = "login.live.com";

/// Every field that a profile sets: no client may send one of its own to an inspected host.
pub(super) static FIELDS: [&str; 13] = [
    V1_LIST,
    V1_CONTEXT,
    MICROSOFT_POLICY,
    "X-GoogApps-Allowed-Domains",
    "X-Goog-Allowed-Resources",
    "YouTube-Restrict",
    "X-Slack-Allowed-Workspaces-Requester",
    "X-Slack-Allowed-Workspaces",
    "X-Dropbox-allowed-Team-Ids",
    "CiscoSpark-Allowed-Domains",
    "sec-GitHub-allowed-enterprise",
    "ChatGPT-Allowed-Workspace-Id",
    "anthropic-allowed-org-ids",
];

/// A table of facts: longer than a function's limit would be.
pub(super) static PROFILES: [Profile; 11] = [
    // learn.microsoft.com/entra/identity/enterprise-apps/tenant-restrictions: exactly these three hosts.
    Profile {
        name: "microsoft-v1",
        restriction: Restriction::MicrosoftV1,
        header: V1_LIST,
        hosts: &["login.microsoftonline.com", "login.microsoft.com", "login.windows.net"],
        whole: true,
        most: None,
        example: &[
            "allowed = [\"…\"]  # domains or ids of the tenants that may be signed in to",
            "context = \"…\"  # the id (GUID) of your own tenant",
        ],
        keys: Keys {
            section: "[service.tenant] with profile = \"microsoft-v1\"",
            names: &["profile", "allowed", "context", "restrict_msa"],
        },
    },
    // learn.microsoft.com/entra/external-id/tenant-restrictions-v2: exactly these four hosts.
    Profile {
        name: "microsoft-v2",
        restriction: Restriction::MicrosoftV2,
        header: MICROSOFT_POLICY,
        hosts: &["login.microsoftonline.com", "login.microsoft.com", "login.windows.net", MSA_HOST],
        whole: true,
        most: None,
        example: &[
            "tenant = \"…\"  # the id (GUID) of your own tenant",
            "policy = \"…\"  # the id (GUID) of the cross-tenant access policy",
        ],
        keys: Keys {
            section: "[service.tenant] with profile = \"microsoft-v2\"",
            names: &["profile", "tenant", "policy"],
        },
    },
    // support.google.com/a/answer/1668854: all traffic to google.com.
    Profile {
        name: "google-workspace",
        restriction: Restriction::GoogleWorkspace,
        header: "X-GoogApps-Allowed-Domains",
        hosts: &["google.com", "*.google.com"],
        whole: true,
        most: None,
        example: &["allowed = [\"…\"]  # domains of your Google Workspace"],
        keys: Keys { section: "[service.tenant] with profile = \"google-workspace\"", names: &["profile", "allowed"] },
    },
    // docs.cloud.google.com/resource-manager/docs/organization-restrictions: the console's hosts and the APIs'.
    Profile {
        name: "google-cloud",
        restriction: Restriction::GoogleCloud,
        header: "X-Goog-Allowed-Resources",
        hosts: &["*.google.com", "*.googleapis.com"],
        whole: false,
        most: None,
        example: &["organizations = [\"…\"]  # ids of organizations: digits"],
        keys: Keys {
            section: "[service.tenant] with profile = \"google-cloud\"",
            names: &["profile", "organizations", "options"],
        },
    },
    // support.google.com/a/answer/6214622: exactly these five hosts.
    Profile {
        name: "youtube",
        restriction: Restriction::YouTube,
        header: "YouTube-Restrict",
        hosts: &[
            "www.youtube.com",
            "m.youtube.com",
            "youtubei.googleapis.com",
            "youtube.googleapis.com",
            "www.youtube-nocookie.com",
        ],
        whole: false,
        most: None,
        example: &["level = \"…\"  # strict or moderate"],
        keys: Keys { section: "[service.tenant] with profile = \"youtube\"", names: &["profile", "level"] },
    },
    // slack.com/help/articles/360024821873.
    Profile {
        name: "slack",
        restriction: Restriction::Slack,
        header: "X-Slack-Allowed-Workspaces",
        hosts: &["slack.com", "*.slack.com"],
        whole: true,
        most: None,
        example: &[
            "requester = \"…\"  # the id of your own workspace or organisation (T… or E…)",
            "allowed = [\"…\"]  # ids of the workspaces or organisations that may be signed in to",
        ],
        keys: Keys {
            section: "[service.tenant] with profile = \"slack\"",
            names: &["profile", "requester", "allowed"],
        },
    },
    // help.dropbox.com/security/network-control.
    Profile {
        name: "dropbox",
        restriction: Restriction::Dropbox,
        header: "X-Dropbox-allowed-Team-Ids",
        hosts: &["dropbox.com", "*.dropbox.com"],
        whole: true,
        most: None,
        example: &["allowed = [\"…\"]  # ids of teams: digits"],
        keys: Keys { section: "[service.tenant] with profile = \"dropbox\"", names: &["profile", "allowed"] },
    },
    // help.webex.com/article/m0jby2: these hosts; the Canadian ones came later.
    Profile {
        name: "webex",
        restriction: Restriction::Webex,
        header: "CiscoSpark-Allowed-Domains",
        hosts: &[
            "identity.webex.com",
            "identity-eu.webex.com",
            "idbroker.webex.com",
            "idbroker-secondary.webex.com",
            "idbroker-b-us.webex.com",
            "idbroker-eu.webex.com",
            "atlas-a.wbx2.com",
            "identity-ca.webex.com",
            "idbroker-ca.webex.com",
        ],
        whole: true,
        most: None,
        example: &["allowed = [\"…\"]  # domains of your Webex organisation"],
        keys: Keys { section: "[service.tenant] with profile = \"webex\"", names: &["profile", "allowed"] },
    },
    // docs.github.com/enterprise-cloud@latest, restricting access to GitHub.com using a corporate proxy: these hosts, at most 20.
    Profile {
        name: "github",
        restriction: Restriction::GitHub,
        header: "sec-GitHub-allowed-enterprise",
        hosts: &["github.com", "api.github.com", "*.githubcopilot.com"],
        whole: false,
        most: Some(20),
        example: &["allowed = [\"…\"]  # ids of enterprises: digits"],
        keys: Keys { section: "[service.tenant] with profile = \"github\"", names: &["profile", "allowed"] },
    },
    // help.openai.com, workspace restrictions by header: ids without spaces between them.
    Profile {
        name: "chatgpt",
        restriction: Restriction::ChatGpt,
        header: "ChatGPT-Allowed-Workspace-Id",
        hosts: &["chatgpt.com", "*.chatgpt.com"],
        whole: true,
        most: None,
        example: &["allowed = [\"…\"]  # ids (UUID) of workspaces"],
        keys: Keys { section: "[service.tenant] with profile = \"chatgpt\"", names: &["profile", "allowed"] },
    },
    // support.claude.com, tenant restrictions: ids without spaces between them.
    Profile {
        name: "anthropic",
        restriction: Restriction::Anthropic,
        header: "anthropic-allowed-org-ids",
        hosts: &["claude.ai", "api.anthropic.com"],
        whole: false,
        most: None,
        example: &["allowed = [\"…\"]  # ids (UUID) of organisations"],
        keys: Keys { section: "[service.tenant] with profile = \"anthropic\"", names: &["profile", "allowed"] },
    },
];

/// `[service.tenant]` with every key that the profile of this name requires, its values still to be put in: as they are, they are refused.
pub fn tenant_example(profile: &str) -> Option<String> {
    let profile = PROFILES.iter().find(|known| known.name == profile)?;
    let lines = profile.example.iter().map(|line| format!("{line}\n"));
    Some(format!("[service.tenant]\nprofile = \"{}\"\n{}", profile.name, lines.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::super::problems_of;
    use super::*;

    /// Nothing that is due is missing, and nothing can be left as it is.
    #[test]
    fn every_example_is_refused_for_each_of_its_values() {
        const BASE: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[clients]]\nname = \"office\"\n\
                            networks = [\"10.20.0.0/16\"]\n[issuing_ca]\ncertificate = \"ca.pem\"\nkey = \"ca.key\"\n";
        for profile in &PROFILES {
            let tenant = tenant_example(profile.name).expect("a profile");
            let text =
                format!("{BASE}[[service]]\nname = \"A\"\nhosts = {:?}\nmode = \"inspect\"\n{tenant}", profile.hosts);
            let errors = problems_of("f", &text).into_iter().filter(super::super::Problem::is_error);
            let keys: Vec<_> =
                errors.map(|error| error.key.replace("service[0].tenant.", "").replace("[0]", "")).collect();
            let due: Vec<_> = profile.example.iter().filter_map(|line| line.split(' ').next()).collect();
            assert_eq!(keys, due, "{text}");
        }
    }
}
