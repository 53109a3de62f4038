//! Only what a client does on a wire belongs here: raw bytes, HTTP/1 answers read by a parser of the test's own, TLS inside.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{pki, within};

/// A stream and what was read from it too early.
#[derive(Debug)]
pub struct Wire<S> {
    pub io: S,
    buffer: Vec<u8>,
    /// Octets sent and received since [`Wire::count_from_here`].
    pub sent: u64,
    pub received: u64,
}

/// An HTTP/1 answer, whole.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// The head as it stood on the wire.
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The body ended by its own framing, not by a closed connection.
    pub complete: bool,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn values(&self, name: &str) -> Vec<String> {
        fields(&self.head)
            .into_iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    pub fn value(&self, name: &str) -> String {
        self.values(name).join("|")
    }

    /// `Proxy-Status` names this reason (RFC 9209).
    #[track_caller]
    pub fn details(&self, reason: &str) -> &Self {
        let status = self.value("proxy-status");
        assert!(status.starts_with("sekisho; error="), "{self:?}");
        assert!(status.ends_with(&format!("; details=\"{reason}\"")), "wanted {reason}: {self:?}");
        self
    }

    /// This is sekisho's page for `reason`, with everything a page must have.
    #[track_caller]
    pub fn page(&self, status: u16, reason: &str) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self.details(reason);
        assert_eq!(self.value("content-security-policy"), "default-src 'none'; style-src 'unsafe-inline'", "{self:?}");
        assert_eq!(self.value("cache-control"), "no-store", "{self:?}");
        let text = self.text();
        assert!(text.contains(reason) && !text.to_ascii_lowercase().contains("<script"), "{text}");
        self
    }
}

/// The field lines of a head as names and values.
pub fn fields(head: &str) -> Vec<(String, String)> {
    head.split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "the client of these scenes, whose destination is the proxy")]
pub async fn connect(addr: SocketAddr) -> io::Result<Wire<TcpStream>> {
    let io = TcpStream::connect(addr).await?;
    io.set_nodelay(true)?;
    Ok(Wire::new(io))
}

/// As [`connect`], from this address of the loopback.
#[expect(clippy::disallowed_methods, reason = "the client of these scenes, whose destination is the proxy")]
pub async fn connect_from(ip: &str, addr: SocketAddr) -> Wire<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(ip.parse().expect("an address"), 0)).expect("bound");
    Wire::new(socket.connect(addr).await.expect("connected"))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(io: S) -> Self {
        Self { io, buffer: Vec::new(), sent: 0, received: 0 }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the peer takes it");
    }

    /// As [`Wire::send`] where the peer may be gone already.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.sent += bytes.as_ref().len() as u64;
        within("sending", async {
            self.io.write_all(bytes.as_ref()).await?;
            self.io.flush().await
        })
        .await
    }

    /// One octet at a time, each in a write of its own.
    pub async fn dribble(&mut self, bytes: impl AsRef<[u8]>) {
        for octet in bytes.as_ref() {
            self.send([*octet]).await;
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let n = within("reading", self.io.read_buf(&mut self.buffer)).await?;
        self.received += n as u64;
        Ok(n)
    }

    /// Up to and including `end`; `None` where the stream ends before.
    pub async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if !matches!(self.fill().await, Ok(1..)) {
                return None;
            }
        }
    }

    /// Exactly `n` octets; `None` where the stream ends before.
    pub async fn exactly(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < n {
            if !matches!(self.fill().await, Ok(1..)) {
                return None;
            }
        }
        Some(self.buffer.drain(..n).collect())
    }

    /// Everything up to the end of the stream, and whether it ended in order.
    pub async fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        let end = loop {
            match self.fill().await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        (std::mem::take(&mut self.buffer), end)
    }

    /// Reads until an answer's head or the end of the stream has come.
    pub async fn rest_until_answered(&mut self) {
        let _ = self.head().await;
    }

    /// The peer must close without another octet.
    #[track_caller]
    pub fn closed(&mut self) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            let (rest, _) = self.rest().await;
            assert!(rest.is_empty(), "{at}: wanted the end, got {:?}", String::from_utf8_lossy(&rest));
        }
    }

    /// A head up to its empty line; `None` where the stream ends before.
    pub async fn head(&mut self) -> Option<String> {
        self.until(b"\r\n\r\n").await.map(|head| String::from_utf8_lossy(&head).into_owned())
    }

    pub async fn response(&mut self, method: &str) -> Response {
        self.maybe_response(method).await.expect("an answer")
    }

    /// The next answer that is not interim, read by its own framing.
    pub async fn maybe_response(&mut self, method: &str) -> Option<Response> {
        loop {
            let head = self.head().await?;
            let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
            if (102..200).contains(&status) || status == 100 {
                continue;
            }
            let mut response = Response { status, head, body: Vec::new(), trailers: Vec::new(), complete: true };
            let tunnels = method == "CONNECT" && (200..300).contains(&status);
            if method == "HEAD" || tunnels || matches!(status, 101 | 204 | 304) {
                return Some(response);
            }
            let length = response.value("content-length");
            if response.value("transfer-encoding").eq_ignore_ascii_case("chunked") {
                assert!(length.is_empty(), "two framings: {response:?}");
                response.complete = self.chunks(&mut response).await.is_some();
            } else if length.is_empty() {
                let (rest, end) = self.rest().await;
                (response.body, response.complete) = (rest, end.is_ok());
            } else {
                let length = length.parse().expect("one length");
                match self.exactly(length).await {
                    Some(body) => response.body = body,
                    None => {
                        response.body = std::mem::take(&mut self.buffer);
                        response.complete = false;
                    }
                }
            }
            return Some(response);
        }
    }

    async fn chunks(&mut self, response: &mut Response) -> Option<()> {
        loop {
            let line = self.until(b"\r\n").await?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let size = usize::from_str_radix(line.trim(), 16).expect("a chunk size");
            if size == 0 {
                break;
            }
            response.body.extend(self.exactly(size).await?);
            assert_eq!(self.until(b"\r\n").await?, b"\r\n");
        }
        loop {
            let line = self.until(b"\r\n").await?;
            let line = String::from_utf8_lossy(&line).into_owned();
            match line.trim_end().split_once(':') {
                Some((name, value)) => response.trailers.push((name.to_owned(), value.trim().to_owned())),
                None => return Some(()),
            }
        }
    }

    /// A GET and its answer.
    pub async fn get(&mut self, host: &str, path: &str) -> Option<Response> {
        self.try_send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.ok()?;
        self.maybe_response("GET").await
    }

    /// Closes in order, and waits until the peer has closed too.
    pub async fn bye(mut self) {
        let _ = within("closing", self.io.shutdown()).await;
        let _ = self.rest().await;
    }

    pub async fn finish_writing(&mut self) {
        within("closing one half", self.io.shutdown()).await.expect("shutdown");
    }
}

