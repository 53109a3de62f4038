//! Claim: what the client asks for, read from its own bytes. Facts, no opinions.
//!
//! On the explicit listener a head comes first: CONNECT, or an absolute-form `http:` request; behind a CONNECT comes the
//! ClientHello. On a transparent one the ClientHello comes first, and its name with the port that was meant is the claim, or a request
//! in origin-form, with its `Host`. Before either, a balancer says whose connection it is. All are read by sans-IO parsers (`http1`,
//! `client_hello`, `proxy_protocol`) fed here, under a time limit.

pub mod client_hello;
pub mod proxy_protocol;
mod records;

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use self::client_hello::{ClientHello, HelloError, HelloReader, Progress, Sni};
use self::proxy_protocol::{Behind, HeaderError};
use crate::client::{Client, Established, Far, Unannounced};
use crate::http1::{self, HeadError, Limits, RequestHead, RequestReader, Target};
use crate::names::{Authority, AuthorityError, Host};
use crate::policy::{Claim, Method};
use crate::reason::Reason;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// For a whole request head.
    pub request_head: Duration,
    /// For a whole ClientHello.
    pub client_hello: Duration,
}

/// What a client asked for.
pub enum Asked {
    /// With its head, which says how the authority was written.
    Connect { authority: Authority, head: Box<RequestHead> },
    /// An absolute-form `http:` request, to be forwarded as it is decided.
    Plain { authority: Authority, head: Box<RequestHead> },
    /// By the server_name of a steered client, and the port it meant.
    Steered { authority: Authority, hello: Box<ClientHello>, due: Established },
}

impl Asked {
    /// The authority as the client wrote it.
    pub fn written(&self) -> Option<&[u8]> {
        let (Self::Connect { head, .. } | Self::Plain { head, .. }) = self else { return None };
        match head.target() {
            Target::Authority(written) | Target::Absolute { authority: written, .. } => Some(written),
            Target::Origin(_) | Target::Asterisk => head.host(),
        }
    }

    /// What a steered client's claim was read from.
    pub fn into_hello(self) -> Option<(Established, Box<ClientHello>)> {
        match self {
            Self::Steered { hello, due, .. } => Some((due, hello)),
            Self::Connect { .. } | Self::Plain { .. } => None,
        }
    }

    pub fn claim(&self) -> Claim {
        match self {
            Self::Connect { authority, .. } | Self::Steered { authority, .. } => Claim::Connect(authority.clone()),
            Self::Plain { authority, head } => {
                let method = match head.method() {
                    http1::Method::Get => Method::Get,
                    http1::Method::Head => Method::Head,
                    http1::Method::Post => Method::Post,
                    http1::Method::Put | http1::Method::Delete | http1::Method::Connect | http1::Method::Options => {
                        Method::Other
                    }
                    http1::Method::Trace | http1::Method::Patch | http1::Method::Other(_) => Method::Other,
                };
                Claim::Request { method, authority: authority.clone() }
            }
        }
    }
}

/// Why there is no claim.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("the client closed the connection before a whole request head had come")]
    Closed,
    #[error("no whole request head within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Head(#[from] HeadError),
    #[error("TLS came where a request head is due")]
    Tls,
    /// With the authority as it was written.
    #[error("{error}")]
    Authority { error: AuthorityError, written: Vec<u8> },
    #[error("{0}")]
    Form(&'static str),
    /// Of a steered client.
    #[error("{0}")]
    Hello(#[from] ClientHelloError),
    #[error("the hello names no server, and a steered client is let to no address")]
    NoName,
    #[error("neither a ClientHello nor an HTTP request")]
    NeitherTlsNorHttp,
}

impl ClaimError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Closed => Reason::ClientClosed,
            Self::Timeout(_) => Reason::RequestHeadTimeout,
            Self::Head(error) => error.reason(),
            Self::Authority { error: AuthorityError::Host(_), .. } => Reason::MalformedName,
            Self::Authority { .. } | Self::Form(_) | Self::Tls => Reason::MalformedRequest,
            Self::Hello(error) => error.reason(),
            Self::NoName => Reason::NoSni,
            Self::NeitherTlsNorHttp => Reason::NotTls,
        }
    }
}

/// For a balancer's header, which comes with the connection: time enough for what is sent once more (the specification asks for three
/// seconds). It is no client's to spend.
const PROXY_HEADER: Duration = Duration::from_secs(5);

/// Why it is not known whose a balancer's connection is.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    #[error("the balancer closed the connection within its PROXY header")]
    Closed,
    #[error("no whole PROXY header of the balancer within {PROXY_HEADER:?}")]
    Timeout,
    #[error("the balancer is in proxy_protocol, but {0}")]
    Header(#[from] HeaderError),
}

impl ProxyHeaderError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Closed => Reason::ClientClosed,
            Self::Timeout => Reason::RequestHeadTimeout,
            Self::Header(_) => Reason::MalformedRequest,
        }
    }
}

