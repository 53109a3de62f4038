//! What is counted, and the figures made of it. No clock is read here: a caller says when a second is over.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Failure;
use crate::locks::Mutex;

/// Latencies above this count as this; no request is waited for longer.
const LONGEST: Duration = Duration::from_secs(600);
/// Significant figures of a latency.
const FIGURES: u8 = 3;

/// Latencies in microseconds.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let longest = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
        Self(
            Histogram::new_with_bounds(1, longest, FIGURES).expect("1 is below ten minutes, and 3 figures are allowed"),
        )
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("every histogram here has the same bounds");
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this share of all (0 to 1) does not exceed, in microseconds; 0 where there is none.
    pub fn at(&self, share: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_quantile(share) }
    }

    /// Shares of all and their latencies, as far as so many latencies can tell them apart; the last is the largest.
    pub fn curve(&self) -> Vec<(f64, u64)> {
        const SHARES: [f64; 18] =
            [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999];
        let all = self.count() as f64;
        let told = SHARES.into_iter().filter(|share| all * (1.0 - share) >= 1.0);
        told.map(|share| (share, self.at(share).min(self.0.max()))).collect()
    }

    pub fn percentiles(&self) -> Percentiles {
        let max = if self.0.is_empty() { 0 } else { self.0.max() };
        // A percentile stands for a bucket's upper end, which may lie above the largest value in it.
        let at = |share| self.at(share).min(max);
        Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

/// Microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// Failures by kind, with the first sentence of each.
pub type Errors = BTreeMap<Cow<'static, str>, (u64, String)>;

/// Everything that was counted between two moments.
#[derive(Debug, Clone, Default)]
pub struct Interval {
    pub requests: u64,
    pub errors: Errors,
    pub connections: u64,
    pub received: u64,
    pub sent: u64,
    pub latency: Latencies,
    /// How late the generator itself was with what it meant to begin (open loop).
    pub lag: Latencies,
}

impl Interval {
    pub fn failures(&self) -> u64 {
        self.errors.values().map(|(count, _)| count).sum()
    }

    fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.connections += other.connections;
        self.received += other.received;
        self.sent += other.sent;
        self.latency.merge(&other.latency);
        self.lag.merge(&other.lag);
        for (kind, (count, first)) in other.errors {
            self.errors.entry(kind).or_insert((0, first)).0 += count;
        }
    }
}

/// The counts of one thread, taken away by the collector each second.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Interval>);

impl Tally {
    fn with(&self, change: impl FnOnce(&mut Interval)) {
        change(&mut self.0.lock());
    }

    pub fn succeeded(&self, latency: Duration) {
        self.with(|interval| {
            interval.requests += 1;
            interval.latency.record(latency);
        });
    }

    pub fn failed(&self, failure: Failure) {
        self.with(|interval| interval.errors.entry(failure.kind).or_insert((0, failure.text)).0 += 1);
    }

    pub fn connected(&self) {
        self.with(|interval| interval.connections += 1);
    }

    pub fn received(&self, octets: u64) {
        self.with(|interval| interval.received += octets);
    }

    pub fn sent(&self, octets: u64) {
        self.with(|interval| interval.sent += octets);
    }

    pub fn lagged(&self, lag: Duration) {
        self.with(|interval| interval.lag.record(lag));
    }

    /// Everything since the last time.
    pub fn take(&self) -> Interval {
        std::mem::take(&mut self.0.lock())
    }
}

/// One second of a run, the last one perhaps shorter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Second {
    /// From the start to the end of this one.
    pub at: f64,
    /// How long it was.
    pub seconds: f64,
    pub requests: u64,
    pub errors: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub p50_us: u64,
    pub p99_us: u64,
}

/// A run so far.
#[derive(Debug, Default)]
pub struct Collector {
    pub total: Interval,
    pub per_second: Vec<Second>,
}

impl Collector {
    /// Counts before the start: connections opened, and those that could not be.
    pub fn prepared(&mut self, tallies: &[std::sync::Arc<Tally>]) {
        tallies.iter().for_each(|tally| self.total.merge(tally.take()));
    }

    /// Ends a second, `at` after the start.
    pub fn second(&mut self, tallies: &[std::sync::Arc<Tally>], at: Duration) {
        let mut interval = Interval::default();
        tallies.iter().for_each(|tally| interval.merge(tally.take()));
        let before = self.per_second.last().map_or(0.0, |second| second.at);
        let Percentiles { p50, p99, .. } = interval.latency.percentiles();
        self.per_second.push(Second {
            at: at.as_secs_f64(),
            seconds: at.as_secs_f64() - before,
            requests: interval.requests,
            errors: interval.failures(),
            bytes_received: interval.received,
            bytes_sent: interval.sent,
            p50_us: p50,
            p99_us: p99,
        });
        self.total.merge(interval);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn percentiles_are_right_to_three_figures() {
        let mut latencies = Latencies::default();
        (1..=100_000).for_each(|microseconds| latencies.record(Duration::from_micros(microseconds)));
        let Percentiles { p50, p90, p99, p999, max } = latencies.percentiles();
        for (found, exact) in [(p50, 50_000), (p90, 90_000), (p99, 99_000), (p999, 99_900), (max, 100_000)] {
            assert!(found.abs_diff(exact) * 1_000 <= exact, "{found} for {exact}");
        }
        assert_eq!(Latencies::default().percentiles(), Percentiles::default());
    }

    #[test]
    fn no_percentile_is_above_the_largest() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_micros(123_457));
        let Percentiles { p50, p999, max, .. } = latencies.percentiles();
        assert!(p50 <= max && p999 <= max && max.abs_diff(123_457) <= 124, "{p50} {p999} {max}");
        latencies.record(Duration::from_secs(86_400));
        assert!(latencies.percentiles().max >= 600_000_000, "what takes too long is counted as the longest");
    }

    #[test]
    fn a_curve_shows_no_share_that_so_few_cannot_tell() {
        let mut latencies = Latencies::default();
        (0..100).for_each(|n| latencies.record(Duration::from_micros(100 + n)));
        let curve = latencies.curve();
        assert_eq!(curve.last().map(|(share, _)| *share), Some(0.99));
        assert!(curve.is_sorted_by(|a, b| a.1 <= b.1));
        assert!(Latencies::default().curve().is_empty());
    }

    #[test]
    fn seconds_of_several_threads_add_up_to_the_total() {
        let tallies = [Arc::new(Tally::default()), Arc::new(Tally::default())];
        let mut collector = Collector::default();
        tallies[0].connected();
        collector.prepared(&tallies);
        for second in 1..=3_u64 {
            for (number, tally) in (1_u64..).zip(&tallies) {
                (0..second).for_each(|_| tally.succeeded(Duration::from_millis(10 * number)));
                tally.received(13);
                tally.failed(Failure::new("closed", format!("of second {second}")));
            }
            collector.second(&tallies, Duration::from_secs(second));
        }
        assert_eq!(collector.per_second.iter().map(|second| second.requests).collect::<Vec<_>>(), [2, 4, 6]);
        assert!(collector.per_second.iter().all(|second| second.errors == 2 && second.bytes_received == 26));
        assert_eq!((collector.total.requests, collector.total.connections, collector.total.failures()), (12, 1, 6));
        assert_eq!(collector.total.errors["closed"], (6, "of second 1".to_owned()), "the first is kept");
        assert_eq!(collector.total.latency.count(), 12);
    }
}
