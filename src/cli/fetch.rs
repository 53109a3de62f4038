//! `sekisho catalog fetch`: the vendor is asked by the proxy's own way to a destination (resolve → vet → connect → verify), and what
//! comes is staged like a file that was carried in.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::feed::{Source, judge, open_folder, stage};
use super::reviewed::approve_by_leave;
use super::{ConfigFile, DONE, complain, fail, say};
use crate::addrs::ClientAddr;
use crate::admit::{Counted, Subjects};
use crate::config::{Config, Scope};
use crate::feed::OWN_VERSION;
use crate::feed::changes::Announced;
use crate::feed::endpoints::{MAX_OCTETS, Refusal};
use crate::feed::poll::{MAX_VERSION, Poll, is_version, latest};
use crate::feed::shelf::Shelf;
use crate::feed::state::State;
use crate::names::Authority;
use crate::policy::{
    Claim, Decision, GroupSource, HostPattern, Inspect, Mode, Permit, Policy, PolicySource, ServiceSource,
};
use crate::upstream::resolve::Resolver;
use crate::upstream::verify::{self, VerifyError};
use crate::upstream::vet::SelfAddrs;
use crate::upstream::{DialError, dial};

/// For one question, from the look-up to the last octet.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is missing without `/changes`.
const NO_DAY: &str = "no day is known from which on a host is used.";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Take it though more than half of the hosts, or a whole service area, are gone
    #[arg(long)]
    accept_shrunk: bool,
    #[command(flatten)]
    config: ConfigFile,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("the exchange failed ({0})")]
    Exchange(#[from] hyper::Error),
    #[error("no whole answer of at most {most} octets ({detail})")]
    Content { most: usize, detail: String },
    #[error("no whole answer within {PATIENCE:?}")]
    Late,
}

struct Answer {
    status: StatusCode,
    retry_after: Option<String>,
    content: Bytes,
}

pub(super) fn fetch(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let config = arguments.config.load(Scope::WithoutIssuingCa)?;
    let file = config.file.display();
    let Some(folder) = &config.catalog.folder else {
        return Err(fail(&format!(
            "{file} has no folder for feeds: add [catalog] with folder = \"catalog.d\" and make that folder"
        )));
    };
    let opened = open_folder(folder, Some(config.file.clone()))?;
    let shelf = &opened.shelf;
    let Some(server) = &config.catalog.feed else { return Err(fail(&"[catalog] feed names no server")) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| fail(&format!("the runtime could not be started: {error}")))?;
    let in_force = shelf.in_force().map_err(|error| fail(&error))?;
    let poll = Poll::begin(shelf, arguments.accept_shrunk, SystemTime::now())
        .map_err(|error| fail(&format!("{}: {error}", name(server))))?;
    let mut vendor = Vendor { config: &config, server, shelf, runtime, poll };
    let answer = vendor.get("/version/Worldwide", MAX_VERSION).map_err(|why| fail(&why))?;
    let version = latest(&answer).map_err(|refusal| fail(&format!("{}/version/Worldwide: {refusal}", name(server))))?;
    let since = version_of(in_force.as_ref());
    let known = in_force.and_then(|state| state.staged).and_then(|staged| staged.version);
    let known = known.into_iter().chain(vendor.poll.version.clone()).max();
    if known.is_some_and(|known| version <= known) {
        say(&format!("nothing newer than version {version}, which was fetched before"));
        return Ok(DONE.into());
    }
    let content = vendor.get("/endpoints/Worldwide", MAX_OCTETS).map_err(|why| fail(&why))?;
    let origin = format!("{}/endpoints/Worldwide", name(server));
    let source = Source { origin: &origin, version: Some(version.clone()), accept_shrunk: arguments.accept_shrunk };
    let mut staged = match judge(shelf, &content, &source) {
        Ok(staged) => staged,
        Err(refused) => {
            if refused.shrunk {
                vendor.poll.shrunk(shelf).map_err(|error| fail(&error))?;
            }
            return Err(refused.code);
        }
    };
    staged.announced = vendor.announced(since.as_deref());
    stage(shelf, &staged)?;
    vendor.poll.staged(shelf, &version).map_err(|error| fail(&error))?;
    if !arguments.accept_shrunk {
        approve_by_leave(&opened, &config.catalog.auto_approve)?;
    }
    Ok(DONE.into())
}

/// What is in force, as the vendor numbers it; a list that was carried in says nothing of it.
fn version_of(in_force: Option<&State>) -> Option<String> {
    match in_force.and_then(|state| state.staged.as_ref()) {
        Some(staged) => staged.version.clone().filter(|version| is_version(version)),
        None => Some(OWN_VERSION.to_owned()),
    }
}

