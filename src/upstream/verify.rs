//! The certificate of every destination is verified before a byte passes: [`VerifiedUpstream`] is made here and nowhere else.
//!
//! An inspected connection is verified by its own handshake ([`inspect`]). For a tunnel, whose handshake TLS 1.3 hides from us, we
//! make one of our own to the very address the tunnel goes to, and keep the verdict for a while ([`Verdicts::tunnel`]). A verdict
//! is the chain, the name and the server's signature over that handshake: a server that then wants a client certificate, or
//! hangs up, has shown what was asked. A bad certificate ends the attempt; no next address is tried.
//!
//! The handshake for a verdict offers no ALPN: a server refuses a hello for its ALPN only where there is one (RFC 7301 section
//! 3.2), and what the tunnel will carry is not known here.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

use super::certificate::{Certificate, Rejection};
use super::connect::{self, Connection, connect};
use super::handshake::{Failure, handshake};
use super::trust::Trust;
use super::vet::{SelfAddrs, VettedAddr};
use crate::addrs::UpstreamAddr;
use crate::flight::{Ageing, Flight, FlightError, Keep};
use crate::names::DnsName;
use crate::policy::{Destination, Inspect, Tunnel};
use crate::reason::Reason;
use crate::sockets::bound_unsent;

pub use super::certificate::Fault;

const MAX_VERDICTS: NonZeroUsize = NonZeroUsize::new(8_192).expect("not zero");
/// Handshakes for verdicts at a time.
pub const MAX_RUNNING: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");
/// Of a certificate.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// Of a line that broke or was silent: whoever comes when it is whole again must not wait long to find out.
const BREAK_KEPT: Duration = Duration::from_secs(1);
/// Longest life of a verdict; `verify_cache` is cut to it.
const MAX_CACHE: Duration = Duration::from_secs(24 * 60 * 60);

/// `[upstream]` as far as certificates go, and `timeouts.upstream_handshake`.
#[derive(Debug, Clone)]
pub struct Settings {
    pub trust: Arc<Trust>,
    /// For one handshake.
    pub handshake: Duration,
    /// How long a tunnel's verdict is kept; zero: a handshake before every tunnel. At most a day.
    pub cache: Duration,
}

/// Why an upstream is not verified. Cheap to clone: waiters share one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VerifyError {
    #[error("the certificate of {name} at {address} is refused: {detail}")]
    Certificate {
        name: DnsName,
        address: UpstreamAddr,
        fault: Fault,
        detail: String,
        certificate: Option<Arc<Certificate>>,
    },
    #[error(
        "{name} at {address} asks for a client certificate, which an inspected connection cannot give; tunnel the host instead"
    )]
    ClientCertificate { name: DnsName, address: UpstreamAddr },
    #[error("{name} at {address} shares no application protocol with the client: {detail}")]
    ApplicationProtocol { name: DnsName, address: UpstreamAddr, detail: String },
    #[error("no TLS with {name} at {address}: {detail}")]
    Tls { name: DnsName, address: UpstreamAddr, detail: String },
    #[error("{name} at {address} closed the connection during the TLS handshake ({detail})")]
    Closed { name: DnsName, address: UpstreamAddr, detail: String },
    #[error("{name} at {address} did not finish the TLS handshake within {after:?}")]
    Timeout { name: DnsName, address: UpstreamAddr, after: Duration },
    #[error("the certificate could not be verified: {0}")]
    Connect(#[from] connect::ConnectError),
    #[error("the certificate of {name} was not verified: {cause}")]
    Flight { name: DnsName, cause: FlightError },
}

impl VerifyError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Certificate { .. } => Reason::CertificateInvalid,
            Self::ClientCertificate { .. } => Reason::ClientCertificateRequired,
            Self::ApplicationProtocol { .. } => Reason::NoApplicationProtocol,
            Self::Tls { .. } => Reason::TlsFailed,
            Self::Closed { .. } => Reason::UpstreamClosed,
            Self::Timeout { .. } => Reason::UpstreamTimeout,
            Self::Connect(error) => error.reason(),
            Self::Flight { cause, .. } => cause.reason(),
        }
    }

    /// For `sekisho.certificate_error`.
    pub fn fault(&self) -> Option<Fault> {
        if let Self::Certificate { fault, .. } = self { Some(*fault) } else { None }
    }

    /// The certificate that was refused, as far as it could be read.
    pub fn certificate(&self) -> Option<&Certificate> {
        if let Self::Certificate { certificate, .. } = self { certificate.as_deref() } else { None }
    }

    fn rejected(name: &DnsName, address: UpstreamAddr, rejection: Rejection) -> Self {
        let Rejection { fault, detail, certificate, error: _ } = rejection;
        Self::Certificate { name: name.clone(), address, fault, detail, certificate: certificate.map(Arc::new) }
    }

    fn of(name: &DnsName, address: UpstreamAddr, failure: Failure) -> Self {
        let name = name.clone();
        match failure {
            Failure::Rejected(rejection) => Self::rejected(&name, address, *rejection),
            Failure::ClientCertificate => Self::ClientCertificate { name, address },
            Failure::ApplicationProtocol(detail) => Self::ApplicationProtocol { name, address, detail },
            Failure::Tls(detail) => Self::Tls { name, address, detail },
            Failure::Closed(detail) => Self::Closed { name, address, detail },
            Failure::Timeout(after) => Self::Timeout { name, address, after },
        }
    }
}

