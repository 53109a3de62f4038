//! What is being relayed: facts that are held anyway, so that an operator can list them and cut one.
//!
//! An attempt comes in when its relay begins and goes when it ends. The map is in shards, each with a lock of its own, which is held for
//! one insertion, one removal, or one walk: over a page, or with a filter over the shard. No list stops the data path for longer. Octets are counted where they always were.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::ops::{Bound, Deref};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::task::AtomicWaker;
use ipnet::IpNet;

use crate::addrs::ClientAddr;
use crate::exchange::ConnectionState;
use crate::locks::Mutex;
use crate::record::{AskedAuthority, EventId, Fields, Text};
use crate::tunnel::Counters;

const SHARDS: usize = 16;

/// What a session is, with what counts its octets.
pub enum Kind {
    Tunnel,
    Inspected(Arc<ConnectionState>),
    Plain(Arc<ConnectionState>),
}

/// One attempt that is being relayed.
pub struct Session {
    pub id: EventId,
    /// When the attempt began: the first of a connection when that was accepted.
    pub at: SystemTime,
    pub client: ClientAddr,
    pub group: Option<Text>,
    pub authority: Option<AskedAuthority>,
    pub server_name: Option<Text>,
    pub service: Option<Text>,
    /// Only observing lets it through.
    pub observed: bool,
    kind: Kind,
    counters: Counters,
    is_cut: AtomicBool,
    /// It is being handed to another process, which may go on with it.
    on_its_way: AtomicBool,
    bell: Bell,
}

impl Session {
    pub fn new(id: EventId, at: SystemTime, client: ClientAddr, fields: &Fields, kind: Kind) -> Self {
        Self {
            id,
            at,
            client,
            group: fields.client.clone(),
            authority: fields.authority.clone(),
            server_name: fields.server_name.clone(),
            service: fields.rule_name.clone(),
            observed: fields.would_refuse.is_some(),
            kind,
            counters: Counters::default(),
            is_cut: AtomicBool::new(false),
            on_its_way: AtomicBool::new(false),
            bell: Bell::default(),
        }
    }

    /// A tunnel's, which counts them here.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// tunnel, inspect or plain_http.
    pub fn mode(&self) -> &'static str {
        match self.kind {
            Kind::Tunnel => "tunnel",
            Kind::Inspected(_) => "inspect",
            Kind::Plain(_) => "plain_http",
        }
    }

    /// Octets so far: to the upstream, to the client.
    pub fn octets(&self) -> (u64, u64) {
        match &self.kind {
            Kind::Tunnel => {
                (self.counters.sent.load(Ordering::Relaxed), self.counters.received.load(Ordering::Relaxed))
            }
            Kind::Inspected(state) | Kind::Plain(state) => state.octets(),
        }
    }

    /// Whether an operator has cut it.
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    /// Sets out for another process. False: an operator has cut it before.
    pub(super) fn sets_out(&self) -> bool {
        self.on_its_way.store(true, Ordering::SeqCst);
        !self.is_cut()
    }

    /// It has not been taken.
    pub(super) fn stays(&self) {
        self.on_its_way.store(false, Ordering::SeqCst);
    }

    /// Resolves when an operator has cut it. For its own task alone.
    pub fn cut(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| {
            let _ = self.bell.poll(cx);
            if self.is_cut() { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// Ready once for each time that something has changed by which it may have to end. For its own task alone.
    pub fn poll_rung(&self, cx: &Context<'_>) -> Poll<()> {
        self.bell.poll(cx)
    }
}

/// What wakes a session's task, instead of a place in the list of each thing that may end it: those are many, and sessions idle.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        // The waker is in place before the flag is looked at: a ring from here on wakes the task.
        self.task.register(cx.waker());
        // Read first: a tunnel asks with every octet.
        if self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Which sessions are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub client: Option<Whom>,
    /// The name of a service.
    pub service: Option<String>,
}

/// Clients, by where they are or by their group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    Network(IpNet),
    Group(String),
}

impl Whom {
    /// An address or a network, else a group.
    pub fn parse(text: &str) -> Self {
        let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        match address.or_else(|_| text.parse::<IpNet>()) {
            Ok(network) => Self::Network(network),
            Err(_) => Self::Group(text.to_owned()),
        }
    }
}

