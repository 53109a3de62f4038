//! Changes of the configuration that somebody asks for by the control socket: taken up at once, or on trial.
//!
//! A trial is FILE.trial in force while FILE stays as it was. Unless it is confirmed in its time, FILE is taken up again; so it is at a
//! restart, whatever ended the process. Confirmed means that FILE has become the very text that was on trial: whoever confirms has renamed
//! it, as the service cannot write its own configuration. He may have been killed before he could say so: FILE alone decides.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::control::Opened;
use super::desk::{Change, Command, InForce, stamp};
use super::{Server, ServerError, control, tell, tell_of};
use crate::aside::aside;
use crate::config::{LastGood, Source};
use crate::connection::Live;
use crate::control::protocol::{Done, MAX_TRIAL, Refusal, Word};
use crate::control::role::Peer;
use crate::record::Lifecycle;

/// How long after a roll-back that failed it is tried again: another program may have taken the address of a listener.
const AGAIN: Duration = Duration::from_secs(10);

/// A configuration on trial.
#[derive(Clone)]
pub(super) struct Trial {
    /// As loaded, by which FILE is known again: what is in force of it may change with the day.
    pub(super) revision: Arc<str>,
    pub(super) ends: Instant,
    pub(super) until: SystemTime,
    pub(super) by: String,
    /// SHA-256 of its text.
    text: [u8; 32],
    /// What was in force before, for the case that FILE cannot be read at the end.
    before: Arc<Live>,
    /// And where that was the last good one, which.
    last_good: Option<Arc<String>>,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {} is on trial until {}, begun by {}", self.revision, stamp(self.until), self.by)
    }
}

/// How a trial ended that was to be rolled back.
enum TrialEnd {
    RolledBack(String),
    /// The file has become what was on trial.
    Confirmed(String),
}

/// Resolves when the trial's time is over; never, where there is none.
pub(super) async fn over(trial: Option<&Trial>) {
    match trial {
        Some(trial) => sleep_until(trial.ends).await,
        None => std::future::pending().await,
    }
}

impl Server {
    /// Uses the last good configuration's place: what is in force is kept there, unless it came from there itself, as `instead` says.
    pub async fn keep_in(&mut self, last_good: LastGood, instead: Option<String>) {
        self.last_good = Some(last_good);
        let Some(what) = instead else { return self.keep_last_good().await };
        tracing::error!("{what}");
        tell(&self.gate, Lifecycle::LastGood, &what);
        self.health.last_good_taken(what);
    }

    pub(super) async fn keep_last_good(&self) {
        let Some(last_good) = self.last_good.clone() else { return };
        let live = self.gate.live();
        let path = last_good.path().to_owned();
        let keeping = aside(move || last_good.keep(&live.config, SystemTime::now()));
        if let Err(error) = keeping.await.flatten() {
            let what =
                format!("the configuration could not be kept as the last good one in {}: {error}", path.display());
            tracing::warn!("{what}");
            tell(&self.gate, Lifecycle::ConfigProblem, &what);
        }
    }

    /// Serves the control socket that was opened, and leaves the one that is not wanted any more.
    pub(super) fn serve_control(&mut self, opened: Opened) {
        match opened {
            Opened::None => self.control = None,
            Opened::Same(mode) => {
                if let Some(Err(error)) = self.control.as_ref().map(|(file, _)| file.set_mode(mode)) {
                    tracing::error!(%error, "the control socket keeps its mode");
                }
            }
            Opened::New(listener, mut file) => {
                let (stop, stopped) = oneshot::channel();
                if let Err(error) = file.put() {
                    tracing::error!(%error, "the control socket cannot be put in its place");
                }
                let file = Arc::new(file);
                tracing::info!(path = %file.path().display(), "control socket");
                self.accepting.spawn(control::serve(listener, Arc::clone(&file), Arc::clone(&self.desk), stopped));
                self.control = Some((file, stop));
            }
        }
    }

    /// Does what is asked and says what came of it. Whether another configuration is in force.
    pub(super) async fn change(&mut self, command: Command) -> bool {
        let Command { change, peer, reply } = command;
        let before = Arc::clone(&self.gate.live().config.revision);
        let outcome = match change {
            Change::Reload { revision } => self.reload_to(&revision).await,
            Change::Trial { revision, seconds } => self.begin_trial(&revision, seconds, &peer).await,
            Change::Confirm { revision } => self.confirm(&revision, &peer).await,
            Change::Rollback => self.roll_back_now(&peer).await,
        };
        let revision = Arc::clone(&self.gate.live().config.revision);
        let changed = outcome.is_ok() || revision != before;
        // Who asked may have gone.
        let _ = reply.send(outcome.map(|message| Done { message, revision: revision.to_string() }));
        changed
    }

    async fn reload_to(&mut self, revision: &str) -> Result<String, Refusal> {
        if let Some(trial) = &self.trial {
            return Err(Refusal::new(Word::OnTrial, format!("{trial}: confirm it or roll it back first")));
        }
        let taken = self.take_up(Source::File, Some(revision)).await.map_err(refusal)?;
        Ok(format!("revision {taken} is in force"))
    }

