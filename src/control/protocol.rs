//! What is said on the control socket: one line of JSON is asked, one line of JSON is answered, and the connection ends.
//!
//! ```json
//! {"v":1,"ask":{"do":"cut","id":"7ZK3-0Q9M-V2XD-TB61"}}
//! {"v":1,"ok":{"message":"cut 7ZK3-0Q9M-V2XD-TB61: tunnel of 10.20.0.7 to www.example.com:443","revision":"0f1e2d3c4b5a"}}
//! {"v":1,"error":{"word":"no_such_session","message":"…"}}
//! ```
//!
//! Keys that the record has too are called as there. A later version may answer with more keys; what it asks of a service it does not
//! know is refused.

use serde::{Deserialize, Serialize};

/// What both ends speak.
pub const VERSION: u32 = 1;
/// Octets of a request, its line break included.
pub const MAX_REQUEST: usize = 4096;
/// Octets of an answer.
pub const MAX_ANSWER: u64 = 4 << 20;
/// Sessions in one answer.
pub const PAGE: usize = 1000;
/// The longest trial, in seconds: a day.
pub const MAX_TRIAL: u64 = 24 * 3600;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    Status {},
    /// Connections that are being relayed, in the order of their identifiers.
    Sessions {
        /// An address, a network or a `[[clients]]` group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<String>,
        /// The name of a `[[service]]`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// [`Page::next`] of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    Cut {
        id: String,
    },
    /// Takes up FILE, which must be of this revision.
    Reload {
        revision: String,
    },
    /// Takes up FILE.trial, which must be of this revision, for so many seconds.
    Trial {
        revision: String,
        seconds: u64,
    },
    /// Ends the trial: FILE is now what was on trial, of this revision.
    Confirm {
        revision: String,
    },
    /// Ends the trial: takes up FILE.
    Rollback {},
    /// Where the service says what it has to say: what follows on the connection is a message with its standard error.
    Stderr {},
    /// The peer, a process of the service's own user, goes on in its place. What follows on the connection are messages with descriptors.
    TakeOver {},
}

impl Ask {
    /// `sekisho.control` of the record.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Status {} => "status",
            Self::Sessions { .. } => "sessions",
            Self::Cut { .. } => "cut",
            Self::Reload { .. } => "reload",
            Self::Trial { .. } => "trial",
            Self::Confirm { .. } => "confirm",
            Self::Rollback {} => "rollback",
            Self::Stderr {} => "stderr",
            Self::TakeOver {} => "take_over",
        }
    }
}

/// Why something was not done: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// No request of this protocol.
    Malformed,
    /// Another version of it.
    Version,
    /// The peer has not the role.
    NotPermitted,
    NoSuchSession,
    /// A configuration is on trial.
    OnTrial,
    /// None is, or not this one.
    NotOnTrial,
    /// The service reads another configuration than whoever asks.
    AnotherRevision,
    /// The configuration was refused; the one before stays in force.
    Refused,
    /// The service is stopping, or too many ask at once.
    Busy,
}

/// A refusal, in a word and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub word: Word,
    pub message: String,
}

impl Refusal {
    pub fn stopping() -> Self {
        Self::new(Word::Busy, "the service is stopping: nothing is changed any more")
    }

    pub fn new(word: Word, message: impl Into<String>) -> Self {
        Self { word, message: message.into() }
    }
}

/// The place of a process that is taken over from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub version: String,
    pub pid: u32,
    /// Listening sockets that follow.
    pub sockets: usize,
    /// The service manager's watchdog is to be fed.
    pub watchdog: bool,
}

/// What a service tells of itself. Moments are UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// The program file, as its device and inode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// When this process began.
    pub since: String,
    pub revision: String,
    /// When that was taken up.
    pub revision_since: String,
    /// Absolute.
    pub file: String,
    /// SHA-256 of the text that was taken up, in hexadecimal digits.
    pub text_sha256: String,
    /// The lines of `/readyz`, and whether its status is 200.
    pub ready: bool,
    pub readiness: Vec<String>,
    /// Why the last reload failed, where it did, or which last good configuration is in force in the place of a broken file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialStatus>,
    /// FILE was broken at the start: the last good one is in force.
    pub last_good: bool,
    pub listeners: Vec<ListenerStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pac: Option<String>,
    /// Client connections open, and those of them that are being relayed.
    pub connections: u64,
    pub tunnels: u64,
    pub inspected: u64,
    pub plain: u64,
    /// Processes that were taken over from and have not ended, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<Draining>,
    /// normal, shedding or refusing, and for what.
    pub pressure: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure_cause: Option<String>,
    pub record: RecordStatus,
    pub reloads: u64,
    pub failed_reloads: u64,
}

