//! Only a wall clock that a scene sets belongs here (libfaketime); the monotonic one goes on as it is.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Config, Sekisho};

/// The library by which a process is told another time; `None` where it is not installed.
pub fn libfaketime() -> Option<PathBuf> {
    glob::glob("/usr/lib/*/faketime/libfaketimeMT.so.1").expect("a pattern").find_map(Result::ok)
}

/// A running proxy whose clock is `clock`, such as `+3600` or `-1h`, until it is [`set`].
pub async fn start(config: &Config, library: &Path, clock: &str) -> Sekisho {
    Sekisho::start_in(config, |dir| {
        fs::write(dir.join("clock"), clock).expect("a clock");
        vec![
            ("LD_PRELOAD", library.as_os_str().to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", dir.join("clock").into_os_string()),
            ("FAKETIME_NO_CACHE", OsString::from("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", OsString::from("1")),
        ]
    })
    .await
}

/// By one rename: no read sees the half of it.
pub fn set(sekisho: &Sekisho, clock: &str) {
    fs::write(sekisho.path("next-clock"), clock).expect("a clock");
    fs::rename(sekisho.path("next-clock"), sekisho.path("clock")).expect("renamed");
}
