//! `sekisho load origin` and `sekisho load run`: arguments, progress and the summary of the load tool.

use std::fmt::Write;
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;

use super::{DONE, complain, fail, say};
use crate::load::capacity::Machine;
use crate::load::origin::{self, Identity, Made};
use crate::load::run::{self, Event};
use crate::load::summary::Summary;
use crate::load::tally::Second;
use crate::load::{Plan, Scenario, Target, Until, Via, guard, office, report};
use crate::names::DnsName;
use crate::telemetry;

/// The run went to its end, and some of its requests failed.
const WITH_ERRORS: u8 = 4;
/// Where the proxy is in the examples.
const PROXY: &str = "127.0.0.1:8080";
/// Where `origin` puts its files and `run` looks for the root.
const DIRECTORY: &str = "./sekisho-load";

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Be the cloud service: an HTTPS server for `load run` to ask, behind the proxy
    #[command(after_help = ORIGIN_HELP)]
    Origin(Origin),
    /// Be the clients: make requests through the proxy, and say how it went
    #[command(after_help = run_help())]
    Run(Box<Run>),
}

const ORIGIN_HELP: &str = "\
It answers GET / with 13 octets, GET /bytes/N with N octets (at most 16 GiB), and POST /sink with the number of octets it
read. HTTP/2 and HTTP/1.1. It runs until Ctrl-C.

Examples:
  sekisho load origin
  sekisho load origin --listen 10.20.0.9:8443 --name load.test --name load2.test";

const RUN_HELP: &str = "\
Without --rate each connection asks as soon as it was answered (closed loop). With it requests begin at moments fixed
beforehand, and a latency counts from the moment the request was meant to begin, so that a stall of the proxy is not left out;
what finds every connection busy waits, and beyond two seconds' worth of waiting fails as not_sent.

The proxy's address and the target have to be loopback, private (RFC 1918, fc00::/7) or link-local. The target's name is
resolved by the proxy, out of this tool's sight. So a name passes if it ends in .test, .invalid, .localhost, .local,
.internal or .home.arpa, or if this machine resolves it and every address is such an address. Else --i-own-the-target has
to be given: load on somebody else's service is an attack.

Exit code: 0 no errors, 4 ended with errors, 1 could not run, or nothing succeeded.

The office day, chosen and not measured; times are means:
{}

Examples:
  sekisho load run --proxy 127.0.0.1:8080 --target https://load.test:8443
  sekisho load run --proxy 127.0.0.1:8080 --target https://load.test:8443 --scenario h1 --rate 2000 --duration 30s
  sekisho load run --proxy 127.0.0.1:8080 --target https://load.test:8443 --scenario idle --connections 9000 --hold 1m
  sekisho load run --proxy 127.0.0.1:8443 --target https://load.test:8443 --via sni    the origin itself, to compare";

fn run_help() -> String {
    RUN_HELP.replace("{}", &office::table())
}

#[derive(clap::Args)]
pub(super) struct Origin {
    /// Where it listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where its certificate files are, made where they are missing
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    dir: PathBuf,
    /// A name of its certificate (again for more)
    #[arg(long = "name", value_name = "NAME", default_value = "load.test", value_parser = dns_name)]
    names: Vec<DnsName>,
}

#[derive(clap::Args)]
pub(super) struct Run {
    /// The proxy; with --via sni what stands in its place
    #[arg(long, value_name = "ADDR")]
    proxy: SocketAddr,
    /// What is asked for, https://NAME:PORT
    #[arg(long, value_name = "URL", value_parser = Target::parse)]
    target: Target,
    /// A root certificate that is trusted, and no other (again for more); for an inspected target the proxy's root
    /// [default: sekisho-load/root.pem]
    #[arg(long = "ca", value_name = "FILE")]
    roots: Vec<PathBuf>,
    /// What the clients do
    #[arg(long, default_value = "new")]
    scenario: Scenario,
    /// How the proxy learns where to go
    #[arg(long, default_value = "connect")]
    via: Via,
    /// End after so many requests
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// End after this time [default: 10s; office: 1m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Requests that are to begin in a second (open loop)
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Connections at a time [default: 8; office: 100 clients]
    #[arg(long, value_name = "N", value_parser = connections)]
    connections: Option<usize>,
    /// HTTP/2 requests under way on one connection (h2)
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = streams)]
    streams: usize,
    /// Octets of one answer (bulk)
    #[arg(long, value_name = "BYTES", default_value_t = 1_048_576, value_parser = clap::value_parser!(u64).range(..=origin::MAX_BYTES))]
    size: u64,
    /// How long connections are held (idle)
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    hold: Duration,
    /// A local address to connect from (again for more, taken in turn); each has about 28,000 ports
    #[arg(long = "client-address", value_name = "IP")]
    client_addresses: Vec<IpAddr>,
    /// Write a page with plots, as one HTML file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write the figures as JSON; without FILE, or with -, on standard output, the summary going to standard error
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// The target is yours to load, though it is not certainly on a network of your own
    #[arg(long)]
    i_own_the_target: bool,
}

