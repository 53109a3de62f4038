//! The lines of a record as attempts: whatever a file holds, line by line, in bounded memory.

use std::io::{self, BufRead};
use std::net::IpAddr;

use serde::Deserialize;

use crate::addrs::ClientAddr;
use crate::names::{Authority, DnsName, Host};
use crate::reason::{Outcome, Reason};

/// Longest line that is read, in octets; the record's own are far below it.
const MAX_LINE: usize = 1 << 20;
/// Of what is kept of a line, in octets; what is longer is not the record's own. A group is called by 100 characters.
const MAX_GROUP: usize = 400;
const MAX_TIME: usize = 40;
const MAX_HEADER: usize = 100;
const MAX_HEADERS: usize = 64;

/// What an attempt was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Connection,
    /// Plain, or on an inspected connection.
    Request,
}

/// A terminal line.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub action: Action,
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    /// How many attempts the line stands for; no more than 2³², so that sums hold.
    pub count: u64,
    /// As recorded, where it looks like a time.
    pub at: Option<String>,
    pub client: Option<ClientAddr>,
    pub group: Option<String>,
    /// What was asked for, where it is one name or address.
    pub authority: Option<Authority>,
    /// Where it is several: a sample.
    pub authorities: Vec<Authority>,
    pub method: Option<String>,
    pub mode: Option<String>,
    pub would_refuse: Option<Reason>,
    pub rule: Option<String>,
    pub server_name: Option<String>,
    pub headers_set: Option<Vec<String>>,
    /// It came by an inspected connection.
    pub inside: bool,
}

impl Attempt {
    /// The day of `at`, such as 20261128.
    pub fn day(&self) -> Option<u32> {
        let at = self.at.as_deref()?.as_bytes();
        let (day, rest) = at.split_at_checked(10)?;
        let shaped =
            day.iter().enumerate().all(|(n, b)| if matches!(n, 4 | 7) { *b == b'-' } else { b.is_ascii_digit() });
        let digits = || day.iter().filter(|b| b.is_ascii_digit());
        (shaped && rest.first() == Some(&b'T')).then(|| digits().fold(0, |day, b| day * 10 + u32::from(b - b'0')))
    }
}

/// Lines by what they were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    pub attempts: u64,
    /// Lines of the record that are no end of an attempt: `established`, `lifecycle`.
    pub others: u64,
    /// Torn, cut, too long, or of another program.
    pub foreign: u64,
}

/// Calls `each` for every attempt of `input`.
///
/// # Errors
/// Of reading.
pub fn each_attempt(mut input: impl BufRead, seen: &mut Seen, mut each: impl FnMut(&Attempt)) -> io::Result<()> {
    let mut line = Vec::new();
    while let Some(whole) = next_line(&mut input, &mut line)? {
        match whole.then(|| serde_json::from_slice::<Line>(&line)) {
            Some(Ok(Line { outcome: None, action: Some(_), sequence: Some(_), .. })) => seen.others += 1,
            Some(Ok(line)) => match line.attempt() {
                Some(attempt) => {
                    seen.attempts += 1;
                    each(&attempt);
                }
                None => seen.foreign += 1,
            },
            Some(Err(_)) if line.is_empty() => {}
            Some(Err(_)) | None => seen.foreign += 1,
        }
    }
    Ok(())
}

/// The next line without its end, and whether it is whole; one that is too long is passed over. `None`: there is no further one.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let (mut any, mut whole) = (false, true);
    loop {
        let read = match input.fill_buf() {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read.is_empty() {
            return Ok(any.then_some(whole));
        }
        any = true;
        let end = memchr::memchr(b'\n', read);
        let part = read.get(..end.unwrap_or(read.len())).unwrap_or_default();
        whole &= line.len() + part.len() <= MAX_LINE;
        if whole {
            line.extend_from_slice(part);
        }
        let used = end.map_or(read.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(Some(whole));
        }
    }
}

/// A line as it is written. What it holds beside this is passed over; a key twice, or one with a value of another type, makes it foreign.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "event.sequence")]
    sequence: Option<u64>,
    #[serde(rename = "@timestamp")]
    at: Option<String>,
    #[serde(rename = "event.action")]
    action: Option<String>,
    #[serde(rename = "event.outcome")]
    outcome: Option<String>,
    #[serde(rename = "event.reason")]
    reason: Option<String>,
    #[serde(rename = "sekisho.count")]
    count: Option<u64>,
    #[serde(rename = "source.ip")]
    client: Option<IpAddr>,
    #[serde(rename = "sekisho.client")]
    group: Option<String>,
    #[serde(rename = "sekisho.connection")]
    connection: Option<String>,
    #[serde(rename = "rule.id")]
    rule: Option<String>,
    #[serde(rename = "sekisho.mode")]
    mode: Option<String>,
    #[serde(rename = "sekisho.would_refuse")]
    would_refuse: Option<String>,
    #[serde(rename = "sekisho.authority")]
    authority: Option<String>,
    #[serde(rename = "sekisho.authorities")]
    authorities: Option<Vec<String>>,
    #[serde(rename = "tls.client.server_name")]
    server_name: Option<String>,
    #[serde(rename = "url.domain")]
    domain: Option<String>,
    #[serde(rename = "http.request.method")]
    method: Option<String>,
    #[serde(rename = "sekisho.headers_set")]
    headers_set: Option<Vec<String>>,
    #[serde(rename = "destination.port")]
    port: Option<u16>,
}

impl Line {
    /// `None` where it is none of the record's.
    fn attempt(self) -> Option<Attempt> {
        self.sequence?;
        let action = match self.action.as_deref()? {
            "connection" => Action::Connection,
            "request" => Action::Request,
            _ => return None,
        };
        let outcome = self.outcome.as_deref().and_then(Outcome::parse)?;
        let default_port = if action == Action::Connection || self.connection.is_some() { 443 } else { 80 };
        let asked = |text: &String| authority(text, default_port);
        let named = self.domain.as_deref().zip(self.port).and_then(|(domain, port)| {
            Some(Authority { host: Host::Name(DnsName::parse(domain.as_bytes()).ok()?), port })
        });
        Some(Attempt {
            action,
            outcome,
            reason: self.reason.as_deref().and_then(Reason::parse),
            count: self.count.unwrap_or(1).min(u32::MAX.into()),
            client: self.client.map(|ip| ClientAddr::new((ip, 0).into())),
            group: self.group.filter(|group| group.len() <= MAX_GROUP),
            authority: named.or_else(|| self.authority.as_ref().and_then(asked)),
            authorities: self.authorities.iter().flatten().filter_map(asked).collect(),
            method: self.method,
            mode: self.mode,
            would_refuse: self.would_refuse.as_deref().and_then(Reason::parse),
            rule: self.rule,
            server_name: self.server_name,
            headers_set: self.headers_set.filter(|names| {
                names.len() <= MAX_HEADERS && names.iter().all(|name| name.len() <= MAX_HEADER && is_token(name))
            }),
            inside: self.connection.is_some(),
            at: self.at.filter(|at| at.len() <= MAX_TIME && at.bytes().all(is_of_time)),
        })
    }
}

fn is_of_time(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b'.' | b'+')
}

/// The name of a header field, as far as its characters go.
fn is_token(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// An authority or an `http:` URI as the client wrote it, by the door that all names come in by.
fn authority(text: &str, default_port: u16) -> Option<Authority> {
    let text = text.strip_prefix("http://").map_or(text, |rest| rest.split(['/', '?', '#']).next().unwrap_or(rest));
    Authority::parse_with_default(text.as_bytes(), default_port).ok()
}