    async fn begin_trial(&mut self, revision: &str, seconds: u64, peer: &Peer) -> Result<String, Refusal> {
        if let Some(trial) = &self.trial {
            return Err(Refusal::new(Word::OnTrial, format!("{trial}: one at a time")));
        }
        if !(1..=MAX_TRIAL).contains(&seconds) {
            let message = format!("a trial of {seconds} s: 1 to {MAX_TRIAL} are possible");
            return Err(Refusal::new(Word::Malformed, message));
        }
        let (before, last_good) = (self.gate.live(), self.health.last_good());
        self.take_up(Source::Trial, Some(revision)).await.map_err(refusal)?;
        let time = Duration::from_secs(seconds);
        let (ends, until) = (Instant::now() + time, SystemTime::now() + time);
        let (text, by) = (self.gate.live().config.text_sha256, peer.to_string());
        let trial = Arc::new(Trial { revision: revision.into(), ends, until, by, text, before, last_good });
        let in_force = InForce { since: SystemTime::now(), trial: Some(Arc::clone(&trial)) };
        self.desk.in_force.store(Arc::new(in_force));
        // Without the name of who began it, which is nobody's business on the admin listener.
        self.health.set_trial(Some(format!("revision {} until {}, then back", trial.revision, stamp(until))));
        let message = trial.to_string();
        tracing::warn!("{message}");
        tell_of(&self.gate, Lifecycle::TrialBegun, &message, Some(peer), None);
        self.trial = Some(trial);
        Ok(message)
    }

    async fn confirm(&mut self, revision: &str, peer: &Peer) -> Result<String, Refusal> {
        match &self.trial {
            None => {
                return Err(Refusal::new(Word::NotOnTrial, "nothing is on trial: its time was over, or it was ended"));
            }
            Some(trial) if *trial.revision != *revision => {
                return Err(Refusal::new(Word::NotOnTrial, format!("not revision {revision} is on trial: {trial}")));
            }
            Some(_) => {}
        }
        // FILE is what was on trial by now, or nothing changes and the trial goes on.
        self.take_up(Source::File, Some(revision)).await.map_err(refusal)?;
        self.end_trial();
        let message = format!("revision {revision} was confirmed by {peer}, and is the file's");
        tracing::info!("{message}");
        tell_of(&self.gate, Lifecycle::TrialConfirmed, &message, Some(peer), None);
        Ok(message)
    }

    async fn roll_back_now(&mut self, peer: &Peer) -> Result<String, Refusal> {
        if self.trial.is_none() {
            return Err(Refusal::new(Word::NotOnTrial, "nothing is on trial"));
        }
        match self.roll_back(&format!("rolled back by {peer}"), Some(peer)).await.map_err(refusal)? {
            TrialEnd::RolledBack(message) => Ok(message),
            TrialEnd::Confirmed(message) => {
                let hint = "there is nothing to go back to; apply the configuration that is to be in force";
                Err(Refusal::new(Word::NotOnTrial, format!("{message}: {hint}")))
            }
        }
    }

    /// Nobody has confirmed it. Whether the file is in force again.
    pub(super) async fn trial_over(&mut self) -> bool {
        match self.roll_back("nobody confirmed it in time", None).await {
            Ok(_) => true,
            Err(error) => {
                let what = format!(
                    "the trial is over and goes on, as the file cannot be taken up: {error}; tried again in 10 s"
                );
                tracing::error!("{what}");
                if let Some(trial) = &mut self.trial {
                    // As others see it, it was over then.
                    Arc::make_mut(trial).ends = Instant::now() + AGAIN;
                }
                false
            }
        }
    }

    async fn roll_back(&mut self, why: &str, peer: Option<&Peer>) -> Result<TrialEnd, ServerError> {
        let Some(trial) = self.trial.as_ref() else {
            return Ok(TrialEnd::RolledBack("nothing is on trial".to_owned()));
        };
        let (tried, before) = (Arc::clone(&trial.revision), Arc::clone(&trial.before));
        let (text, last_good) = (trial.text, trial.last_good.clone());
        let back = match self.take_up(Source::File, None).await {
            // A file that cannot be taken up as it is, whichever process finds that, is no reason to go on with what nobody wants.
            Err(ServerError::Config(_) | ServerError::GivenUp(_) | ServerError::TakeUp(_)) => {
                let revision = self.put_in_force(before.config.clone()).await?;
                if let Some(which) = last_good {
                    self.health.last_good_taken(which.to_string());
                }
                format!("revision {revision} is in force again, though the file cannot be taken up")
            }
            taken => format!("revision {} is in force again, as the file has it", taken?),
        };
        if self.gate.live().config.text_sha256 == text {
            self.end_trial();
            let message = format!(
                "revision {tried} is the file's: it was confirmed, by somebody who was ended before he could say so"
            );
            tracing::warn!("{message}");
            tell(&self.gate, Lifecycle::TrialConfirmed, &message);
            return Ok(TrialEnd::Confirmed(message));
        }
        self.end_trial();
        let message = format!("the trial of revision {tried} is over ({why}): {back}");
        tracing::warn!("{message}");
        tell_of(&self.gate, Lifecycle::TrialRolledBack, &message, peer, None);
        Ok(TrialEnd::RolledBack(message))
    }

    fn end_trial(&mut self) {
        self.trial = None;
        self.health.set_trial(None);
        self.desk.in_force.store(Arc::new(InForce { since: SystemTime::now(), trial: None }));
    }
}

fn refusal(error: ServerError) -> Refusal {
    let word = match &error {
        ServerError::AnotherRevision { .. } => Word::AnotherRevision,
        _ => Word::Refused,
    };
    Refusal::new(word, error.to_string())
}
