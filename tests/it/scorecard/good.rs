//! Only the well-behaved clients belong here: the load tool in open loop, so that a latency counts from when a request was due.

use std::process::Stdio;

use serde_json::Value;

use super::super::support::Sekisho;
use super::super::support::load_origin::LoadOrigin;
use super::super::support::sekisho::binary;
use super::machines;

/// Their own addresses, on which no attack's limit falls.
const TUNNELLING: &str = "127.0.0.2";
const INSPECTED: &str = "127.0.0.3";
const REFUSED: &str = "127.0.0.4";

/// Inspected requests a second beside an attack.
pub const QUIET: u32 = 150;
/// And while tunnels are held: with the new tunnels and the refusals, a thousand.
pub const BUSY: u32 = 870;

/// What they saw.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    pub requests: u64,
    pub failed: u64,
    /// New tunnels, 80 a second: below what `limits.per_client` lets one address open.
    pub tunnel_p99: u64,
    /// Requests on kept inspected connections.
    pub inspected_p99: u64,
    /// What the proxy they use took meanwhile, in hundredths of a processor.
    pub processor: u64,
}

impl Figures {
    /// Of several runs: all requests, and the middle one's figures.
    pub fn of(runs: &[Self]) -> Self {
        let middle = |of: fn(&Self) -> u64| {
            let mut all: Vec<u64> = runs.iter().map(of).collect();
            all.sort_unstable();
            all[all.len() / 2]
        };
        Self {
            requests: runs.iter().map(|run| run.requests).sum(),
            failed: runs.iter().map(|run| run.failed).sum(),
            tunnel_p99: middle(|run| run.tunnel_p99),
            inspected_p99: middle(|run| run.inspected_p99),
            processor: middle(|run| run.processor),
        }
    }
}

/// Both at once for so long.
pub async fn run(sekisho: &Sekisho, origin: &LoadOrigin, seconds: u64, inspected: u32) -> Figures {
    let root = origin.root().display().to_string();
    let issuing = sekisho.path("ca-root.pem").display().to_string();
    let tunnel = ["--scenario", "new", "--rate", "80", "--connections", "16", "--client-address", TUNNELLING];
    let inspected = inspected.to_string();
    let inspect = ["--scenario", "h1", "--rate", &inspected, "--connections", "8", "--client-address", INSPECTED];
    let (tunnel, inspect) = tokio::join!(
        one(sekisho, origin, "load.test", &root, seconds, &tunnel),
        one(sekisho, origin, "inspected.test", &issuing, seconds, &inspect),
    );
    Figures {
        requests: number(&tunnel, "/requests") + number(&inspect, "/requests"),
        failed: failed(&tunnel) + failed(&inspect),
        tunnel_p99: number(&tunnel, "/latency_us/p99"),
        inspected_p99: number(&inspect, "/latency_us/p99"),
        processor: 0,
    }
}

/// One that asks for what is refused, 50 times a second: its failures are verdicts that were wrong.
pub async fn refused(sekisho: &Sekisho, origin: &LoadOrigin, seconds: u64) -> Figures {
    let root = origin.root().display().to_string();
    let arguments = ["--scenario", "refused", "--rate", "50", "--connections", "4", "--client-address", REFUSED];
    let json = one(sekisho, origin, "load.test", &root, seconds, &arguments).await;
    Figures { requests: number(&json, "/requests"), failed: failed(&json), ..Figures::default() }
}

fn number(json: &Value, pointer: &str) -> u64 {
    json.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {json}"))
}

/// What was never sent is in the latency of what was: the generator's own connections were all busy for two seconds.
fn failed(json: &Value) -> u64 {
    let errors = json["errors"].as_object().into_iter().flatten().filter(|(kind, _)| *kind != "not_sent");
    errors.filter_map(|(_, count)| count.as_u64()).sum()
}

async fn one(
    sekisho: &Sekisho,
    origin: &LoadOrigin,
    host: &str,
    root: &str,
    seconds: u64,
    arguments: &[&str],
) -> Value {
    let mut command = machines::at_once(&binary());
    command
        .args(["load", "run", "--proxy", &sekisho.addr().to_string(), "--ca", root])
        .args(["--target", &format!("https://{host}:{}", origin.port), "--duration", &format!("{seconds}s"), "--json"])
        .args(arguments)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr)))
}
