//! The engine: threads, each with a runtime and connections of its own, one start for all, and a collector each second.
//!
//! A thread that hands nothing to another needs no lock that is ever waited for, and leaves more of a shared machine to the proxy.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::dial::Dialer;
use super::h2::{self, Http2};
use super::office::Client;
use super::pace::{Arrivals, Budget, Queue, Schedule, Timer, dispatch};
use super::tally::{Collector, Second, Tally};
use super::work::{self, Session, Stage};
use super::{Plan, Scenario};

const SECOND: Duration = Duration::from_secs(1);
/// Where the arrivals of the first thread begin in the sequence; any number would do.
const SEED: u64 = 0x5eed;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Setup(String),
    #[error("a thread could not be started: {0}")]
    Thread(#[from] io::Error),
    #[error("a thread of the load tool ended before its work did; this is a defect, please report it")]
    Lost,
}

/// What is worth telling while it runs.
pub enum Event<'a> {
    /// Every connection that could be opened beforehand is open.
    Open {
        sessions: usize,
    },
    Second(&'a Second),
}

/// What came of a run.
pub struct Outcome {
    pub collector: Collector,
    /// From the start to the last answer.
    pub elapsed: Duration,
    /// Opening connections beforehand.
    pub opening: Duration,
    pub threads: usize,
    /// CPU time of this process, from the start to the end.
    pub cpu: Duration,
}

enum Message {
    Ready {
        sessions: usize,
    },
    Done,
    /// It ends, and its result says why.
    Failed,
}

/// One thread's part.
struct Share {
    plan: Plan,
    connections: usize,
    threads: usize,
    number: usize,
    tally: Arc<Tally>,
    budget: Arc<Budget>,
}

/// Carries out `plan`. `tell` is called from this thread.
///
/// # Errors
/// [`RunError`]; a request that fails is no error but a count.
pub fn run(plan: &Plan, mut tell: impl FnMut(Event<'_>)) -> Result<Outcome, RunError> {
    raise_descriptor_limit();
    let threads = threads(plan);
    let budget = Arc::new(Budget::new(plan.until));
    let (messages, inbox) = channel();
    let (go, going) = watch::channel(None);
    let mut tallies = Vec::new();
    let mut handles = Vec::new();
    let begun = Instant::now();
    for number in 0..threads {
        let tally = Arc::new(Tally::default());
        tallies.push(Arc::clone(&tally));
        let connections = plan.connections / threads + usize::from(number < plan.connections % threads);
        let share = Share { plan: plan.clone(), connections, threads, number, tally, budget: Arc::clone(&budget) };
        handles.push(spawn(share, messages.clone(), going.clone())?);
    }
    drop(messages);
    let mut collector = Collector::default();
    let Some(sessions) = opened(&inbox, threads) else {
        // Those that did not fail wait for the start, which does not come.
        drop(go);
        return Err(lost(handles));
    };
    collector.prepared(&tallies);
    tell(Event::Open { sessions });
    let cpu = cpu_time();
    let start = Instant::now();
    go.send_replace(Some(start));
    let done = collect(&inbox, threads, start, || {
        collector.second(&tallies, start.elapsed());
        collector.per_second.last().into_iter().for_each(|second| tell(Event::Second(second)));
    });
    let elapsed = start.elapsed();
    done.map_err(|()| lost(handles))?;
    Ok(Outcome { collector, elapsed, opening: start - begun, threads, cpu: cpu_time().saturating_sub(cpu) })
}

/// How many connections the threads have open when all are ready. `None`: one has failed.
fn opened(inbox: &Receiver<Message>, threads: usize) -> Option<usize> {
    let open = |_| match inbox.recv() {
        Ok(Message::Ready { sessions }) => Some(sessions),
        Ok(Message::Done | Message::Failed) | Err(_) => None,
    };
    (0..threads).map(open).sum()
}

/// Calls `second` each second after `start`, and once more when every thread is done.
fn collect(inbox: &Receiver<Message>, threads: usize, start: Instant, mut second: impl FnMut()) -> Result<(), ()> {
    let mut due = start + SECOND;
    let mut working = threads;
    while working > 0 {
        match inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Message::Ready { .. } | Message::Done) => working -= 1,
            Ok(Message::Failed) => return Err(()),
            Err(RecvTimeoutError::Timeout) => {
                second();
                due += SECOND;
            }
            Err(RecvTimeoutError::Disconnected) => return Err(()),
        }
    }
    second();
    Ok(())
}

/// All threads have ended, or are about to. One of them knows why.
fn lost(handles: Vec<JoinHandle<Result<(), RunError>>>) -> RunError {
    let mut errors = handles.into_iter().filter_map(|handle| handle.join().unwrap_or(Err(RunError::Lost)).err());
    errors.find(|error| !matches!(error, RunError::Lost)).unwrap_or(RunError::Lost)
}

/// Half of the processors, for the proxy and the origin are usually on the same machine; one connection is one thread's.
fn threads(plan: &Plan) -> usize {
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (processors / 2).clamp(1, plan.connections.max(1))
}

