//! The office day: one table of what clients do, and the clients.
//!
//! The proportions are chosen, not measured. They follow what is known of office suites in the cloud: a client keeps sessions open
//! all day on which little happens (mail, presence, notifications), opens several connections at once when somebody opens a page,
//! and moves files now and then. A site that has a record of its own should compare it with the table.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::client::SendRequest;
use tokio::time::{Instant, sleep_until};

use super::answer::SCRATCH;
use super::h2::{Http2, ask, request};
use super::pace::{Budget, Schedule};
use super::work::{self, Session, Stage, get, post};
use super::{Failure, origin};

/// What one client does again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A small GET on an HTTP/2 connection that is kept all day.
    Small,
    /// So many connections at once, a small GET on each, and all closed.
    Visit(usize),
    /// A GET of so many octets on an HTTP/1.1 connection that is kept.
    Download(u64),
    /// A POST of so many octets on an HTTP/1.1 connection that is kept.
    Upload(usize),
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Small => f.write_str("a small GET on a kept HTTP/2 connection"),
            Self::Visit(connections) => write!(f, "{connections} new connections at once, a small GET on each"),
            Self::Download(octets) => write!(f, "a GET of {octets} octets on a kept HTTP/1.1 connection"),
            Self::Upload(octets) => write!(f, "a POST of {octets} octets on a kept HTTP/1.1 connection"),
        }
    }
}

