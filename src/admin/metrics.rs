//! The metrics, in the OpenMetrics text form. Labels are words of closed lists: nothing a client sends becomes one (M06).

use std::sync::atomic::AtomicU64;
use std::time::UNIX_EPOCH;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Views;
use crate::admit::Counted;
use crate::policy::Until;
use crate::pressure::State as Load;
use crate::reason::Outcome;
use crate::record::{Action, Conservation, State};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAction {
    action: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    action: Word,
    outcome: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByMode {
    mode: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRule {
    /// `rule.id` of the record: no name of a service stands in an answer.
    rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRuleAndState {
    rule: String,
    state: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLimit {
    limit: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLimitOf {
    limit: Word,
    whose: Word,
}

/// A word of a closed list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

/// Everything, as of now. The counters live where the work is done; this only writes them out.
pub(super) fn text(views: &Views) -> String {
    let mut registry = Registry::with_prefix("sekisho");
    attempts(&mut registry, views);
    record(&mut registry, views);
    service(&mut registry, views);
    self_probe(&mut registry, views);
    overload(&mut registry, views);
    limits(&mut registry, views);
    scripts(&mut registry, views);
    tenant_proof(&mut registry, views);
    registrations(&mut registry, views);
    revocation(&mut registry, views);
    let mut out = String::new();
    if let Err(error) = encode(&mut out, &registry) {
        tracing::error!(%error, "the metrics could not be written");
    }
    out
}

/// For each action: attempts = in progress + allowed + denied + failed, always.
fn attempts(registry: &mut Registry, views: &Views) {
    let snapshot = views.gate.recorder().snapshot();
    let started = Family::<ByAction, Counter>::default();
    let live = Family::<ByAction, Gauge>::default();
    let ended = Family::<ByOutcome, Counter>::default();
    for (action, counts) in [(Action::Connection, snapshot.connections), (Action::Request, snapshot.requests)] {
        let Conservation { started: begun, live: open, allowed, denied, failed, handed_over: _ } = counts;
        let action = Word(action.as_str());
        started.get_or_create(&ByAction { action: action.clone() }).inc_by(begun);
        live.get_or_create(&ByAction { action: action.clone() }).set(signed(open));
        for (outcome, count) in [(Outcome::Allowed, allowed), (Outcome::Denied, denied), (Outcome::Failed, failed)] {
            let labels = ByOutcome { action: action.clone(), outcome: Word(outcome.as_str()) };
            ended.get_or_create(&labels).inc_by(count);
        }
    }
    let reasons = Family::<ByReason, Counter>::default();
    for (reason, count) in views.gate.recorder().reasons() {
        reasons.get_or_create(&ByReason { reason: Word(reason.as_str()) }).inc_by(count);
    }
    registry.register("attempts", "Attempts begun, by action", started);
    registry.register("attempts_in_progress", "Attempts without a terminal record yet", live);
    registry.register("records", "Attempts with their terminal record, by action and outcome", ended);
    registry.register("reasons", "Terminal records by reason; those that ended normally have none", reasons);
}

fn record(registry: &mut Registry, views: &Views) {
    let snapshot = views.gate.recorder().snapshot();
    registry.register("record_lines", "Lines handed to the file system", counter(snapshot.lines_written));
    registry.register("record_queue_length", "Lines waiting to be written", gauge(snapshot.queue_length as u64));
    registry.register("record_aggregated", "Events recorded as part of a count", counter(snapshot.aggregated));
    registry.register("record_lost", "Events that could not be recorded", counter(snapshot.lost));
    let writable = u64::from(views.gate.recorder().state() == State::Writable);
    registry.register("record_writable", "1 while the record can be written", gauge(writable));
    let unwritable = snapshot.unwritable.as_secs();
    registry.register("record_unwritable_seconds", "Time the record could not be written", counter(unwritable));
}

fn service(registry: &mut Registry, views: &Views) {
    let (reloads, failed) = views.health.reloads();
    registry.register("reloads", "Reloads that took effect", counter(reloads));
    registry.register("reloads_failed", "Reloads that were refused", counter(failed));
    let last_good = views.health.last_good().is_some();
    let degraded = u64::from(views.health.degraded().is_some() || last_good);
    registry.register("degraded", "1 while the configuration in force is not the file's", gauge(degraded));
    let on_trial = u64::from(views.health.trial().is_some());
    registry.register("trial", "1 while a configuration is on trial", gauge(on_trial));
    let draining = "Sessions that processes which were taken over from have still";
    registry.register("draining_sessions", draining, gauge(views.health.draining()));
    registry.register("last_good", "1 while the last good configuration is in force", gauge(last_good.into()));
    let asked = Family::<ByResult, Counter>::default();
    let (done, refused) = views.health.control_requests();
    for (result, count) in [("done", done), ("refused", refused)] {
        asked.get_or_create(&ByResult { result: Word(result) }).inc_by(count);
    }
    registry.register("control_requests", "Requests on the control socket, by what became of them", asked);
    let numbers = views.gate.sessions().numbers();
    let sessions = Family::<ByMode, Gauge>::default();
    for (mode, number) in [("tunnel", numbers.tunnels), ("inspect", numbers.inspected), ("plain_http", numbers.plain)] {
        sessions.get_or_create(&ByMode { mode: Word(mode) }).set(signed(number));
    }
    registry.register("sessions", "Attempts being relayed, by mode", sessions);
    registry.register("connections", "Client connections open", gauge(views.gate.connections() as u64));
    let checks = counter(views.gate.balancer_checks());
    registry.register("balancer_checks", "Connections of balancers' own that asked for nothing; not attempts", checks);
    let admitted = views.gate.limits().held(Counted::Connections);
    registry.register("admitted", "Connection slots held", gauge(admitted.into()));
    let live = views.gate.live();
    let until = live.observance.until();
    let enforcement = Family::<ByMode, Gauge>::default();
    for (mode, now) in [("enforce", until.is_none()), ("observe", until.is_some())] {
        enforcement.get_or_create(&ByMode { mode: Word(mode) }).set(now.into());
    }
    registry.register("enforcement", "1 for the mode that holds: observe lets unlisted names through", enforcement);
    let until = gauge(until.map_or(0, Until::unix));
    registry.register("observe_until_seconds", "When observing ends, since 1970; 0 while enforcing", until);
    let leaves = live.leaves.as_ref().map_or(0, |leaves| leaves.len());
    registry.register("leaf_certificates", "Leaf certificates kept", gauge(leaves as u64));
    // Absent where there is none: nothing is inspected.
    if let Some(mints) = views.health.mints() {
        registry.register(
            "minting",
            "0 while the process with the issuing key gives no answer, and once it has ended",
            gauge(mints.into()),
        );
    }
    let restriction = Family::<ByKind, Gauge>::default();
    for (kind, why_not) in views.restriction.load().results() {
        restriction.get_or_create(&ByKind { kind: Word(kind.as_str()) }).set(why_not.is_none().into());
    }
    registry.register("restriction", "1 for what the process has given up, 0 where it could not", restriction);
    registry.register("build", "Version", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
}

fn scripts(registry: &mut Registry, views: &Views) {
    let requests = Family::<ByResult, Counter>::default();
    for (served, count) in views.scripts.each() {
        requests.get_or_create(&ByResult { result: Word(served.as_str()) }).inc_by(count);
    }
    registry.register("pac_requests", "Requests at the PAC listener, by what became of them", requests);
}

fn tenant_proof(registry: &mut Registry, views: &Views) {
    let tally = views.proof.tally();
    let proofs = Family::<ByResult, Counter>::default();
    for (result, count) in [("held", tally.held), ("failed", tally.failed)] {
        proofs.get_or_create(&ByResult { result: Word(result) }).inc_by(count);
    }
    registry.register("tenant_proofs", "Tenant proofs made, by what they came to", proofs);
    // Absent where there is nothing to prove: no number would be right.
    if let Some(holds) = views.proof.holds() {
        registry.register("tenant_proof", "0 while the last tenant proof did not hold", gauge(holds.into()));
        let hosts = gauge(views.proof.hosts() as u64);
        registry.register("tenant_proof_hosts", "Hosts with fields that the last tenant proof was about", hosts);
    }
    if let Some(at) = tally.last_held.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
        let text = "When a tenant proof last held, in seconds since 1970";
        registry.register("tenant_proof_held_timestamp_seconds", text, gauge(at.as_secs()));
    }
}

fn self_probe(registry: &mut Registry, views: &Views) {
    let (passed, failed) = views.health.probes();
    let probes = Family::<ByResult, Counter>::default();
    for (result, count) in [("passed", passed), ("failed", failed)] {
        probes.get_or_create(&ByResult { result: Word(result) }).inc_by(count);
    }
    let passing = u64::from(views.health.unproven().is_none());
    registry.register("self_probes", "Pairs of requests the service has sent through itself", probes);
    registry.register("self_probe_passing", "0 while they do not come out as they must", gauge(passing));
}

fn overload(registry: &mut Registry, views: &Views) {
    let pressure = views.gate.pressure();
    let (assessment, readings) = pressure.last();
    let states = Family::<ByState, Gauge>::default();
    for state in Load::ALL {
        let now = i64::from(state == assessment.state());
        states.get_or_create(&ByState { state: Word(state.as_str()) }).set(now);
    }
    let entered = Family::<ByState, Counter>::default();
    for (state, count) in pressure.entered() {
        entered.get_or_create(&ByState { state: Word(state.as_str()) }).inc_by(count);
    }
    let shed = Family::<ByKind, Counter>::default();
    for (kind, count) in pressure.shed() {
        shed.get_or_create(&ByKind { kind: Word(kind.as_str()) }).inc_by(count);
    }
    let delay = Gauge::<f64, AtomicU64>::default();
    delay.set(readings.delay.as_secs_f64());
    registry.register("overload", "1 for the state that holds", states);
    registry.register("overload_entered", "Changes to each state", entered);
    registry.register("shed", "What was turned away or ended for overload, by kind", shed);
    registry.register("queue_delay_seconds", "How long work has waited for its turn, for a second at least", delay);
    registry.register("descriptors", "Descriptors open", gauge(readings.descriptors));
    registry.register("descriptor_limit", "Descriptors there may be", gauge(readings.descriptor_limit));
    registry.register("memory_resident_bytes", "Resident memory", gauge(readings.resident));
    registry.register("memory_ceiling_bytes", "limits.memory", gauge(readings.ceiling));
    registry.register("memory_charged_bytes", "What connections and requests may take", gauge(readings.charged));
    registry.register("memory_budget_bytes", "What may be charged at most", gauge(readings.budget));
    registry.register("memory_refused", "Charges there was no room for", counter(pressure.memory().refused()));
    registry.register(
        "accept_backlog",
        "Connections that wait in the longest listener's queue",
        gauge(readings.backlog),
    );
    registry.register("newcomers", "Connections that are not established", gauge(readings.newcomers as u64));
}

fn limits(registry: &mut Registry, views: &Views) {
    let limits = views.gate.limits();
    let held = Family::<ByLimit, Gauge>::default();
    for what in Counted::ALL {
        let labels = ByLimit { limit: Word(what.limit().as_str()) };
        held.get_or_create(&labels).set(limits.held(what).into());
    }
    let reached = Family::<ByLimitOf, Counter>::default();
    for (limit, whose, count) in limits.reached() {
        let labels = ByLimitOf { limit: Word(limit.as_str()), whose: Word(whose.as_str()) };
        reached.get_or_create(&labels).inc_by(count);
    }
    registry.register("limit_held", "Held now of what is limited, by all clients together", held);
    registry.register(
        "limit_reached",
        "How often a limit refused something, or slowed octets, by whose it was",
        reached,
    );
    registry.register(
        "limit_clients",
        "Clients whose use of their limits is remembered",
        gauge(limits.clients() as u64),
    );
}

/// Of the services whose ISMAP registration is asked for or stated: at most as many as there are services.
fn registrations(registry: &mut Registry, views: &Views) {
    let live = views.gate.live();
    let states = Family::<ByRuleAndState, Gauge>::default();
    let ends = Family::<ByRule, Gauge>::default();
    let refused = Family::<ByRule, Gauge>::default();
    let stated = &live.config.approvals.services;
    let mut services = live.config.policy.services();
    for approval in stated {
        let rule = approval.rule.clone();
        let registration = &approval.registration;
        let labels = ByRuleAndState { rule: rule.clone(), state: Word(registration.state.as_str()) };
        states.get_or_create(&labels).set(1);
        if let Some(end) = registration.ends_at() {
            ends.get_or_create(&ByRule { rule: rule.clone() }).set(end);
        }
        // Both are in the order of the file.
        let approved = services.find(|service| service.id == rule).is_none_or(|service| service.approved);
        refused.get_or_create(&ByRule { rule }).set(i64::from(!approved));
    }
    if stated.is_empty() {
        return;
    }
    registry.register(
        "ismap_state",
        "1 for the state of the service's registration that the configuration has",
        states,
    );
    registry.register("ismap_valid_until_timestamp_seconds", "When the registration's last day is over", ends);
    registry.register("ismap_refused", "1 while the service is refused, because its registration is over", refused);
}

/// Absent where there are no CRLs.
fn revocation(registry: &mut Registry, views: &Views) {
    let live = views.gate.live();
    let first = live.config.verify.trust.first_next_update();
    if let Some(end) = first.and_then(|end| end.duration_since(UNIX_EPOCH).ok()) {
        let text = "The earliest nextUpdate of the revocation lists, in seconds since 1970";
        registry.register("crl_next_update_timestamp_seconds", text, gauge(end.as_secs()));
    }
}

fn counter(value: u64) -> Counter {
    let counter = Counter::default();
    counter.inc_by(value);
    counter
}

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(signed(value));
    gauge
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
