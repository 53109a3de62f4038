//! The upstream's direction of an exchange: interim answers, the head, the content, the trailers.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Broken, CHUNK, Hop, Next, Sent, Terms, websocket};
use crate::admit::{Pace, Way};
use crate::exchange::fields::{response_field_passes, response_trailer_passes};
use crate::exchange::patience::{Deadlines, Late, Patience, Stuck};
use crate::exchange::{Counters, Exchange};
use crate::http1::{
    BodyReader, Connection, Framing, Limits, Method, Part, RequestHead, ResponseHead, ResponseReader, Version,
    http_date, write_chunk, write_last_chunk, write_response,
};
use crate::reason::{Outcome, Reason};

/// Interim answers to one request; more are an attack or a defect (E17).
const MAX_INTERIM: usize = 16;

pub(super) struct Answer<'a, C, U> {
    method: Method,
    version: Version,
    keep_alive: bool,
    websocket: bool,
    /// The upstream was told that its connection ends with this request.
    unexpected_content: bool,
    exchange: &'a mut Exchange,
    counters: Arc<Counters>,
    rate: Pace,
    from: ReadHalf<&'a mut U>,
    buffer: &'a mut BytesMut,
    to: WriteHalf<&'a mut C>,
    deadlines: Deadlines,
    /// Of the client, which takes.
    client: Patience,
    hop: Hop,
    limits: Limits,
    /// A head that waits for the first of its content, so that both go out in one write.
    pending: BytesMut,
    sent: Sent,
    /// Something of the final answer has been given to the client's stream.
    begun: bool,
}

/// How reading on from the upstream failed.
enum Lost {
    Closed,
    Timeout,
}

