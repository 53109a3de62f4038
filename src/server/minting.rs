//! The service and the process that has its issuing key: what both read, and the end of that process.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{Server, ServerError, tell};
use crate::config::{Config, Scope, Source};
use crate::connection::Gate;
use crate::minter::{LinkError, Minter, TakeUpError, TakenUp};
use crate::record::Lifecycle;
use crate::restrict::Restriction;
use crate::telemetry::Health;

/// How often it is asked whether it is there.
const EVERY: Duration = Duration::from_secs(1);

/// Who has the issuing key.
pub enum Minting {
    /// This process: a trial on one machine.
    Here,
    /// Nobody, as there was no `[issuing_ca]` when the service began.
    Nowhere,
    /// Another process, with what both have read.
    Elsewhere(Minter, TakenUp),
}

impl Minting {
    /// What `config` is read for from here on, and who signs for it.
    pub(super) async fn begin(self, config: &mut Config) -> (Scope, Option<Minter>) {
        match self {
            Self::Here => (Scope::Full, None),
            Self::Nowhere => (Scope::WithoutIssuingKey, None),
            Self::Elsewhere(minter, taken_up) => {
                minter.keep(Some(&taken_up)).await;
                config.issuing = Some(taken_up.issuer);
                (Scope::WithoutIssuingKey, Some(minter))
            }
        }
    }
}

/// What the process is without: the issuing key, and what it has given up.
pub struct Apart {
    pub minting: Minting,
    pub restriction: Restriction,
}

impl Apart {
    /// Of a process that serves whoever has started it: nothing.
    pub fn nothing() -> Self {
        Self { minting: Minting::Here, restriction: Restriction::default() }
    }
}

impl Server {
    /// Has the minting process read what `config` was read from, where the key is there.
    pub(super) async fn have_minted(
        &self,
        config: &mut Config,
        source: Source,
    ) -> Result<Option<TakenUp>, ServerError> {
        let Some(minter) = &self.minter else {
            let held_nowhere = self.scope == Scope::WithoutIssuingKey && config.issuing.is_some();
            return if held_nowhere { Err(TakeUpError::None.into()) } else { Ok(None) };
        };
        let taken_up = minter.take_up(config, source).await?;
        config.issuing = taken_up.as_ref().map(|taken_up| Arc::clone(&taken_up.issuer));
        Ok(taken_up)
    }

    pub(super) fn attend_minter(&mut self) {
        if let Some(minter) = self.minter.clone() {
            self.accepting.spawn(attend(minter, Arc::clone(&self.gate), Arc::clone(&self.health)));
        }
    }

    pub(super) fn minting_ended(&self, how: String) -> ServerError {
        let error = ServerError::MintingEnded(how);
        let why = error.to_string();
        tracing::error!("{why}");
        self.health.minting_ended();
        tell(&self.gate, Lifecycle::MintingEnded, &why);
        error
    }
}

/// Asks once a second whether the minting process is there, and says when it is not, and when it is again. Without end.
async fn attend(minter: Minter, gate: Arc<Gate>, health: Arc<Health>) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let was_reading = minter.is_reading();
        let answered = minter.answers().await;
        // Of its end another hears; a queue of askers is over in a moment; and while it reads a configuration, leaves wait for that.
        if matches!(answered, Err(LinkError::Ended | LinkError::Busy)) || was_reading || minter.is_reading() {
            continue;
        }
        let (kind, what) = match (answered, health.minting_stalled().is_some()) {
            (Ok(()), false) | (Err(_), true) => continue,
            (Ok(()), true) => {
                health.set_minting_stalled(None);
                (Lifecycle::MintingRecovered, "the minting process answers again".to_owned())
            }
            (Err(error), false) => {
                let what = format!(
                    "{error}: what has no leaf yet cannot be inspected; if it does not come back, restart sekisho"
                );
                health.set_minting_stalled(Some(what.clone()));
                (Lifecycle::MintingStalled, what)
            }
        };
        tracing::warn!("{what}");
        tell(&gate, kind, &what);
    }
}

/// Resolves when the minting process has ended, with how; never without one.
pub(super) async fn end_of(minter: Option<&mut Minter>) -> String {
    match minter {
        Some(minter) => minter.ended().await,
        None => std::future::pending().await,
    }
}
