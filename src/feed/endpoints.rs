//! Microsoft's answer to `/endpoints`: a JSON list of endpoint sets. Anything unexpected refuses it whole.
//!
//! Every key but `id`, `serviceArea`, `category` and `required` may be missing; ports are texts such as `"80,443"`,
//! `"143, 587, 993, 995"` and `""`. Source: MicrosoftDocs/microsoft-365-docs, microsoft-365-ip-web-service.md, and the real feeds.
//! What may not be here: what is done with a host.

use std::collections::HashSet;
use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::error::Category as Kind;

use super::{begins_with, list, printable};
use crate::policy::{Breadth, HostPattern};

/// Largest feed that is read. The real ones have 27 to 49 KB.
pub const MAX_OCTETS: usize = 1 << 20;
/// Sets of a feed. The real ones have 63 to 113.
const MAX_SETS: usize = 500;
/// Hosts of a set, and addresses of a set. The real ones have at most 27 and 38.
const MAX_IN_SET: usize = 300;
/// Hosts of all sets together. The real ones have 190 to 303.
const MAX_HOSTS: usize = 5_000;
/// Octets of a note. The longest real one has 436.
const MAX_NOTE: usize = 2_000;
/// Octets of any other text.
const MAX_TEXT: usize = 100;
/// Problems that are told.
const MOST_TOLD: usize = 20;
/// The widest ranges of the real feed of version 2026081400: 40.96.0.0/13 and 2603:1063:6000::/35.
const WIDEST_V4: u8 = 13;
const WIDEST_V6: u8 = 35;

/// A feed that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// In ascending order of ids, each id once; at least one.
    pub sets: Vec<Set>,
}

/// One endpoint set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Never used for another set.
    pub id: u32,
    pub area: String,
    pub area_name: Option<String>,
    pub category: Category,
    pub required: bool,
    /// Each once, in the feed's order.
    pub hosts: Vec<HostPattern>,
    pub networks: Vec<IpNet>,
    /// In ascending order.
    pub tcp: Vec<u16>,
    pub udp: Vec<u16>,
    pub express_route: Option<bool>,
    pub notes: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    Optimize,
    Allow,
    Default,
}

impl Category {
    const ALL: [Self; 3] = [Self::Optimize, Self::Allow, Self::Default];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Optimize => "Optimize",
            Self::Allow => "Allow",
            Self::Default => "Default",
        }
    }
}

/// Why a feed is not taken: one line each, the first few of many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Refusal(pub Vec<String>);

impl Refusal {
    pub(super) fn one(why: impl Into<String>) -> Self {
        Self(vec![why.into()])
    }

    pub(super) fn of(mut problems: Vec<String>) -> Self {
        let more = problems.len().saturating_sub(MOST_TOLD);
        problems.truncate(MOST_TOLD);
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        Self(problems)
    }
}

/// An endpoint set as Microsoft writes it; states are kept in this shape too.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Written {
    id: u32,
    service_area: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_area_display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    urls: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ips: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_ports: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    udp_ports: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    express_route: Option<bool>,
    category: String,
    required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<String>,
}

impl Feed {
    /// # Errors
    /// [`Refusal`]: cut short, no JSON, another shape, too large, or a value that is not as it must be.
    pub fn parse(octets: &[u8]) -> Result<Self, Refusal> {
        Self::judge(&list::<Written>(octets, "endpoint sets", another)?)
    }

    pub(super) fn judge(sets: &[Written]) -> Result<Self, Refusal> {
        let mut problems = Vec::new();
        if sets.is_empty() {
            return Err(Refusal::one("an empty list, and a feed has at least one endpoint set"));
        }
        if sets.len() > MAX_SETS {
            let size = sets.len();
            return Err(Refusal::one(format!("{size} endpoint sets, and a feed has at most {MAX_SETS}")));
        }
        let hosts: usize = sets.iter().flat_map(|set| &set.urls).map(Vec::len).sum();
        if hosts > MAX_HOSTS {
            return Err(Refusal::one(format!("{hosts} hosts in all, and a feed has at most {MAX_HOSTS}")));
        }
        let mut ids = HashSet::new();
        let mut judged = Vec::with_capacity(sets.len());
        for set in sets {
            if !ids.insert(set.id) {
                problems.push(format!("set {}: the same id a second time", set.id));
            }
            judged.push(judge(set, &mut problems));
        }
        if problems.is_empty() {
            judged.sort_by_key(|set| set.id);
            return Ok(Self { sets: judged });
        }
        Err(Refusal::of(problems))
    }

