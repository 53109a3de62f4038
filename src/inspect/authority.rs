//! `sekisho ca init`: an offline root and the issuing intermediate under it, constrained to what is inspected.
//!
//! The root's key signs one intermediate and is to be taken away; a thief of the machine then has a CA for the inspected
//! names only (J05). Every installation makes its own keys (J03). An unconstrained intermediate is never made.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
};
use time::{Duration, OffsetDateTime};

use super::certificate::CaCertificate;
use super::install::{self, InstallError, NewFile};
use super::issuer::{self, IssuerError};
use super::signing;
use crate::files::{MAX_CERTIFICATES, regular_text};
use crate::names::{DnsName, NameError};

/// How long a root lasts, and the most an intermediate can be asked to.
pub const ROOT_DAYS: u32 = 3650;
/// Certificates begin this long before they are made, so that a leaf can begin an hour before it is made, even at once.
const BACKDATED: Duration = Duration::days(1);
/// ub-common-name of RFC 5280 appendix A.1, in characters.
const MAX_COMMON_NAME: usize = 64;

/// What `ca init` is asked for.
#[derive(Debug, Clone)]
pub struct InitRequest {
    /// Where the issuing certificate goes.
    pub certificate: PathBuf,
    /// Where the issuing key goes.
    pub key: PathBuf,
    /// The site's name, for the subjects.
    pub site: String,
    /// Names to be signed for, each with everything below it; duplicates and what lies below another are folded.
    pub permitted: Vec<String>,
    /// How long the issuing certificate lasts; cut to the end of a root that is there already.
    pub days: u32,
    pub now: SystemTime,
}

/// Where the root's two files are, or go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl RootFiles {
    /// Both beside the issuing certificate: `ca.pem` gives `ca-root.pem` and `ca-root.key`.
    pub fn beside(certificate: &Path) -> Self {
        Self { certificate: root_path(certificate, "pem"), key: root_path(certificate, "key") }
    }
}

/// Whether the root was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootOrigin {
    /// Made now; clients need to be given its certificate.
    Made,
    /// It was there, and clients that trust it trust the new issuing certificate.
    Kept,
}