/// How a certificate came to be verified: `sekisho.upstream_verdict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamVerdict {
    /// By this connection's own full handshake.
    Handshake,
    /// By an earlier handshake of the TLS session that was resumed.
    Resumed,
    /// By a handshake of our own, made for this tunnel.
    Probed,
    /// By a handshake of our own made for another tunnel, and still good.
    Kept,
}

impl UpstreamVerdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Resumed => "resumed",
            Self::Probed => "probed",
            Self::Kept => "kept",
        }
    }
}

/// Whether an inspected upstream asked for a client certificate: a failure soon after is then [`Reason::ClientCertificateRequired`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    NotAsked,
    Asked,
}

/// The two ways an upstream is used, and what carries each.
pub trait Leg: sealed::Sealed {
    type Stream;
}

impl Leg for Tunnel {
    type Stream = TcpStream;
}

impl Leg for Inspect {
    /// Boxed: it is large, and what holds it is moved about.
    type Stream = Box<TlsStream<TcpStream>>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::policy::Tunnel {}
    impl Sealed for crate::policy::Inspect {}
}

/// A connection to an upstream whose certificate matched the destination's name.
pub struct VerifiedUpstream<M: Leg> {
    stream: M::Stream,
    address: UpstreamAddr,
    certificate: Arc<Certificate>,
    verdict: UpstreamVerdict,
    client_certificate: ClientCertificate,
}

impl<M: Leg> VerifiedUpstream<M> {
    pub fn address(&self) -> UpstreamAddr {
        self.address
    }

    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub fn verdict(&self) -> UpstreamVerdict {
        self.verdict
    }

    pub fn into_stream(self) -> M::Stream {
        self.stream
    }
}

impl VerifiedUpstream<Inspect> {
    /// The protocol the upstream chose among those offered.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }

    /// `"1.2"` or `"1.3"`, as the record has it.
    pub fn tls_version(&self) -> Option<&'static str> {
        match self.stream.get_ref().1.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => Some("1.2"),
            rustls::ProtocolVersion::TLSv1_3 => Some("1.3"),
            _ => None,
        }
    }

    /// The IANA name of the cipher suite.
    pub fn cipher(&self) -> Option<String> {
        let suite = self.stream.get_ref().1.negotiated_cipher_suite()?.suite();
        Some(suite.as_str()?.replacen("TLS13_", "TLS_", 1))
    }

    pub fn client_certificate(&self) -> ClientCertificate {
        self.client_certificate
    }
}

/// Makes the upstream handshake of an inspected connection, offering `alpn` (most wanted first).
///
/// # Errors
/// [`VerifyError`], at the latest when `settings.handshake` is over.
pub async fn inspect(
    connection: Connection,
    destination: &Destination,
    alpn: Vec<Vec<u8>>,
    settings: &Settings,
) -> Result<VerifiedUpstream<Inspect>, VerifyError> {
    let (name, address, trust) = (destination.name(), connection.address(), &settings.trust);
    let stream = connection.into_unverified_stream();
    bound_unsent(&stream);
    let (result, sight) = handshake(trust.resuming(), name, alpn, stream, settings.handshake).await;
    let stream = result.map(Box::new).map_err(|failure| VerifyError::of(name, address, failure))?;
    let (certificate, verdict) = match sight.chain_verified {
        Some(certificate) => (certificate, UpstreamVerdict::Handshake),
        None => {
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let certificate = trust.verifier().again(chain, name);
            (
                certificate.map_err(|rejection| VerifyError::rejected(name, address, *rejection))?,
                UpstreamVerdict::Resumed,
            )
        }
    };
    let client_certificate =
        if sight.client_certificate_asked { ClientCertificate::Asked } else { ClientCertificate::NotAsked };
    Ok(VerifiedUpstream { stream, address, certificate, verdict, client_certificate })
}

