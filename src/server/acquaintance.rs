//! Who the users of this machine are to the service, looked up once a second at most: who connects without end has no file read for each
//! time.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tokio::net::unix::UCred;
use tokio::time::Instant;

use crate::aside::aside;
use crate::control::Settings;
use crate::control::accounts::Accounts;
use crate::control::role::{Peer, Role};

/// Where the machine keeps its users and groups.
const ETC: &str = "/etc";
/// How long what they say is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// Users, with the groups they run under, that are remembered in that time.
const MOST: usize = 256;

/// What is known at the moment.
#[derive(Default)]
pub(super) struct Acquaintance {
    read: Option<(Instant, Accounts)>,
    settings: Option<Settings>,
    /// By user and group.
    known: HashMap<(u32, u32), (Option<String>, Option<Role>)>,
}

impl Acquaintance {
    /// The peer, and its role. `service` is the user that the service runs as.
    pub(super) async fn of(&mut self, peer: &UCred, settings: Option<&Settings>, service: u32) -> (Peer, Option<Role>) {
        let now = Instant::now();
        let accounts = match self.read.take().filter(|(at, _)| now.duration_since(*at) < BELIEVED) {
            Some((at, accounts)) if self.settings.as_ref() == settings => self.read.insert((at, accounts)),
            believed => {
                self.known.clear();
                self.settings = settings.cloned();
                self.read.insert(match believed {
                    Some(believed) => believed,
                    None => (now, read().await),
                })
            }
        };
        let process = peer.pid().and_then(|pid| u32::try_from(pid).ok());
        let mut peer = Peer { user: peer.uid(), name: None, group: peer.gid(), process };
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let (name, role) = self.known.entry((peer.user, peer.group)).or_insert_with(|| {
            let role = settings.and_then(|settings| peer.role(settings, service, &accounts.1));
            (accounts.1.user_name(peer.user).map(str::to_owned), role)
        });
        peer.name = name.clone();
        (peer, *role)
    }
}

async fn read() -> Accounts {
    let accounts = aside(|| Accounts::read(Path::new(ETC))).await;
    accounts.flatten().unwrap_or_else(|error| {
        tracing::warn!("whose groups are not known is no member of any: {error}");
        Accounts::default()
    })
}
