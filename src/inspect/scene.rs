//! What the tests of the issuing CA share: a site with its files, and openssl as a second opinion.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::authority::{self, InitError, InitReport, InitRequest};
use super::issuer::Issuer;
use crate::names::DnsName;

pub const DAY: Duration = Duration::from_secs(86400);

/// A directory in which `ca init` puts, and `Issuer::load` looks for, `ca.pem` and `ca.key`.
pub struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    pub fn empty() -> Self {
        Self { directory: tempfile::tempdir().expect("tempdir") }
    }

    /// With a CA for `permitted`, made at [`now`].
    pub fn with_ca(permitted: &[&str]) -> Self {
        let site = Self::empty();
        site.init(permitted).expect("ca init");
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn request(&self, permitted: &[&str]) -> InitRequest {
        InitRequest {
            certificate: self.path("ca.pem"),
            key: self.path("ca.key"),
            site: "Example City".to_owned(),
            permitted: permitted.iter().map(|name| (*name).to_owned()).collect(),
            days: 730,
            now: now(),
        }
    }

    pub fn init(&self, permitted: &[&str]) -> Result<InitReport, InitError> {
        authority::init(&self.request(permitted))
    }

    pub fn issuer(&self) -> Issuer {
        Issuer::load(&self.path("ca.pem"), &self.path("ca.key"), now()).expect("issuer")
    }

    pub fn root(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path("ca-root.pem")).expect("root")
    }

    /// Every file with its contents, in order.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(self.directory.path())
            .expect("read_dir")
            .map(|entry| entry.expect("entry"))
            .map(|entry| {
                let contents = std::fs::read(entry.path()).unwrap_or_default();
                (entry.file_name().to_string_lossy().into_owned(), contents)
            })
            .collect();
        files.sort();
        files
    }

    /// `openssl` in this directory: whether it succeeded, and all it said. `None`, loudly, where it is not installed.
    pub fn openssl(&self, arguments: &[&str]) -> Option<(bool, String)> {
        let Ok(output) = Command::new("openssl").args(arguments).current_dir(self.directory.path()).output() else {
            eprintln!("SKIPPED: openssl is not installed, so it was not asked: openssl {}", arguments.join(" "));
            return None;
        };
        let said = [output.stdout, output.stderr].concat();
        Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }
}

/// 2026-11-22, late in the evening and not on a whole second.
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::new(1_795_388_399, 123_456_789)
}

pub fn name(text: &str) -> DnsName {
    DnsName::parse(text.as_bytes()).expect(text)
}

/// What a client does with `chain` (the leaf first) that trusts `root` alone and wants `host`.
pub fn webpki_verify(
    chain: &[CertificateDer<'_>],
    root: &CertificateDer<'_>,
    host: &str,
    at: SystemTime,
) -> Result<(), webpki::Error> {
    let anchor = webpki::anchor_from_trusted_cert(root)?;
    let (leaf, rest) = chain.split_first().expect("a leaf");
    let leaf = webpki::EndEntityCert::try_from(leaf)?;
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[anchor],
        rest,
        UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).expect("after 1970")),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    )?;
    leaf.verify_is_valid_for_subject_name(&host.try_into().expect("host"))
}

/// DER as PEM, by openssl's rules: 64 characters a line.
pub fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let group = (0..3).fold(0u32, |group, at| group << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
