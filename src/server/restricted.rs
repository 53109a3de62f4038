//! The service and what its process has given up: what it says of it, and what a reload may not need.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::{Server, ServerError, tell};
use crate::config::{Config, LoadError, Problem};
use crate::files::open_regular;
use crate::record::Lifecycle;
use crate::restrict::{Missing, Reach};
use crate::upstream::resolve::{NamedIn, RESOLV_CONF};

/// Of what is missing, as much as a line holds.
const NAMED: usize = 5;

/// Why only another process can take a configuration up.
#[derive(Debug, thiserror::Error)]
pub enum GivenUp {
    #[error("restart needed: the service gave up at its start {}", listed(.0))]
    Missing(Vec<Missing>),
    #[error(
        "{0}\nrestart needed, where the file is readable otherwise: the service reads no folders but those that its configuration named \
         when it began"
    )]
    Unreadable(LoadError),
}

fn listed(missing: &[Missing]) -> String {
    let mut named: Vec<String> = missing.iter().take(NAMED).map(Missing::to_string).collect();
    if missing.len() > NAMED {
        named.push(format!("{} more", missing.len() - NAMED));
    }
    named.join(", ")
}

/// The name servers from before, since the file that names those of now cannot be read.
fn go_on_with(servers: &[SocketAddr], config: &mut Config) {
    config.resolver.servers = servers.to_vec();
    let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
    let found = format!(
        "another file was put in its place since the start, which the service gave up reading; it goes on with {}",
        servers.join(", ")
    );
    config.warnings.push(Problem::warning_of(RESOLV_CONF, &found, "restart, or name [resolver] servers"));
}

/// Whether it is there and cannot be read: who changes the file puts another one in its place, and of /etc only files are granted.
fn is_refused(file: &Path) -> bool {
    open_regular(file).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

impl Server {
    /// In log and record.
    pub(super) fn tell_restriction(&self) {
        let (mut held, mut missed) = (Vec::new(), Vec::new());
        for (kind, why_not) in self.restriction.load().results() {
            match why_not {
                None => held.push(kind.as_str()),
                Some(why) => {
                    tracing::warn!(kind = kind.as_str(), "not restricted: {why}");
                    missed.push(format!("{}: {why}", kind.as_str()));
                }
            }
        }
        if !held.is_empty() {
            tracing::info!("restricted: {}", held.join(", "));
        }
        if !missed.is_empty() {
            tell(&self.gate, Lifecycle::Unrestricted, &missed.join("; "));
        }
    }

    /// Another configuration may have its files elsewhere: what has changed by that in log, record and metrics.
    pub(super) fn look_at_restriction_again(&self) {
        let before = self.restriction.load_full();
        if !before.is_applied() {
            return;
        }
        let now = before.looked_at_again(&Reach::of_service(&self.gate.live().config, self.state_directory()));
        let same = before.results().eq(now.results());
        self.restriction.store(Arc::new(now));
        if !same {
            self.tell_restriction();
        }
    }

    fn state_directory(&self) -> Option<&Path> {
        self.last_good.as_ref().and_then(|last_good| last_good.path().parent())
    }

    /// # Errors
    /// [`GivenUp::Missing`].
    pub(super) fn needs_nothing_given_up(&self, config: &mut Config) -> Result<(), GivenUp> {
        let restriction = self.restriction.load();
        let mut missing = restriction.missing(&Reach::of_service(config, self.state_directory()));
        let of_system = config.resolver.named_in == NamedIn::ResolvConf;
        if of_system && restriction.is_applied() && is_refused(Path::new(RESOLV_CONF)) {
            let before = &self.gate.live().config.resolver;
            match before.named_in {
                NamedIn::ResolvConf => go_on_with(&before.servers, config),
                NamedIn::Configuration => missing.push(Missing::Read(RESOLV_CONF.into())),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(GivenUp::Missing(missing)) }
    }

    /// What could not be read may only be out of this process's reach.
    pub(super) fn explained(&self, error: LoadError) -> ServerError {
        // EACCES, in the system's words, as Landlock says it.
        let refused = error.problems.iter().any(|problem| problem.to_string().contains("(os error 13)"));
        if refused && self.restriction.load().is_applied() { GivenUp::Unreadable(error).into() } else { error.into() }
    }
}