/// Whom is asked, and how.
struct Vendor<'a> {
    config: &'a Config,
    server: &'a Authority,
    shelf: &'a Shelf,
    runtime: Runtime,
    poll: Poll,
}

impl Vendor<'_> {
    /// What has changed since that version. A list is of use without it: why there is none is only said.
    fn announced(&mut self, since: Option<&str>) -> Option<Announced> {
        let Some(since) = since else {
            complain(&format!(
                "note: the list in force came from a file, and its version is not known: /changes was not asked, and {NO_DAY}"
            ));
            return None;
        };
        let path = format!("/changes/Worldwide/{since}");
        let refused =
            |refusal: Refusal| format!("{}{path} is refused whole:\n  {}", name(self.server), refusal.0.join("\n  "));
        let content = self.get(&path, MAX_OCTETS);
        let announced = content.and_then(|content| Announced::parse(&content).map_err(refused));
        announced.map_err(|why| complain(&format!("warning: {why}\nThe list is kept without it: {NO_DAY}"))).ok()
    }

    /// The content of a 200, or why there is none.
    fn get(&mut self, path: &str, most: usize) -> Result<Bytes, String> {
        let url = format!("{}{path}", name(self.server));
        let target = format!("{path}?ClientRequestId={}", self.poll.client_request_id);
        let asked =
            self.runtime.block_on(async { timeout(PATIENCE, ask(self.config, self.server, &target, most)).await });
        let answer = asked.unwrap_or(Err(AskError::Late)).map_err(|error| format!("{url}: {error}"))?;
        match answer.status {
            StatusCode::OK => Ok(answer.content),
            StatusCode::TOO_MANY_REQUESTS => {
                let until = self.poll.refused(self.shelf, answer.retry_after.as_deref(), SystemTime::now());
                let until = until.map_err(|error| error.to_string())?;
                Err(format!("{url}: 429, it was asked too often; not again before {until}"))
            }
            status => Err(format!("{url}: it answered {}, and only 200 is taken", status.as_u16())),
        }
    }
}

/// As a URL has it.
fn name(server: &Authority) -> String {
    if server.port == 443 { format!("https://{}", server.host) } else { format!("https://{server}") }
}

/// By a policy of its own that permits this one destination: there is no other way to one.
fn permit(server: &Authority) -> Option<Permit<Inspect>> {
    let myself = ClientAddr::new((Ipv4Addr::LOCALHOST, 0).into());
    let group = GroupSource { name: "fetch".to_owned(), networks: vec![myself.ip().into()], line: 0 };
    let service = ServiceSource {
        name: "fetch".to_owned(),
        line: 0,
        hosts: vec![(HostPattern::parse(&server.host.to_string()).ok()?, 0)],
        ports: vec![server.port],
        mode: Mode::Inspect,
        clients: None,
        plain_http: false,
        headers: Vec::new(),
    };
    let policy = Policy::compile(PolicySource { groups: vec![group], services: vec![service] }).ok()?;
    match policy.decide(myself, &Claim::Connect(server.clone())) {
        Decision::Inspect(permit) => Some(permit),
        Decision::Deny(_) | Decision::Tunnel(_) | Decision::Plain(_) => None,
    }
}

async fn ask(config: &Config, server: &Authority, target: &str, most: usize) -> Result<Answer, AskError> {
    let content = |detail: String| AskError::Content { most, detail };
    let permit = permit(server).ok_or_else(|| content("the server is no destination".to_owned()))?;
    let destination = permit.destination();
    let selves = SelfAddrs::new(config.own_addresses());
    let resolver = Resolver::new(&config.resolver);
    // One look-up of the administrator's own: no client's limit is asked.
    let look_up = || Subjects::unlimited().hold(Counted::DnsLookups);
    let connection = dial(destination, &resolver, look_up, &config.guard, &config.dial, &selves).await?;
    let upstream = verify::inspect(connection, destination, vec![b"http/1.1".to_vec()], &config.verify).await?;
    let request = Request::get(target)
        .header(header::HOST, name(server).trim_start_matches("https://"))
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("sekisho/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| content(error.to_string()))?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(upstream.into_stream())).await?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), most).collect().await;
        let content = body.map_err(|error| AskError::Content { most, detail: error.to_string() })?.to_bytes();
        Ok::<_, AskError>(Answer { status, retry_after, content })
    };
    // The sender is gone with the exchange, and the driver ends after it.
    let (answer, _) = tokio::join!(exchange, driver);
    answer
}
