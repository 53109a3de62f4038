//! How often the record has the hosts of a change: JSON Lines, read once, in bounded memory, whatever stands in them.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead};

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::names::DnsName;
use crate::policy::HostPattern;

/// Longest line that is looked at: the record cuts its values, so that its own are far shorter.
const MAX_LINE: usize = 64 << 10;
/// Days that are counted; of more, the latest.
const MAX_DAYS: usize = 400;
/// Names whose patterns are kept at hand.
const MAX_KNOWN: usize = 10_000;

/// Requests for the hosts of one pattern.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hits {
    /// Those that were let through, however they ended then.
    pub passed: u64,
    pub refused: u64,
}

/// What was counted, and of when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// As the patterns were given.
    pub hits: Vec<Hits>,
    /// `on 2026-11-27 (UTC)`, or `since …`.
    pub when: String,
    /// Lines that are no whole record.
    pub unread: u64,
}

/// What of the record's time is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Window {
    /// The last day (UTC) that is over; `today` as `YYYY-MM-DD`.
    LastDay { today: String },
    /// From this moment on, as [`since`] takes it.
    Since(String),
}

/// The beginning of an `@timestamp` (UTC): a day, or a day with an hour, minute or second.
///
/// # Errors
/// What it should look like.
pub fn since(text: &str) -> Result<Window, &'static str> {
    let rest = "0000-00-00T00:00:00Z".get(text.len()..).unwrap_or_default();
    let whole = matches!(text.len(), 10 | 13 | 16 | 19);
    match whole && OffsetDateTime::parse(&format!("{text}{rest}"), &Rfc3339).is_ok() {
        true => Ok(Window::Since(text.to_owned())),
        false => Err("a day or a time such as 2026-11-01, 2026-11-01T09 or 2026-11-01T09:30, in UTC"),
    }
}

/// What a line is read for. A tunnel is one request, an inspected connection as many as there are in it.
#[derive(Deserialize)]
struct Line<'l> {
    #[serde(rename = "@timestamp", borrow)]
    at: std::borrow::Cow<'l, str>,
    #[serde(rename = "event.outcome", borrow)]
    outcome: Option<std::borrow::Cow<'l, str>>,
    #[serde(rename = "event.action", borrow)]
    action: Option<std::borrow::Cow<'l, str>>,
    #[serde(rename = "sekisho.mode", borrow)]
    mode: Option<std::borrow::Cow<'l, str>>,
    #[serde(rename = "url.domain", borrow)]
    domain: Option<std::borrow::Cow<'l, str>>,
    #[serde(rename = "sekisho.count")]
    count: Option<u64>,
}

/// Counts over any number of files.
pub struct Counter<'p> {
    patterns: &'p [HostPattern],
    window: Window,
    days: BTreeMap<String, Vec<Hits>>,
    known: HashMap<String, Vec<usize>>,
    unread: u64,
}

impl<'p> Counter<'p> {
    pub fn new(patterns: &'p [HostPattern], window: Window) -> Self {
        Self { patterns, window, days: BTreeMap::new(), known: HashMap::new(), unread: 0 }
    }

