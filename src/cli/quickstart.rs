//! `sekisho quickstart`: a folder, the service, a demo cloud beside it, three requests through the service, and what came of them.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::demo::{self, Identity};
use super::folder::{Author, DEMO_ROOT, Folder, FolderError};
use super::outcome::{CLIENTS_OWN, Expected, Outcome, TENANT, lines_since};
use super::trial::Visit;
use super::{DONE, FAILED, complain, fail, report, say};
use crate::config::Config;
use crate::inspect::authority::root_path;
use crate::server::{Apart, Inherited, Server, Signals};
use crate::telemetry;

/// How long the ends of the three connections are waited for; other clients may hold theirs for longer.
const QUIET: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The folder: made where it is not there, else used as it is
    #[arg(long, value_name = "DIR", default_value = "./sekisho-quickstart")]
    dir: PathBuf,
    /// Where the proxy listens [default: what the folder says, 127.0.0.1:8080 in a new one]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
}

pub(super) const HELP: &str = "\
The folder holds sekisho.toml, the issuing CA, the demo cloud's root certificate and the record. A second run uses it
again: the CA is kept, and sekisho.toml as you left it. Only the demo cloud's certificate is made anew each time.

Examples:
  sekisho quickstart
  sekisho quickstart --dir /tmp/demo --listen 127.0.0.1:18080";

fn address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        Ok(_) | Err(_) => Err("an IP address with a port is due, such as 127.0.0.1:18080".to_owned()),
    }
}

pub(super) fn quickstart(arguments: &Arguments) -> ExitCode {
    telemetry::init("warn");
    let now = SystemTime::now();
    let identity = match Identity::make(now.into()) {
        Ok(identity) => identity,
        Err(error) => return fail(&error),
    };
    let prepared = Folder::prepare(&arguments.dir, arguments.listen, &identity.root);
    let prepared = prepared.and_then(|folder| folder.load(now).map(|config| (folder, config)));
    let (folder, mut config) = match prepared {
        Ok(prepared) => prepared,
        Err(FolderError::Load(error)) => return report(&error),
        Err(error) => return fail(&error),
    };
    for warning in &config.warnings {
        complain(&warning.to_string());
    }
    crate::server::fit_connections(&mut config);
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(show(folder, config, identity)),
        Err(error) => fail(&format!("the runtime could not be started: {error}")),
    }
}

/// Starts everything, shows the three requests and stays until a signal ends it.
async fn show(folder: Folder, config: Config, identity: Identity) -> ExitCode {
    let Some(scene) = Scene::of(&folder, &config) else {
        return fail(
            &"sekisho.toml has no [[listener]], or no [issuing_ca]; to begin afresh, choose a new folder with --dir DIR",
        );
    };
    let author = folder.author;
    let listener = match TcpListener::from_std(folder.listener) {
        Ok(listener) => listener,
        Err(error) => return fail(&format!("the demo cloud could not be started: {error}")),
    };
    // Ends with this function.
    let mut demo = JoinSet::new();
    demo.spawn(demo::serve(listener, identity.tls));
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return fail(&error),
    };
    let server = match Server::start(config, Inherited::default(), None, Apart::nothing()).await {
        Ok(server) => server,
        Err(error) => return fail(&error),
    };
    let outcomes = match scene.play(&server).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            server.shut_down().await;
            return fail(&format!("the record {} cannot be read: {error}", scene.record.display()));
        }
    };
    say(&scene.told(&outcomes, bold()));
    let faulty = outcomes.iter().filter(|outcome| !outcome.faults.is_empty()).count();
    match (faulty, author) {
        (0, _) => {}
        (_, Author::Quickstart) => {
            server.shut_down().await;
            complain(&format!("\nsekisho: {faulty} of 3 requests did NOT come out as expected, see above; stopped"));
            return FAILED.into();
        }
        (_, Author::User) => complain(&format!(
            "\nsekisho: {faulty} of 3 requests came out otherwise than with quickstart's own sekisho.toml. Yours has been \
             edited, so this may be what you want; to begin afresh, choose a new folder with --dir DIR"
        )),
    }
    say(&scene.next_steps(bold()));
    match server.run(signals).await {
        Ok(()) => DONE.into(),
        Err(error) => fail(&error),
    }
}

/// Where a client on this machine reaches a listener.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

/// The codes round what stands out; nothing where there is no terminal, or one that is not to be coloured.
fn bold() -> (&'static str, &'static str) {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb")
        || !std::io::stdout().is_terminal();
    if plain { ("", "") } else { ("\u{1b}[1m", "\u{1b}[0m") }
}

/// Everything the text speaks of.
struct Scene {
    dir: PathBuf,
    config: PathBuf,
    demo_root: PathBuf,
    issuing_root: PathBuf,
    record: PathBuf,
    proxy: SocketAddr,
    admin: Option<SocketAddr>,
    /// The demo cloud's.
    port: u16,
}

