//! The figures of a whole run: as JSON, whose keys are an interface, and as text for a terminal.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::run::Outcome;
use super::tally::{Percentiles, Second};
use super::{Plan, Scenario};

/// Every key stands in [`manual::load`](crate::manual::load).
#[derive(Debug, Serialize)]
pub struct Summary {
    pub scenario: &'static str,
    pub via: &'static str,
    /// What came out as it should; failures are in `errors` and not here.
    pub requests: u64,
    pub errors: BTreeMap<Cow<'static, str>, u64>,
    /// From the start, when every connection that could be opened beforehand was open, to the last answer.
    pub seconds: f64,
    /// Octets of content, heads and TLS not counted.
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub latency_us: Percentiles,
    /// TLS connections opened, those before the start included; refused ones are not.
    pub connections: u64,
    pub per_second: Vec<Second>,
    /// Opening the connections before the start.
    pub opening_seconds: f64,
    /// Requests per second that were meant to begin; absent in the closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// How late the generator began requests; absent in the closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_lag_us: Option<Percentiles>,
    pub generator_threads: usize,
    pub generator_cpu_seconds: f64,
    /// Why the figures say more about this tool than about the proxy; absent where they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
    /// A sentence about the first failure of each kind.
    #[serde(skip)]
    pub firsts: BTreeMap<Cow<'static, str>, String>,
    /// Shares of the requests, and the microseconds that none of them exceeded.
    #[serde(skip)]
    pub curve: Vec<(f64, u64)>,
}

/// A generator that is later than this for one request in a hundred measures itself. Microseconds.
const LATE: u64 = 2_000;
/// A thread of the generator that computes for more than this share of the time has no reserve.
const BUSY: f64 = 0.95;

impl Summary {
    pub fn of(plan: &Plan, outcome: &Outcome) -> Self {
        let total = &outcome.collector.total;
        let seconds = outcome.elapsed.as_secs_f64();
        let cpu = outcome.cpu.as_secs_f64();
        let lag = (total.lag.count() > 0).then(|| total.lag.percentiles());
        Self {
            scenario: plan.scenario.as_str(),
            via: plan.via.as_str(),
            requests: total.requests,
            errors: total.errors.iter().map(|(kind, (count, _))| (kind.clone(), *count)).collect(),
            seconds,
            bytes_received: total.received,
            bytes_sent: total.sent,
            latency_us: total.latency.percentiles(),
            connections: total.connections,
            per_second: outcome.collector.per_second.clone(),
            opening_seconds: outcome.opening.as_secs_f64(),
            rate: plan.rate,
            generator_lag_us: lag,
            generator_threads: outcome.threads,
            generator_cpu_seconds: cpu,
            invalid: lag.and_then(|lag| invalid(lag, cpu, seconds * outcome.threads as f64)),
            curve: total.latency.curve(),
            firsts: total.errors.iter().map(|(kind, (_, first))| (kind.clone(), first.clone())).collect(),
        }
    }

    /// One line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("no map key but text, and no number that JSON has not")
    }

    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.seconds.max(1e-9)
    }

    pub fn to_text(&self) -> String {
        let Percentiles { p50, p90, p99, p999, max } = self.latency_us;
        let megabits = |octets: u64| octets as f64 * 8.0 / 1e6 / self.seconds.max(1e-9);
        let mut text = format!(
            "{} via {}: {} requests in {:.2} s, {:.1}/s, {} connections\n\
             latency  p50 {p50} µs  p90 {p90} µs  p99 {p99} µs  p99.9 {p999} µs  max {max} µs\n\
             content  received {} octets ({:.1} Mbit/s), sent {} ({:.1} Mbit/s)\n",
            self.scenario,
            self.via,
            self.requests,
            self.seconds,
            self.requests_per_second(),
            self.connections,
            self.bytes_received,
            megabits(self.bytes_received),
            self.bytes_sent,
            megabits(self.bytes_sent),
        );
        if self.scenario == Scenario::Idle.as_str() {
            let _ = writeln!(
                text,
                "opening  {:.2} s; the latency is that of the one request at the end",
                self.opening_seconds
            );
        }
        if let Some(lag) = self.generator_lag_us {
            let rate = self.rate.map_or_else(|| "each client's own pace".to_owned(), |rate| format!("{rate}/s"));
            let _ =
                writeln!(text, "open loop at {rate}; the generator was late by p50 {} µs, p99 {} µs", lag.p50, lag.p99);
        }
        if let Some(why) = &self.invalid {
            let _ = writeln!(text, "INVALID  {why}");
        }
        if self.errors.is_empty() {
            text += "errors   none\n";
        }
        for (kind, count) in &self.errors {
            let _ = writeln!(
                text,
                "errors   {count} {kind}; the first: {}",
                self.firsts.get(kind).map_or("", |first| first)
            );
        }
        text
    }
}

fn invalid(lag: Percentiles, cpu: f64, available: f64) -> Option<String> {
    if lag.p99 > LATE {
        let p99 = lag.p99;
        return Some(format!(
            "the generator could not keep up: one request in a hundred began {p99} µs late or more. Lower --rate (office: --connections), or run it on another machine"
        ));
    }
    let share = cpu / available.max(1e-9);
    (share > BUSY).then(|| {
        format!("the generator computed for {:.0} % of its time and had no reserve. Lower --rate (office: --connections), or run it on another machine", share * 100.0)
    })
}
