//! The connections that are not established: they owe a head, a ClientHello or a handshake. Oldest first, so that who was slowest
//! is ended first where there has to be room. An established connection is no longer among them, and costs nothing here.
//!
//! Bounded by the slots: every one of them holds one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::memory::{Charge, ESTABLISHED, Memory, NEWCOMER};
use crate::locks::Mutex;

pub struct Newcomers {
    memory: Arc<Memory>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    /// By age.
    all: BTreeMap<u64, Arc<Entry>>,
}

struct Entry {
    number: u64,
    since: Instant,
    end: Notify,
    charge: Charge,
}

impl Newcomers {
    pub fn new(memory: Arc<Memory>) -> Self {
        Self { memory, waiting: Mutex::default() }
    }

    /// `None`: there is no memory for it.
    pub fn enter(self: &Arc<Self>) -> Option<Newcomer> {
        let charge = self.memory.charge(NEWCOMER)?;
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        let entry = Arc::new(Entry { number: waiting.last, since: Instant::now(), end: Notify::new(), charge });
        waiting.all.insert(entry.number, Arc::clone(&entry));
        drop(waiting);
        Some(Newcomer { newcomers: Arc::clone(self), entry })
    }

    pub fn len(&self) -> usize {
        self.waiting.lock().all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells the oldest to end, at most `number` and only those of at least `age`. How many those were.
    pub fn end_oldest(&self, number: usize, age: Duration) -> usize {
        let mut waiting = self.waiting.lock();
        let mut ended = 0;
        while ended < number {
            let Some(oldest) = waiting.all.first_entry().filter(|oldest| oldest.get().since.elapsed() >= age) else {
                break;
            };
            oldest.remove().end.notify_one();
            ended += 1;
        }
        ended
    }
}

/// One of them, until it is established or gone.
pub struct Newcomer {
    newcomers: Arc<Newcomers>,
    entry: Arc<Entry>,
}

impl Newcomer {
    /// Resolves when it is to end for want of room; never once it is established.
    pub async fn ended(&self) {
        self.entry.end.notified().await;
    }

    /// It owes nothing any more: nobody ends it, and it takes less.
    pub fn established(&self) {
        self.leave();
        self.entry.charge.shrink(ESTABLISHED);
    }

    fn leave(&self) {
        self.newcomers.waiting.lock().all.remove(&self.entry.number);
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newcomers() -> Arc<Newcomers> {
        Arc::new(Newcomers::new(Arc::new(Memory::new(0))))
    }

    async fn has_ended(newcomer: &Newcomer) -> bool {
        tokio::time::timeout(Duration::ZERO, newcomer.ended()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn h03_h05_the_oldest_are_ended_first_and_the_young_are_let_be() {
        let newcomers = newcomers();
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(newcomers.enter().expect("room"));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(newcomers.end_oldest(2, Duration::from_secs(4)), 1, "one is old enough");
        assert_eq!(newcomers.end_oldest(2, Duration::ZERO), 2);
        let mut ended = Vec::new();
        for newcomer in &all {
            ended.push(has_ended(newcomer).await);
        }
        assert_eq!(ended, [true, true, true, false]);
        assert_eq!(newcomers.len(), 1);
        drop(all);
        assert!(newcomers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn h03_who_is_established_is_never_ended_and_charged_less() {
        let newcomers = newcomers();
        let (young, old) = (newcomers.enter().expect("room"), newcomers.enter().expect("room"));
        old.established();
        assert_eq!(newcomers.memory.charged(), NEWCOMER + ESTABLISHED);
        assert_eq!(newcomers.end_oldest(10, Duration::ZERO), 1);
        assert!(has_ended(&young).await && !has_ended(&old).await);
        drop((young, old));
        assert_eq!(newcomers.memory.charged(), 0);
    }

    #[tokio::test]
    async fn f10_there_are_no_more_than_memory_has_room_for() {
        let memory = Memory::new(0);
        memory.set_ceiling(Some(NEWCOMER * 4));
        let newcomers = Arc::new(Newcomers::new(Arc::new(memory)));
        let held: Vec<_> = (0..5).map_while(|_| newcomers.enter()).collect();
        assert_eq!(held.len(), 3);
        drop(held);
        assert!(newcomers.enter().is_some());
    }
}
