//! What waits to be written, and what becomes of it when it cannot be: the queue without its lock.
//!
//! Lines lie back to back in one buffer, which the writer swaps for an empty one; a line gets its number as it is laid there, so
//! the order of the file is the order of the numbers. Threads, waiting and waking are in `shared`, the file in `writer`.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use crate::reason::{Outcome, Reason};
use crate::record::aggregate::{Aggregate, Kind};
use crate::record::counts::{Action, Conservation, Snapshot};
use crate::record::fields::Fields;
use crate::record::flood::Floods;
use crate::record::lifecycle::{Lifecycle, lifecycle};
use crate::record::{RecordError, Settings, line};

/// Lines the queue holds before attempts have to wait; at 10,000 attempts a second, most of a second.
pub(super) const CAPACITY: usize = 8192;
/// The same in octets, for lines that a hostile client made long.
pub(super) const CAPACITY_BYTES: usize = 16 << 20;
/// As many lines as are worth waking the writer for at once.
const BATCH: usize = 1024;

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) action: Action,
    pub(super) outcome: Outcome,
    /// A line of its beginning stands in the record, and one of its end is due by itself.
    pub(super) established: bool,
}

/// A time in which the file cannot be written.
struct Outage {
    at: SystemTime,
    since: Instant,
    error: String,
}

/// An order to write elsewhere.
pub(super) struct Switch {
    pub(super) to: To,
    pub(super) reply: oneshot::Sender<Result<(), RecordError>>,
}

/// Where.
pub(super) enum To {
    /// The same path, opened anew.
    Reopened,
    File(Settings),
    /// Nowhere for now: another process is to take the file, which is lent to it by this.
    Nowhere(oneshot::Sender<OwnedFd>),
    /// To that process, which has the file now.
    Process(UnixStream),
    /// The file again: nobody has taken it.
    Itself,
}

/// The end of the run has been asked for.
pub(super) struct Closing {
    /// When to give up what can still not be written.
    pub(super) deadline: Instant,
    /// The last line, which stands only behind everything else.
    pub(super) stop: Option<Box<Fields>>,
}

/// What the writer is asleep for, by which the others know whether waking it is worth a system call.
#[derive(PartialEq, Eq)]
enum Asleep {
    No,
    UntilAnything,
    UntilBatch,
}

/// What became of an event that was handed in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    /// Counted; its line comes at the end of its flood's window, or when the file can be written again.
    Aggregated,
    /// The writer has been told to finish: counted as lost.
    Late,
}

