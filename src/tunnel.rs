//! The tunnel: both directions of an agreed, verified connection copied untouched, until both have ended.
//!
//! A waiting tunnel holds no buffer: each direction waits for readiness, borrows the thread's buffer for one read and the write
//! behind it, and only what the far side would not take at once is kept, and charged. A direction that fills the buffer is bulk: it goes on by
//! `splice(2)` until it falls dry. One coarse timer watches for idleness. Where octets are limited, each read waits for its turn.

mod pipes;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use self::pipes::Lent;
use crate::admit::{Pace, Subjects, Way};
use crate::pressure::{Charge, Memory};
use crate::seldom::Seldom;
use crate::sockets::receive;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A tunnel over which nothing moved for this long is ended.
    pub idle: Duration,
    /// As `idle`, where one side has said its end and the other is to speak or to end too.
    pub half_closed: Duration,
}

/// Octets moved so far; readable while the tunnel runs and after it was dropped.
#[derive(Debug, Default)]
pub struct Counters {
    /// Client to upstream.
    pub sent: AtomicU64,
    /// Upstream to client.
    pub received: AtomicU64,
    /// Counts on while a direction waits for its turn, which is no idleness.
    waits: AtomicU64,
}

impl Counters {
    /// A direction still waits for its turn.
    fn wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }
}

/// How a tunnel ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both directions were closed in order.
    Finished,
    /// The upstream's was, and the upstream gone before the client had said its end.
    UpstreamFinished,
    Idle,
    /// The client's side broke.
    ClientClosed,
    /// The upstream's side broke.
    UpstreamClosed,
}

const CHUNK: usize = 64 * 1024;
/// Octets read at once where there is no memory for what might not be taken of more: a tunnel's own charge has room for both ways.
const TIGHT: usize = 2 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// A tunnel between its two sockets. What has been read and not been written stays in it while nothing copies.
pub struct Tunnel<'a> {
    up: Direction<'a>,
    down: Direction<'a>,
}

/// One way of a tunnel that is to go on elsewhere.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Half {
    /// Its source has said its end, and the sink has been told.
    pub ended: bool,
    /// Octets that were read and not written.
    pub unsent: BytesMut,
}

impl<'a> Tunnel<'a> {
    /// `up` is the way from the client: at the beginning what it sent already (its ClientHello), which goes first.
    pub fn new(
        (client, upstream): (&'a TcpStream, &'a TcpStream),
        (up, down): (Half, Half),
        counters: &'a Counters,
        subjects: &Arc<Subjects>,
        memory: &'a Arc<Memory>,
    ) -> Self {
        let way = |source, sink, way, half: Half| {
            let pace = Pace::new(subjects, way);
            let held = Held::octets(half.unsent, memory);
            Direction { source, sink, counters, memory, pace, held, open: !half.ended }
        };
        Self { up: way(client, upstream, Way::Upload, up), down: way(upstream, client, Way::Download, down) }
    }

    /// Where it has come to. It can go on after this.
    ///
    /// # Errors
    /// A pipe could not be read.
    pub fn halves(&mut self) -> io::Result<(Half, Half)> {
        Ok((self.up.half()?, self.down.half()?))
    }

    /// Copies until both directions have ended, or one broke, or nothing moved for as long as `settings` permit. The end of the side that
    /// ended last is passed on by dropping the sockets.
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments and the variables they become")]
    pub fn copy(&mut self, settings: &Settings) -> impl Future<Output = TunnelEnd> {
        async move {
            let Self { up, down } = self;
            let counters = up.counters;
            let mut halves = if up.open && down.open { Halves::Both } else { Halves::One };
            loop {
                let limit = match halves {
                    Halves::Both => settings.idle,
                    Halves::One => settings.half_closed.min(settings.idle),
                };
                let step = poll_fn(|cx| {
                    if let Poll::Ready(Err(broken)) = up.poll(cx) {
                        return Poll::Ready(Some(end(&broken, up, down)));
                    }
                    if let Poll::Ready(Err(broken)) = down.poll(cx) {
                        return Poll::Ready(Some(end(&broken, up, down)));
                    }
                    let ended = match (up.open, down.open) {
                        (false, false) => return Poll::Ready(Some(TunnelEnd::Finished)),
                        (true, true) => return Poll::Pending,
                        _ if halves == Halves::One => return Poll::Pending,
                        (false, true) => &*up,
                        (true, false) => &*down,
                    };
                    // The half that ended is closed onwards; the other may go on for as long as it moves. Its own end is followed by the
                    // close of both sockets, which says the same.
                    match SockRef::from(ended.sink).shutdown(Shutdown::Write) {
                        Ok(()) => Poll::Ready(None),
                        Err(_) => Poll::Ready(Some(end(&Broken(ended.sink), up, down))),
                    }
                });
                let idle = pin!(idle_for(limit, counters));
                tokio::select! {
                    biased;
                    end = step => match end {
                        Some(end) => return end,
                        None => halves = Halves::One,
                    },
                    () = Seldom::new(idle) => return TunnelEnd::Idle,
                }
            }
        }
    }
}

