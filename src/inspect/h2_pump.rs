//! Bodies of HTTP/2 streams: from one leg to the other with the back-pressure of both, and the clock that watches them.
//!
//! Window is given back to a sender only when its octets have been taken by the other leg, so what one stream holds here is
//! at most `h2_settings::STREAM_WINDOW` unread and `h2_settings::SEND_BUFFER` unsent.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
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
use crate::exchange::patience::{Deadlines, Late, Patience};
use crate::pressure::Stalls;

/// Which end stopped a body before it was complete.
#[derive(Debug)]
pub enum Halt {
    Source(h2::Error),
    /// Its trailers are more than is taken. The crate drops what is too much of them without a word.
    Trailers,
    /// Reset by its peer, or gone with its connection. Why is told by the other half of the stream.
    Sink,
    /// The source sends too slowly.
    SlowSource,
    /// The sink takes too slowly.
    SlowSink,
    /// There is no memory for what waits to be taken.
    NoRoom,
}

/// How one way of a stream is relayed.
pub struct Course<'a> {
    pub trailer_passes: fn(&[u8]) -> bool,
    /// What was seen of the source's frames.
    pub source: &'a Streams,
    /// What the source and the sink owe; `None`: they may take their time, up to the idle limit.
    pub sends: Option<Patience>,
    pub takes: Option<Patience>,
    pub stalls: &'a Stalls,
    /// The rate its octets go at.
    pub rate: Pace,
}

/// Relays a body with its trailers to its end, at its rate. `moved` is told the octets of each chunk once all of it was taken, those of
/// one that the peer left in the middle at the end, and now and then none while a chunk waits for its turn.
///
/// # Errors
/// [`Halt`]; neither stream has been reset then.
pub async fn pump(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    mut course: Course<'_>,
    moved: impl Fn(usize),
) -> Result<(), Halt> {
    while let Some(chunk) =
        paced(&mut course.sends, poll_fn(|cx| poll_chunk(from, to, cx))).await.map_err(|_| Halt::SlowSource)??
    {
        let octets = chunk.len();
        poll_fn(|cx| poll_turn(&mut course.rate, to, cx, &moved)).await?;
        course.rate.moved(octets);
        let last = if from.is_end_stream() { Last::Yes } else { Last::No };
        let mut taken = Taken { octets: 0, moved: &moved };
        send_within(to, chunk, last, &mut course.takes, course.stalls, &mut taken.octets).await?;
        course.sends.iter_mut().for_each(|pace| pace.moved(octets));
        // Fails only for a stream that was reset meanwhile, which the next turn finds out.
        let _ = from.flow_control().release_capacity(octets);
        drop(taken);
        if last == Last::Yes {
            return Ok(());
        }
    }
    let trailers = paced(&mut course.sends, from.trailers()).await.map_err(|_| Halt::SlowSource)?;
    let trailers = trailers.map_err(Halt::Source)?.unwrap_or_default();
    let octets: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    if octets > TRAILERS || course.source.has_long_trailers(from.stream_id().as_u32()) {
        return Err(Halt::Trailers);
    }
    let trailers = passing(trailers, course.trailer_passes);
    let end = if trailers.is_empty() { to.send_data(Bytes::new(), true) } else { to.send_trailers(trailers) };
    end.map_err(|_| Halt::Sink)
}

/// What was taken of a chunk, told once: when there is no more of it to take.
struct Taken<'a, F: Fn(usize)> {
    octets: usize,
    moved: &'a F,
}

impl<F: Fn(usize)> Drop for Taken<'_, F> {
    fn drop(&mut self) {
        (self.moved)(self.octets);
    }
}

/// As [`send`], charged for what waits behind a chunk that is not taken at once; `taken` grows with what is.
async fn send_within(
    to: &mut SendStream<Bytes>,
    chunk: Bytes,
    last: Last,
    pace: &mut Option<Patience>,
    stalls: &Stalls,
    taken: &mut usize,
) -> Result<(), Halt> {
    let mut sending = pin!(hand_over(to, chunk, last, pace, taken));
    match poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await {
        Poll::Ready(sent) => sent,
        Poll::Pending => {
            let _waiting = stalls.begin().ok_or(Halt::NoRoom)?;
            sending.await
        }
    }
}

/// Whether a chunk ends its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    Yes,
    No,
}

/// Waits for a peer, at its own cost where it has a pace to keep.
async fn paced<T>(pace: &mut Option<Patience>, work: impl Future<Output = T>) -> Result<T, Late> {
    match pace {
        Some(pace) => pace.wait(work).await,
        None => Ok(work.await),
    }
}

/// Hands `chunk` over as the peer's window allows. The caller puts a deadline round it.
///
/// # Errors
/// [`Halt::Sink`].
pub async fn send(to: &mut SendStream<Bytes>, chunk: Bytes, last: Last) -> Result<(), Halt> {
    hand_over(to, chunk, last, &mut None, &mut 0).await
}

async fn hand_over(
    to: &mut SendStream<Bytes>,
    mut chunk: Bytes,
    last: Last,
    pace: &mut Option<Patience>,
    taken: &mut usize,
) -> Result<(), Halt> {
    while !chunk.is_empty() {
        to.reserve_capacity(chunk.len());
        let room = paced(pace, poll_fn(|cx| poll_room(to, cx))).await.map_err(|_| Halt::SlowSink)??;
        let part = chunk.split_to(room.min(chunk.len()));
        let octets = part.len();
        pace.iter_mut().for_each(|pace| pace.moved(octets));
        let ends = last == Last::Yes && chunk.is_empty();
        to.send_data(part, ends).map_err(|_| Halt::Sink)?;
        *taken += octets;
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
/// A chunk counts when all of it has been taken. That a peer does not keep a stream alive octet by octet is the business of its
/// [`Patience`] (F06, F07).
pub struct Progress {
    start: Instant,
    /// Microseconds from `start`.
    last: AtomicU64,
    /// The request's content is under course.
    uploading: AtomicBool,
    /// The head of the answer has come: from here on the two sides may converse, each in its own time.
    answered: Arc<AtomicBool>,
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
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
            uploading: AtomicBool::new(false),
            answered: Arc::default(),
        }
    }

    pub fn touch(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    pub fn await_from(&self, awaited: Awaited) {
        self.touch();
        self.uploading.store(awaited == Awaited::Both, Ordering::Relaxed);
    }

    pub fn awaited(&self) -> Awaited {
        if self.uploading.load(Ordering::Relaxed) { Awaited::Both } else { Awaited::Upstream }
    }

    pub fn note_answer(&self) {
        self.touch();
        self.answered.store(true, Ordering::Relaxed);
    }

    /// The pace of a request's content, which nobody owes once the answer has begun.
    pub fn until_answered(&self, deadlines: &Deadlines) -> Patience {
        Patience::watched(deadlines, Some(Arc::clone(&self.answered)))
    }

    /// Resolves when nothing has moved for as long as it may: while the answer alone is awaited, that is its deadline. One timer,
    /// set anew only when it fires.
    pub async fn stalled(&self, deadlines: &Deadlines) {
        loop {
            let answer_due = self.awaited() == Awaited::Upstream && !self.answered.load(Ordering::Relaxed);
            let limit = if answer_due { deadlines.response } else { deadlines.idle };
            let last = self.start + Duration::from_micros(self.last.load(Ordering::Relaxed));
            if last + limit <= Instant::now() {
                return;
            }
            // What is due may change meanwhile, and its limit be the shorter one.
            sleep_until((last + limit).min(Instant::now() + deadlines.idle.min(deadlines.response))).await;
        }
    }
}