/// The trust revision is part of it, so that what was found under old roots or CRLs is never asked again.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    address: VettedAddr,
    name: DnsName,
    revision: Arc<str>,
}

type Verdict = Result<Arc<Certificate>, VerifyError>;

/// The verdicts on the upstreams of tunnels: bounded, and one handshake at a time for each.
pub struct Verdicts {
    kept: Flight<Key, Verdict>,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self { kept: Flight::new(MAX_VERDICTS, MAX_RUNNING, Ageing::Refresh) }
    }
}

impl Verdicts {
    /// Verifies the upstream `connection` leads to, by a kept verdict or by a handshake on a connection of its own to the very
    /// same address. `connection` itself is not touched.
    ///
    /// # Errors
    /// [`VerifyError`], at the latest when the time to connect and `settings.handshake` are over.
    pub async fn tunnel(
        &self,
        connection: Connection,
        destination: &Destination,
        settings: &Settings,
        dialling: &connect::Settings,
        selves: &SelfAddrs,
    ) -> Result<VerifiedUpstream<Tunnel>, VerifyError> {
        let name = destination.name();
        let key = Key { address: connection.vetted(), name: name.clone(), revision: settings.trust.shared_revision() };
        let probed = Arc::new(AtomicBool::new(false));
        let probe = || {
            probed.store(true, Ordering::Relaxed);
            let (settings, dialling, selves) = (settings.clone(), dialling.clone(), selves.clone());
            let (address, name) = (key.address, key.name.clone());
            async move {
                let verdict = probe(address, &name, &settings, &dialling, &selves).await;
                let keep = keep(&verdict, &settings);
                (verdict, keep)
            }
        };
        let verdict = if settings.cache.is_zero() {
            probe().await.0
        } else {
            self.kept
                .get(key.clone(), probe)
                .await
                .map_err(|cause| VerifyError::Flight { name: name.clone(), cause })?
        };
        Ok(VerifiedUpstream {
            certificate: verdict?,
            address: connection.address(),
            stream: connection.into_unverified_stream(),
            verdict: if probed.load(Ordering::Relaxed) { UpstreamVerdict::Probed } else { UpstreamVerdict::Kept },
            client_certificate: ClientCertificate::NotAsked,
        })
    }
}

/// Our own handshake with `address`. It is verified once the server has shown its chain and signed, whatever it does then.
async fn probe(
    address: VettedAddr,
    name: &DnsName,
    settings: &Settings,
    dialling: &connect::Settings,
    selves: &SelfAddrs,
) -> Verdict {
    let connection = connect(name, vec![address], dialling, selves).await?;
    let (trust, limit) = (&settings.trust, settings.handshake);
    let (result, sight) = handshake(trust.fresh(), name, Vec::new(), connection.into_unverified_stream(), limit).await;
    match (sight.chain_verified, sight.signature_verified, result) {
        (Some(certificate), true, result) => {
            if let Ok(mut stream) = result {
                // A close_notify, so that the server's log has no broken connection; there is nothing to wait for.
                let _ = timeout(limit, stream.shutdown()).await;
            }
            Ok(certificate)
        }
        (_, _, Err(failure)) => Err(VerifyError::of(name, address.upstream(), failure)),
        (_, _, Ok(_)) => {
            let failure = Failure::Tls("the handshake ended without a verified certificate".into());
            Err(VerifyError::of(name, address.upstream(), failure))
        }
    }
}

fn keep(verdict: &Verdict, settings: &Settings) -> Keep {
    let wall = SystemTime::now();
    match verdict {
        Ok(certificate) => {
            let ends = [Some(certificate.chain_until), settings.trust.next_update_after(wall)].into_iter().flatten();
            let longest = settings.cache.min(MAX_CACHE);
            let life = ends.map(|end| end.duration_since(wall).unwrap_or_default()).fold(longest, Duration::min);
            Keep::Until(Instant::now() + life)
        }
        Err(VerifyError::Certificate { .. }) => Keep::Until(Instant::now() + FAILURE_KEPT),
        // Our own want of room says nothing of the destination: whoever asks next may find some.
        Err(error) if error.reason() == Reason::Overloaded => Keep::Not,
        // Says nothing of the certificate, and must not end a verdict that is still good.
        Err(
            VerifyError::ClientCertificate { .. }
            | VerifyError::ApplicationProtocol { .. }
            | VerifyError::Tls { .. }
            | VerifyError::Closed { .. }
            | VerifyError::Timeout { .. }
            | VerifyError::Connect(_)
            | VerifyError::Flight { .. },
        ) => Keep::IfNoneHeld(Instant::now() + BREAK_KEPT),
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
