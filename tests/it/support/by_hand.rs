//! Only what a scene drives by hand belongs here: an origin whose every octet the scene writes, the way into an inspected
//! connection, and the oracle of silence.

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, client, server};

use super::client::{Tls, Wire};
use super::h2c::H2;
use super::pki::{self, Defect};
use super::{Sekisho, within};

/// A client's TLS inside the CONNECT.
pub type Inside = Wire<client::TlsStream<TcpStream>>;

/// An origin that does nothing by itself.
pub struct ByHand {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl ByHand {
    pub async fn start(names: &[&str], alpn: &[&str]) -> Self {
        let leaf = pki::leaf(names, Defect::None);
        let mut config = ServerConfig::builder_with_provider(pki::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(leaf.chain, leaf.key)
            .expect("a leaf");
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("bound").port()
    }

    pub fn at(&self, host: &str) -> String {
        format!("{host}:{}", self.port())
    }

    /// The next connection, its handshake done.
    pub async fn accept(&self) -> Wire<server::TlsStream<TcpStream>> {
        let (stream, _) = within("a connection to the origin", self.listener.accept()).await.expect("accept");
        stream.set_nodelay(true).expect("nodelay");
        Wire::new(within("the origin's handshake", self.acceptor.accept(stream)).await.expect("a handshake"))
    }

    /// Nobody else has connected.
    #[track_caller]
    pub fn untouched(&self) {
        assert!(self.listener.accept().now_or_never().is_none(), "one connection too many");
    }
}

/// CONNECT, then TLS that trusts the issuing root.
pub async fn inside(sekisho: &Sekisho, host: &str, port: u16) -> Inside {
    inside_as(sekisho, host, port, &Tls::named(host)).await
}

/// As [`inside`], with this client's TLS.
pub async fn inside_as(sekisho: &Sekisho, host: &str, port: u16, tls: &Tls) -> Inside {
    tls.clone().trusting(&sekisho.ca()).over(sekisho.tunnel(&format!("{host}:{port}")).await).await
}

/// As [`inside`] over HTTP/2.
pub async fn inside_h2(sekisho: &Sekisho, host: &str, port: u16) -> H2 {
    let wire = inside_as(sekisho, host, port, &Tls::named(host).alpn(&["h2"])).await;
    assert_eq!(wire.alpn().as_deref(), Some("h2"));
    H2::over(wire).await
}

/// A CONNECT and the origin's end of it at once: the proxy's handshake with the origin comes before the client's with the proxy.
pub async fn both_ends(
    sekisho: &Sekisho,
    host: &str,
    origin: &ByHand,
    tls: &Tls,
) -> (Inside, Wire<server::TlsStream<TcpStream>>) {
    tokio::join!(inside_as(sekisho, host, origin.port(), tls), origin.accept())
}

/// Nothing has come on `wire` that was not read yet.
#[track_caller]
pub fn quiet<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) {
    let came = wire.exactly(1).now_or_never();
    assert!(came.is_none(), "wanted silence, got {came:?}");
}

/// Runs `one` and `other` at once, and both must end.
pub async fn at_once<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    within("both", async { tokio::join!(one, other) }).await
}
