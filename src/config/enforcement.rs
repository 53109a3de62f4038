//! `site.enforcement` and `site.observe_until`: whether names that nothing lists are let through for a while, for learning.
//!
//! The text is read without a clock ([`read`]) and judged by one when the configuration is loaded ([`judge`]). What may not be here: what
//! observing lets through (`policy`).

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::de::DeValue;

use super::problem::{At, Problems};
use super::reader::Table;
use crate::policy::{Enforcement, HostPattern, Observe, Until};

/// Observing ends: whoever wants more writes another day, and looks at what was learned first.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
const EXPECTED: &str = "the end of observing: a date and time with its offset, at most 30 days ahead, such as \
                        2026-12-15T18:00:00+09:00";

/// `enforcement = "observe"`, and until when.
pub(super) struct Observed {
    until: Until,
    at: At,
    until_at: At,
}

/// `None`: it is enforced, or what stands there is an error.
pub(super) fn read<'t>(site: &Table<'t>, problems: &mut Problems<'_>) -> Option<Observed> {
    const WORDS: [(&str, bool); 2] = [("enforce", false), ("observe", true)];
    let observes = site.choice("enforcement", &WORDS, problems);
    let (at, until_at) = (site.place("enforcement"), site.place("observe_until"));
    let written = site.value("observe_until");
    // A misspelt word is an error already; which keys go with it is not known.
    let observes = observes.or_else(|| (!site.has("enforcement")).then_some(false))?;
    match (observes, written) {
        (false, None) => None,
        (false, Some(_)) => {
            let problem =
                problems.error(&until_at, "observe_until without enforcement = \"observe\"", "both or neither");
            problem.hint("remove observe_until: without it sekisho enforces");
            None
        }
        (true, None) => {
            site.missing("observe_until", EXPECTED, problems);
            None
        }
        (true, Some(value)) => {
            let until = moment(value.node);
            if until.is_none() {
                let found = site.found(value.node);
                let problem = problems.error(&until_at, found, EXPECTED);
                match value.node {
                    DeValue::Datetime(_) => {
                        problem.hint("Z behind the time for UTC, +09:00 for Japan (日本時間は +09:00)");
                    }
                    DeValue::String(_) => {
                        problem.hint("without quotes");
                    }
                    _ => {}
                }
            }
            until.map(|until| Observed { until, at, until_at })
        }
    }
}

/// RFC 3339 with an offset, from 1970 to 9999.
fn moment(node: &DeValue<'_>) -> Option<Until> {
    const LAST: u64 = 253_402_300_799;
    let text = node.as_datetime()?.to_string();
    let moment = OffsetDateTime::parse(&text, &Rfc3339).ok()?;
    let seconds = u64::try_from(moment.unix_timestamp()).ok().filter(|seconds| *seconds <= LAST)?;
    Some(Until::new(SystemTime::UNIX_EPOCH + Duration::new(seconds, moment.nanosecond())))
}

/// By the wall clock. `closed` are the hosts that a tenant restriction of the configuration is for.
pub(super) fn judge(
    observed: Option<Observed>,
    closed: &[HostPattern],
    now: SystemTime,
    problems: &mut Problems<'_>,
) -> Enforcement {
    let Some(Observed { until, at, until_at }) = observed else { return Enforcement::Enforce };
    if !until.is_ahead(now) {
        let expected = "enforcement = \"enforce\" without observe_until: sekisho enforces, as if that stood there";
        problems.warning(&until_at, format!("{until}, which has passed"), expected);
        return Enforcement::Enforce;
    }
    let last = Until::new(now + LONGEST);
    if until > last {
        let problem = problems.error(&until_at, until.to_string(), format!("at most 30 days ahead: {last} or before"));
        problem.hint("observing is for learning; what was learned by then stands in the record (`sekisho suggest`)");
        return Enforcement::Enforce;
    }
    let found = format!("\"observe\": until {until} clients reach names that no [[service]] lists, on port 443");
    problems
        .warning(&at, found, "\"enforce\", as soon as it is known what is used")
        .hint("`sekisho suggest access.jsonl` makes [[service]] blocks of what was let through");
    Enforcement::Observe(Observe { until, closed: closed.into() })
}
