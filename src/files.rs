//! Files that somebody else may have put there: ordinary ones alone are read, and of those no more than they may hold.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Largest file of certificates that is read: every root there is, a hundred times.
pub const MAX_CERTIFICATES: u64 = 16 << 20;

/// The content of an ordinary file of at most `most` octets, which are whole MiB. A FIFO or a device is not waited for and not read.
///
/// # Errors
/// [`io::Error`]; one of our own where it is no ordinary file, or larger.
pub fn regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let mut octets = Vec::new();
    if file.take(most + 1).read_to_end(&mut octets)? as u64 > most {
        return Err(io::Error::other(format!("it is larger than {} MiB", most >> 20)));
    }
    Ok(octets)
}

/// As [`regular`], of text in UTF-8.
///
/// # Errors
/// As [`regular`]; also where it is none.
pub fn regular_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(regular(path, most)?).map_err(io::Error::other)
}

/// Opens an ordinary file. A FIFO or a device is not waited for.
///
/// # Errors
/// [`io::Error`]; one of our own where it is no ordinary file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no ordinary file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_fifo_is_not_waited_for_and_no_more_is_read_than_may_be() {
        let dir = tempfile::tempdir().expect("a directory");
        let (fifo, file) = (dir.path().join("fifo"), dir.path().join("file"));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
        for path in [&fifo, Path::new("/dev/zero"), dir.path()] {
            let error = regular(path, 1 << 20).expect_err("no ordinary file").to_string();
            assert_eq!(error, "it is no ordinary file", "{}", path.display());
        }
        File::create(&file).and_then(|file| file.set_len(1 << 20)).expect("made");
        assert_eq!(regular(&file, 1 << 20).expect("it is read").len(), 1 << 20);
        File::create(&file).and_then(|file| file.set_len((1 << 20) + 1)).expect("made");
        assert_eq!(regular(&file, 1 << 20).expect_err("one too many").to_string(), "it is larger than 1 MiB");
        std::fs::write(&file, "関所").expect("written");
        assert_eq!(regular_text(&file, 1 << 20).expect("it is read"), "関所");
        std::fs::write(&file, b"\xff").expect("written");
        let error = regular_text(&file, 1 << 20).expect_err("no text").to_string();
        assert_eq!(error, "invalid utf-8 sequence of 1 bytes from index 0");
    }
}
