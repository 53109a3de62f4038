//! The demo cloud service of `quickstart`: an HTTPS origin on loopback that answers every request with the header fields it got.
//!
//! Its certificate authority is its own, as a real cloud's would be, and not the issuing CA. It is made anew at each start, and
//! its keys never touch the disk, so that nobody can abuse a root certificate that was tried out in a browser.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Every name of the demo cloud lies below this one; `.test` is nobody's (RFC 6761 section 6.2).
pub(super) const DOMAIN: &str = "demo.test";
const ROOT_NAME: &str = "sekisho demo cloud root";
/// Certificates begin this long before they are made and end this long after.
const VALID: (time::Duration, time::Duration) = (time::Duration::DAY, time::Duration::days(365));
const HANDSHAKE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The answer to every request, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Echo {
    pub service: String,
    pub host: String,
    pub protocol: String,
    pub method: String,
    pub path: String,
    /// Names in lower case; the values of a repeated field joined by commas.
    pub headers: BTreeMap<String, String>,
}

/// The demo cloud's certificates of this run.
pub(super) struct Identity {
    /// What a client must trust, as PEM.
    pub root: String,
    pub tls: Arc<ServerConfig>,
}

/// Why there is no [`Identity`].
#[derive(Debug, thiserror::Error)]
#[error("the demo cloud's certificate could not be made: {0}")]
pub(super) struct IdentityError(String);

impl Identity {
    pub fn make(now: OffsetDateTime) -> Result<Self, IdentityError> {
        let failed = |error: &dyn std::fmt::Display| IdentityError(error.to_string());
        let root_key = KeyPair::generate().map_err(|e| failed(&e))?;
        let mut root = params(ROOT_NAME, now);
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root_certificate = root.self_signed(&root_key).map_err(|e| failed(&e))?;
        let key = KeyPair::generate().map_err(|e| failed(&e))?;
        let names = vec![DOMAIN.to_owned(), format!("*.{DOMAIN}")];
        let mut leaf = params(DOMAIN, now);
        leaf.use_authority_key_identifier_extension = true;
        leaf.subject_alt_names = CertificateParams::new(names).map_err(|e| failed(&e))?.subject_alt_names;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = leaf.signed_by(&key, &Issuer::from_params(&root, &root_key)).map_err(|e| failed(&e))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(&e))?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(|e| failed(&e))?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { root: root_certificate.pem(), tls: Arc::new(tls) })
    }
}

fn params(name: &str, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = now.saturating_sub(VALID.0);
    params.not_after = now.saturating_add(VALID.1);
    params
}

/// Serves until it is aborted; its connections end with it.
pub(super) async fn serve(listener: TcpListener, tls: Arc<ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, acceptor.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the demo cloud's accept failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let stream = TokioIo::new(stream);
    let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) });
    let ended = if agreed.as_deref() == Some(b"h2") {
        http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).serve_connection(stream, service).await
    } else {
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(stream, service).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the demo cloud ended");
    }
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let headers = request.headers();
    let host = request.uri().host().map(str::to_owned);
    let host = host.unwrap_or_else(|| text(headers.get(header::HOST).into_iter()));
    let echo = Echo {
        service: "sekisho demo cloud".to_owned(),
        host: host.split(':').next().unwrap_or_default().to_owned(),
        protocol: if request.version() == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" }.to_owned(),
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        headers: headers.keys().map(|name| (name.to_string(), text(headers.get_all(name).iter()))).collect(),
    };
    let mut json = serde_json::to_string_pretty(&echo).unwrap_or_else(|error| error.to_string());
    json.push('\n');
    let mut response = Response::new(Full::from(json));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text<'h>(values: impl Iterator<Item = &'h HeaderValue>) -> String {
    values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect::<Vec<_>>().join(", ")
}
