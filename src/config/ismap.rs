//! `[service.ismap]`, and what `[site]` asks of it: reading, the rules without a clock (`judge`) and those of the day (`judge_day`).
//!
//! What may not be here: what follows from a date (`approval`).

use time::{Date, Month};

use super::Site;
use super::approval::{AfterGrace, Approval, Approvals, Demand, List, Registration, State};
use super::problem::{At, Problems, Severity, quoted};
use super::reader::Table;
use super::schema;
use super::service::Service;

const STATES: [(&str, State); 6] = [
    ("registered", State::Registered),
    ("renewal-pending", State::RenewalPending),
    ("lapsed", State::Lapsed),
    ("withdrawn", State::Withdrawn),
    ("unverified", State::Unverified),
    ("exempt", State::Exempt),
];
const LISTS: [(&str, List); 2] = [("ismap", List::Ismap), ("ismap-liu", List::Liu)];
const AFTER: [(&str, AfterGrace); 2] = [("deny", AfterGrace::Deny), ("warn", AfterGrace::Warn)];
pub(super) const DEMANDS: [(&str, Demand); 2] = [("warn", Demand::Warn), ("enforce", Demand::Enforce)];

/// Longest grace, in days.
const MAX_GRACE: i64 = 365;
/// A registration ends one year and four months after the audited period (ISMAP基本規程 3.5), which is over when it begins.
const LONGEST: i64 = 490;
/// Characters of a note.
const MAX_NOTE: usize = 200;
/// Characters of a number whose form is not known.
const MAX_NUMBER: usize = 40;

/// A `[service.ismap]` and where its parts stand.
pub(super) struct Stated {
    pub registration: Registration,
    state_at: At,
    list_at: At,
    until_at: At,
    confirmed_at: At,
    grace_at: At,
    /// Whether the administrator has said what is done after the grace.
    chosen: bool,
    /// A word of it is none: what would follow from the default in its place would only mislead.
    misread: bool,
}

/// `None` where the service has none.
pub(super) fn read<'t>(service: &Table<'t>, problems: &mut Problems<'_>) -> Option<Stated> {
    let table = service.table("ismap", Some(&schema::ISMAP), problems);
    if !table.is_present() {
        return None;
    }
    let default = Registration::default();
    let (state, list) = (table.choice("state", &STATES, problems), table.choice("list", &LISTS, problems));
    let misread = (table.has("state") && state.is_none()) || (table.has("list") && list.is_none());
    let list = list.unwrap_or(default.list);
    let registration = Registration {
        state: state.unwrap_or(default.state),
        list,
        number: number(&table, list, problems),
        scope: note(&table, "scope", "what of it is registered, or why no registration is needed", problems),
        valid_until: day(&table, "valid_until", problems),
        confirmed_by: note(&table, "confirmed_by", "who looked it up", problems),
        confirmed_on: day(&table, "confirmed_on", problems),
        grace: grace(&table, problems).unwrap_or(default.grace),
        after_grace: table.choice("after_grace", &AFTER, problems).unwrap_or(default.after_grace),
    };
    require_parts(&table, registration.state, problems);
    Some(Stated {
        registration,
        state_at: table.place("state"),
        list_at: table.place("list"),
        until_at: table.place("valid_until"),
        confirmed_at: table.place("confirmed_on"),
        grace_at: table.place("after_grace"),
        chosen: table.has("after_grace"),
        misread,
    })
}

/// What a state cannot be said without.
fn require_parts(table: &Table<'_>, state: State, problems: &mut Problems<'_>) {
    const NUMBER: (&str, &str) = ("number", "the registration's number, as the list of ISMAP has it");
    const UNTIL: (&str, &str) = ("valid_until", "its last day, as the list of ISMAP has it, such as 2027-03-31");
    const BY: (&str, &str) = ("confirmed_by", "who looked it up");
    const ON: (&str, &str) = ("confirmed_on", "the day it was looked up, such as 2026-11-01");
    const WHY: (&str, &str) = ("scope", "why the service needs no registration");
    let due: &[(&str, &str)] = match state {
        State::Registered | State::RenewalPending => &[NUMBER, UNTIL, BY, ON],
        State::Exempt => &[WHY, BY, ON],
        State::Lapsed | State::Withdrawn | State::Unverified => &[],
    };
    for (name, what) in due.iter().filter(|(name, _)| !table.has(name)) {
        table.missing(name, &format!("{what}: state = \"{}\" cannot be without it", state.as_str()), problems);
    }
}

