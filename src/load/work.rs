//! What a connection's worker does, request by request, over HTTP/1.1; `h2` has the other protocol.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::answer::{self, SCRATCH};
use super::dial::{self, Dialer, Protocol};
use super::pace::Arrivals;
use super::tally::Tally;
use super::{Failure, Scenario};

/// Octets of one read where answers are small.
const SCRATCH_SMALL: usize = 4 * 1024;
/// How long a connection, or a request, may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// [`Stage::pause`] of the closed loop.
pub const PAUSE: Duration = Duration::from_millis(10);
/// How long the other end may take with its close; the answer is there already.
pub const GOODBYE: Duration = Duration::from_secs(5);
/// Connections opened at the same time before a run starts.
pub const OPENING: usize = 64;

/// What one thread's workers share.
pub struct Stage {
    pub dialer: Dialer,
    pub tally: Arc<Tally>,
    /// After a failure. In the closed loop nothing else would slow a worker down whose proxy is dead.
    pub pause: Duration,
}

impl Stage {
    /// `work`, unless it takes longer than [`PATIENCE`].
    ///
    /// # Errors
    /// Its own, and `timeout`.
    pub async fn patiently<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let late = || Failure::new("timeout", format!("nothing within {} s", PATIENCE.as_secs()));
        timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(late()))
    }

    /// Counts how a request ended, and pauses where it failed.
    pub async fn ended(&self, intended: Instant, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.tally.succeeded(intended.elapsed()),
            Err(failure) => {
                self.tally.failed(failure);
                sleep(self.pause).await;
            }
        }
    }

    /// `count` times `open`, [`OPENING`] at a time; what could not be opened is counted and missing.
    pub async fn open_all<S>(&self, count: usize, open: impl AsyncFn(&Self, usize) -> Result<S, Failure>) -> Vec<S> {
        let open = &open;
        let opening = stream::iter((0..count).map(|number| async move { self.patiently(open(self, number)).await }));
        let opened = opening.buffer_unordered(OPENING).filter_map(|opened| async {
            match opened {
                Ok(session) => Some(session),
                Err(failure) => {
                    self.tally.failed(failure);
                    None
                }
            }
        });
        opened.collect().await
    }
}

/// A TLS connection that HTTP/1.1 is spoken on.
pub struct Session(TlsStream<TcpStream>);

impl Session {
    /// # Errors
    /// As [`Dialer::open`].
    pub async fn open(stage: &Stage) -> Result<Self, Failure> {
        let opened = stage.dialer.open(Protocol::Http1).await?;
        stage.tally.connected();
        Ok(Self(opened))
    }

    /// One request and its whole answer; whether the session can be used again.
    ///
    /// # Errors
    /// `status_503` and the like where the answer is not 200, and as the stream fails.
    pub async fn ask(&mut self, request: &[u8], scratch: &mut [u8], tally: &Tally) -> Result<bool, Failure> {
        let sent = self.0.write_all(request).await;
        sent.map_err(|error| Failure::of_io("sending the request", &error))?;
        let flushed = self.0.flush().await;
        flushed.map_err(|error| Failure::of_io("sending the request", &error))?;
        let head = answer::read(&mut self.0, scratch, |octets| tally.received(octets)).await?;
        match head.status {
            200 => Ok(!head.closes),
            status => Err(Failure::of_status(status)),
        }
    }

    pub async fn close(self, scratch: &mut [u8]) {
        let _ = timeout(GOODBYE, dial::close(self.0, scratch)).await;
    }
}

/// `POST /sink` with so many octets of content, head and all.
pub fn post(stage: &Stage, octets: usize) -> Vec<u8> {
    let authority = stage.dialer.plan().target.authority();
    let head = format!(
        "POST /sink HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: sekisho-load\r\nContent-Length: {octets}\r\n\r\n"
    );
    let mut request = head.into_bytes();
    request.resize(request.len() + octets, 0);
    request
}

/// `GET path` to the target.
pub fn get(stage: &Stage, path: &str) -> Vec<u8> {
    let authority = stage.dialer.plan().target.authority();
    format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: sekisho-load\r\n\r\n").into_bytes()
}

/// Requests on a connection each, until there are no more.
pub async fn one_each(stage: Arc<Stage>, arrivals: Arc<Arrivals>) {
    let request = get(&stage, "/");
    while let Some(intended) = arrivals.next().await {
        once(&stage, intended, &request).await;
    }
}

/// A connection, a request on it, and its end. The latency is that of the first two.
pub async fn once(stage: &Stage, intended: Instant, request: &[u8]) {
    let mut scratch = [0; SCRATCH_SMALL];
    let asked = stage.patiently(async {
        let mut session = Session::open(stage).await?;
        session.ask(request, &mut scratch, &stage.tally).await?;
        Ok(session)
    });
    match asked.await {
        Ok(session) => {
            stage.ended(intended, Ok(())).await;
            session.close(&mut scratch).await;
        }
        Err(failure) => stage.ended(intended, Err(failure)).await,
    }
}

/// A request on `session`, which is opened where there is none, and left where it can be used again.
///
/// # Errors
/// As [`Session::open`] and [`Session::ask`].
pub async fn again(
    stage: &Stage,
    session: &mut Option<Session>,
    request: &[u8],
    scratch: &mut [u8],
) -> Result<(), Failure> {
    let taken = session.take();
    let asked = stage.patiently(async {
        let mut open = match taken {
            Some(open) => open,
            None => Session::open(stage).await?,
        };
        let usable = open.ask(request, scratch, &stage.tally).await?;
        Ok(usable.then_some(open))
    });
    *session = asked.await?;
    Ok(())
}

/// Requests on one connection, opened anew where it ends, until there are no more.
pub async fn kept(stage: Arc<Stage>, arrivals: Arc<Arrivals>, mut session: Option<Session>) {
    let plan = stage.dialer.plan();
    let request = match plan.scenario {
        Scenario::Bulk => get(&stage, &format!("/bytes/{}", plan.size)),
        _ => get(&stage, "/"),
    };
    let mut scratch = vec![0; SCRATCH];
    while let Some(intended) = arrivals.next().await {
        let result = again(&stage, &mut session, &request, &mut scratch).await;
        stage.ended(intended, result).await;
    }
    if let Some(session) = session {
        session.close(&mut scratch).await;
    }
}

/// Connections that have to be refused, until there are no more.
pub async fn refused(stage: Arc<Stage>, arrivals: Arc<Arrivals>) {
    while let Some(intended) = arrivals.next().await {
        let result = stage.patiently(stage.dialer.refused()).await;
        stage.ended(intended, result).await;
    }
}

/// Holds `sessions` for the time of the plan, then asks each once.
pub async fn idle(stage: Arc<Stage>, sessions: Vec<Session>) {
    let stage = &*stage;
    sleep(stage.dialer.plan().hold).await;
    let request = &get(stage, "/");
    let checks = sessions.into_iter().map(|mut session| async move {
        let begun = Instant::now();
        let mut scratch = [0; SCRATCH_SMALL];
        match stage.patiently(session.ask(request, &mut scratch, &stage.tally)).await {
            Ok(_) => stage.tally.succeeded(begun.elapsed()),
            Err(failure) => stage.tally.failed(failure),
        }
        session.close(&mut scratch).await;
    });
    stream::iter(checks).buffer_unordered(OPENING).collect::<()>().await;
}
