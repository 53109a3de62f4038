//! The queue with its lock: what the proxy's tasks and the writer thread share, and how they wait for one another.
//!
//! A task takes the lock twice per attempt and copies one line under it. It wakes the writer (a system call) only when that is
//! asleep for want of anything, not for each line: the writer lets lines gather for [`LINGER`]. What the queue decides is in
//! `queue`, what is done with the file in `writer`.

use std::cell::RefCell;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::error::Unspecified;
use tokio::sync::Notify;

use crate::reason::Reason;
use crate::record::aggregate::Kind;
use crate::record::counts::{Action, Snapshot};
use crate::record::fields::Fields;
use crate::record::handover::Relayed;
use crate::record::id::EventIds;
use crate::record::lifecycle::{Lifecycle, lifecycle};
use crate::record::queue::{Closing, Ended, Pushed, Queue, Switch};
use crate::record::{State, WhenUnwritable};

/// How long the first line of a batch waits for others: far below the second within which it has to be in the file.
const LINGER: Duration = Duration::from_millis(50);
/// How long after a failure the file is tried again.
const RETRY: Duration = Duration::from_millis(250);

pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// There is something for the writer.
    work: Condvar,
    /// The writer has finished.
    finished: Condvar,
    /// The writer got on, or failed, or recovered.
    progress: Notify,
    unwritable: AtomicBool,
    deny: AtomicBool,
    pub(super) ids: EventIds,
}

/// What the writer is to do next.
pub(super) enum Task {
    Write,
    Switch(Switch),
    /// Write everything, then end; give up at the instant.
    Finish(Instant),
}

/// Whether the writer may end.
pub(super) enum Rest {
    Nothing,
    More,
}

impl Shared {
    pub(super) fn new(when_unwritable: WhenUnwritable) -> Result<Self, Unspecified> {
        let shared = Self {
            queue: Mutex::new(Queue::new()),
            work: Condvar::new(),
            finished: Condvar::new(),
            progress: Notify::new(),
            unwritable: AtomicBool::new(false),
            deny: AtomicBool::new(false),
            ids: EventIds::new()?,
        };
        shared.set_when_unwritable(when_unwritable);
        Ok(shared)
    }

    /// A poisoned lock is taken as it is: nothing under it can panic half-way, and the record has to outlive any panic.
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_when_unwritable(&self, when: WhenUnwritable) {
        self.deny.store(when == WhenUnwritable::Deny, Ordering::Release);
    }

    pub(super) fn state(&self) -> State {
        if !self.unwritable.load(Ordering::Acquire) {
            return State::Writable;
        }
        let deny = self.deny.load(Ordering::Acquire);
        State::Unwritable(if deny { WhenUnwritable::Deny } else { WhenUnwritable::Continue })
    }

    pub(super) fn reasons(&self) -> Vec<(Reason, u64)> {
        self.lock().reasons()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.lock().snapshot()
    }

    // For the tasks.

    /// Waits for room and counts the attempt as begun.
    pub(super) async fn admit(&self, action: Action) {
        self.until(|queue| queue.admit(action).then_some(())).await;
    }

    /// Waits for room, and counts nothing.
    pub(super) async fn room(&self) {
        self.until(|queue| (!queue.waits()).then_some(())).await;
    }

    /// Waits until everything handed in before is in the file. Lines that are only counted are written at the recovery, so there
    /// is nothing to wait up to before it.
    pub(super) async fn flush(&self) {
        let mut target = None;
        self.until(|queue| {
            if target.is_none() && !queue.is_failing() {
                queue.settle(Instant::now());
                target = Some(queue.last_sequence());
            }
            let done = target.is_some_and(|target| queue.last_written() >= target) || queue.finished;
            if !done {
                queue.hurry = true;
                self.work.notify_one();
            }
            done.then_some(())
        })
        .await;
    }

