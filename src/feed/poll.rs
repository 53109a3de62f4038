//! When the vendor may be asked again, and whether it has anything newer: what `fetch.json` beside the states keeps.
//!
//! Microsoft asks for a random identifier that stays the same (`ClientRequestId`), for at most one look an hour, and answers 429 to
//! who asks for whole lists too often. Source: MicrosoftDocs/microsoft-365-docs, microsoft-365-ip-web-service.md. What may not be
//! here: the network.

use std::io;
use std::time::{Duration, SystemTime};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::endpoints::Refusal;
use super::printable;
use super::shelf::{FETCH, Shelf, ShelfError, read_json};
use super::state::moment;

/// Between two looks, and after a 429 that names no time.
const PAUSE: Duration = Duration::from_secs(60 * 60);
/// The longest `Retry-After` that is followed.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// Largest answer to `/version` that is read; the real one has less than a kilobyte.
pub const MAX_VERSION: usize = 64 << 10;

/// What is kept from one look to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// A random GUID of this site's.
    pub client_request_id: String,
    /// Not before this moment, RFC 3339, UTC.
    pub not_before: String,
    /// The version that was staged last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The last answer was refused for being so much less, which somebody may want to take all the same, at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shrunk: bool,
}

/// Why it is not asked now.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("it was asked less than an hour ago, or said to wait: not before {0}")]
    TooSoon(String),
}

impl Poll {
    /// What is kept, with the leave to look now. The next look is put off before this one is made, so that one that fails counts.
    /// `accept_shrunk`: after an answer that was refused as shrunk the hour is not waited for, once.
    ///
    /// # Errors
    /// [`PollError`].
    pub fn begin(shelf: &Shelf, accept_shrunk: bool, now: SystemTime) -> Result<Self, PollError> {
        let mut poll = match read_json(&shelf.folder().join(FETCH)) {
            Err(ShelfError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::new().map_err(|_| ShelfError::Random)?
            }
            read => read?,
        };
        let at_once = accept_shrunk && poll.shrunk;
        // What lies further ahead was written by a clock that was wrong.
        let due = OffsetDateTime::parse(&poll.not_before, &Rfc3339);
        if !at_once && due.is_ok_and(|due| due > now && due <= now + MAX_PAUSE) {
            return Err(PollError::TooSoon(poll.not_before));
        }
        poll.shrunk = false;
        poll.wait(shelf, now, PAUSE)?;
        Ok(poll)
    }

    fn new() -> Result<Self, Unspecified> {
        Ok(Self {
            client_request_id: guid()?,
            not_before: moment(SystemTime::UNIX_EPOCH),
            version: None,
            shrunk: false,
        })
    }

    /// As a 429 asks for; returns until when.
    ///
    /// # Errors
    /// [`ShelfError::Write`].
    pub fn refused(&mut self, shelf: &Shelf, retry_after: Option<&str>, now: SystemTime) -> Result<String, ShelfError> {
        let seconds = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        self.wait(shelf, now, seconds.unwrap_or(PAUSE).clamp(PAUSE, MAX_PAUSE))?;
        Ok(self.not_before.clone())
    }

    /// # Errors
    /// [`ShelfError::Write`].
    pub fn staged(&mut self, shelf: &Shelf, version: &str) -> Result<(), ShelfError> {
        self.version = Some(version.to_owned());
        shelf.replace(FETCH, self)
    }

    /// # Errors
    /// [`ShelfError::Write`].
    pub fn shrunk(&mut self, shelf: &Shelf) -> Result<(), ShelfError> {
        self.shrunk = true;
        shelf.replace(FETCH, self)
    }

    fn wait(&mut self, shelf: &Shelf, now: SystemTime, pause: Duration) -> Result<(), ShelfError> {
        self.not_before = moment(now + pause);
        shelf.replace(FETCH, self)
    }
}

/// `latest` of an answer to `/version/Worldwide`: ten digits, of which larger is newer.
///
/// # Errors
/// [`Refusal`]: it is not that.
pub fn latest(octets: &[u8]) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Answer {
        instance: String,
        latest: String,
    }
    let answer: Answer = serde_json::from_slice(octets)
        .map_err(|error| Refusal::one(format!("not the answer to /version ({})", printable(&error.to_string()))))?;
    if !answer.instance.eq_ignore_ascii_case("worldwide") {
        return Err(Refusal::one(format!(
            "the version of instance {:?}, not of Worldwide",
            printable(&answer.instance)
        )));
    }
    match is_version(&answer.latest) {
        true => Ok(answer.latest),
        false => Err(Refusal::one(format!("latest {:?}, which is not ten digits", printable(&answer.latest)))),
    }
}