impl<'a, C, U> Answer<'a, C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(
        head: &RequestHead,
        exchange: &'a mut Exchange,
        from: ReadHalf<&'a mut U>,
        buffer: &'a mut BytesMut,
        to: WriteHalf<&'a mut C>,
        terms: &Terms,
        sent: Sent,
    ) -> Self {
        Self {
            method: head.method().clone(),
            version: head.version(),
            keep_alive: head.keep_alive(),
            websocket: websocket(head, terms.hop).is_some(),
            unexpected_content: head.has_unexpected_content(),
            counters: exchange.counters(),
            rate: Pace::new(&terms.subjects, Way::Download),
            exchange,
            from,
            buffer,
            to,
            deadlines: terms.deadlines,
            client: Patience::new(&terms.deadlines),
            hop: terms.hop,
            limits: terms.limits,
            pending: BytesMut::new(),
            sent,
            begun: false,
        }
    }

    pub(super) async fn relay(&mut self) -> Next {
        let head = match self.final_head().await {
            Ok(head) => head,
            Err(next) => return next,
        };
        if head.status() == 101 {
            return self.switch(&head).await;
        }
        let framing = self.framing_to_client(&head);
        // Inside TLS the client's connection is no longer than its upstream's, and the client is told so in time.
        let upstream_persists = head.keep_alive() && head.framing() != Framing::UntilClose && !self.unexpected_content;
        let lasting = self.hop == Hop::Plain || upstream_persists;
        // An answer that comes before the request is all there ends the connection, and says so (RFC 9112 section 9.6).
        let sent = self.sent.at().is_some();
        let persists = self.keep_alive && framing != Framing::UntilClose && lasting && sent;
        if self.send_head(&head, framing, persists).is_err() {
            return self.client_left();
        }
        let mut body = BodyReader::new(head.framing());
        let chunked = framing == Framing::Chunked && head.framing() != Framing::None;
        if let Err(next) = self.send_body(&mut body, chunked).await {
            return next;
        }
        self.exchange.conclude(Outcome::Allowed, None);
        match (persists, upstream_persists && self.buffer.is_empty()) {
            (false, _) => Next::Close,
            (true, true) => Next::KeepAlive,
            (true, false) => Next::UpstreamEnds,
        }
    }

    /// The client's direction broke first.
    pub(super) fn interrupted(&mut self, broken: Broken) -> Next {
        let reason = match broken {
            Broken::ClientClosed => Reason::ClientClosed,
            Broken::Malformed => Reason::MalformedRequest,
            Broken::UpstreamLate => Reason::UpstreamTimeout,
            Broken::ClientIdle => Reason::IdleTimeout,
            Broken::ClientTooSlow => Reason::TooSlow,
        };
        if !self.begun && matches!(broken, Broken::Malformed | Broken::UpstreamLate | Broken::ClientTooSlow) {
            return Next::Refuse(reason);
        }
        match broken {
            Broken::ClientClosed => self.client_left(),
            Broken::Malformed | Broken::UpstreamLate | Broken::ClientIdle | Broken::ClientTooSlow => {
                self.exchange.conclude(Outcome::Failed, Some(reason));
                Next::Abort
            }
        }
    }

    /// The client went away: behind the head of an answer this is its choice, before it the request failed.
    fn client_left(&mut self) -> Next {
        self.client_ended(Reason::ClientClosed)
    }

    fn client_ended(&mut self, reason: Reason) -> Next {
        let outcome = if self.begun { Outcome::Allowed } else { Outcome::Failed };
        self.exchange.conclude(outcome, Some(reason));
        Next::Abort
    }

    /// The client does not take what it is sent.
    fn stuck(&mut self, stuck: Stuck) -> Next {
        self.client_ended(match stuck {
            Stuck::Broken => Reason::ClientClosed,
            Stuck::Late(Late::Idle) => Reason::IdleTimeout,
            Stuck::Late(Late::TooSlow) => Reason::TooSlow,
        })
    }

    /// The first answer that is final, or a 101. 103 passes on (RFC 8297); other interim answers end here, 100 among them,
    /// since no expectation was sent.
    async fn final_head(&mut self) -> Result<ResponseHead, Next> {
        let mut reader = ResponseReader::default();
        let mut interim = 0;
        loop {
            match reader.read(self.buffer, &self.method, &self.limits) {
                Ok(Some(head)) if head.status() == 101 && !self.websocket => return Err(self.malformed("101 unasked")),
                Ok(Some(head)) if head.is_interim() && head.status() != 101 => {
                    interim += 1;
                    if interim > MAX_INTERIM {
                        return Err(self.malformed("more than 16 interim answers"));
                    }
                    if head.status() == 103 && self.version == Version::Http11 {
                        self.send_interim(&head).await?;
                    }
                }
                Ok(Some(head)) => return Ok(head),
                Ok(None) => match self.fill().await {
                    Ok(()) => {}
                    Err(Lost::Closed) => return Err(Next::Refuse(Reason::UpstreamClosed)),
                    Err(Lost::Timeout) => return Err(Next::Refuse(Reason::UpstreamTimeout)),
                },
                Err(error) => return Err(self.malformed(&error.to_string())),
            }
        }
    }

    fn malformed(&mut self, detail: &str) -> Next {
        self.exchange.explain(detail);
        Next::Refuse(Reason::UpstreamMalformed)
    }

    /// One read from the upstream of a head, which is due as a whole: an octet of it is no answer. Until the request is all there,
    /// it is the client's to keep the exchange alive.
    async fn fill(&mut self) -> Result<(), Lost> {
        self.buffer.reserve(CHUNK);
        loop {
            let due = self.sent.at().unwrap_or_else(Instant::now) + self.deadlines.response;
            match timeout_at(due, self.from.read_buf(self.buffer)).await {
                Ok(Ok(0) | Err(_)) => return Err(Lost::Closed),
                Ok(Ok(_)) => return Ok(()),
                Err(_) if self.sent.at().is_none_or(|at| at + self.deadlines.response > due) => {}
                Err(_) => return Err(Lost::Timeout),
            }
        }
    }

    /// What frames the answer to this client: HTTP/1.0 knows no chunks, and nobody is told to read until the end of a
    /// connection where a chunk can say it.
    fn framing_to_client(&self, head: &ResponseHead) -> Framing {
        match (head.declared_framing(), self.version) {
            (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
            (Framing::UntilClose, Version::Http11) => Framing::Chunked,
            (framing, _) => framing,
        }
    }

    fn send_head(&mut self, head: &ResponseHead, framing: Framing, persists: bool) -> Result<(), ()> {
        let connection = match (persists, self.version) {
            (false, _) => Connection::Close,
            (true, Version::Http10) => Connection::KeepAlive,
            (true, Version::Http11) => Connection::Persist,
        };
        self.write_head(head, framing, connection)?;
        self.exchange.responded(head.status());
        self.begun = true;
        Ok(())
    }

    async fn send_interim(&mut self, head: &ResponseHead) -> Result<(), Next> {
        self.write_head(head, Framing::None, Connection::Persist).map_err(|()| self.client_left())?;
        self.flush().await
    }

    fn write_head(&mut self, head: &ResponseHead, framing: Framing, connection: Connection<'_>) -> Result<(), ()> {
        let mut out = BytesMut::with_capacity(1024);
        // RFC 9110 section 6.6.1: whoever passes on an answer without a date gives it one.
        let undated = !head.is_interim() && !head.fields().any(|(name, _)| name.eq_ignore_ascii_case(b"date"));
        let now = undated.then(|| http_date(SystemTime::now()));
        let date = now.iter().map(|now| (&b"Date"[..], now.as_bytes()));
        let options: Vec<&[u8]> = head.connection_options().collect();
        let passed = head.fields().filter(|(name, _)| response_field_passes(name, options.iter().copied()));
        let via = (self.hop == Hop::Plain).then_some((&b"Via"[..], super::via_value(head.version())));
        let all = passed.chain(via).chain(date);
        write_response(&mut out, head.status(), head.reason_phrase(), all, framing, connection).map_err(|_| ())?;
        self.pending = out;
        Ok(())
    }

    /// The upstream took up the WebSocket: from here on both legs are raw (E20: not one byte before this).
    async fn switch(&mut self, head: &ResponseHead) -> Next {
        if !head.upgrade().is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket")) {
            return self.malformed("101 to another protocol than the one asked for");
        }
        self.exchange.responded(101);
        if self.write_head(head, Framing::None, Connection::Upgrade(b"websocket")).is_err() {
            return self.client_left();
        }
        match self.flush().await {
            Ok(()) => Next::Switched,
            Err(next) => next,
        }
    }

    /// Content as it comes. An upstream that ends inside it must not look like one that finished (N02): no last chunk is
    /// written, and the caller ends the client's connection as an error.
    async fn send_body(&mut self, body: &mut BodyReader, chunked: bool) -> Result<(), Next> {
        let mut out = BytesMut::new();
        // Octets of content in `out`.
        let mut held = 0;
        loop {
            match body.advance(self.buffer) {
                Ok(Part::Data(data)) if chunked => {
                    self.rate.take(data.len(), || self.counters.wait()).await;
                    write_chunk(&mut out, &data);
                    held += data.len();
                    // Small chunks go out together: one write for each would cost more than it took to send them (H08).
                    if out.len() >= CHUNK {
                        self.pass(&mut out, &mut held).await?;
                    }
                }
                Ok(Part::Data(data)) => {
                    self.rate.take(data.len(), || self.counters.wait()).await;
                    self.counters.add_received(data.len());
                    self.write(&data).await?;
                }
                Ok(Part::NeedMore) => {
                    self.pass(&mut out, &mut held).await?;
                    self.more(body).await?;
                }
                Ok(Part::End(trailers)) => {
                    if chunked {
                        self.counters.add_received(held);
                        let fields = trailers.iter().flat_map(|trailers| trailers.fields());
                        let kept = fields.filter(|(name, _)| response_trailer_passes(name));
                        write_last_chunk(&mut out, kept).map_err(|_| self.client_left())?;
                        self.write(&out).await?;
                    }
                    return self.flush().await;
                }
                Err(error) => {
                    self.exchange.explain(&error.to_string());
                    return Err(self.broken());
                }
            }
        }
    }

    /// Chunks to the client, and their octets to the count.
    async fn pass(&mut self, out: &mut BytesMut, held: &mut usize) -> Result<(), Next> {
        self.counters.add_received(std::mem::take(held));
        self.write(out).await?;
        out.clear();
        Ok(())
    }

    /// The content is not unambiguous. Where the head still waits for it, the page can take its place.
    fn broken(&mut self) -> Next {
        if self.pending.is_empty() {
            return self.truncated(Reason::UpstreamMalformed);
        }
        self.pending.clear();
        self.begun = false;
        Next::Refuse(Reason::UpstreamMalformed)
    }

    async fn more(&mut self, body: &mut BodyReader) -> Result<(), Next> {
        self.flush().await?;
        match self.fill_or_end().await {
            Ok(true) => Ok(()),
            Ok(false) => body.eof().map_err(|_| self.truncated(Reason::UpstreamTruncated)),
            Err(Lost::Closed) => Err(self.truncated(Reason::UpstreamTruncated)),
            Err(Lost::Timeout) => Err(self.truncated(Reason::IdleTimeout)),
        }
    }

    /// Whether there is more; an end in order is told from a broken one.
    async fn fill_or_end(&mut self) -> Result<bool, Lost> {
        self.buffer.reserve(CHUNK);
        match timeout(self.deadlines.idle, self.from.read_buf(self.buffer)).await {
            Ok(Ok(n)) => Ok(n > 0),
            Ok(Err(_)) => Err(Lost::Closed),
            Err(_) => Err(Lost::Timeout),
        }
    }

    fn truncated(&mut self, reason: Reason) -> Next {
        self.exchange.conclude(Outcome::Failed, Some(reason));
        Next::Abort
    }

    async fn flush(&mut self) -> Result<(), Next> {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            self.client.write(&mut self.to, &pending).await.map_err(|stuck| self.stuck(stuck))?;
        }
        self.client.flush(&mut self.to).await.map_err(|stuck| self.stuck(stuck))
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), Next> {
        let mut pending = std::mem::take(&mut self.pending);
        let written = if pending.is_empty() {
            self.client.write(&mut self.to, octets).await
        } else {
            pending.extend_from_slice(octets);
            self.client.write(&mut self.to, &pending).await
        };
        written.map_err(|stuck| self.stuck(stuck))
    }
}