    /// Asks `test` under the lock, now and after each progress of the writer, until it gives something.
    pub(super) async fn until<T>(&self, mut test: impl FnMut(&mut Queue) -> Option<T>) -> T {
        loop {
            if let Some(answer) = test(&mut self.lock()) {
                return answer;
            }
            let mut progress = pin!(self.progress.notified());
            progress.as_mut().enable();
            // Once more: the progress may have been made before the line above.
            if let Some(answer) = test(&mut self.lock()) {
                return answer;
            }
            progress.await;
        }
    }

    /// Hands in a line that ends no attempt.
    pub(super) fn push(&self, fields: &Fields) {
        self.hand_in(fields, None);
    }

    /// Hands in the terminal line of an attempt. Runs in `Drop`, also while a task unwinds: it neither waits nor panics.
    pub(super) fn end(&self, ended: Ended, fields: &Fields) {
        self.hand_in(fields, Some(ended));
    }

    /// Hands in a line of the process before.
    pub(super) fn relay(&self, relayed: &Relayed<'_>) {
        let mut queue = self.lock();
        queue.relay(relayed);
        if queue.wakes() {
            self.work.notify_one();
        }
    }

    fn hand_in(&self, fields: &Fields, ended: Option<Ended>) {
        let pushed = with_body(fields, |body| {
            let mut queue = self.lock();
            let pushed = match ended {
                Some(ended) => queue.end(ended, fields, body),
                None => queue.push(Kind::of(fields), 1, body),
            };
            if queue.wakes() {
                self.work.notify_one();
            }
            pushed
        });
        match pushed {
            Pushed::Queued | Pushed::Aggregated => {}
            Pushed::Late => tracing::error!(
                action = fields.action.unwrap_or_default(),
                reason = fields.reason.map_or("", |reason| reason.as_str()),
                "an event came after the record was closed and is not in it"
            ),
        }
    }

    pub(super) fn switch(&self, switch: Switch) {
        let mut queue = self.lock();
        // After the end nobody would answer; the sender is dropped and the caller told so.
        if !queue.finished {
            queue.switches.push_back(switch);
        }
        self.work.notify_one();
    }

    /// Tells the writer to finish; the first call counts.
    pub(super) fn close(&self, within: Duration, stop: Option<Box<Fields>>) {
        let mut queue = self.lock();
        if queue.closing.is_none() {
            queue.settle(Instant::now());
            queue.closing = Some(Closing { deadline: Instant::now() + within, stop });
        }
        self.work.notify_one();
        self.progress.notify_waiters();
    }

    /// Waits until the writer has finished, at most `within`. True where it has.
    pub(super) fn wait_finished(&self, within: Duration) -> bool {
        let waited = self.finished.wait_timeout_while(self.lock(), within, |queue| !queue.finished);
        waited.unwrap_or_else(PoisonError::into_inner).0.finished
    }

    // For the writer.

