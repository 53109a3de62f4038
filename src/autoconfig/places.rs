//! Who may be connected: a client has a place of a client's while it has few, and a stranger one of a stranger's.
//!
//! Clients are told apart as `[limits]` tells them. Where every place is taken, the client who has had his longest leaves as soon as he
//! has had it for [`LEAST`], so that who holds on to places keeps others waiting for no longer than that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::admit::ClientKey;
use crate::locks::Mutex;

/// Connections of clients at a time.
const CONNECTIONS: usize = 256;
/// Of one client; more are refused.
const OF_ONE: usize = 8;
/// Connections of strangers; more are refused.
const STRANGERS: usize = 8;
/// A whole connection of a client's, from accept to close.
const LIFE: Duration = Duration::from_secs(30);
/// The same where another waits for a place: a script is sent in much less.
const LEAST: Duration = Duration::from_secs(2);
/// The same of a stranger's.
const STRANGERS_LIFE: Duration = Duration::from_secs(5);

/// The places of a listener.
pub(super) struct Places {
    clients: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    /// A permit for each who waits; to take it is to leave.
    wanted: Semaphore,
    /// Connections of each client that has any: no more than there are places, and the one that waits.
    visits: Mutex<HashMap<ClientKey, usize>>,
}

/// What a connection holds while it is open.
pub(super) struct Place {
    _slot: OwnedSemaphorePermit,
    /// `None`: a stranger's.
    visit: Option<Visit>,
}

/// One of the few connections of a client.
struct Visit {
    places: Arc<Places>,
    client: ClientKey,
}

impl Places {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            clients: Arc::new(Semaphore::new(CONNECTIONS)),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            wanted: Semaphore::new(0),
            visits: Mutex::default(),
        })
    }

    /// A place of a client's, which is waited for where all are taken; `None` at once for one too many of this client.
    pub(super) async fn client(self: &Arc<Self>, client: ClientKey) -> Option<Place> {
        let visit = self.visit(client)?;
        let slot = match Arc::clone(&self.clients).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                self.wanted.add_permits(1);
                let slot = Arc::clone(&self.clients).acquire_owned().await;
                // Somebody may have left of himself.
                self.wanted.forget_permits(1);
                slot.ok()?
            }
        };
        Some(Place { _slot: slot, visit: Some(visit) })
    }

    /// A place of a stranger's; `None` where all are taken.
    pub(super) fn stranger(&self) -> Option<Place> {
        let slot = Arc::clone(&self.strangers).try_acquire_owned().ok()?;
        Some(Place { _slot: slot, visit: None })
    }

    fn visit(self: &Arc<Self>, client: ClientKey) -> Option<Visit> {
        let mut visits = self.visits.lock();
        let count = visits.entry(client).or_default();
        if *count >= OF_ONE {
            return None;
        }
        *count += 1;
        drop(visits);
        Some(Visit { places: Arc::clone(self), client })
    }
}

impl Place {
    /// Takes as long as the place may be had. Where another waits for one, it is over for who has had his longest.
    pub(super) async fn over(&self) {
        let Some(visit) = &self.visit else { return sleep(STRANGERS_LIFE).await };
        let wanted = async {
            sleep(LEAST).await;
            if let Ok(wanted) = visit.places.wanted.acquire().await {
                wanted.forget();
            }
        };
        let _ = timeout(LIFE, wanted).await;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut visits = self.places.visits.lock();
        if let Some(count) = visits.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                visits.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;
    use crate::addrs::ClientAddr;
    use crate::admit::{Limits, Settings};

    /// As the limits count it where nothing is configured.
    fn key(ip: &str) -> ClientKey {
        let client = ClientAddr::new((ip.parse::<std::net::IpAddr>().expect(ip), 1).into());
        Limits::new(&Settings { ipv6_prefix: 64, ..Settings::unlimited() }).key_of(client)
    }

    #[tokio::test(start_paused = true)]
    async fn h03_one_client_has_few_places_however_many_addresses_of_its_network_it_has() {
        let places = Places::new();
        for ips in
            [vec!["10.20.0.1"; OF_ONE], (0..OF_ONE).map(|n| ["2001:db8:1:2::1", "2001:db8:1:2:f::"][n % 2]).collect()]
        {
            let mut held = Vec::new();
            for ip in &ips {
                held.push(places.client(key(ip)).await.expect("a place"));
            }
            let asked = Instant::now();
            assert!(places.client(key(ips[0])).await.is_none() && places.client(key(ips[1])).await.is_none());
            assert_eq!(asked.elapsed(), Duration::ZERO);
            assert!(places.client(key("10.20.0.2")).await.is_some());
            assert!(places.client(key("2001:db8:1:3::1")).await.is_some());
            drop(held.pop());
            assert!(places.client(key(ips[0])).await.is_some());
        }
        assert!(places.visits.lock().is_empty(), "all are gone");
        assert_eq!(
            (places.clients.available_permits(), places.strangers.available_permits()),
            (CONNECTIONS, STRANGERS)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn h03_strangers_and_clients_never_take_each_others_places() {
        let places = Places::new();
        let strangers: Vec<_> = std::iter::from_fn(|| places.stranger()).collect();
        assert_eq!(strangers.len(), STRANGERS);
        assert!(places.client(key("10.20.0.1")).await.is_some());
        let asked = Instant::now();
        strangers[0].over().await;
        assert_eq!(asked.elapsed(), STRANGERS_LIFE);
    }

    /// A connection that would stay for as long as it may.
    async fn holds_on(places: Arc<Places>, client: u32) -> u32 {
        let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + client).to_string();
        let place = places.client(key(&ip)).await.expect("a place");
        place.over().await;
        client
    }

    #[tokio::test(start_paused = true)]
    async fn h03_who_holds_on_to_every_place_keeps_others_waiting_for_two_seconds() {
        let places = Places::new();
        let mut held = JoinSet::new();
        let began = Instant::now();
        for n in 0..CONNECTIONS {
            held.spawn(holds_on(Arc::clone(&places), u32::try_from(n / OF_ONE).expect("few")));
            tokio::task::yield_now().await;
        }
        assert_eq!(places.clients.available_permits(), 0);
        // The first has to leave when he has had his least, the others then at once, as they are asked; in the order in which they came.
        let mut newcomers = Vec::new();
        for n in 0..=OF_ONE {
            newcomers.push(places.client(key(&format!("10.30.0.{n}"))).await.expect("a place"));
            assert_eq!(began.elapsed(), LEAST, "{n}");
            let left = held.join_next().await.expect("one").expect("ended");
            assert_eq!(left, u32::try_from(n / OF_ONE).expect("few"), "{n}");
        }
        // Nobody is asked in vain: the rest keep theirs to the end.
        assert_eq!(places.wanted.available_permits(), 0);
        while held.join_next().await.is_some() {}
        assert_eq!(began.elapsed(), LIFE);
        drop(newcomers);
        assert_eq!(places.clients.available_permits(), CONNECTIONS);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_of_himself_spares_the_others() {
        let places = Places::new();
        let mut held = Vec::new();
        for n in 0..CONNECTIONS {
            held.push(places.client(key(&format!("10.20.0.{}", n / OF_ONE))).await.expect("a place"));
        }
        let (newcomer, ()) = tokio::join!(places.client(key("10.30.0.1")), async { drop(held.pop()) });
        assert!(newcomer.is_some());
        let asked = Instant::now();
        held[0].over().await;
        assert_eq!(asked.elapsed(), LIFE);
    }
}
