//! The origin that stands in for every host: on loopback, over TLS, by HTTP/1.1 and HTTP/2. It keeps what arrives of the requests that are
//! expected, and of no others.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::ProofError;
use crate::locks::Mutex;
use crate::names::DnsName;
use crate::sockets::loopback_listener;
use crate::tls;

/// The content of every answer.
pub(super) const ANSWER: &[u8; 6] = b"proof\n";
/// Connections at a time. Beyond it the oldest is ended: anybody on this machine may connect, and those of the proof last for milliseconds.
const CONNECTIONS: usize = 256;
/// A whole connection.
const LIFE: Duration = Duration::from_secs(20);
/// Octets of a head: of values of the greatest length several fit.
const MAX_HEAD: u32 = 1 << 20;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Certificates begin this long before they are made and end this long after.
const VALID: time::Duration = time::Duration::DAY;
/// Octets of content that are read.
const MAX_CONTENT: usize = 64 * 1024;
/// Arrivals of one request that are kept: one is right, two are a finding.
const KEPT: usize = 2;

/// One request, as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// The SNI of the connection.
    pub server_name: String,
    /// `:authority` or `Host`.
    pub authority: String,
    /// In order, names in lower case; `Host` left out.
    pub fields: Vec<(String, Vec<u8>)>,
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Arrival {
    /// Without the port.
    pub fn host(&self) -> Option<&str> {
        self.authority.rsplit_once(':').map_or(Some(self.authority.as_str()), |(host, _)| Some(host))
    }
}

type Arrivals = Arc<Mutex<HashMap<String, Vec<Arrival>>>>;

/// Where one request is expected.
pub(super) struct Place {
    mark: String,
    path: String,
    arrivals: Arrivals,
}

impl Place {
    pub fn mark(&self) -> &str {
        &self.mark
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        let arrivals = self.arrivals.lock();
        arrivals.get(&self.path).cloned().unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.arrivals.lock().remove(&self.path);
    }
}

/// The origin, serving until it is dropped.
pub(super) struct Origin {
    root: CertificateDer<'static>,
    port: u16,
    arrivals: Arrivals,
    _serving: JoinSet<()>,
}

impl Origin {
    /// With keys and certificates that are nowhere but in memory.
    ///
    /// # Errors
    /// No port, no key.
    pub fn open<'h>(hosts: impl Iterator<Item = &'h DnsName>) -> Result<Self, ProofError> {
        let (root, leaves) = Leaves::new(hosts)?;
        let mut tls = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(ProofError::of)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(leaves));
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = loopback_listener().map_err(ProofError::of)?;
        listener.set_nonblocking(true).map_err(ProofError::of)?;
        let listener = TcpListener::from_std(listener).map_err(ProofError::of)?;
        let port = listener.local_addr().map_err(ProofError::of)?.port();
        let arrivals = Arrivals::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&arrivals)));
        Ok(Self { root, port, arrivals, _serving: serving })
    }

    pub fn root(&self) -> CertificateDer<'static> {
        self.root.clone()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What nobody else can know.
    ///
    /// # Errors
    /// The system gives no random octets.
    pub fn mark() -> Result<String, ProofError> {
        let mut octets = [0; 16];
        rand::fill(&mut octets).map_err(|_| ProofError::of("the system gives no random octets"))?;
        Ok(octets.iter().map(|octet| format!("{octet:02x}")).collect())
    }

    /// From here on this request is kept.
    pub fn expect(&self, mark: &str, number: usize) -> Place {
        let path = format!("/sekisho-proof/{mark}/{number}");
        self.arrivals.lock().insert(path.clone(), Vec::new());
        Place { mark: mark.to_owned(), path, arrivals: Arc::clone(&self.arrivals) }
    }
}

/// Certificates for the hosts, under a root of their own, each made when it is first asked for.
struct Leaves {
    issuer: Issuer<'static, KeyPair>,
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    /// `None`: not made yet.
    made: Mutex<HashMap<String, Option<Arc<CertifiedKey>>>>,
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaves").finish_non_exhaustive()
    }
}

