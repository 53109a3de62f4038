//! A tunnel on its way from a process to the one that takes over from it: what it is, written down beside its two sockets, and how
//! it goes on there.
//!
//! The new process decides by its own policy whether it may go on. What the old one found out of it (that the two names agree, that the
//! certificate was verified) is not asked again: the parcel comes from a process of the same user, over a socket that nobody else may use.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ending::Next;
use super::gate::{Gate, Present};
use super::trip::Trip;
use super::tunnelling::Progress;
use crate::addrs::{ClientAddr, ListenAddr, OriginalAddr};
use crate::client::Client;
use crate::names::Authority;
use crate::policy::{Claim, Decision};
use crate::pressure::Newcomer;
use crate::reason::{Outcome, Reason, Side};
use crate::record::{Attempt, NotALine};
use crate::tunnel::{Counters, Half};

/// A parcel for the process that takes over, and who waits to hear whether it has it.
pub struct Handed {
    parcel: Parcel,
    taken: oneshot::Sender<bool>,
    stand: Arc<Stand>,
}

/// Whose a parcel is that is on its way: what the first of both says holds.
#[derive(Default)]
pub(super) struct Stand(OnceLock<Whose>);

#[derive(PartialEq, Eq)]
enum Whose {
    /// It is sent: the other process ends its attempt.
    Theirs,
    /// Nobody waited any more: it stays.
    Ours,
}

impl Stand {
    /// It is to stay. False: it is sent.
    pub(super) fn stays(&self) -> bool {
        *self.0.get_or_init(|| Whose::Ours) == Whose::Ours
    }

    fn goes(&self) -> bool {
        *self.0.get_or_init(|| Whose::Theirs) == Whose::Theirs
    }
}

impl Handed {
    pub(super) fn new(parcel: Parcel) -> (Self, oneshot::Receiver<bool>, Arc<Stand>) {
        let (taken, answer) = oneshot::channel();
        let stand = Arc::<Stand>::default();
        (Self { parcel, taken, stand: Arc::clone(&stand) }, answer, stand)
    }

    /// To be sent now, unless nobody waits for it any more.
    pub fn send(self) -> Option<(Parcel, oneshot::Sender<bool>)> {
        self.stand.goes().then_some((self.parcel, self.taken))
    }
}

/// A tunnel without its two sockets, and these.
pub struct Parcel {
    about: About,
    /// The line that would end its attempt.
    record: Vec<u8>,
    /// Octets that were read and not written, from the client and to it.
    unsent: (BytesMut, BytesMut),
    /// The client's, and the upstream's.
    sockets: (OwnedFd, OwnedFd),
}

/// What is known of it. A process reads what one of another version wrote: a field is added with a default, and none is renamed.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    client: SocketAddr,
    listener: SocketAddr,
    #[serde(default)]
    original: Option<SocketAddr>,
    authority: String,
    /// Of its connection's life (`timeouts.connection_life`), in milliseconds.
    #[serde(default)]
    left: Option<u64>,
    sent: u64,
    received: u64,
    /// Which ways have ended.
    ended: (bool, bool),
    /// Octets of the parts behind this.
    record: usize,
    unsent: (usize, usize),
}

