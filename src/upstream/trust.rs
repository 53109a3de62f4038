//! What upstream certificates are judged by: roots, CRLs and the lowest TLS version, loaded once and then never changed.
//!
//! TLS sessions to be resumed are kept here too, so that a reload that brings another `Trust` forgets them (threats.md D14, I08).
//! The judging is in `verifier`, the handshakes are in `verify`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::certificate::{Stamp, wall};
use super::revocation::{Crl, newest_first};
use super::system::Places;
use super::verifier::{Authorities, NoClientCertificate, Verifier, WithoutCrls};
use crate::files::{MAX_CERTIFICATES, regular};
use crate::tls;

/// Names whose sessions can be resumed; the oldest goes first.
const MAX_SESSIONS: usize = 2_048;
/// Bytes of the revision's hash that are shown, each as two hexadecimal digits.
const REVISION_BYTES: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's, as of the build.
    Bundled,
    /// The operating system's.
    System,
    /// PEM.
    File(PathBuf),
}

/// `crl_unknown`: certificates no CRL speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    Allow,
    Deny,
}

/// `crl_stale`: CRLs past their nextUpdate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    Deny,
    Allow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinTls {
    Tls12,
    Tls13,
}

/// Where trust comes from: `[upstream]` with its globs expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    pub roots: Roots,
    /// PEM files, each with one certificate or many.
    pub extra_roots: Vec<PathBuf>,
    /// PEM or DER files.
    pub crls: Vec<PathBuf>,
    pub crl_unknown: Unknown,
    pub crl_stale: Stale,
    pub min_tls: MinTls,
}

impl Sources {
    /// No file; for trust that is made of a certificate of the program's own.
    fn none() -> Self {
        Self {
            roots: Roots::Bundled,
            extra_roots: Vec::new(),
            crls: Vec::new(),
            crl_unknown: Unknown::Allow,
            crl_stale: Stale::Deny,
            min_tls: MinTls::Tls13,
        }
    }
}

/// What keeps trust from being loaded; one for each broken file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", .file.as_ref().map(|file| format!("{} ", file.display())).unwrap_or_default())]
pub struct TrustError {
    pub file: Option<PathBuf>,
    /// Reads on from the file's name.
    pub what: String,
}

/// Loaded trust. Everything that verifies shares one `Arc` of it.
pub struct Trust {
    resuming: Arc<ClientConfig>,
    fresh: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
    revision: Arc<str>,
    warnings: Vec<String>,
}

impl Trust {
    /// Reads every file. `now` serves for warnings only: certificates are judged by the time of their handshake.
    ///
    /// # Errors
    /// Every broken file at once.
    pub fn load(sources: &Sources, now: SystemTime) -> Result<Self, Vec<TrustError>> {
        let mut loader = Loader {
            store: RootCertStore::empty(),
            servers: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            now,
        };
        loader.roots(&sources.roots);
        for file in &sources.extra_roots {
            loader.root_file(file);
        }
        let crls = loader.crls(sources);
        if loader.errors.is_empty() && loader.store.is_empty() && loader.servers.is_empty() {
            loader.errors.push(TrustError { file: None, what: "there is not one root certificate to trust".into() });
        }
        if !loader.errors.is_empty() {
            return Err(loader.errors);
        }
        let trust = Self::made(sources, loader.store, loader.servers, crls).map_err(|error| vec![error])?;
        Ok(Self { warnings: loader.warnings, ..trust })
    }

    /// Trust in one server by its own certificate, and in nobody else.
    ///
    /// # Errors
    /// The certificate cannot be used so.
    pub fn in_one(server: CertificateDer<'static>) -> Result<Self, TrustError> {
        Self::made(&Sources::none(), RootCertStore::empty(), vec![server], Vec::new())
    }

    /// Trust in certificates under this root and in no others, for the tenant proof's stand-in.
    ///
    /// # Errors
    /// The certificate cannot be used so.
    pub fn in_root(root: CertificateDer<'static>) -> Result<Self, TrustError> {
        let mut store = RootCertStore::empty();
        store.add(root).map_err(|error| TrustError { file: None, what: error.to_string() })?;
        Self::made(&Sources::none(), store, Vec::new(), Vec::new())
    }

