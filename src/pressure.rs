//! Overload: how hard pressed the service is, what is refused then, and who is ended to make room.
//!
//! Three states. **Normal**: everything within the limits is taken up. **Shedding**: a new connection of a client that holds its
//! share of the open ones is answered 503 `overloaded` at once, and the oldest connections that still owe a head, a ClientHello or
//! a handshake are ended, a part of them at a time. **Refusing**: no new connection is taken up (it is closed without a word, and
//! recorded), inspected requests are answered with the page of `overloaded`, and half of what is not established is ended, whatever
//! its age. Tunnels and inspected connections that stand are never ended by any of it.
//!
//! * `assess` is the pure step from readings to a state; every threshold is there.
//! * `readings` asks the kernel: descriptors, resident memory, the listeners' queues. `pulse` measures how late a thread is.
//! * `memory` charges what grows against [`Settings::memory`] before it grows, since a sample comes too late for a flood between
//!   two; `machine` knows how much there is. The sample guards what the charges estimate too low.
//! * `newcomers` are the connections that are not established yet, oldest first.
//!
//! The record's queue is no reading: a full one makes every attempt wait (see [`record`](mod@crate::record)), and a refusal needs
//! its line as much as an answer does, so refusing more would not shorten it.
//!
//! Descriptors have a second guard that needs no sample and knows no state: [`sockets::is_beyond`](crate::sockets::is_beyond).
//!
//! What may not be here: who is answered what (`connection`), tasks, and any reading of a client's bytes.

mod assess;
mod machine;
mod memory;
mod newcomers;
mod pulse;
mod readings;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use self::assess::{Assessment, Cause, Readings, State};
pub use self::memory::{Charge, INSPECTED, Memory, NEWCOMER, REQUEST, Stalls};
pub use self::newcomers::{Newcomer, Newcomers};
pub use self::pulse::Pulse;
use self::pulse::Standing;
pub use self::readings::descriptors;
use self::readings::{Backlog, Descriptors, Resident};
use crate::locks::Mutex;

/// How often readings are taken.
pub const EVERY: Duration = Duration::from_millis(100);

/// While shedding, newcomers younger than this are let be: a handshake over a slow line takes as long.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub memory: Ceiling,
}

/// What resident memory must stay below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceiling {
    Octets(u64),
    /// Three quarters of what the machine, or a control group of ours, has.
    OfMachine,
}

impl Ceiling {
    /// `None` where nothing says how much memory there is: then there is no ceiling.
    pub fn octets(self) -> Option<u64> {
        match self {
            Self::Octets(octets) => Some(octets),
            Self::OfMachine => machine::memory().map(|octets| octets / 4 * 3),
        }
    }
}

/// What was turned away or ended, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// New connections that were not taken up.
    Connections,
    /// Connections that were ended before they were established.
    Newcomers,
    /// Inspected requests.
    Requests,
}

impl Shed {
    pub const ALL: [Self; 3] = [Self::Connections, Self::Newcomers, Self::Requests];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Newcomers => "newcomers",
            Self::Requests => "requests",
        }
    }
}

/// What the sampler cannot read for itself.
pub struct Outside<'a> {
    /// Connection slots held, and how many there are.
    pub open: usize,
    pub slots: usize,
    pub listeners: &'a [SocketAddr],
    /// Connections a listener's queue holds.
    pub queue: u64,
}

/// A change of state, to be told.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    pub to: State,
    pub cause: Option<Cause>,
    pub readings: Readings,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Readings { delay, descriptors, descriptor_limit, backlog, newcomers, open, .. } = self.readings;
        match self.cause {
            None => return f.write_str("No longer overloaded: every new connection is taken up again."),
            Some(Cause::QueueDelay) => write!(f, "Overloaded: work waits {delay:?} for its turn.")?,
            Some(Cause::Descriptors) => {
                write!(f, "Overloaded: {descriptors} of {descriptor_limit} descriptors are open.")?;
            }
            Some(Cause::Memory) => {
                let [resident, ceiling] = [self.readings.resident, self.readings.ceiling].map(shown);
                let [charged, budget] = [self.readings.charged, self.readings.budget].map(shown);
                write!(f, "Overloaded: {resident} of {ceiling} are resident, {charged} of {budget} are taken.")?;
            }
            Some(Cause::AcceptBacklog) => write!(f, "Overloaded: {backlog} connections wait to be accepted.")?,
            Some(Cause::HalfOpen) => {
                write!(f, "Overloaded: {newcomers} of {open} connections are not established.")?;
            }
        }
        f.write_str(match self.to {
            State::Normal => "",
            State::Shedding => " Clients that hold their share get no further connection.",
            State::Refusing => " No new connection is taken up.",
        })
    }
}

/// The pressure on this process; one for all listeners.
pub struct Pressure {
    told: ArcSwap<(Assessment, Readings)>,
    memory: Arc<Memory>,
    newcomers: Arc<Newcomers>,
    pulses: Mutex<Vec<Arc<Pulse>>>,
    accept_failed: AtomicBool,
    shed: [AtomicU64; Shed::ALL.len()],
    entered: [AtomicU64; State::ALL.len()],
    sampling: Mutex<Sampling>,
}

