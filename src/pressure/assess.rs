//! From readings to a state: a pure step. Each cause has a level of its own with two thresholds, of which the lower one lets go, and
//! the worst of them is the state; it falls only after it could have fallen for a second, so that a value near a threshold does not
//! make the state flicker, and the record is not flooded with its changes.

use std::time::Duration;

use super::memory::share;
use crate::sockets::reserved;

/// Late for so long, over a whole second, new work only makes later (CoDel's reasoning, RFC 8289 section 3): the least delay of
/// the second counts, so that one long task, or a process that was stopped, is no overload.
const DELAY_CALM: Duration = Duration::from_millis(200);
const DELAY_SHED: Duration = Duration::from_secs(1);
const DELAY_REFUSE: Duration = Duration::from_secs(5);

/// Samples for which a lower state must hold before it is taken up.
const LOWER_FOR: u8 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum State {
    #[default]
    Normal,
    Shedding,
    Refusing,
}

impl State {
    pub const ALL: [Self; 3] = [Self::Normal, Self::Shedding, Self::Refusing];

    /// The word of the metrics, of `/readyz` and of the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shedding => "shedding",
            Self::Refusing => "refusing",
        }
    }
}

/// What presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    QueueDelay,
    Descriptors,
    Memory,
    AcceptBacklog,
    /// Connections that are not established hold the slots.
    HalfOpen,
}

impl Cause {
    pub const ALL: [Self; 5] = [Self::QueueDelay, Self::Descriptors, Self::Memory, Self::AcceptBacklog, Self::HalfOpen];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueDelay => "queue_delay",
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::AcceptBacklog => "accept_backlog",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What was read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readings {
    /// How late the latest thread has been for a second at least.
    pub delay: Duration,
    pub descriptors: u64,
    /// `u64::MAX`: no limit.
    pub descriptor_limit: u64,
    /// An accept failed since the last sample.
    pub accept_failed: bool,
    pub resident: u64,
    /// What was resident when hardly anything was charged last.
    pub retained: u64,
    /// What is charged of `budget`.
    pub charged: u64,
    pub budget: u64,
    /// `u64::MAX`: none.
    pub ceiling: u64,
    /// Connections in the longest of the listeners' queues, of which each holds `queue`.
    pub backlog: u64,
    pub queue: u64,
    /// Connections that are not established, and slots held, of `slots`.
    pub newcomers: usize,
    pub open: usize,
    pub slots: usize,
}

impl Readings {
    /// Whether `cause` is reason to refuse, to shed, to be calm.
    fn against(&self, cause: Cause) -> [bool; 3] {
        // A literal table.
        match cause {
            Cause::QueueDelay => [self.delay >= DELAY_REFUSE, self.delay >= DELAY_SHED, self.delay < DELAY_CALM],
            Cause::Descriptors => {
                let (free, reserved) =
                    (self.descriptor_limit.saturating_sub(self.descriptors), reserved(self.descriptor_limit));
                let (free, refuse) = (free.saturating_mul(4), self.accept_failed);
                [refuse || free < reserved * 5, free < reserved * 8, free >= reserved * 10]
            }
            // What was freed stays with the allocator for the next who needs it: that alone is no reason to turn anyone away, as
            // turning away would not lower it. Either something is charged that could be given back, or it has grown since.
            Cause::Memory => {
                let charged = |percent| self.charged >= share(self.budget, percent);
                let grown = self.resident >= self.retained.saturating_add(share(self.ceiling, 5));
                let resident = |percent, of| self.resident >= share(self.ceiling, percent) && (grown || charged(of));
                [resident(90, 25), charged(90) || resident(80, 50), !(charged(80) || resident(75, 40))]
            }
            Cause::AcceptBacklog => {
                [false, self.backlog >= share(self.queue, 50).max(1), self.backlog < share(self.queue, 10).max(1)]
            }
            Cause::HalfOpen => {
                let slots = |percent| self.open.saturating_mul(100) >= self.slots.saturating_mul(percent);
                [false, slots(90) && self.newcomers >= self.open / 2, !slots(80) || self.newcomers < self.open / 4]
            }
        }
    }

    fn level(&self, cause: Cause, before: State) -> State {
        match (self.against(cause), before) {
            ([true, _, _], _) | ([_, true, _], State::Refusing) => State::Refusing,
            ([_, true, _], _) => State::Shedding,
            ([_, _, true], _) => State::Normal,
            ([_, _, false], before) => before.min(State::Shedding),
        }
    }
}

/// The state, and what has to be known of the past to draw the next from new readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Assessment {
    levels: [State; Cause::ALL.len()],
    state: State,
    cause: Option<Cause>,
    lower_for: u8,
}

impl Assessment {
    pub fn state(&self) -> State {
        self.state
    }

