//! The task that says loudly that it is observed, and ends it: in the log at once and each hour, in the record at each change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::tell;
use crate::connection::Gate;
use crate::policy::Until;
use crate::record::Lifecycle;

/// How late the end is seen where only the wall clock has it, which was set forward; decisions see it at once.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is said again.
const REMIND: Duration = Duration::from_secs(3600);

/// Without end.
pub(super) async fn enforce(gate: Arc<Gate>) {
    let mut reloads = gate.reloads();
    let mut told = Told::default();
    loop {
        let live = gate.live();
        let until = live.observance.until();
        if let Some(turn) = told.turn(until, Instant::now()) {
            let what = turn.sentence();
            tracing::warn!("{what}");
            if let Some(kind) = turn.lifecycle() {
                tell(&gate, kind, &what);
            }
            if let Turn::Ends(_) = turn {
                gate.ask_anew();
            }
        }
        let ends = live.observance.ends().filter(|_| until.is_some());
        let look = async {
            match ends {
                Some(ends) => sleep_until(ends.min(Instant::now() + LOOK)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = look => {}
            changed = reloads.changed() => if changed.is_err() { return },
        }
    }
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Begins(Until),
    GoesOn(Until),
    Ends(Until),
}

impl Turn {
    fn sentence(self) -> String {
        match self {
            Self::Begins(until) | Self::GoesOn(until) => format!(
                "Observing until {until}: names that no [[service]] lists are let through on port 443, as verified tunnels."
            ),
            Self::Ends(until) => {
                format!("Enforcing: observing, until {until}, is over. Tunnels that were only observed are cut.")
            }
        }
    }

    /// `None`: it is for the log alone.
    fn lifecycle(self) -> Option<Lifecycle> {
        match self {
            Self::Begins(_) => Some(Lifecycle::Observing),
            Self::GoesOn(_) => None,
            Self::Ends(_) => Some(Lifecycle::Enforcing),
        }
    }
}

/// What was said last, and when.
#[derive(Default)]
struct Told(Option<(Until, Instant)>);

impl Told {
    fn turn(&mut self, until: Option<Until>, now: Instant) -> Option<Turn> {
        let turn = match (self.0, until) {
            (None, None) => return None,
            (Some((before, said)), Some(until)) if before == until => {
                (now.duration_since(said) >= REMIND).then_some(Turn::GoesOn(until))?
            }
            (_, Some(until)) => Turn::Begins(until),
            (Some((before, _)), None) => Turn::Ends(before),
        };
        self.0 = until.map(|until| (until, now));
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::super::about;
    use super::*;
    use crate::config::{self, Scope};
    use crate::connection::Live;
    use crate::record::Recorder;

    fn until(seconds: u64) -> Until {
        Until::new(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn it_is_said_at_each_change_and_each_hour() {
        let (mut told, now) = (Told::default(), Instant::now());
        let rows = [
            (None, 0, None),
            (Some(until(9)), 1, Some(Turn::Begins(until(9)))),
            (Some(until(9)), 3600, None),
            (Some(until(9)), 3601, Some(Turn::GoesOn(until(9)))),
            (Some(until(9)), 7200, None),
            (Some(until(9)), 7201, Some(Turn::GoesOn(until(9)))),
            (Some(until(10)), 7202, Some(Turn::Begins(until(10)))),
            (None, 7203, Some(Turn::Ends(until(10)))),
            (None, 99_999, None),
        ];
        for (until, second, expected) in rows {
            assert_eq!(told.turn(until, now + Duration::from_secs(second)), expected, "{second}");
        }
    }

    /// The clock is the test's: a second before the moment it is observed, at the moment every tunnel is asked, whatever the wall says.
    #[tokio::test(start_paused = true)]
    async fn when_the_time_is_over_every_tunnel_is_asked_whether_it_may_go_on() {
        let dir = tempfile::tempdir().expect("directory");
        let end = (OffsetDateTime::now_utc() + Duration::from_secs(7200)).format(&Rfc3339).expect("a moment");
        let text = format!(
            "[site]\nenforcement = \"observe\"\nobserve_until = {end}\n[[listener]]\naddress = \"127.0.0.1:8080\"\n\
             [record]\npath = \"access.jsonl\"\n"
        );
        let file = dir.path().join("sekisho.toml");
        std::fs::write(&file, text).expect("written");
        let config = config::load(&file, Scope::Full, SystemTime::now()).unwrap_or_else(|error| panic!("{error}"));
        let recorder = Recorder::start(config.record.clone(), about(&config)).expect("a record");
        let gate = Gate::new(Live::new(config, None), recorder);
        let ends = gate.live().observance.ends().expect("it is observed");
        let mut asked = gate.reloads();
        let task = tokio::spawn(enforce(Arc::clone(&gate)));
        sleep_until(ends - Duration::from_secs(1)).await;
        assert!(gate.live().observance.until().is_some() && !asked.has_changed().expect("a gate"));
        asked.changed().await.expect("a gate");
        assert!(Instant::now() >= ends && Instant::now() < ends + LOOK, "{:?}", Instant::now() - ends);
        assert!(gate.live().observance.until().is_none());
        task.abort();
        gate.recorder().shutdown(Duration::from_secs(5)).expect("written");
        let record = std::fs::read_to_string(dir.path().join("access.jsonl")).expect("a record");
        let lines = |word: &str| record.matches(&format!("\"sekisho.lifecycle\":\"{word}\"")).count();
        assert_eq!((lines("observing"), lines("enforcing")), (1, 1), "{record}");
    }
}