    pub(super) fn written(&self) -> Vec<Written> {
        self.sets.iter().map(written).collect()
    }

    /// How many different host patterns there are.
    pub fn hosts(&self) -> usize {
        self.sets.iter().flat_map(|set| &set.hosts).collect::<HashSet<_>>().len()
    }

    pub fn set(&self, id: u32) -> Option<&Set> {
        self.sets.iter().find(|set| set.id == id)
    }

    /// The sets that list the pattern.
    pub fn listing(&self, host: &str) -> Vec<u32> {
        let lists = |set: &&Set| set.hosts.iter().any(|known| known.as_str() == host);
        self.sets.iter().filter(lists).map(|set| set.id).collect()
    }

    /// Ranges of addresses that are wider than any that Microsoft was ever seen to have, a line each. sekisho permits names, so that
    /// nothing follows from them here; a firewall beside it that takes them would be open.
    pub fn wide_ranges(&self) -> Vec<String> {
        let networks = self.sets.iter().flat_map(|set| set.networks.iter().map(move |net| (set.id, net)));
        let wide = networks.filter_map(|(id, net)| {
            let (widest, seen) = match net {
                IpNet::V4(_) => (WIDEST_V4, "40.96.0.0/13"),
                IpNet::V6(_) => (WIDEST_V6, "2603:1063:6000::/35"),
            };
            let line = format!("set {id}: {net} is wider than {seen}, the widest range of the real feed 2026081400");
            (net.prefix_len() < widest).then_some(line)
        });
        wide.collect()
    }

    /// # Errors
    /// [`Refusal`] where a feed with `hosts_before` hosts, and sets of `areas_before`, cannot have become this one by itself.
    pub fn refuse_collapse(&self, hosts_before: usize, areas_before: &[&str]) -> Result<(), Refusal> {
        let now = self.hosts();
        if now * 2 < hosts_before {
            let why = format!("{now} hosts where there were {hosts_before}: suddenly more than half of them are gone");
            return Err(Refusal::one(why));
        }
        let gone: Vec<_> = areas_before.iter().filter(|area| !self.sets.iter().any(|set| set.area == **area)).collect();
        match gone.first() {
            Some(area) => Err(Refusal::one(format!("no set of the service area {area}, which the feed in force has"))),
            None => Ok(()),
        }
    }

    /// Each once.
    pub fn areas(&self) -> Vec<&str> {
        let mut areas: Vec<_> = self.sets.iter().map(|set| set.area.as_str()).collect();
        areas.sort_unstable();
        areas.dedup();
        areas
    }
}

fn another(octets: &[u8], kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Data if octets.trim_ascii_start().starts_with(b"{") => Some(another_object(octets)),
        Kind::Syntax | Kind::Data if is_address_list(octets) => Some(ADDRESSES),
        Kind::Data if begins_with(octets, "endpointSetId") => {
            Some("the answer to /changes and not the one to /endpoints")
        }
        Kind::Data | Kind::Eof | Kind::Io | Kind::Syntax => None,
    }
}

const ADDRESSES: &str =
    "a list of addresses without any name: sekisho permits names, never addresses, so that it is of no use here";

fn another_object(octets: &[u8]) -> &'static str {
    let object: serde_json::Value = serde_json::from_slice(octets).unwrap_or_default();
    let has = |key: &str| object.get(key).is_some();
    if has("prefixes") {
        ADDRESSES
    } else if has("latest") || has("versions") {
        "the answer to /version and not the one to /endpoints"
    } else {
        "one JSON object and not Microsoft's list of endpoint sets"
    }
}

/// As Zoom publishes them: a CIDR a line.
fn is_address_list(octets: &[u8]) -> bool {
    let text = std::str::from_utf8(octets).unwrap_or_default();
    text.lines().next().is_some_and(|line| line.trim().parse::<IpNet>().is_ok())
}

