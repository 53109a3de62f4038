//! Every key of the configuration, section by section: what is not here is refused as unknown.
//!
//! `resolver.hosts` has no list: its keys are host names.

/// The keys one table may hold.
#[derive(Debug)]
pub(super) struct Keys {
    /// As the administrator writes the header.
    pub section: &'static str,
    pub names: &'static [&'static str],
}

pub(super) static ROOT: Keys = Keys {
    section: "the top level",
    names: &[
        "site",
        "listener",
        "admin",
        "control",
        "clients",
        "resolver",
        "upstream",
        "issuing_ca",
        "service",
        "limits",
        "timeouts",
        "record",
        "catalog",
        "pac",
    ],
};
pub(super) static PAC: Keys = Keys {
    section: "[pac]",
    names: &[
        "address",
        "proxies",
        "network",
        "internal_domains",
        "internal_networks",
        "internal_plain_names",
        "internal_proxies",
        "otherwise",
        "direct_fallback",
    ],
};
pub(super) static PAC_NETWORK: Keys = Keys { section: "[[pac.network]]", names: &["networks", "proxies"] };
pub(super) static CATALOG: Keys = Keys { section: "[catalog]", names: &["folder", "feed", "auto_approve"] };
pub(super) static SITE: Keys = Keys {
    section: "[site]",
    names: &["name", "case", "enforcement", "observe_until", "require_ismap", "accept_liu", "last_line"],
};
pub(super) static LISTENER: Keys =
    Keys { section: "[[listener]]", names: &["mode", "steering", "address", "proxy_protocol"] };
pub(super) static ADMIN: Keys = Keys { section: "[admin]", names: &["address"] };
pub(super) static CONTROL: Keys = Keys { section: "[control]", names: &["socket", "viewers", "operators"] };
pub(super) static CLIENTS: Keys = Keys { section: "[[clients]]", names: &["name", "networks", "limits"] };
pub(super) static RESOLVER: Keys = Keys { section: "[resolver]", names: &["servers", "hosts"] };
pub(super) static UPSTREAM: Keys = Keys {
    section: "[upstream]",
    names: &[
        "roots",
        "extra_roots",
        "crls",
        "crl_unknown",
        "crl_stale",
        "min_tls",
        "verify_cache",
        "allow_addresses",
        "nat64",
        "bind",
        "connect_timeout",
    ],
};
pub(super) static ISSUING_CA: Keys = Keys { section: "[issuing_ca]", names: &["certificate", "key", "next"] };
pub(super) static ISSUING_CA_NEXT: Keys = Keys { section: "[issuing_ca.next]", names: &["certificate", "key", "from"] };
pub(super) static SERVICE: Keys = Keys {
    section: "[[service]]",
    names: &[
        "name",
        "catalog",
        "tenant_name",
        "hosts",
        "ports",
        "mode",
        "clients",
        "allow_broad",
        "plain_http",
        "tenant",
        "header",
        "ismap",
        "limits",
    ],
};
pub(super) static ISMAP: Keys = Keys {
    section: "[service.ismap]",
    names: &["state", "number", "list", "scope", "valid_until", "confirmed_by", "confirmed_on", "grace", "after_grace"],
};
pub(super) static HEADER: Keys = Keys { section: "[[service.header]]", names: &["name", "value"] };
pub(super) static LIMITS: Keys = Keys {
    section: "[limits]",
    names: &[
        "connections",
        "memory",
        "new_connections_per_second",
        "burst",
        "requests_per_second",
        "upload",
        "download",
        "handshakes",
        "leaf_mints_per_second",
        "dns_lookups",
        "per_client",
        "ipv6_prefix",
    ],
};
pub(super) static PER_CLIENT: Keys = Keys { section: "[limits.per_client]", names: &QUOTAS };
pub(super) static CLIENTS_LIMITS: Keys = Keys {
    section: "[clients.limits]",
    names: &[
        "connections",
        "new_connections_per_second",
        "burst",
        "requests_per_second",
        "upload",
        "download",
        "handshakes",
        "leaf_mints_per_second",
        "dns_lookups",
        "per_client",
    ],
};
pub(super) static CLIENTS_PER_CLIENT: Keys = Keys { section: "[clients.limits.per_client]", names: &QUOTAS };
pub(super) static SERVICE_LIMITS: Keys = Keys { section: "[service.limits]", names: &QUOTAS };
static QUOTAS: [&str; 9] = [
    "connections",
    "new_connections_per_second",
    "burst",
    "requests_per_second",
    "upload",
    "download",
    "handshakes",
    "leaf_mints_per_second",
    "dns_lookups",
];
pub(super) static TIMEOUTS: Keys = Keys {
    section: "[timeouts]",
    names: &[
        "client_hello",
        "client_handshake",
        "upstream_handshake",
        "dns",
        "request_head",
        "upstream_response",
        "body_progress",
        "tunnel_idle",
        "tunnel_half_closed",
        "inspected_idle",
        "connection_life",
        "drain",
    ],
};
pub(super) static RECORD: Keys = Keys { section: "[record]", names: &["path", "when_unwritable"] };

