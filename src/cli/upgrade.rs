//! `sekisho upgrade`: this program takes the place of the process that runs, without a refused connection or a broken tunnel.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{ConfigFile, DONE, fail, say};
use crate::config::Scope;
use crate::control;
use crate::control::client::{ask, standard_error};
use crate::control::protocol::{Ask, Status};

pub(super) const HELP: &str = "The new process loads the configuration, takes the listening sockets over, goes on with the record, and \
    gets the tunnels. The old one lets inspected connections finish, within timeouts.drain, and ends. Where anything fails before the \
    new one serves, the old one goes on. The new one says what it has to say where the old one did (the journal), whoever calls \
    this.\n\nExamples:\n  sekisho upgrade --config /etc/sekisho/sekisho.toml\n  \
    systemctl reload sekisho    does it, where the package has been upgraded";

/// For a configuration with a million names, and the record to be written out.
const PATIENCE: Duration = Duration::from_secs(120);
/// Octets of why it could not take over.
const MOST_REASON: u64 = 64 << 10;
/// Each question is a line of the record.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Do nothing where the process that runs is of this very program file, or cannot be asked as there is no `[control]`
    #[arg(long)]
    if_changed: bool,
    /// Handed on to `run`: where the last good configuration is kept [default: $STATE_DIRECTORY]
    #[arg(long, value_name = "DIR")]
    state_directory: Option<PathBuf>,
}

pub(super) fn upgrade(arguments: &Arguments) -> ExitCode {
    // With the eyes of the new program: what it does not take is said before anything is started.
    let config = match arguments.config.load(Scope::Full) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(at) = config.control else {
        if arguments.if_changed {
            say(
                "no [control], so that the service that runs is not asked whether this program is another one: a new program needs a restart\n",
            );
            return DONE.into();
        }
        return fail(
            &"the service that runs is asked by its control socket, and the configuration has none: add [control] socket, and restart once",
        );
    };
    let before: Status = match ask(&at.socket, &Ask::Status {}) {
        Ok(status) => status,
        Err(error) => return fail(&error),
    };
    if arguments.if_changed
        && before.program.is_some()
        && before.program == control::program(Path::new("/proc/self/exe"))
    {
        say(&format!("process {} runs this program already: nothing to upgrade\n", before.pid));
        return DONE.into();
    }
    if let Some(unit) = unit(before.pid).filter(|unit| self::unit(std::process::id()).as_ref() != Some(unit)) {
        return fail(&format!(
            "process {} is the service manager's, of the unit {unit}, and what is started here would not be: it would be taken for \
             ended, and started again beside this; use `systemctl reload {unit}`",
            before.pid
        ));
    }
    let stderr = match standard_error(&at.socket) {
        Ok(stderr) => stderr,
        Err(error) => return fail(&error),
    };
    let child = match start(arguments, stderr) {
        Ok(child) => child,
        Err(error) => return fail(&format!("the new process cannot be started: {error}")),
    };
    match wait(child, &before, &at.socket) {
        Ok(after) => {
            say(&format!(
                "process {} (version {}) has taken over from process {} (version {}), which ends as soon as its connections have\n",
                after.pid, after.version, before.pid, before.version
            ));
            DONE.into()
        }
        Err(why) => fail(&why),
    }
}

/// The unit of the service manager that the process is of, by its control group (proc_pid_cgroup(5)).
fn unit(process: u32) -> Option<String> {
    let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    unit_in(&groups).map(str::to_owned)
}

/// `None`: of none, or of one that nobody starts again, such as a session.
fn unit_in(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        // The one hierarchy of version 2, or the service manager's own of version 1.
        let path = fields.next().filter(|controllers| ["", "name=systemd"].contains(controllers)).and(fields.next())?;
        let unit = path.rsplit('/').find(|name| name.ends_with(".service") || name.ends_with(".scope"))?;
        unit.ends_with(".service").then_some(unit)
    })
}

/// It goes on to say what it says where the old one does, and has nothing of whoever calls: a pipe that this command writes to ends with it.
fn start(arguments: &Arguments, stderr: OwnedFd) -> io::Result<Child> {
    let mut new = Command::new(std::env::current_exe()?);
    new.arg("run").arg("--take-over").arg("--config").arg(arguments.config.path());
    if let Some(directory) = &arguments.state_directory {
        new.arg("--state-directory").arg(directory);
    }
    // On its standard output it says to this command why it could not take over.
    new.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn()
}

/// What a process said that has ended.
fn reason(child: &mut Child) -> String {
    let mut said = String::new();
    if let Some(stdout) = &mut child.stdout {
        let _ = stdout.take(MOST_REASON).read_to_string(&mut said);
    }
    match said.trim() {
        "" => "for the reason that is in its log".to_owned(),
        said => said.to_owned(),
    }
}

/// Until the new process is the one that answers, or has ended.
#[expect(clippy::disallowed_methods, reason = "a command has no connections to block")]
fn wait(mut child: Child, before: &Status, socket: &Path) -> Result<Status, String> {
    let began = Instant::now();
    // Another upgrade may have been first.
    let goes_on = || match ask::<Status>(socket, &Ask::Status {}) {
        Ok(status) => format!("process {} goes on", status.pid),
        Err(error) => format!("process {} was to go on, and does not answer ({error})", before.pid),
    };
    while began.elapsed() < PATIENCE {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => {
                let reason = reason(&mut child);
                return Err(format!("the new process ended with {status}: {reason}: {}", goes_on()));
            }
            Err(error) => return Err(format!("the new process cannot be waited for: {error}: {}", goes_on())),
        }
        // While one takes the other's place, neither may answer for a moment.
        if let Ok(status) = ask::<Status>(socket, &Ask::Status {})
            && status.pid == child.id()
        {
            return Ok(status);
        }
        sleep(PAUSE);
    }
    let waited = format!("process {} does not answer after {} s", child.id(), PATIENCE.as_secs());
    // One that has the other's place already is not ended: nothing would serve.
    match ask::<Status>(socket, &Ask::Status {}) {
        Ok(status) if status.pid == before.pid => {
            let _ = child.kill();
            Err(format!("{waited} and was ended: process {} goes on", before.pid))
        }
        Ok(_) | Err(_) => {
            Err(format!("{waited}, and may have the place of process {} already: see its log", before.pid))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_told_by_the_control_group() {
        let rows = [
            ("0::/system.slice/sekisho.service\n", Some("sekisho.service")),
            ("0::/system.slice/sekisho.service/.control\n", Some("sekisho.service")),
            ("0::/system.slice/system-sekisho.slice/sekisho@a.service\n", Some("sekisho@a.service")),
            ("4:memory:/user.slice\n1:name=systemd:/system.slice/sekisho.service\n0::/\n", Some("sekisho.service")),
            ("4:memory:/system.slice/sekisho.service\n1:name=systemd:/\n", None),
            ("0::/user.slice/user-0.slice/session-3.scope\n", None),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/terminal-7.scope\n", None),
            ("0::/\n", None),
            ("", None),
        ];
        for (groups, unit) in rows {
            assert_eq!(unit_in(groups), unit, "{groups}");
        }
    }
}