/// The description of the fatal alert that `bytes` are, if they are one.
pub fn alert_of(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [21, 3, _, 0, 2, 2, description] => Some(*description),
        _ => None,
    }
}

/// How a client speaks TLS.
#[derive(Clone)]
pub struct Tls {
    sni: String,
    trusts: String,
    alpn: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    send_sni: bool,
}

impl Tls {
    /// Names `sni` and trusts the origins' root.
    pub fn named(sni: &str) -> Self {
        Self {
            sni: sni.to_owned(),
            trusts: pki::root_pem(),
            alpn: Vec::new(),
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
            send_sni: true,
        }
    }

    pub fn trusting(mut self, pem: &str) -> Self {
        self.trusts = pem.to_owned();
        self
    }

    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    pub fn versions(mut self, versions: &[&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions.to_vec();
        self
    }

    /// Verifies for the name, and does not send it.
    pub fn without_sni(mut self) -> Self {
        self.send_sni = false;
        self
    }

    fn config(&self) -> ClientConfig {
        let provider = pki::provider();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(pki::store(&self.trusts)), provider.clone())
                .build()
                .expect("a verifier");
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .expect("versions")
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols.clone_from(&self.alpn);
        config.enable_sni = self.send_sni;
        config
    }

    fn name(&self) -> ServerName<'static> {
        ServerName::try_from(self.sni.clone()).expect("a name")
    }

    /// The bytes of this client's first flight.
    pub fn hello(&self) -> Vec<u8> {
        let mut connection = rustls::ClientConnection::new(Arc::new(self.config()), self.name()).expect("a connection");
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).expect("a hello");
        bytes
    }

    /// # Errors
    /// Whatever ended the handshake.
    pub async fn try_over<S: AsyncRead + AsyncWrite + Unpin>(&self, wire: Wire<S>) -> io::Result<Wire<TlsStream<S>>> {
        assert!(wire.buffer.is_empty(), "bytes before the handshake: {:?}", wire.buffer);
        let connector = TlsConnector::from(Arc::new(self.config()));
        within("the handshake", connector.connect(self.name(), wire.io)).await.map(Wire::new)
    }

    pub async fn over<S: AsyncRead + AsyncWrite + Unpin>(&self, wire: Wire<S>) -> Wire<TlsStream<S>> {
        self.try_over(wire).await.expect("a handshake")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<TlsStream<S>> {
    pub fn alpn(&self) -> Option<String> {
        self.io.get_ref().1.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned())
    }

    pub fn version(&self) -> ProtocolVersion {
        self.io.get_ref().1.protocol_version().expect("agreed")
    }

    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.io.get_ref().1.peer_certificates().expect("sent").iter().map(|der| der.clone().into_owned()).collect()
    }
}