/// A process that was taken over from, and has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    pub pid: u32,
    pub version: String,
    /// What is being relayed there still. `None`: it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u64>,
}

/// A configuration on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialStatus {
    /// As loaded.
    pub revision: String,
    pub until: String,
    pub seconds_left: u64,
    /// Who began it.
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    pub address: String,
    pub mode: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordStatus {
    pub path: String,
    pub writable: bool,
    pub when_unwritable: String,
    /// Lines that wait to be written.
    pub waiting: u64,
    /// Events that could not be recorded.
    pub lost: u64,
}

/// Some of the sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub sessions: Vec<SessionRow>,
    /// There are more, behind this identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Processes that were taken over from and do not answer: what they have is not listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<u32>,
}

impl Page {
    /// Its sessions are those of this process, but for those that say another.
    pub fn of(mut self, process: u32) -> Self {
        self.sessions.iter_mut().for_each(|session| session.process = session.process.or(Some(process)));
        self
    }

    /// The page of both, each of which begins behind the same identifier: no longer than one.
    pub fn with(mut self, other: Self) -> Self {
        let more = self.next.is_some() || other.next.is_some();
        self.sessions.extend(other.sessions);
        // What moved meanwhile stands once, and as the one that has it now.
        self.sessions.sort_by(|a, b| (&a.id, a.process).cmp(&(&b.id, b.process)));
        self.sessions.dedup_by(|later, earlier| later.id == earlier.id);
        let more = more || self.sessions.len() > PAGE;
        self.sessions.truncate(PAGE);
        self.next = self.sessions.last().filter(|_| more).map(|session| session.id.clone());
        self.silent.extend(other.silent);
        self
    }
}

/// One connection that is being relayed, in the keys of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    #[serde(rename = "event.id")]
    pub id: String,
    /// Of the record: when it began.
    #[serde(rename = "@timestamp")]
    pub at: String,
    #[serde(rename = "source.ip")]
    pub source_ip: String,
    #[serde(rename = "source.port")]
    pub source_port: u16,
    #[serde(rename = "sekisho.client", default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(rename = "sekisho.authority", default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    #[serde(rename = "tls.client.server_name", default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    #[serde(rename = "rule.name", default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// tunnel, inspect or plain_http.
    #[serde(rename = "sekisho.mode")]
    pub mode: String,
    /// Only observing lets it through.
    pub observed: bool,
    /// The process that was taken over from and has it still.
    #[serde(rename = "process.pid", default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    #[serde(rename = "source.bytes")]
    pub sent: u64,
    #[serde(rename = "destination.bytes")]
    pub received: u64,
}

/// What was done, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub message: String,
    /// In force now.
    pub revision: String,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    v: u32,
    ask: serde_json::Value,
}

/// An answer; one of `ok` and `error`.
#[derive(Serialize, Deserialize)]
struct Reply<T> {
    v: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
}

/// The line of a request.
pub fn request(ask: &Ask) -> Vec<u8> {
    // Nothing in it can fail to be written.
    let ask = serde_json::to_value(ask).unwrap_or_default();
    line(&Envelope { v: VERSION, ask })
}

/// Reads the line of a request, without its line break.
///
/// # Errors
/// What is wrong with it, for whoever asks.
pub fn read_request(line: &[u8]) -> Result<Ask, Refusal> {
    let malformed = |error: serde_json::Error| Refusal::new(Word::Malformed, format!("no request: {error}"));
    let Envelope { v, ask } = serde_json::from_slice(line).map_err(malformed)?;
    if v != VERSION {
        let message = format!("version {v} is asked for, and this service speaks version {VERSION}");
        return Err(Refusal::new(Word::Version, message));
    }
    serde_json::from_value(ask).map_err(malformed)
}

/// The line of an answer.
pub fn answer<T: Serialize>(outcome: Result<T, Refusal>) -> Vec<u8> {
    let (ok, error) = match outcome {
        Ok(ok) => (Some(ok), None),
        Err(error) => (None, Some(error)),
    };
    line(&Reply { v: VERSION, ok, error })
}

