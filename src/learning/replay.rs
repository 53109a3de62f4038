//! What was asked for before, asked of another policy: what would change.
//!
//! Only what a policy decides is compared: whether, in which way, and which headers. What became of an attempt afterwards (DNS, the
//! certificate, a limit) is no difference, and where the record has no decision there is none to compare.

use std::collections::HashMap;
use std::fmt;

use super::attempts::{Action, Attempt};
use crate::addrs::ClientAddr;
use crate::names::{Authority, Sni, WhyNoSni};
use crate::policy::{Claim, Decision, Method, Observing, Policy, Rule, reconcile_tunnel};
use crate::reason::{Outcome, Reason};

/// Changes that are told apart; past it they are counted only.
const MAX_CHANGES: usize = 100_000;

/// What a policy says to an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    Deny(Reason),
    Tunnel,
    /// A tunnel that only observing lets through.
    Observed,
    /// With the names of the headers that are set, in lower case and sorted, where they are known.
    Inspect(Option<Vec<String>>),
    Plain,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deny(reason) => write!(f, "deny ({reason})"),
            Self::Tunnel => f.write_str("tunnel"),
            Self::Observed => f.write_str("tunnel (observed)"),
            Self::Inspect(None) => f.write_str("inspect"),
            Self::Inspect(Some(headers)) if headers.is_empty() => f.write_str("inspect (no headers)"),
            Self::Inspect(Some(headers)) => write!(f, "inspect ({})", headers.join(", ")),
            Self::Plain => f.write_str("plain_http"),
        }
    }
}

/// One flow that would be decided otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// The client's group by the new policy.
    pub group: Option<String>,
    /// `CONNECT`, or the method of a request.
    pub method: String,
    pub authority: Authority,
    pub from: Verdict,
    pub to: Verdict,
}

/// How often, with an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hits {
    pub count: u64,
    /// When it was asked first, as recorded.
    pub at: Option<String>,
    pub client: ClientAddr,
    /// The rule by which it would be decided.
    pub rule: Rule,
}

/// Attempts by what came of the comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    pub unchanged: u64,
    pub changed: u64,
    /// Nothing had been decided: a limit, a malformed request, the record, the end of the service came first.
    pub undecided: u64,
    /// The record does not say by whom or of what it was asked.
    pub unknown: u64,
    /// Of the changed, those that are counted only.
    pub untold: u64,
}

/// A policy that is asked again. Grows with the number of different changes, up to [`MAX_CHANGES`].
pub struct Replay<'a> {
    policy: &'a Policy,
    observing: Option<Observing<'a>>,
    changes: HashMap<Change, Hits>,
    pub compared: Compared,
}

impl<'a> Replay<'a> {
    pub fn of(policy: &'a Policy, observing: Option<Observing<'a>>) -> Self {
        Self { policy, observing, changes: HashMap::new(), compared: Compared::default() }
    }

    /// Asks the policy what it says to the attempt.
    pub fn note(&mut self, attempt: &Attempt) {
        let count = attempt.count;
        let Some(from) = recorded(attempt) else {
            self.compared.undecided += count;
            return;
        };
        let (Some(client), Some(authority)) = (attempt.client, &attempt.authority) else {
            self.compared.unknown += count;
            return;
        };
        let (to, rule) = self.ask(attempt, client, authority);
        if same(&from, &to) {
            self.compared.unchanged += count;
            return;
        }
        self.compared.changed += count;
        let change = Change {
            group: self.policy.group_of(client).map(str::to_owned),
            method: method(attempt).to_owned(),
            authority: authority.clone(),
            from,
            to,
        };
        if let Some(hits) = self.changes.get_mut(&change) {
            hits.count += count;
        } else if self.changes.len() < MAX_CHANGES {
            self.changes.insert(change, Hits { count, at: attempt.at.clone(), client, rule });
        } else {
            self.compared.untold += count;
        }
    }

