//! How many converse on the control socket at a time, and how often who may not is recorded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

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
    complaints: Mutex<HashMap<u32, (Instant, u64)>>,
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

    /// Whether a user without a role is to be recorded now, and then how often he came since the last time. Users beyond those that
    /// are remembered are one.
    pub(super) fn complain(&self, user: u32, now: Instant) -> Option<u64> {
        let mut complaints = self.complaints.lock();
        let is_new = !complaints.contains_key(&user);
        if is_new && complaints.len() >= COMPLAINERS {
            complaints.retain(|_, (at, _)| now.duration_since(*at) < COMPLAINT);
        }
        let crowded = is_new && complaints.len() >= COMPLAINERS;
        match complaints.entry(if crowded { u32::MAX } else { user }) {
            Entry::Vacant(vacant) => {
                vacant.insert((now, 0));
                Some(0)
            }
            Entry::Occupied(mut known) => {
                let (at, more) = known.get_mut();
                if now.duration_since(*at) < COMPLAINT {
                    *more += 1;
                    return None;
                }
                *at = now;
                Some(std::mem::take(more))
            }
        }
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

    #[test]
    fn who_may_not_is_recorded_once_a_second_and_counted() {
        let (crowd, now) = (Crowd::default(), Instant::now());
        let after = |millis| now + Duration::from_millis(millis);
        assert_eq!(crowd.complain(7, now), Some(0));
        assert_eq!([crowd.complain(7, after(1)), crowd.complain(7, after(999))], [None, None]);
        assert_eq!(crowd.complain(8, after(999)), Some(0));
        assert_eq!(crowd.complain(7, after(1000)), Some(2));
        assert_eq!(crowd.complain(7, after(2000)), Some(0));
        for user in 100..10_000 {
            let _ = crowd.complain(user, after(2500));
        }
        assert!(crowd.complaints.lock().len() <= COMPLAINERS + 1);
        assert!(crowd.complain(4, after(9000)).is_some(), "who was quiet for long is forgotten");
    }
}
