//! The far end of a run: an HTTPS server whose answers are as large as they are asked to be, and its certificate files.
//!
//! Only the leaf's key touches the disk. The root's is thrown away once it has signed, so that the root certificate, which a proxy
//! is told to trust, vouches for this one leaf and can vouch for nothing else.

use std::convert::Infallible;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::files::{MAX_CERTIFICATES, regular};
use crate::names::DnsName;

/// What the proxy has to trust, in the directory.
pub const ROOT: &str = "root.pem";
const LEAF: &str = "leaf.pem";
const KEY: &str = "leaf.key";
/// The answer to `GET /`.
pub const SMALL: &[u8; 13] = b"Hello, load!\n";
/// Octets of the largest `GET /bytes/N`: 16 GiB.
pub const MAX_BYTES: u64 = 17_179_869_184;
/// Octets of one piece of `GET /bytes/N`: a whole number of TLS records.
const PIECE: usize = 64 * 1024;
static ZEROS: [u8; PIECE] = [0; PIECE];
/// Certificates begin this long before they are made and end this long after.
const VALID: (time::Duration, time::Duration) = (time::Duration::DAY, time::Duration::days(365));
const HANDSHAKE: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no [`Identity`].
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot make {}: {source}; choose another directory with --dir DIR", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: {why}; remove the directory's root.pem, leaf.pem and leaf.key to have them made anew", path.display())]
    Unusable { path: PathBuf, why: String },
    #[error("the certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The origin's certificate and key, ready to serve with.
pub struct Identity {
    pub root: PathBuf,
    /// Whether the files are new, so that a proxy which has the old root must be told.
    pub made: Made,
    tls: Arc<ServerConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    Now,
    Before,
}

impl Identity {
    /// Uses the files in `dir`, or makes them where any is missing.
    ///
    /// # Errors
    /// [`IdentityError`]; `Unusable` also where the leaf that is there has another name, or has ended.
    pub fn in_directory(dir: &Path, names: &[DnsName], now: OffsetDateTime) -> Result<Self, IdentityError> {
        let files = [ROOT, LEAF, KEY].map(|name| dir.join(name));
        let made = if files.iter().all(|file| file.exists()) { Made::Before } else { Made::Now };
        if made == Made::Now {
            make(dir, &files, names, now)?;
        }
        let [root, leaf, key] = files;
        let unusable = |path: &Path, why: String| IdentityError::Unusable { path: path.to_owned(), why };
        let pem = |path: &Path| regular(path, MAX_CERTIFICATES).map_err(|error| unusable(path, error.to_string()));
        let certificate =
            CertificateDer::from_pem_slice(&pem(&leaf)?).map_err(|error| unusable(&leaf, error.to_string()))?;
        suits(&certificate, names, now).map_err(|why| unusable(&leaf, why))?;
        let secret = PrivateKeyDer::from_pem_slice(&pem(&key)?).map_err(|error| unusable(&key, error.to_string()))?;
        let mut tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], secret)
            .map_err(|error| unusable(&leaf, error.to_string()))?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { root, made, tls: Arc::new(tls) })
    }
}

fn make(dir: &Path, files: &[PathBuf; 3], names: &[DnsName], now: OffsetDateTime) -> Result<(), IdentityError> {
    fs::create_dir_all(dir).map_err(|source| IdentityError::Write { path: dir.to_owned(), source })?;
    let root_key = KeyPair::generate()?;
    let mut root = params("sekisho load root", now);
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root_certificate = root.self_signed(&root_key)?;
    let key = KeyPair::generate()?;
    let mut leaf = params("sekisho load origin", now);
    leaf.use_authority_key_identifier_extension = true;
    let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
    leaf.subject_alt_names = CertificateParams::new(texts)?.subject_alt_names;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = leaf.signed_by(&key, &Issuer::from_params(&root, &root_key))?;
    let texts = [(root_certificate.pem(), 0o644), (certificate.pem(), 0o644), (key.serialize_pem(), 0o600)];
    for (path, (text, mode)) in files.iter().zip(texts) {
        write(path, &text, mode).map_err(|source| IdentityError::Write { path: path.clone(), source })?;
    }
    Ok(())
}

/// A file that was there is replaced, never written through: its mode or a link might not be ours.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

fn params(name: &str, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = now.saturating_sub(VALID.0);
    params.not_after = now.saturating_add(VALID.1);
    params
}

fn suits(certificate: &CertificateDer<'_>, names: &[DnsName], now: OffsetDateTime) -> Result<(), String> {
    let (_, leaf) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    if leaf.validity().not_after.timestamp() <= now.unix_timestamp() {
        return Err(format!("the certificate ended on {}", leaf.validity().not_after));
    }
    let alternative = leaf.subject_alternative_name().map_err(|error| error.to_string())?;
    let listed: Vec<&str> = alternative.iter().flat_map(|names| &names.value.general_names).filter_map(dns).collect();
    let missing = names.iter().find(|name| !listed.contains(&name.as_str()));
    missing.map_or(Ok(()), |name| Err(format!("the certificate is for {}, not for {name}", listed.join(", "))))
}

fn dns<'a>(name: &'a GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::DNSName(text) => Some(text),
        _ => None,
    }
}

/// Serves until it is aborted; its connections end with it.
pub async fn serve(listener: TcpListener, identity: Identity) {
    let acceptor = TlsAcceptor::from(identity.tls);
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, acceptor.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the origin's accept failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor) {
    // Without it small answers wait for the acknowledgement of the ones before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection of the origin");
    }
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(request).await) });
    // No timer: a connection may be idle for as long as the client likes.
    let ended = if http2 {
        http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
    } else {
        http1::Builder::new().serve_connection(stream, service).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the origin ended");
    }
}

async fn answer(request: Request<Incoming>) -> Response<Content> {
    let path = request.uri().path();
    let bytes = path.strip_prefix("/bytes/").map(|number| number.parse::<u64>().ok().filter(|n| *n <= MAX_BYTES));
    match (request.method(), path, bytes) {
        (&Method::GET, "/", _) => Response::new(Content::Text(Bytes::from_static(SMALL))),
        (&Method::GET, _, Some(Some(octets))) => Response::new(Content::Zeros(octets)),
        (&Method::GET, _, Some(None)) => text(StatusCode::BAD_REQUEST, format!("from 0 to {MAX_BYTES}\n")),
        (&Method::POST, "/sink", _) => match count(request.into_body()).await {
            Ok(octets) => text(StatusCode::OK, format!("{octets}\n")),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "GET /, GET /bytes/N or POST /sink\n".to_owned()),
    }
}

async fn count(mut content: Incoming) -> Result<u64, hyper::Error> {
    let mut octets = 0;
    while let Some(frame) = content.frame().await {
        octets += frame?.data_ref().map_or(0, Bytes::len) as u64;
    }
    Ok(octets)
}

fn text(status: StatusCode, text: String) -> Response<Content> {
    let mut response = Response::new(Content::Text(text.into()));
    *response.status_mut() = status;
    response
}

/// The content of an answer.
enum Content {
    Text(Bytes),
    /// So many octets are still to come.
    Zeros(u64),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.get_mut() {
            Self::Text(text) => std::mem::take(text),
            Self::Zeros(left) => {
                let octets = usize::try_from(*left).unwrap_or(PIECE).min(PIECE);
                *left -= octets as u64;
                Bytes::from_static(&ZEROS[..octets])
            }
        };
        Poll::Ready(if piece.is_empty() { None } else { Some(Ok(Frame::data(piece))) })
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Text(text) => text.len() as u64,
            Self::Zeros(left) => *left,
        })
    }
}