/// What came is no parcel.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    #[error("it is not what this version reads: {0}")]
    Form(#[from] serde_json::Error),
    #[error("its parts are not as long as it says")]
    Length,
    #[error("its authority is none: {0}")]
    Authority(#[from] crate::names::AuthorityError),
    #[error("its record: {0}")]
    Record(#[from] NotALine),
    #[error("its sockets cannot be used: {0}")]
    Sockets(#[from] io::Error),
}

impl Parcel {
    pub(super) fn of(
        trip: &mut Trip,
        (client, upstream): (&TcpStream, &TcpStream),
        (up, down): (Half, Half),
        counters: &Counters,
    ) -> io::Result<Self> {
        let Some(Claim::Connect(authority)) = &trip.claim else { return Err(io::ErrorKind::InvalidInput.into()) };
        let listener = trip.attempt.fields.listener.ok_or(io::ErrorKind::InvalidInput)?;
        let authority = authority.to_string();
        let record = trip.attempt.portable();
        let about = About {
            client: trip.client.socket(),
            listener: listener.socket(),
            original: trip.attempt.fields.original.map(OriginalAddr::socket),
            authority,
            left: trip.drain.left().map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            sent: counters.sent.load(Ordering::Relaxed),
            received: counters.received.load(Ordering::Relaxed),
            ended: (up.ended, down.ended),
            record: record.len(),
            unsent: (up.unsent.len(), down.unsent.len()),
        };
        let sockets = (client.as_fd().try_clone_to_owned()?, upstream.as_fd().try_clone_to_owned()?);
        Ok(Self { about, record, unsent: (up.unsent, down.unsent), sockets })
    }

    /// All of it but the sockets: a line that says what it is, and the parts it names.
    pub fn octets(&self) -> Vec<u8> {
        // A map of numbers, addresses and a name: it can be written.
        let mut octets = serde_json::to_vec(&self.about).unwrap_or_default();
        octets.push(b'\n');
        for part in [&*self.record, &*self.unsent.0, &*self.unsent.1] {
            octets.extend_from_slice(part);
        }
        octets
    }

    pub fn sockets(&self) -> [&OwnedFd; 2] {
        [&self.sockets.0, &self.sockets.1]
    }

    /// # Errors
    /// [`ParcelError`].
    pub fn read(octets: &[u8], sockets: (OwnedFd, OwnedFd)) -> Result<Self, ParcelError> {
        let line = memchr::memchr(b'\n', octets).ok_or(ParcelError::Length)?;
        let (line, parts) = octets.split_at(line);
        let about: About = serde_json::from_slice(line)?;
        let parts = parts.get(1..).unwrap_or_default();
        let (record, unsent) = parts.split_at_checked(about.record).ok_or(ParcelError::Length)?;
        let (up, down) = unsent.split_at_checked(about.unsent.0).ok_or(ParcelError::Length)?;
        if down.len() != about.unsent.1 {
            return Err(ParcelError::Length);
        }
        Ok(Self { record: record.to_vec(), unsent: (up.into(), down.into()), about, sockets })
    }

    /// Takes its attempt up, with the memory that it takes. Within the runtime on which it is to go on.
    ///
    /// # Errors
    /// [`ParcelError`]: nothing has happened, and its attempt is that of who sent it.
    pub async fn resume(self, gate: &Gate, newcomer: Newcomer) -> Result<Resumed, ParcelError> {
        let authority = Authority::parse(self.about.authority.as_bytes())?;
        let stream = |socket: OwnedFd| TcpStream::from_std(net::TcpStream::from(socket));
        let (client, upstream) = (stream(self.sockets.0)?, stream(self.sockets.1)?);
        let attempt = gate.recorder().resume(&self.record).await?;
        // Thousands come at once, and none of them owes anything.
        newcomer.established();
        Ok(Resumed {
            about: self.about,
            unsent: self.unsent,
            claim: Claim::Connect(authority),
            client,
            upstream,
            attempt,
            newcomer,
        })
    }
}

/// A tunnel of the process before, which is to go on here.
pub struct Resumed {
    about: About,
    unsent: (BytesMut, BytesMut),
    claim: Claim,
    client: TcpStream,
    upstream: TcpStream,
    attempt: Attempt,
    /// Its memory.
    newcomer: Newcomer,
}

/// Serves it to its end.
pub async fn serve_moved(present: Present, resumed: Resumed) {
    let gate = present.gate();
    let Resumed { about, unsent, claim, client, upstream, attempt, newcomer } = resumed;
    let (addr, listener) = (ClientAddr::new(about.client), ListenAddr::new(about.listener));
    let original = about.original.map(OriginalAddr::new);
    let mut client = match original {
        Some(original) => Client::steered(client, addr, listener, original),
        None => Client::new(client, addr, listener),
    };
    let live = gate.live();
    let admission = gate.limits().readmit(addr, live.config.policy.group_of(addr));
    let ends = about.left.map(|left| Instant::now() + Duration::from_millis(left));
    let mut trip = Box::new(Trip::resume(gate, addr, (attempt, newcomer), claim, ends));
    let decision = trip.claim.as_ref().map(|claim| live.decide(addr, claim));
    let Some(Decision::Tunnel(permit)) = decision else {
        return trip.leave(client, Reason::PolicyWithdrawn);
    };
    trip.begin_relay();
    let visit = admission.revisit(permit.rule().name());
    let half = |unsent, ended| Half { unsent, ended };
    let halves = (half(unsent.0, about.ended.0), half(unsent.1, about.ended.1));
    let progress = Box::new(Progress { halves, octets: (about.sent, about.received) });
    let (_, socket) = client.stream().into_parts();
    let next = Box::pin(trip.go_on(&mut client, (socket, upstream), progress, visit)).await;
    drop(trip);
    match next {
        Ok(Next::Moved) => {}
        Ok(Next::Close | Next::Request) => client.close().await,
        Ok(Next::Abort) | Err(_) => client.abort(),
    }
}

impl Trip {
    /// It does not go on here: the reason is in its record.
    fn leave(mut self: Box<Self>, client: Client, reason: Reason) {
        self.conclude(Some(Side::Sekisho), Outcome::Allowed, Some(reason));
        client.abort();
    }
}

/// The way to the process that takes over.
pub type Mover = tokio::sync::mpsc::Sender<Handed>;

/// What may be on that way at once, beside what is being sent: two descriptors each, of those that are kept for the service itself, since
/// a process that is to be replaced may have no others left.
pub const ON_THE_WAY: usize = 3;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn parcel() -> Parcel {
        let socket = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a socket"));
        let about = About {
            client: "10.20.0.7:40000".parse().expect("an address"),
            listener: "[::1]:8080".parse().expect("an address"),
            original: Some("203.0.113.9:443".parse().expect("an address")),
            authority: "allowed.test:443".to_owned(),
            left: Some(1500),
            sent: 7,
            received: u64::MAX,
            ended: (true, false),
            record: 4,
            unsent: (0, 5),
        };
        let unsent = (BytesMut::new(), BytesMut::from(&b"a\nb\0c"[..]));
        Parcel { about, record: b"line".to_vec(), unsent, sockets: (socket(), socket()) }
    }

    fn read(octets: &[u8]) -> Result<Parcel, ParcelError> {
        let Parcel { sockets, .. } = parcel();
        Parcel::read(octets, sockets)
    }

    #[test]
    fn a_parcel_reads_back_whole_and_none_that_was_cut_or_lengthened() {
        let octets = parcel().octets();
        let back = read(&octets).expect("a parcel");
        assert_eq!((&back.record[..], &back.unsent.1[..]), (&b"line"[..], &b"a\nb\0c"[..]));
        assert_eq!(format!("{:?}", back.about), format!("{:?}", parcel().about));
        for cut in 0..octets.len() {
            assert!(read(&octets[..cut]).is_err(), "{cut}");
        }
        assert!(matches!(read(&[&octets[..], b"x"].concat()), Err(ParcelError::Length)));
        let text = String::from_utf8_lossy(&octets).into_owned();
        for (from, to) in [
            ("\"record\":4", "\"record\":18446744073709551615"),
            ("\"sent\":7", "\"sent\":-7"),
            ("10.20.0.7:40000", "10.20.0.7"),
        ] {
            assert!(read(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
    }

    /// What another version adds is left alone, and what it does not have is not there.
    #[test]
    fn a_parcel_of_another_version_is_read() {
        let text = String::from_utf8(parcel().octets()).expect("UTF-8");
        let newer = text.replacen('{', "{\"something\":[1],", 1);
        assert_eq!(read(newer.as_bytes()).expect("a parcel").about.sent, 7);
        let older = text.replacen(",\"original\":\"203.0.113.9:443\"", "", 1).replacen(",\"left\":1500", "", 1);
        let older = read(older.as_bytes()).expect("a parcel");
        assert_eq!((older.about.original, older.about.left), (None, None));
    }
}