/// Ten digits, `YYYYMMDDNN`.
pub fn is_version(text: &str) -> bool {
    text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit())
}

/// A random GUID (RFC 9562, version 4).
fn guid() -> Result<String, Unspecified> {
    let mut octets = [0; 16];
    rand::fill(&mut octets)?;
    let bits = u128::from_be_bytes(octets) & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let digits = format!("{bits:032x}");
    let group = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    Ok(format!("{}-{}-{}-{}-{}", group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    #[test]
    fn it_asks_once_an_hour_with_one_identifier_and_waits_as_it_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let shelf = Shelf::new(directory.path());
        let mut first = Poll::begin(&shelf, false, at(0)).expect("the first look");
        let soon = Poll::begin(&shelf, false, at(3599)).expect_err("too soon").to_string();
        assert_eq!(soon, "it was asked less than an hour ago, or said to wait: not before 2027-01-15T09:00:00Z");
        first.staged(&shelf, "2026081400").expect("kept");
        let mut second = Poll::begin(&shelf, false, at(3600)).expect("an hour later");
        assert_eq!(
            (&second.client_request_id, second.version.as_deref()),
            (&first.client_request_id, Some("2026081400"))
        );
        for (said, until) in [
            (None, "2027-01-15T09:00:00Z"),
            (Some("7200"), "2027-01-15T10:00:00Z"),
            (Some("1"), "2027-01-15T09:00:00Z"),
            (Some("99999999999"), "2027-01-16T08:00:00Z"),
            (Some("Fri, 15 Jan 2027 08:00:00 GMT"), "2027-01-15T09:00:00Z"),
        ] {
            assert_eq!(second.refused(&shelf, said, at(0)).expect("kept"), until, "{said:?}");
            assert!(matches!(Poll::begin(&shelf, false, at(1)), Err(PollError::TooSoon(due)) if due == until));
        }
        std::fs::write(shelf.folder().join(FETCH), "{\"client_").expect("written");
        let broken = Poll::begin(&shelf, false, at(9_999_999)).expect_err("broken").to_string();
        assert!(broken.contains("fetch.json: it is not as sekisho writes it (EOF while parsing a string"), "{broken}");
    }

    #[test]
    fn an_answer_that_was_refused_as_shrunk_can_be_taken_at_once_and_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let shelf = Shelf::new(directory.path());
        let mut first = Poll::begin(&shelf, true, at(0)).expect("the first look");
        assert!(matches!(Poll::begin(&shelf, true, at(1)), Err(PollError::TooSoon(_))), "it was not refused");
        first.shrunk(&shelf).expect("kept");
        assert!(matches!(Poll::begin(&shelf, false, at(1)), Err(PollError::TooSoon(_))), "nobody accepts it");
        assert!(Poll::begin(&shelf, true, at(2)).is_ok());
        assert!(matches!(Poll::begin(&shelf, true, at(3)), Err(PollError::TooSoon(_))), "once");
    }

    #[test]
    fn versions_are_ten_digits_of_the_worldwide_instance() {
        let found = |text: &str| latest(text.as_bytes()).map_err(|refusal| refusal.to_string());
        let sound = "{\"instance\":\"Worldwide\",\"latest\":\"2026081400\",\"versions\":[\"2026072900\"]}";
        assert_eq!(found(sound).as_deref(), Ok("2026081400"));
        for (text, why) in [
            (
                "{\"instance\":\"China\",\"latest\":\"2026081400\"}",
                "the version of instance \"China\", not of Worldwide",
            ),
            ("{\"instance\":\"Worldwide\",\"latest\":\"2026\"}", "latest \"2026\", which is not ten digits"),
            ("{\"instance\":\"Worldwide\"}", "not the answer to /version (missing field `latest` at line 1 column 24)"),
            (
                "[]",
                "not the answer to /version (invalid length 0, expected struct Answer with 2 elements at line 1 column 2)",
            ),
        ] {
            assert_eq!(found(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn identifiers_are_guids_of_version_4() {
        let (one, other) = (guid().expect("random"), guid().expect("random"));
        assert_ne!(one, other);
        for id in [one, other] {
            let groups: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
            assert!(id.get(14..15) == Some("4") && matches!(id.get(19..20), Some("8" | "9" | "a" | "b")), "{id}");
        }
    }
}
