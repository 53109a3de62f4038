//! Bodies of HTTP/2 streams: from one leg to the other with the back-pressure of both, and the clock that watches them.
//!
//! Window is given back to a sender only when its octets have been taken by the other leg, so what one stream holds here is
//! at most `h2_settings::STREAM_WINDOW` unread and `h2_settings::SEND_BUFFER` unsent.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::time::{Instant, sleep_until};

use super::h2_frames::Streams;
use super::h2_head::passing;
use super::h2_settings::TRAILERS;
use crate::admit::Pace;

/// Which end stopped a body before it was complete.
#[derive(Debug)]
pub enum Halt {
    Source(h2::Error),
    /// Its trailers are more than is taken. The crate drops what is too much of them without a word.
    Trailers,
    /// Reset by its peer, or gone with its connection. Why is told by the other half of the stream.
    Sink,
}

/// Relays a body with its trailers to its end, at its `pace`. `moved` is told the octets of each chunk once all of it was taken,
/// and now and then none while a chunk waits for its turn.
///
/// # Errors
/// [`Halt`]; neither stream has been reset then.
pub async fn pump(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    trailer_passes: fn(&[u8]) -> bool,
    source: &Streams,
    mut pace: Pace,
    moved: impl Fn(usize),
) -> Result<(), Halt> {
    while let Some(chunk) = poll_fn(|cx| poll_chunk(from, to, cx)).await? {
        let octets = chunk.len();
        poll_fn(|cx| poll_turn(&mut pace, to, cx, &moved)).await?;
        pace.moved(octets);
        let last = if from.is_end_stream() { Last::Yes } else { Last::No };
        send(to, chunk, last).await?;
        // Fails only for a stream that was reset meanwhile, which the next turn finds out.
        let _ = from.flow_control().release_capacity(octets);
        moved(octets);
        if last == Last::Yes {
            return Ok(());
        }
    }
    let trailers = from.trailers().await.map_err(Halt::Source)?.unwrap_or_default();
    let octets: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    if octets > TRAILERS || source.has_long_trailers(from.stream_id().as_u32()) {
        return Err(Halt::Trailers);
    }
    let trailers = passing(trailers, trailer_passes);
    let end = if trailers.is_empty() { to.send_data(Bytes::new(), true) } else { to.send_trailers(trailers) };
    end.map_err(|_| Halt::Sink)
}

/// Whether a chunk ends its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    Yes,
    No,
}

/// Hands `chunk` over as the peer's window allows.
///
/// # Errors
/// [`Halt::Sink`].
pub async fn send(to: &mut SendStream<Bytes>, mut chunk: Bytes, last: Last) -> Result<(), Halt> {
    while !chunk.is_empty() {
        to.reserve_capacity(chunk.len());
        let room = poll_fn(|cx| poll_room(to, cx)).await?;
        let part = chunk.split_to(room.min(chunk.len()));
        let ends = last == Last::Yes && chunk.is_empty();
        to.send_data(part, ends).map_err(|_| Halt::Sink)?;
        if ends {
            return Ok(());
        }
    }
    match last {
        Last::Yes => to.send_data(Bytes::new(), true).map_err(|_| Halt::Sink),
        Last::No => Ok(()),
    }
}

fn poll_chunk(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Bytes>, Halt>> {
    if to.poll_reset(cx).is_ready() {
        return Poll::Ready(Err(Halt::Sink));
    }
    from.poll_data(cx).map(|data| data.transpose().map_err(Halt::Source))
}

fn poll_turn(
    pace: &mut Pace,
    to: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    moved: &impl Fn(usize),
) -> Poll<Result<(), Halt>> {
    if to.poll_reset(cx).is_ready() {
        return Poll::Ready(Err(Halt::Sink));
    }
    pace.poll_portion(cx, || moved(0)).map(|_| Ok(()))
}

fn poll_room(to: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Result<usize, Halt>> {
    if to.poll_reset(cx).is_ready() {
        return Poll::Ready(Err(Halt::Sink));
    }
    match to.capacity() {
        0 => Poll::Ready(ready!(to.poll_capacity(cx)).transpose().ok().flatten().ok_or(Halt::Sink)),
        room => Poll::Ready(Ok(room)),
    }
}

/// When something last moved on a stream, either way, and who is silent if nothing does.
///
/// A chunk counts when all of it has been taken, so a peer that opens its window octet by octet does not keep a stream alive
/// (F06, F07).
pub struct Progress {
    start: Instant,
    /// Microseconds from `start`.
    last: AtomicU64,
    /// The request's content is under way.
    uploading: AtomicBool,
}

/// Whose silence it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    Upstream,
    /// The request is not complete either.
    Both,
}

impl Progress {
    pub fn new() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), uploading: AtomicBool::new(false) }
    }

    pub fn touch(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    pub fn await_from(&self, awaited: Awaited) {
        self.uploading.store(awaited == Awaited::Both, Ordering::Relaxed);
    }

    pub fn awaited(&self) -> Awaited {
        if self.uploading.load(Ordering::Relaxed) { Awaited::Both } else { Awaited::Upstream }
    }

    /// Resolves when nothing has moved for `idle`. One timer, set anew only when it fires.
    pub async fn stalled(&self, idle: Duration) {
        loop {
            let deadline = self.start + Duration::from_micros(self.last.load(Ordering::Relaxed)) + idle;
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}