impl Leaves {
    fn new<'h>(hosts: impl Iterator<Item = &'h DnsName>) -> Result<(CertificateDer<'static>, Self), ProofError> {
        let (root_key, key) =
            (KeyPair::generate().map_err(ProofError::of)?, KeyPair::generate().map_err(ProofError::of)?);
        let mut root = params(Vec::new()).map_err(ProofError::of)?;
        root.distinguished_name.push(DnType::CommonName, "sekisho tenant proof");
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = root.self_signed(&root_key).map_err(ProofError::of)?.der().clone();
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = tls::provider().key_provider.load_private_key(secret).map_err(ProofError::of)?;
        let made = Mutex::new(hosts.map(|host| (host.to_string(), None)).collect());
        Ok((certificate, Self { issuer: Issuer::new(root, root_key), key, signing, made }))
    }

    fn leaf(&self, host: &str) -> Result<CertifiedKey, rcgen::Error> {
        let mut leaf = params(vec![host.to_owned()])?;
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = leaf.signed_by(&self.key, &self.issuer)?.der().clone();
        Ok(CertifiedKey::new(vec![certificate], Arc::clone(&self.signing)))
    }
}

fn params(names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = now - VALID;
    params.not_after = now + VALID;
    Ok(params)
}

impl ResolvesServerCert for Leaves {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name()?;
        let mut made = self.made.lock();
        let kept = made.get_mut(host)?;
        if kept.is_none() {
            // What fails shows as a handshake that does.
            *kept = self.leaf(host).ok().map(Arc::new);
        }
        kept.clone()
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, arrivals: Arrivals) {
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        while connections.try_join_next().is_some() {}
        open.retain(|connection| !connection.is_finished());
        match listener.accept().await {
            Ok((stream, _)) => {
                if open.len() >= CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                let connection = timeout(LIFE, connection(stream, tls.clone(), Arc::clone(&arrivals)));
                open.push_back(connections.spawn(connection));
            }
            Err(error) => {
                tracing::debug!(%error, "the tenant proof's origin could not accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// An error ends the connection, and the errand that it belongs to sees that.
async fn connection(stream: TcpStream, tls: TlsAcceptor, arrivals: Arrivals) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = tls.accept(stream).await?;
    let server_name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let (server_name, arrivals) = (server_name.clone(), Arc::clone(&arrivals));
        async move { Ok::<_, Infallible>(answer(request, server_name, &arrivals).await) }
    });
    let io = TokioIo::new(stream);
    let served = match http2 {
        true => {
            let mut server = http2::Builder::new(TokioExecutor::new());
            server.max_header_list_size(MAX_HEAD).serve_connection(io, service).await
        }
        false => http1::Builder::new().max_buf_size(MAX_HEAD as usize).serve_connection(io, service).await,
    };
    served.map_err(io::Error::other)
}

async fn answer(request: Request<Incoming>, server_name: String, arrivals: &Arrivals) -> Response<Full<Bytes>> {
    let (head, content) = request.into_parts();
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = head.uri.authority().map(|authority| authority.as_str()).or(host).unwrap_or_default().to_owned();
    let content = Limited::new(content, MAX_CONTENT).collect().await;
    let trailers = content.ok().and_then(|content| content.trailers().cloned()).unwrap_or_default();
    let mut fields = listed(&head.headers);
    fields.retain(|(name, _)| name != "host");
    let arrival = Arrival { server_name, authority, fields, trailers: listed(&trailers) };
    let mut arrivals = arrivals.lock();
    if let Some(kept) = arrivals.get_mut(head.uri.path()).filter(|kept| kept.len() < KEPT) {
        kept.push(arrival);
    }
    Response::new(Full::from(&ANSWER[..]))
}

fn listed(fields: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}
