//! HTTP/2 frames, watched as they pass to and from the `h2` crate, for what the crate does not tell: which streams a client opened
//! that the crate is about to answer by itself, so that a request whose head it refuses leaves its record too; and which trailers
//! may be longer than it takes, of which it keeps a part and says nothing.
//!
//! Frame heads alone are read (RFC 9113 section 4.1), never a field: what a head means is the crate's to say, and ours once it
//! has accepted the stream. Octets pass unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::mem;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::h2_allowance::Allowance;
use super::h2_boundaries::{CONTINUATION, END_HEADERS, END_STREAM, Frame, Frames, HEADERS, Passed, RST_STREAM};
use crate::locks::Mutex;
use crate::reason::Reason;
use crate::turns::Turns;

const REFUSED_STREAM: u32 = 7;

/// What any frame costs, in octets that would be relayed meanwhile: a PING is answered, a SETTINGS acknowledged.
const FRAME: usize = 1024;

/// Streams remembered for their last header block; a block is asked about as soon as it has come.
const LONG_ENDS: usize = 256;

/// How much of its head a client has sent of a stream that is not accepted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    InPart,
    Whole,
}

/// What the two halves of the connection know of each other.
#[derive(Debug, Default)]
struct Ledger {
    highest: u32,
    /// Streams the client opened that were neither accepted nor answered: no more than the crate lets run, refuses and keeps
    /// unaccepted, as it reads nothing while its answers to those cannot be written.
    opened: BTreeMap<u32, Opened>,
    /// The frame that is held back until its stream is recorded.
    held: Option<Refused>,
    /// Streams whose last header block filled more than a frame.
    long_ends: BTreeSet<u32>,
    /// The header block that is coming.
    block: Option<Block>,
    /// A client has sent more of frames that carry nothing than it may, of which the relay has not heard yet.
    flooded: bool,
}

/// A header block that has begun.
#[derive(Debug)]
struct Block {
    stream: u32,
    /// Its last frame has begun.
    ends: bool,
    /// The end of the read that left it unfinished.
    since: Option<Instant>,
}

/// A stream whose head the crate answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    stream: u32,
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The crate's own 431.
    Oversized,
    TooManyStreams,
    Malformed,
}

impl Why {
    pub fn reason(self) -> Reason {
        match self {
            Self::Oversized => Reason::HeadTooLarge,
            Self::TooManyStreams => Reason::RateLimited,
            Self::Malformed => Reason::MalformedRequest,
        }
    }

    /// What is wrong, for the administrator.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Oversized => "the header list is larger than our SETTINGS_MAX_HEADER_LIST_SIZE",
            Self::TooManyStreams => "more streams at once than our SETTINGS_MAX_CONCURRENT_STREAMS",
            Self::Malformed => "pseudo-fields, fields or content length that RFC 9113 section 8 does not permit",
        }
    }
}

/// The account of one connection's streams, for the relay.
#[derive(Debug, Clone, Default)]
pub struct Streams(Arc<Mutex<Ledger>>);

impl Streams {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock()
    }

    /// The relay has the stream from here on, and its record.
    pub fn accepted(&self, stream: u32) {
        let mut ledger = self.ledger();
        ledger.opened.remove(&stream);
        if ledger.held.is_some_and(|held| held.stream == stream) {
            ledger.held = None;
        }
    }

    /// The stream whose refusal waits to be recorded, and since when a head is there in part. Ask after the connection was polled
    /// until it had nothing more to accept.
    pub fn news(&self) -> (Option<Refused>, Option<Instant>) {
        let ledger = self.ledger();
        (ledger.held, ledger.block.as_ref().and_then(|block| block.since))
    }

    /// Whether the client floods, which is told once. Nothing more of it is read.
    pub fn take_flood(&self) -> bool {
        mem::take(&mut self.ledger().flooded)
    }

    /// The rest of the head is not waited for any more. Whether it was a request's, which then is the caller's to record.
    pub fn abandon_head(&self) -> bool {
        let mut ledger = self.ledger();
        let block = ledger.block.take();
        block.is_some_and(|block| ledger.opened.remove(&block.stream).is_some())
    }

    /// `refused` has its record: the frame may go.
    pub fn recorded(&self, refused: Refused) {
        self.accepted(refused.stream);
    }

    /// Whether the trailers of `stream` filled more than one frame.
    pub fn has_long_trailers(&self, stream: u32) -> bool {
        self.ledger().long_ends.remove(&stream)
    }

    /// How many streams the end of the connection left unanswered: those whose head had come, and those of which a part had.
    pub fn unanswered(&self) -> (usize, usize) {
        let ledger = self.ledger();
        let whole = ledger.opened.values().filter(|opened| **opened == Opened::Whole).count();
        (whole, ledger.opened.len() - whole)
    }
}

impl Ledger {
    fn received(&mut self, frame: Frame, from: Peer) {
        if frame.kind == HEADERS && frame.flags & (END_STREAM | END_HEADERS) == END_STREAM {
            self.long_ends.insert(frame.stream);
            if self.long_ends.len() > LONG_ENDS {
                self.long_ends.pop_first();
            }
        }
        if from == Peer::Upstream {
            return;
        }
        let ends = frame.flags & END_HEADERS != 0;
        match (frame.kind, &mut self.block) {
            (HEADERS, block) => *block = Some(Block { stream: frame.stream, ends, since: None }),
            (CONTINUATION, Some(block)) => block.ends = ends,
            // Nothing else may stand inside of a block (RFC 9113 section 6.10).
            (_, block) => *block = None,
        }
        let seen = if frame.flags & END_HEADERS == 0 { Opened::InPart } else { Opened::Whole };
        match frame.kind {
            // Not trailers: a new stream's identifier is above all before it (RFC 9113 section 5.1.1).
            HEADERS if frame.stream > self.highest => {
                self.highest = frame.stream;
                self.opened.insert(frame.stream, seen);
            }
            CONTINUATION if seen == Opened::Whole => {
                if let Some(opened) = self.opened.get_mut(&frame.stream) {
                    *opened = seen;
                }
            }
            _ => {}
        }
    }

