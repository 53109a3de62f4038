//! Denied attempts that would themselves be a flood of lines (attack H10): which of them stand in lines of their own, and what is
//! kept of the others until one line says it of all of them.
//!
//! Knows neither the lock nor the file: `queue` asks here about every denied attempt, and lays the lines that come of it. Counts
//! are exact, whatever is dropped of the rest: the sum over the lines is the number of attempts.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant, SystemTime};

use crate::reason::Reason;
use crate::record::counts::Action;
use crate::record::fields::Fields;
use crate::record::values::AskedAuthority;

/// Denied attempts of one client, action and reason in a [`WINDOW`] that stand in lines of their own. A page in a browser asks for
/// some dozens of names that are refused at once, each of which belongs in the record with all that is known of it; a client
/// that goes on like that has to be seen, not read.
const WHOLE: u64 = 50;
/// How long attempts are gathered for one line: less than the second within which they have to be in the file.
pub(super) const WINDOW: Duration = Duration::from_millis(900);
/// Causes told apart at a time. Past it, all other clients are counted together.
const MAX_CAUSES: usize = 4096;
/// Different authorities kept as a sample of what was asked for in a flood.
const MAX_AUTHORITIES: usize = 16;
/// The same in octets.
const MAX_AUTHORITY_BYTES: usize = 2048;

/// By what denied attempts are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Cause {
    /// As limits count it: an IPv4 address or an IPv6 /64. `None`: any client there was no room for.
    client: Option<IpAddr>,
    action: Action,
    reason: Reason,
}

struct Row {
    /// Attempts in this window.
    seen: u64,
    /// How many of them stand in lines of their own.
    whole: u64,
    gathered: Option<Box<Gathered>>,
}

/// Attempts that one line will stand for.
struct Gathered {
    count: u64,
    at: SystemTime,
    /// How long the first of them took.
    took: Duration,
    first: Instant,
    last: Instant,
    /// Of every field, what it was in all of them.
    common: Fields,
    authorities: Vec<AskedAuthority>,
}

/// The denied attempts of the present window.
#[derive(Default)]
pub(super) struct Floods {
    rows: HashMap<Cause, Row>,
    /// When the window began. `None`: nothing was denied since the one before.
    began: Option<Instant>,
    /// Attempts gathered of which there is no line yet.
    pending: u64,
}

impl Floods {
    /// Counts a denied attempt, and keeps it for a line that stands for several unless it is to have its own: true where kept.
    pub(super) fn gathers(&mut self, action: Action, fields: &Fields, now: Instant) -> bool {
        let (Some(client), Some(reason)) = (fields.source_ip, fields.reason) else { return false };
        self.began.get_or_insert(now);
        let mut cause = Cause { client: Some(counted_as(client)), action, reason };
        if self.rows.len() >= MAX_CAUSES && !self.rows.contains_key(&cause) {
            cause.client = None;
        }
        let row = self.rows.entry(cause).or_insert(Row { seen: 0, whole: WHOLE, gathered: None });
        row.seen += 1;
        if row.seen <= row.whole {
            return false;
        }
        row.gathered.get_or_insert_with(|| Box::new(Gathered::new(fields, now))).add(fields, now);
        self.pending += 1;
        true
    }

    /// Whether the window has lasted long enough.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| now.saturating_duration_since(began) >= WINDOW)
    }

    /// Attempts of which there is no line yet.
    pub(super) fn pending(&self) -> u64 {
        self.pending
    }

    /// Ends the window: gives each of the lines that stand for several, with their number. A flood that goes on stays one: it
    /// gets lines of its own again only behind a window with no more than [`WHOLE`].
    pub(super) fn turn(&mut self, now: Instant, mut lay: impl FnMut(&Fields, u64)) {
        self.rows.retain(|cause, row| {
            if let Some(gathered) = row.gathered.take() {
                let count = gathered.count;
                lay(&gathered.line(cause), count);
            }
            let goes_on = row.seen > WHOLE;
            *row = Row { seen: 0, whole: 0, gathered: None };
            goes_on
        });
        self.began = (!self.rows.is_empty()).then_some(now);
        self.pending = 0;
    }
}

impl Gathered {
    fn new(fields: &Fields, now: Instant) -> Self {
        Self {
            count: 0,
            at: fields.at.unwrap_or(SystemTime::UNIX_EPOCH),
            took: fields.duration.unwrap_or_default(),
            first: now,
            last: now,
            common: fields.clone(),
            authorities: Vec::new(),
        }
    }

    fn add(&mut self, fields: &Fields, now: Instant) {
        self.count += 1;
        self.last = now;
        self.common.keep_common(fields);
        let Some(asked) = &fields.authority else { return };
        let bytes: usize = self.authorities.iter().map(|kept| kept.as_str().len()).sum();
        let room = self.authorities.len() < MAX_AUTHORITIES && bytes + asked.as_str().len() <= MAX_AUTHORITY_BYTES;
        if room && !self.authorities.contains(asked) {
            self.authorities.push(asked.clone());
        }
    }

    /// One attempt is a line like any other.
    fn line(self, cause: &Cause) -> Fields {
        let mut fields = self.common;
        if self.count == 1 {
            return fields;
        }
        fields.at = Some(self.at);
        fields.duration = Some(self.took + self.last.saturating_duration_since(self.first));
        fields.rare.count = Some(self.count);
        if fields.authority.is_none() && !self.authorities.is_empty() {
            fields.rare.authorities = Some(self.authorities.iter().map(AskedAuthority::as_str).collect());
        }
        let of = match (fields.source_ip, cause.client) {
            (Some(_), _) => "this client".to_owned(),
            (None, Some(prefix)) => format!("{prefix}/64"),
            (None, None) => "all other clients".to_owned(),
        };
        if fields.detail.is_none() || fields.source_ip.is_none() {
            let detail = format!("Counted together: more of these came of {of} than are written one by one.");
            fields.detail = Some(detail.into());
        }
        fields
    }
}

/// The client as limits count it: an IPv6 client has a /64 to itself.
fn counted_as(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests;
