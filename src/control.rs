//! The control socket: whoever administers the service on its own machine asks it for something, and is known by the kernel's word.
//!
//! `protocol` is what is said on the socket, `accounts` the users and groups of this machine, `role` what a peer may ask for, `socket`
//! the file, `client` the end of the commands, `frames` what follows where one process takes over from another. The service's end is in `server`. What may not be here: what becomes of a request.
//!
//! **No TCP.** Nothing that changes state or tells of policy or clients is reached over a network: the socket is a file, and who
//! is at its other end is what the kernel says (`SO_PEERCRED`, unix(7)), not what the peer says (M02, M07).

pub mod accounts;
pub mod client;
pub mod frames;
pub mod protocol;
pub mod role;
pub mod socket;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// `[control]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Resolved against the configuration's directory.
    pub socket: PathBuf,
    /// Who may look. `None`: the operators alone.
    pub viewers: Option<Group>,
    /// Who may change too. `None`: root and the service's own user alone.
    pub operators: Option<Group>,
}

/// A group of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// As configured: a name or a number.
    pub name: String,
    pub id: u32,
}

impl Settings {
    /// The permissions of the socket's file: where nobody else has a role, nobody else can connect.
    pub fn mode(&self) -> u32 {
        if self.viewers.is_none() && self.operators.is_none() { 0o600 } else { 0o666 }
    }
}

/// A program file by its device and inode: one that was installed since is another.
pub fn program(path: &Path) -> Option<String> {
    fs::metadata(path).ok().map(|file| format!("{}:{}", file.dev(), file.ino()))
}