    /// # Errors
    /// Where the file cannot be read on.
    pub fn read(&mut self, mut file: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = MAX_LINE as u64;
            if io::Read::take(&mut file, limit).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let whole = line.ends_with(b"\n");
            if !whole && line.len() == MAX_LINE {
                skip_line(&mut file)?;
            }
            match serde_json::from_slice(&line) {
                Ok(read) if whole => self.count(&read),
                // The last line of a killed process, half an escape, something else altogether.
                Ok(_) | Err(_) => self.unread += 1,
            }
        }
    }

    fn count(&mut self, line: &Line<'_>) {
        let Some(outcome) = line.outcome.as_deref() else { return };
        // The requests in it are counted themselves.
        let opened = line.action.as_deref() == Some("connection") && line.mode.as_deref() == Some("inspect");
        let (Some(domain), false) = (line.domain.as_deref(), opened) else { return };
        // It is printed.
        let Some(day) = line.at.get(..10).filter(|day| since(day).is_ok()) else {
            self.unread += 1;
            return;
        };
        let day = match &self.window {
            Window::LastDay { .. } => day,
            Window::Since(from) if *line.at < **from => return,
            // All in one.
            Window::Since(_) => "",
        };
        let matching = self.matching(domain);
        if matching.is_empty() {
            // Still it shows that the day was recorded.
            self.day(day);
            return;
        }
        let count = line.count.unwrap_or(1);
        let hits = self.day(day);
        for of in matching {
            let Some(hits) = hits.get_mut(of) else { continue };
            let sum = if outcome == "denied" { &mut hits.refused } else { &mut hits.passed };
            *sum = sum.saturating_add(count);
        }
    }

    fn day(&mut self, day: &str) -> &mut Vec<Hits> {
        if !self.days.contains_key(day) && self.days.len() == MAX_DAYS {
            self.days.pop_first();
        }
        self.days.entry(day.to_owned()).or_insert_with(|| vec![Hits::default(); self.patterns.len()])
    }

    fn matching(&mut self, domain: &str) -> Vec<usize> {
        if let Some(matching) = self.known.get(domain) {
            return matching.clone();
        }
        let name = DnsName::parse(domain.as_bytes());
        let matches = |name: &DnsName| {
            let all = self.patterns.iter().enumerate();
            all.filter(|(_, pattern)| pattern.matches(name)).map(|(n, _)| n).collect()
        };
        let matching: Vec<usize> = name.as_ref().map(matches).unwrap_or_default();
        if self.known.len() == MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(domain.to_owned(), matching.clone());
        matching
    }

    pub fn told(self) -> Told {
        let none = || vec![Hits::default(); self.patterns.len()];
        let (hits, when) = match self.window {
            Window::LastDay { today } => match self.days.into_iter().rfind(|(day, _)| **day < *today) {
                Some((day, hits)) => (hits, format!("on {day} (UTC)")),
                None => (none(), "on any day that is over".to_owned()),
            },
            Window::Since(from) => (self.days.into_values().next().unwrap_or_else(none), format!("since {from} (UTC)")),
        };
        Told { hits, when, unread: self.unread }
    }
}