fn judge(set: &Written, problems: &mut Vec<String>) -> Set {
    let id = set.id;
    let mut say = |what: String| problems.push(format!("set {id}: {what}"));
    let category = Category::ALL.into_iter().find(|category| category.as_str() == set.category);
    if category.is_none() {
        say(format!("category {:?}, which is not Optimize, Allow or Default", printable(&set.category)));
    }
    let named =
        [("serviceArea", Some(&set.service_area)), ("serviceAreaDisplayName", set.service_area_display_name.as_ref())];
    for (key, text) in named {
        if let Some(text) = text.filter(|text| text.is_empty() || !is_plain(text, MAX_TEXT)) {
            say(format!("{key} {:?}, which is not 1 to {MAX_TEXT} printable ASCII characters", printable(text)));
        }
    }
    if let Some(notes) = set.notes.as_ref().filter(|notes| !is_plain(notes, MAX_NOTE)) {
        say(format!("notes {:?}, which are not at most {MAX_NOTE} printable ASCII characters", printable(notes)));
    }
    let lists = [("urls", set.urls.as_ref()), ("ips", set.ips.as_ref())];
    for (key, list) in lists {
        if let Some(list) = list.filter(|list| list.len() > MAX_IN_SET) {
            say(format!("{} {key}, and a set has at most {MAX_IN_SET}", list.len()));
        }
    }
    let hosts = few(set.urls.as_ref()).filter_map(|text| host(text).map_err(&mut say).ok());
    let hosts = once(hosts.collect());
    let networks = few(set.ips.as_ref()).filter_map(|text| network(text).map_err(&mut say).ok()).collect();
    let mut listed = |key: &str, text: Option<&String>| match ports(text.map_or("", String::as_str)) {
        Some(ports) => ports,
        None => {
            say(format!("{key} {:?}, which is no list of ports", printable(text.map_or("", String::as_str))));
            Vec::new()
        }
    };
    Set {
        id,
        area: set.service_area.clone(),
        area_name: set.service_area_display_name.clone(),
        category: category.unwrap_or(Category::Default),
        required: set.required,
        hosts,
        networks,
        tcp: listed("tcpPorts", set.tcp_ports.as_ref()),
        udp: listed("udpPorts", set.udp_ports.as_ref()),
        express_route: set.express_route,
        notes: set.notes.clone().filter(|notes| !notes.is_empty()),
    }
}

/// Those that are judged; where there are more the set is refused already.
fn few(list: Option<&Vec<String>>) -> impl Iterator<Item = &String> {
    list.into_iter().flatten().take(MAX_IN_SET)
}

pub(super) fn is_plain(text: &str, most: usize) -> bool {
    text.len() <= most && text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// The feed's own wildcards are our grammar (`*.x`, `*cdn.x`, `autodiscover.*.x`); whatever else is in a URL is not.
pub(super) fn host(text: &str) -> Result<HostPattern, String> {
    let shown = printable(text);
    if !is_plain(text, 253) {
        return Err(format!("url {shown:?}, which is not printable ASCII"));
    }
    let pattern =
        HostPattern::parse(text).map_err(|error| format!("url {shown:?}, which is no host pattern: {error}"))?;
    match pattern.breadth() {
        Breadth::AboveIcann(suffix) => Err(format!("url {shown:?}, at or above the public suffix {suffix:?}")),
        Breadth::PrivateSuffix(_) | Breadth::Fine => Ok(pattern),
    }
}

pub(super) fn network(text: &str) -> Result<IpNet, String> {
    text.parse()
        .map_err(|_| format!("ip {:?}, which is no range of addresses such as 13.107.6.152/31", printable(text)))
}

/// `None`: something in it is no port.
fn ports(text: &str) -> Option<Vec<u16>> {
    if text.trim_matches(' ').is_empty() {
        return Some(Vec::new());
    }
    let port = |part: &str| {
        let part = part.trim_matches(' ');
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let mut ports = text.split(',').map(port).collect::<Option<Vec<_>>>()?;
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}

/// Microsoft has removed duplicates from sets, so that there were some.
pub(super) fn once(hosts: Vec<HostPattern>) -> Vec<HostPattern> {
    let mut seen = HashSet::new();
    hosts.into_iter().filter(|host| seen.insert(host.clone())).collect()
}

fn written(set: &Set) -> Written {
    let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    let ports = |ports: &[u16]| {
        let texts: Vec<_> = ports.iter().map(u16::to_string).collect();
        Some(texts.join(",")).filter(|text| !text.is_empty())
    };
    Written {
        id: set.id,
        service_area: set.area.clone(),
        service_area_display_name: set.area_name.clone(),
        urls: some(set.hosts.iter().map(|host| host.as_str().to_owned()).collect()),
        ips: some(set.networks.iter().map(IpNet::to_string).collect()),
        tcp_ports: ports(&set.tcp),
        udp_ports: ports(&set.udp),
        express_route: set.express_route,
        category: set.category.as_str().to_owned(),
        required: set.required,
        notes: set.notes.clone(),
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
pub(super) mod tests;
