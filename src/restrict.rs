//! What a process of ours takes from itself before it meets anybody: files, ports, system calls, capabilities, dumps.
//!
//! The configuration says what is needed ([`Reach`]); everything else is given up for good, by means that no later bug and no attacker in
//! the process can take back. What this kernel or container does not let us give up is reported by its [`Kind`], never assumed: the
//! service runs on, as it did before there was any of this, and says so in log, record and metric.
//!
//! Applied before the runtime's threads start, which inherit it. `files` is Landlock, `calls` seccomp, `privileges` the rest.

mod calls;
mod files;
mod privileges;
mod reach;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

pub use self::privileges::keep_out_of_dumps;
pub use self::reach::Reach;

/// Which process restricts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has connections.
    Serving,
    /// It has the issuing key, and one socket that was given to it.
    Minting,
}

/// What is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Core dumps, and being looked into by other processes of the same user.
    Dumps,
    /// Every capability that the configuration does not need.
    Capabilities,
    /// Files but those of the configuration; writing but beside the record and the control socket, and in the state directory.
    Files,
    /// Connecting to, and listening on, TCP ports but those of the configuration.
    TcpPorts,
    /// Signals to other processes.
    Signals,
    /// System calls that a proxy never makes.
    SystemCalls,
    /// That all of it holds for threads too that were there before.
    EveryThread,
    /// That no issuing key's file can be read from here.
    IssuingKey,
    /// That what the configuration is read from cannot be written from here.
    Configuration,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dumps => "dumps",
            Self::Capabilities => "capabilities",
            Self::Files => "files",
            Self::TcpPorts => "tcp_ports",
            Self::Signals => "signals",
            Self::SystemCalls => "system_calls",
            Self::EveryThread => "every_thread",
            Self::IssuingKey => "issuing_key",
            Self::Configuration => "configuration",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Restriction {
    /// Nothing: this process did not restrict itself.
    reach: Option<Reach>,
    /// Whether the kernel holds it to the files of its reach.
    by_path: bool,
    results: Vec<(Kind, Result<(), String>)>,
}

/// Something that a configuration needs and that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    Read(PathBuf),
    Write(PathBuf),
    Listen(u16),
    Connect(u16),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path) => write!(f, "to read in {}", path.display()),
            Self::Write(path) => write!(f, "to write in {}", path.display()),
            Self::Listen(port) => write!(f, "to listen on TCP port {port}"),
            Self::Connect(port) => write!(f, "to connect to TCP port {port}"),
        }
    }
}

/// Something that the configuration is read from and that the process that serves may write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the process that serves could write {}, from where its configuration is read: have the record, the control socket and the state \
     directory in folders of their own, and the configuration owned by another user", .0.display()
)]
pub struct Exposed(PathBuf);

/// Restricts this process to `reach`. For good; to be called once, by the first thread before it starts others.
pub fn apply(role: Role, reach: Reach) -> Restriction {
    let mut results = vec![
        (Kind::Dumps, privileges::keep_out_of_dumps()),
        (Kind::Capabilities, privileges::drop_capabilities(reach.capabilities)),
    ];
    let calls = calls::restrict(role);
    let (by_path, of_files) = files::restrict(&reach, calls.is_ok());
    results.extend(of_files);
    results.push((Kind::SystemCalls, calls));
    let mut restriction = Restriction { reach: None, by_path, results };
    if role == Role::Serving {
        restriction = restriction.looked_at_again(&reach);
    }
    Restriction { reach: Some(reach), ..restriction }
}

impl Restriction {
    /// Each kind, and why it does not hold where it does not.
    pub fn results(&self) -> impl Iterator<Item = (Kind, Option<&str>)> {
        self.results.iter().map(|(kind, result)| (*kind, result.as_ref().err().map(String::as_str)))
    }

    /// Whether this process has restricted itself at all.
    pub fn is_applied(&self) -> bool {
        self.reach.is_some()
    }

    /// The same, with what depends on where the files of `reach` lie found out anew: another configuration may have them elsewhere.
    #[must_use]
    pub fn looked_at_again(&self, reach: &Reach) -> Self {
        let mut now = self.clone();
        now.results.retain(|(kind, _)| !matches!(kind, Kind::IssuingKey | Kind::Configuration));
        if !reach.secrets.is_empty() {
            now.results.push((Kind::IssuingKey, files::are_out_of_reach(&reach.secrets)));
        }
        let granted = self.reach.as_ref().unwrap_or(reach);
        let exposed = self.exposes(granted, &reach.obeyed).map_or(Ok(()), |exposed| {
            Err(format!("{exposed}; as it is, a reload that inspects further names wants a restart"))
        });
        now.results.push((Kind::Configuration, exposed));
        now
    }

    /// What of `obeyed` could be written by a process that was `granted` this, is of the same user, and restricted by the same kernel.
    pub fn exposes(&self, granted: &Reach, obeyed: &BTreeSet<PathBuf>) -> Option<Exposed> {
        let within =
            |path: &&PathBuf| granted.write.iter().chain(&granted.own).any(|granted| path.starts_with(granted));
        let mut exposed = obeyed.iter().filter(|path| !self.by_path || within(path));
        exposed.find(|path| files::is_writable(path)).cloned().map(Exposed)
    }

    fn holds(&self, kind: Kind) -> bool {
        self.results.iter().any(|(of, result)| *of == kind && result.is_ok())
    }

    /// What `reach` needs and this process has given up, as far as it could.
    pub fn missing(&self, reach: &Reach) -> Vec<Missing> {
        let Some(own) = &self.reach else { return Vec::new() };
        let mut missing = Vec::new();
        if self.holds(Kind::Files) {
            let beyond = |has: &BTreeSet<PathBuf>, wants: &BTreeSet<PathBuf>| -> Vec<PathBuf> {
                wants.iter().filter(|path| !has.iter().any(|granted| path.starts_with(granted))).cloned().collect()
            };
            missing.extend(beyond(&own.read, &reach.read).into_iter().map(Missing::Read));
            missing.extend(beyond(&own.write, &reach.write).into_iter().map(Missing::Write));
            missing.extend(beyond(&own.own, &reach.own).into_iter().map(Missing::Write));
        }
        if self.holds(Kind::TcpPorts) {
            missing.extend(reach.listen.difference(&own.listen).copied().map(Missing::Listen));
            missing.extend(reach.connect.difference(&own.connect).copied().map(Missing::Connect));
        }
        missing
    }
}

#[cfg(test)]
mod tests;