impl Scene {
    /// `None` where an edited file has no listener or no issuing CA.
    fn of(folder: &Folder, config: &Config) -> Option<Self> {
        Some(Self {
            dir: folder.dir.clone(),
            config: folder.file(),
            demo_root: folder.dir.join(DEMO_ROOT),
            issuing_root: root_path(&config.issuing_files.as_ref()?.certificate, "pem"),
            record: config.record.path.clone(),
            proxy: reachable(config.listeners.first()?.address.socket()),
            admin: config.admin.map(|admin| reachable(admin.socket())),
            port: folder.port,
        })
    }

    /// Makes the three requests and reads what the record has of them.
    async fn play(&self, server: &Server) -> std::io::Result<Vec<Outcome>> {
        let recorder = server.gate().recorder();
        recorder.flush().await;
        let from = std::fs::metadata(&self.record)?.len();
        let (demo_root, issuing_root) = (self.demo_root.as_path(), self.issuing_root.as_path());
        let visit = |host, root, field| Visit { proxy: self.proxy, host, port: self.port, root, field };
        let visits = [
            (Expected::Tunnelled, visit("tunnel.demo.test", demo_root, None)),
            (Expected::Inspected, visit("inspect.demo.test", issuing_root, Some((TENANT.0, CLIENTS_OWN)))),
            (Expected::Refused, visit("denied.demo.test", demo_root, None)),
        ];
        let mut seen = Vec::new();
        for (_, visit) in &visits {
            seen.push(visit.make().await);
        }
        // A tunnel's record is written when both ends have closed.
        let _ = timeout(QUIET, server.gate().idle()).await;
        recorder.flush().await;
        let record = lines_since(&self.record, from)?;
        let told =
            visits.iter().zip(&seen).map(|((expected, visit), seen)| Outcome::of(*expected, visit, seen, &record));
        Ok(told.collect())
    }

    fn told(&self, outcomes: &[Outcome], bold: (&str, &str)) -> String {
        let mut text = format!(
            "sekisho listens on {}; a demo cloud service is on 127.0.0.1:{}; the files are in {}\n\
             Three requests went through it:\n",
            self.proxy,
            self.port,
            self.dir.display()
        );
        for (number, outcome) in (1..).zip(outcomes) {
            text += "\n";
            text += &outcome.to_text(number, bold);
        }
        text
    }

    fn next_steps(&self, (bold, plain): (&str, &str)) -> String {
        let Self { proxy, port, .. } = self;
        let (config, record) = (quoted(&self.config), quoted(&self.record));
        let (demo_root, issuing_root, tenant) = (quoted(&self.demo_root), quoted(&self.issuing_root), TENANT.0);
        let program = std::env::args_os().next().map_or_else(|| "sekisho".to_owned(), |name| quoted(Path::new(&name)));
        let process = std::process::id();
        let metrics = self.admin.map_or_else(String::new, |admin| format!("\n  curl http://{admin}/metrics"));
        format!(
            "\n{bold}Try next, in another terminal in this directory  (別の端末で試す){plain}\n  \
             curl -x http://{proxy} --cacert {demo_root} https://tunnel.demo.test:{port}/\n  \
             curl -x http://{proxy} --cacert {issuing_root} -H '{tenant}: mine' https://inspect.demo.test:{port}/\n  \
             curl -x http://{proxy} https://denied.demo.test:{port}/\n\
             \n{bold}Look closer  (詳しく見る){plain}\n  \
             tail -f {record}\n  \
             {program} explain --config {config} --client 127.0.0.1 inspect.demo.test:{port}\n  \
             {program} check --config {config}{metrics}\n\
             \nEdit {config}, then: kill -HUP {process}  (a mistake is told here; 誤りはここに表示)\n\
             Ctrl-C stops it  (Ctrl-C で終了)"
        )
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let safe = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(safe) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        for (path, text) in [
            ("./sekisho-quickstart/ca-root.pem", "./sekisho-quickstart/ca-root.pem"),
            ("/tmp/my demo", "'/tmp/my demo'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
            ("試し", "試し"),
        ] {
            assert_eq!(quoted(Path::new(path)), text);
        }
    }

    #[test]
    fn a_wildcard_listener_is_reached_on_loopback() {
        for (listener, reached) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("127.0.0.2:1", "127.0.0.2:1"),
            ("[::1]:1", "[::1]:1"),
        ] {
            let parse = |text: &str| text.parse::<SocketAddr>().expect("address");
            assert_eq!(reachable(parse(listener)), parse(reached));
        }
    }

    #[test]
    fn an_address_to_listen_on_has_a_port() {
        assert!(address("127.0.0.1:18080").is_ok() && address("[::1]:1").is_ok());
        for text in ["127.0.0.1", "127.0.0.1:0", "8080", "localhost:8080", ""] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
