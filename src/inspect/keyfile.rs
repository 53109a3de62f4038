//! The one way a private key comes in from disk: opened without following a link, judged by what was opened, then parsed.
//!
//! A CA key that others can read is worse than none (J01), so there is no option to take it anyway. Nothing of the key's
//! contents is ever in an error (J02).

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use rustix::fs::OFlags;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// The largest key file that is read: an RSA key of 16384 bits is 13 KiB of PEM.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// Why a key file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot open the key {}: {source}; it must be readable by the user that sekisho runs as", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "the systemd credential {name} is not in {}: systemd hands it over when the service starts, from FILE in LoadCredential={name}:FILE \
         of its unit", folder.display()
    )]
    NoCredential { name: String, folder: PathBuf },
    #[error("cannot read the key {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the key {} is a symbolic link, which is never followed for a key; name the file it points to", path.display())]
    SymbolicLink { path: PathBuf },
    #[error("the key {} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error(
        "the key {} has mode {mode:04o}: others than its owner can use it, and whoever reads it can sign for every \
         inspected host; if nobody has, run: chmod 600 {}", path.display(), path.display()
    )]
    OpenToOthers { path: PathBuf, mode: u32 },
    #[error(
        "the key {} belongs to uid {owner}, who is neither root nor the user this runs as (uid {own}); where that is \
         the service's user, run this command as it (runuser, sudo -u), else: chown {own} {}", path.display(), path.display()
    )]
    Owner { path: PathBuf, owner: u32, own: u32 },
    #[error(
        "the systemd credential {} is that of uid {owner}, and this runs as uid {own}: have it from the unit's own file, by systemd-run \
         with LoadCredential=, or run this command as that user (runuser, sudo -u)", path.display()
    )]
    CredentialOwner { path: PathBuf, owner: u32, own: u32 },
    #[error("the key {} is larger than 64 KiB, so it is not a key", path.display())]
    TooLarge { path: PathBuf },
    #[error(
        "the key {} is encrypted, and a service has nobody to ask for its password; decrypt it with: \
         openssl pkey -in {} -out NEW-FILE", path.display(), path.display()
    )]
    Encrypted { path: PathBuf },
    #[error(
        "{} holds no private key in PEM (PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY); \
         [issuing_ca] key must name the key, not the certificate", path.display()
    )]
    NotAKey { path: PathBuf },
    #[error(
        "the key {} is damaged or of a kind that cannot sign here (taken: ECDSA P-256, P-384 or P-521, Ed25519, \
         RSA of 2048 to 8192 bits)", path.display()
    )]
    Unsupported { path: PathBuf },
}

/// Reads the private key at `path`: PKCS#8, SEC1 or PKCS#1 in PEM; the first key in the file counts.
///
/// # Errors
/// [`KeyFileError`]: not a regular file of root's or our own, readable by others, or not a key we can sign with.
pub fn load(path: &Path) -> Result<KeyPair, KeyFileError> {
    let pem = read_private(path)?;
    let Ok(der) = PrivateKeyDer::from_pem_slice(&pem) else {
        let path = path.to_owned();
        let encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
        let is_encrypted = encrypted.iter().any(|mark| memchr::memmem::find(&pem, mark).is_some());
        return Err(if is_encrypted { KeyFileError::Encrypted { path } } else { KeyFileError::NotAKey { path } });
    };
    KeyPair::try_from(&der).map_err(|_| KeyFileError::Unsupported { path: path.to_owned() })
}

/// Where systemd puts what `LoadCredential=` names, for a unit that has it.
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Where such a key stands for a process that is not told of that folder.
const ELSEWHERE: &str = "$CREDENTIALS_DIRECTORY";

/// The file of the systemd credential `name`.
pub fn credential(name: &str) -> PathBuf {
    credentials_directory().unwrap_or_else(|| PathBuf::from(ELSEWHERE)).join(name)
}

/// Its name, where the key is one that systemd hands over.
pub fn credential_name(key: &Path) -> Option<&str> {
    let folder = key.parent()?;
    let is_credential = folder == Path::new(ELSEWHERE) || credentials_directory().as_deref() == Some(folder);
    key.file_name()?.to_str().filter(|_| is_credential)
}

/// Its name, where systemd hands the key over to a process that this one is not.
pub fn unseen_credential(key: &Path) -> Option<&str> {
    credential_name(key).filter(|_| credentials_directory().is_none())
}

/// What is put before a command that is to have these credentials, as the unit has them. FILE is for the administrator to fill in.
pub fn unit_with<'n>(credentials: impl IntoIterator<Item = &'n str>) -> String {
    let properties = credentials.into_iter().map(|name| format!(" -p LoadCredential={name}:FILE"));
    format!("systemd-run --quiet --pipe --same-dir{}", properties.collect::<String>())
}

fn read_private(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let mut file = open(path)?;
    let metadata = file.metadata().map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
    check(path, &metadata, credentials_directory().as_deref())?;
    let mut contents = Vec::new();
    file.by_ref()
        .take(MAX_KEY_FILE + 1)
        .read_to_end(&mut contents)
        .map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
    if contents.len() as u64 > MAX_KEY_FILE {
        return Err(KeyFileError::TooLarge { path: path.to_owned() });
    }
    Ok(contents)
}

