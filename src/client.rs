//! The client's side of a connection: its socket, the bytes read ahead of need, and how far its conversation got.
//!
//! What was read to identify a claim (a head, a ClientHello) stays in the buffer and is replayed to whoever reads next;
//! nothing a client glued behind a head is lost. [`Established`] is the proof that a client has been sent its 200, made only by
//! [`Client::establish`].

mod unannounced;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use self::unannounced::{Balanced, Unannounced};
use crate::addrs::{ClientAddr, ListenAddr, OriginalAddr};
use crate::sockets::{bound_unsent, receive, spread_probes};

/// How long a client whose last answer has been sent may still drain our bytes, and how much of its own we throw away.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 256 * 1024;
/// Octets read at once, more than most heads and hellos have.
const FILL: usize = 2048;
/// How long a client may take to read an answer of ours, which fits into a socket buffer.
const SEND: Duration = Duration::from_secs(10);

/// How far the conversation got: what manner of answer the client would still understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Far {
    /// A head is due: an HTTP status is understood.
    Head,
    /// The 200 of CONNECT has been sent: a TLS alert is understood.
    Established,
    /// The stream belongs to a relay, which answers for itself.
    Relayed,
    /// A TLS handshake has failed and said so by its own alert, or no TLS was spoken: only an orderly close is left to do.
    Alerted,
}

/// An accepted connection.
pub struct Client {
    addr: ClientAddr,
    listener: ListenAddr,
    socket: Socket,
    buffer: BytesMut,
    far: Far,
    /// All it sent has been read, its end included.
    ended: bool,
    /// Boxed: of an explicit client, which most are, it is a word.
    original: Option<Box<OriginalAddr>>,
    /// Boxed, as most come by themselves.
    balanced: Option<Box<Balanced>>,
}

/// The client has been answered 200, or was steered here and has asked for nothing: from here on it speaks TLS, or nothing.
pub struct Established(());

/// The port on which a steered client is taken to speak plain HTTP until its first octet tells.
const HTTP: u16 = 80;

impl Client {
    pub fn new(io: TcpStream, addr: ClientAddr, listener: ListenAddr) -> Self {
        let socket = Socket(Arc::new(io));
        let (buffer, far) = (BytesMut::new(), Far::Head);
        Self { addr, listener, socket, buffer, far, ended: false, original: None, balanced: None }
    }

    /// A client that the network steered here, on its way to `original`: it knows of no proxy and has to be told nothing.
    pub fn steered(io: TcpStream, addr: ClientAddr, listener: ListenAddr, original: OriginalAddr) -> Self {
        Self::new(io, addr, listener).meaning(original)
    }

    fn meaning(self, original: OriginalAddr) -> Self {
        let far = if original.port() == HTTP { Far::Head } else { Far::Established };
        Self { far, original: Some(Box::new(original)), ..self }
    }

    /// By whom its connection was passed on; `None` for one that came by itself.
    pub fn balanced(&self) -> Option<&Balanced> {
        self.balanced.as_deref()
    }

    /// Where a steered client meant to go; `None` for one that names this proxy.
    pub fn original(&self) -> Option<OriginalAddr> {
        self.original.as_deref().copied()
    }

    /// The first octet of a steered client is there: it speaks TLS, and is owed no 200.
    pub fn begins_tls(&mut self) -> Option<Established> {
        let begins = self.original.is_some() && self.speaks_tls();
        begins.then(|| {
            self.far = Far::Established;
            Established(())
        })
    }

    /// The first octets of a steered client are of nothing that is spoken here: an orderly close is all it could understand.
    pub fn begins_neither(&mut self) {
        self.far = Far::Alerted;
    }

    /// The first octets of a steered client are those of a request: it understands an HTTP answer.
    pub fn begins_http(&mut self) {
        self.far = Far::Head;
    }

    pub fn addr(&self) -> ClientAddr {
        self.addr
    }

    pub fn listener(&self) -> ListenAddr {
        self.listener
    }

    pub fn far(&self) -> Far {
        self.far
    }