/// What services say, held against what `[site]` asks for.
pub(super) fn judge(site: &Site, services: &[Service], problems: &mut Problems<'_>) {
    for service in services {
        if let Some(demand) = site.require_ismap {
            let severity = match demand {
                Demand::Enforce => Severity::Error,
                Demand::Warn => Severity::Warning,
            };
            judge_state(site, service, severity, problems);
        }
        let Some(stated) = &service.ismap else { continue };
        let registration = &stated.registration;
        let enforced = site.require_ismap == Some(Demand::Enforce);
        if enforced && registration.state == State::Registered && !stated.chosen {
            let expected = format!(
                "\"deny\" or \"warn\": what is done {} days after valid_until, if nobody has decided",
                registration.grace
            );
            problems.error(&stated.grace_at, "nothing", expected);
        }
        if !enforced && registration.after_grace == AfterGrace::Deny {
            let expected = "site.require_ismap = \"enforce\", or \"warn\" here: otherwise no service is refused for its registration";
            problems.error(&stated.grace_at, "\"deny\"", expected);
        }
    }
}

fn judge_state(site: &Site, service: &Service, severity: Severity, problems: &mut Problems<'_>) {
    const EXPECTED: &str = "\"registered\" or \"renewal-pending\", which site.require_ismap asks for, or \"exempt\"";
    const HINT: &str = "look the service up in the ISMAP cloud service list (https://www.ismap.go.jp/csm), with the scope of its statement \
                        (言明の対象範囲)";
    let Some(Stated { registration, state_at, list_at, misread, .. }) = &service.ismap else {
        let expected = "[service.ismap] with state = \"registered\", which site.require_ismap asks for, or \"exempt\"";
        problems.say(severity, &service.at, "a service without [service.ismap]", expected).hint(HINT);
        return;
    };
    match registration.state {
        _ if *misread => {}
        State::Unverified => {
            problems.say(severity, state_at, "\"unverified\"", EXPECTED).hint(HINT);
        }
        state @ (State::Lapsed | State::Withdrawn) => {
            let found = format!("\"{}\"", state.as_str());
            problems
                .say(severity, state_at, found, EXPECTED)
                .hint("remove the service, or move it to a registered one");
        }
        State::Registered | State::RenewalPending if registration.list == List::Liu && !site.accept_liu => {
            let expected = "a registration on the list of ISMAP itself, or site.accept_liu = true";
            problems.say(severity, list_at, "\"ismap-liu\"", expected);
        }
        State::Registered | State::RenewalPending | State::Exempt => {}
    }
}

/// What of the services' registrations is kept, once they have been judged: all where `[site]` asks for them, else what is stated.
pub(super) fn lodge(site: &Site, services: &[Service], problems: &Problems<'_>) -> Vec<(Approval, Option<DatesAt>)> {
    let lodged = (1..).zip(services).filter(|(_, service)| site.require_ismap.is_some() || service.ismap.is_some());
    let approval = |(ordinal, service): (usize, &Service)| {
        let stated = service.ismap.as_ref();
        let at = stated.map_or(&service.at, |stated| &stated.until_at);
        let (line, column) = problems.position(at.offset);
        let approval = Approval {
            rule: format!("service/{ordinal}"),
            service: service.name.clone(),
            registration: stated.map(|stated| stated.registration.clone()).unwrap_or_default(),
            place: (line, column, at.key.clone()),
        };
        let dates = stated.map(|stated| (stated.until_at.clone(), stated.confirmed_at.clone()));
        (approval, dates)
    };
    lodged.map(approval).collect()
}

/// Where `valid_until` and `confirmed_on` stand.
pub(super) type DatesAt = (At, At);