    /// What would change, the most frequent first.
    pub fn into_changes(self) -> Vec<(Change, Hits)> {
        let mut changes: Vec<_> = self.changes.into_iter().collect();
        let place = |change: &Change| (change.authority.to_string(), change.method.clone(), change.group.clone());
        changes
            .sort_by_cached_key(|(change, hits)| (std::cmp::Reverse(hits.count), place(change), change.to.to_string()));
        changes
    }

    fn ask(&self, attempt: &Attempt, client: ClientAddr, authority: &Authority) -> (Verdict, Rule) {
        let claim = claim(attempt, authority);
        match self.policy.judge(client, &claim, self.observing) {
            Decision::Deny(denial) => (Verdict::Deny(denial.reason()), denial.rule().clone()),
            Decision::Tunnel(permit) => {
                let (rule, observed) = (permit.rule().clone(), permit.would_refuse().is_some());
                // Where it was inspected, a ClientHello without a server_name was good enough.
                let nameless = attempt.outcome == Outcome::Allowed
                    && attempt.action == Action::Connection
                    && attempt.mode.as_deref() == Some("inspect")
                    && attempt.server_name.is_none();
                if nameless && let Err(disagreement) = reconcile_tunnel(permit, &Sni::Absent(WhyNoSni::NoExtension)) {
                    return (Verdict::Deny(disagreement.reason()), rule);
                }
                (if observed { Verdict::Observed } else { Verdict::Tunnel }, rule)
            }
            Decision::Inspect(permit) => {
                let headers = permit.headers().map(|header| header.name.as_str());
                (Verdict::Inspect(Some(sorted(headers))), permit.rule().clone())
            }
            Decision::Plain(permit) => (Verdict::Plain, permit.rule().clone()),
        }
    }
}

/// The decision that stands in the record; `None` where none was made.
fn recorded(attempt: &Attempt) -> Option<Verdict> {
    attempt.rule.as_ref()?;
    if let Some(reason) = attempt.reason.filter(|reason| is_of_policy(*reason, attempt)) {
        return Some(Verdict::Deny(reason));
    }
    match attempt.mode.as_deref() {
        Some("inspect") => {
            let headers = attempt.headers_set.as_ref().map(|names| sorted(names.iter().map(String::as_str)));
            Some(Verdict::Inspect(headers))
        }
        Some("tunnel") if attempt.would_refuse.is_some() => Some(Verdict::Observed),
        Some("tunnel") => Some(Verdict::Tunnel),
        Some(_) => None,
        None if attempt.action == Action::Request => Some(Verdict::Plain),
        None => None,
    }
}

/// Whether a policy refuses for this reason; inside an inspected connection a method is refused before it is asked.
fn is_of_policy(reason: Reason, attempt: &Attempt) -> bool {
    match reason {
        Reason::MethodNotPermitted => !attempt.inside,
        Reason::IpLiteral
        | Reason::ClientNotPermitted
        | Reason::NotAllowlisted
        | Reason::PortNotPermitted
        | Reason::PlainHttpNotPermitted => true,
        _ => false,
    }
}

fn claim(attempt: &Attempt, authority: &Authority) -> Claim {
    let authority = authority.clone();
    if attempt.action == Action::Connection || attempt.inside {
        return Claim::Connect(authority);
    }
    let method = match attempt.method.as_deref() {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        Some(_) | None => Method::Other,
    };
    Claim::Request { method, authority }
}

/// Requests of one flow that differ in their methods alone are one change.
fn method(attempt: &Attempt) -> &str {
    match attempt.action {
        Action::Connection => "CONNECT",
        Action::Request if attempt.inside => "request",
        Action::Request => match attempt.method.as_deref() {
            Some(method @ ("GET" | "HEAD" | "POST")) => method,
            Some(_) | None => "other method",
        },
    }
}

/// Headers that the record does not know are no difference.
fn same(from: &Verdict, to: &Verdict) -> bool {
    match (from, to) {
        (Verdict::Inspect(None), Verdict::Inspect(_)) => true,
        (from, to) => from == to,
    }
}

/// As names of header fields are compared.
fn sorted<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut names: Vec<String> = names.map(str::to_ascii_lowercase).collect();
    names.sort();
    names
}