impl Wanted {
    fn matches(&self, session: &Session) -> bool {
        let is = |text: &Option<Text>, wanted: &str| text.as_ref().is_some_and(|text| text.as_str() == wanted);
        let client = match &self.client {
            None => true,
            Some(Whom::Network(network)) => network.contains(&session.client.ip()),
            Some(Whom::Group(group)) => is(&session.group, group),
        };
        client && self.service.as_ref().is_none_or(|service| is(&session.service, service))
    }
}

/// How many sessions there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    pub tunnels: u64,
    pub inspected: u64,
    pub plain: u64,
}

type Shard = BTreeMap<EventId, Arc<Session>>;

/// All of them.
#[derive(Default)]
pub struct Sessions {
    shards: [Mutex<Shard>; SHARDS],
    tunnels: AtomicU64,
    inspected: AtomicU64,
    plain: AtomicU64,
}

impl Sessions {
    /// It is there for as long as the value lives.
    pub(super) fn enter(self: &Arc<Self>, session: Session) -> Entered {
        let session = Arc::new(session);
        self.number(&session.kind).fetch_add(1, Ordering::Relaxed);
        self.shard(session.id).insert(session.id, Arc::clone(&session));
        Entered { sessions: Arc::clone(self), session }
    }

    /// The first `most` that are wanted behind `after`, in the order of their identifiers, and whether there are more.
    pub fn page(&self, wanted: &Wanted, after: Option<EventId>, most: usize) -> (Vec<Arc<Session>>, bool) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        for shard in &self.shards {
            // One more than a page, by which it is seen that there are more.
            let shard = shard.lock();
            let behind = shard.range((from, Bound::Unbounded)).map(|(_, session)| session);
            found.extend(behind.filter(|session| wanted.matches(session)).take(most + 1).cloned());
        }
        found.sort_by_key(|session| session.id);
        let more = found.len() > most;
        found.truncate(most);
        (found, more)
    }

    /// Ends the session with this identifier. `None`: there is none, or it has ended meanwhile, or it is on its way to another process: who
    /// sets out looks for a cut behind that, and who cuts looks behind that whether it has set out, so that none is said to be cut and
    /// goes on.
    pub fn cut(&self, id: EventId) -> Option<Arc<Session>> {
        let session = self.shard(id).get(&id).cloned()?;
        session.is_cut.store(true, Ordering::SeqCst);
        session.bell.ring();
        (!session.on_its_way.load(Ordering::SeqCst)).then_some(session)
    }

    /// Has each look whether it may go on: the configuration has changed, or the service ends or moves. One that enters meanwhile looks
    /// at first.
    pub(super) fn ring(&self) {
        for shard in &self.shards {
            let sessions: Vec<_> = shard.lock().values().cloned().collect();
            sessions.iter().for_each(|session| session.bell.ring());
        }
    }

    pub fn numbers(&self) -> Numbers {
        let [tunnels, inspected, plain] =
            [&self.tunnels, &self.inspected, &self.plain].map(|number| number.load(Ordering::Relaxed));
        Numbers { tunnels, inspected, plain }
    }

    fn number(&self, kind: &Kind) -> &AtomicU64 {
        match kind {
            Kind::Tunnel => &self.tunnels,
            Kind::Inspected(_) => &self.inspected,
            Kind::Plain(_) => &self.plain,
        }
    }

    fn shard(&self, id: EventId) -> MutexGuard<'_, Shard> {
        self.shards[id.spread() % SHARDS].lock()
    }
}

