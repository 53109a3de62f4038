//! Limits on who may come in, and how fast. A slot is a value: [`Admission`] holds it for the connection's whole life, a
//! tunnel's included, and gives it back when it is dropped; there is no `release`.
//!
//! Everything here is bounded: open counts exist only for clients with an open connection, and the rate limiters' key stores
//! hold at most [`MAX_KEYS`] clients, of whom only those as good as new are ever forgotten, so that an abuser cannot be made
//! to be forgotten by a flood of keys (`threats.md` H04).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::addrs::ClientAddr;
use crate::reason::Reason;

/// Clients one rate limiter remembers. Past it, new clients share one bucket.
pub const MAX_KEYS: usize = 65_536;

/// Connections that are nobody's share yet: about what a browser opens for one page.
const FREE: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Connections of all clients together.
    pub connections: usize,
    pub per_client: PerClient,
}

/// Limits of one client address; IPv6 is counted by /64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerClient {
    pub connections: usize,
    pub new_connections_per_second: NonZeroU32,
    pub burst: NonZeroU32,
    /// Inspected requests.
    pub requests_per_second: NonZeroU32,
}

/// Whom a limit counts as one: an IPv4 address, or an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey(IpAddr);

impl ClientKey {
    pub fn of(client: ClientAddr) -> Self {
        Self(match client.ip() {
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The process's limits; one for all listeners.
pub struct Limits {
    open: AtomicUsize,
    per_client: Mutex<HashMap<ClientKey, usize>>,
    rates: ArcSwap<Rates>,
}

struct Rates {
    settings: Settings,
    connections: Bucket,
    requests: Bucket,
}

/// A held slot.
pub struct Admission {
    limits: Arc<Limits>,
    key: ClientKey,
}

impl Limits {
    pub fn new(settings: Settings) -> Arc<Self> {
        let rates = ArcSwap::from_pointee(Rates::new(settings));
        Arc::new(Self { open: AtomicUsize::new(0), per_client: Mutex::default(), rates })
    }

    /// Takes up new settings. Held slots stay; a rate that did not change keeps what it knows of its clients.
    pub fn reconfigure(&self, settings: Settings) {
        if self.rates.load().settings != settings {
            self.rates.store(Arc::new(Rates::new(settings)));
        }
    }

    /// A slot for a connection just accepted, or why there is none. The rate is asked first: what is over it costs nothing more.
    ///
    /// # Errors
    /// `rate_limited`, `too_many_connections` of this client or of all.
    pub fn admit(self: &Arc<Self>, client: ClientAddr) -> Result<Admission, Reason> {
        let key = ClientKey::of(client);
        let rates = self.rates.load();
        if !rates.connections.takes(key) {
            return Err(Reason::RateLimited);
        }
        let total = rates.settings.connections;
        if self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < total).then_some(open + 1))
            .is_err()
        {
            return Err(Reason::TooManyConnections);
        }
        let mut clients = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        let held = clients.entry(key).or_default();
        if *held >= rates.settings.per_client.connections {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::TooManyConnectionsOfClient);
        }
        *held += 1;
        Ok(Admission { limits: Arc::clone(self), key })
    }

    /// Whether the client holds as many connections as the mean of those who hold any, or more. Below [`FREE`] it never does.
    pub fn has_share(&self, client: ClientAddr) -> bool {
        let clients = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        let held = clients.get(&ClientKey::of(client)).copied().unwrap_or(0);
        held >= FREE && held.saturating_mul(clients.len()) >= self.open()
    }

    /// Whether the client may claim once more on a connection it holds: charged as a new connection is.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn claim(&self, client: ClientAddr) -> Result<(), Reason> {
        if self.rates.load().connections.takes(ClientKey::of(client)) { Ok(()) } else { Err(Reason::RateLimited) }
    }

    /// Whether the client may make one more inspected request now.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn request(&self, client: ClientAddr) -> Result<(), Reason> {
        if self.rates.load().requests.takes(ClientKey::of(client)) { Ok(()) } else { Err(Reason::RateLimited) }
    }

    /// Slots held now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.limits.open.fetch_sub(1, Ordering::Relaxed);
        let mut clients = self.limits.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = clients.get_mut(&self.key) {
            *held -= 1;
            if *held == 0 {
                clients.remove(&self.key);
            }
        }
    }
}

impl Rates {
    fn new(settings: Settings) -> Self {
        let per_client = &settings.per_client;
        let connections = Quota::per_second(per_client.new_connections_per_second).allow_burst(per_client.burst);
        let requests = Quota::per_second(per_client.requests_per_second);
        Self { connections: Bucket::new(connections), requests: Bucket::new(requests), settings }
    }
}

type Store = HashMapStateStore<ClientKey, BuildHasherDefault<DefaultHasher>>;

/// A token bucket per client, with one shared bucket for the clients past [`MAX_KEYS`].
struct Bucket {
    keyed: RateLimiter<ClientKey, Store, DefaultClock>,
    overflow: governor::DefaultDirectRateLimiter,
    began: Instant,
    /// Milliseconds since `began` of the last sweep: a flood of keys must not make every request sweep.
    swept: AtomicU64,
}

