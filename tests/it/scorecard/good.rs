//! Only the well-behaved clients belong here: the load tool in open loop, so that a latency counts from when a request was due.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::super::support::Sekisho;
use super::super::support::load_origin::LoadOrigin;
use super::super::support::sekisho::binary;

/// Their own addresses, on which no attack's limit falls.
const TUNNELLING: &str = "127.0.0.2";
const INSPECTED: &str = "127.0.0.3";

/// What they saw.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    pub requests: u64,
    pub failed: u64,
    /// New tunnels, 80 a second: below what `limits.per_client` lets one address open.
    pub tunnel_p99: u64,
    /// Requests on kept inspected connections, 150 a second.
    pub inspected_p99: u64,
}

/// Both at once for so long.
pub async fn run(sekisho: &Sekisho, origin: &LoadOrigin, seconds: u64) -> Figures {
    let root = origin.root().display().to_string();
    let issuing = sekisho.path("ca-root.pem").display().to_string();
    let tunnel = ["--scenario", "new", "--rate", "80", "--connections", "16", "--client-address", TUNNELLING];
    let inspect = ["--scenario", "h1", "--rate", "150", "--connections", "8", "--client-address", INSPECTED];
    let (tunnel, inspect) = tokio::join!(
        one(sekisho, origin, "load.test", &root, seconds, &tunnel),
        one(sekisho, origin, "inspected.test", &issuing, seconds, &inspect),
    );
    let number = |json: &Value, pointer: &str| json.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    // What was never sent is in the latency of what was: the generator's own connections were all busy for two seconds.
    let failed = |json: &Value| -> u64 {
        let errors = json["errors"].as_object().into_iter().flatten().filter(|(kind, _)| *kind != "not_sent");
        errors.filter_map(|(_, count)| count.as_u64()).sum()
    };
    Figures {
        requests: number(&tunnel, "/requests") + number(&inspect, "/requests"),
        failed: failed(&tunnel) + failed(&inspect),
        tunnel_p99: number(&tunnel, "/latency_us/p99"),
        inspected_p99: number(&inspect, "/latency_us/p99"),
    }
}

async fn one(
    sekisho: &Sekisho,
    origin: &LoadOrigin,
    host: &str,
    root: &str,
    seconds: u64,
    arguments: &[&str],
) -> Value {
    let mut command = Command::new(binary());
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
