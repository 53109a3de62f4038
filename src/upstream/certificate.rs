//! What is said of a server's certificate in the record: who it is for, until when, and the one word for what is wrong with it.
//!
//! Reads certificates and names faults; whether one is accepted is decided in `verifier`.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::{CertificateError, Error as TlsError};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::profile::Flaw;

/// Longest name kept, in characters.
const MAX_NAME: usize = 256;
/// Names of a certificate that an error lists.
const MAX_LISTED: usize = 4;

/// What the record keeps of a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The distinguished name, or the first name in subjectAltName where that is empty, as it often is today.
    pub subject: String,
    pub issuer: String,
    pub not_after: SystemTime,
    /// The earliest notAfter still ahead in the chain that was sent: until then the path that was found stays valid.
    pub(super) chain_until: SystemTime,
    self_issued: bool,
}

impl Certificate {
    /// `chain` as the server sent it, its own certificate first. None where that cannot be read.
    pub(super) fn read(chain: &[CertificateDer<'_>], now: SystemTime) -> Option<Self> {
        let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
        let subject = match leaf.subject().as_raw().len() {
            // An empty SEQUENCE.
            0..=2 => names(&leaf).next().map(|name| format!("SAN={name}")).unwrap_or_default(),
            _ => leaf.subject().to_string(),
        };
        let ends = chain.iter().filter_map(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            Some(wall(certificate.validity().not_after))
        });
        let not_after = wall(leaf.validity().not_after);
        Some(Self {
            subject: cut(&subject),
            issuer: cut(&leaf.issuer().to_string()),
            not_after,
            chain_until: ends.filter(|end| *end > now).min().unwrap_or(not_after),
            self_issued: leaf.subject().as_raw() == leaf.issuer().as_raw(),
        })
    }
}

/// The DNS names of a certificate.
pub(super) fn names<'a>(certificate: &'a X509Certificate<'_>) -> impl Iterator<Item = &'a str> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    extension.into_iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    })
}

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $word:literal;)+) => {
        /// What is wrong with a certificate: the words of `sekisho.certificate_error`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Fault {
            $($(#[$doc])* $variant,)+
        }

        impl Fault {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

faults! {
    Expired = "expired";
    NotYetValid = "not_yet_valid";
    /// No chain to a trusted root: an unknown CA, or an intermediate that the server leaves out.
    UnknownIssuer = "unknown_issuer";
    SelfSigned = "self_signed";
    /// The certificate is for other names.
    Name = "name";
    Revoked = "revoked";
    /// The CRL of an issuer is past its nextUpdate and `crl_stale` is `deny`.
    CrlStale = "crl_stale";
    /// The CRL of an issuer is not signed by it, or cannot be used.
    CrlInvalid = "crl_invalid";
    /// No CRL speaks of the certificate and `crl_unknown` is `deny`.
    RevocationUnknown = "revocation_unknown";
    /// A signature in the chain, or the server's own over the handshake, is wrong.
    BadSignature = "bad_signature";
    /// SHA-1, a short RSA key, a curve that is not taken.
    WeakOrUnknownAlgorithm = "algorithm";
    BadEncoding = "bad_encoding";
    /// Its extended key usage leaves out server authentication.
    NotForServerAuth = "not_for_server_auth";
    CaUsedAsEndEntity = "ca_used_as_end_entity";
    EndEntityUsedAsCa = "end_entity_used_as_ca";
    NameConstraints = "name_constraints";
    PathLength = "path_length";
    UnknownCriticalExtension = "critical_extension";
    /// More certificates or bytes than are looked at, or a chain too tangled to be followed.
    ChainTooLarge = "chain_too_large";
    Other = "other";
}

/// Why a chain was refused, with words for an administrator.
#[derive(Debug, Clone)]
pub(super) struct Rejection {
    pub(super) fault: Fault,
    pub(super) detail: String,
    pub(super) certificate: Option<Certificate>,
    /// For rustls, which chooses the alert by it.
    pub(super) error: TlsError,
}

impl Rejection {
    pub(super) fn of(error: TlsError, certificate: Option<Certificate>) -> Self {
        let self_issued = certificate.as_ref().is_some_and(|certificate| certificate.self_issued);
        let fault = match fault(&error) {
            // What openssl makes without further options is a CA certificate that signs itself.
            Fault::UnknownIssuer | Fault::CaUsedAsEndEntity if self_issued => Fault::SelfSigned,
            other => other,
        };
        let issuer = certificate.as_ref().map_or("an issuer that cannot be read", |certificate| &certificate.issuer);
        Self { fault, detail: words(fault, &error, issuer), certificate, error }
    }
}

fn fault(error: &TlsError) -> Fault {
    #[expect(
        deprecated,
        reason = "rustls still has the variants, and a variant that is not matched would be \"other\""
    )]
    match error {
        TlsError::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Fault::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Fault::NotYetValid,
            CertificateError::Revoked => Fault::Revoked,
            CertificateError::UnhandledCriticalExtension => Fault::UnknownCriticalExtension,
            CertificateError::UnknownIssuer => Fault::UnknownIssuer,
            CertificateError::UnknownRevocationStatus => Fault::RevocationUnknown,
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
                Fault::CrlStale
            }
            CertificateError::BadSignature => Fault::BadSignature,
            CertificateError::UnsupportedSignatureAlgorithm
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                Fault::WeakOrUnknownAlgorithm
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Fault::Name,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Fault::NotForServerAuth
            }
            CertificateError::BadEncoding => Fault::BadEncoding,
            CertificateError::Other(other) => match other.0.downcast_ref::<Flaw>() {
                Some(flaw) => flaw.fault(),
                None => other.0.downcast_ref().map_or(Fault::Other, webpki_fault),
            },
            _ => Fault::Other,
        },
        TlsError::InvalidCertRevocationList(_) => Fault::CrlInvalid,
        _ => Fault::Other,
    }
}

