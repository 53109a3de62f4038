//! A rate of octets and what those who share it have moved and not paid for yet.
//!
//! All who owe pay at the same time, each the same part of the rate (generalized processor sharing; Parekh and Gallager, 1993): one with
//! hundreds of connections pays no faster than one with one, and who owes nothing waits for nobody. The parts of those who owe
//! nothing fall to the others. So that this takes no look at each of them, what is kept is how much each has paid who owed all
//! the time; a bill ends at a point of that scale, which moves with nobody's coming and going.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::clients::{ClientKey, MAX_KEYS, STRANGERS};
use super::rate::Tick;

/// So much of a rate, in nanoseconds, may be unpaid: what keeps a fast connection from waiting for every read.
const CREDIT: u128 = 250_000_000;
/// The turns of all who share a rate take this part of a second together.
const TURNS: u64 = 8;
/// The least octets of a turn.
pub(super) const LEAST: u64 = 1024;
/// Of one octet: what a rate of one octet a second pays in a nanosecond is one.
const PARTS: u128 = 1_000_000_000;

/// The end of a bill, in parts of octets on the ledger's scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u128);

/// One way of one who is limited.
#[derive(Default)]
pub(super) struct Ledger {
    /// Settled up to here, in nanoseconds.
    until: u64,
    /// The rate it was settled at last, in octets a second.
    rate: u64,
    /// Paid by each who owed all the time, in parts of octets.
    paid: u128,
    /// Where the bill of each ends who owes; the next to have paid is first.
    ends: BTreeSet<(Place, ClientKey)>,
    owing: HashMap<ClientKey, Place>,
}

impl Ledger {
    /// Puts octets that were moved at the end of the client's bill.
    pub(super) fn bill(&mut self, client: ClientKey, octets: usize, rate: u64, now: Tick) -> Place {
        self.settle(rate, now);
        let client = self.known(client);
        let begin = self.end(client);
        let end = Place(begin.0.saturating_add((octets as u128).saturating_mul(PARTS)));
        if end.0 > self.paid {
            self.ends.remove(&(begin, client));
            self.ends.insert((end, client));
            self.owing.insert(client, end);
        }
        end
    }

    /// Where the client's bill ends as it is: behind it is the place of a connection that has moved nothing.
    pub(super) fn end_of(&mut self, client: ClientKey, rate: u64, now: Tick) -> Place {
        self.settle(rate, now);
        self.end(self.known(client))
    }

