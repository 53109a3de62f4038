//! What arrived, beside what had to. Read by the text of the fields alone.

use std::fmt;

use super::client::{Errand, HOSTILE, MARK, REQUESTS};
use super::origin::Arrival;
use super::plan::Case;

/// What is not as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// No request came through: why.
    Silent(String),
    /// So many of the requests did not arrive, though the proxy answered.
    NotArrived(usize),
    /// A request arrived more than once.
    ArrivedTwice,
    Missing(String),
    /// The field, and how often it arrived.
    Repeated(String, usize),
    /// The field arrived, once, with another value than the configuration's.
    AnotherValue(String),
    /// Something of what the client had sent in the field's place arrived.
    ClientCopy(String),
    /// The field of another host.
    WrongHost(String),
    /// What a client may send did not arrive: what was seen is not what a client's request would be.
    Mangled(String),
}

impl Finding {
    /// Whether something arrived that must not, or not as it must. Otherwise it is not known.
    pub fn is_wrong(&self) -> bool {
        !matches!(self, Self::Silent(_) | Self::NotArrived(_))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(why) => write!(f, "no answer ({why})"),
            Self::NotArrived(count) => write!(f, "{count} of {REQUESTS} requests did not arrive"),
            Self::ArrivedTwice => f.write_str("a request arrived twice"),
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Repeated(name, count) => write!(f, "{name} arrived {count} times"),
            Self::AnotherValue(name) => write!(f, "{name} has another value than the configuration's"),
            Self::ClientCopy(name) => write!(f, "the client's own {name} arrived"),
            Self::WrongHost(name) => write!(f, "{name} arrived, which is for other hosts"),
            Self::Mangled(what) => write!(f, "{what} did not arrive as it was sent"),
        }
    }
}

/// Every finding once. `broken` is why the client's side did not come to its end.
pub(super) fn judge(
    case: &Case,
    errand: &Errand<'_>,
    broken: Option<String>,
    arrived: &[Vec<Arrival>],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for arrival in arrived.iter().flatten() {
        one(case, errand, arrival, &mut findings);
    }
    if arrived.iter().any(|arrivals| arrivals.len() > 1) {
        findings.push(Finding::ArrivedTwice);
    }
    let lost = arrived.iter().filter(|arrivals| arrivals.is_empty()).count();
    match broken {
        Some(why) => findings.push(Finding::Silent(why)),
        None if lost > 0 => findings.push(Finding::NotArrived(lost)),
        None => {}
    }
    let mut once = Vec::with_capacity(findings.len());
    for finding in findings {
        if !once.contains(&finding) {
            once.push(finding);
        }
    }
    once
}

fn one(case: &Case, errand: &Errand<'_>, arrival: &Arrival, findings: &mut Vec<Finding>) {
    let host = case.host.as_str();
    // The origin's handshake and the request say the same as what was asked for.
    if arrival.server_name != host || arrival.host() != Some(host) {
        findings.push(Finding::Mangled("the host".to_owned()));
    }
    if arrival.fields.iter().filter(|(name, value)| name == MARK && *value == errand.mark()).count() != 1 {
        findings.push(Finding::Mangled(MARK.to_owned()));
    }
    for due in &case.due {
        let spelt: Vec<_> = arrival.fields.iter().filter(|(name, _)| alike(name, &due.name)).collect();
        let named: Vec<_> = spelt.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&due.name)).collect();
        let right = named.iter().filter(|(_, value)| *value == due.value.as_bytes()).count();
        match (named.len(), right) {
            (0, _) => findings.push(Finding::Missing(due.name.clone())),
            (1, 1) => {}
            (1, _) => findings.push(Finding::AnotherValue(due.name.clone())),
            (count, _) => findings.push(Finding::Repeated(due.name.clone(), count)),
        }
        let trailed = arrival.trailers.iter().any(|(name, _)| alike(name, &due.name));
        let copied = spelt.iter().any(|(_, value)| contains(value, HOSTILE.as_bytes()));
        if spelt.len() > named.len() || copied || trailed {
            findings.push(Finding::ClientCopy(due.name.clone()));
        }
    }
    for name in &case.foreign {
        // Another spelling of a field that is due here is the matter of that one.
        let of_due = case.due.iter().any(|due| alike(name, &due.name));
        if !of_due && arrival.fields.iter().chain(&arrival.trailers).any(|(arrived, _)| alike(arrived, name)) {
            findings.push(Finding::WrongHost(name.clone()));
        }
    }
}

/// The same name to a gateway that makes variables of fields: case aside, and every sign a hyphen.
fn alike(one: &str, other: &str) -> bool {
    let fold = |text: &str| -> Vec<u8> {
        text.bytes().map(|b| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' }).collect()
    };
    fold(one) == fold(other)
}

fn contains(value: &[u8], part: &[u8]) -> bool {
    value.windows(part.len()).any(|window| window == part)
}
