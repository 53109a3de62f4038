//! What a body found out about the ISMAP registration of each service, and what follows from it on a given day.
//!
//! Nothing is known here of any registration but what the configuration says: no number, no date and no list comes with the
//! program. A date alone never makes a service lapse, because a registration whose renewal has been applied for stays valid past
//! it (ISMAP基本規程 3.5, 要確認): it asks for a decision. What may not be here: TOML (`ismap`), a clock.

use std::fmt::Write as _;
use std::time::SystemTime;

use time::macros::offset;
use time::{Date, Duration, OffsetDateTime};

/// Days ahead of the end at which it is told.
const THRESHOLDS: [i64; 3] = [90, 60, 30];

/// `site.require_ismap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// What is not registered is told.
    Warn,
    /// What is not registered is an error.
    Enforce,
}

/// `state` of `[service.ismap]`: what was found out, by whoever confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Registered,
    /// Registered, and the renewal has been applied for.
    RenewalPending,
    Lapsed,
    Withdrawn,
    Unverified,
    /// Decided by the body to need no registration, such as revocation lists of certificates.
    Exempt,
}

impl State {
    /// The word of the configuration and of the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::RenewalPending => "renewal-pending",
            Self::Lapsed => "lapsed",
            Self::Withdrawn => "withdrawn",
            Self::Unverified => "unverified",
            Self::Exempt => "exempt",
        }
    }
}

/// The list a registration stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// ISMAPクラウドサービスリスト.
    Ismap,
    /// ISMAP-LIUクラウドサービスリスト: low-impact SaaS.
    Liu,
}

impl List {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ismap => "ismap",
            Self::Liu => "ismap-liu",
        }
    }
}

/// What is done where nobody has decided by the end of the grace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterGrace {
    Deny,
    Warn,
}

/// `[service.ismap]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub state: State,
    pub list: List,
    /// Opaque.
    pub number: Option<String>,
    pub scope: Option<String>,
    /// The last day.
    pub valid_until: Option<Date>,
    pub confirmed_by: Option<String>,
    pub confirmed_on: Option<Date>,
    /// Days after `valid_until`.
    pub grace: i64,
    pub after_grace: AfterGrace,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            state: State::Unverified,
            list: List::Ismap,
            number: None,
            scope: None,
            valid_until: None,
            confirmed_by: None,
            confirmed_on: None,
            grace: 30,
            after_grace: AfterGrace::Warn,
        }
    }
}

/// Where a registration stands in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing to tell.
    Current,
    /// At most so many days are left, one of [`THRESHOLDS`].
    Ending(i64),
    /// Past its last day, within the grace.
    Grace,
    /// Past its last day, with its renewal applied for.
    Pending,
    /// Past the grace.
    Over,
}

/// What an administrator is told of a date: as a problem of the configuration, in `check`, log and record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub found: String,
    pub expected: &'static str,
    pub hint: Option<String>,
}

impl Registration {
    /// Whether nobody decided in time, and that is to end the service.
    pub fn is_over(&self, today: Date) -> bool {
        self.phase(today) == Phase::Over && self.after_grace == AfterGrace::Deny
    }

