//! The client's side of a connection: its stream, the bytes read ahead of need, and how far its conversation got.
//!
//! What was read to identify a claim (a head, a ClientHello) stays in [`Client`]'s buffer and is replayed to whoever reads
//! next; nothing a client glued behind a head is lost. [`Established`] is a client that has been sent its 200, made only by
//! [`Client::establish`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::addrs::{ClientAddr, ListenAddr};
use crate::reply::alert_record;

/// How long a client whose last answer has been sent may still drain our bytes, and how much of its own we throw away.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 256 * 1024;

/// An accepted connection.
pub struct Client {
    addr: ClientAddr,
    listener: ListenAddr,
    io: TcpStream,
    buffer: BytesMut,
}

/// A client that has been answered 200: from here on it speaks TLS, or nothing.
pub struct Established(Client);

impl Client {
    pub fn new(io: TcpStream, addr: ClientAddr, listener: ListenAddr) -> Self {
        Self { addr, listener, io, buffer: BytesMut::new() }
    }

    pub fn addr(&self) -> ClientAddr {
        self.addr
    }

    pub fn listener(&self) -> ListenAddr {
        self.listener
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
        self.buffer.reserve(2048);
        self.io.read_buf(&mut self.buffer).await
    }

    /// Sends an answer of ours whole.
    ///
    /// # Errors
    /// Whatever the socket says.
    pub async fn send(&mut self, answer: &[u8]) -> io::Result<()> {
        self.io.write_all(answer).await
    }

    /// Sends the 200 of CONNECT (RFC 9110 section 9.3.6: no content, no framing fields).
    ///
    /// # Errors
    /// Whatever the socket says: the client is gone.
    pub async fn establish(mut self) -> io::Result<Established> {
        self.io.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await?;
        Ok(Established(self))
    }

    /// Ends the conversation so that the last answer arrives: no more from us, and the client's remaining bytes are read for
    /// a moment, since closing over unread bytes makes the kernel send a reset that can overtake the answer.
    pub async fn close(mut self) {
        let _ = self.io.shutdown().await;
        let mut thrown = self.buffer.len();
        let drain = async {
            while thrown < LINGER_OCTETS {
                self.buffer.clear();
                match self.io.read_buf(&mut self.buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => thrown += n,
                }
            }
        };
        let _ = timeout(LINGER, drain).await;
    }

    /// The stream with its unread bytes in front.
    pub fn into_stream(self) -> Prefixed {
        Prefixed { io: self.io, prefix: self.buffer }
    }
}

impl Established {
    pub fn client(&mut self) -> &mut Client {
        &mut self.0
    }

    /// Refuses at the level of TLS: a fatal alert, then the end.
    pub async fn alert(mut self, description: u8) {
        if self.0.send(&alert_record(description)).await.is_ok() {
            self.0.close().await;
        }
    }

    pub fn into_stream(self) -> Prefixed {
        self.0.into_stream()
    }
}

/// The client's socket with the bytes already read replayed first.
pub struct Prefixed {
    io: TcpStream,
    prefix: BytesMut,
}

impl Prefixed {
    /// The bytes that were read ahead and the bare socket, for a relay that needs no replay.
    pub fn into_parts(self) -> (BytesMut, TcpStream) {
        (self.prefix, self.io)
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
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
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