/// Which sides have not said their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Halves {
    Both,
    One,
}

/// A side that has said its end takes no more: that the other's close_notify found it gone is no break.
fn end(broken: &Broken<'_>, up: &Direction<'_>, down: &Direction<'_>) -> TunnelEnd {
    match (std::ptr::eq(broken.0, up.source), up.open, down.open) {
        (true, true, _) => TunnelEnd::ClientClosed,
        (true, false, _) | (false, false, false) => TunnelEnd::Finished,
        (false, true, false) => TunnelEnd::UpstreamFinished,
        (false, _, true) => {
            debug_assert!(std::ptr::eq(broken.0, down.source));
            TunnelEnd::UpstreamClosed
        }
    }
}

/// The socket that broke.
struct Broken<'a>(&'a TcpStream);

/// One way through the tunnel. It waits in the sockets' own slots for one reader and one writer, and holds nothing while the far
/// side takes what comes.
struct Direction<'a> {
    source: &'a TcpStream,
    sink: &'a TcpStream,
    counters: &'a Counters,
    memory: &'a Arc<Memory>,
    pace: Pace,
    held: Held,
    /// The source has not ended yet.
    open: bool,
}

/// What has been read and not been written.
enum Held {
    Nothing,
    Octets(Box<Rest>),
    /// Bulk goes this way, and the pipe is empty or not.
    Pipe(Lent),
}

/// What was read and the sink did not take, and what that is charged.
struct Rest {
    octets: BytesMut,
    _charge: Option<Charge>,
}

impl Held {
    /// Charged where it is more than a tunnel's own charge has room for.
    fn octets(octets: BytesMut, memory: &Arc<Memory>) -> Self {
        if octets.is_empty() {
            return Self::Nothing;
        }
        let charge = (octets.len() > TIGHT).then(|| memory.charge(octets.len() as u64)).flatten();
        Self::Octets(Box::new(Rest { octets, _charge: charge }))
    }
}