/// Reads the line of an answer. `None`: it is none.
pub fn read_answer<T: for<'d> Deserialize<'d>>(line: &[u8]) -> Option<Result<T, Refusal>> {
    // A refusal first: what is `ok` differs from request to request.
    let refused: Reply<serde::de::IgnoredAny> = serde_json::from_slice(line).ok()?;
    if let Some(error) = refused.error {
        return Some(Err(error));
    }
    let reply: Reply<T> = serde_json::from_slice(line).ok()?;
    reply.ok.map(Ok)
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_back() {
        let revision = || "0123456789ab".to_owned();
        let asks = [
            Ask::Status {},
            Ask::Sessions { client: None, service: None, after: None },
            Ask::Sessions { client: Some("10.0.0.0/8".into()), service: Some("例".into()), after: Some("x".into()) },
            Ask::Cut { id: "7ZK3-0Q9M-V2XD-TB61".into() },
            Ask::Reload { revision: revision() },
            Ask::Trial { revision: revision(), seconds: 300 },
            Ask::Confirm { revision: revision() },
            Ask::Rollback {},
        ];
        for ask in asks {
            let line = request(&ask);
            assert_eq!(line.iter().filter(|octet| **octet == b'\n').count(), 1);
            assert_eq!(read_request(&line).as_ref(), Ok(&ask), "{}", String::from_utf8_lossy(&line));
            assert!(String::from_utf8_lossy(&line).contains(&format!("\"do\":\"{}\"", ask.word())), "{ask:?}");
        }
        assert_eq!(request(&Ask::Rollback {}), b"{\"v\":1,\"ask\":{\"do\":\"rollback\"}}\n");
    }

    #[test]
    fn what_is_no_request_is_refused_in_a_word() {
        let rows: [(&[u8], Word); 14] = [
            (b"", Word::Malformed),
            (b"status", Word::Malformed),
            (b"\xff\xfe{}", Word::Malformed),
            (b"{}", Word::Malformed),
            (b"[]", Word::Malformed),
            (b"{\"v\":1}", Word::Malformed),
            (b"{\"v\":\"1\",\"ask\":{\"do\":\"status\"}}", Word::Malformed),
            (b"{\"v\":2,\"ask\":{\"do\":\"anything\",\"new\":[]}}", Word::Version),
            (b"{\"v\":1,\"ask\":{\"do\":\"shutdown\"}}", Word::Malformed),
            (b"{\"v\":1,\"ask\":{\"do\":\"status\",\"more\":1}}", Word::Malformed),
            (b"{\"v\":1,\"ask\":{\"do\":\"cut\"}}", Word::Malformed),
            (b"{\"v\":1,\"ask\":{\"do\":\"cut\",\"id\":7}}", Word::Malformed),
            (b"{\"v\":1,\"ask\":{\"do\":\"trial\",\"revision\":\"a\",\"seconds\":-1}}", Word::Malformed),
            (b"{\"v\":1,\"ask\":{\"do\":\"rollback\"}} {\"v\":1,\"ask\":{\"do\":\"rollback\"}}", Word::Malformed),
        ];
        for (line, word) in rows {
            let shown = String::from_utf8_lossy(line);
            assert_eq!(read_request(line).map_err(|refusal| refusal.word), Err(word), "{shown}");
        }
        // As deep as a request can be.
        let deep = [&b"{\"v\":1,\"ask\":"[..], &[b'['; MAX_REQUEST - 20]].concat();
        assert_eq!(read_request(&deep).map_err(|refusal| refusal.word), Err(Word::Malformed));
    }

    proptest::proptest! {
        #[test]
        fn no_octets_are_more_than_refused(octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = read_request(&octets);
            let _ = read_answer::<Status>(&octets);
            let ask = [&b"{\"v\":1,\"ask\":{\"do\":\""[..], &octets, b"\"}}"].concat();
            if let Ok(ask) = read_request(&ask) {
                proptest::prop_assert!(matches!(ask, Ask::Status {} | Ask::Rollback {} | Ask::Sessions { .. }), "{ask:?}");
            }
        }
    }

    #[test]
    fn answers_read_back_with_keys_that_nobody_knows() {
        let done = Done { message: "done\nand done".to_owned(), revision: "0".to_owned() };
        let line = answer(Ok(&done));
        assert_eq!(line.iter().filter(|octet| **octet == b'\n').count(), 1);
        assert_eq!(read_answer::<Done>(&line), Some(Ok(done.clone())));
        let later = b"{\"v\":1,\"ok\":{\"message\":\"done\\nand done\",\"revision\":\"0\",\"later\":1},\"more\":2}\n";
        assert_eq!(read_answer::<Done>(later), Some(Ok(done)));
        let refusal = Refusal::new(Word::NotPermitted, "no");
        let line = answer::<Done>(Err(refusal.clone()));
        assert_eq!(line, b"{\"v\":1,\"error\":{\"word\":\"not_permitted\",\"message\":\"no\"}}\n");
        assert_eq!(read_answer::<Done>(&line), Some(Err(refusal)));
        for none in [&b""[..], b"{}", b"{\"v\":1}", b"{\"v\":1,\"ok\":{}}", b"HTTP/1.1 400 Bad Request"] {
            assert_eq!(read_answer::<Done>(none), None, "{}", String::from_utf8_lossy(none));
        }
    }
}