pub(super) struct Queue {
    lines: Vec<u8>,
    queued: usize,
    in_hand: usize,
    in_hand_bytes: usize,
    /// The number given last.
    sequence: u64,
    /// The number written last: lines are written in order.
    written: u64,
    /// Of the lines not written that stand for several events: their numbers, and how many more than one each stands for.
    several: VecDeque<(u64, u64)>,
    outage: Option<Outage>,
    outages: Duration,
    aggregates: BTreeMap<Kind, Aggregate>,
    aggregated: u64,
    floods: Floods,
    lost: u64,
    connections: Conservation,
    requests: Conservation,
    /// Terminal records by reason.
    reasons: BTreeMap<Reason, u64>,
    asleep: Asleep,
    /// Somebody waits for what is queued.
    pub(super) hurry: bool,
    /// Nothing is written for now.
    pub(super) held: bool,
    pub(super) switches: VecDeque<Switch>,
    pub(super) closing: Option<Closing>,
    pub(super) finished: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            lines: Vec::new(),
            queued: 0,
            in_hand: 0,
            in_hand_bytes: 0,
            sequence: 0,
            written: 0,
            several: VecDeque::new(),
            outage: None,
            outages: Duration::ZERO,
            aggregates: BTreeMap::new(),
            aggregated: 0,
            floods: Floods::default(),
            lost: 0,
            connections: Conservation::default(),
            requests: Conservation::default(),
            reasons: BTreeMap::new(),
            asleep: Asleep::No,
            hurry: false,
            held: false,
            switches: VecDeque::new(),
            closing: None,
            finished: false,
        }
    }

    fn is_full(&self) -> bool {
        self.queued + self.in_hand >= CAPACITY || self.lines.len() + self.in_hand_bytes >= CAPACITY_BYTES
    }

    pub(super) fn attempts(&mut self, action: Action) -> &mut Conservation {
        match action {
            Action::Connection => &mut self.connections,
            Action::Request => &mut self.requests,
        }
    }

    /// Whether whoever begins an attempt must wait. Nobody waits for a file that cannot be written.
    pub(super) fn waits(&self) -> bool {
        self.is_full() && self.outage.is_none() && self.closing.is_none()
    }

    /// Counts an attempt as begun; false where it must wait.
    pub(super) fn admit(&mut self, action: Action) -> bool {
        let waits = self.waits();
        if !waits {
            self.attempts(action).begin();
        }
        !waits
    }

    /// Counts an attempt as ended and takes its terminal line, which `body` is, or counts it into one that stands for several.
    pub(super) fn end(&mut self, ended: Ended, fields: &Fields, body: &[u8]) -> Pushed {
        self.attempts(ended.action).end(ended.outcome);
        if let Some(reason) = fields.reason {
            self.count_reason(reason, 1);
        }
        if ended.outcome == Outcome::Denied && !ended.established && self.closing.is_none() {
            let now = Instant::now();
            self.settle_due(now);
            if self.floods.gathers(ended.action, fields, now) {
                return Pushed::Aggregated;
            }
        }
        self.push(Kind::of(fields), 1, body)
    }

    pub(super) fn count_reason(&mut self, reason: Reason, count: u64) {
        *self.reasons.entry(reason).or_default() += count;
    }

    /// Takes a line that stands for `count` events, or counts them where there is no room because the file cannot be written.
    pub(super) fn push(&mut self, kind: Kind, count: u64, body: &[u8]) -> Pushed {
        if self.closing.is_some() {
            self.lost += count;
            return Pushed::Late;
        }
        if kind.lifecycle.is_some() {
            self.settle(Instant::now());
        }
        if self.outage.is_some() && self.is_full() {
            self.aggregate(kind, count);
            return Pushed::Aggregated;
        }
        self.lay(count, |out| out.extend_from_slice(body));
        Pushed::Queued
    }

    /// Lays a line of the record's own, whatever the state.
    pub(super) fn push_own(&mut self, fields: &Fields) {
        self.lay(fields.rare.count.unwrap_or(1), |out| fields.write_body(out));
    }

    fn lay(&mut self, count: u64, body: impl FnOnce(&mut Vec<u8>)) {
        self.sequence += 1;
        if count > 1 {
            self.several.push_back((self.sequence, count - 1));
        }
        line::head(&mut self.lines, self.sequence);
        body(&mut self.lines);
        self.queued += 1;
    }

    /// Lays the lines of the floods whose window is over.
    pub(super) fn settle_due(&mut self, now: Instant) {
        if self.floods.is_over(now) {
            self.settle(now);
        }
    }

    /// Lays the lines of the floods as far as they have come.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut floods = std::mem::take(&mut self.floods);
        floods.turn(now, |fields, count| {
            if self.outage.is_some() && self.is_full() {
                return self.aggregate(Kind::of(fields), count);
            }
            self.push_own(fields);
            self.aggregated += if count > 1 { count } else { 0 };
        });
        self.floods = floods;
    }

    fn aggregate(&mut self, kind: Kind, count: u64) {
        self.aggregates.entry(kind).or_insert_with(Aggregate::new).add(count);
        self.aggregated += count;
    }

    /// Moves what is queued behind what the writer has in `batch`.
    pub(super) fn take(&mut self, batch: &mut Vec<u8>) {
        if batch.is_empty() {
            std::mem::swap(&mut self.lines, batch);
            shrink(&mut self.lines);
        } else {
            batch.append(&mut self.lines);
        }
        self.in_hand += std::mem::take(&mut self.queued);
        self.in_hand_bytes = batch.len();
    }

    /// `lines` of what is in hand have been written, `bytes_left` octets are left.
    pub(super) fn wrote(&mut self, lines: usize, bytes_left: usize) {
        self.in_hand = self.in_hand.saturating_sub(lines);
        self.in_hand_bytes = bytes_left;
        self.written += lines as u64;
        let written = self.several.partition_point(|(number, _)| *number <= self.written);
        self.several.drain(..written);
    }

    /// Events that are not written, and of which each has its line or is to be in one.
    pub(super) fn unwritten(&self) -> u64 {
        let lines = (self.queued + self.in_hand) as u64;
        let counted: u64 = self.aggregates.values().map(|aggregate| aggregate.count).sum();
        lines + self.several.iter().map(|(_, more)| more).sum::<u64>() + counted + self.floods.pending()
    }

    /// The file cannot be written. True where it could before.
    pub(super) fn fail(&mut self, error: &str) -> bool {
        if let Some(outage) = &mut self.outage {
            error.clone_into(&mut outage.error);
            return false;
        }
        self.outage = Some(Outage { at: SystemTime::now(), since: Instant::now(), error: error.to_owned() });
        true
    }

    /// The file can be written: lays the lines of what was only counted, and one that says how long it was. `None` where there
    /// was no outage.
    pub(super) fn recover(&mut self) -> Option<Duration> {
        let outage = self.outage.take()?;
        let lasted = outage.since.elapsed();
        self.outages += lasted;
        let mut counted = 0;
        for (kind, aggregate) in std::mem::take(&mut self.aggregates) {
            counted += aggregate.count;
            self.push_own(&aggregate.fields(kind));
        }
        let message = format!(
            "The record could not be written for {:.1} s: {}. {counted} events of that time stand in it as counts only.",
            lasted.as_secs_f64(),
            outage.error
        );
        let mut fields = lifecycle(Lifecycle::RecordRecovered, &message);
        fields.at = Some(outage.at);
        fields.duration = Some(lasted);
        self.push_own(&fields);
        Some(lasted)
    }

    /// Everything not yet written is given up. Returns how many events that is.
    pub(super) fn give_up(&mut self) -> u64 {
        let given_up = self.unwritten();
        (self.queued, self.in_hand) = (0, 0);
        (self.aggregates, self.floods) = (BTreeMap::new(), Floods::default());
        self.several.clear();
        self.lost += given_up;
        given_up
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0 && self.in_hand == 0
    }

    pub(super) fn is_failing(&self) -> bool {
        self.outage.is_some()
    }

    pub(super) fn last_sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn last_written(&self) -> u64 {
        self.written
    }

    /// Whether the writer has nothing to do. Notes that it sleeps.
    pub(super) fn sleeps(&mut self) -> bool {
        let idle = self.queued == 0 && self.floods.pending() == 0 && self.switches.is_empty() && self.closing.is_none();
        self.asleep = if idle { Asleep::UntilAnything } else { Asleep::No };
        idle
    }

    /// Whether the writer does well to wait for more lines. Notes that it sleeps.
    pub(super) fn lingers(&mut self) -> bool {
        let urgent = self.hurry || !self.switches.is_empty() || self.closing.is_some();
        let lingers = !urgent && self.queued < BATCH;
        self.asleep = if lingers { Asleep::UntilBatch } else { Asleep::No };
        lingers
    }

    pub(super) fn is_awake(&mut self) {
        self.asleep = Asleep::No;
    }

    /// Whether a line just laid is a reason to wake the writer.
    pub(super) fn wakes(&mut self) -> bool {
        let wakes = match self.asleep {
            Asleep::No => false,
            Asleep::UntilAnything => true,
            Asleep::UntilBatch => self.queued >= BATCH,
        };
        if wakes {
            self.asleep = Asleep::No;
        }
        wakes
    }

    pub(super) fn reasons(&self) -> Vec<(Reason, u64)> {
        self.reasons.iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let present = self.outage.as_ref().map_or(Duration::ZERO, |outage| outage.since.elapsed());
        Snapshot {
            connections: self.connections,
            requests: self.requests,
            lines_written: self.written,
            queue_length: self.queued + self.in_hand,
            aggregated: self.aggregated,
            lost: self.lost,
            unwritable: self.outages + present,
        }
    }
}

/// A buffer that a flood made large is not kept so.
fn shrink(empty: &mut Vec<u8>) {
    const KEPT: usize = 1 << 20;
    if empty.capacity() > KEPT {
        *empty = Vec::new();
    }
}

#[cfg(test)]
mod tests;