impl<'a> Direction<'a> {
    /// Moves what can be moved. Ready when the source has ended, or a socket broke.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<'a>>> {
        while self.open {
            ready!(match &self.held {
                Held::Nothing => self.poll_turn(cx),
                Held::Pipe(pipe) if pipe.is_empty() => self.poll_fill(cx),
                Held::Octets(_) | Held::Pipe(_) => self.poll_rest(cx),
            })?;
        }
        Poll::Ready(Ok(()))
    }

    /// One read into the thread's buffer, and the write behind it.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<'a>>> {
        ready!(self.source.poll_read_ready(cx)).map_err(|_| Broken(self.source))?;
        let most = if self.memory.has_room_to_hold(CHUNK as u64) { CHUNK } else { TIGHT };
        let portion = ready!(self.poll_portion(cx))?.min(most);
        BUFFER.with_borrow_mut(|buffer| {
            let n = match receive(self.source, &mut buffer[..portion]) {
                Ok(0) => {
                    self.open = false;
                    return Poll::Ready(Ok(()));
                }
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Poll::Ready(Ok(())),
                Err(_) => return Poll::Ready(Err(Broken(self.source))),
            };
            self.pace.moved(n);
            let written = match self.sink.try_write(&buffer[..n]) {
                Ok(written) => written,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return Poll::Ready(Err(Broken(self.sink))),
            };
            self.count(written);
            if written < n {
                self.held = Held::octets(buffer[written..n].into(), self.memory);
            } else if n == most {
                // As much as one read can: there is more.
                self.held = Lent::take().map_or(Held::Nothing, Held::Pipe);
            }
            Poll::Ready(Ok(()))
        })
    }

    /// What is in a pipe is taken out of it.
    fn half(&mut self) -> io::Result<Half> {
        if let Held::Pipe(pipe) = &mut self.held {
            self.held = Held::octets(pipe.empty()?.as_slice().into(), self.memory);
        }
        let unsent = if let Held::Octets(rest) = &self.held { rest.octets.clone() } else { BytesMut::new() };
        Ok(Half { ended: !self.open, unsent })
    }

    /// Takes what the source has into the pipe. One that has no more for now gives the pipe back.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<'a>>> {
        let Poll::Ready(readable) = self.source.poll_read_ready(cx) else {
            self.held = Held::Nothing;
            return Poll::Pending;
        };
        readable.map_err(|_| Broken(self.source))?;
        ready!(self.pace.poll_turn(cx));
        let Poll::Ready(portion) = self.poll_portion(cx)? else {
            // Whoever waits for its turn holds no pipe meanwhile.
            self.held = Held::Nothing;
            return Poll::Pending;
        };
        let Held::Pipe(pipe) = &mut self.held else { return Poll::Ready(Ok(())) };
        match pipe.fill(self.source, portion) {
            // The end is for the next read to find.
            Ok(0) => self.held = Held::Nothing,
            Ok(n) => self.pace.moved(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.held = Held::Nothing,
            Err(_) => return Poll::Ready(Err(Broken(self.source))),
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the sink what it takes of what is held.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<'a>>> {
        ready!(self.sink.poll_write_ready(cx)).map_err(|_| Broken(self.sink))?;
        let written = match &mut self.held {
            Held::Nothing => Ok(0),
            Held::Octets(rest) => self.sink.try_write(&rest.octets).inspect(|n| rest.octets.advance(*n)),
            Held::Pipe(pipe) => pipe.drain(self.sink),
        };
        match written {
            Ok(n) => self.count(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Poll::Ready(Err(Broken(self.sink))),
        }
        if matches!(&self.held, Held::Octets(rest) if rest.octets.is_empty()) {
            self.held = Held::Nothing;
        }
        Poll::Ready(Ok(()))
    }

    fn count(&self, octets: usize) {
        let moved = match self.pace.way() {
            Way::Upload => &self.counters.sent,
            Way::Download => &self.counters.received,
        };
        moved.fetch_add(octets as u64, Ordering::Relaxed);
    }

    /// How much may be moved, when it may. Whoever waits for that asks its sockets for nothing, and would learn only behind its wait
    /// that one of them has broken: so they are looked at with every beat. Not the upstream where it is the source: what it had said
    /// before can still be read.
    fn poll_portion(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken<'a>>> {
        let beat = Cell::new(false);
        let portion = self.pace.poll_portion(cx, || {
            self.counters.wait();
            beat.set(true);
        });
        if beat.get() {
            let client = (self.pace.way() == Way::Upload).then_some(self.source);
            for socket in client.into_iter().chain([self.sink]) {
                if !matches!(socket.take_error(), Ok(None)) {
                    return Poll::Ready(Err(Broken(socket)));
                }
            }
        }
        portion.map(Ok)
    }
}

impl Counters {
    fn total(&self) -> u64 {
        let Self { sent, received, waits } = self;
        [sent, received, waits].into_iter().fold(0, |sum, part| sum.wrapping_add(part.load(Ordering::Relaxed)))
    }
}

/// Resolves when the total stood still for `idle`, noticed at most a quarter of it late. Seen from the counters, so that moving
/// bytes costs no timer.
#[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments and the variables they become")]
fn idle_for(idle: Duration, counters: &Counters) -> impl Future<Output = ()> {
    async move {
        let mut since = Instant::now();
        let (mut seen, mut now) = (counters.total(), since);
        loop {
            sleep_until(now + idle / 4).await;
            now = Instant::now();
            let total = counters.total();
            if total != seen {
                (seen, since) = (total, now);
            } else if now.duration_since(since) >= idle {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
