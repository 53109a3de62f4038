//! The operating system's root certificates: where they lie, and what is in them. Whom they vouch for is `trust`'s.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::files::{MAX_CERTIFICATES, regular};

/// As OpenSSL is told of others: a file, and folders with colons between them. Where either is set, nothing else is looked at.
const NAMED_FILE: &str = "SSL_CERT_FILE";
const NAMED_FOLDERS: &str = "SSL_CERT_DIR";
/// All of them in one file, as distributions have it: Debian, Red Hat, Fedora, SUSE, Alpine. The first that is there counts.
const FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// One in each file.
const FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
/// Files of one folder that are looked at: a root has some three, two of them links.
const MAX_FILES: usize = 4_096;

/// Where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    pub file: Option<PathBuf>,
    pub folders: Vec<PathBuf>,
}

/// What is there.
#[derive(Default)]
pub(super) struct Found {
    /// In order, each once.
    pub certificates: Vec<CertificateDer<'static>>,
    /// What could not be read.
    pub problems: Vec<String>,
}

impl Places {
    /// Those that the environment names, or else those of the distribution.
    pub fn of_this_machine() -> Self {
        let there = |path: &PathBuf| path.exists();
        Self::named(env::var_os(NAMED_FILE), env::var_os(NAMED_FOLDERS)).unwrap_or_else(|| Self {
            file: FILES.iter().map(PathBuf::from).find(there),
            folders: FOLDERS.iter().map(PathBuf::from).filter(there).collect(),
        })
    }

    fn named(file: Option<OsString>, folders: Option<OsString>) -> Option<Self> {
        let folders = folders.iter().flat_map(env::split_paths).filter(|path| !path.as_os_str().is_empty());
        let named = Self { file: file.map(PathBuf::from), folders: folders.collect() };
        (named.file.is_some() || !named.folders.is_empty()).then_some(named)
    }

    pub(super) fn read(&self) -> Found {
        let mut found = Found::default();
        if let Some(file) = &self.file {
            found.add_file(file);
        }
        for folder in &self.folders {
            if let Err(error) = found.add_folder(folder) {
                found.problems.push(format!("{}: {error}", folder.display()));
            }
        }
        found.certificates.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        found.certificates.dedup();
        found
    }
}

impl Found {
    fn add_file(&mut self, file: &Path) {
        match regular(file, MAX_CERTIFICATES) {
            // What is broken is left out: what is around it may still serve.
            Ok(text) => CertificateDer::pem_slice_iter(&text).for_each(|section| match section {
                Ok(certificate) => self.certificates.push(certificate),
                Err(error) => self.problems.push(format!("{}: {error}", file.display())),
            }),
            Err(error) => self.problems.push(format!("{}: {error}", file.display())),
        }
    }

    /// Also holds links to nothing, and folders.
    fn add_folder(&mut self, folder: &Path) -> io::Result<()> {
        for (n, entry) in fs::read_dir(folder)?.enumerate() {
            if n == MAX_FILES {
                return Err(io::Error::other(format!("it holds more than {MAX_FILES} files")));
            }
            let path = entry?.path();
            if path.is_file() {
                self.add_file(&path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::upstream::testing::{Ca, pem};

    #[test]
    fn what_the_environment_names_is_all_there_is() {
        let named = |file: Option<&str>, folders: Option<&str>| {
            Places::named(file.map(Into::into), folders.map(Into::into)).map(|places| (places.file, places.folders))
        };
        let paths = |texts: &[&str]| texts.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(named(None, None), None);
        assert_eq!(named(None, Some("")), None);
        assert_eq!(named(Some("roots.pem"), None), Some((Some("roots.pem".into()), vec![])));
        assert_eq!(named(None, Some("/one:/other:")), Some((None, paths(&["/one", "/other"]))));
        assert_eq!(named(Some("a"), Some("b")), Some((Some("a".into()), paths(&["b"]))));
    }

    #[test]
    fn each_certificate_counts_once_and_what_is_no_ordinary_file_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let (one, other) = (Ca::root("one").der, Ca::root("other").der);
        fs::create_dir(at("folder")).expect("made");
        for name in ["fifo", "folder/fifo"] {
            mknodat(CWD, at(name), FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
        }
        fs::create_dir(at("folder/java")).expect("made");
        std::os::unix::fs::symlink("nothing", at("folder/to nothing")).expect("a link");
        fs::write(at("bundle"), pem("CERTIFICATE", &one) + &pem("CERTIFICATE", &other)).expect("written");
        fs::write(at("folder/one"), pem("CERTIFICATE", &one)).expect("written");
        fs::write(at("folder/cut"), "-----BEGIN CERTIFICATE-----\n").expect("written");
        fs::write(at("folder/README"), "no PEM").expect("written");
        let read = |file: &str, folders: &[&str]| {
            let found = Places { file: Some(at(file)), folders: folders.iter().map(|name| at(name)).collect() }.read();
            let directory = format!("{}/", directory.path().display());
            (found.certificates.len(), found.problems.join("; ").replace(&directory, ""))
        };
        let (certificates, problems) = read("bundle", &["folder"]);
        assert_eq!(certificates, 2);
        assert!(
            problems.starts_with("folder/cut: missing section end marker") && !problems.contains(';'),
            "{problems}"
        );
        assert_eq!(
            read("fifo", &["missing"]),
            (0, "fifo: it is no ordinary file; missing: No such file or directory (os error 2)".into())
        );
    }
}
