//! The service begins: what can fail first, then everything at once.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::bind::{Bound, Held};
use super::control::{self, Opened};
use super::desk::Desk;
use super::fit::fits_itself;
use super::signals::Asked;
use super::systemd::feed_watchdog;
use super::takeover::Lent;
use super::workers::Workers;
use super::{Apart, Inherited, LEAST_MEMORY, Predecessor, Server, ServerError, about};
use crate::admin;
use crate::config::Config;
use crate::connection::{Gate, Live};
use crate::control::socket::Successor;
use crate::probe::Probe;
use crate::record::{Ready, Recorder};
use crate::restrict::Restriction;
use crate::telemetry::Health;

/// What is this process's as soon as it serves: the sockets, the record, and of a predecessor what it lends.
struct Places {
    bound: Bound,
    recorder: Recorder,
    run: Ready,
    control: Opened,
    lent: Option<Lent>,
}

impl Places {
    fn take(
        config: &Config,
        workers: &Workers,
        mut inherited: Inherited,
        predecessor: Option<&Predecessor>,
    ) -> Result<Self, ServerError> {
        if predecessor.is_none() {
            inherited.all_wanted(&config.own_addresses())?;
        }
        let bound = Bound::new(config, workers, &HashMap::new(), Held::default(), &mut inherited)?;
        fits_itself()?;
        let (mut first, settings) = (about(config), config.record.clone());
        let (mut lent, mut successor) = (None, Successor::No);
        if let Some(predecessor) = predecessor {
            predecessor.tell(&mut first);
            (lent, successor) = (predecessor.record()?, Successor::Yes);
        }
        let (lent, (recorder, run)) = match lent {
            None => (None, Recorder::ready_to_start(settings, first)?),
            Some((lent, record)) => (Some(lent), Recorder::ready_behind(settings, first, record)?),
        };
        let control = control::open(config.control.as_ref(), None, successor)?;
        Ok(Self { bound, recorder, run, control, lent })
    }
}

impl Server {
    /// Opens the record, binds every listener that is not inherited and begins to accept. Where there is a predecessor, it is taken over
    /// from: its tunnels come behind that.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left running, and a predecessor goes on.
    pub async fn start(
        mut config: Config,
        inherited: Inherited,
        predecessor: Option<Predecessor>,
        apart: Apart,
    ) -> Result<Self, ServerError> {
        let (scope, minter) = apart.minting.begin(&mut config).await;
        let health = Arc::new(Health::default());
        if minter.is_some() {
            health.minting_began();
        }
        let workers = Workers::start().map_err(ServerError::Threads)?;
        let Places { bound, recorder, run, control, lent } =
            Places::take(&config, &workers, inherited, predecessor.as_ref())?;
        let file = config.file.clone();
        let gate = open(config, recorder)?;
        let probe = Probe::new(&gate, workers.handles(), Arc::clone(&health))?;
        let (desk, commands) = desk(&gate, &health, apart.restriction);
        let admin::Views { scripts, proof, restriction, .. } = desk.views.clone();
        // Until here nothing has been written or accepted, and behind these two nothing can fail.
        predecessor.as_ref().map_or(Ok(()), Predecessor::may_serve)?;
        run.begin()?;
        let mut server = Self {
            gate,
            health,
            file,
            workers,
            listeners: HashMap::new(),
            admin: None,
            pac: None,
            control: None,
            desk,
            commands,
            trial: None,
            last_good: None,
            scripts,
            proof,
            predecessor: None,
            tending: Vec::new(),
            accepting: JoinSet::new(),
            minter,
            scope,
            restriction,
        };
        server.look_after();
        server.accept_on(bound);
        server.serve_control(control);
        let probing = server.accepting.spawn(probe.run(feed_watchdog));
        server.tending.push(probing);
        server.attend_minter();
        server.health.started();
        if let Some(predecessor) = predecessor
            && let Err(error) = server.go_on_from(predecessor, lent)
        {
            tracing::error!(%error, "nothing more comes over from the process before: its tunnels stay there");
        }
        server.record_problems();
        server.tell_restriction();
        tracing::info!(revision = %server.gate.live().config.revision, "ready");
        Ok(server)
    }
}

fn open(config: Config, recorder: Recorder) -> Result<Arc<Gate>, ServerError> {
    let gate = Gate::new(Live::new(config, None), recorder);
    let memory = gate.pressure().memory();
    match memory.budget() < LEAST_MEMORY {
        true => Err(ServerError::Memory { ceiling: memory.ceiling(), baseline: memory.baseline() }),
        false => Ok(gate),
    }
}

fn desk(gate: &Arc<Gate>, health: &Arc<Health>, restriction: Restriction) -> (Arc<Desk>, mpsc::Receiver<Asked>) {
    Desk::new(admin::Views {
        health: Arc::clone(health),
        gate: Arc::clone(gate),
        scripts: Arc::default(),
        proof: Arc::default(),
        restriction: Arc::new(ArcSwap::from_pointee(restriction)),
    })
}