/// What `ca init` made.
#[derive(Debug, Clone)]
pub struct InitReport {
    pub root: RootOrigin,
    pub root_files: RootFiles,
    pub root_fingerprint: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The permitted names after folding.
    pub permitted: Vec<String>,
    pub not_after: SystemTime,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(
        "there is no name to issue for: no service has mode = \"inspect\"; write one first, or name what will be \
         inspected later with --reserve NAME. A CA that may sign for any name is not made"
    )]
    NoNames,
    #[error(
        "an inspected pattern has no fixed end ({0:?}), so that no name constraint can cover it; \
         write patterns that end in a domain"
    )]
    NoFixedSuffix(String),
    #[error("{name:?} is not a name to issue for: {source}; write the domain alone, without *.")]
    Name { name: String, source: NameError },
    #[error("--days {0} is not from 1 to {ROOT_DAYS}")]
    Days(u32),
    #[error("[issuing_ca] certificate and key, and the root's files beside them, must be four paths: {} is there twice", .0.display())]
    SamePath(PathBuf),
    #[error(
        "{} exists, and nothing is ever overwritten. To replace the issuing certificate under the same root, move \
         certificate and key away, bring the root's key back, and run this again", .0.display()
    )]
    Exists(PathBuf),
    #[error(
        "the root's certificate {} is there and its key {} is not: say with --root-key FILE where the key is, or bring it back for as \
         long as this takes; or move the certificate away to make a new root, which every client must then be given",
        .0.certificate.display(), .0.key.display()
    )]
    RootKeyAway(RootFiles),
    #[error(
        "the root's certificate {} and its key {} are both away: bring the certificate back, and the key for as long as this takes (or \
         say with --root-key FILE where it is), so that clients keep the root that they trust",
        .0.certificate.display(), .0.key.display()
    )]
    RootAway(RootFiles),
    #[error(
        "the root's key {} is there and its certificate {} is not: bring it back, or move the key away",
        .0.key.display(), .0.certificate.display()
    )]
    RootCertificateAway(RootFiles),
    #[error("the root cannot sign: {0}")]
    Root(#[from] IssuerError),
    #[error("the root {} does not permit an issuing CA below it (pathLenConstraint 0)", .0.display())]
    RootPathLength(PathBuf),
    #[error("the root's subject ({0}) cannot be written as an issuer here; let the tool that made the root sign")]
    RootSubject(String),
    #[error("cannot look at {}: {source}", path.display())]
    Look { path: PathBuf, source: io::Error },
    #[error("no certificate could be made: {0}")]
    Signing(String),
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// As [`init_with`], with the root's files beside the issuing certificate.
///
/// # Errors
/// As [`init_with`].
pub fn init(request: &InitRequest) -> Result<InitReport, InitError> {
    init_with(request, &RootFiles::beside(&request.certificate))
}

/// As [`init_with`], where another issuing CA of that root is there already: no new root is made.
///
/// # Errors
/// As [`init_with`].
pub fn init_under(request: &InitRequest, root: &RootFiles) -> Result<InitReport, InitError> {
    if !exists(&root.certificate)? && !exists(&root.key)? {
        return Err(InitError::RootAway(root.clone()));
    }
    init_with(request, root)
}

/// Makes the CA's files. With the root's two files there and the issuing two not, only the issuing two.
///
/// # Errors
/// [`InitError`]; then nothing was written.
pub fn init_with(request: &InitRequest, files: &RootFiles) -> Result<InitReport, InitError> {
    let permitted = fold(&request.permitted)?;
    if !(1..=ROOT_DAYS).contains(&request.days) {
        return Err(InitError::Days(request.days));
    }
    check_paths([&request.certificate, &request.key, &files.certificate, &files.key])?;
    let now = OffsetDateTime::from(request.now);
    let (origin, root) = match (exists(&files.certificate)?, exists(&files.key)?) {
        (true, true) => (RootOrigin::Kept, Root::read(&files.certificate, &files.key, now)?),
        (true, false) => return Err(InitError::RootKeyAway(files.clone())),
        (false, true) => return Err(InitError::RootCertificateAway(files.clone())),
        (false, false) => (RootOrigin::Made, Root::make(&request.site, now)?),
    };
    let (issuing_key, issuing_pem, not_after) = make_issuing(request, &permitted, &root, now)?;
    let mut new = Vec::new();
    if origin == RootOrigin::Made {
        new.push(private(&files.key, &root.key));
        new.push(public(&files.certificate, root.pem.clone()));
    }
    new.push(private(&request.key, &issuing_key));
    new.push(public(&request.certificate, issuing_pem + &root.pem));
    install::install(&new)?;
    Ok(InitReport {
        root: origin,
        root_files: files.clone(),
        root_fingerprint: root.certificate.fingerprint(),
        certificate: request.certificate.clone(),
        key: request.key.clone(),
        permitted,
        not_after: not_after.into(),
    })
}

/// Where the root's file lies: `ca.pem` gives `ca-root.pem`.
pub fn root_path(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-root.");
    name.push(extension);
    path.with_file_name(name)
}

/// The names in order, without those that another one covers.
fn fold(names: &[String]) -> Result<Vec<String>, InitError> {
    let mut parsed = Vec::new();
    for name in names {
        if name.is_empty() {
            return Err(InitError::NoFixedSuffix(name.clone()));
        }
        parsed.push(DnsName::parse_unicode(name).map_err(|source| InitError::Name { name: name.clone(), source })?);
    }
    parsed.sort();
    parsed.dedup();
    let covered = |name: &DnsName| parsed.iter().any(|other| other != name && name.is_within(other.as_str()));
    let folded: Vec<String> = parsed.iter().filter(|name| !covered(name)).map(DnsName::to_string).collect();
    if folded.is_empty() { Err(InitError::NoNames) } else { Ok(folded) }
}

/// The issuing files must not be there, and no two files be one. Links are not followed: a dangling one is in the way too.
fn check_paths(paths: [&PathBuf; 4]) -> Result<(), InitError> {
    let twice = paths.iter().enumerate().find(|(at, path)| paths[..*at].contains(path));
    if let Some((_, path)) = twice {
        return Err(InitError::SamePath((*path).clone()));
    }
    let [certificate, key, _, _] = paths;
    for path in [certificate, key] {
        if exists(path)? {
            return Err(InitError::Exists(path.clone()));
        }
    }
    Ok(())
}

fn exists(path: &Path) -> Result<bool, InitError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(InitError::Look { path: path.to_owned(), source }),
    }
}

/// The root, to sign one issuing certificate with.
struct Root {
    certificate: CaCertificate,
    key: KeyPair,
    pem: String,
}

impl Root {
    fn make(site: &str, now: OffsetDateTime) -> Result<Self, InitError> {
        let key = KeyPair::generate().map_err(signing_failed)?;
        let mut params = ca_params(common_name(site, " sekisho root"), BasicConstraints::Constrained(1))?;
        params.not_before = now.saturating_sub(BACKDATED);
        params.not_after = now.saturating_add(Duration::days(i64::from(ROOT_DAYS)));
        let made = params.self_signed(&key).map_err(signing_failed)?;
        let certificate = CaCertificate::parse(made.der()).map_err(|flaw| InitError::Signing(flaw.to_string()))?;
        Ok(Self { certificate, key, pem: made.pem() })
    }