/// Reads whose connection it is, and how many octets say so: none where it ends before the first. They stay in the buffer.
///
/// # Errors
/// [`ProxyHeaderError`]: there is nobody to answer.
pub async fn proxy_header(connection: &mut Unannounced) -> Result<(Behind, usize), ProxyHeaderError> {
    let reading = async {
        loop {
            match proxy_protocol::read(connection.buffer()) {
                proxy_protocol::Progress::Done(behind, octets) => return Ok((behind, octets)),
                proxy_protocol::Progress::Invalid(error) => return Err(error.into()),
                proxy_protocol::Progress::Incomplete => {}
            }
            match connection.fill().await {
                Ok(0) | Err(_) if connection.buffer().is_empty() => return Ok((Behind::Nobody, 0)),
                Ok(0) | Err(_) => return Err(ProxyHeaderError::Closed),
                Ok(_) => {}
            }
        }
    };
    timeout(PROXY_HEADER, reading).await.unwrap_or(Err(ProxyHeaderError::Timeout))
}

/// What waiting for a head came to.
pub enum Awaited {
    /// The client ended the connection in order, with nothing half-sent.
    Over,
    Head(Box<RequestHead>),
    /// Of a steered client.
    Hello(Box<ClientHello>, Established),
    Failed(ClaimError),
}

/// Reads the next request head. The time limit is for all of it, the wait for its first byte included.
pub async fn next_head(client: &mut Client, reader: &mut RequestReader, settings: &Settings) -> Awaited {
    let limits = Limits::default();
    let reading = async {
        loop {
            if client.speaks_tls() {
                return Awaited::Failed(ClaimError::Tls);
            }
            match reader.read(client.buffer(), &limits) {
                Ok(Some(head)) => return Awaited::Head(Box::new(head)),
                Ok(None) => {}
                Err(error) => return Awaited::Failed(error.into()),
            }
            match client.fill().await {
                Ok(0) | Err(_) if client.buffer().is_empty() => return Awaited::Over,
                Ok(0) | Err(_) => return Awaited::Failed(ClaimError::Closed),
                Ok(_) => {}
            }
        }
    };
    match timeout(settings.request_head, reading).await {
        Ok(awaited) => awaited,
        Err(_) => Awaited::Failed(ClaimError::Timeout(settings.request_head)),
    }
}

/// Methods a steered client may begin with, each with the space behind it; `PRI` is of HTTP/2.
const METHODS: [&[u8]; 10] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ", b"CONNECT ", b"PRI "];

/// What the first octets begin.
enum Begun {
    Nothing,
    Tls,
    Http,
    Neither,
}

fn begun(octets: &[u8]) -> Begun {
    match octets.first() {
        None => Begun::Nothing,
        Some(22) => Begun::Tls,
        Some(_) if METHODS.iter().any(|method| octets.starts_with(method)) => Begun::Http,
        Some(_) if METHODS.iter().any(|method| method.starts_with(octets)) => Begun::Nothing,
        Some(_) => Begun::Neither,
    }
}

/// Reads the first octets of a steered client and what they begin: a ClientHello, which stays in the buffer, or a request head. The time
/// limit is for all of it, the wait for its first octet included.
pub async fn first_of_steered(client: &mut Client, reader: &mut RequestReader, settings: &Settings) -> Awaited {
    let begins = Instant::now();
    // Between two requests, and where a request is to be expected, it is a head that is late.
    let first = if client.far() == Far::Head { settings.request_head } else { settings.client_hello };
    let late = |far: Far| match far {
        Far::Head => ClaimError::Timeout(settings.request_head),
        _ => ClientHelloError::Timeout(settings.client_hello).into(),
    };
    let begun = timeout_at(begins + first, async {
        loop {
            match begun(client.buffer()) {
                Begun::Nothing => {}
                begun => return Some(begun),
            }
            if let Ok(0) | Err(_) = client.fill().await {
                return None;
            }
        }
    });
    let begun = match begun.await {
        Ok(Some(begun)) => begun,
        Ok(None) if client.buffer().is_empty() => return Awaited::Over,
        Ok(None) => return Awaited::Failed(ClaimError::Closed),
        Err(_) => return Awaited::Failed(late(client.far())),
    };
    match (begun, client.begins_tls()) {
        (Begun::Tls, Some(due)) => {
            match timeout_at(begins + settings.client_hello, client_hello(client, &due, settings)).await {
                Ok(Ok(hello)) => Awaited::Hello(Box::new(hello), due),
                Ok(Err(error)) => Awaited::Failed(error.into()),
                Err(_) => Awaited::Failed(late(Far::Established)),
            }
        }
        (Begun::Http, _) => {
            client.begins_http();
            let head = timeout_at(begins + settings.request_head, next_head(client, reader, settings)).await;
            head.unwrap_or_else(|_| Awaited::Failed(late(Far::Head)))
        }
        (Begun::Tls | Begun::Neither | Begun::Nothing, _) => {
            client.begins_neither();
            Awaited::Failed(ClaimError::NeitherTlsNorHttp)
        }
    }
}

