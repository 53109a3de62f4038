//! The client's connections: TCP, CONNECT where the proxy is told by it, TLS. No request is made here.
//!
//! TLS 1.3 only, X25519, no resumption: every handshake is a full one, and the same work whichever proxy stands between.

use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Failure, Plan, Via, answer};
use crate::files::{MAX_CERTIFICATES, regular};

/// What `refused` asks for: nobody's name (RFC 6761 section 6.4), so nobody is asked for it.
pub const REFUSED: &str = "refused.invalid";

/// Opens the connections of a run.
pub struct Dialer {
    plan: Plan,
    connect: Vec<u8>,
    connect_refused: Vec<u8>,
    name: ServerName<'static>,
    http1: TlsConnector,
    http2: TlsConnector,
    turn: AtomicUsize,
}

/// What is spoken inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

impl Dialer {
    /// Reads the roots and sets up TLS, once.
    ///
    /// # Errors
    /// In words, with the file.
    pub fn new(plan: &Plan) -> Result<Self, String> {
        // Seeds the process's random generator, which takes some 30 ms: none of them is a request's.
        aws_lc_rs::rand::fill(&mut [0]).map_err(|_| "the system gives no random octets")?;
        let roots = Arc::new(roots(plan)?);
        let name = ServerName::try_from(plan.target.name.as_str().to_owned()).map_err(|error| error.to_string())?;
        let request = |authority: &str| {
            format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: sekisho-load\r\n\r\n")
                .into_bytes()
        };
        Ok(Self {
            plan: plan.clone(),
            connect: request(&plan.target.authority()),
            connect_refused: request(&format!("{REFUSED}:443")),
            name,
            http1: connector(&roots, b"http/1.1")?,
            http2: connector(&roots, b"h2")?,
            turn: AtomicUsize::new(0),
        })
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A connection to the proxy, nothing said on it.
    ///
    /// # Errors
    /// `connect_refused`, `no_source_port` and so on.
    pub async fn tcp(&self) -> Result<TcpStream, Failure> {
        let failed = |error: io::Error| Failure::of_io(&format!("connecting to {}", self.plan.proxy), &error);
        let socket = if self.plan.proxy.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(failed)?;
        if let Some(source) = self.source() {
            // Else a port that waits out its TIME_WAIT could not be bound again (RFC 6191 lets it be).
            socket.set_reuseaddr(true).map_err(failed)?;
            let bound = socket.bind((source, 0).into());
            bound.map_err(|error| Failure::of_io(&format!("taking a port of {source}"), &error))?;
        }
        socket.set_nodelay(true).map_err(failed)?;
        #[expect(clippy::disallowed_methods, reason = "a client of the proxy, not the proxy")]
        socket.connect(self.plan.proxy).await.map_err(failed)
    }

    fn source(&self) -> Option<IpAddr> {
        let addresses = &self.plan.client_addresses;
        let turn = if addresses.len() > 1 { self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len() } else { 0 };
        addresses.get(turn).copied()
    }

    /// A connection as far as the end of its TLS handshake.
    ///
    /// # Errors
    /// `connect_403` and the like where the CONNECT is not answered with 200, `tls` where the handshake fails.
    pub async fn open(&self, protocol: Protocol) -> Result<TlsStream<TcpStream>, Failure> {
        let mut stream = self.tcp().await?;
        if self.plan.via == Via::Connect {
            ask(&mut stream, &self.connect).await?;
            let status = answer::read_connect(&mut stream).await?.status;
            if status != 200 {
                let text = format!("CONNECT {} was answered with {status}", self.plan.target.authority());
                return Err(Failure::new(format!("connect_{status}"), text));
            }
        }
        let connector = match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        };
        let opened = connector.connect(self.name.clone(), stream).await;
        opened.map_err(|error| Failure::of_io("the TLS handshake", &error))
    }

    /// A connection to a name that is not allowed, which the proxy has to refuse.
    ///
    /// # Errors
    /// `not_refused` where it does not; `connect_502` and the like where it answers with something other than a 4xx.
    pub async fn refused(&self) -> Result<(), Failure> {
        let mut stream = self.tcp().await?;
        if self.plan.via == Via::Sni {
            return self.refused_by_name(stream).await;
        }
        ask(&mut stream, &self.connect_refused).await?;
        let status = answer::read_connect(&mut stream).await?.status;
        // The proxy's end of the connection: its side of the work is done, and its record written.
        let _ = stream.shutdown().await;
        let _ = stream.read(&mut [0; 64]).await;
        match status {
            400..500 => Ok(()),
            200..300 => Err(Failure::new("not_refused", format!("CONNECT {REFUSED}:443 was answered with {status}"))),
            _ => Err(Failure::new(
                format!("connect_{status}"),
                format!("CONNECT {REFUSED}:443 was answered with {status}"),
            )),
        }
    }

    /// An alert, a close or a reset is a refusal; a certificate, whoever's, is none.
    async fn refused_by_name(&self, stream: TcpStream) -> Result<(), Failure> {
        let name = ServerName::try_from(REFUSED).map_err(|error| Failure::new("tls", error.to_string()))?;
        let Err(error) = self.http1.connect(name, stream).await else {
            return Err(Failure::new("not_refused", format!("a TLS handshake for {REFUSED} succeeded")));
        };
        let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (alert, error.kind()) {
            (Some(rustls::Error::AlertReceived(_)), _)
            | (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                Ok(())
            }
            (Some(rustls::Error::InvalidCertificate(_)), _) => {
                Err(Failure::new("not_refused", format!("a server answered for {REFUSED}: {error}")))
            }
            _ => Err(Failure::of_io("the TLS handshake", &error)),
        }
    }
}

async fn ask(stream: &mut TcpStream, request: &[u8]) -> Result<(), Failure> {
    stream.write_all(request).await.map_err(|error| Failure::of_io("sending the CONNECT", &error))
}

/// Says goodbye and waits for the other end's, so that the proxy's work for this connection is over and on record.
pub async fn close(mut stream: TlsStream<TcpStream>, scratch: &mut [u8]) {
    // The answer is there; how the goodbye goes is of no interest.
    let _ = stream.shutdown().await;
    let (tcp, _) = stream.get_mut();
    while matches!(tcp.read(scratch).await, Ok(1..)) {}
}

fn roots(plan: &Plan) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for file in &plan.roots {
        let unusable = |error: &dyn Display| format!("--ca {}: {error}", file.display());
        let text = regular(file, MAX_CERTIFICATES).map_err(|error| unusable(&error))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|error| unusable(&error))?;
        if found.is_empty() {
            return Err(unusable(&"there is no certificate in it"));
        }
        for certificate in found {
            store.add(certificate).map_err(|error| unusable(&error))?;
        }
    }
    Ok(store)
}

fn connector(roots: &Arc<RootCertStore>, protocol: &[u8]) -> Result<TlsConnector, String> {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519];
    let builder =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let mut config = builder.with_root_certificates(Arc::clone(roots)).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}