    /// How long until it is paid up to `place`, but for the credit, if nobody comes or goes.
    pub(super) fn wait(&mut self, place: Place, rate: u64, now: Tick) -> Duration {
        self.settle(rate, now);
        let owed = place.0.saturating_sub(self.paid).saturating_mul(self.sharers());
        let nanoseconds = (owed / u128::from(rate.max(1))).saturating_sub(CREDIT);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Octets of one turn of one of the client's `connections`.
    pub(super) fn portion(&self, connections: u32, rate: u64) -> usize {
        let turns = u128::from(TURNS) * self.sharers() * u128::from(connections.max(1));
        usize::try_from((u128::from(rate) / turns).max(LEAST.into())).unwrap_or(usize::MAX)
    }

    /// Whether nobody owes anything, at the rate it was asked with last.
    pub(super) fn is_paid(&mut self, now: Tick) -> bool {
        self.settle(self.rate, now);
        self.owing.is_empty()
    }

    /// Those who are not in a full ledger are one together, as they are in the store of meters.
    fn known(&self, client: ClientKey) -> ClientKey {
        if self.owing.len() < MAX_KEYS || self.owing.contains_key(&client) { client } else { STRANGERS }
    }

    fn end(&self, client: ClientKey) -> Place {
        self.owing.get(&client).copied().unwrap_or(Place(self.paid))
    }

    fn sharers(&self) -> u128 {
        self.owing.len().max(1) as u128
    }

    /// Divides what the rate has paid since among those who owed. What is lost by rounding is below a millionth of an octet for
    /// each of them.
    fn settle(&mut self, rate: u64, now: Tick) {
        self.rate = rate;
        let (now, rate) = (now.nanoseconds(), u128::from(rate.max(1)));
        while let Some(&(first, client)) = self.ends.first() {
            let sharers = self.sharers();
            let paid = u128::from(now.saturating_sub(self.until)).saturating_mul(rate);
            let until_first = first.0.saturating_sub(self.paid).saturating_mul(sharers);
            if paid < until_first {
                self.paid += paid / sharers;
                break;
            }
            self.until = self.until.saturating_add(u64::try_from(until_first.div_ceil(rate)).unwrap_or(u64::MAX));
            self.paid = first.0;
            self.ends.pop_first();
            self.owing.remove(&client);
        }
        self.until = self.until.max(now);
        if self.owing.is_empty() {
            // A flood of clients leaves no room behind.
            self.owing.shrink_to(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn key(n: u64) -> ClientKey {
        ClientKey::of(crate::addrs::ClientAddr::new((std::net::Ipv6Addr::from_bits(u128::from(n) << 64), 1).into()), 64)
    }

    fn seconds(wait: Duration) -> f64 {
        (wait.as_secs_f64() * 1e6).round() / 1e6
    }

    #[test]
    fn those_who_owe_pay_equal_parts_and_what_one_does_not_need_falls_to_the_others() {
        let mut ledger = Ledger::default();
        let bill = |ledger: &mut Ledger, client, octets| ledger.bill(key(client), octets, 100, Tick::at(0));
        let (a, b, c) = (bill(&mut ledger, 1, 100), bill(&mut ledger, 2, 300), bill(&mut ledger, 3, 500));
        let paid = |ledger: &mut Ledger, at: f64| {
            let now = Tick::at((at * 1e9) as u64);
            [a, b, c].map(|place| ledger.wait(place, 100, now).is_zero())
        };
        // 100 each are paid at 3 s, 200 more of two at 7 s, the last 200 at 9 s; a quarter of a second before that is credit.
        for (at, expected) in [
            (2.74, [false, false, false]),
            (2.76, [true, false, false]),
            (6.74, [true, false, false]),
            (6.76, [true, true, false]),
            (8.74, [true, true, false]),
            (8.76, [true, true, true]),
        ] {
            assert_eq!(paid(&mut ledger, at), expected, "at {at}");
        }
        assert!(!ledger.is_paid(Tick::at(9 * SECOND - 1)));
        assert!(ledger.is_paid(Tick::at(9 * SECOND + 1_000)), "but for what is lost by rounding");
    }

    #[test]
    fn h02_who_owes_nothing_does_not_wait_for_who_owes_much() {
        let mut ledger = Ledger::default();
        for _ in 0..400 {
            ledger.bill(key(1), 1_000_000, 1_000_000, Tick::at(0));
        }
        let greedy = ledger.end_of(key(1), 1_000_000, Tick::at(0));
        let new = ledger.end_of(key(2), 1_000_000, Tick::at(0));
        assert_eq!(seconds(ledger.wait(greedy, 1_000_000, Tick::at(0))), 399.75);
        assert_eq!(seconds(ledger.wait(new, 1_000_000, Tick::at(0))), 0.0);
        // A second of the whole rate is two of its half.
        let end = ledger.bill(key(2), 1_000_000, 1_000_000, Tick::at(0));
        assert_eq!(seconds(ledger.wait(end, 1_000_000, Tick::at(0))), 1.75);
        assert_eq!(seconds(ledger.wait(greedy, 1_000_000, Tick::at(2 * SECOND))), 398.75);
    }

    #[test]
    fn what_was_moved_under_one_rate_is_paid_at_the_one_in_force() {
        let mut ledger = Ledger::default();
        let end = ledger.bill(key(1), 100_000, 1_000, Tick::at(0));
        assert_eq!(seconds(ledger.wait(end, 1_000, Tick::at(0))), 99.75);
        assert_eq!(seconds(ledger.wait(end, 1_000_000, Tick::at(0))), 0.0);
        assert_eq!(seconds(ledger.wait(end, 10, Tick::at(0))), 9999.75);
    }

    /// Whatever comes when: in all no more is paid than the rate allows, and while somebody owes no less.
    #[test]
    fn the_parts_are_the_rate() {
        let (mut ledger, mut dice) = (Ledger::default(), 1_u64);
        let mut random = |below: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % below
        };
        let rate = 1_000_000;
        let (mut now, mut billed) = (0, 0_u128);
        // So much at once that somebody owes to the end.
        ledger.bill(key(1_000), 100_000_000, rate, Tick::at(0));
        for _ in 0..10_000 {
            now += random(5_000_000);
            let octets = random(5_000);
            billed += u128::from(octets) * PARTS;
            ledger.bill(key(random(50)), octets as usize, rate, Tick::at(now));
        }
        let owed: u128 = ledger.owing.values().map(|end| end.0 - ledger.paid).sum();
        let paid = billed + 100_000_000 * PARTS - owed;
        let due = u128::from(now) * u128::from(rate);
        assert!(paid.abs_diff(due) < PARTS, "{paid} of {due}");
        assert_eq!(ledger.ends.len(), ledger.owing.len());
    }

    #[test]
    fn h04_a_full_ledger_takes_those_who_are_new_as_one() {
        let mut ledger = Ledger::default();
        for n in 0..MAX_KEYS as u64 + 1_000 {
            ledger.bill(key(n + 1), 10, 1, Tick::at(0));
        }
        assert_eq!(ledger.owing.len(), MAX_KEYS + 1);
        assert_eq!(ledger.owing.get(&STRANGERS).map(|end| end.0), Some(10_000 * PARTS));
        assert_eq!(ledger.end_of(key(1), 1, Tick::at(0)), Place(10 * PARTS), "who owed before is itself");
    }

    #[test]
    fn a_turn_is_shorter_the_more_take_one() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.portion(1, 8_000_000), 1_000_000);
        assert_eq!(ledger.portion(10, 8_000_000), 100_000);
        ledger.bill(key(1), 1, 1, Tick::at(0));
        ledger.bill(key(2), 1, 1, Tick::at(0));
        assert_eq!(ledger.portion(10, 8_000_000), 50_000);
        assert_eq!(ledger.portion(100_000, 8_000_000), 1024);
    }
}