    /// Of the sources only what they say beside their files counts here.
    fn made(
        sources: &Sources,
        store: RootCertStore,
        servers: Vec<CertificateDer<'static>>,
        crls: Vec<Crl>,
    ) -> Result<Self, TrustError> {
        let revision = revision(sources, &store, &servers, &crls);
        let provider = tls::provider();
        let verifier = verifier(sources, store, servers, crls, &provider)?;
        let resuming = client_config(sources.min_tls, &verifier, provider)?;
        let mut fresh = resuming.clone();
        fresh.resumption = Resumption::disabled();
        Ok(Self { resuming: Arc::new(resuming), fresh: Arc::new(fresh), verifier, revision, warnings: Vec::new() })
    }

    /// What an administrator should know though nothing is broken: a CRL past its nextUpdate, a root that has expired.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Hexadecimal digits that change with anything that was loaded.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    pub(super) fn shared_revision(&self) -> Arc<str> {
        Arc::clone(&self.revision)
    }

    /// For inspected connections: sessions are resumed.
    pub(super) fn resuming(&self) -> &Arc<ClientConfig> {
        &self.resuming
    }

    /// For verdicts: every handshake is a full one.
    pub(super) fn fresh(&self) -> &Arc<ClientConfig> {
        &self.fresh
    }

    pub(super) fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// When the next CRL ends: until then, what was found at `now` holds as far as CRLs go.
    pub(super) fn next_update_after(&self, now: SystemTime) -> Option<SystemTime> {
        self.verifier.next_update_after(now)
    }

    /// The earliest nextUpdate of all CRLs, also where it is past; `None` without CRLs.
    pub fn first_next_update(&self) -> Option<SystemTime> {
        self.verifier.next_update_after(SystemTime::UNIX_EPOCH)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("revision", &self.revision).finish_non_exhaustive()
    }
}

struct Loader {
    store: RootCertStore,
    /// Certificates in the files of roots that are no CA's: each is trusted as itself.
    servers: Vec<CertificateDer<'static>>,
    errors: Vec<TrustError>,
    warnings: Vec<String>,
    now: SystemTime,
}

impl Loader {
    fn roots(&mut self, roots: &Roots) {
        match roots {
            Roots::Bundled => self.store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::System => {
                let found = Places::of_this_machine().read();
                let (added, _) = self.store.add_parsable_certificates(found.certificates);
                let problems = found.problems.join("; ");
                if added == 0 {
                    let what =
                        format!("the system's store of root certificates is empty; install ca-certificates {problems}");
                    self.errors.push(TrustError { file: None, what: what.trim_end().into() });
                } else if !problems.is_empty() {
                    self.warnings.push(format!("the system's store of root certificates was read in part: {problems}"));
                }
            }
            Roots::File(file) => self.root_file(file),
        }
    }

    fn root_file(&mut self, file: &Path) {
        if let Err(what) = self.add_roots(file) {
            self.errors.push(TrustError { file: Some(file.to_owned()), what });
        }
    }

    fn add_roots(&mut self, file: &Path) -> Result<(), String> {
        let bytes = regular(file, MAX_CERTIFICATES).map_err(|error| format!("cannot be read: {error}"))?;
        let sections: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let ders = sections.map_err(|error| format!("is not well-formed PEM: {error}"))?;
        if ders.is_empty() {
            return Err("holds no certificate in PEM form (a \"BEGIN CERTIFICATE\" section); \
                openssl x509 -inform der -in FILE turns DER into it"
                .into());
        }
        for (at, der) in ders.iter().enumerate() {
            let number = at.saturating_add(1);
            let (_, parsed) = X509Certificate::from_der(der)
                .map_err(|error| format!("is broken: certificate {number} in it is not X.509 ({error})"))?;
            let subject = parsed.subject();
            let not_after = wall(parsed.validity().not_after);
            if not_after <= self.now {
                let date = Stamp::from(not_after);
                self.warnings.push(format!("{}: the root {subject} expired on {date}", file.display()));
            }
            // Version 1 has no basicConstraints to say so (RFC 5280 section 6.1.4 (k)): there the file's word counts.
            if parsed.version() == X509Version::V3 && !parsed.is_ca() {
                self.warnings.push(format!(
                    "{}: {subject} is not a CA certificate: it is trusted as this one server's own, and vouches for no other",
                    file.display()
                ));
                self.servers.push(der.clone());
                continue;
            }
            self.store.add(der.clone()).map_err(|error| {
                format!("is broken: certificate {number} in it ({subject}) cannot be a root ({error})")
            })?;
        }
        Ok(())
    }

