//! Proxy auto-configuration: the script by which a browser finds this proxy, made from the policy.
//!
//! What a client is permitted goes to the proxies, its own domains and LGWAN-ASP stay inside, all else goes where the configuration
//! says. The script decides by the policy's own rules (which pattern wins, its ports, its clients), so that it sends nothing to the proxy
//! that would be refused there, and the other way round. It enforces nothing: that is the proxy's and the firewall's.
//!
//! The language is that of the oldest engine which reads such scripts (ECMAScript 3, Windows' WinHTTP). Nothing in it asks DNS.
//! Texts come from parsed names and addresses only, so that nothing needs to be escaped (M05).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use ipnet::{IpNet, Ipv4Net};

use crate::addrs::{ClientAddr, ListenAddr};
use crate::names::{Authority, DnsName};
use crate::policy::{HostPattern, Policy, Reach};

/// `[pac]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the script is served; `None`: nowhere.
    pub address: Option<ListenAddr>,
    /// This proxy and those that stand in for it, in the order in which they are tried. At least one.
    pub proxies: Vec<Authority>,
    /// Clients that have others, or another order. Of two that hold a client the longer prefix wins.
    pub networks: Vec<Network>,
    /// Names at or under these stay inside; LGWAN-ASP always does.
    pub internal_domains: Vec<DnsName>,
    /// Addresses in these stay inside where a URL names one.
    pub internal_networks: Vec<Ipv4Net>,
    /// Names without a dot stay inside.
    pub internal_plain_names: bool,
    /// The way inside; empty: DIRECT.
    pub internal_proxies: Vec<Authority>,
    pub otherwise: Otherwise,
    /// A dead proxy opens the way past it.
    pub direct_fallback: bool,
}

/// `[[pac.network]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub networks: Vec<IpNet>,
    /// At least one.
    pub proxies: Vec<Authority>,
}

impl Settings {
    /// The ordinal of the `[[pac.network]]` that the client is in, from 0.
    #[must_use]
    pub fn network_of(&self, client: ClientAddr) -> Option<usize> {
        let networks = self.networks.iter().enumerate();
        let holding = networks.flat_map(|(number, network)| network.networks.iter().map(move |net| (net, number)));
        let holding = holding.filter(|(net, _)| net.contains(&client.ip()));
        holding.max_by_key(|(net, _)| net.prefix_len()).map(|(_, number)| number)
    }

    /// The proxies of the client, in order.
    fn proxies_of(&self, client: ClientAddr) -> &[Authority] {
        let network = self.network_of(client).and_then(|number| self.networks.get(number));
        network.map_or(&self.proxies, |network| &network.proxies)
    }
}

/// Where what is not permitted goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// To the proxies, which refuse it with the reason.
    Proxy,
    /// The way inside.
    Internal,
    /// Nowhere: a port of the client's own machine on which nothing listens.
    Block,
    /// Past everything.
    Direct,
}

/// Where LGWAN-ASP is; never by the breakout.
const LGWAN: &str = "lgwan.jp";

/// The script for a client; `None` where it is in no group.
#[must_use]
pub fn script(policy: &Policy, client: ClientAddr, settings: &Settings) -> Option<String> {
    policy.group_of(client)?;
    let fallback = if settings.direct_fallback { "; DIRECT" } else { "" };
    let proxies = format!("{}{fallback}", route(settings.proxies_of(client)));
    let internal = match settings.internal_proxies.as_slice() {
        [] => "DIRECT".to_owned(),
        proxies => route(proxies),
    };
    let otherwise = match settings.otherwise {
        Otherwise::Proxy => proxies.clone(),
        Otherwise::Internal => internal.clone(),
        Otherwise::Block => "PROXY 127.0.0.1:9".to_owned(),
        Otherwise::Direct => "DIRECT".to_owned(),
    };
    let mut inside: Vec<&str> = settings.internal_domains.iter().map(DnsName::as_str).collect();
    inside.push(LGWAN);
    let mut text = String::from(
        "// Made by sekisho from its configuration. What it says is not what is enforced: the proxy decides again.\n",
    );
    // Writing to a string cannot fail.
    let _ = writeln!(text, "var PERMITTED = \"{proxies}\", INSIDE = \"{internal}\", OTHERWISE = \"{otherwise}\";");
    let _ = writeln!(text, "var OWN = {};", Strings(inside));
    let networks: Vec<_> = settings.internal_networks.iter().map(numbers).collect();
    let plain = settings.internal_plain_names;
    let _ = writeln!(text, "var PLAIN = {plain}, NETWORKS = [{}];", networks.join(","));
    if proxies == otherwise {
        // No table is needed to say the same.
        text.push_str("var PORTS = [], TABLE = {}, STARRED = {};\n");
    } else {
        tables(&policy.reach(client)?, &mut text);
    }
    text.push_str(FUNCTIONS);
    Some(text)
}

