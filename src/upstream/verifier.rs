//! The rustls side of verification: webpki's verdict on a chain, written down for the handshake that asked.
//!
//! One verifier serves every handshake under one `Trust`, because rustls resumes a session only under the very same one. What a
//! single handshake saw is therefore handed over by a task-local, set only while that handshake is polled ([`Seen::during`]).

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error as TlsError, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{Certificate, Rejection, names};
use super::handshake::server_name;
use super::judged::{Asked, Judged};
use super::profile::{Flaw, Stands};
use crate::locks::Mutex;
use crate::names::DnsName;

/// Certificates that may lead on from a server's own; real chains have one to four. webpki tries every order of authorities of
/// one name, which costs 170 ms of CPU with fifteen of them, 150 with eight and 7 with six (threats.md I03: at most 50).
const MAX_ISSUERS: usize = 6;
const MAX_CHAIN_BYTES: usize = 64 * 1_024;

tokio::task_local! {
    static SEEN: Arc<Seen>;
}

/// What a handshake has shown so far.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Sight>);

#[derive(Debug, Default, Clone)]
pub(super) struct Sight {
    pub(super) rejection: Option<Box<Rejection>>,
    /// The chain and the name were found good in this handshake (not in one that is resumed).
    pub(super) chain_verified: Option<Arc<Certificate>>,
    /// The server has signed this handshake with the key of its certificate.
    pub(super) signature_verified: bool,
    pub(super) client_certificate_asked: bool,
}

impl Seen {
    /// Polls `handshake` so that what it shows is written into the returned sight.
    pub(super) async fn during<T>(handshake: impl Future<Output = T>) -> (T, Sight) {
        let seen = Arc::new(Self::default());
        let result = SEEN.scope(Arc::clone(&seen), handshake).await;
        let sight = seen.0.lock().clone();
        (result, sight)
    }

    fn note(change: impl FnOnce(&mut Sight)) {
        // Outside of `during` there is nobody to tell.
        let _ = SEEN.try_with(|seen| change(&mut seen.0.lock()));
    }
}

/// What to say of certificates where not one CRL is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WithoutCrls {
    Accept,
    Refuse,
}

/// Roots and CRLs as webpki takes them.
#[derive(Debug)]
pub(super) struct Authorities {
    pub(super) webpki: Arc<WebPkiServerVerifier>,
    pub(super) without_crls: WithoutCrls,
}

