//! A CA certificate as a file holds it: what is read from it, and whether leaves can be issued under it.
//!
//! No key and no signing here; the checks are those that every client will make of the issuing certificate anyway, made
//! at the start instead.

use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::constraints::{Constraints, MalformedSubtree};
use crate::files::{MAX_CERTIFICATES, regular};

/// A certificate file that leaves cannot be issued with.
#[derive(Debug, thiserror::Error)]
#[error("the CA certificate {}: {flaw}", path.display())]
pub struct CertificateError {
    pub path: PathBuf,
    #[source]
    pub flaw: CertificateFlaw,
}

/// What is wrong with a CA certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFlaw {
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is not PEM: {0}; convert DER with: openssl x509 -inform der")]
    NotPem(String),
    #[error("holds no certificate in PEM (BEGIN CERTIFICATE)")]
    NoCertificate,
    #[error("its first certificate is malformed ({0})")]
    Malformed(String),
    #[error(
        "its first certificate is not that of a CA (basicConstraints CA:TRUE is missing); the issuing CA's comes first"
    )]
    NotACa,
    #[error("its keyUsage does not have keyCertSign, so that clients refuse whatever it signs")]
    CannotSign,
    #[error("its extendedKeyUsage does not have serverAuth, so that clients refuse its leaves")]
    NotForServers,
    #[error(
        "it has the critical extension {0}, which is not known here; clients that do not know it refuse whatever it signs \
         (RFC 5280 section 4.2)"
    )]
    CriticalExtension(String),
    #[error(transparent)]
    Constraint(#[from] MalformedSubtree),
    #[error("it ended on {0}; issue a new one (see: sekisho ca init --help)")]
    Expired(OffsetDateTime),
    #[error("it begins only on {0}; is this machine's clock right?")]
    NotYetValid(OffsetDateTime),
}

/// Whether a certificate names itself as its issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A root: clients hold it, it is not sent to them.
    Root,
    /// Clients need it between the leaf and their root.
    Intermediate,
}

/// What is read from a CA certificate.
#[derive(Debug, Clone)]
pub struct CaCertificate {
    pub der: CertificateDer<'static>,
    pub subject: String,
    pub issuer: String,
    /// The subject as it is encoded. A leaf's issuer must be these bytes: verifiers compare bytes.
    pub subject_der: Vec<u8>,
    /// The issuer as it is encoded.
    pub issuer_der: Vec<u8>,
    /// The subjectPublicKey, without its algorithm.
    pub public_key: Vec<u8>,
    pub key_algorithm: String,
    /// The subjectKeyIdentifier, where there is one.
    pub key_identifier: Option<Vec<u8>>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// How many CA certificates may follow below; leaves do not count, so that 0 is enough here.
    pub path_len: Option<u32>,
    pub standing: Standing,
    pub constraints: Constraints,
}

/// Every certificate in a PEM file, in its order; at least one.
///
/// # Errors
/// [`CertificateError`] where the file cannot be read, is not PEM or holds none.
pub fn read_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let fail = |flaw| CertificateError { path: path.to_owned(), flaw };
    let pem = regular(path, MAX_CERTIFICATES).map_err(|error| fail(CertificateFlaw::Unreadable(error)))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| fail(CertificateFlaw::NotPem(error.to_string())))?;
    if certificates.is_empty() { Err(fail(CertificateFlaw::NoCertificate)) } else { Ok(certificates) }
}

impl CaCertificate {
    /// Reads a certificate and checks what does not depend on the time: a CA that may sign certificates for servers.
    ///
    /// # Errors
    /// [`CertificateFlaw`].
    pub fn parse(der: &CertificateDer<'static>) -> Result<Self, CertificateFlaw> {
        let malformed = |error: &dyn std::fmt::Display| CertificateFlaw::Malformed(error.to_string());
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(malformed(&"bytes behind its end"));
        }
        check_usage(&certificate)?;
        let basic = certificate.basic_constraints().map_err(|error| malformed(&error))?;
        let constraints = match certificate.name_constraints().map_err(|error| malformed(&error))? {
            Some(extension) => Constraints::read(extension.value)?,
            None => Constraints::default(),
        };
        let key_identifier = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
            _ => None,
        });
        let (subject_der, issuer_der) =
            (certificate.subject().as_raw().to_vec(), certificate.issuer().as_raw().to_vec());
        Ok(Self {
            der: der.clone(),
            subject: printable(certificate.subject()),
            issuer: printable(certificate.issuer()),
            standing: if subject_der == issuer_der { Standing::Root } else { Standing::Intermediate },
            subject_der,
            issuer_der,
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            key_algorithm: key_algorithm(certificate.public_key()),
            key_identifier,
            not_before: certificate.validity().not_before.to_datetime(),
            not_after: certificate.validity().not_after.to_datetime(),
            path_len: basic.and_then(|extension| extension.value.path_len_constraint),
            constraints,
        })
    }

    /// Whether it is valid at `now`.
    ///
    /// # Errors
    /// [`CertificateFlaw::Expired`], [`CertificateFlaw::NotYetValid`].
    pub fn check_validity(&self, now: OffsetDateTime) -> Result<(), CertificateFlaw> {
        if now > self.not_after {
            return Err(CertificateFlaw::Expired(self.not_after));
        }
        if now < self.not_before { Err(CertificateFlaw::NotYetValid(self.not_before)) } else { Ok(()) }
    }

    /// SHA-256 over the whole certificate, as browsers and `openssl x509 -fingerprint -sha256` show it.
    pub fn fingerprint(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der);
        let octets: Vec<String> = digest.as_ref().iter().map(|octet| format!("{octet:02X}")).collect();
        octets.join(":")
    }
}

/// An absent keyUsage or extendedKeyUsage restricts nothing (RFC 5280 sections 4.2.1.3 and 4.2.1.12).
fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), CertificateFlaw> {
    let malformed = |error: x509_parser::error::X509Error| CertificateFlaw::Malformed(error.to_string());
    let basic = certificate.basic_constraints().map_err(malformed)?;
    if !basic.is_some_and(|extension| extension.value.ca) {
        return Err(CertificateFlaw::NotACa);
    }
    let usage = certificate.key_usage().map_err(malformed)?;
    if usage.is_some_and(|extension| !extension.value.key_cert_sign()) {
        return Err(CertificateFlaw::CannotSign);
    }
    let extended = certificate.extended_key_usage().map_err(malformed)?;
    if extended.is_some_and(|extension| !extension.value.server_auth && !extension.value.any) {
        return Err(CertificateFlaw::NotForServers);
    }
    let unknown = certificate.extensions().iter().find(|extension| {
        extension.critical && matches!(extension.parsed_extension(), ParsedExtension::UnsupportedExtension { .. })
    });
    unknown.map_or(Ok(()), |extension| Err(CertificateFlaw::CriticalExtension(extension.oid.to_id_string())))
}

/// What a certificate says of itself goes to a terminal, so without control characters.
fn printable(text: &impl std::fmt::Display) -> String {
    text.to_string().chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn key_algorithm(key: &SubjectPublicKeyInfo<'_>) -> String {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        Ok(PublicKey::EC(point)) => match point.key_size() {
            256 => "ECDSA P-256".to_owned(),
            384 => "ECDSA P-384".to_owned(),
            528 => "ECDSA P-521".to_owned(),
            size => format!("ECDSA of {size} bits"),
        },
        _ if key.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519 => "Ed25519".to_owned(),
        _ => key.algorithm.algorithm.to_id_string(),
    }
}