fn dns_name(text: &str) -> Result<DnsName, String> {
    DnsName::parse(text.as_bytes()).map_err(|error| error.to_string())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "a number and ms, s, m or h is due, such as 30s".to_owned())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3600))),
        _ => Err("a number and ms, s, m or h is due, such as 30s".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number is due".to_owned())?;
    if (0.01..=10_000_000.0).contains(&rate) { Ok(rate) } else { Err("from 0.01 to 10000000".to_owned()) }
}

fn connections(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| "from 1 to 1000000".to_owned())
}

fn streams(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1_000).contains(n)).ok_or_else(|| "from 1 to 1000".to_owned())
}

pub(super) fn load(command: Command) -> ExitCode {
    match command {
        Command::Origin(arguments) => serve(&arguments),
        Command::Run(arguments) => make(*arguments),
    }
}

fn serve(arguments: &Origin) -> ExitCode {
    telemetry::init("warn");
    let identity = match Identity::in_directory(&arguments.dir, &arguments.names, SystemTime::now().into()) {
        Ok(identity) => identity,
        Err(error) => return fail(&error),
    };
    run::raise_descriptor_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    runtime.block_on(async {
        let bound = TcpListener::bind(arguments.listen).await;
        let (listener, address) = match bound.and_then(|bound| bound.local_addr().map(|address| (bound, address))) {
            Ok(bound) => bound,
            Err(error) => {
                return fail(&format!(
                    "cannot listen on {}: {error}; choose another with --listen ADDR",
                    arguments.listen
                ));
            }
        };
        say(&invitation(&identity, &arguments.names, address));
        origin::serve(listener, identity).await;
        DONE.into()
    })
}

/// A whole sekisho.toml for a first try, and what to run then.
fn invitation(identity: &Identity, names: &[DnsName], address: SocketAddr) -> String {
    let first = names.first().map_or("load.test", DnsName::as_str);
    let root = std::path::absolute(&identity.root).unwrap_or_else(|_| identity.root.clone());
    let root = root.display();
    let (ip, port) = (address.ip(), address.port());
    let mut text = format!("ready: https://{first}:{port} is on {address}\n");
    if identity.made == Made::Now {
        let _ = writeln!(text, "{root} is new: a proxy that was told of an older one has to be told again");
    }
    let list: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let hosts: Vec<String> = list.iter().map(|name| format!("{name} = [\"{ip}\"]\n")).collect();
    let _ = write!(
        text,
        "\nThis is a whole sekisho.toml for a first try. In one of your own, put each line into the table that is there.\n\
         (そのまま試せる設定ファイルの例です。既存の設定には、該当する表に各行を加えてください)\n\n\
         [[listener]]\naddress = \"{PROXY}\"\n\n\
         [[clients]]\nname = \"load\"\nnetworks = [\"127.0.0.0/8\"]       # where `load run` is (試験端末)\n\n\
         [resolver.hosts]\n{}\n\
         [upstream]\nextra_roots = [\"{root}\"]\nallow_addresses = [\"{ip}/{}\"]\n\n\
         [limits.per_client]                 # one address plays all clients; remove after the test (試験後に削除)\n\
         connections = 20000\nnew_connections_per_second = 100000\nburst = 100000\nrequests_per_second = 100000\n\n\
         [[service]]\nname = \"Load test\"\nhosts = [{}]\nports = [{port}]\n\n\
         Then (次に実行):\n\n  sekisho run --config sekisho.toml\n  \
         sekisho load run --proxy {PROXY} --target https://{first}:{port} --ca {root}",
        hosts.concat(),
        if ip.is_ipv4() { 32 } else { 128 },
        list.join(", ")
    );
    text
}

