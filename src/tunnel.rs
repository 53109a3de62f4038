//! The tunnel: both directions of an agreed, verified connection copied untouched, until both have ended.
//!
//! A waiting tunnel holds no buffer: each direction waits for readiness, borrows the thread's buffer for one read and the write
//! behind it, and only what the far side would not take at once is kept. A direction that fills the buffer is bulk: it goes on by
//! `splice(2)` until it falls dry. One coarse timer watches for idleness.

mod pipes;

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until};

use self::pipes::Lent;
use crate::sockets::receive;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A tunnel over which nothing moved for this long is ended.
    pub idle: Duration,
}

/// Octets moved so far; readable while the tunnel runs and after it was dropped.
#[derive(Debug, Default)]
pub struct Counters {
    /// Client to upstream.
    pub sent: AtomicU64,
    /// Upstream to client.
    pub received: AtomicU64,
}

/// How a tunnel ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both directions were closed in order.
    Finished,
    Idle,
    /// The client's side broke.
    ClientClosed,
    /// The upstream's side broke.
    UpstreamClosed,
}

const CHUNK: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// Copies until both directions have ended, or one broke, or nothing moved for `idle`. `prefix` is what the client sent
/// already (its ClientHello) and goes first.
pub async fn relay(
    prefix: &[u8],
    client: &TcpStream,
    upstream: &TcpStream,
    counters: &Counters,
    settings: &Settings,
) -> TunnelEnd {
    let activity = Activity { counters, began: Instant::now() };
    let (client_done, upstream_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let up = async {
        write_rest(upstream, prefix, &counters.sent).await.map_err(|_| TunnelEnd::UpstreamClosed)?;
        pump(client, upstream, &counters.sent)
            .await
            .map_err(|side| side.of(TunnelEnd::ClientClosed, TunnelEnd::UpstreamClosed))?;
        client_done.store(true, Ordering::Relaxed);
        Ok(())
    };
    let down = async {
        pump(upstream, client, &counters.received)
            .await
            .map_err(|side| side.of(TunnelEnd::UpstreamClosed, TunnelEnd::ClientClosed))?;
        upstream_done.store(true, Ordering::Relaxed);
        Ok(())
    };
    let end = tokio::select! {
        both = async { tokio::try_join!(up, down) } => both.map_or_else(|end| end, |_| TunnelEnd::Finished),
        () = activity.idle_for(settings.idle) => TunnelEnd::Idle,
    };
    match end {
        // A side that has said its end takes no more: that the other's close_notify found it gone is no break.
        TunnelEnd::ClientClosed if client_done.load(Ordering::Relaxed) => TunnelEnd::Finished,
        TunnelEnd::UpstreamClosed if upstream_done.load(Ordering::Relaxed) => TunnelEnd::Finished,
        TunnelEnd::ClientClosed | TunnelEnd::UpstreamClosed | TunnelEnd::Finished | TunnelEnd::Idle => end,
    }
}

/// Which socket of a direction broke.
enum Broken {
    Source,
    Sink,
}

impl Broken {
    fn of(self, source: TunnelEnd, sink: TunnelEnd) -> TunnelEnd {
        match self {
            Self::Source => source,
            Self::Sink => sink,
        }
    }
}

/// What one turn with the borrowed buffer came to.
enum Turn {
    Moved,
    /// As much as one read can: there is more.
    Filled,
    Nothing,
    End,
    /// The sink took a part; this is the rest.
    Rest(Vec<u8>),
}

async fn pump(source: &TcpStream, sink: &TcpStream, moved: &AtomicU64) -> Result<(), Broken> {
    loop {
        source.readable().await.map_err(|_| Broken::Source)?;
        // Readiness costs no budget: between two quick peers this loop would never let another task run.
        consume_budget().await;
        match turn(source, sink, moved)? {
            Turn::Moved | Turn::Nothing => {}
            Turn::Filled => {
                if let Some(pipe) = Lent::take() {
                    move_bulk(pipe, source, sink, moved).await?;
                }
            }
            Turn::Rest(rest) => write_rest(sink, &rest, moved).await.map_err(|_| Broken::Sink)?,
            Turn::End => {
                // The half that ended is closed onwards; the other may go on for as long as it moves.
                return SockRef::from(sink).shutdown(Shutdown::Write).map_err(|_| Broken::Sink);
            }
        }
    }
}

fn turn(source: &TcpStream, sink: &TcpStream, moved: &AtomicU64) -> Result<Turn, Broken> {
    BUFFER.with_borrow_mut(|buffer| {
        let n = match receive(source, buffer) {
            Ok(0) => return Ok(Turn::End),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Turn::Nothing),
            Err(_) => return Err(Broken::Source),
        };
        let written = match sink.try_write(&buffer[..n]) {
            Ok(written) => written,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(Broken::Sink),
        };
        moved.fetch_add(written as u64, Ordering::Relaxed);
        Ok(match n {
            _ if written < n => Turn::Rest(buffer[written..n].to_vec()),
            CHUNK => Turn::Filled,
            _ => Turn::Moved,
        })
    })
}

/// Moves what `source` has until it has no more; the end of the stream is left for the next read to find.
async fn move_bulk(mut pipe: Lent, source: &TcpStream, sink: &TcpStream, moved: &AtomicU64) -> Result<(), Broken> {
    loop {
        consume_budget().await;
        match pipe.fill(source) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(Broken::Source),
        }
        while !pipe.is_empty() {
            match pipe.drain(sink) {
                Ok(n) => _ = moved.fetch_add(n as u64, Ordering::Relaxed),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    sink.writable().await.map_err(|_| Broken::Sink)?;
                }
                Err(_) => return Err(Broken::Sink),
            }
        }
    }
}

async fn write_rest(sink: &TcpStream, mut rest: &[u8], moved: &AtomicU64) -> io::Result<()> {
    while !rest.is_empty() {
        sink.writable().await?;
        match sink.try_write(rest) {
            Ok(n) => {
                moved.fetch_add(n as u64, Ordering::Relaxed);
                rest = &rest[n..];
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Idleness seen from the counters, so that moving bytes costs no timer.
struct Activity<'a> {
    counters: &'a Counters,
    began: Instant,
}

impl Activity<'_> {
    fn total(&self) -> u64 {
        self.counters.sent.load(Ordering::Relaxed).wrapping_add(self.counters.received.load(Ordering::Relaxed))
    }

    /// Resolves when the total stood still for `idle`, noticed at most a quarter of it late.
    async fn idle_for(&self, idle: Duration) {
        let tick = idle / 4;
        let (mut seen, mut since, mut next) = (self.total(), self.began, self.began + tick);
        loop {
            sleep_until(next).await;
            let now = Instant::now();
            let total = self.total();
            if total != seen {
                (seen, since) = (total, now);
            } else if now.duration_since(since) >= idle {
                return;
            }
            next = now + tick;
        }
    }
}

#[cfg(test)]
mod tests;
