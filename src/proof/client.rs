//! The client of a proof: one connection, two requests, the first of them hostile.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::origin::{ANSWER, Arrival, Origin, Place};
use super::plan::Case;
use super::{ProofError, Serving};
use crate::addrs::ListenAddr;
use crate::sockets::loopback_pair;
use crate::tls;

/// Requests on a connection.
pub(super) const REQUESTS: usize = 2;
/// The field by which a request is known.
pub(super) const MARK: &str = "sekisho-proof-request";
/// In the value of every hostile copy.
pub(super) const HOSTILE: &str = "sent-by-the-client";
/// Fields of a trailer; the proxy takes no more than 32.
const TRAILED: usize = 8;
/// Longest head that is read; ours are shorter.
const MAX_HEAD: usize = 16 * 1024;

/// What an errand speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}

/// How an errand went wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("a connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("CONNECT was answered {0:?}")]
    Refused(String),
    #[error("the handshake with the issuing CA's certificate failed: {0}")]
    Handshake(io::Error),
    #[error("the proxy does not speak it")]
    Protocol,
    #[error("the request was answered {0:?}")]
    Answer(String),
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    #[error("a request could not be made: {0}")]
    Request(#[from] http::Error),
}

/// The issuing CA and nobody else.
pub(super) struct Trust(RootCertStore);

impl Trust {
    /// # Errors
    /// It is no certificate that could issue.
    pub fn in_cas<'c>(certificates: impl Iterator<Item = &'c CertificateDer<'static>>) -> Result<Self, ProofError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate.clone()).map_err(ProofError::of)?;
        }
        Ok(Self(roots))
    }

    fn config(&self, protocol: Protocol) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.0.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        Ok(Arc::new(config))
    }
}

/// One connection to one host.
pub(super) struct Errand<'a> {
    case: &'a Case,
    protocol: Protocol,
    places: [Place; REQUESTS],
}

impl<'a> Errand<'a> {
    /// # Errors
    /// The system gives no random octets.
    pub fn new(case: &'a Case, protocol: Protocol, origin: &Origin) -> Result<Self, ProofError> {
        let mark = Origin::mark()?;
        Ok(Self { case, protocol, places: [0, 1].map(|number| origin.expect(&mark, number)) })
    }

    /// The value of [`MARK`].
    pub fn mark(&self) -> &[u8] {
        self.places[0].mark().as_bytes()
    }

    /// What arrived of each request.
    pub fn arrived(&self) -> Vec<Vec<Arrival>> {
        self.places.iter().map(Place::arrivals).collect()
    }

    /// # Errors
    /// [`Failure`]: a request was not answered by the origin.
    pub async fn run(&self, trust: &Trust, serving: &Arc<Serving>) -> Result<(), Failure> {
        let pair = loopback_pair().await?;
        let accepted = TcpStream::from_std(pair.accepted)?;
        // The proxy's end of the connection ends with this.
        let mut served = JoinSet::new();
        served.spawn(serving(accepted, self.case.client, ListenAddr::new(pair.to)));
        let mut client = pair.client;
        let authority = self.case.authority();
        client.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await?;
        let head = head_of(&mut client).await?;
        if status_of(&head) != Some("200") {
            return Err(Failure::Refused(said(&head)));
        }
        let name = ServerName::try_from(self.case.host.as_str().to_owned()).map_err(|_| Failure::Protocol)?;
        let config = trust.config(self.protocol).map_err(|error| Failure::Handshake(io::Error::other(error)))?;
        let stream = TlsConnector::from(config).connect(name, client).await.map_err(Failure::Handshake)?;
        match self.protocol {
            Protocol::Http1 => self.over_http1(stream).await,
            Protocol::Http2 if stream.get_ref().1.alpn_protocol() != Some(b"h2") => Err(Failure::Protocol),
            Protocol::Http2 => self.over_http2(stream).await,
        }
    }