/// To the end of a line that is too long, without keeping it.
fn skip_line(file: &mut impl BufRead) -> io::Result<()> {
    loop {
        let there = file.fill_buf()?;
        let (used, done) = match there.iter().position(|b| *b == b'\n') {
            Some(at) => (at + 1, true),
            None => (there.len(), there.is_empty()),
        };
        file.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<HostPattern> {
        texts.iter().map(|text| HostPattern::parse(text).expect(text)).collect()
    }

    fn line(at: &str, action: &str, mode: &str, outcome: &str, domain: &str, more: &str) -> String {
        format!(
            "{{\"event.sequence\":1,\"@timestamp\":\"{at}\",\"event.action\":\"{action}\",\"sekisho.mode\":\"{mode}\",\
             \"event.outcome\":\"{outcome}\",\"url.domain\":\"{domain}\"{more}}}\n"
        )
    }

    fn record() -> String {
        [
            line("2026-11-26T10:00:00.000Z", "connection", "tunnel", "allowed", "docs.example.com", ""),
            line("2026-11-27T00:00:00.000Z", "connection", "tunnel", "allowed", "docs.example.com", ""),
            line("2026-11-27T01:00:00.000Z", "connection", "tunnel", "failed", "docs.example.com", ""),
            line("2026-11-27T02:00:00.000Z", "connection", "inspect", "allowed", "docs.example.com", ""),
            line("2026-11-27T02:00:00.000Z", "request", "inspect", "allowed", "docs.example.com", ""),
            line("2026-11-27T23:59:59.999Z", "connection", "tunnel", "denied", "a.new.example", ",\"sekisho.count\":40"),
            line("2026-11-28T08:00:00.000Z", "connection", "tunnel", "allowed", "docs.example.com", ""),
            // Beginnings and what else has no outcome are no attempts.
            "{\"@timestamp\":\"2026-11-27T02:00:00.000Z\",\"event.action\":\"established\",\"url.domain\":\"docs.example.com\"}\n"
                .to_owned(),
        ]
        .concat()
    }

    fn told(text: &str, window: Window) -> Told {
        let patterns = patterns(&["docs.example.com", "*.new.example", "*.example.com", "unused.example.com"]);
        let mut counter = Counter::new(&patterns, window);
        counter.read(text.as_bytes()).expect("read");
        counter.told()
    }

    fn last_day(today: &str) -> Window {
        Window::LastDay { today: today.to_owned() }
    }

    #[test]
    fn the_last_day_that_is_over_is_counted_by_pattern() {
        let (docs, new, none) = (Hits { passed: 3, refused: 0 }, Hits { passed: 0, refused: 40 }, Hits::default());
        let expected = Told { hits: vec![docs, new, docs, none], when: "on 2026-11-27 (UTC)".to_owned(), unread: 0 };
        assert_eq!(told(&record(), last_day("2026-11-28")), expected);
        assert_eq!(told(&record(), last_day("2026-11-29")).hits.first().map(|hits| hits.passed), Some(1));
        let nothing = told(&record(), last_day("2026-11-26"));
        assert_eq!((nothing.when.as_str(), nothing.hits), ("on any day that is over", vec![none; 4]));
    }

    #[test]
    fn a_time_from_which_on_is_counted() {
        let passed = |from: &str| told(&record(), since(from).expect(from)).hits.first().map(|hits| hits.passed);
        assert_eq!(passed("2026-11-26"), Some(5));
        assert_eq!(passed("2026-11-27T01"), Some(3));
        assert_eq!(passed("2026-11-27T02:00:00"), Some(2));
        assert_eq!(passed("2027-01-01"), Some(0));
        for text in ["", "2026", "2026-11", "2026-13-01", "01.11.2026", "2026-11-27T", "2026-11-27T25", "yesterday1"] {
            assert!(since(text).is_err(), "{text}");
        }
    }

    #[test]
    fn k01_torn_long_and_foreign_lines_are_counted_and_passed_over() {
        let long = format!("{{\"x\":\"{}\"}}\n", "y".repeat(3 * MAX_LINE));
        for (torn, unread) in [
            ("{\"@timestamp\":\"2026-\n", 1),
            ("\n", 1),
            ("\u{0}\u{1}\n[1,2]\n", 2),
            ("{\"@timestamp\":\"x\",\"event.outcome\":\"allowed\",\"url.domain\":\"docs.example.com\"}\n", 1),
            ("{\"@timestamp\":7}\n", 1),
            (long.as_str(), 1),
        ] {
            let text = format!("{torn}{}{torn}", record());
            let told = told(&text, last_day("2026-11-28"));
            assert_eq!((told.unread, told.hits.first().map(|hits| hits.passed)), (2 * unread, Some(3)), "{torn:.40}");
        }
        // A last line without its end may be half of one, though it reads well.
        let told = told(record().trim_end(), last_day("2026-11-28"));
        assert_eq!(told.unread, 1);
    }

    #[test]
    fn days_and_names_are_bounded() {
        let patterns = patterns(&["*.example.com"]);
        let mut counter = Counter::new(&patterns, last_day("9999-01-01"));
        for n in 0..MAX_KNOWN + 10 {
            let day = n % 1000;
            let text = line(&format!("{day:04}-01-01T00"), "request", "", "allowed", &format!("h{n}.example.com"), "");
            counter.read(text.as_bytes()).expect("read");
        }
        assert!(counter.days.len() <= MAX_DAYS && counter.known.len() <= MAX_KNOWN);
    }
}