/// What one sample leaves for the next.
struct Sampling {
    standing: Standing,
    resident: Resident,
    descriptors: Descriptors,
    backlog: Backlog,
    retained: u64,
}

impl Sampling {
    fn new(resident: Resident) -> Self {
        let (standing, descriptors, backlog) = (Standing::default(), Descriptors::default(), Backlog::default());
        Self { standing, resident, descriptors, backlog, retained: 0 }
    }
}

impl Pressure {
    /// What is resident now is what the configuration takes: connections have the rest.
    pub fn new(settings: &Settings) -> Arc<Self> {
        let resident = Resident::new();
        let memory = Arc::new(Memory::new(resident.read().unwrap_or(0)));
        memory.set_ceiling(settings.memory.octets());
        Arc::new(Self {
            told: ArcSwap::default(),
            newcomers: Arc::new(Newcomers::new(Arc::clone(&memory))),
            memory,
            pulses: Mutex::default(),
            accept_failed: AtomicBool::new(false),
            shed: Default::default(),
            entered: Default::default(),
            sampling: Mutex::new(Sampling::new(resident)),
        })
    }

    pub fn reconfigure(&self, settings: &Settings) {
        self.memory.set_ceiling(settings.memory.octets());
    }

    pub fn state(&self) -> State {
        self.told.load().0.state()
    }

    /// The last assessment and what it was made from.
    pub fn last(&self) -> (Assessment, Readings) {
        **self.told.load()
    }

    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// A connection that begins, or waits for its next claim. `None`: there is no memory for it.
    pub fn newcomer(&self) -> Option<Newcomer> {
        self.newcomers.enter()
    }

    /// A pulse for one more thread, which is to let it beat.
    pub fn pulse(&self) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new());
        self.pulses.lock().push(Arc::clone(&pulse));
        pulse
    }

    /// The system gave no descriptor or memory for a connection.
    pub fn accept_failed(&self) {
        self.accept_failed.store(true, Ordering::Relaxed);
    }

    pub fn count(&self, shed: Shed) {
        self.add(shed, 1);
    }

    fn add(&self, shed: Shed, number: u64) {
        if let Some(count) = self.shed.get(shed as usize) {
            count.fetch_add(number, Ordering::Relaxed);
        }
    }

    /// How many were shed since the start, by kind.
    pub fn shed(&self) -> impl Iterator<Item = (Shed, u64)> {
        Shed::ALL.into_iter().zip(&self.shed).map(|(shed, count)| (shed, count.load(Ordering::Relaxed)))
    }

    /// How often each state was entered.
    pub fn entered(&self) -> impl Iterator<Item = (State, u64)> {
        State::ALL.into_iter().zip(&self.entered).map(|(state, count)| (state, count.load(Ordering::Relaxed)))
    }

    /// Takes readings, draws the conclusion, and ends newcomers where that is one. To be called every [`EVERY`], by one task.
    pub fn sample(&self, outside: &Outside<'_>) -> Option<Change> {
        let readings = self.read(outside);
        let (before, _) = self.last();
        let now = before.next(&readings);
        self.told.store(Arc::new((now, readings)));
        self.make_room(now.state());
        (now.state() != before.state()).then(|| {
            if let Some(count) = self.entered.get(now.state() as usize) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Change { to: now.state(), cause: now.cause(), readings }
        })
    }

    fn read(&self, outside: &Outside<'_>) -> Readings {
        let mut sampling = self.sampling.lock();
        let late = self.pulses.lock().iter().map(|pulse| pulse.late()).max().unwrap_or_default();
        let (resident, charged) = (sampling.resident.read().unwrap_or(0), self.memory.charged());
        if charged <= self.memory.budget() / 20 {
            sampling.retained = resident;
        }
        let (descriptors, descriptor_limit) = sampling.descriptors.read();
        Readings {
            delay: sampling.standing.of(late),
            descriptors,
            descriptor_limit,
            accept_failed: self.accept_failed.swap(false, Ordering::Relaxed),
            resident,
            retained: sampling.retained,
            charged,
            budget: self.memory.budget(),
            ceiling: self.memory.ceiling(),
            backlog: sampling.backlog.read(outside.listeners),
            queue: outside.queue,
            newcomers: self.newcomers.len(),
            open: outside.open,
            slots: outside.slots,
        }
    }

    fn make_room(&self, state: State) {
        let waiting = self.newcomers.len();
        let ended = match state {
            State::Normal => return,
            State::Shedding => self.newcomers.end_oldest(waiting.div_ceil(8), PATIENCE),
            State::Refusing => self.newcomers.end_oldest(waiting.div_ceil(2), Duration::ZERO),
        };
        self.add(Shed::Newcomers, ended as u64);
    }
}

/// `octets` as a person reads them.
pub fn shown(octets: u64) -> String {
    const UNITS: [(u64, &str); 2] = [(1_000_000_000, "GB"), (1_000_000, "MB")];
    let unit = UNITS.into_iter().find(|(unit, _)| octets >= *unit);
    unit.map_or_else(
        || format!("{octets} octets"),
        |(unit, name)| {
            let tenths = octets / (unit / 10);
            match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                rest => format!("{}.{rest} {name}", tenths / 10),
            }
        },
    )
}

#[cfg(test)]
mod tests;
