//! The meters of the clients: a bounded store that forgets only what is as good as new.
//!
//! A flood of keys (`threats.md` H04) can neither make it grow past [`MAX_KEYS`] nor push an abuser out: who holds a slot or has
//! used a rate stays. Where it is full of such, those who are not in it yet are one client together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::rate::{Metered, Tick};
use crate::addrs::ClientAddr;
use crate::locks::Mutex;

/// Clients that are told apart. Past it, new ones share one meter.
pub const MAX_KEYS: usize = 65_536;

/// Clients up to which forgetting is not worth the look.
const FEW: usize = 1_024;
/// Nanoseconds between two looks for what can be forgotten: a flood of keys must not make every connection look.
const BETWEEN: u64 = 1_000_000_000;

/// Whom a limit counts as one: an IPv4 address, or the IPv6 addresses of one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey(u128);

/// Of all who are not told apart: the unspecified address, which no client has.
pub(super) const STRANGERS: ClientKey = ClientKey(0);

impl ClientKey {
    pub(super) fn of(client: ClientAddr, ipv6_prefix: u8) -> Self {
        match client.ip() {
            IpAddr::V6(ip) => {
                let host = 128_u32.saturating_sub(ipv6_prefix.into());
                Self(ip.to_bits() & u128::MAX.checked_shl(host).unwrap_or(0))
            }
            // In the form of a mapped address, which no ClientAddr of IPv6 has.
            IpAddr::V4(ip) => Self(ip.to_ipv6_mapped().to_bits()),
        }
    }
}

pub(super) struct Clients {
    known: Mutex<Known>,
    /// Of all who are not known while there is no room.
    strangers: Metered,
}

struct Known {
    /// Keyed by chance, so that no one can choose keys that collide.
    meters: HashMap<ClientKey, Metered>,
    /// So many, and it is looked for what can be forgotten.
    look_at: usize,
    looked: Tick,
}

impl Clients {
    pub(super) fn new(now: Tick) -> Self {
        let known = Known { meters: HashMap::new(), look_at: FEW, looked: now };
        Self { known: Mutex::new(known), strangers: Metered::default() }
    }

    /// The client's meter, made where it is new.
    pub(super) fn meter(&self, key: ClientKey, now: Tick) -> Metered {
        let mut known = self.known.lock();
        if let Some(meter) = known.meters.get(&key) {
            return meter.clone();
        }
        if known.meters.len() >= known.look_at {
            known.forget(now);
        }
        if known.meters.len() >= MAX_KEYS {
            return self.strangers.clone();
        }
        known.meters.entry(key).or_insert_with(|| Metered::of(key)).clone()
    }

    pub(super) fn len(&self) -> usize {
        self.known.lock().meters.len()
    }
}

impl Known {
    /// Forgets the clients nobody holds the meter of and that have used nothing they would not have again, at most once a
    /// second. The next look is due when there are twice as many as stay.
    fn forget(&mut self, now: Tick) {
        if now.nanoseconds().saturating_sub(self.looked.nanoseconds()) < BETWEEN {
            return;
        }
        self.looked = now;
        self.meters.retain(|_, meter| Arc::strong_count(&meter.0) > 1 || !meter.0.is_as_new(now));
        self.look_at = (self.meters.len() * 2).clamp(FEW, MAX_KEYS);
        self.meters.shrink_to(self.look_at);
    }
}