    /// Whether nothing is to be decided but what its date may bring.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, State::Registered | State::RenewalPending | State::Exempt)
    }

    /// Days to the last day, which is 0; negative past it. `None` without a date.
    pub fn days_left(&self, today: Date) -> Option<i64> {
        self.valid_until.map(|until| (until - today).whole_days())
    }

    /// The moment at which its last day is over in Japan, in seconds of the Unix clock.
    pub fn ends_at(&self) -> Option<i64> {
        self.valid_until.map(|until| until.midnight().assume_offset(offset!(+9)).unix_timestamp() + 86_400)
    }

    fn phase(&self, today: Date) -> Phase {
        let Some(left) = self.days_left(today) else { return Phase::Current };
        let passed = left < 0;
        match self.state {
            State::Registered if passed && -left > self.grace => Phase::Over,
            State::Registered if passed => Phase::Grace,
            State::Registered => {
                let least = THRESHOLDS.into_iter().filter(|days| left <= *days).min();
                least.map_or(Phase::Current, Phase::Ending)
            }
            State::RenewalPending if passed => Phase::Pending,
            State::RenewalPending | State::Lapsed | State::Withdrawn | State::Unverified | State::Exempt => {
                Phase::Current
            }
        }
    }

    /// What is to be told of its date on `today`.
    pub(super) fn notice(&self, today: Date) -> Option<Notice> {
        const DECISION: &str = "a decision: the new date, state = \"renewal-pending\", or \"lapsed\"";
        let until = self.valid_until?;
        let since = format!("{until}, {}", distance((until - today).whole_days()));
        let phase = self.phase(today);
        let (found, expected, hint) = match (phase, self.after_grace) {
            (Phase::Current, _) => return None,
            (Phase::Ending(_), _) => {
                (since, "the new date, or state = \"renewal-pending\" once the renewal is applied for", None)
            }
            (Phase::Grace, AfterGrace::Deny) => {
                let last = until.checked_add(Duration::days(self.grace)).unwrap_or(Date::MAX);
                let hint = format!("the service goes on until {last}, then it is refused (after_grace = \"deny\")");
                (since, DECISION, Some(hint))
            }
            (Phase::Grace | Phase::Over, AfterGrace::Warn) => {
                (since, DECISION, Some("the service goes on (after_grace = \"warn\")".to_owned()))
            }
            (Phase::Over, AfterGrace::Deny) => {
                let found = format!("{since}: the service is refused (after_grace = \"deny\")");
                (found, DECISION, None)
            }
            (Phase::Pending, _) => {
                let hint = "the service goes on: a registration is valid until its renewal is decided (要確認)";
                (since, "the new date, or state = \"lapsed\": ask how the application stands", Some(hint.to_owned()))
            }
        };
        Some(Notice { found, expected, hint })
    }

    /// Whether between the two days something came to be told that was not told on the first.
    pub(super) fn turns(&self, from: Date, to: Date) -> bool {
        self.phase(from) != self.phase(to)
    }

    /// In one line, as `check` and `explain` show it.
    pub fn in_words(&self, today: Date) -> String {
        let mut words = self.state.as_str().to_owned();
        // Writing to a String cannot fail.
        if self.list == List::Liu {
            let _ = write!(words, " on the ISMAP-LIU list");
        }
        if let Some(number) = &self.number {
            let _ = write!(words, ", {number}");
        }
        if let (Some(until), Some(left)) = (self.valid_until, self.days_left(today)) {
            let _ = write!(words, ", until {until} ({})", distance(left));
        }
        words
    }
}

/// A service and its registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// `rule.id` of the service.
    pub rule: String,
    pub service: String,
    /// [`State::Unverified`] where the file says nothing.
    pub registration: Registration,
    /// Where its date stands: line and column from 1, and the key.
    pub(super) place: (usize, usize, String),
}

/// Every service of which a registration is asked for or told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvals {
    /// In the order of the file.
    pub services: Vec<Approval>,
    /// The day for which the policy holds.
    pub day: Date,
}

impl Approvals {
    /// That of the service with this `rule.id`.
    pub fn of(&self, rule: &str) -> Option<&Approval> {
        self.services.iter().find(|approval| approval.rule == rule)
    }
}

/// The day in Japan, whose dates these are, whatever the machine's time zone.
pub fn day_of(now: SystemTime) -> Date {
    OffsetDateTime::from(now).to_offset(offset!(+9)).date()
}