impl Authorities {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), TlsError> {
        self.webpki.verify_server_cert(leaf, issuers, name, &[], now)?;
        match self.without_crls {
            WithoutCrls::Accept => Ok(()),
            WithoutCrls::Refuse => Err(CertificateError::UnknownRevocationStatus.into()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Verifier {
    /// None where not one CA is trusted.
    authorities: Option<Authorities>,
    /// Servers trusted as themselves, each with a verifier that knows no other root: webpki would let a root that is no CA
    /// vouch for any name.
    own: HashMap<CertificateDer<'static>, Authorities>,
    algorithms: WebPkiSupportedAlgorithms,
    /// When CRLs end, ascending.
    next_updates: Vec<SystemTime>,
    judged: Judged,
}

impl Verifier {
    pub(super) fn new(
        authorities: Option<Authorities>,
        own: HashMap<CertificateDer<'static>, Authorities>,
        algorithms: WebPkiSupportedAlgorithms,
        mut next_updates: Vec<SystemTime>,
    ) -> Self {
        next_updates.sort_unstable();
        Self { authorities, own, algorithms, next_updates, judged: Judged::default() }
    }

    /// When the next CRL ends: until then, what was found at `now` holds as far as CRLs go.
    pub(super) fn next_update_after(&self, now: SystemTime) -> Option<SystemTime> {
        self.next_updates.iter().copied().find(|next_update| *next_update > now)
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), TlsError> {
        let bytes = others.iter().fold(leaf.len(), |sum, der| sum.saturating_add(der.len()));
        if bytes > MAX_CHAIN_BYTES {
            return Err(other(webpki::Error::MaximumPathDepthExceeded));
        }
        let issuers = issuers_of(leaf, others);
        if issuers.len() > MAX_ISSUERS {
            return Err(other(webpki::Error::MaximumPathBuildCallsExceeded));
        }
        let (issuers, flaw) = without_flawed(issuers);
        let by_root = match &self.authorities {
            Some(authorities) => authorities.judge(leaf, &issuers, name, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        let judged = match (by_root, self.own.get(leaf)) {
            (Err(_), Some(own)) => own.judge(leaf, &[], name, now),
            (by_root, _) => by_root,
        };
        match (judged, flaw) {
            (Ok(()), _) => {}
            (Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)), Some(flaw)) => {
                return Err(flawed(flaw));
            }
            (Err(error), _) => return Err(error),
        }
        if let Some(flaw) = Flaw::of(leaf, Stands::First) {
            return Err(flawed(flaw));
        }
        if only_by_public_wildcard(leaf, name) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(())
    }

    /// [`Self::judge`] with what it found, for whoever asks; what was found good is remembered until something of it ends.
    fn read_and_judge<'a>(
        &self,
        chain: impl Iterator<Item = &'a CertificateDer<'a>> + Clone,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<Arc<Certificate>, Box<Rejection>> {
        let at = wall(now);
        let asked = Asked::of(chain.clone(), name);
        if let Some(certificate) = self.judged.recall(&asked, at) {
            return Ok(certificate);
        }
        let chain: Vec<_> = chain.cloned().collect();
        let certificate = Certificate::read(&chain, at);
        let judged = match chain.split_first() {
            Some((leaf, others)) => self.judge(leaf, others, name, now),
            None => Err(TlsError::NoCertificatesPresented),
        };
        match (judged, certificate) {
            (Ok(()), Some(certificate)) => {
                let certificate = Arc::new(certificate);
                let until =
                    self.next_update_after(at).map_or(certificate.chain_until, |end| end.min(certificate.chain_until));
                self.judged.remember(asked, &certificate, at, until);
                Ok(certificate)
            }
            // What cannot be recorded is not let through.
            (Ok(()), None) => Err(Box::new(Rejection::of(CertificateError::BadEncoding.into(), None))),
            (Err(error), certificate) => Err(Box::new(Rejection::of(error, certificate))),
        }
    }

    /// Verifies the chain of a session that was resumed. rustls does not ask again for such a one, but a certificate or a CRL
    /// may have ended since (threats.md I08), and a chain costs far less than the handshake that was saved.
    pub(super) fn again(
        &self,
        chain: &[CertificateDer<'_>],
        name: &DnsName,
    ) -> Result<Arc<Certificate>, Box<Rejection>> {
        match server_name(name) {
            Some(server) => self.read_and_judge(chain.iter(), &server, UnixTime::now()),
            None => Err(Box::new(Rejection::of(CertificateError::NotValidForName.into(), None))),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match self.read_and_judge(std::iter::once(leaf).chain(others), name, now) {
            Ok(certificate) => {
                Seen::note(|sight| sight.chain_verified = Some(certificate));
                Ok(ServerCertVerified::assertion())
            }
            Err(rejection) => {
                let error = rejection.error.clone();
                Seen::note(|sight| sight.rejection = Some(rejection));
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        signed(leaf, verify_tls12_signature(message, leaf, signature, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        signed(leaf, verify_tls13_signature(message, leaf, signature, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Those of `others` that can stand above `leaf`, by the names they bear: servers send roots, duplicates and other services'
/// chains along, which must not count against the bound.
fn issuers_of<'a>(leaf: &CertificateDer<'_>, others: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    let Ok(parsed) = EndEntityCert::try_from(leaf) else { return Vec::new() };
    let mut wanted = vec![parsed.issuer().to_vec()];
    let mut rest: Vec<_> = others.iter().filter_map(|der| Some((der, EndEntityCert::try_from(der).ok()?))).collect();
    let mut issuers: Vec<CertificateDer<'a>> = Vec::new();
    loop {
        let (found, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|(_, parsed)| wanted.iter().any(|name| name == parsed.subject()));
        if found.is_empty() {
            return issuers;
        }
        for (der, parsed) in found {
            wanted.push(parsed.issuer().to_vec());
            if !issuers.contains(der) {
                issuers.push(der.clone());
            }
        }
        rest = others;
    }
}

/// The issuers a path may go through, and what is wrong with the first of the others: a good path beside it still counts.
fn without_flawed(issuers: Vec<CertificateDer<'_>>) -> (Vec<CertificateDer<'_>>, Option<Flaw>) {
    let mut first = None;
    let mut good = issuers;
    good.retain(|der| {
        let flaw = Flaw::of(der, Stands::Above);
        first = first.or(flaw);
        flaw.is_none()
    });
    (good, first)
}

fn flawed(flaw: Flaw) -> TlsError {
    CertificateError::Other(OtherError(Arc::new(flaw))).into()
}

fn signed(
    leaf: &CertificateDer<'_>,
    result: Result<HandshakeSignatureValid, TlsError>,
) -> Result<HandshakeSignatureValid, TlsError> {
    Seen::note(|sight| match &result {
        Ok(_) => sight.signature_verified = true,
        Err(error) => {
            let certificate = Certificate::read(std::slice::from_ref(leaf), SystemTime::now());
            sight.rejection = Some(Box::new(Rejection::of(error.clone(), certificate)));
        }
    });
    result
}

/// Whether nothing but a wildcard right above a public suffix (`*.co.jp`) makes the certificate fit. No CA may issue such a one
/// (CA/B Forum Baseline Requirements section 3.2.2.6), and webpki knows no public suffixes. Private suffixes such as
/// `*.github.io` are one body's own and pass.
fn only_by_public_wildcard(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let ServerName::DnsName(name) = name else { return false };
    let Some((_, parent)) = name.as_ref().split_once('.') else { return false };
    let public = psl::suffix(parent.as_bytes())
        .is_some_and(|suffix| suffix.typ() == Some(psl::Type::Icann) && suffix.as_bytes().len() == parent.len());
    public
        && X509Certificate::from_der(leaf).is_ok_and(|(_, leaf)| {
            !names(&leaf).any(|presented| presented.trim_end_matches('.').eq_ignore_ascii_case(name.as_ref()))
        })
}

fn other(error: webpki::Error) -> TlsError {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

fn wall(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(time.as_secs())
}

/// Notes that the server asks for a client certificate, and has none to give.
#[derive(Debug)]
pub(super) struct NoClientCertificate;

impl ResolvesClientCert for NoClientCertificate {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Seen::note(|sight| sight.client_certificate_asked = true);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