/// How many addresses a network has, and how often that goes into its first one.
fn numbers(net: &Ipv4Net) -> String {
    let size = 1_u64 << (32 - net.prefix_len());
    format!("[{size},{}]", u64::from(u32::from(net.network())) / size)
}

fn route(proxies: &[Authority]) -> String {
    let each: Vec<_> = proxies.iter().map(|proxy| format!("PROXY {proxy}")).collect();
    each.join("; ")
}

/// The ports of patterns, each pair of lists once; names and tails by their ports; the other patterns by their tails, and those of one tail by
/// precedence.
fn tables(reach: &[Reach<'_>], text: &mut String) {
    let mut ports: Vec<(&[u16], &[u16])> = Vec::new();
    let mut keys: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut starred: BTreeMap<&str, Vec<(&HostPattern, usize)>> = BTreeMap::new();
    for Reach { pattern, connect, plain } in reach {
        let pair = (connect.as_slice(), plain.as_slice());
        let number = ports.iter().position(|known| *known == pair).unwrap_or_else(|| {
            ports.push(pair);
            ports.len() - 1
        });
        match pattern.as_str().strip_suffix(pattern.fixed_suffix()) {
            _ if pattern.is_exact() => keys.entry(number).or_default().push(format!("={pattern}")),
            Some("*" | "*.") => keys.entry(number).or_default().push(pattern.to_string()),
            _ => starred.entry(pattern.fixed_suffix()).or_default().push((pattern, number)),
        }
    }
    let list = |list: &[u16]| list.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let pairs: Vec<_> =
        ports.iter().map(|(connect, plain)| format!("[[{}],[{}]]", list(connect), list(plain))).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "var PORTS = [{}], TABLE = {{}}, STARRED = {{}};", pairs.join(","));
    for (number, keys) in &keys {
        let _ = writeln!(text, "put({number}, \"{}\");", keys.join(" "));
    }
    for (tail, patterns) in &mut starred {
        patterns.sort_by(|one, other| one.0.precedence(other.0));
        let each = patterns.iter().map(|(pattern, number)| {
            let head = pattern.as_str().strip_suffix(tail).unwrap_or_default();
            format!("{}:{number}", head.strip_suffix('.').unwrap_or(head))
        });
        let _ = writeln!(text, "star(\"{tail}\", \"{}\");", each.collect::<Vec<_>>().join(" "));
    }
}

struct Strings<'a>(Vec<&'a str>);

impl fmt::Display for Strings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<_> = self.0.iter().map(|text| format!("\"{text}\"")).collect();
        write!(f, "[{}]", each.join(", "))
    }
}

