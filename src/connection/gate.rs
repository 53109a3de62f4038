//! What every connection shares: the configuration in force with what is built from it, the limits, the record, the drain.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::moving::Mover;
use super::observance::Observance;
use super::sessions::Sessions;
use crate::addrs::{BalancerAddr, ClientAddr, ListenAddr};
use crate::admit::{Admission, Limits, Refused};
use crate::client::Client;
use crate::config::Config;
use crate::drain::{Drain, Stopper};
use crate::inspect::leaf::{self, LeafCache};
use crate::inspect::scope::Ruling;
use crate::policy::{Claim, Decision};
use crate::pressure::{Newcomer, Pressure, Shed, State as Load};
use crate::reason::Reason;
use crate::record::{Recorder, State, WhenUnwritable};
use crate::upstream::resolve::Resolver;
use crate::upstream::verify::Verdicts;
use crate::upstream::vet::SelfAddrs;

/// A configuration and what is made from it. Immutable; a reload makes another.
pub struct Live {
    pub config: Config,
    pub resolver: Arc<Resolver>,
    pub selves: SelfAddrs,
    /// Present wherever a service inspects.
    pub leaves: Option<Arc<LeafCache>>,
    pub observance: Observance,
}

impl Live {
    /// `previous` lends its resolver, answers and all, where the settings are the same, and what leaves it keeps.
    pub fn new(config: Config, previous: Option<&Self>) -> Self {
        let same = previous.filter(|live| live.config.resolver == config.resolver);
        let resolver =
            same.map_or_else(|| Arc::new(Resolver::new(&config.resolver)), |live| Arc::clone(&live.resolver));
        if resolver.servers().next().is_none() {
            tracing::warn!("no DNS server: only the names of [resolver.hosts] can be reached");
        }
        let selves = SelfAddrs::new(config.own_addresses());
        let kept = previous.and_then(|live| live.leaves.as_ref());
        let leaves = config.issuing.as_ref().map(|issuer| match kept {
            Some(kept) => Arc::new(kept.with(Arc::clone(issuer))),
            None => Arc::new(LeafCache::new(Arc::clone(issuer), leaf::CAPACITY, leaf::NEWCOMERS)),
        });
        let now = (SystemTime::now(), Instant::now());
        let observance = Observance::new(&config.site.enforcement, previous.map(|live| &live.observance), now);
        Self { config, resolver, selves, leaves, observance }
    }

    /// The decision of this moment.
    pub fn decide(&self, client: ClientAddr, claim: &Claim) -> Decision {
        self.config.policy.judge(client, claim, self.observance.now())
    }
}

/// Why a connection gets no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    #[error("the service is stopping")]
    ShuttingDown,
    #[error("there is no room for it")]
    Overloaded,
    #[error(transparent)]
    Limit(#[from] Refused),
}

impl NotAdmitted {
    pub fn reason(self) -> Reason {
        match self {
            Self::ShuttingDown => Reason::ShuttingDown,
            Self::Overloaded => Reason::Overloaded,
            Self::Limit(refused) => refused.reason(),
        }
    }
}

/// The shared state of the service.
pub struct Gate {
    live: ArcSwap<Live>,
    /// The policy alone, for inspected connections, which are decided anew at each request.
    ruling: Arc<ArcSwap<Ruling>>,
    /// Counts reloads, and the ends of observing.
    reloads: watch::Sender<u64>,
    /// Outlives reloads: a verdict's key holds the trust it was found under.
    pub verdicts: Verdicts,
    limits: Arc<Limits>,
    pressure: Arc<Pressure>,
    recorder: Recorder,
    stopper: Stopper,
    drain: Drain,
    /// Where tunnels go when another process has taken over.
    mover: OnceLock<Mover>,
    sessions: Arc<Sessions>,
    connections: AtomicUsize,
    left: Notify,
    /// Connections of balancers' own that asked for nothing.
    balancer_checks: AtomicU64,
}

impl Gate {
    pub fn new(live: Live, recorder: Recorder) -> Arc<Self> {
        let limits = Limits::new(&live.config.limits);
        let pressure = Pressure::new(&live.config.pressure);
        let (stopper, drain) = Stopper::new();
        Arc::new(Self {
            ruling: Arc::new(ArcSwap::from_pointee(ruling(&live))),
            live: ArcSwap::from_pointee(live),
            reloads: watch::Sender::new(0),
            verdicts: Verdicts::default(),
            limits,
            pressure,
            recorder,
            stopper,
            drain,
            mover: OnceLock::new(),
            sessions: Arc::default(),
            connections: AtomicUsize::new(0),
            left: Notify::new(),
            balancer_checks: AtomicU64::new(0),
        })
    }