impl Bucket {
    fn new(quota: Quota) -> Self {
        let clock = DefaultClock::default();
        let keyed = RateLimiter::new(quota, Store::default(), clock);
        Self { keyed, overflow: RateLimiter::direct(quota), began: Instant::now(), swept: AtomicU64::new(0) }
    }

    fn takes(&self, key: ClientKey) -> bool {
        if self.keyed.len() >= MAX_KEYS && !self.sweep() {
            return self.overflow.check().is_ok();
        }
        self.keyed.check_key(&key).is_ok()
    }

    /// Forgets clients whose bucket is full again, at most once a second; whether there is room now.
    fn sweep(&self) -> bool {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.swept.load(Ordering::Relaxed);
        if now.saturating_sub(last) >= 1000
            && self.swept.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.keyed.retain_recent();
        }
        self.keyed.len() < MAX_KEYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(connections: usize, of_client: usize, rate: u32, burst: u32) -> Settings {
        let n = |n| NonZeroU32::new(n).expect("positive");
        let per_client = PerClient {
            connections: of_client,
            new_connections_per_second: n(rate),
            burst: n(burst),
            requests_per_second: n(rate),
        };
        Settings { connections, per_client }
    }

    fn client(text: &str) -> ClientAddr {
        ClientAddr::new(format!("{text}:1").parse().expect(text))
    }

    #[test]
    fn a_slot_is_given_back_when_its_admission_is_dropped() {
        let limits = Limits::new(settings(3, 2, 1000, 1000));
        let first = limits.admit(client("10.0.0.1")).expect("first");
        let second = limits.admit(client("10.0.0.1")).expect("second");
        assert_eq!(limits.admit(client("10.0.0.1")).err(), Some(Reason::TooManyConnectionsOfClient));
        let other = limits.admit(client("10.0.0.2")).expect("other");
        assert_eq!(limits.admit(client("10.0.0.3")).err(), Some(Reason::TooManyConnections));
        drop(first);
        assert!(limits.admit(client("10.0.0.1")).is_ok());
        drop((second, other));
        assert_eq!(limits.open(), 0);
        assert!(limits.per_client.lock().expect("lock").is_empty());
    }

    #[test]
    fn h03_a_share_is_the_mean_of_those_who_hold_any() {
        let limits = Limits::new(settings(1000, 1000, 1000, 1000));
        let hold = |who: &str, n| -> Vec<_> { (0..n).map(|_| limits.admit(client(who)).expect("a slot")).collect() };
        let seven = hold("10.0.0.1", 7);
        assert!(!limits.has_share(client("10.0.0.1")), "few are nobody's share");
        let eight = hold("10.0.0.1", 1);
        assert!(limits.has_share(client("10.0.0.1")), "alone, all there are are its share");
        let many = hold("10.0.0.2", 9);
        assert!(!limits.has_share(client("10.0.0.1")), "8 of 17 by two");
        assert!(limits.has_share(client("10.0.0.2")));
        assert!(!limits.has_share(client("10.0.0.3")), "a newcomer");
        drop((seven, eight, many));
        assert!(!limits.has_share(client("10.0.0.2")));
    }

    #[test]
    fn the_rate_of_new_connections_is_a_burst_then_a_stream() {
        let limits = Limits::new(settings(100, 100, 1, 3));
        let slots: Vec<_> = (0..3).map(|_| limits.admit(client("10.0.0.1")).expect("burst")).collect();
        assert_eq!(limits.admit(client("10.0.0.1")).err(), Some(Reason::RateLimited));
        assert!(limits.admit(client("10.0.0.2")).is_ok());
        drop(slots);
        assert_eq!(
            limits.admit(client("10.0.0.1")).err(),
            Some(Reason::RateLimited),
            "a closed connection was still new"
        );
    }

    #[test]
    fn ipv6_is_counted_by_its_64_prefix_and_mapped_addresses_as_ipv4() {
        let limits = Limits::new(settings(100, 1, 1000, 1000));
        let _held = limits.admit(client("[fd00:20::1]")).expect("first of the prefix");
        assert_eq!(limits.admit(client("[fd00:20::2]")).err(), Some(Reason::TooManyConnectionsOfClient));
        assert!(limits.admit(client("[fd00:20:0:1::1]")).is_ok());
        let _mapped = limits.admit(client("[::ffff:10.0.0.9]")).expect("mapped");
        assert_eq!(limits.admit(client("10.0.0.9")).err(), Some(Reason::TooManyConnectionsOfClient));
    }

    #[test]
    fn h04_the_key_store_is_bounded_and_an_abuser_is_not_forgotten() {
        let bucket = Bucket::new(Quota::per_second(NonZeroU32::MIN));
        let abuser = ClientKey(IpAddr::from([10, 255, 255, 255]));
        assert!(bucket.takes(abuser));
        for n in 0..u32::try_from(MAX_KEYS * 2).expect("fits") {
            bucket.takes(ClientKey(IpAddr::from(n.to_be_bytes())));
        }
        assert!(bucket.keyed.len() <= MAX_KEYS);
        assert!(!bucket.takes(abuser));
    }
}
