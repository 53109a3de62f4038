//! What can regress silently on the way to a decision: a name parsed, a ClientHello read, a CONNECT decided among 10³ and 10⁶
//! patterns with names drawn at random. Prints nanoseconds an operation: the median of eleven batches, and the spread.
//!
//! `cargo bench --bench decision`. Wall time on a shared machine: good for a ratio between two commits, not for a figure to quote.

use std::hint::black_box;
use std::time::Instant;

use sekisho::addrs::ClientAddr;
use sekisho::identify::client_hello::{HelloReader, Progress};
use sekisho::names::{Authority, DnsName, Host};
use sekisho::policy::{Claim, Decision, GroupSource, HostPattern, Mode, Policy, PolicySource, ServiceSource};

const BATCHES: usize = 11;

fn main() {
    measure("DnsName::parse, 28 octets", 200_000, |_| {
        black_box(DnsName::parse(black_box(b"Login.MicrosoftOnline.example")).is_ok())
    });
    let wire = include_bytes!("../tests/fixtures/hellos/chromium.bin");
    measure("HelloReader::advance, a browser's hello", 20_000, |_| {
        matches!(HelloReader::default().advance(black_box(wire)), Progress::Done(_))
    });
    for (patterns, star, below) in
        [(1_000_u32, "", ""), (1_000_000, "", ""), (1_000, "*.", "www."), (1_000_000, "*.", "www.")]
    {
        let policy = policy(patterns, star);
        let client = ClientAddr::new(([10, 20, 0, 7], 4711).into());
        let claims: Vec<Claim> = (0..4096_u32)
            // A multiplier without a common factor spreads the draws over the whole list.
            .map(|n| claim(&format!("{below}{}", host(n.wrapping_mul(2_654_435_761) % patterns))))
            .collect();
        measure(&format!("Policy::decide among {patterns} patterns {star}host"), 200_000, |n| {
            matches!(policy.decide(client, black_box(&claims[n % claims.len()])), Decision::Tunnel(_))
        });
    }
}

/// Every call must be true: a bench of refusals would measure something else.
#[expect(clippy::print_stdout, reason = "a bench's result")]
fn measure(what: &str, calls: usize, call: impl Fn(usize) -> bool) {
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let began = Instant::now();
            let good = (0..calls).filter(|n| call(*n)).count();
            assert_eq!(good, calls, "{what}");
            began.elapsed().as_nanos() as f64 / calls as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    let (least, median, most) = (batches[0], batches[BATCHES / 2], batches[BATCHES - 1]);
    println!("{what:<50} {median:>9.1} ns   ({least:.1} to {most:.1})");
}

fn host(n: u32) -> String {
    format!("h{n}.s{}.example.jp", n % 977)
}

fn claim(name: &str) -> Claim {
    let name = DnsName::parse(name.as_bytes()).expect("a name");
    Claim::Connect(Authority { host: Host::Name(name), port: 443 })
}

fn policy(patterns: u32, star: &str) -> Policy {
    let hosts =
        (0..patterns).map(|n| (HostPattern::parse(&format!("{star}{}", host(n))).expect("a pattern"), 1)).collect();
    let service = ServiceSource {
        name: "bench".to_owned(),
        line: 1,
        hosts,
        ports: vec![443],
        mode: Mode::Tunnel,
        clients: None,
        plain_http: false,
        headers: Vec::new(),
    };
    let networks = vec!["10.0.0.0/8".parse().expect("a network")];
    let groups = vec![GroupSource { name: "office".to_owned(), networks, line: 1 }];
    Policy::compile(PolicySource { groups, services: vec![service] }).expect("a policy")
}
