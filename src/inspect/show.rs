//! `sekisho ca show`: what issuing CA is there, what it covers, when it ends and what state its key is in.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::authority::root_path;
use super::certificate::{self, CaCertificate, CertificateError, Standing};
use super::issuer;
use super::keyfile;

/// The issuing CA in words.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    pub certificate: String,
    /// Its file, or `credential:NAME` where only the unit sees it.
    pub key: String,
    pub subject: String,
    pub issuer: String,
    /// RFC 3339, UTC.
    pub not_before: String,
    /// RFC 3339, UTC.
    pub not_after: String,
    /// Whole days until the end; negative when it is past.
    pub days_left: i64,
    pub key_algorithm: String,
    pub path_length: Option<u32>,
    /// Empty: any DNS name, which is a danger.
    pub permitted: Vec<String>,
    pub excluded: Vec<String>,
    /// SHA-256 of the issuing certificate.
    pub fingerprint: String,
    pub root: Option<RootDescription>,
    /// What keeps the CA from being used, in the words `run` would refuse it with.
    pub problem: Option<String>,
    pub warnings: Vec<String>,
    /// Whether the key was looked at: not where only the unit sees it.
    pub key_seen: bool,
    #[serde(skip)]
    names_are_bound: bool,
}

/// The root, where its certificate is at hand.
#[derive(Debug, Clone, Serialize)]
pub struct RootDescription {
    pub subject: String,
    /// RFC 3339, UTC.
    pub not_after: String,
    /// SHA-256, to compare with what the clients hold.
    pub fingerprint: String,
}

/// A warning begins this many days before an end.
const SOON: i64 = 60;

/// Describes the CA at `certificate` and `key`, whatever state it is in.
///
/// # Errors
/// [`CertificateError`] where the certificate file cannot be read or does not begin with a CA certificate.
pub fn describe(certificate: &Path, key: &Path, now: SystemTime) -> Result<Description, CertificateError> {
    let now = OffsetDateTime::from(now);
    let chain = certificate::read_file(certificate)?;
    let fail = |flaw| CertificateError { path: certificate.to_owned(), flaw };
    let first = chain.first().ok_or_else(|| fail(certificate::CertificateFlaw::NoCertificate))?;
    let ca = CaCertificate::parse(first).map_err(fail)?;
    let root = find_root(&ca, &chain, certificate);
    let unseen = keyfile::unseen_credential(key);
    let problem = match unseen {
        Some(_) => ca.check_validity(now).err().map(|flaw| fail(flaw).to_string()),
        None => issuer::load_pair(certificate, key, now).err().map(|error| error.to_string()),
    };
    Ok(Description {
        certificate: certificate.display().to_string(),
        key: unseen.map_or_else(|| key.display().to_string(), |name| format!("credential:{name}")),
        key_seen: unseen.is_none(),
        not_before: rfc3339(ca.not_before),
        not_after: rfc3339(ca.not_after),
        days_left: (ca.not_after - now).whole_days(),
        path_length: ca.path_len,
        permitted: ca.constraints.permitted(),
        excluded: ca.constraints.excluded(),
        names_are_bound: ca.constraints.bound_names(),
        fingerprint: ca.fingerprint(),
        problem,
        warnings: warnings(&ca, root.as_ref(), certificate, now),
        root: root.map(|root| RootDescription {
            not_after: rfc3339(root.not_after),
            fingerprint: root.fingerprint(),
            subject: root.subject,
        }),
        subject: ca.subject,
        issuer: ca.issuer,
        key_algorithm: ca.key_algorithm,
    })
}

/// The certificate with the issuer's name: the issuing one itself, one that follows it, or the file `ca init` made beside.
fn find_root(
    ca: &CaCertificate,
    chain: &[rustls_pki_types::CertificateDer<'static>],
    certificate: &Path,
) -> Option<CaCertificate> {
    let beside = certificate::read_file(&root_path(certificate, "pem")).unwrap_or_default();
    let candidates = chain.iter().chain(&beside).filter_map(|der| CaCertificate::parse(der).ok());
    candidates.into_iter().find(|root| root.standing == Standing::Root && root.subject_der == ca.issuer_der)
}

fn warnings(ca: &CaCertificate, root: Option<&CaCertificate>, certificate: &Path, now: OffsetDateTime) -> Vec<String> {
    let mut warnings = Vec::new();
    if !ca.constraints.bound_names() {
        warnings.push(
            "it has no name constraints: whoever gets its key can sign for any name; sekisho ca init makes one that has"
                .to_owned(),
        );
    }
    for (what, end) in [("it", Some(ca.not_after)), ("its root", root.map(|root| root.not_after))] {
        let days = end.map(|end| (end - now).whole_days()).filter(|days| (0..SOON).contains(days));
        if let Some(days) = days {
            warnings.push(format!("{what} ends in {days} days"));
        }
    }
    let root_key = root_path(certificate, "key");
    if root_key.symlink_metadata().is_ok() {
        warnings.push(format!("the root's key is still here: take {} offline", root_key.display()));
    }
    warnings
}

fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        writeln!(f, "certificate   {}", self.certificate)?;
        writeln!(f, "  subject     {}", self.subject)?;
        writeln!(f, "  issuer      {}", self.issuer)?;
        writeln!(f, "  valid       {} to {} ({} days left)", self.not_before, self.not_after, self.days_left)?;
        if self.names_are_bound {
            writeln!(f, "  signs for   {}", list(&self.permitted))?;
        } else {
            writeln!(f, "  signs for   any DNS name")?;
        }
        writeln!(f, "  never for   {}", list(&self.excluded))?;
        writeln!(f, "  path length {}", self.path_length.map_or("unlimited".to_owned(), |length| length.to_string()))?;
        writeln!(f, "  SHA-256     {}", self.fingerprint)?;
        match &self.root {
            Some(root) => {
                writeln!(f, "root          {} (until {})", root.subject, root.not_after)?;
                writeln!(f, "  SHA-256     {}", root.fingerprint)?;
            }
            None => writeln!(f, "root          not in the file nor beside it")?,
        }
        writeln!(f, "key           {} ({})", self.key, self.key_algorithm)?;
        match &self.problem {
            Some(problem) => writeln!(f, "PROBLEM       {problem}")?,
            None if self.key_seen => {
                writeln!(f, "state         usable: valid, the key is its own and nobody else's to read")?
            }
            None => writeln!(
                f,
                "state         valid; the key was not looked at: it is a systemd credential, which the unit alone sees"
            )?,
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning       {warning}"))
    }
}