    /// Written octet by octet: no library would send this.
    async fn over_http1(&self, mut stream: TlsStream<TcpStream>) -> Result<(), Failure> {
        let (authority, mark) = (self.case.authority(), self.places[0].mark());
        let names = self.names();
        let mut options = vec!["keep-alive", "te"];
        options.extend(&names);
        let mut hostile = format!("POST {} HTTP/1.1\r\nHost: {authority}\r\n{MARK}: {mark}\r\n", self.places[0].path());
        for name in self.copies() {
            hostile.push_str(&format!("{name}: {HOSTILE}\r\n"));
        }
        hostile.push_str(&format!("Connection: {}\r\nTE: trailers\r\n", options.join(", ")));
        hostile.push_str("Transfer-Encoding: chunked\r\n\r\n5\r\nproof\r\n0\r\n");
        for name in names.iter().take(TRAILED) {
            hostile.push_str(&format!("{name}: {HOSTILE}\r\n"));
        }
        hostile.push_str("\r\n");
        let clean = format!("GET {} HTTP/1.1\r\nHost: {authority}\r\n{MARK}: {mark}\r\n\r\n", self.places[1].path());
        for request in [hostile, clean] {
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await?;
            let head = head_of(&mut stream).await?;
            if status_of(&head) != Some("200") {
                return Err(Failure::Answer(said(&head)));
            }
            let mut content = [0; ANSWER.len()];
            stream.read_exact(&mut content).await?;
            if content != *ANSWER {
                return Err(Failure::Answer(String::from_utf8_lossy(&content).into_owned()));
            }
        }
        stream.shutdown().await?;
        Ok(())
    }

    /// Both requests at once, on streams of one connection.
    async fn over_http2(&self, stream: TlsStream<TcpStream>) -> Result<(), Failure> {
        let (sender, connection) = h2::client::handshake(stream).await?;
        let driving = async {
            // Its end is seen by the requests.
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            asked = self.ask_both(sender) => asked,
            () = driving => Ok(()),
        }
    }

    async fn ask_both(&self, sender: h2::client::SendRequest<Bytes>) -> Result<(), Failure> {
        let mut sender = sender.ready().await?;
        let copies = fields(self.copies())?;
        let trailer = fields(self.names().into_iter().take(TRAILED).map(str::to_owned))?;
        let mut hostile = self.request(Method::POST, &self.places[0])?;
        hostile.headers_mut().extend(copies);
        hostile.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let (first, mut content) = sender.send_request(hostile, false)?;
        let mut sender = sender.ready().await?;
        let (second, _) = sender.send_request(self.request(Method::GET, &self.places[1])?, true)?;
        content.send_data(Bytes::from_static(b"proof"), trailer.is_empty())?;
        if !trailer.is_empty() {
            content.send_trailers(trailer)?;
        }
        for answer in [first, second] {
            let (head, mut content) = answer.await?.into_parts();
            let mut octets = Vec::new();
            while let Some(piece) = content.data().await {
                let piece = piece?;
                content.flow_control().release_capacity(piece.len())?;
                octets.extend_from_slice(&piece);
            }
            if head.status != StatusCode::OK || octets != *ANSWER {
                return Err(Failure::Answer(format!("{} {}", head.status, details(&head.headers))));
            }
        }
        Ok(())
    }

    /// Of all fields that no client may send here, those that are due first.
    fn names(&self) -> Vec<&str> {
        self.case.due.iter().map(|due| due.name.as_str()).chain(self.case.foreign.iter().map(String::as_str)).collect()
    }

    /// Names of the hostile copies: of what is due every spelling, of all else the name.
    fn copies(&self) -> Vec<String> {
        let due = self.case.due.iter().flat_map(|due| spellings(&due.name));
        due.chain(self.case.foreign.iter().cloned()).collect()
    }

    fn request(&self, method: Method, place: &Place) -> Result<Request<()>, Failure> {
        let uri = format!("https://{}{}", self.case.authority(), place.path());
        let request = Request::builder().method(method).uri(uri).version(Version::HTTP_2);
        Ok(request.header(MARK, place.mark()).body(())?)
    }
}

/// As configured, in small and in capital letters, and with underscores, which some gateways read as hyphens.
fn spellings(name: &str) -> [String; 4] {
    [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase(), name.replace('-', "_")]
}

/// Each name with a hostile value; two that differ in the case of letters are one name twice.
fn fields(names: impl IntoIterator<Item = String>) -> Result<HeaderMap, Failure> {
    let mut fields = HeaderMap::new();
    for name in names {
        let name = HeaderName::try_from(name.to_ascii_lowercase()).map_err(http::Error::from)?;
        fields.append(name, HeaderValue::from_static(HOSTILE));
    }
    Ok(fields)
}

async fn head_of(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        // One at a time, so that nothing behind the head is taken.
        match stream.read_u8().await {
            Ok(octet) => head.push(octet),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn status_of(head: &str) -> Option<&str> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)
}

/// The status line, and the reason where one is given.
fn said(head: &str) -> String {
    let line = head.lines().next().unwrap_or("nothing");
    let status = head.lines().find(|line| line.to_ascii_lowercase().starts_with("proxy-status:"));
    status.map_or_else(|| line.to_owned(), |status| format!("{line}, {status}"))
}

fn details(fields: &HeaderMap) -> String {
    fields.get("proxy-status").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