    fn crls(&mut self, sources: &Sources) -> Vec<Crl> {
        let mut crls = Vec::new();
        for file in &sources.crls {
            match Crl::read_all(file) {
                Ok(read) => crls.extend(read),
                Err(error) => self.errors.push(error),
            }
        }
        newest_first(&mut crls);
        self.warnings.extend(crls.iter().filter_map(|crl| crl.warning(self.now, sources.crl_stale)));
        if crls.is_empty() && sources.crl_unknown == Unknown::Deny {
            let what = "crl_unknown is \"deny\" and there is no CRL: every upstream certificate is refused";
            self.warnings.push(what.into());
        }
        crls
    }
}

fn verifier(
    sources: &Sources,
    store: RootCertStore,
    servers: Vec<CertificateDer<'static>>,
    crls: Vec<Crl>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<Verifier>, TrustError> {
    let without_crls = match sources.crl_unknown {
        Unknown::Deny if crls.is_empty() => WithoutCrls::Refuse,
        Unknown::Allow | Unknown::Deny => WithoutCrls::Accept,
    };
    let broken = |what: String| TrustError { file: None, what };
    let next_updates = crls.iter().map(|crl| crl.next_update).collect();
    let authorities = match store.is_empty() {
        true => None,
        false => {
            let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
                .with_crls(crls.into_iter().map(|crl| crl.der));
            if sources.crl_unknown == Unknown::Allow {
                builder = builder.allow_unknown_revocation_status();
            }
            if sources.crl_stale == Stale::Deny {
                builder = builder.enforce_revocation_expiration();
            }
            Some(Authorities { webpki: builder.build().map_err(|error| broken(error.to_string()))?, without_crls })
        }
    };
    let own = servers.into_iter().map(|der| {
        let mut alone = RootCertStore::empty();
        alone.add(der.clone()).map_err(|error| broken(error.to_string()))?;
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(alone), Arc::clone(provider));
        // No CRL speaks of what signs itself.
        let without_crls = if sources.crl_unknown == Unknown::Deny { WithoutCrls::Refuse } else { WithoutCrls::Accept };
        let webpki = builder.build().map_err(|error| broken(error.to_string()))?;
        Ok((der, Authorities { webpki, without_crls }))
    });
    let own = own.collect::<Result<_, TrustError>>()?;
    Ok(Arc::new(Verifier::new(authorities, own, provider.signature_verification_algorithms, next_updates)))
}

fn client_config(
    min_tls: MinTls,
    verifier: &Arc<Verifier>,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, TrustError> {
    let versions: &[&SupportedProtocolVersion] = match min_tls {
        MinTls::Tls12 => &[&version::TLS13, &version::TLS12],
        MinTls::Tls13 => &[&version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| TrustError { file: None, what: error.to_string() })?;
    let verifier: Arc<Verifier> = Arc::clone(verifier);
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(NoClientCertificate));
    config.resumption = Resumption::in_memory_sessions(MAX_SESSIONS);
    // 0-RTT could be replayed (threats.md D13); this is rustls's default, said here because the answer must stay no.
    config.enable_early_data = false;
    Ok(config)
}

fn revision(sources: &Sources, store: &RootCertStore, servers: &[CertificateDer<'_>], crls: &[Crl]) -> Arc<str> {
    let mut context = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        context.update(&bytes.len().to_be_bytes());
        context.update(bytes);
    };
    for anchor in &store.roots {
        part(&anchor.subject);
        part(&anchor.subject_public_key_info);
        part(anchor.name_constraints.as_deref().unwrap_or_default());
    }
    part(b"servers");
    for server in servers {
        part(server);
    }
    part(b"CRLs");
    for crl in crls {
        part(&crl.der);
    }
    part(format!("{:?} {:?} {:?}", sources.crl_unknown, sources.crl_stale, sources.min_tls).as_bytes());
    let digest = context.finish();
    digest.as_ref().iter().take(REVISION_BYTES).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