/// `put` and `star` are hoisted: they may be called above. A key has a sign in front, so that none is a property every object has. Stars
/// are matched by hand: a page may ask for any name, and regular expressions take exponential time for some.
const FUNCTIONS: &str = r#"
function put(ports, keys) {
  keys = keys.split(" ");
  for (var i = 0; i < keys.length; i++) TABLE[keys[i]] = ports;
}
function star(tail, heads) {
  heads = heads.split(" ");
  for (var i = 0; i < heads.length; i++) {
    var pair = heads[i].split(":");
    heads[i] = [pair[0].split("."), parseInt(pair[1], 10)];
  }
  STARRED["=" + tail] = heads;
}
function has(list, port) {
  for (var i = 0; i < list.length; i++) if (list[i] === port) return true;
  return false;
}
function fits(label, wanted) {
  var parts = wanted.split("*"), first = parts[0], last = parts[parts.length - 1], at = first.length;
  if (parts.length === 1) return label === wanted;
  var end = label.length - last.length;
  if (end < at || label.substring(0, at) !== first || label.substring(end) !== last) return false;
  for (var i = 1; i < parts.length - 1; i++) {
    var next = label.indexOf(parts[i], at);
    if (next < 0 || next + parts[i].length > end) return false;
    at = next + parts[i].length;
  }
  return true;
}
function fit(labels, count, wanted) {
  var leading = wanted[0] === "*" && wanted.length > 1, least = wanted.length;
  if (leading ? count < least : count !== least) return false;
  for (var i = 1; i <= wanted.length - (leading ? 1 : 0); i++)
    if (!fits(labels[count - i], wanted[wanted.length - i])) return false;
  return true;
}
// The ports of the one pattern that answers for the name: exact, else the longest run of literal labels at the right end.
function found(host) {
  if (TABLE.hasOwnProperty("=" + host)) return TABLE["=" + host];
  var labels = host.split(".");
  for (var i = 1; i <= labels.length; i++) {
    var tail = labels.slice(i).join(".");
    if (STARRED.hasOwnProperty("=" + tail)) {
      var heads = STARRED["=" + tail];
      for (var j = 0; j < heads.length; j++) if (fit(labels, i, heads[j][0])) return heads[j][1];
    }
    var key = tail === "" ? "*" : "*." + tail;
    if (TABLE.hasOwnProperty(key)) return TABLE[key];
  }
  return -1;
}
// Whether the proxy takes it for a name; whether an xn-- label decodes is for the proxy alone to say.
function named(host) {
  var labels = host.split(".");
  for (var i = 0; i < labels.length; i++) {
    var label = labels[i], end = label.length - 1;
    if (end < 0 || end > 62 || label.charAt(0) === "-" || label.charAt(end) === "-") return false;
  }
  return true;
}
function inside(host, domain) {
  var from = host.length - domain.length;
  return host === domain || (from > 0 && host.charAt(from - 1) === "." && host.substring(from) === domain);
}
function local(host) {
  var parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(host), number = 0;
  if (parts === null) return false;
  for (var i = 1; i <= 4; i++) {
    if (parts[i] > 255 || (parts[i].length > 1 && parts[i].charAt(0) === "0")) return false;
    number = number * 256 + parseInt(parts[i], 10);
  }
  for (var j = 0; j < NETWORKS.length; j++) if (Math.floor(number / NETWORKS[j][0]) === NETWORKS[j][1]) return true;
  return false;
}
function FindProxyForURL(url, host) {
  // Before it is written small: other alphabets have capitals of ASCII letters.
  if (host.length > 254 || /[^A-Za-z0-9_.\-]/.test(host)) return OTHERWISE;
  host = host.toLowerCase();
  if (host.charAt(host.length - 1) === ".") host = host.substring(0, host.length - 1);
  if (host.length > 253 || !named(host)) return OTHERWISE;
  for (var i = 0; i < OWN.length; i++) if (inside(host, OWN[i])) return INSIDE;
  if (PLAIN && host.indexOf(".") < 0 && !/^(0x[0-9a-f]*|[0-9]+)$/.test(host)) return INSIDE;
  if (local(host)) return INSIDE;
  if (/(^|\.)(0x[0-9a-f]*|[0-9]+)$/.test(host) || inside(host, "cloudflare-ech.com")) return OTHERWISE;
  var parts = /^([a-z][a-z0-9+.\-]*):\/\/(?:[^\/?#@]*@)?[^:\/?#]*(?::([0-9]+))?/i.exec(url);
  if (parts === null) return OTHERWISE;
  var scheme = parts[1].toLowerCase(), plain = scheme === "http";
  var port = parts[2] ? parseInt(parts[2], 10) : plain || scheme === "ws" ? 80 : 443;
  var ports = found(host);
  if (ports < 0) return OTHERWISE;
  return has(PORTS[ports][plain ? 1 : 0], port) ? PERMITTED : OTHERWISE;
}
"#;

#[cfg(test)]
mod tests;
