//! The client of `quickstart`: one request through the proxy's own listening socket, as any other program would make it.
//!
//! It trusts one root certificate and no other, so that a handshake that succeeds proves who answered: the demo cloud itself, or
//! the issuing CA in its place. What it saw is judged and told elsewhere (`outcome`).

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::demo::Echo;
use crate::files::{MAX_CERTIFICATES, regular};

/// A whole request.
const PATIENCE: Duration = Duration::from_secs(15);
const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 256 * 1024;

/// What to ask for.
pub(super) struct Visit<'a> {
    pub proxy: SocketAddr,
    pub host: &'static str,
    pub port: u16,
    /// The only root certificate that is trusted.
    pub root: &'a Path,
    /// A header field that the client sends of its own.
    pub field: Option<(&'static str, &'static str)>,
}

/// What came of it, and the port it came from: by that its records are found.
pub(super) struct Visited {
    pub local_port: u16,
    pub answer: Answer,
}

pub(super) enum Answer {
    /// The CONNECT was not answered with 200.
    Refused { status: u16, proxy_status: String },
    /// The answer of the origin, and who issued the certificate it came under.
    Served { status: u16, issuer: String, echo: Echo },
}

/// Why there was no answer at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum VisitError {
    #[error("{}: {source}", path.display())]
    Root { path: PathBuf, source: io::Error },
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the proxy did not answer the CONNECT with an HTTP response")]
    NotHttp,
    #[error("the TLS handshake through the proxy failed: {0}")]
    Handshake(io::Error),
    #[error("the request failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("no answer that the demo cloud would give: {0}")]
    NotTheDemo(String),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
}

impl Visit<'_> {
    pub fn url(&self) -> String {
        format!("https://{}:{}/", self.host, self.port)
    }

    /// Makes the request.
    ///
    /// # Errors
    /// [`VisitError`]; a refusal of the proxy is an [`Answer`].
    pub async fn make(&self) -> Result<Visited, VisitError> {
        timeout(PATIENCE, self.ask()).await.unwrap_or(Err(VisitError::TimedOut))
    }

    async fn ask(&self) -> Result<Visited, VisitError> {
        let tls = trusting(self.root)?;
        #[expect(clippy::disallowed_methods, reason = "the client of quickstart, whose destination is this proxy")]
        let mut stream = TcpStream::connect(self.proxy).await?;
        let local_port = stream.local_addr()?.port();
        let authority = format!("{}:{}", self.host, self.port);
        let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(connect.as_bytes()).await?;
        let head = read_head(&mut stream).await?;
        let status = status_of(&head).ok_or(VisitError::NotHttp)?;
        let answer = if status == 200 {
            let name =
                ServerName::try_from(self.host).map_err(|error| VisitError::Handshake(io::Error::other(error)))?;
            let opened = TlsConnector::from(tls).connect(name, stream).await.map_err(VisitError::Handshake)?;
            self.get(opened).await?
        } else {
            Answer::Refused { status, proxy_status: field_of(&head, "proxy-status").unwrap_or_default() }
        };
        Ok(Visited { local_port, answer })
    }

    async fn get(&self, stream: TlsStream<TcpStream>) -> Result<Answer, VisitError> {
        let issuer = issuer_of(&stream);
        let mut request = Request::get("/").header(header::HOST, format!("{}:{}", self.host, self.port));
        request = request.header(header::USER_AGENT, "sekisho-quickstart");
        if let Some((name, value)) = self.field {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<&[u8]>::new()).map_err(|error| VisitError::NotTheDemo(error.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async move {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            let body = body.map_err(|error| VisitError::NotTheDemo(error.to_string()))?.to_bytes();
            Ok::<_, VisitError>((status, body))
        };
        let (exchanged, left) = tokio::join!(exchange, connection.without_shutdown());
        let (status, body) = exchanged?;
        if let Ok(parts) = left {
            close(parts.io.into_inner()).await;
        }
        let echo = serde_json::from_slice(&body).map_err(|_| {
            let beginning: String = String::from_utf8_lossy(&body).trim().chars().take(80).collect();
            VisitError::NotTheDemo(format!("status {status}, {beginning:?}"))
        })?;
        Ok(Answer::Served { status, issuer, echo })
    }
}

/// Says goodbye and waits for the other end's: a connection torn down with octets under way would be recorded as one.
async fn close(mut stream: TlsStream<TcpStream>) {
    // The answer is there; how the goodbye goes is of no interest.
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

fn trusting(root: &Path) -> Result<Arc<ClientConfig>, VisitError> {
    let mut store = RootCertStore::empty();
    let pem = regular(root, MAX_CERTIFICATES);
    let certificate = pem.and_then(|pem| CertificateDer::from_pem_slice(&pem).map_err(io::Error::other));
    store.add(certificate.map_err(|source| VisitError::Root { path: root.to_owned(), source })?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let mut config = builder.with_safe_default_protocol_versions()?.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The head of the answer to a CONNECT. Octet by octet: what follows it is the tunnel's.
async fn read_head(stream: &mut TcpStream) -> Result<String, VisitError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(VisitError::NotHttp);
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn status_of(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.split([' ', '\r']).next()?.parse().ok()
}

fn field_of(head: &str, name: &str) -> Option<String> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// The common name of the issuer of the certificate that was shown.
fn issuer_of(stream: &TlsStream<TcpStream>) -> String {
    let (_, connection) = stream.get_ref();
    let shown = connection.peer_certificates().and_then(<[_]>::first);
    let parsed = shown.and_then(|der| X509Certificate::from_der(der).ok());
    let name = parsed.and_then(|(_, leaf)| leaf.issuer().iter_common_name().next()?.as_str().ok().map(str::to_owned));
    name.unwrap_or_else(|| "an issuer without a name".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_refusal_is_read() {
        let head =
            "HTTP/1.1 403 Forbidden\r\nProxy-Status: sekisho; error=x; details=\"y\"\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(status_of(head), Some(403));
        assert_eq!(field_of(head, "proxy-status").as_deref(), Some("sekisho; error=x; details=\"y\""));
        assert_eq!(field_of(head, "status"), None);
        for (head, status) in [("HTTP/1.1 200\r\n\r\n", Some(200)), ("HTTP/1.0 200 OK\r\n", None), ("SSH-2.0", None)] {
            assert_eq!(status_of(head), status, "{head}");
        }
    }
}
