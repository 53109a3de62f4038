//! `sekisho status` and `sekisho sessions`: what a running service tells of itself, asked by its control socket.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{ConfigFile, DONE, FAILED, complain, fail, report, say};
use crate::config::{control_socket, show_duration};
use crate::control::client::{ClientError, ask};
use crate::control::protocol::{Ask, Done, Draining, Page, SessionRow, Status};

/// The service is there and not ready.
const NOT_READY: u8 = 3;

pub(super) const STATUS_HELP: &str = "\
Exit code: 0 ready, 3 not ready, 1 error.

Examples:
  sekisho status --config /etc/sekisho/sekisho.toml
  sekisho status --socket /run/sekisho/control.sock --json";

pub(super) const SESSIONS_HELP: &str = "\
What is listed is being relayed at this moment: tunnels, inspected connections, plain requests. The identifier is event.id of the
record. What is cut ends with the reason cut_by_operator; the client may connect again.

Examples:
  sekisho sessions --client 10.20.0.7
  sekisho sessions --client office --service 'Microsoft 365 sign-in' --json
  sekisho sessions cut 7ZK3-0Q9M-V2XD-TB61";

/// Which service is meant.
#[derive(clap::Args)]
pub(super) struct At {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The service's control socket [default: the one that the configuration file names]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl At {
    /// Where the socket is, or what is wrong with the file that should say it.
    pub fn socket(&self) -> Result<PathBuf, ExitCode> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => control_socket(self.config.path()).map_err(|error| report(&error)),
        }
    }
}

#[derive(clap::Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    at: At,
    /// For machines: one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct SessionsArguments {
    #[command(subcommand)]
    command: Option<SessionsCommand>,
    #[command(flatten)]
    at: At,
    /// Only those of this client: an address, a network or a `[[clients]]` group
    #[arg(long, value_name = "IP|CIDR|GROUP")]
    client: Option<String>,
    /// Only those of this `[[service]]`
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// For machines: a line of JSON for each, in the keys of the record
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum SessionsCommand {
    /// End one now
    #[command(after_help = "Examples:\n  sekisho sessions cut 7ZK3-0Q9M-V2XD-TB61")]
    Cut {
        /// Its identifier, as `sekisho sessions` and the record have it
        id: String,
        #[command(flatten)]
        at: At,
    },
}

pub(super) fn status(arguments: &StatusArguments) -> ExitCode {
    let socket = match arguments.at.socket() {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    let status: Status = match ask(&socket, &Ask::Status {}) {
        Ok(status) => status,
        Err(error) => return fail(&error),
    };
    if arguments.json {
        match serde_json::to_string(&status) {
            Ok(line) => say(&line),
            Err(error) => return fail(&error),
        }
    } else {
        say(&screen(&status, SystemTime::now()));
    }
    if status.ready { DONE.into() } else { NOT_READY.into() }
}

fn screen(status: &Status, now: SystemTime) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut row = |label: &str, value: &str| writeln!(text, "{label:<12}{}", plain(value)).unwrap_or_default();
    let ago = |stamp: &str| match since(stamp, now) {
        Some(span) => format!("{stamp} ({} ago)", show_duration(span)),
        None => stamp.to_owned(),
    };
    row("version", &format!("sekisho {}, process {}", status.version, status.pid));
    row("since", &ago(&status.since));
    row("revision", &format!("{}, in force since {}", status.revision, ago(&status.revision_since)));
    row("file", &status.file);
    for (n, word) in status.readiness.iter().enumerate() {
        row(if n == 0 { if status.ready { "ready" } else { "NOT READY" } } else { "" }, word);
    }
    if let Some(why) = &status.degraded {
        row("degraded", why);
    }
    if let Some(trial) = &status.trial {
        let left = show_duration(Duration::from_secs(trial.seconds_left));
        row(
            "ON TRIAL",
            &format!("revision {} until {} ({left} left), begun by {}", trial.revision, trial.until, trial.by),
        );
    }
    for listener in &status.listeners {
        row("listen", &format!("{} ({})", listener.address, listener.mode));
    }
    row("admin", status.admin.as_deref().unwrap_or("none"));
    if let Some(pac) = &status.pac {
        row("pac", pac);
    }
    row(
        "connections",
        &format!(
            "{} open; relayed: {} tunnels, {} inspected, {} plain requests",
            status.connections, status.tunnels, status.inspected, status.plain
        ),
    );
    for draining in &status.draining {
        row("before", &left_with(draining));
    }
    let cause = status.pressure_cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
    row("load", &format!("{}{cause}", status.pressure));
    let record = &status.record;
    let writable = if record.writable { "written" } else { "NOT WRITABLE" };
    row(
        "record",
        &format!(
            "{}, {writable} (when unwritable: {}), {} lines waiting, {} lost",
            record.path, record.when_unwritable, record.waiting, record.lost
        ),
    );
    row("reloads", &format!("{} taken up, {} refused", status.reloads, status.failed_reloads));
    text
}