    /// What presses most, or did when the state was entered; none while it is normal.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    #[must_use]
    pub fn next(&self, readings: &Readings) -> Self {
        let mut levels = self.levels;
        for (level, cause) in levels.iter_mut().zip(Cause::ALL) {
            *level = readings.level(cause, *level);
        }
        let worst = levels.into_iter().max().unwrap_or_default();
        let lower_for = if worst < self.state { self.lower_for.saturating_add(1) } else { 0 };
        if worst < self.state && lower_for < LOWER_FOR {
            return Self { levels, lower_for, ..*self };
        }
        let at_worst = levels.into_iter().zip(Cause::ALL).find(|(level, _)| *level == worst);
        let cause = at_worst.map(|(_, cause)| cause).filter(|_| worst > State::Normal);
        Self { levels, state: worst, cause, lower_for: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    /// Nothing presses.
    fn calm() -> Readings {
        Readings {
            delay: Duration::from_millis(2),
            descriptors: 100,
            descriptor_limit: 20_000,
            accept_failed: false,
            resident: 20 * MB,
            retained: 20 * MB,
            charged: 0,
            budget: 100 * MB,
            ceiling: 200 * MB,
            backlog: 0,
            queue: 4096,
            newcomers: 0,
            open: 0,
            slots: 9_000,
        }
    }

    fn after(readings: &Readings, before: State) -> (State, Option<Cause>) {
        let levels = Cause::ALL.map(|_| before);
        let once = Assessment { levels, state: before, cause: None, lower_for: LOWER_FOR }.next(readings);
        (once.state(), once.cause())
    }

    /// Each threshold with its neighbours, from normal up.
    #[test]
    fn h01_h03_h05_f10_a_threshold_is_where_it_stands() {
        use State::{Normal, Refusing, Shedding};
        let ms = Duration::from_millis;
        let with = |change: fn(&mut Readings)| {
            let mut readings = calm();
            change(&mut readings);
            readings
        };
        let full = |resident, retained, charged| Readings {
            resident: resident * MB,
            retained: retained * MB,
            charged,
            ..calm()
        };
        let rows: [(&str, Readings, State, Option<Cause>); 25] = [
            ("calm", calm(), Normal, None),
            ("late 999", Readings { delay: ms(999), ..calm() }, Normal, None),
            ("late 1000", Readings { delay: ms(1000), ..calm() }, Shedding, Some(Cause::QueueDelay)),
            ("late 4999", Readings { delay: ms(4999), ..calm() }, Shedding, Some(Cause::QueueDelay)),
            ("late 5000", Readings { delay: ms(5000), ..calm() }, Refusing, Some(Cause::QueueDelay)),
            ("128 free", with(|r| r.descriptors = 20_000 - 128), Normal, None),
            ("127 free", with(|r| r.descriptors = 20_000 - 127), Shedding, Some(Cause::Descriptors)),
            ("80 free", with(|r| r.descriptors = 20_000 - 80), Shedding, Some(Cause::Descriptors)),
            ("79 free", with(|r| r.descriptors = 20_000 - 79), Refusing, Some(Cause::Descriptors)),
            ("more than there are", with(|r| r.descriptors = 30_000), Refusing, Some(Cause::Descriptors)),
            ("no limit", with(|r| r.descriptor_limit = u64::MAX), Normal, None),
            ("accept failed", with(|r| r.accept_failed = true), Refusing, Some(Cause::Descriptors)),
            ("charged 89", with(|r| r.charged = 90 * MB - 1), Normal, None),
            ("charged 90", with(|r| r.charged = 90 * MB), Shedding, Some(Cause::Memory)),
            ("resident 80, half charged", full(160, 156, 50 * MB), Shedding, Some(Cause::Memory)),
            ("resident 80, less charged", full(160, 156, 50 * MB - 1), Normal, None),
            ("resident 80, grown by 5", full(160, 150, 0), Shedding, Some(Cause::Memory)),
            ("resident 79, grown", full(159, 0, 0), Normal, None),
            ("resident 90, a quarter charged", full(180, 180, 25 * MB), Refusing, Some(Cause::Memory)),
            ("resident 90, grown by 5", full(180, 170, 0), Refusing, Some(Cause::Memory)),
            ("resident 99, and so before", full(199, 199, 0), Normal, None),
            ("queue 2047", with(|r| r.backlog = 2047), Normal, None),
            ("queue 2048", with(|r| r.backlog = 2048), Shedding, Some(Cause::AcceptBacklog)),
            ("slots of tunnels", with(|r| (r.open, r.newcomers) = (9_000, 4_499)), Normal, None),
            ("slots of half-open", with(|r| (r.open, r.newcomers) = (9_000, 4_500)), Shedding, Some(Cause::HalfOpen)),
        ];
        for (what, readings, state, cause) in rows {
            assert_eq!(after(&readings, Normal), (state, cause), "{what}");
        }
    }

    #[test]
    fn a_level_is_left_below_where_it_was_entered() {
        let late = |ms| Readings { delay: Duration::from_millis(ms), ..calm() };
        for (ms, before, state) in [
            (200, State::Shedding, State::Shedding),
            (199, State::Shedding, State::Normal),
            (1000, State::Refusing, State::Refusing),
            (999, State::Refusing, State::Shedding),
            (199, State::Refusing, State::Normal),
            (200, State::Normal, State::Normal),
        ] {
            assert_eq!(late(ms).level(Cause::QueueDelay, before), state, "{ms} {before:?}");
        }
    }

    #[test]
    fn a_state_is_entered_at_once_and_left_after_a_second() {
        let (late, calm) = (Readings { delay: DELAY_REFUSE, ..calm() }, calm());
        let mut now = Assessment::default().next(&late);
        assert_eq!((now.state(), now.cause()), (State::Refusing, Some(Cause::QueueDelay)));
        for _ in 1..LOWER_FOR {
            now = now.next(&calm);
            assert_eq!((now.state(), now.cause()), (State::Refusing, Some(Cause::QueueDelay)));
        }
        // One relapse, and the second begins again.
        now = now.next(&late);
        for _ in 1..LOWER_FOR {
            now = now.next(&calm);
        }
        assert_eq!(now.state(), State::Refusing);
        assert_eq!(now.next(&calm), Assessment::default());
    }

    #[test]
    fn the_worst_of_several_is_the_state() {
        let readings = Readings { delay: DELAY_SHED, accept_failed: true, ..calm() };
        let now = Assessment::default().next(&readings);
        assert_eq!((now.state(), now.cause()), (State::Refusing, Some(Cause::Descriptors)));
    }
}
