//! The issuing CA: loaded and checked once, then asked for leaves.
//!
//! The only file that signs for a client's eyes. A leaf is for one name within the CA's own constraints, for serverAuth
//! only, and short-lived (J04, J05); which names may be asked for at all is the policy's business (J06), not judged here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use super::certificate::{self, CaCertificate, CertificateError, CertificateFlaw, Standing};
use super::constraints::{Coverage, Gap};
use super::keyfile::{self, KeyFileError};
use super::signing;
use crate::names::DnsName;

/// A leaf begins this long before it is made, for clients whose clock is behind.
const BACKDATED: Duration = Duration::hours(1);
/// From a leaf's first second to its last: far below the 47 days that browsers will come to allow, and a leaf is only ever
/// kept for half of it.
const LIFETIME: Duration = Duration::days(14);
/// ub-common-name of RFC 5280 appendix A.1. A longer name is in the SAN only, and the subject empty.
const MAX_COMMON_NAME: usize = 64;

/// Why the issuing CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("the key {} does not belong to the first certificate in {}{hint}", key.display(), certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf, hint: String },
    #[error("no key for the leaf certificates could be made: {0}")]
    LeafKey(String),
}

/// Why a leaf was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error("the issuing CA may not sign for {name}: {gap}")]
    OutsideConstraints { name: DnsName, gap: Gap },
    #[error("the issuing CA is not valid at this time ({not_before} to {not_after})")]
    CaNotValid { not_before: OffsetDateTime, not_after: OffsetDateTime },
    #[error("signing failed: {0}")]
    Signing(String),
}

/// A leaf with its key and chain, ready for rustls.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The chain is the leaf and the issuing certificate, or the leaf alone where the issuing certificate is a root.
    pub certified_key: Arc<CertifiedKey>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// The issuing CA. Its key is in memory only here, and in no output of it.
pub struct Issuer {
    certificate: CaCertificate,
    key: KeyPair,
    /// One P-256 key for every leaf of this load: a thief of one would hold the process, and so all of them, anyway; and a
    /// handshake with a new name costs one signature less. Never written anywhere; a reload with another
    /// certificate makes a new one.
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("subject", &self.certificate.subject)
            .field("fingerprint", &self.certificate.fingerprint())
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// The same certificate.
    pub fn is_same(&self, other: &Self) -> bool {
        self.certificate.fingerprint() == other.certificate.fingerprint()
    }

    /// Loads the CA. `certificate` is PEM with the issuing certificate first (a root of the site's own is taken too; what
    /// follows is ignored: clients hold whatever is above the issuing certificate), `key` its private key.
    ///
    /// # Errors
    /// [`IssuerError`]: a key file others can read, a key of another certificate, a certificate that is not a valid CA for
    /// servers at `now`.
    pub fn load(certificate: &Path, key: &Path, now: SystemTime) -> Result<Self, IssuerError> {
        let (ca, ca_key) = load_pair(certificate, key, now.into())?;
        let unmade = |error: &dyn fmt::Display| IssuerError::LeafKey(error.to_string());
        let leaf_key = KeyPair::generate().map_err(|error| unmade(&error))?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialized_der()));
        let leaf_signer = any_ecdsa_type(&der).map_err(|error| unmade(&error))?;
        Ok(Self { certificate: ca, key: ca_key, leaf_key, leaf_signer })
    }

    /// Whether every name of a pattern can be signed; see [`super::constraints::Constraints::coverage`].
    pub fn coverage(&self, fixed_suffix: &str, wildcard: bool) -> Coverage {
        self.certificate.constraints.coverage(fixed_suffix, wildcard)
    }

    /// What the issuing certificate says.
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// Makes a leaf for `name` alone, valid from an hour before `now`. CPU work, to be done inline: measured 35 µs with a P-256
    /// issuing key, 280 µs with RSA 2048, 1.5 ms with RSA 4096.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn mint(&self, name: &DnsName, now: SystemTime) -> Result<Leaf, MintError> {
        self.certificate
            .constraints
            .permit(name)
            .map_err(|gap| MintError::OutsideConstraints { name: name.clone(), gap })?;
        let (not_before, not_after) = self.leaf_validity(now.into())?;
        let params = self.leaf_params(name, not_before, not_after)?;
        let leaf = signing::sign(&self.certificate, &self.key, &params, &self.leaf_key).map_err(signing_failed)?;
        Ok(self.certify(leaf, not_before, not_after))
    }

    fn certify(&self, leaf: CertificateDer<'static>, not_before: OffsetDateTime, not_after: OffsetDateTime) -> Leaf {
        let mut chain = vec![leaf];
        match self.certificate.standing {
            Standing::Root => {}
            Standing::Intermediate => chain.push(self.certificate.der.clone()),
        }
        let certified_key = Arc::new(CertifiedKey::new(chain, Arc::clone(&self.leaf_signer)));
        Leaf { certified_key, not_before: not_before.into(), not_after: not_after.into() }
    }

    /// Within the CA's own validity; both ends count, hence the second less.
    fn leaf_validity(&self, now: OffsetDateTime) -> Result<(OffsetDateTime, OffsetDateTime), MintError> {
        let CaCertificate { not_before, not_after, .. } = self.certificate;
        self.certificate.check_validity(now).map_err(|_| MintError::CaNotValid { not_before, not_after })?;
        let begin = now.saturating_sub(BACKDATED).max(not_before);
        let end = begin.saturating_add(LIFETIME - Duration::SECOND).min(not_after);
        Ok((whole_second(begin), whole_second(end)))
    }

    fn leaf_params(
        &self,
        name: &DnsName,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<CertificateParams, MintError> {
        let mut params = CertificateParams::default();
        params.not_before = not_before;
        params.not_after = not_after;
        params.serial_number = Some(signing::serial_number().map_err(signing_failed)?);
        params.distinguished_name = DistinguishedName::new();
        if name.as_str().len() <= MAX_COMMON_NAME && !self.certificate.constraints.restrict_subjects() {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into().map_err(signing_failed)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

/// A CA certificate and its key from their files, matching and valid at `now`.
///
/// # Errors
/// As [`Issuer::load`].
pub fn load_pair(certificate: &Path, key: &Path, now: OffsetDateTime) -> Result<(CaCertificate, KeyPair), IssuerError> {
    let chain = certificate::read_file(certificate)?;
    let fail = |flaw: CertificateFlaw| CertificateError { path: certificate.to_owned(), flaw };
    let first = chain.first().ok_or_else(|| fail(CertificateFlaw::NoCertificate))?;
    let ca = CaCertificate::parse(first).map_err(fail)?;
    ca.check_validity(now).map_err(fail)?;
    let ca_key = keyfile::load(key)?;
    if ca.public_key == ca_key.public_key_raw() {
        return Ok((ca, ca_key));
    }
    let belongs = |der| CaCertificate::parse(der).is_ok_and(|other| other.public_key == ca_key.public_key_raw());
    let place = chain.iter().position(belongs);
    let hint = place.map_or_else(String::new, |at| format!(", but to number {} in it: put that one first", at + 1));
    Err(IssuerError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned(), hint })
}

fn signing_failed(error: rcgen::Error) -> MintError {
    MintError::Signing(error.to_string())
}

/// A certificate's times have whole seconds; so has the [`Leaf`] that tells of them.
fn whole_second(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}

#[cfg(test)]
mod tests;