/// The faults rustls has no word for and hands through from webpki.
fn webpki_fault(error: &webpki::Error) -> Fault {
    use webpki::Error as E;
    match error {
        E::CaUsedAsEndEntity => Fault::CaUsedAsEndEntity,
        E::EndEntityUsedAsCa => Fault::EndEntityUsedAsCa,
        E::NameConstraintViolation | E::InvalidNetworkMaskConstraint | E::MalformedNameConstraint => {
            Fault::NameConstraints
        }
        E::PathLenConstraintViolated => Fault::PathLength,
        E::UnsupportedCriticalExtension => Fault::UnknownCriticalExtension,
        E::EmptyEkuExtension => Fault::NotForServerAuth,
        E::SignatureAlgorithmMismatch => Fault::BadSignature,
        E::MaximumNameConstraintComparisonsExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumPathDepthExceeded
        | E::MaximumSignatureChecksExceeded => Fault::ChainTooLarge,
        E::ExtensionValueInvalid
        | E::InvalidCertValidity
        | E::InvalidSerialNumber
        | E::MalformedDnsIdentifier
        | E::MalformedExtensions
        | E::UnsupportedCertVersion => Fault::BadEncoding,
        E::InvalidCrlNumber
        | E::InvalidCrlSignatureForPublicKey
        | E::IssuerNotCrlSigner
        | E::UnsupportedCrlIssuingDistributionPoint
        | E::UnsupportedCrlVersion
        | E::UnsupportedDeltaCrl
        | E::UnsupportedIndirectCrl => Fault::CrlInvalid,
        _ => Fault::Other,
    }
}

fn words(fault: Fault, error: &TlsError, issuer: &str) -> String {
    match (fault, error) {
        (Fault::Expired, TlsError::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            format!("a certificate of its chain expired on {}", Stamp::from(*not_after))
        }
        (Fault::NotYetValid, TlsError::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            format!("a certificate of its chain is valid only from {}; is the clock right?", Stamp::from(*not_before))
        }
        (Fault::Name, TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })) => {
            // webpki's rendering: DnsName("example.com").
            let listed = presented.iter().take(MAX_LISTED).map(|name| bare(name)).collect::<Vec<_>>().join(", ");
            let dots = if presented.len() > MAX_LISTED { ", …" } else { "" };
            if presented.is_empty() {
                return "the certificate has no subjectAltName, and a common name is not looked at (RFC 9525)".into();
            }
            format!("the certificate is for other names: {listed}{dots}")
        }
        (Fault::CrlStale, _) => format!(
            "the CRL for it (issuer {issuer}, or one above) is past its nextUpdate; fetch it anew, or set crl_stale = \"allow\""
        ),
        (Fault::RevocationUnknown, _) => format!(
            "no CRL speaks of it (issuer {issuer}, or one above) and crl_unknown is \"deny\"; add that issuer's to [upstream] crls"
        ),
        (Fault::UnknownIssuer, _) => format!(
            "no chain from {issuer} to a trusted root: the server leaves out an intermediate certificate, or the root is missing \
             in [upstream] extra_roots"
        ),
        (Fault::SelfSigned, TlsError::InvalidCertificate(CertificateError::Other(_))) => {
            "the certificate is that of a CA which signs itself, and no CA is taken as a server, not even one in [upstream] \
             extra_roots: the server needs a certificate without basicConstraints CA:TRUE"
                .into()
        }
        (Fault::SelfSigned, _) => "the certificate is signed by itself and not by a trusted CA".into(),
        (Fault::Revoked, _) => format!("the certificate, or one above it, is revoked (issuer {issuer})"),
        (_, TlsError::InvalidCertificate(CertificateError::Other(other))) => other.to_string(),
        (_, error) => error.to_string(),
    }
}

/// UTC, to the second.
pub(super) struct Stamp(OffsetDateTime);

impl From<SystemTime> for Stamp {
    fn from(time: SystemTime) -> Self {
        let time = OffsetDateTime::from(time);
        Self(time.replace_nanosecond(0).unwrap_or(time))
    }
}

impl From<UnixTime> for Stamp {
    fn from(time: UnixTime) -> Self {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Self(OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

/// A time before 1970 is as good as 1970 here: it is over.
pub(super) fn wall(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// Names come from strangers: control characters become `?`, and what is too long ends in `…`.
fn cut(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut kept: String = clean.take(MAX_NAME).collect();
    if text.chars().nth(MAX_NAME).is_some() {
        kept.push('…');
    }
    kept
}

/// `example.com` of webpki's `DnsName("example.com")`.
fn bare(presented: &str) -> String {
    let inner = presented.strip_prefix("DnsName(\"").and_then(|name| name.strip_suffix("\")"));
    cut(inner.unwrap_or(presented))
}
