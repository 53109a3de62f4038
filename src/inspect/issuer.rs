//! The issuing CA: loaded and checked once, then asked for leaves.
//!
//! Its key is in this process, or, where `run` serves, in the minting process alone ([`super::minting`]); whoever wants a leaf asks
//! [`Issuer::issue`] and need not know. The only file that signs for a client's eyes. A leaf is for one name within the CA's own constraints, for serverAuth
//! only, and short-lived (J04, J05); which names may be asked for at all is the policy's business (J06), not judged here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{KeyPair, PublicKeyData};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{self, CaCertificate, CertificateError, CertificateFlaw, Standing};
use super::constraints::{Coverage, Gap};
use super::keyfile::{self, KeyFileError};
use super::minting::{Link, LinkError};
use super::question::{Answer, POINT, Question};
use super::signing;
use super::template::{leaf_params, leaf_validity};
use crate::names::DnsName;

/// How long a leaf may take where it is made elsewhere; a client waits for its handshake no longer.
const MINT_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
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
    #[error("the minting process refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Unanswered(#[from] LinkError),
    #[error("the issuing key is not in this process")]
    NoKey,
}

/// A leaf with its key and chain, ready for rustls.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The chain is the leaf and the issuing certificate, or the leaf alone where the issuing certificate is a root.
    pub certified_key: Arc<CertifiedKey>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Whose it is.
    pub ca: Arc<CaCertificate>,
}

/// One of the two issuing CAs of an [`Issuer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    First,
    /// The one that takes over on a day.
    Next,
}

/// The issuing CA, and the one that takes over from it where there is one. Its keys are in no output of it.
pub struct Issuer {
    certificate: Arc<CaCertificate>,
    /// Its file, for what is wrong with it.
    path: PathBuf,
    next: Option<Next>,
    signer: Signer,
    leaf_key: Arc<LeafKey>,
}

struct Next {
    certificate: Arc<CaCertificate>,
    from: OffsetDateTime,
}

/// Who has the key.
enum Signer {
    /// This process.
    Keys {
        first: Arc<KeyPair>,
        next: Option<Arc<KeyPair>>,
    },
    /// Another one, which read the same configuration as its generation of that number.
    Minter {
        link: Arc<Link>,
        generation: u32,
    },
    Nobody,
}

/// One P-256 key for every leaf of a load: a thief of one would hold the process, and so all of them, anyway; and a handshake with a new
/// name costs one signature less. Never written anywhere; a reload makes a new one.
struct LeafKey {
    pair: KeyPair,
    signer: Arc<dyn SigningKey>,
}

/// The public key of leaves whose private key is elsewhere: an uncompressed point of P-256.
pub struct LeafPoint(pub [u8; POINT]);

impl PublicKeyData for LeafPoint {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
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
    /// Loads the CA. `certificate` is PEM with the issuing certificate first (a root of the site's own is taken too; what
    /// follows is ignored: clients hold whatever is above the issuing certificate), `key` its private key.
    ///
    /// # Errors
    /// [`IssuerError`]: a key file others can read, a key of another certificate, a certificate that is not a valid CA for
    /// servers at `now`.
    pub fn load(certificate: &Path, key: &Path, now: SystemTime) -> Result<Self, IssuerError> {
        let issuer = Self::open(certificate, Some(key))?;
        issuer.check_validity(now)?;
        Ok(issuer)
    }

    /// Whether the (first) certificate is valid at `moment`.
    ///
    /// # Errors
    /// [`IssuerError::Certificate`].
    pub fn check_validity(&self, moment: SystemTime) -> Result<(), IssuerError> {
        self.certificate.check_validity(moment.into()).map_err(|flaw| at(&self.path, flaw))
    }

    /// Whether this process has what it takes to sign.
    pub fn signs(&self) -> bool {
        matches!(self.signer, Signer::Keys { .. })
    }