fn spawn(
    share: Share,
    messages: Sender<Message>,
    going: watch::Receiver<Option<Instant>>,
) -> io::Result<JoinHandle<Result<(), RunError>>> {
    thread::Builder::new().name(format!("load-{}", share.number)).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ended = match runtime {
            Ok(runtime) => runtime.block_on(part(share, &messages, going)),
            Err(error) => Err(error.into()),
        };
        if ended.is_err() {
            // Nobody listens where another has failed before.
            let _ = messages.send(Message::Failed);
        }
        ended
    })
}

async fn part(
    share: Share,
    messages: &Sender<Message>,
    mut going: watch::Receiver<Option<Instant>>,
) -> Result<(), RunError> {
    let dialer = Dialer::new(&share.plan).map_err(RunError::Setup)?;
    let pause = share.plan.rate.map_or(work::PAUSE, |_| Duration::ZERO);
    let stage = Arc::new(Stage { dialer, tally: Arc::clone(&share.tally), pause });
    let prepared = Prepared::open(&stage, &share).await;
    messages.send(Message::Ready { sessions: prepared.count() }).map_err(|_| RunError::Lost)?;
    let start = going.wait_for(Option::is_some).await.map_err(|_| RunError::Lost)?.ok_or(RunError::Lost)?;
    let mut workers = JoinSet::new();
    prepared.begin(&stage, &share, start, &mut workers);
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|_| RunError::Lost)?;
    }
    messages.send(Message::Done).map_err(|_| RunError::Lost)
}

/// What was opened before the start.
enum Prepared {
    Nothing,
    Http1(Vec<Session>),
    Http2(Vec<Http2>),
    Office(Vec<Client>),
}

impl Prepared {
    async fn open(stage: &Arc<Stage>, share: &Share) -> Self {
        let count = share.connections;
        match share.plan.scenario {
            Scenario::New | Scenario::Refused => Self::Nothing,
            Scenario::H1 | Scenario::Bulk | Scenario::Idle => {
                Self::Http1(stage.open_all(count, async |stage, _| Session::open(stage).await).await)
            }
            Scenario::H2 => Self::Http2(stage.open_all(count, async |stage, _| Http2::open(stage).await).await),
            Scenario::Office => {
                let open = async |stage: &Stage, number| Ok(Client::open(stage, number, count).await);
                Self::Office(stage.open_all(count, open).await)
            }
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Http1(sessions) => sessions.len(),
            Self::Http2(sessions) => sessions.len(),
            Self::Office(clients) => clients.iter().filter(|client| client.has_connection()).count(),
        }
    }

    /// Sets everyone to work.
    fn begin(self, stage: &Arc<Stage>, share: &Share, start: Instant, workers: &mut JoinSet<()>) {
        if let Self::Office(clients) = self {
            for client in clients {
                workers.spawn(client.work(Arc::clone(stage), Arc::clone(&share.budget), start));
            }
            return;
        }
        let (mut http1, mut http2) = match self {
            Self::Http1(sessions) if share.plan.scenario == Scenario::Idle => {
                workers.spawn(work::idle(Arc::clone(stage), sessions));
                return;
            }
            Self::Http1(sessions) => (sessions, Vec::new()),
            Self::Http2(sessions) => (Vec::new(), sessions),
            Self::Nothing | Self::Office(_) => (Vec::new(), Vec::new()),
        };
        let arrivals = Arc::new(share.arrivals(start, workers));
        for _ in 0..share.connections {
            let (stage, arrivals) = (Arc::clone(stage), Arc::clone(&arrivals));
            match share.plan.scenario {
                Scenario::New => workers.spawn(work::one_each(stage, arrivals)),
                Scenario::Refused => workers.spawn(work::refused(stage, arrivals)),
                Scenario::H2 => workers.spawn(h2::kept(stage, arrivals, http2.pop())),
                _ => workers.spawn(work::kept(stage, arrivals, http1.pop())),
            };
        }
    }
}

impl Share {
    /// Closed loop, or a dispatcher among the workers that hands out its part of the rate.
    fn arrivals(&self, start: Instant, workers: &mut JoinSet<()>) -> Arrivals {
        let Some(rate) = self.plan.rate else { return Arrivals::Closed { budget: Arc::clone(&self.budget), start } };
        let rate = rate / self.threads as f64;
        let queue = Queue::new(rate);
        let schedule = Schedule::new(rate, SEED + self.number as u64);
        let (into, budget, tally) = (Arc::clone(&queue), Arc::clone(&self.budget), Arc::clone(&self.tally));
        workers.spawn(async move { dispatch(schedule, &into, &budget, start, &tally, &Timer::finest()).await });
        Arrivals::Open(queue)
    }
}

/// The soft limit becomes the hard one: each connection is a descriptor.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it fails, `no_descriptor` is counted and says what is wrong.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn cpu_time() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or_default(), u32::try_from(spent.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_that_fails_ends_the_wait_for_the_others() {
        let (messages, inbox) = channel();
        for message in [Message::Ready { sessions: 3 }, Message::Ready { sessions: 4 }, Message::Failed] {
            messages.send(message).expect("heard");
        }
        assert_eq!(opened(&inbox, 2), Some(7));
        assert_eq!(opened(&inbox, 2), None, "the other is there, and says nothing");
    }
}