/// The table, a row a line.
pub fn table() -> String {
    let rows = ROLES.iter().map(|role| {
        format!("  {:<10} {:>3} %  every {:>2} s: {} ({})", role.name, role.percent, role.every, role.act, role.why)
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Role {
    pub name: &'static str,
    /// Of the clients.
    pub percent: usize,
    /// Mean seconds from one act to the next, exponentially spaced.
    pub every: f64,
    pub act: Act,
    /// What it stands for.
    pub why: &'static str,
}

/// The whole mix; the percentages make 100.
pub const ROLES: [Role; 5] = [
    Role { name: "quiet", percent: 75, every: 30.0, act: Act::Small, why: "mail, presence and notification sessions" },
    Role { name: "typing", percent: 12, every: 1.0, act: Act::Small, why: "editing together, chat" },
    Role { name: "visits", percent: 6, every: 15.0, act: Act::Visit(6), why: "opening a page, signing in" },
    Role { name: "downloads", percent: 5, every: 10.0, act: Act::Download(4_000_000), why: "documents, attachments" },
    Role { name: "uploads", percent: 2, every: 20.0, act: Act::Upload(1_000_000), why: "saving, synchronising" },
];

const _: () = assert!(matches!(ROLES[3].act, Act::Download(octets) if octets <= origin::MAX_BYTES));

/// The role of client `number` of `all`: every hundred clients, and as near as may be fewer, are mixed as the table says.
pub fn role_of(number: usize, all: usize) -> &'static Role {
    let place = (number * 2 + 1) * 50 / all.max(1);
    let mut before = 0;
    let found = ROLES.iter().find(|role| {
        before += role.percent;
        place < before
    });
    found.unwrap_or(&ROLES[0])
}

/// One client, with the connection that it keeps.
pub struct Client {
    number: usize,
    role: &'static Role,
    kept: Kept,
}

enum Kept {
    Nothing,
    Http1(Box<Session>),
    Http2(Box<Http2>),
}

impl Client {
    /// Client `number` of `all`, as it comes to work. A connection that cannot be opened is counted, and tried again later.
    pub async fn open(stage: &Stage, number: usize, all: usize) -> Self {
        let role = role_of(number, all);
        let opened = stage.patiently(async {
            Ok(match role.act {
                Act::Visit(_) => Kept::Nothing,
                Act::Small => Kept::Http2(Box::new(Http2::open(stage).await?)),
                Act::Download(_) | Act::Upload(_) => Kept::Http1(Box::new(Session::open(stage).await?)),
            })
        });
        let kept = opened.await.unwrap_or_else(|failure| {
            stage.tally.failed(failure);
            Kept::Nothing
        });
        Self { number, role, kept }
    }

    pub fn has_connection(&self) -> bool {
        !matches!(self.kept, Kept::Nothing)
    }

    /// The day, from `start` until the budget is used up.
    pub async fn work(self, stage: Arc<Stage>, budget: Arc<Budget>, start: Instant) {
        let schedule = Schedule::new(1.0 / self.role.every, self.number as u64);
        let mut acts = Acts { schedule, budget, start };
        match (self.role.act, self.kept) {
            (Act::Small, Kept::Http2(http2)) => small(&stage, &mut acts, Some(*http2)).await,
            (Act::Small, _) => small(&stage, &mut acts, None).await,
            (Act::Visit(connections), _) => visits(&stage, &mut acts, connections).await,
            (Act::Download(octets), kept) => {
                let request = get(&stage, &format!("/bytes/{octets}"));
                files(&stage, &mut acts, kept, &request, 0).await;
            }
            (Act::Upload(octets), kept) => {
                files(&stage, &mut acts, kept, &post(&stage, octets), octets as u64).await;
            }
        }
    }
}

/// The moments at which one client acts.
struct Acts {
    schedule: Schedule,
    budget: Arc<Budget>,
    start: Instant,
}

impl Acts {
    /// Waits for the next moment, or for the end of the day. A client that is still busy when its moment comes acts late, and the
    /// latency counts from the moment all the same.
    async fn next(&mut self, stage: &Stage) -> Option<Instant> {
        let after = self.schedule.next()?;
        if !self.budget.take(after) {
            sleep_until(self.start + self.budget.elapsed()).await;
            return None;
        }
        let moment = self.start + after;
        if moment <= Instant::now() {
            return Some(moment);
        }
        sleep_until(moment).await;
        let now = Instant::now();
        stage.tally.lagged(now - moment);
        Some(now)
    }
}

async fn small(stage: &Stage, acts: &mut Acts, mut open: Option<Http2>) {
    while let Some(intended) = acts.next(stage).await {
        let opened = match open.take() {
            Some(http2) => Ok(http2),
            None => stage.patiently(Http2::open(stage)).await,
        };
        match opened {
            Ok(http2) => http2.beside(async |sender| session(stage, acts, sender, intended).await).await,
            Err(failure) => stage.ended(intended, Err(failure)).await,
        }
    }
}

/// One act after the other on one HTTP/2 connection, until it breaks.
async fn session(stage: &Stage, acts: &mut Acts, mut sender: SendRequest<Bytes>, first: Instant) {
    let mut next = Some(first);
    while let Some(intended) = next {
        let result = stage.patiently(ask(&mut sender, request(stage, "/"), stage)).await;
        let usable = result.as_ref().map_or_else(Failure::is_of_status, |()| true);
        stage.ended(intended, result).await;
        if !usable {
            return;
        }
        next = acts.next(stage).await;
    }
}

async fn visits(stage: &Stage, acts: &mut Acts, connections: usize) {
    let request = get(stage, "/");
    while let Some(intended) = acts.next(stage).await {
        let visits = (0..connections).map(|_| work::once(stage, intended, &request));
        join_all(visits).await;
    }
}

async fn files(stage: &Stage, acts: &mut Acts, kept: Kept, request: &[u8], sent: u64) {
    let mut session = match kept {
        Kept::Http1(session) => Some(*session),
        Kept::Nothing | Kept::Http2(_) => None,
    };
    let mut scratch = vec![0; SCRATCH];
    while let Some(intended) = acts.next(stage).await {
        let result = work::again(stage, &mut session, request, &mut scratch).await;
        if result.is_ok() {
            stage.tally.sent(sent);
        }
        stage.ended(intended, result).await;
    }
    if let Some(session) = session {
        session.close(&mut scratch).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_make_a_whole() {
        assert_eq!(ROLES.iter().map(|role| role.percent).sum::<usize>(), 100);
    }

    #[test]
    fn clients_are_mixed_as_the_table_says() {
        for all in [100, 200, 1_000, 9_000] {
            for role in &ROLES {
                let found = (0..all).filter(|number| role_of(*number, all).name == role.name).count();
                assert_eq!(found * 100, role.percent * all, "{} of {all}", role.name);
            }
        }
        for all in 1..100 {
            for role in &ROLES {
                let found = (0..all).filter(|number| role_of(*number, all).name == role.name).count();
                assert!((found * 100).abs_diff(role.percent * all) <= 100, "{}: {found} of {all}", role.name);
            }
        }
    }
}