    /// As [`Issuer::load`], whenever it is valid; without a `key` it signs nothing ([`Issuer::minted_by`]).
    ///
    /// # Errors
    /// As [`Issuer::load`].
    pub fn open(certificate: &Path, key: Option<&Path>) -> Result<Self, IssuerError> {
        let (ca, signer) = match key {
            Some(key) => {
                let (ca, key) = read_pair(certificate, key)?;
                (ca, Signer::Keys { first: Arc::new(key), next: None })
            }
            None => (read_first(certificate)?.0, Signer::Nobody),
        };
        let unmade = |error: &dyn fmt::Display| IssuerError::LeafKey(error.to_string());
        let pair = KeyPair::generate().map_err(|error| unmade(&error))?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialized_der()));
        let leaf_signer = any_ecdsa_type(&der).map_err(|error| unmade(&error))?;
        let leaf_key = Arc::new(LeafKey { pair, signer: leaf_signer });
        Ok(Self { certificate: Arc::new(ca), path: certificate.to_owned(), next: None, signer, leaf_key })
    }

    /// This one until `from`, then `next`.
    #[must_use]
    pub fn followed_by(self, next: Self, from: SystemTime) -> Self {
        let signer = match (self.signer, next.signer) {
            (Signer::Keys { first, .. }, Signer::Keys { first: next, .. }) => Signer::Keys { first, next: Some(next) },
            (signer, _) => signer,
        };
        let next = Some(Next { certificate: next.certificate, from: from.into() });
        Self { signer, next, ..self }
    }

    /// The same, with the keys in the minting process.
    #[must_use]
    pub fn minted_by(&self, link: Arc<Link>, generation: u32) -> Self {
        let next = self.next.as_ref();
        Self {
            certificate: Arc::clone(&self.certificate),
            path: self.path.clone(),
            next: next.map(|next| Next { certificate: Arc::clone(&next.certificate), from: next.from }),
            signer: Signer::Minter { link, generation },
            leaf_key: Arc::clone(&self.leaf_key),
        }
    }

    /// Whether every name of a pattern can be signed; see [`super::constraints::Constraints::coverage`].
    pub fn coverage(&self, fixed_suffix: &str, wildcard: bool) -> Coverage {
        self.certificate.constraints.coverage(fixed_suffix, wildcard)
    }

    /// What the issuing certificate says, the first where there are two.
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// All that clients may meet.
    pub fn certificates(&self) -> impl Iterator<Item = &CaCertificate> {
        [&self.certificate].into_iter().chain(self.next.as_ref().map(|next| &next.certificate)).map(Arc::as_ref)
    }

    /// Which one leaves come from at `now`.
    pub fn which(&self, now: SystemTime) -> Which {
        let next = self.next.as_ref().is_some_and(|next| next.from <= OffsetDateTime::from(now));
        if next { Which::Next } else { Which::First }
    }

    /// The certificate of the one leaves come from at `now`.
    pub fn in_use(&self, now: SystemTime) -> &Arc<CaCertificate> {
        self.ca(self.which(now)).0
    }

    /// The public key of the leaves, for who signs them elsewhere. `None` never happens: the key is made here, of this kind.
    pub fn leaf_point(&self) -> Option<[u8; POINT]> {
        self.leaf_key.pair.public_key_raw().try_into().ok()
    }

    fn ca(&self, which: Which) -> (&Arc<CaCertificate>, Option<&KeyPair>) {
        let keys = match &self.signer {
            Signer::Keys { first, next } => (Some(&**first), next.as_deref()),
            Signer::Minter { .. } | Signer::Nobody => (None, None),
        };
        match (which, &self.next) {
            (Which::Next, Some(next)) => (&next.certificate, keys.1),
            (Which::Next, None) | (Which::First, _) => (&self.certificate, keys.0),
        }
    }

    /// A leaf for `name` alone, valid from an hour before `now`, from whoever has the key.
    ///
    /// # Errors
    /// [`MintError`].
    pub async fn issue(&self, name: &DnsName, now: SystemTime) -> Result<Leaf, MintError> {
        let Signer::Minter { link, generation } = &self.signer else { return self.mint(name, now) };
        let which = self.which(now);
        let question = Question::Mint { generation: *generation, which, name: name.clone() };
        match link.ask(question, MINT_LIMIT).await? {
            Answer::Leaf(der) => Ok(self.certify(which, signed(der.into())?)),
            Answer::Refused(why) => Err(MintError::Refused(why)),
            Answer::TakenUp { .. } | Answer::Kept | Answer::Alive => Err(LinkError::Garbled.into()),
        }
    }

    /// As [`Issuer::issue`], where this process has the key. CPU work, to be done inline: measured 35 µs with a P-256 issuing key, 280 µs
    /// with RSA 2048, 1.5 ms with RSA 4096.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn mint(&self, name: &DnsName, now: SystemTime) -> Result<Leaf, MintError> {
        let which = self.which(now);
        Ok(self.certify(which, self.sign(which, name, &self.leaf_key.pair, now)?))
    }

    /// The certificate of a leaf for `name` alone whose key is `leaf`, valid from an hour before `now`.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn sign(
        &self,
        which: Which,
        name: &DnsName,
        leaf: &impl PublicKeyData,
        now: SystemTime,
    ) -> Result<Signed, MintError> {
        let (ca, key) = self.ca(which);
        let key = key.ok_or(MintError::NoKey)?;
        ca.constraints.permit(name).map_err(|gap| MintError::OutsideConstraints { name: name.clone(), gap })?;
        let (not_before, not_after) = leaf_validity(ca, now.into())?;
        let params = leaf_params(ca, name, not_before, not_after)?;
        let leaf = signing::sign(ca, key, &params, leaf).map_err(signing_failed)?;
        Ok(Signed { leaf, not_before, not_after })
    }

    /// The leaf with its chain and key.
    fn certify(&self, which: Which, signed: Signed) -> Leaf {
        let ca = Arc::clone(self.ca(which).0);
        let Signed { leaf, not_before, not_after } = signed;
        let mut chain = vec![leaf];
        match ca.standing {
            Standing::Root => {}
            Standing::Intermediate => chain.push(ca.der.clone()),
        }
        let certified_key = Arc::new(CertifiedKey::new(chain, Arc::clone(&self.leaf_key.signer)));
        Leaf { certified_key, not_before: not_before.into(), not_after: not_after.into(), ca }
    }
}

