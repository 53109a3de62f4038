//! The task that says loudly that it is observed, and ends it: in the log at once and each hour, in the record at each change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::about;
use crate::connection::Gate;
use crate::record::Lifecycle;

/// How late the end is seen where only the wall clock has it, which was set forward; decisions see it at once.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is said again.
const REMIND: Duration = Duration::from_secs(3600);

/// Without end.
pub(super) async fn enforce(gate: Arc<Gate>) {
    let mut reloads = gate.reloads();
    let mut told = None;
    let mut said = Instant::now();
    loop {
        let live = gate.live();
        let until = live.observance.until();
        match (told, until) {
            (before, Some(until)) if before != Some(until) || said.elapsed() >= REMIND => {
                let what = format!(
                    "Observing until {until}: names that no [[service]] lists are let through on port 443, as verified tunnels."
                );
                tracing::warn!("{what}");
                said = Instant::now();
                if before != Some(until) {
                    tell(&gate, Lifecycle::Observing, &what);
                }
            }
            (Some(before), None) => {
                let what = format!("Enforcing: observing, until {before}, is over. Tunnels that were only observed are cut.");
                tracing::warn!("{what}");
                tell(&gate, Lifecycle::Enforcing, &what);
                gate.ask_anew();
            }
            _ => {}
        }
        told = until;
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

fn tell(gate: &Gate, kind: Lifecycle, message: &str) {
    let mut fields = about(&gate.live().config);
    fields.message = Some(message.into());
    gate.recorder().lifecycle(kind, fields);
}
