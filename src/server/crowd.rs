//! How many converse on the control socket at a time, and how often who may not is recorded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::control::role::Peer;
use crate::locks::Mutex;

/// Conversations at a time: of one user, of all, of all with those of the service's own user, and with those that are kept for root.
const OF_ONE: usize = 8;
const OF_ALL: usize = 48;
const WITH_ITSELF: usize = 56;
const WITH_ROOT: usize = 64;
/// How often a user without a role is recorded, and of how many users that is remembered.
const COMPLAINT: Duration = Duration::from_secs(1);
const COMPLAINERS: usize = 64;

/// Those who are there, by user.
#[derive(Default)]
pub(super) struct Crowd {
    held: Mutex<HashMap<u32, usize>>,
    complaints: Mutex<HashMap<u32, Complaint>>,
}

/// A user without a role.
struct Complaint {
    /// When that was recorded last.
    at: Instant,
    /// How often he has come since, and as whom the last time.
    more: Option<(u64, Peer)>,
}

/// A conversation's place, given back when it is dropped.
pub(super) struct Place {
    crowd: Arc<Crowd>,
    user: u32,
}

impl Crowd {
    /// `None`: too many are there. `service` is the user that the service runs as.
    pub(super) fn place(self: &Arc<Self>, user: u32, service: u32) -> Option<Place> {
        let mut held = self.held.lock();
        let (of_one, of_all) = match user {
            0 => (WITH_ROOT, WITH_ROOT),
            own if own == service => (WITH_ITSELF, WITH_ITSELF),
            _ => (OF_ONE, OF_ALL),
        };
        let of_user = held.get(&user).copied().unwrap_or(0);
        if of_user >= of_one || held.values().sum::<usize>() >= of_all {
            return None;
        }
        held.insert(user, of_user + 1);
        drop(held);
        Some(Place { crowd: Arc::clone(self), user })
    }

    /// Whether a user without a role is to be recorded now: once a second at most. How often he comes meanwhile is [due](Crowd::due) at
    /// its end. Users beyond those that are remembered are one.
    pub(super) fn complain(&self, peer: &Peer, now: Instant) -> bool {
        let mut complaints = self.complaints.lock();
        let is_new = !complaints.contains_key(&peer.user);
        if is_new && complaints.len() >= COMPLAINERS {
            complaints.retain(|_, complaint| complaint.more.is_some() || now < complaint.at + COMPLAINT);
        }
        let crowded = is_new && complaints.len() >= COMPLAINERS;
        match complaints.entry(if crowded { u32::MAX } else { peer.user }) {
            Entry::Vacant(vacant) => {
                vacant.insert(Complaint { at: now, more: None });
                true
            }
            Entry::Occupied(mut known) => {
                let Complaint { at, more } = known.get_mut();
                if more.is_none() && now >= *at + COMPLAINT {
                    *at = now;
                    return true;
                }
                *more = Some((more.as_ref().map_or(0, |(times, _)| *times) + 1, peer.clone()));
                false
            }
        }
    }

    /// When there is something to be recorded of users without a role. `None`: all is.
    pub(super) fn due(&self) -> Option<Instant> {
        let complaints = self.complaints.lock();
        complaints.values().filter(|complaint| complaint.more.is_some()).map(|complaint| complaint.at + COMPLAINT).min()
    }

    /// Of users without a role, how often each came since he was recorded, where that is a second ago, or at the `end` whenever it was.
    pub(super) fn complaints(&self, now: Instant, end: bool) -> Vec<(u64, Peer)> {
        let mut complaints = self.complaints.lock();
        let over = complaints.values_mut().filter(|complaint| end || now >= complaint.at + COMPLAINT);
        over.filter_map(|Complaint { at, more }| more.take().inspect(|_| *at = now)).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.crowd.held.lock();
        if let Entry::Occupied(mut of_user) = held.entry(self.user) {
            *of_user.get_mut() -= 1;
            if *of_user.get() == 0 {
                of_user.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_places_of_root() {
        let (crowd, service) = (Arc::new(Crowd::default()), 500);
        let mut places = Vec::new();
        for user in 1..=100 {
            for n in 0..OF_ONE + 1 {
                let place = crowd.place(user, service);
                assert_eq!(place.is_some(), n < OF_ONE && places.len() < OF_ALL, "user {user}, {n}");
                places.extend(place);
            }
        }
        for (user, most) in [(1, OF_ALL), (service, WITH_ITSELF), (0, WITH_ROOT)] {
            while let Some(place) = crowd.place(user, service) {
                places.push(place);
            }
            assert_eq!(places.len(), most, "user {user}");
        }
        drop(places);
        assert!(crowd.held.lock().is_empty(), "nothing is kept of who has left");
    }

    fn peer(user: u32) -> Peer {
        Peer { user, name: None, group: user, process: None }
    }

    #[test]
    fn who_may_not_is_recorded_once_a_second_and_counted_to_the_last() {
        let (crowd, now) = (Crowd::default(), Instant::now());
        let after = |millis| now + Duration::from_millis(millis);
        assert!(crowd.complain(&peer(7), now));
        assert_eq!((crowd.due(), crowd.complaints(after(9000), false)), (None, Vec::new()), "he came once");
        assert!(!crowd.complain(&peer(7), after(1)) && !crowd.complain(&peer(7), after(999)));
        assert!(crowd.complain(&peer(8), after(999)));
        assert_eq!((crowd.due(), crowd.complaints(after(999), false)), (Some(after(1000)), Vec::new()));
        // Not told yet, and he goes on: he is counted.
        assert!(!crowd.complain(&peer(7), after(1000)));
        assert_eq!(crowd.complaints(after(1001), false), [(3, peer(7))]);
        assert_eq!((crowd.due(), crowd.complaints(after(9000), false)), (None, Vec::new()), "once");
        assert!(!crowd.complain(&peer(7), after(2000)));
        assert_eq!(crowd.complaints(after(2000), true), [(1, peer(7))], "the end waits for nothing");
        assert!(crowd.complain(&peer(7), after(3000)));
        for user in 100..10_000 {
            let _ = crowd.complain(&peer(user), after(4500));
        }
        assert!(crowd.complaints.lock().len() <= COMPLAINERS + 1);
        let told: u64 = crowd.complaints(after(4500), true).iter().map(|(more, _)| more).sum();
        // One line for each user that is remembered, and one for all others.
        assert_eq!(told, 9_900 - u64::try_from(COMPLAINERS + 1).expect("few"));
        assert!(crowd.complain(&peer(4), after(9000)), "who was quiet for long is forgotten");
    }
}