    /// Sleeps until there is something to do; `batch` is what could not be written so far, and gets what is to be written.
    pub(super) fn next(&self, batch: &mut Vec<u8>) -> Task {
        let mut queue = self.lock();
        if queue.held {
            let held = |queue: &mut Queue| queue.switches.is_empty() && queue.closing.is_none();
            queue = self.work.wait_while(queue, held).unwrap_or_else(PoisonError::into_inner);
            if let Some(switch) = queue.switches.pop_front() {
                return Task::Switch(switch);
            }
            // The end of the run: whatever is there goes into the file, if it can be had.
            queue.held = false;
        } else if queue.is_failing() {
            let closing = queue.closing.is_some();
            let sleeps = |queue: &mut Queue| queue.switches.is_empty() && queue.closing.is_some() == closing;
            queue = self.work.wait_timeout_while(queue, RETRY, sleeps).unwrap_or_else(PoisonError::into_inner).0;
        } else {
            queue = self.work.wait_while(queue, Queue::sleeps).unwrap_or_else(PoisonError::into_inner);
            queue =
                self.work.wait_timeout_while(queue, LINGER, Queue::lingers).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.is_awake();
        queue.hurry = false;
        queue.settle_due(Instant::now());
        if batch.is_empty() {
            queue.take(batch);
        }
        if let Some(switch) = queue.switches.pop_front() {
            return Task::Switch(switch);
        }
        queue.closing.as_ref().map_or(Task::Write, |closing| Task::Finish(closing.deadline))
    }

    /// Everything in hand has been written.
    pub(super) fn wrote_all(&self, lines: usize) {
        let mut queue = self.lock();
        queue.wrote(lines, 0);
        let recovered = queue.recover();
        self.unwritable.store(false, Ordering::Release);
        drop(queue);
        self.progress.notify_waiters();
        if let Some(lasted) = recovered {
            tracing::info!(seconds = lasted.as_secs_f64(), "the record can be written again; nothing of it was lost");
        }
    }

    /// Of what is in hand only `lines` have been written, because of `error`; `bytes_left` octets are left.
    pub(super) fn wrote_part(&self, lines: usize, bytes_left: usize, error: &str) {
        let mut queue = self.lock();
        queue.wrote(lines, bytes_left);
        let new = queue.fail(error);
        self.unwritable.store(true, Ordering::Release);
        drop(queue);
        self.progress.notify_waiters();
        if new {
            tracing::error!(
                error,
                "the record cannot be written; it is kept in memory and tried again four times a second"
            );
        }
    }

    /// Ends one file and begins the next: everything queued and `continued` go to `batch`, `reopen` becomes the first line of
    /// what follows.
    pub(super) fn part(&self, batch: &mut Vec<u8>, continued: Option<&Fields>, reopen: &Fields) {
        let mut queue = self.lock();
        queue.settle(Instant::now());
        if let Some(continued) = continued {
            queue.push_own(continued);
            queue.take(batch);
        }
        queue.push_own(reopen);
    }

    /// Completes the file for another process: everything queued and `continued` go to `batch`, what comes later is held.
    pub(super) fn let_go(&self, batch: &mut Vec<u8>, continued: &Fields) {
        let mut queue = self.lock();
        queue.settle(Instant::now());
        queue.push_own(continued);
        queue.take(batch);
        queue.held = true;
    }

    /// Writing goes on.
    pub(super) fn go_on(&self) {
        self.lock().held = false;
    }

    /// Whether anything is left to write at the end; lays the last line when nothing else is.
    pub(super) fn rest(&self) -> Rest {
        let mut queue = self.lock();
        if !queue.is_empty() {
            return Rest::More;
        }
        match queue.closing.as_mut().and_then(|closing| closing.stop.take()) {
            None => Rest::Nothing,
            Some(stop) => {
                queue.push_own(&stop);
                Rest::More
            }
        }
    }

    /// Gives up what is not written and lets everybody go who waits for it. Where nobody asked for the end the thread has
    /// panicked, and from then on nothing can be written.
    pub(super) fn finish(&self) {
        let mut queue = self.lock();
        if queue.closing.is_none() {
            queue.closing = Some(Closing { deadline: Instant::now(), stop: None });
            self.unwritable.store(true, Ordering::Release);
            tracing::error!(
                "the record's writer thread ended by a defect; nothing can be recorded until sekisho is started anew"
            );
        }
        let lost = queue.give_up();
        queue.finished = true;
        // Dropping an unanswered order tells its caller.
        queue.switches.clear();
        drop(queue);
        self.finished.notify_all();
        self.progress.notify_waiters();
        if lost > 0 {
            tracing::error!(
                lost,
                "the record was closed while it could not be written; that many events are not in it"
            );
        }
    }
}

/// The fields of the line that ends a run.
pub(super) fn stop_line() -> Box<Fields> {
    Box::new(lifecycle(Lifecycle::Stop, "sekisho stopped."))
}

thread_local! {
    static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes the line's body into this thread's buffer, outside the lock. A thread that is being torn down has none any more.
fn with_body<R>(fields: &Fields, then: impl FnOnce(&[u8]) -> R) -> R {
    let mut body = BODY.try_with(|kept| kept.take()).unwrap_or_default();
    body.clear();
    fields.write_body(&mut body);
    let result = then(&body);
    // The buffer is lost, not the line, where the thread has none to put it back into.
    let _ = BODY.try_with(|kept| kept.replace(body));
    result
}