/// The rules of the day.
pub(super) fn judge_day(
    lodged: Vec<(Approval, Option<DatesAt>)>,
    today: Date,
    problems: &mut Problems<'_>,
) -> Approvals {
    for (Approval { registration, .. }, dates) in &lodged {
        let Some((until_at, confirmed_at)) = dates else { continue };
        if let Some(on) = registration.confirmed_on.filter(|on| *on > today) {
            let problem = problems.error(
                confirmed_at,
                format!("{on}, which is to come"),
                format!("a day up to today, {today} in Japan"),
            );
            problem.hint("if the date is right, the clock of this machine is not");
        }
        if registration.days_left(today).is_some_and(|left| left > LONGEST) {
            let found = registration
                .valid_until
                .map_or_else(String::new, |until| format!("{until}, more than 16 months ahead"));
            let expected = "the last day as the list of ISMAP has it: a registration ends one year and four months after the audited \
                            period (ISMAP基本規程 3.5, 要確認)";
            problems.warning(until_at, found, expected);
        }
        if let Some(notice) = registration.notice(today) {
            let problem = problems.warning(until_at, notice.found, notice.expected);
            if let Some(hint) = notice.hint {
                problem.hint(hint);
            }
        }
    }
    Approvals { services: lodged.into_iter().map(|(approval, _)| approval).collect(), day: today }
}

/// The form is all that is known of numbers: on the list of ISMAP `C` and two, four and one digits; on that of ISMAP-LIU not even
/// that.
fn number<'t>(table: &Table<'t>, list: List, problems: &mut Problems<'_>) -> Option<String> {
    let text = table.text("number", problems)?;
    let (sound, expected) = match list {
        List::Ismap => {
            (is_number(text.text), "a number of the ISMAP list: C, then 2, 4 and 1 digits with hyphens between")
        }
        List::Liu => (is_plain(text.text), "a number of the ISMAP-LIU list: letters, digits and hyphens, at most 40"),
    };
    if !sound {
        problems.error(&text.at, quoted(text.text), expected);
    }
    sound.then(|| text.text.to_owned())
}

/// `^C\d{2}-\d{4}-\d$`
fn is_number(text: &str) -> bool {
    let digits = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.strip_prefix('C').unwrap_or_default().split('-').collect();
    parts.len() == 3 && parts.iter().zip([2, 4, 1]).all(|(part, length)| digits(part, length))
}

fn is_plain(text: &str) -> bool {
    (1..=MAX_NUMBER).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn note<'t>(table: &Table<'t>, name: &str, expected: &str, problems: &mut Problems<'_>) -> Option<String> {
    let text = table.text(name, problems)?;
    let sound = !text.text.trim().is_empty()
        && text.text.chars().count() <= MAX_NOTE
        && !text.text.chars().any(char::is_control);
    if !sound {
        problems.error(&text.at, quoted(text.text), format!("{expected}: 1 to {MAX_NOTE} printable characters"));
    }
    sound.then(|| text.text.to_owned())
}

/// A day of TOML, without a time and without quotes. One that is not in the calendar is broken TOML already.
pub(super) fn day(table: &Table<'_>, name: &str, problems: &mut Problems<'_>) -> Option<Date> {
    let value = table.value(name)?;
    let written = value.node.as_datetime().filter(|written| written.time.is_none() && written.offset.is_none());
    let read = written.and_then(|written| written.date).and_then(|date| {
        let month = Month::try_from(date.month).ok()?;
        Date::from_calendar_date(i32::from(date.year), month, date.day).ok()
    });
    if read.is_none() {
        let problem = problems.error(&value.at, table.found(value.node), "a day, such as 2027-03-31");
        if value.node.is_str() {
            problem.hint("without quotes");
        }
    }
    read
}

/// `30d`, from one day to a year.
fn grace(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<i64> {
    let text = table.text("grace", problems)?;
    let digits =
        text.text.strip_suffix('d').filter(|digits| digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()));
    let days = digits.and_then(|digits| digits.parse().ok()).filter(|days| (1..=MAX_GRACE).contains(days));
    if days.is_none() {
        problems.error(&text.at, quoted(text.text), format!("days from \"1d\" to \"{MAX_GRACE}d\""));
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_their_neighbours() {
        for text in ["C21-0005-2", "C00-0000-0"] {
            assert!(is_number(text), "{text}");
        }
        for text in [
            "",
            "C",
            "C21-0005",
            "C21-0005-",
            "C21-0005-22",
            "C21-005-2",
            "C2-0005-2",
            "c21-0005-2",
            "D21-0005-2",
            " C21-0005-2",
            "C21-0005-2-2",
            "C２1-0005-2",
            "C21_0005_2",
            "CC21-0005-2",
        ] {
            assert!(!is_number(text), "{text}");
        }
        assert!(is_plain("L24-0001") && is_plain(&"x".repeat(40)));
        for text in ["", "L 24", "L24_1", "市", "L\n", &"x".repeat(41)] {
            assert!(!is_plain(text), "{text}");
        }
    }
}