/// What a process that was taken over from has still.
fn left_with(Draining { pid, version, sessions }: &Draining) -> String {
    match sessions {
        Some(sessions) => format!("{} of process {pid} (version {version}), which is draining", count(*sessions)),
        None => {
            format!("process {pid} (version {version}) is draining and does not answer; `kill {pid}` ends what it has")
        }
    }
}

fn since(stamp: &str, now: SystemTime) -> Option<Duration> {
    let at: SystemTime = OffsetDateTime::parse(stamp, &Rfc3339).ok()?.into();
    now.duration_since(at).ok().map(|span| Duration::from_secs(span.as_secs()))
}

pub(super) fn sessions(arguments: &SessionsArguments) -> ExitCode {
    match &arguments.command {
        Some(SessionsCommand::Cut { id, at }) => cut(id, at),
        None => list(arguments),
    }
}

fn cut(id: &str, at: &At) -> ExitCode {
    let socket = match at.socket() {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    match ask::<Done>(&socket, &Ask::Cut { id: id.to_owned() }) {
        Ok(done) => {
            say(&plain(&done.message));
            DONE.into()
        }
        Err(error) => fail(&error),
    }
}

/// Page by page, so that neither end holds all of them.
fn list(arguments: &SessionsArguments) -> ExitCode {
    let socket = match arguments.at.socket() {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    let (mut after, mut told) = (None, 0);
    let mut draining = BTreeMap::<u32, u64>::new();
    loop {
        let (client, service) = (arguments.client.clone(), arguments.service.clone());
        let page: Result<Page, ClientError> = ask(&socket, &Ask::Sessions { client, service, after });
        let page = match page {
            Ok(page) => page,
            Err(error) => return fail(&error),
        };
        if told == 0 && !arguments.json && !page.sessions.is_empty() {
            say(&heading());
        }
        for session in &page.sessions {
            if let Some(process) = session.process {
                *draining.entry(process).or_default() += 1;
            }
            let line = if arguments.json { serde_json::to_string(session) } else { Ok(line(session)) };
            match line {
                Ok(line) => say(&line),
                Err(error) => return fail(&error),
            }
        }
        told += page.sessions.len() as u64;
        after = page.next;
        if after.is_none() {
            for pid in page.silent {
                complain(&format!(
                    "process {pid} is draining and does not answer: what it has is not listed; `kill {pid}` ends it"
                ));
            }
            break;
        }
    }
    if !arguments.json {
        say(&count(told));
        for (process, sessions) in draining {
            say(&format!("{sessions} of them of process {process}, which is draining"));
        }
    }
    DONE.into()
}

fn count(sessions: u64) -> String {
    format!("{sessions} {}", if sessions == 1 { "session" } else { "sessions" })
}

fn heading() -> String {
    let heading =
        format!("{:<19}  {:<20}  {:<10}  {:>9}  {:>9}  FROM (GROUP) TO BY", "ID", "SINCE", "MODE", "SENT", "RECEIVED");
    let bold = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if bold { format!("\u{1b}[1m{heading}\u{1b}[0m") } else { heading }
}

fn line(session: &SessionRow) -> String {
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let observed = if session.observed { " (observed)" } else { "" };
    let draining = session.process.map(|process| format!(" (process {process})")).unwrap_or_default();
    plain(&format!(
        "{}  {:<20}  {:<10}  {:>9}  {:>9}  {} ({}) {} {}{observed}{draining}",
        session.id,
        session.at,
        session.mode,
        octets(session.sent),
        octets(session.received),
        session.source_ip,
        or(&session.client),
        or(&session.authority),
        or(&session.service),
    ))
}

/// To three digits, in powers of 1000.
fn octets(number: u64) -> String {
    let mut shown = (number as f64, "B");
    for unit in ["kB", "MB", "GB", "TB", "PB"] {
        if shown.0 < 999.5 {
            break;
        }
        shown = (shown.0 / 1000.0, unit);
    }
    match shown {
        (whole, "B") => format!("{whole}B"),
        (number, unit) if number < 9.95 => format!("{number:.1}{unit}"),
        (number, unit) => format!("{number:.0}{unit}"),
    }
}

/// Nothing that a terminal obeys.
pub(super) fn plain(text: &str) -> String {
    let obeyed = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if obeyed(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Whether the answer was that of a service, and not that there is none.
pub(super) fn was_answered(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(_))
}

/// A failure that has been said.
pub(super) fn failed() -> ExitCode {
    FAILED.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_have_three_digits() {
        for (number, shown) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0kB"),
            (9_949, "9.9kB"),
            (9_950, "10kB"),
            (999_499, "999kB"),
            (999_500, "1.0MB"),
            (123_456_789, "123MB"),
            (u64::MAX, "18447PB"),
        ] {
            assert_eq!(octets(number), shown, "{number}");
        }
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_obeys() {
        assert_eq!(plain("a\u{1b}[2Jb\r\u{9b}\u{202e}c\t例"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c\u{fffd}例");
    }
}