/// Where a key that stands in the wrong table may belong. Keys that stand in several sections (`name`) are no help there.
pub(super) static SECTIONS: [&Keys; 21] = [
    &CATALOG,
    &PAC,
    &PAC_NETWORK,
    &SITE,
    &LISTENER,
    &ADMIN,
    &CONTROL,
    &CLIENTS,
    &RESOLVER,
    &UPSTREAM,
    &ISSUING_CA,
    &SERVICE,
    &HEADER,
    &ISMAP,
    &LIMITS,
    &PER_CLIENT,
    &CLIENTS_LIMITS,
    &CLIENTS_PER_CLIENT,
    &SERVICE_LIMITS,
    &TIMEOUTS,
    &RECORD,
];

/// Keys that are tables themselves: a wrong one is no misplaced setting.
static TABLES: [&str; 7] = ["limits", "per_client", "tenant", "header", "network", "ismap", "next"];

impl Keys {
    /// What the administrator may have meant by the unknown key `name`.
    pub fn suggestion(&self, name: &str) -> Option<String> {
        let folded = name.to_ascii_lowercase().replace('-', "_");
        let near = self.names.iter().map(|known| (distance(&folded, known), *known)).min();
        if let Some((0..=2, known)) = near.filter(|(steps, known)| *steps * 2 < known.len()) {
            return Some(format!("did you mean {known:?}?"));
        }
        if TABLES.contains(&folded.as_str()) {
            return None;
        }
        let mut homes = SECTIONS.iter().filter(|keys| keys.names.contains(&folded.as_str()));
        match (homes.next(), homes.next()) {
            (Some(home), None) => Some(format!("{folded:?} belongs in {}", home.section)),
            _ => None,
        }
    }
}

/// Levenshtein's distance; a text much longer than any key is not measured.
fn distance(from: &str, to: &str) -> usize {
    if from.len() > 64 {
        return usize::MAX;
    }
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (b, pair) in to.iter().zip(row.windows(2)) {
            if let [diagonal, above] = *pair {
                left = (diagonal + usize::from(a != *b)).min(above + 1).min(left + 1);
                next.push(left);
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l05_a_misspelt_key_is_told_its_spelling_and_a_misplaced_one_its_section() {
        for (keys, name, expected) in [
            (&SERVICE, "host", Some("did you mean \"hosts\"?")),
            (&SERVICE, "Plain-HTTP", Some("did you mean \"plain_http\"?")),
            (&TIMEOUTS, "connect_timeout", Some("\"connect_timeout\" belongs in [upstream]")),
            (&SERVICE, "colour", None),
            (&LIMITS, "address", None),
            (&CLIENTS, "nmae", None),
            (&CLIENTS, "naem", None),
            (&CLIENTS, "nam", Some("did you mean \"name\"?")),
        ] {
            assert_eq!(keys.suggestion(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, steps) in
            [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("ports", "port", 1), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), steps, "{a} {b}");
        }
    }
}