fn distance(left: i64) -> String {
    match left {
        0 => "the last day is today".to_owned(),
        1 => "1 day left".to_owned(),
        2.. => format!("{left} days left"),
        -1 => "1 day ago".to_owned(),
        _ => format!("{} days ago", -left),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    fn registered(after_grace: AfterGrace) -> Registration {
        Registration {
            state: State::Registered,
            number: Some("C00-0000-0".to_owned()),
            valid_until: Some(date!(2027 - 03 - 31)),
            after_grace,
            ..Registration::default()
        }
    }

    fn told(registration: &Registration, today: Date) -> String {
        let notice = registration.notice(today);
        notice.map_or_else(String::new, |notice| {
            format!("{} | {} | {}", notice.found, notice.expected, notice.hint.unwrap_or_default())
        })
    }

    #[test]
    fn the_day_is_japans() {
        let at = |seconds| day_of(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds));
        // 2027-03-31T14:59:59Z and 15:00:00Z.
        assert_eq!((at(1_806_505_199), at(1_806_505_200)), (date!(2027 - 03 - 31), date!(2027 - 04 - 01)));
        assert_eq!(registered(AfterGrace::Warn).ends_at(), Some(1_806_505_200));
    }

    #[test]
    fn each_threshold_is_told_from_its_day_on_and_turns_once() {
        const ENDING: &str = "the new date, or state = \"renewal-pending\" once the renewal is applied for | ";
        let registration = registered(AfterGrace::Deny);
        let day = |left: i64| date!(2027 - 03 - 31) - Duration::days(left);
        for (left, expected) in [
            (91, String::new()),
            (90, format!("2027-03-31, 90 days left | {ENDING}")),
            (31, format!("2027-03-31, 31 days left | {ENDING}")),
            (1, format!("2027-03-31, 1 day left | {ENDING}")),
            (0, format!("2027-03-31, the last day is today | {ENDING}")),
        ] {
            assert_eq!(told(&registration, day(left)), expected, "{left}");
        }
        let turns: Vec<i64> = (-60..120).rev().filter(|left| registration.turns(day(left + 1), day(*left))).collect();
        assert_eq!(turns, [90, 60, 30, -1, -31]);
    }

    #[test]
    fn a_passed_date_asks_for_a_decision_and_does_what_was_chosen_after_its_grace() {
        const DECISION: &str = "a decision: the new date, state = \"renewal-pending\", or \"lapsed\"";
        let day = |passed: i64| date!(2027 - 03 - 31) + Duration::days(passed);
        let deny = registered(AfterGrace::Deny);
        let hint = "the service goes on until 2027-04-30, then it is refused (after_grace = \"deny\")";
        assert_eq!(told(&deny, day(1)), format!("2027-03-31, 1 day ago | {DECISION} | {hint}"));
        assert_eq!(told(&deny, day(30)), format!("2027-03-31, 30 days ago | {DECISION} | {hint}"));
        let over = "2027-03-31, 31 days ago: the service is refused (after_grace = \"deny\")";
        assert_eq!(told(&deny, day(31)), format!("{over} | {DECISION} | "));
        assert_eq!([0, 1, 30, 31, 400].map(|passed| deny.is_over(day(passed))), [false, false, false, true, true]);
        let warn = registered(AfterGrace::Warn);
        let goes_on = "the service goes on (after_grace = \"warn\")";
        for passed in [1, 31, 400] {
            let expected = format!("2027-03-31, {} | {DECISION} | {goes_on}", distance(-passed));
            assert_eq!(told(&warn, day(passed)), expected);
            assert!(!warn.is_over(day(passed)));
        }
    }

    #[test]
    fn a_pending_renewal_keeps_it_valid() {
        let pending = Registration { state: State::RenewalPending, ..registered(AfterGrace::Deny) };
        let until = date!(2027 - 03 - 31);
        assert_eq!(told(&pending, until), "");
        assert_eq!(
            told(&pending, until + Duration::days(400)),
            "2027-03-31, 400 days ago | the new date, or state = \"lapsed\": ask how the application stands | \
             the service goes on: a registration is valid until its renewal is decided (要確認)"
        );
        assert!(!pending.is_over(until + Duration::days(400)));
    }

    #[test]
    fn states_without_a_registration_know_no_date() {
        for state in [State::Lapsed, State::Withdrawn, State::Unverified, State::Exempt] {
            let registration = Registration { state, ..registered(AfterGrace::Deny) };
            assert_eq!(told(&registration, date!(2030 - 01 - 01)), "", "{state:?}");
            assert!(!registration.is_over(date!(2030 - 01 - 01)), "{state:?}");
        }
    }

    #[test]
    fn one_line_says_it() {
        let today = date!(2027 - 03 - 01);
        let liu = Registration { list: List::Liu, ..registered(AfterGrace::Warn) };
        assert_eq!(
            liu.in_words(today),
            "registered on the ISMAP-LIU list, C00-0000-0, until 2027-03-31 (30 days left)"
        );
        assert_eq!(Registration::default().in_words(today), "unverified");
    }
}