/// A leaf's certificate, and the times that stand in it.
pub struct Signed {
    pub leaf: CertificateDer<'static>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// One that was signed elsewhere.
fn signed(leaf: CertificateDer<'static>) -> Result<Signed, MintError> {
    let (not_before, not_after) = {
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|error| MintError::Signing(error.to_string()))?;
        (parsed.validity().not_before.to_datetime(), parsed.validity().not_after.to_datetime())
    };
    Ok(Signed { leaf, not_before, not_after })
}

/// A CA certificate and its key from their files, matching and valid at `now`.
///
/// # Errors
/// As [`Issuer::load`].
pub fn load_pair(certificate: &Path, key: &Path, now: OffsetDateTime) -> Result<(CaCertificate, KeyPair), IssuerError> {
    let (ca, ca_key) = read_pair(certificate, key)?;
    ca.check_validity(now).map_err(|flaw| at(certificate, flaw))?;
    Ok((ca, ca_key))
}

/// The first certificate of the file, and all of them.
fn read_first(certificate: &Path) -> Result<(CaCertificate, Vec<CertificateDer<'static>>), IssuerError> {
    let chain = certificate::read_file(certificate)?;
    let first = chain.first().ok_or_else(|| at(certificate, CertificateFlaw::NoCertificate))?;
    let ca = CaCertificate::parse(first).map_err(|flaw| at(certificate, flaw))?;
    Ok((ca, chain))
}

fn read_pair(certificate: &Path, key: &Path) -> Result<(CaCertificate, KeyPair), IssuerError> {
    let (ca, chain) = read_first(certificate)?;
    let ca_key = keyfile::load(key)?;
    if ca.public_key == ca_key.public_key_raw() {
        return Ok((ca, ca_key));
    }
    let belongs = |der| CaCertificate::parse(der).is_ok_and(|other| other.public_key == ca_key.public_key_raw());
    let place = chain.iter().position(belongs);
    let hint = place.map_or_else(String::new, |at| format!(", but to number {} in it: put that one first", at + 1));
    Err(IssuerError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned(), hint })
}

fn at(certificate: &Path, flaw: CertificateFlaw) -> IssuerError {
    CertificateError { path: certificate.to_owned(), flaw }.into()
}

pub(super) fn signing_failed(error: rcgen::Error) -> MintError {
    MintError::Signing(error.to_string())
}

#[cfg(test)]
mod tests;