fn make(arguments: Run) -> ExitCode {
    let owned = arguments.i_own_the_target;
    let files = Files { json: arguments.json.clone(), report: arguments.report.clone() };
    let plan = match plan(arguments) {
        Ok(plan) => plan,
        Err(why) => return fail(&why),
    };
    if let (false, Err(why)) = (owned, guard::check(&plan)) {
        return fail(&format!(
            "{why}. Load on somebody else's service is an attack; if this one is yours, say so with --i-own-the-target"
        ));
    }
    let outcome = match run::run(&plan, |event| progress(&plan, &event)) {
        Ok(outcome) => outcome,
        Err(error) => return fail(&error),
    };
    conclude(&plan, &Summary::of(&plan, &outcome), &files)
}

fn plan(arguments: Run) -> Result<Plan, &'static str> {
    let (elapsed, connections) = match arguments.scenario {
        Scenario::Office if arguments.requests.is_some() => {
            return Err("office goes by the clock: give it --duration instead of --requests");
        }
        Scenario::Office | Scenario::Idle if arguments.rate.is_some() => {
            return Err("--rate is for new, h1, h2, bulk and refused: office and idle have a pace of their own");
        }
        Scenario::Office => (Duration::from_secs(60), 100),
        _ => (Duration::from_secs(10), 8),
    };
    let roots =
        if arguments.roots.is_empty() { vec![Path::new(DIRECTORY).join(origin::ROOT)] } else { arguments.roots };
    Ok(Plan {
        proxy: arguments.proxy,
        target: arguments.target,
        via: arguments.via,
        scenario: arguments.scenario,
        until: arguments.requests.map_or(Until::Elapsed(arguments.duration.unwrap_or(elapsed)), Until::Requests),
        rate: arguments.rate,
        connections: arguments.connections.unwrap_or(connections),
        streams: arguments.streams,
        size: arguments.size,
        hold: arguments.hold,
        client_addresses: arguments.client_addresses,
        roots,
    })
}

fn progress(plan: &Plan, event: &Event<'_>) {
    match event {
        Event::Open { sessions } if plan.scenario == Scenario::Idle => say(&format!("holding {sessions}")),
        Event::Open { .. } => {}
        Event::Second(second) if std::io::stderr().is_terminal() => complain(&line(second)),
        Event::Second(_) => {}
    }
}

fn line(second: &Second) -> String {
    let per_second = |count: u64| count as f64 / second.seconds.max(0.001);
    format!(
        "{:6.0} s  {:9.0} requests/s  {:9.1} Mbit/s  p50 {:7} µs  p99 {:7} µs  errors {}",
        second.at,
        per_second(second.requests),
        per_second(second.bytes_received + second.bytes_sent) * 8.0 / 1e6,
        second.p50_us,
        second.p99_us,
        second.errors
    )
}

/// What is written besides the summary.
struct Files {
    json: Option<PathBuf>,
    report: Option<PathBuf>,
}

fn conclude(plan: &Plan, summary: &Summary, files: &Files) -> ExitCode {
    if let Some(file) = &files.report {
        let page = report::page(plan, summary, Machine::this(), SystemTime::now().into());
        if let Err(error) = std::fs::write(file, page) {
            complain(summary.to_text().trim_end());
            return fail(&format!("cannot write {}: {error}", file.display()));
        }
    }
    match files.json.as_deref() {
        Some(file) if file == Path::new("-") => {
            complain(summary.to_text().trim_end());
            say(&summary.to_json());
        }
        Some(file) => {
            say(&summary.to_text());
            if let Err(error) = std::fs::write(file, summary.to_json() + "\n") {
                return fail(&format!("cannot write {}: {error}", file.display()));
            }
        }
        None => say(&summary.to_text()),
    }
    if summary.requests == 0 {
        let first = summary.firsts.values().next().map_or("nothing was asked for", String::as_str);
        return fail(&format!("not one request succeeded: {first}"));
    }
    if summary.errors.is_empty() { DONE.into() } else { WITH_ERRORS.into() }
}
