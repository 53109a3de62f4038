//! The cast of this room's tests: certification authorities, TLS servers on loopback, and trust in the one from the other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::connect::{self, Connection, connect};
use super::trust::{MinTls, Roots, Sources, Stale, Trust, Unknown};
use super::verify;
use super::vet::{self, SelfAddrs, VettedAddr, vet};
use crate::names::DnsName;
use crate::policy::Destination;

pub(super) fn name(text: &str) -> DnsName {
    DnsName::parse(text.as_bytes()).expect(text)
}

pub(super) fn destination(text: &str) -> Destination {
    Destination::new(name(text), 443)
}

pub(super) fn days_from_now(days: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::days(days)
}

/// A certification authority, a root or below one.
pub(super) struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pub(super) der: CertificateDer<'static>,
}

/// What a server shows and signs with.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: KeyPair,
}

impl Identity {
    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

fn params(common_name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = days_from_now(-10);
    params.not_after = days_from_now(30);
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca_params(common_name: &str, serial: u64) -> CertificateParams {
    let mut params = params(common_name, serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    pub(super) fn root(common_name: &str) -> Self {
        let (params, key) = (ca_params(common_name, 1), KeyPair::generate().expect("key"));
        let der = params.self_signed(&key).expect("root").der().clone();
        Self { params, key, der }
    }

    pub(super) fn below(&self, common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (ca_params(common_name, 2), KeyPair::generate().expect("key"));
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer()).expect("intermediate").der().clone();
        Self { params, key, der }
    }

    /// A leaf for `names` with serial number 3, its chain holding only itself.
    pub(super) fn leaf(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let (mut params, key) = (params("leaf", 3), KeyPair::generate().expect("key"));
        params.subject_alt_names =
            names.iter().map(|name| SanType::DnsName((*name).try_into().expect("IA5 text"))).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer()).expect("leaf").der().clone();
        Identity { chain: vec![der], key }
    }

    /// A CRL of this authority, from `from` to `to` in days from now.
    pub(super) fn crl(&self, revoked: &[u64], from: i64, to: i64) -> Vec<u8> {
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: days_from_now(-1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: days_from_now(from),
            next_update: days_from_now(to),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).expect("crl").der().to_vec()
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

/// Self-signed, as `openssl req -x509` makes it (with `ca`) or without the CA flag.
pub(super) fn self_signed(is_ca: IsCa) -> Identity {
    let (mut params, key) = (params("allowed.test", 9), KeyPair::generate().expect("key"));
    params.subject_alt_names = vec![SanType::DnsName("allowed.test".try_into().expect("IA5 text"))];
    params.is_ca = is_ca;
    let der = params.self_signed(&key).expect("certificate").der().clone();
    Identity { chain: vec![der], key }
}

pub(super) fn pem(tag: &str, der: &[u8]) -> String {
    use std::fmt::Write as _;
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {tag}-----");
    for (at, group) in der.chunks(3).enumerate() {
        let [a, b, c] = [0, 1, 2].map(|n| group.get(n).copied().unwrap_or(0));
        let bits = u32::from_be_bytes([0, a, b, c]);
        let digit = |n: u32| char::from(DIGITS[(bits >> (18 - 6 * n)) as usize & 63]);
        let third = if group.len() > 1 { digit(2) } else { '=' };
        let fourth = if group.len() > 2 { digit(3) } else { '=' };
        let newline = if at % 16 == 0 { "\n" } else { "" };
        write!(text, "{newline}{}{}{third}{fourth}", digit(0), digit(1)).expect("String");
    }
    text + &format!("\n-----END {tag}-----\n")
}

/// A directory of PEM and DER files, and the sources that name them.
pub(super) struct Files {
    pub(super) directory: TempDir,
    pub(super) sources: Sources,
}

impl Files {
    pub(super) fn trusting(root: &Ca) -> Self {
        let directory = TempDir::new().expect("directory");
        let file = directory.path().join("root.pem");
        std::fs::write(&file, pem("CERTIFICATE", &root.der)).expect("root");
        let sources = Sources {
            roots: Roots::File(file),
            extra_roots: vec![],
            crls: vec![],
            crl_unknown: Unknown::Allow,
            crl_stale: Stale::Deny,
            min_tls: MinTls::Tls12,
        };
        Self { directory, sources }
    }

    pub(super) fn write(&self, file: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(file);
        std::fs::write(&path, bytes).expect(file);
        path
    }

    pub(super) fn with_crls(mut self, crls: &[Vec<u8>]) -> Self {
        for (at, crl) in crls.iter().enumerate() {
            let path = self.write(&format!("{at}.crl"), crl);
            self.sources.crls.push(path);
        }
        self
    }

    pub(super) fn load(&self) -> Arc<Trust> {
        Arc::new(Trust::load(&self.sources, SystemTime::now()).map_err(|errors| format!("{errors:?}")).expect("trust"))
    }

    pub(super) fn settings(&self) -> verify::Settings {
        verify::Settings { trust: self.load(), handshake: Duration::from_secs(10), cache: Duration::from_secs(600) }
    }
}

/// Whether a server wants to know its client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientAuth {
    None,
    Required,
}

pub(super) fn server_config(
    identity: &Identity,
    versions: &[&'static rustls::SupportedProtocolVersion],
    client_auth: ClientAuth,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).expect("versions");
    let builder = match client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Required => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(Ca::root("clients").der).expect("root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            builder.with_client_cert_verifier(verifier.build().expect("verifier"))
        }
    };
    // Not with_single_cert, which reads the certificate first and would show none that is broken.
    let key = provider.key_provider.load_private_key(identity.key_der()).expect("key");
    let identity = CertifiedKey::new(identity.chain.clone(), key);
    builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
}

/// A TLS server that greets with one byte and reads until its client leaves.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    hellos: Arc<AtomicUsize>,
}

impl Origin {
    pub(super) async fn start(config: ServerConfig) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let hellos = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&hellos);
        let address = serve(move |stream| {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            async move {
                // Counted before the answer goes out, so that whoever has the answer sees the count.
                if stream.peek(&mut [0]).await.is_ok_and(|read| read > 0) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.write_all(b"!").await;
                let _ = stream.flush().await;
                while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
            }
        })
        .await;
        Self { address, hellos }
    }

    pub(super) async fn with(identity: &Identity) -> Self {
        Self::start(server_config(identity, rustls::ALL_VERSIONS, ClientAuth::None)).await
    }

    /// Handshakes that were begun; a connection that says nothing is none.
    pub(super) fn handshakes(&self) -> usize {
        self.hellos.load(Ordering::SeqCst)
    }
}

/// A TCP server on loopback.
pub(super) async fn serve<F>(client: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(client(stream));
        }
    });
    address
}

pub(super) fn vetted(socket: SocketAddr) -> VettedAddr {
    let allow = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect(net)).into();
    let settings = vet::Settings { allow, nat64: vec![], stand_in: None };
    let vetted = vet(&name("allowed.test"), &[socket.ip()], socket.port(), &settings, &SelfAddrs::default());
    *vetted.expect("allowed").first().expect("one")
}

pub(super) fn dialling() -> connect::Settings {
    connect::Settings { bind: None, timeout: Duration::from_secs(5) }
}

pub(super) async fn connected(address: SocketAddr) -> Connection {
    let name = name("allowed.test");
    connect(&name, vec![vetted(address)], &dialling(), &SelfAddrs::default()).await.expect("connected")
}