    /// Puts another configuration in force, for new attempts, for every request of the inspected connections that are open,
    /// and for the tunnels, each of which asks it whether it may go on.
    pub fn replace(&self, live: Live) {
        self.limits.reconfigure(&live.config.limits);
        self.pressure.reconfigure(&live.config.pressure);
        self.ruling.store(Arc::new(ruling(&live)));
        self.live.store(Arc::new(live));
        self.ask_anew();
    }

    /// Has every tunnel ask whether it may go on.
    pub fn ask_anew(&self) {
        self.reloads.send_modify(|count| *count += 1);
        self.sessions.ring();
    }

    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    pub fn ruling(&self) -> &Arc<ArcSwap<Ruling>> {
        &self.ruling
    }

    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.reloads.subscribe()
    }

    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    pub fn pressure(&self) -> &Arc<Pressure> {
        &self.pressure
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// What is being relayed.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Another process has taken over. Tunnels go there by `mover`; without it they end with this process.
    pub fn move_out(&self, mover: Option<Mover>) {
        if let Some(mover) = mover {
            // There is one only, since a service moves once.
            self.mover.get_or_init(|| mover);
        }
        self.stopper.move_out();
        self.sessions.ring();
    }

    /// Nothing new is taken up; what runs may finish.
    pub fn begin_draining(&self) {
        self.stopper.drain();
        self.sessions.ring();
    }

    /// What still runs ends now.
    pub fn cut(&self) {
        self.stopper.cut();
        self.sessions.ring();
    }

    pub(super) fn mover(&self) -> Option<&Mover> {
        self.mover.get()
    }

    /// A slot and a place for the client, or why there is none. Under pressure who has its share comes first to be turned away, so
    /// that one who asks for much does not take the place of one who asks for little.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit(&self, client: &Client) -> Result<(Admission, Newcomer), NotAdmitted> {
        if self.drain.is_draining() {
            return Err(NotAdmitted::ShuttingDown);
        }
        let sheds = match self.pressure.state() {
            Load::Normal => false,
            Load::Shedding => self.limits.has_share(client.addr()),
            Load::Refusing => true,
        };
        if sheds {
            self.pressure.count(Shed::Connections);
            return Err(NotAdmitted::Overloaded);
        }
        let live = self.live.load();
        let admission = self.limits.admit(client.addr(), live.config.policy.group_of(client.addr()))?;
        let newcomer = self.pressure.newcomer().ok_or_else(|| {
            self.pressure.count(Shed::Connections);
            NotAdmitted::Overloaded
        })?;
        Ok((admission, newcomer))
    }

    /// Whether `peer` is a balancer that is believed on this listener, by the configuration of this moment.
    pub fn balancer(&self, listener: ListenAddr, peer: ClientAddr) -> Option<BalancerAddr> {
        self.live.load().config.balancers.balancer(listener, peer)
    }

    /// A balancer looked whether somebody listens, and asked for nothing: counted and not recorded, as it does so every second.
    pub fn balancer_checked(&self) {
        self.balancer_checks.fetch_add(1, Ordering::Relaxed);
    }

    pub fn balancer_checks(&self) -> u64 {
        self.balancer_checks.load(Ordering::Relaxed)
    }

    /// Whether the record lets new work begin.
    ///
    /// # Errors
    /// `record_unavailable`.
    pub fn recordable(&self) -> Result<(), Reason> {
        match self.recorder.state() {
            State::Writable | State::Unwritable(WhenUnwritable::Continue) => Ok(()),
            State::Unwritable(WhenUnwritable::Deny) => Err(Reason::RecordUnavailable),
        }
    }

    /// Counts a connection for as long as the value lives.
    pub fn enter(self: &Arc<Self>) -> Present {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Present(Arc::clone(self))
    }

    /// Connections open now, those that are being turned away included.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Resolves when no connection is open.
    pub async fn idle(&self) {
        loop {
            let left = self.left.notified();
            if self.connections() == 0 {
                return;
            }
            left.await;
        }
    }
}

fn ruling(live: &Live) -> Ruling {
    Ruling { policy: Arc::clone(&live.config.policy), revision: Arc::clone(&live.config.revision) }
}

/// A connection that is there, from its accept to its end.
pub struct Present(Arc<Gate>);

impl Present {
    pub fn gate(&self) -> &Arc<Gate> {
        &self.0
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        if self.0.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.left.notify_waiters();
        }
    }
}