    /// Bytes received and not yet used.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Reads once more into the buffer; 0 is the end of the stream.
    ///
    /// # Errors
    /// Whatever the socket says.
    pub async fn fill(&mut self) -> io::Result<usize> {
        let filled = self.buffer.len();
        loop {
            self.socket.0.readable().await?;
            self.buffer.resize(filled + FILL, 0);
            let read = receive(&self.socket.0, &mut self.buffer[filled..]);
            self.buffer.truncate(filled + read.as_ref().map_or(0, |octets| *octets));
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => {
                    self.ended = true;
                    return Ok(0);
                }
                done => return done,
            }
        }
    }

    /// Sends an answer of ours whole.
    ///
    /// # Errors
    /// Whatever the socket says; `TimedOut` where the client does not take it.
    pub async fn send(&mut self, mut answer: &[u8]) -> io::Result<()> {
        let sending = async {
            while !answer.is_empty() {
                self.socket.0.writable().await?;
                match self.socket.0.try_write(answer) {
                    Ok(n) => answer.advance(n),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        timeout(SEND, sending).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends the 200 of CONNECT (RFC 9110 section 9.3.6: no content, no framing fields).
    ///
    /// # Errors
    /// Whatever the socket says: the client is gone.
    pub async fn establish(&mut self) -> io::Result<Established> {
        self.send(b"HTTP/1.1 200 Connection Established\r\n\r\n").await?;
        self.far = Far::Established;
        Ok(Established(()))
    }

    /// The stream with its unread bytes in front, for a relay. Nothing is answered from here any more.
    pub fn stream(&mut self) -> Prefixed {
        self.far = Far::Relayed;
        Prefixed { socket: self.socket.clone(), prefix: std::mem::take(&mut self.buffer) }
    }

    /// Takes the conversation back from a TLS handshake that failed; `far` is what can still be told.
    pub fn reclaim(&mut self, far: Far) {
        self.far = far;
    }

    /// The stream lent out for one exchange, to be given back with what was read ahead of need.
    pub fn lend(&mut self) -> (Socket, BytesMut) {
        self.far = Far::Relayed;
        (self.socket.clone(), std::mem::take(&mut self.buffer))
    }

    /// For a relay that may be idle for long.
    pub fn spread_probes(&self) {
        spread_probes(&self.socket.0);
    }

    /// For a relay that measures how fast the client takes what it is sent.
    pub fn bound_unsent(&self) {
        bound_unsent(&self.socket.0);
    }

    /// A relay read the client's end.
    pub fn ended(&mut self) {
        self.ended = true;
    }

    /// Takes back what [`Client::lend`] gave, behind a whole answer or before any of it: a head is due, or an answer of ours.
    pub fn give_back(&mut self, buffer: BytesMut) {
        self.buffer = buffer;
        self.far = Far::Head;
    }

    /// Ends the conversation so that the last answer arrives: no more from us, and the client's remaining bytes are read for
    /// a moment, since closing over unread bytes makes the kernel send a reset that can overtake the answer.
    pub async fn close(mut self) {
        if self.ended {
            return;
        }
        if SockRef::from(&*self.socket.0).shutdown(std::net::Shutdown::Write).is_err() {
            return;
        }
        let drain = async {
            let mut thrown = self.buffer.len();
            while thrown < LINGER_OCTETS {
                self.buffer.clear();
                match self.fill().await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => thrown += n,
                }
            }
        };
        let _ = timeout(LINGER, drain).await;
    }

    /// A ClientHello stands where a head is due.
    pub fn speaks_tls(&self) -> bool {
        self.buffer.first() == Some(&22)
    }

    /// Ends it as an error: what was sent must not pass for a whole message.
    pub fn abort(self) {
        let _ = SockRef::from(&*self.socket.0).set_linger(Some(Duration::ZERO));
    }
}

/// The client's socket, shared between the conversation and the relay that has taken it over.
#[derive(Clone)]
pub struct Socket(Arc<TcpStream>);

impl Socket {
    pub fn tcp(&self) -> &TcpStream {
        &self.0
    }
}

/// The client's socket with the bytes already read replayed first.
pub struct Prefixed {
    socket: Socket,
    prefix: BytesMut,
}

impl Prefixed {
    /// The bytes that were read ahead and the bare socket, for a relay that needs no replay.
    pub fn into_parts(self) -> (BytesMut, Socket) {
        (self.prefix, self.socket)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match receive(&self.0, buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.when_writable(cx, |socket| socket.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.when_writable(cx, |socket| socket.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }
}

impl Socket {
    fn when_writable(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..n]);
        self.prefix.advance(n);
        if self.prefix.is_empty() {
            // An idle connection must not hold the hello's buffer.
            self.prefix = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
