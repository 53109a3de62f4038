//! A bounded cache whose values are made once: concurrent askers of one key share one run of the work.
//!
//! DNS answers, verdicts on certificates and issued leaves are kept here. The work runs in a task of its own, so that a client
//! that leaves can neither cancel it for the others nor leave it half done; what may be kept, and how long, the work itself
//! says. Both the kept values and the runs are bounded (threats.md H06, H11). No knowledge of what is cached lives here.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::locks::Mutex;
use crate::reason::Reason;

/// How long a value may be answered from the cache, said by the work that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Until(Instant),
    /// Until then, but a value that is still good is not replaced: for a refresh that failed by accident.
    IfNoneHeld(Instant),
    /// Only those who are waiting get it.
    Not,
}

/// What becomes of a value that is asked for near its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ageing {
    /// It is answered until its end, and then made anew while the asker waits.
    Expire,
    /// From the last fifth of its life on, being asked for also makes it anew in the background.
    Refresh,
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlightError {
    #[error(
        "too many different look-ups are running at once; they are bounded so that a flood cannot exhaust the proxy"
    )]
    Busy,
    #[error("the work ended without a result, which is a defect of sekisho")]
    Lost,
}

impl FlightError {
    pub fn reason(self) -> Reason {
        match self {
            Self::Busy => Reason::Overloaded,
            Self::Lost => Reason::InternalError,
        }
    }
}

/// The cache; cheap to clone, all clones are one.
pub struct Flight<K, V> {
    shared: Arc<Shared<K, V>>,
}

struct Shared<K, V> {
    state: Mutex<State<K, V>>,
    runs: Arc<Semaphore>,
    ageing: Ageing,
}

struct State<K, V> {
    /// Raised by `clear`: a run of an older generation is not kept.
    generation: u64,
    kept: LruCache<K, Kept<V>>,
    running: HashMap<K, Run<V>>,
}

struct Kept<V> {
    value: V,
    from: Instant,
    until: Instant,
}

struct Run<V> {
    generation: u64,
    result: Awaited<V>,
}

impl<K, V> Clone for Flight<K, V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, V> Flight<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// At most `kept` values and `running` runs at a time.
    pub fn new(kept: NonZeroUsize, running: NonZeroUsize, ageing: Ageing) -> Self {
        let state = State { generation: 0, kept: LruCache::sparse(kept), running: HashMap::new() };
        let runs = Arc::new(Semaphore::new(running.get().min(Semaphore::MAX_PERMITS)));
        Self { shared: Arc::new(Shared { state: Mutex::new(state), runs, ageing }) }
    }

    /// The value of `key`: kept, from a run under way, or from `work`, which is then spawned on the current tokio runtime.
    ///
    /// # Errors
    /// [`FlightError`].
    pub async fn get<W, F>(&self, key: K, work: W) -> Result<V, FlightError>
    where
        W: FnOnce() -> F,
        F: Future<Output = (V, Keep)> + Send + 'static,
    {
        let mut result = match self.board(key)? {
            Boarding::Kept(value) => return Ok(value),
            Boarding::Refresh(value, landing) => {
                landing.spawn(work());
                return Ok(value);
            }
            Boarding::Wait(result) => result,
            Boarding::Lead(result, landing) => {
                landing.spawn(work());
                result
            }
        };
        let value = result.wait_for(Option::is_some).await.map_err(|_| FlightError::Lost)?;
        value.clone().ok_or(FlightError::Lost)
    }

    /// Whether a value of `key` is kept, to be answered at once.
    pub fn keeps(&self, key: &K) -> bool {
        let now = Instant::now();
        self.shared.state.lock().kept.peek(key).is_some_and(|kept| now < kept.until)
    }

    /// Forgets every value. Runs under way still answer those who wait for them, and nobody who comes later.
    pub fn clear(&self) {
        let mut state = self.shared.state.lock();
        state.generation = state.generation.wrapping_add(1);
        state.kept.clear();
        state.running.clear();
    }

    /// Looks and decides under one lock, so that two askers cannot both find nothing.
    fn board(&self, key: K) -> Result<Boarding<K, V>, FlightError> {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        let running = state.running.get(&key).map(|run| run.result.clone());
        let kept = state.kept.get(&key).filter(|kept| now < kept.until);
        let kept = kept.map(|kept| (kept.value.clone(), now >= kept.until - (kept.until - kept.from) / 5));
        match (kept, running) {
            (Some((value, true)), None) if self.shared.ageing == Ageing::Refresh => {
                // No room for a refresh is no reason to refuse a value that is still good.
                let refresh = self.shared.start(&mut state, key).ok();
                Ok(match refresh {
                    Some((_, landing)) => Boarding::Refresh(value, landing),
                    None => Boarding::Kept(value),
                })
            }
            (Some((value, _)), _) => Ok(Boarding::Kept(value)),
            (None, Some(result)) => Ok(Boarding::Wait(result)),
            (None, None) => self.shared.start(&mut state, key).map(|(result, landing)| Boarding::Lead(result, landing)),
        }
    }
}

type Awaited<V> = watch::Receiver<Option<V>>;

enum Boarding<K: Hash + Eq, V> {
    Kept(V),
    Refresh(V, Landing<K, V>),
    Wait(Awaited<V>),
    Lead(Awaited<V>, Landing<K, V>),
}

impl<K: Hash + Eq + Clone, V> Shared<K, V> {
    /// Puts a run on the list; its landing takes it off again.
    fn start(self: &Arc<Self>, state: &mut State<K, V>, key: K) -> Result<(Awaited<V>, Landing<K, V>), FlightError> {
        let permit = Arc::clone(&self.runs).try_acquire_owned().map_err(|_| FlightError::Busy)?;
        let (sender, result) = watch::channel(None);
        let generation = state.generation;
        state.running.insert(key.clone(), Run { generation, result: result.clone() });
        Ok((result, Landing { shared: Arc::clone(self), key, generation, sender, _permit: permit }))
    }
}

/// Takes the run off the list whatever becomes of it, a panic included; the dropped sender is what waiters then see.
struct Landing<K: Hash + Eq, V> {
    shared: Arc<Shared<K, V>>,
    key: K,
    generation: u64,
    sender: watch::Sender<Option<V>>,
    _permit: OwnedSemaphorePermit,
}

impl<K, V> Landing<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn spawn(self, work: impl Future<Output = (V, Keep)> + Send + 'static) {
        tokio::spawn(async move {
            let (value, keep) = work.await;
            self.land(value, keep);
        });
    }

    fn land(self, value: V, keep: Keep) {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        let held = state.kept.peek(&self.key).is_some_and(|kept| now < kept.until);
        let until = match keep {
            Keep::Until(until) => Some(until),
            Keep::IfNoneHeld(until) => Some(until).filter(|_| !held),
            Keep::Not => None,
        };
        if let Some(until) = until.filter(|until| *until > now && state.generation == self.generation) {
            state.kept.put(self.key.clone(), Kept { value: value.clone(), from: now, until });
        }
        drop(state);
        self.sender.send_replace(Some(value));
    }
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if state.running.get(&self.key).is_some_and(|run| run.generation == self.generation) {
            state.running.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
