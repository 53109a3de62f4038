//! What a certificate must be by RFC 5280 and webpki does not look at: one verdict on a single certificate, no path, no name.
//!
//! webpki's own comments name these gaps. Each is a "MUST" that every public CA keeps and browsers ask for.

use std::collections::BTreeSet;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::Fault;

/// Longest serial number, in octets.
const MAX_SERIAL: usize = 20;

/// Where a certificate stands in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    /// It is the server's own.
    First,
    /// It vouches for another one.
    Above,
}

/// What is wrong with a certificate, or with one above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("a certificate of its chain cannot be read")]
    Unreadable,
    #[error(
        "the serial number of a certificate of its chain is not a positive integer of 1 to 20 octets (RFC 5280 section 4.1.2.2)"
    )]
    SerialNumber,
    #[error("a certificate of its chain has an extension twice (RFC 5280 section 4.2)")]
    RepeatedExtension,
    #[error("its subjectAltName is malformed (RFC 5280 section 4.2.1.6)")]
    SubjectAltName,
    #[error("its keyUsage leaves out digitalSignature, so it may not prove who a server is (RFC 8446 section 4.4.2.2)")]
    NoDigitalSignature,
    #[error("the keyUsage of a certificate above it leaves out keyCertSign (RFC 5280 section 6.1.4)")]
    NoKeyCertSign,
}

impl Flaw {
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Unreadable | Self::SerialNumber | Self::RepeatedExtension | Self::SubjectAltName => {
                Fault::BadEncoding
            }
            Self::NoDigitalSignature => Fault::NotForServerAuth,
            Self::NoKeyCertSign => Fault::EndEntityUsedAsCa,
        }
    }

    /// The first one of `der`.
    pub(super) fn of(der: &CertificateDer<'_>, stands: Stands) -> Option<Self> {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Some(Self::Unreadable) };
        if !is_serial_number(certificate.raw_serial()) {
            return Some(Self::SerialNumber);
        }
        let mut oids = BTreeSet::new();
        if !certificate.extensions().iter().all(|extension| oids.insert(extension.oid.as_bytes())) {
            return Some(Self::RepeatedExtension);
        }
        // Octets that are no keyUsage permit nothing.
        let Ok(usage) = certificate.key_usage() else { return Some(Self::Unreadable) };
        let permits = |asked: fn(&KeyUsage) -> bool| usage.as_ref().is_none_or(|usage| asked(usage.value));
        match stands {
            Stands::First if !has_readable_names(&certificate) => Some(Self::SubjectAltName),
            Stands::First => (!permits(KeyUsage::digital_signature)).then_some(Self::NoDigitalSignature),
            Stands::Above => (!permits(KeyUsage::key_cert_sign)).then_some(Self::NoKeyCertSign),
        }
    }
}

/// webpki stops reading at the name that fits, and passes over what is no name.
fn has_readable_names(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject_alternative_name().is_ok_and(|names| {
        names.is_none_or(|names| !names.value.general_names.iter().any(|name| matches!(name, GeneralName::Invalid(..))))
    })
}

/// Positive, not too long, and in DER's shortest form: a CRL lists that form, and would not speak of another.
fn is_serial_number(octets: &[u8]) -> bool {
    match octets {
        [] | [0] | [0x80..=0xff, ..] | [0, 0..=0x7f, ..] => false,
        octets => octets.len() <= MAX_SERIAL,
    }
}
