//! The far end of the self-probe: a TLS server on loopback with a certificate of its own, trusted by the probe alone.
//!
//! It is asked in two ways. A ClientHello with the probe's mark comes through a tunnel: it is answered in the clear, so that a visit
//! costs no cryptography. Any other is the proxy's own handshake for a verdict, and is completed. Whoever else finds the port gets no
//! more from it than that.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::ProbeError;
use crate::sockets::loopback_listener;
use crate::tls;

/// The one name of the probe's policy. `.invalid` is nobody's (RFC 6761 section 6.4).
pub(super) const ALLOWED: &str = "allowed.self-probe.invalid";
/// What the origin says to a marked ClientHello.
pub(super) const ANSWER: &[u8] = b"sekisho self-probe\r\n";
/// The protocol (ALPN) that marks one.
const MARK: &[u8] = b"sekisho-self-probe";
/// Connections at a time; others are closed.
const CONNECTIONS: usize = 256;
/// A whole connection.
const LIFE: Duration = Duration::from_secs(20);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The origin, listening.
pub(super) struct Origin {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
}

/// What the probe knows of it.
pub(super) struct Known {
    pub certificate: CertificateDer<'static>,
    pub port: u16,
    /// A marked ClientHello.
    pub hello: Vec<u8>,
}

impl Origin {
    /// A key and a certificate that are nowhere but in memory, good for as long as any clock says: what a clock says is not
    /// what is probed.
    pub fn open() -> Result<(Self, Known), ProbeError> {
        let key = KeyPair::generate().map_err(ProbeError::of)?;
        let mut params = CertificateParams::new(vec![ALLOWED.to_owned()]).map_err(ProbeError::of)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.self_signed(&key).map_err(ProbeError::of)?.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(ProbeError::of)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .map_err(ProbeError::of)?;
        let listener = loopback_listener().map_err(ProbeError::of)?;
        listener.set_nonblocking(true).map_err(ProbeError::of)?;
        let listener = TcpListener::from_std(listener).map_err(ProbeError::of)?;
        let port = listener.local_addr().map_err(ProbeError::of)?.port();
        Ok((Self { listener, tls: Arc::new(tls) }, Known { certificate, port, hello: hello()? }))
    }

    /// Serves until it is dropped; its connections end with it.
    pub async fn serve(self) {
        let mut connections = JoinSet::new();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if connections.len() < CONNECTIONS => {
                    connections.spawn(timeout(LIFE, connection(stream, Arc::clone(&self.tls))));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "the self-probe's origin could not accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

/// The first flight of a client that offers the mark. It need trust nobody: it goes no further.
fn hello() -> Result<Vec<u8>, ProbeError> {
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(ProbeError::of)?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![MARK.to_vec()];
    let name = ServerName::try_from(ALLOWED).map_err(ProbeError::of)?;
    let mut client = ClientConnection::new(Arc::new(config), name).map_err(ProbeError::of)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello).map_err(ProbeError::of)?;
    Ok(hello)
}

/// An error ends the connection, and the visit that it belongs to sees that.
async fn connection(stream: TcpStream, tls: Arc<ServerConfig>) -> std::io::Result<()> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let marked = start.client_hello().alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == MARK));
    if !marked {
        return ended(&mut start.into_stream(tls).await?).await;
    }
    let StartHandshake { io: mut stream, .. } = start;
    stream.write_all(ANSWER).await?;
    ended(&mut stream).await?;
    stream.shutdown().await
}

/// Nothing more is due from the other end.
async fn ended(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}
