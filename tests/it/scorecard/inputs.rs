//! Only bad inputs belong here: every seed of the fuzzers that a client can send, as octets to the running proxy, by a client that then
//! closes. Seeds that no client sends (answers, configurations, policies) are left out.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::super::corpus::seeds;
use super::super::support::client::{Tls, connect_from};
use super::super::support::h2c::preface;
use super::super::support::hellos::Hello;
use super::super::support::{Sekisho, within};

/// The name in the recorded hellos.
pub const TUNNELLED: &str = "allowed.test";
/// With a port of five digits as long as the name in the requests of the seeds, in whose place it is put: what asks for another
/// host than its connection's does not come far.
pub const INSPECTED: &str = "login.test";
const IN_SEEDS: &[u8] = b"login.example.jp";

const SENDER: &str = "127.0.0.4";
/// A client to whom nothing is said for so long closes.
const QUIET: Duration = Duration::from_millis(50);

pub struct Outcome {
    pub seeds: usize,
    /// Some seeds are sent in more than one place.
    pub tried: usize,
    /// By the counters, from the first to the last input.
    pub attempts: f64,
    pub records: f64,
}

/// Where octets are sent.
#[derive(Clone, Copy)]
enum Place {
    Listener,
    /// Behind the 200 of a tunnel.
    Tunnel,
    /// Inside inspected TLS of this protocol.
    Inspected(&'static str),
}

struct Input {
    seed: String,
    place: Place,
    octets: Vec<u8>,
}

/// After each the proxy has ended its connection, and still answers.
pub async fn run(sekisho: &Sekisho, port: u16) -> Outcome {
    let inputs = inputs(port);
    let (attempts, records) = counted(sekisho).await;
    for Input { seed, place, octets } in &inputs {
        within(&format!("the end of the connection of {seed}"), send(sekisho, port, *place, octets)).await;
        let (_, answer) = sekisho.connect("denied.test:443").await;
        assert_eq!(answer.status, 403, "after {seed}: {answer:?}");
    }
    let after = counted(sekisho).await;
    let mut seeds: Vec<_> = inputs.iter().map(|input| &input.seed).collect();
    seeds.dedup();
    Outcome { seeds: seeds.len(), tried: inputs.len(), attempts: after.0 - attempts, records: after.1 - records }
}

/// Attempts and records so far, once no attempt is in progress.
async fn counted(sekisho: &Sekisho) -> (f64, f64) {
    let metrics = sekisho.quiet().await;
    let sum = |counter: &str| -> f64 {
        let of = |action: &str| format!("{counter}{{action=\"{action}\"");
        let names = [of("connection"), of("request")];
        metrics
            .iter()
            .filter(|(name, _)| names.iter().any(|start| name.starts_with(start)))
            .map(|(_, value)| value)
            .sum()
    };
    (sum("sekisho_attempts_total"), sum("sekisho_records_total"))
}

fn inputs(port: u16) -> Vec<Input> {
    let mut inputs = Vec::new();
    let mut add = |seed: &str, place, octets: &[&[u8]]| {
        inputs.push(Input { seed: seed.to_owned(), place, octets: octets.concat() });
    };
    let at = format!("{INSPECTED}:{port}");
    assert_eq!(at.len(), IN_SEEDS.len(), "lengths in the seeds stay true");
    // The first octet, of a hello two, is for the fuzz target.
    for (seed, data) in seeds("connect_head") {
        add(&seed, Place::Listener, &[&data[1..]]);
    }
    for (seed, data) in seeds("client_hello") {
        add(&seed, Place::Tunnel, &[&data[2..]]);
    }
    for (seed, data) in seeds("http1_request") {
        add(&seed, Place::Listener, &[&data[1..]]);
        add(&seed, Place::Inspected("http/1.1"), &[&data[1..]]);
    }
    for (seed, data) in seeds("inspect_h1") {
        add(&seed, Place::Inspected("http/1.1"), &[&put(&data[1..], &at)]);
    }
    for (seed, data) in seeds("inspect_h2") {
        add(&seed, Place::Inspected("h2"), &[&preface(), &put(&data[1..], &at)]);
    }
    let head = format!("POST /sink HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (seed, data) in seeds("chunked") {
        add(&seed, Place::Inspected("http/1.1"), &[head.as_bytes(), &data[1..]]);
    }
    for (seed, name) in seeds("names") {
        add(&seed, Place::Listener, &[b"CONNECT ", &name, b":443 HTTP/1.1\r\nHost: ", &name, b":443\r\n\r\n"]);
        add(&seed, Place::Listener, &[b"GET http://", &name, b"/ HTTP/1.1\r\nHost: ", &name, b"\r\n\r\n"]);
        add(&seed, Place::Tunnel, &[&Hello::bare().sni(&name).bytes()]);
        add(&seed, Place::Inspected("http/1.1"), &[b"GET / HTTP/1.1\r\nHost: ", &name, b"\r\n\r\n"]);
    }
    inputs
}

/// `at` in the place of the name.
fn put(octets: &[u8], at: &str) -> Vec<u8> {
    let mut octets = octets.to_vec();
    let found: Vec<usize> =
        octets.windows(IN_SEEDS.len()).enumerate().filter(|(_, part)| *part == IN_SEEDS).map(|(at, _)| at).collect();
    for start in found {
        octets[start..start + at.len()].copy_from_slice(at.as_bytes());
    }
    octets
}

async fn send(sekisho: &Sekisho, port: u16, place: Place, octets: &[u8]) {
    let mut wire = connect_from(SENDER, sekisho.addr()).await;
    let host = match place {
        Place::Listener => return say(wire.io, octets).await,
        Place::Tunnel => TUNNELLED,
        Place::Inspected(_) => INSPECTED,
    };
    wire.send(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")).await;
    let answer = wire.response("CONNECT").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    match place {
        Place::Inspected(protocol) => {
            let tls = Tls::named(host).trusting(&sekisho.ca()).alpn(&[protocol]);
            say(tls.over(wire).await.io, octets).await;
        }
        _ => say(wire.io, octets).await,
    }
}

/// Says it, hears the answers until nothing more comes, closes, and waits for the other end to close. What is refused may be closed
/// before all was said.
async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, octets: &[u8]) {
    if stream.write_all(octets).await.is_ok() && stream.flush().await.is_ok() {
        let mut answer = [0; 16 * 1024];
        while matches!(timeout(QUIET, stream.read(&mut answer)).await, Ok(Ok(1..))) {}
        let _ = stream.shutdown().await;
    }
    let _ = stream.read_to_end(&mut Vec::new()).await;
}