    fn read(path: &Path, key: &Path, now: OffsetDateTime) -> Result<Self, InitError> {
        let (certificate, key) = issuer::load_pair(path, key, now)?;
        if certificate.path_len == Some(0) {
            return Err(InitError::RootPathLength(path.to_owned()));
        }
        let text = regular_text(path, MAX_CERTIFICATES);
        let text = text.map_err(|source| InitError::Look { path: path.to_owned(), source })?;
        Ok(Self { certificate, key, pem: first_certificate(&text).unwrap_or_default() })
    }
}

/// The first certificate's lines alone: whatever else the file holds is not to be copied to where clients may look.
fn first_certificate(text: &str) -> Option<String> {
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let block = text.split_once(begin)?.1.split_once(end)?.0;
    Some(format!("{begin}{block}{end}\n"))
}

/// The issuing key, its certificate in PEM and the certificate's end.
fn make_issuing(
    request: &InitRequest,
    permitted: &[String],
    root: &Root,
    now: OffsetDateTime,
) -> Result<(KeyPair, String, OffsetDateTime), InitError> {
    let key = KeyPair::generate().map_err(signing_failed)?;
    let mut params =
        issuing_params(permitted, common_name(&request.site, &format!(" sekisho issuing CA {}", now.date())))?;
    params.not_before = now.saturating_sub(BACKDATED).max(root.certificate.not_before);
    params.not_after = now.saturating_add(Duration::days(i64::from(request.days))).min(root.certificate.not_after);
    let issuer = rcgen::Issuer::from_ca_cert_der(&root.certificate.der, &root.key).map_err(signing_failed)?;
    let made = params.signed_by(&key, &issuer).map_err(signing_failed)?;
    let parsed = CaCertificate::parse(made.der()).map_err(|flaw| InitError::Signing(flaw.to_string()))?;
    // rcgen keeps one value per attribute type: a root that `ca init` did not make may have a subject it cannot write.
    if parsed.issuer_der != root.certificate.subject_der {
        return Err(InitError::RootSubject(root.certificate.subject.clone()));
    }
    Ok((key, made.pem(), params.not_after))
}

/// pathLen 0, serverAuth only, the permitted names only, and no IP address at all: an absent kind of name would be
/// unconstrained (RFC 5280 section 4.2.1.10). The day in the subject tells one issuing CA from the next under one root.
fn issuing_params(permitted: &[String], name: String) -> Result<CertificateParams, InitError> {
    let mut params = ca_params(name, BasicConstraints::Constrained(0))?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted.iter().cloned().map(GeneralSubtree::DnsName).collect(),
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    });
    Ok(params)
}

fn ca_params(name: String, path_length: BasicConstraints) -> Result<CertificateParams, InitError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(signing::serial_number().map_err(signing_failed)?);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(path_length);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// The site's name cut so that the common name keeps its limit and its end.
fn common_name(site: &str, end: &str) -> String {
    let room = MAX_COMMON_NAME.saturating_sub(end.chars().count());
    let site: String = site.chars().filter(|c| !c.is_control()).take(room).collect();
    format!("{}{end}", site.trim()).trim_start().to_owned()
}

fn private(path: &Path, key: &KeyPair) -> NewFile {
    NewFile { path: path.to_owned(), contents: key.serialize_pem().into_bytes(), mode: 0o600 }
}

fn public(path: &Path, pem: String) -> NewFile {
    NewFile { path: path.to_owned(), contents: pem.into_bytes(), mode: 0o644 }
}

fn signing_failed(error: rcgen::Error) -> InitError {
    InitError::Signing(error.to_string())
}

impl fmt::Display for InitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not_after = OffsetDateTime::from(self.not_after).date();
        let (for_clients, for_safe) = match self.root {
            RootOrigin::Made => ("give it to the clients", "take it offline"),
            RootOrigin::Kept => ("was there; clients keep it", "was there; take it offline again"),
        };
        writeln!(f, "root certificate     {}  ({for_clients})", self.root_files.certificate.display())?;
        writeln!(f, "root key             {}  ({for_safe})", self.root_files.key.display())?;
        writeln!(f, "root SHA-256         {}", self.root_fingerprint)?;
        writeln!(f, "issuing certificate  {}  (until {not_after})", self.certificate.display())?;
        writeln!(f, "issuing key          {}", self.key.display())?;
        writeln!(f, "signs only for       {} and what is below", self.permitted.join(", "))
    }
}

#[cfg(test)]
mod tests;