/// What the hello of a steered client asks for: its name, at the port that was meant.
///
/// # Errors
/// It names no server.
pub fn asked_by_hello(hello: Box<ClientHello>, due: Established, port: u16) -> Result<Asked, ClaimError> {
    match &hello.sni {
        Sni::Name(name) => {
            let authority = Authority { host: Host::Name(name.clone()), port };
            Ok(Asked::Steered { authority, hello, due })
        }
        Sni::Absent(_) => Err(ClaimError::NoName),
    }
}

/// What a request of a steered client asks for: its `Host`, at the port that was meant.
///
/// # Errors
/// [`ClaimError`]: nothing has been looked up or dialled.
pub fn asked_of_steered(head: Box<RequestHead>, port: u16) -> Result<Asked, ClaimError> {
    if !matches!(head.target(), Target::Origin(_)) {
        return Err(ClaimError::Form(
            "this listener takes steered clients, which know of no proxy: origin-form is due",
        ));
    }
    let host = head.host().ok_or(ClaimError::Form("Host is missing, and a steered client is let to no address"))?;
    let authority = Authority::parse_with_default(host, 80)
        .map_err(|error| ClaimError::Authority { error, written: host.to_vec() })?;
    if authority.port != port {
        return Err(ClaimError::Form("plain HTTP came to another port than Host means: without a port it means 80"));
    }
    Ok(Asked::Plain { authority, head })
}

/// What a head asks for. CONNECT needs an authority with a port; everything else must be `http:` in absolute-form.
///
/// # Errors
/// [`ClaimError`]: nothing has been looked up or dialled.
pub fn asked(head: Box<RequestHead>) -> Result<Asked, ClaimError> {
    let parse = |written: &[u8], parsed: Result<Authority, AuthorityError>| {
        parsed.map_err(|error| ClaimError::Authority { error, written: written.to_vec() })
    };
    match head.target() {
        Target::Authority(written) => {
            let authority = parse(written, Authority::parse(written))?;
            same_host(&head, written, &authority)?;
            Ok(Asked::Connect { authority, head })
        }
        Target::Absolute { scheme, authority: written, .. } if scheme.eq_ignore_ascii_case(b"http") => {
            // The authority of the URI is the claim; `Host` is rewritten from it (RFC 9112 section 3.2.2).
            let authority = parse(written, Authority::parse_with_default(written, 80))?;
            Ok(Asked::Plain { authority, head })
        }
        Target::Absolute { .. } => {
            Err(ClaimError::Form("only http: is taken in absolute-form; https: goes through CONNECT"))
        }
        Target::Origin(_) | Target::Asterisk => {
            Err(ClaimError::Form("this is a proxy: CONNECT or an absolute-form http: request is due, not origin-form"))
        }
    }
}

/// `Host` beside CONNECT names the same authority; without a port it takes the authority's (RFC 9112 section 3.2).
fn same_host(head: &RequestHead, written: &[u8], authority: &Authority) -> Result<(), ClaimError> {
    // As every client writes it: `Host` octet by octet as the target.
    let Some(host) = head.host().filter(|host| *host != written) else { return Ok(()) };
    let parsed = Authority::parse_with_default(host, authority.port)
        .map_err(|error| ClaimError::Authority { error, written: host.to_vec() })?;
    if parsed == *authority { Ok(()) } else { Err(ClaimError::Form("Host names another authority than CONNECT")) }
}

/// Why there is no ClientHello.
#[derive(Debug, thiserror::Error)]
pub enum ClientHelloError {
    #[error("the client closed the connection before a whole ClientHello had come")]
    Closed,
    #[error("no whole ClientHello within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Hello(#[from] HelloError),
}

impl ClientHelloError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Closed => Reason::ClientClosed,
            Self::Timeout(_) => Reason::ClientHelloTimeout,
            Self::Hello(error) => error.reason(),
        }
    }
}

/// Reads the ClientHello of a client that has had its 200. Its bytes stay in the client's buffer, to be replayed.
///
/// # Errors
/// [`ClientHelloError`]; never an answer that lets bytes pass unread.
pub async fn client_hello(
    client: &mut Client,
    _due: &Established,
    settings: &Settings,
) -> Result<ClientHello, ClientHelloError> {
    let mut reader = HelloReader::default();
    let reading = async {
        loop {
            match reader.advance(client.buffer()) {
                Progress::Done(hello) => return Ok(hello),
                Progress::Invalid(error) => return Err(error.into()),
                Progress::Incomplete => {}
            }
            if let Ok(0) | Err(_) = client.fill().await {
                return Err(ClientHelloError::Closed);
            }
        }
    };
    timeout(settings.client_hello, reading).await.unwrap_or(Err(ClientHelloError::Timeout(settings.client_hello)))
}