    /// A read has ended, `inside` the payload of a frame or not.
    fn paused(&mut self, inside: bool) {
        self.block = self.block.take().filter(|block| inside || !block.ends);
        if let Some(block) = &mut self.block {
            block.since.get_or_insert_with(Instant::now);
        }
    }

    /// A frame about to be sent: breaks where it answers a stream nobody has accepted.
    fn sending(&mut self, frame: Frame) -> ControlFlow<()> {
        let why = match (frame.kind, frame.code) {
            (HEADERS, _) => Why::Oversized,
            (RST_STREAM, Some(REFUSED_STREAM)) => Why::TooManyStreams,
            (RST_STREAM, _) => Why::Malformed,
            _ => return ControlFlow::Continue(()),
        };
        if !self.opened.contains_key(&frame.stream) {
            return ControlFlow::Continue(());
        }
        self.held = Some(Refused { stream: frame.stream, why });
        ControlFlow::Break(())
    }
}

/// What reading from an upstream that floods ends with; no socket does. The crate passes on no more of an error than its kind.
pub const FLOOD: io::ErrorKind = io::ErrorKind::QuotaExceeded;

/// Whose frames come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Client,
    Upstream,
}

/// A connection under watch.
#[derive(Debug)]
pub struct Watched<C> {
    io: C,
    peer: Peer,
    streams: Streams,
    inbound: Frames,
    outbound: Frames,
    allowance: Allowance,
    flooded: bool,
    turns: Turns,
}

impl<C> Watched<C> {
    pub fn client(io: C, streams: Streams) -> Self {
        Self::new(io, Peer::Client, streams, Frames::after_preface(), Frames::default())
    }

    pub fn upstream(io: C, streams: Streams) -> Self {
        Self::new(io, Peer::Upstream, streams, Frames::default(), Frames::after_preface())
    }

    fn new(io: C, peer: Peer, streams: Streams, inbound: Frames, outbound: Frames) -> Self {
        let (allowance, turns) = (Allowance::new(), Turns::default());
        Self { io, peer, streams, inbound, outbound, allowance, flooded: false, turns }
    }

    /// The boundaries behind `slices`, and what is between them, unless a frame among them has to wait.
    fn look_ahead(&self, slices: &[IoSlice<'_>]) -> Option<(Frames, Passed)> {
        let (mut ahead, mut passing) = (self.outbound.clone(), Passed::default());
        let mut ledger = self.streams.ledger();
        let mut look = |frame| {
            passing.count(frame);
            ledger.sending(frame)
        };
        let waits = slices.iter().any(|slice| ahead.feed(slice, &mut look).is_break());
        (!waits).then_some((ahead, passing))
    }

    fn sent(&mut self, slices: &[IoSlice<'_>], octets: usize, (ahead, passing): (Frames, Passed)) {
        if octets == slices.iter().map(|slice| slice.len()).sum::<usize>() {
            self.outbound = ahead;
            self.allowance.earn(passing);
            return;
        }
        let (mut left, mut passed) = (octets, Passed::default());
        for slice in slices {
            let part = left.min(slice.len());
            let _ = self.outbound.feed(&slice[..part], |frame| {
                passed.count(frame);
                ControlFlow::Continue(())
            });
            left -= part;
        }
        self.allowance.earn(passed);
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Watched<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.turns.poll(cx));
        if this.flooded {
            return match this.peer {
                // As a write waits: until the relay ends the connection.
                Peer::Client => Poll::Pending,
                Peer::Upstream => Poll::Ready(Err(FLOOD.into())),
            };
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if let Some(read) = buf.filled().get(before..).filter(|read| !read.is_empty()) {
            let mut ledger = this.streams.ledger();
            this.turns.did(read.len());
            let _ = this.inbound.feed(read, |frame| {
                this.turns.did(FRAME);
                ledger.received(frame, this.peer);
                match frame.is_idle() {
                    true => this.flooded |= !this.allowance.spend(),
                    false => {
                        this.allowance.earn(Passed { heads: u32::from(frame.kind == HEADERS), ..Passed::default() })
                    }
                }
                ControlFlow::Continue(())
            });
            ledger.flooded = this.flooded && this.peer == Peer::Client;
            ledger.paused(this.inbound.is_inside());
        }
        polled
    }
}

/// Writes wait, without a waker, while the refusal of a stream is not recorded: the relay, which alone polls the connection, asks
/// for [`Streams::news`] after every poll.
impl<C: AsyncWrite + Unpin> AsyncWrite for Watched<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(ahead) = self.look_ahead(slices) else {
            return Poll::Pending;
        };
        let written = if self.io.is_write_vectored() {
            Pin::new(&mut self.io).poll_write_vectored(cx, slices)
        } else {
            let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            Pin::new(&mut self.io).poll_write(cx, first)
        };
        if let Poll::Ready(Ok(octets)) = written {
            self.sent(slices, octets, ahead);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