/// NONBLOCK, so that a FIFO in the key's place cannot hold up the start; it is refused right after.
fn open(path: &Path) -> Result<File, KeyFileError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    opened.map_err(|source| {
        if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            return KeyFileError::SymbolicLink { path: path.to_owned() };
        }
        match credential_name(path).zip(path.parent()) {
            Some((name, folder)) if source.kind() == io::ErrorKind::NotFound => {
                KeyFileError::NoCredential { name: name.to_owned(), folder: folder.to_owned() }
            }
            _ => KeyFileError::Open { path: path.to_owned(), source },
        }
    })
}

/// Judges the file that was opened. `credentials` is systemd's `$CREDENTIALS_DIRECTORY`: what LoadCredential= puts there
/// is root's, with an ACL entry for the service's user, which `stat` shows as a readable group (0440) in a directory that
/// nobody else can enter.
fn check(path: &Path, metadata: &Metadata, credentials: Option<&Path>) -> Result<(), KeyFileError> {
    let path = path.to_owned();
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile { path });
    }
    let mode = metadata.mode() & 0o7777;
    let is_credential = credentials.is_some_and(|directory| path.parent() == Some(directory));
    let too_wide = if is_credential { 0o037 } else { 0o077 };
    if mode & too_wide != 0 {
        return Err(KeyFileError::OpenToOthers { path, mode });
    }
    let own = rustix::process::geteuid().as_raw();
    let owner = metadata.uid();
    if owner != 0 && owner != own {
        let of_another = if is_credential {
            KeyFileError::CredentialOwner { path, owner, own }
        } else {
            KeyFileError::Owner { path, owner, own }
        };
        return Err(of_another);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn key_file(directory: &Path, mode: u32) -> PathBuf {
        let path = directory.join(format!("ca-{mode:o}.key"));
        fs::write(&path, KeyPair::generate().expect("key").serialize_pem()).expect("write");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
        path
    }

    #[test]
    fn j01_a_key_for_its_owner_alone_is_taken() {
        let directory = tempfile::tempdir().expect("tempdir");
        for mode in [0o600, 0o400] {
            load(&key_file(directory.path(), mode)).expect("taken");
        }
    }

    #[test]
    fn j01_a_key_that_others_can_use_is_refused_with_the_command_to_run() {
        let directory = tempfile::tempdir().expect("tempdir");
        for mode in [0o640, 0o644, 0o660, 0o604, 0o601, 0o610, 0o620, 0o602, 0o777] {
            let path = key_file(directory.path(), mode);
            let message = load(&path).expect_err("refused").to_string();
            assert!(message.contains(&format!("mode {mode:04o}")), "{message}");
            assert!(message.contains(&format!("chmod 600 {}", path.display())), "{message}");
        }
    }

    #[test]
    fn j01_links_and_other_kinds_of_file_are_refused() {
        let directory = tempfile::tempdir().expect("tempdir");
        let link = directory.path().join("link.key");
        symlink(key_file(directory.path(), 0o600), &link).expect("symlink");
        assert!(matches!(load(&link), Err(KeyFileError::SymbolicLink { .. })));

        let folder = directory.path().join("folder.key");
        fs::create_dir(&folder).expect("mkdir");
        assert!(matches!(load(&folder), Err(KeyFileError::NotAFile { .. })));

        let fifo = directory.path().join("fifo.key");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).expect("mkfifo");
        assert!(matches!(load(&fifo), Err(KeyFileError::NotAFile { .. })));

        assert!(matches!(load(&directory.path().join("none.key")), Err(KeyFileError::Open { .. })));
    }

    #[test]
    fn j01_another_users_key_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can give a file to another user");
            return;
        }
        let directory = tempfile::tempdir().expect("tempdir");
        let path = key_file(directory.path(), 0o600);
        std::os::unix::fs::chown(&path, Some(65534), None).expect("chown");
        let message = load(&path).expect_err("refused").to_string();
        assert!(message.contains("uid 65534") && message.contains("chown 0 "), "{message}");
        // The copy that the service has is not to be taken from it.
        let credential =
            check(&path, &fs::metadata(&path).expect("stat"), Some(directory.path())).expect_err("refused");
        let message = credential.to_string();
        assert!(
            message.contains("is that of uid 65534, and this runs as uid 0: have it from")
                && !message.contains("chown"),
            "{message}"
        );
    }

    #[test]
    fn a_systemd_credential_may_be_readable_by_its_group_and_no_more() {
        let directory = tempfile::tempdir().expect("tempdir");
        let elsewhere = tempfile::tempdir().expect("tempdir");
        for (mode, credentials, taken) in [
            (0o440, Some(directory.path()), true),
            (0o440, Some(elsewhere.path()), false),
            (0o440, None, false),
            (0o460, Some(directory.path()), false),
            (0o444, Some(directory.path()), false),
        ] {
            let path = key_file(directory.path(), mode);
            let metadata = fs::metadata(&path).expect("stat");
            assert_eq!(check(&path, &metadata, credentials).is_ok(), taken, "{mode:o} {credentials:?}");
        }
    }

    #[test]
    fn what_is_not_a_key_is_said_in_words() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("ca.key");
        for (contents, words) in [
            ("", "holds no private key"),
            ("garbage", "holds no private key"),
            ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "holds no private key"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n", "is encrypted"),
            ("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", "is damaged or of a kind"),
        ] {
            fs::write(&path, contents).expect("write");
            fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod");
            let message = load(&path).expect_err("refused").to_string();
            assert!(message.contains(words), "{message}");
        }
        fs::write(&path, vec![b'x'; 64 * 1024 + 1]).expect("write");
        assert!(matches!(load(&path), Err(KeyFileError::TooLarge { .. })));
    }
}