/// A session that is there.
pub(super) struct Entered {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

impl Deref for Entered {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.sessions.number(&self.session.kind).fetch_sub(1, Ordering::Relaxed);
        self.sessions.shard(self.session.id).remove(&self.session.id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use futures_util::FutureExt;

    use crate::record::{Action, Recorder};

    fn client(ip: &str) -> ClientAddr {
        ClientAddr::new(std::net::SocketAddr::new(ip.parse().expect("an address"), 40_000))
    }

    async fn session(recorder: &Recorder, ip: &str, group: &str, service: &str) -> Session {
        let mut attempt = recorder.begin(Action::Connection).await;
        attempt.fields.client = Some(group.into());
        attempt.fields.rule_name = Some(service.into());
        Session::new(attempt.id(), attempt.began(), client(ip), &attempt.fields, Kind::Tunnel)
    }

    #[tokio::test]
    async fn pages_hold_every_session_once_and_what_is_wanted_alone() {
        let (recorder, _witness) = Recorder::nowhere().expect("a record");
        let sessions = Arc::new(Sessions::default());
        let mut entered = Vec::new();
        for n in 0..250 {
            let (ip, group) = if n % 5 == 0 { ("10.0.1.7", "lab") } else { ("10.0.0.7", "office") };
            let service = if n % 2 == 0 { "A" } else { "B" };
            entered.push(sessions.enter(session(&recorder, ip, group, service).await));
        }
        assert_eq!(sessions.numbers(), Numbers { tunnels: 250, inspected: 0, plain: 0 });
        let wanted = |client: &str, service: Option<&str>| Wanted {
            client: (!client.is_empty()).then(|| Whom::parse(client)),
            service: service.map(str::to_owned),
        };
        for (wanted, count) in [
            (Wanted::default(), 250),
            (wanted("lab", None), 50),
            (wanted("10.0.1.7", None), 50),
            (wanted("::ffff:10.0.1.7", None), 50),
            (wanted("10.0.0.0/24", Some("A")), 100),
            (wanted("10.0.0.0/23", Some("B")), 125),
            (wanted("", Some("C")), 0),
            (wanted("nobody", None), 0),
        ] {
            let (mut after, mut seen, mut pages) = (None, Vec::new(), 0);
            loop {
                let (page, more) = sessions.page(&wanted, after, 16);
                assert!(page.len() <= 16);
                seen.extend(page.iter().map(|session| session.id));
                pages += 1;
                if !more {
                    break;
                }
                after = seen.last().copied();
            }
            assert_eq!(seen.len(), count, "{wanted:?}");
            assert!(seen.is_sorted(), "{wanted:?}");
            assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), count, "{wanted:?}");
            assert_eq!(pages, count.div_ceil(16).max(1), "{wanted:?}");
        }
        drop(entered);
        assert_eq!(sessions.numbers(), Numbers::default());
        assert!(sessions.page(&Wanted::default(), None, 16).0.is_empty());
    }

    #[tokio::test]
    async fn one_is_cut_and_no_other() {
        let (recorder, _witness) = Recorder::nowhere().expect("a record");
        let sessions = Arc::new(Sessions::default());
        let one = sessions.enter(session(&recorder, "10.0.0.7", "office", "A").await);
        let other = sessions.enter(session(&recorder, "10.0.0.7", "office", "A").await);
        assert!(one.cut().now_or_never().is_none());
        assert_eq!(sessions.cut(one.id).map(|session| session.id), Some(one.id));
        one.cut().await;
        assert!(other.cut().now_or_never().is_none());
        // It waits in another task when it is cut.
        let other = Arc::new(other);
        let waiting = tokio::spawn({
            let other = Arc::clone(&other);
            async move { other.cut().await }
        });
        tokio::task::yield_now().await;
        assert!(sessions.cut(other.id).is_some());
        tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("woken").expect("no panic");
        let id = one.id;
        drop(one);
        assert!(sessions.cut(id).is_none(), "it is gone");
    }

    #[tokio::test]
    async fn none_is_said_to_be_cut_that_goes_on_elsewhere() {
        let (recorder, _witness) = Recorder::nowhere().expect("a record");
        let sessions = Arc::new(Sessions::default());
        let moving = sessions.enter(session(&recorder, "10.0.0.7", "office", "A").await);
        assert!(moving.sets_out());
        assert!(sessions.cut(moving.id).is_none(), "it may be the other process's");
        moving.stays();
        moving.cut().await;
        let cut = sessions.enter(session(&recorder, "10.0.0.7", "office", "A").await);
        assert!(sessions.cut(cut.id).is_some());
        assert!(!cut.sets_out(), "it is cut here");
    }

    /// What an idle tunnel holds of it beside what it holds anyway; with the map's entry it is some 250 octets.
    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Session>() <= 216, "{}", size_of::<Session>());
    }
}
