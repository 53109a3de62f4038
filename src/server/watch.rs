//! The task that watches for overload, and says in log and record when the state changes.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use super::bind::BACKLOG;
use super::tell;
use crate::admit::Counted;
use crate::connection::Gate;
use crate::pressure::{Change, EVERY, Outside, State};
use crate::record::Lifecycle;

/// Without end.
pub(super) async fn watch(gate: Arc<Gate>) {
    let queue = queue();
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let live = gate.live();
        let listeners: Vec<SocketAddr> =
            live.config.listeners.iter().map(|listener| listener.address.socket()).collect();
        let slots = live.config.limits.all.connections.unwrap_or(u32::MAX);
        let outside = Outside {
            open: gate.limits().held(Counted::Connections) as usize,
            slots: slots as usize,
            listeners: &listeners,
            queue,
        };
        if let Some(change) = gate.pressure().sample(&outside) {
            say(&gate, &change);
        }
    }
}

fn say(gate: &Gate, change: &Change) {
    let kind = match change.to {
        State::Normal => {
            tracing::info!("{change}");
            Lifecycle::Normal
        }
        State::Shedding => {
            tracing::warn!("{change}");
            Lifecycle::Shedding
        }
        State::Refusing => {
            tracing::error!("{change}");
            Lifecycle::Refusing
        }
    };
    tell(gate, kind, &change.to_string());
}

/// Connections that the kernel keeps for a listener: what we ask for, where it grants that.
fn queue() -> u64 {
    let granted = fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok());
    granted.unwrap_or(u64::MAX).min(BACKLOG.unsigned_abs().into())
}
