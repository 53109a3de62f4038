//! A decision among many patterns, and the record of it.

use std::hint::black_box;
use std::time::SystemTime;

use sekisho::addrs::{ClientAddr, ListenAddr};
use sekisho::names::{Authority, DnsName, Host};
use sekisho::policy::{
    Claim, Decision, GroupSource, HeaderHosts, HostPattern, Mode, Policy, PolicySource, ServiceSource, SetHeader,
};
use sekisho::reason::{Outcome, Reason};
use sekisho::record::{Action, Attempt, Fields, Recorder, Settings, WhenUnwritable};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{Work, repeat};

/// Names drawn: a power of two.
const DRAWS: u32 = 4096;

pub fn decide_among_1e3() -> Work {
    decide_among(1_000)
}

pub fn decide_among_1e5() -> Work {
    decide_among(100_000)
}

pub fn decide_among_1e6() -> Work {
    decide_among(1_000_000)
}

fn decide_among(patterns: u32) -> Work {
    let hosts: Vec<String> = (0..patterns).map(host).collect();
    let policy = policy(&hosts, Mode::Tunnel);
    let claims: Vec<Claim> = (0..DRAWS)
        // A multiplier without a common factor spreads the draws over the whole list, the same ones in every run.
        .map(|n| connect(&host(n.wrapping_mul(2_654_435_761) % patterns)))
        .collect();
    repeat(move |n| {
        let claim = &claims[(n % u64::from(DRAWS)) as usize];
        black_box(matches!(policy.decide(client(), black_box(claim)), Decision::Tunnel(_)))
    })
}

fn host(n: u32) -> String {
    format!("h{n}.s{}.example.jp", n % 977)
}

fn connect(name: &str) -> Claim {
    Claim::Connect(Authority { host: Host::Name(dns_name(name)), port: 443 })
}

pub fn dns_name(name: &str) -> DnsName {
    DnsName::parse(name.as_bytes()).expect("a name")
}

pub fn client() -> ClientAddr {
    ClientAddr::new(([10, 20, 0, 7], 4711).into())
}

/// One service for one group; inspected, it sets what Microsoft's tenant restriction takes.
pub fn policy(hosts: &[String], mode: Mode) -> Policy {
    let header =
        |name: &str, value: &str| SetHeader { name: name.to_owned(), value: value.to_owned(), hosts: HeaderHosts::All };
    let tenant = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let headers = vec![
        header("Restrict-Access-To-Tenants", "city.example.lg.jp,city.onmicrosoft.example"),
        header("Restrict-Access-Context", tenant),
        header("sec-Restrict-Tenant-Access-Policy", "restrict-msa"),
    ];
    let service = ServiceSource {
        name: "bench".to_owned(),
        line: 1,
        hosts: hosts.iter().map(|host| (HostPattern::parse(host).expect("a pattern"), 1)).collect(),
        ports: vec![443],
        mode,
        clients: None,
        plain_http: false,
        headers: if mode == Mode::Inspect { headers } else { Vec::new() },
    };
    let networks = vec!["10.0.0.0/8".parse().expect("a network")];
    let groups = vec![GroupSource { name: "office".to_owned(), networks, line: 1 }];
    Policy::compile(PolicySource { groups, services: vec![service] }).expect("a policy")
}

/// A record in a folder that goes with it.
pub fn recorder() -> (Recorder, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.jsonl");
    let settings = Settings { path, when_unwritable: WhenUnwritable::Deny };
    (Recorder::start(settings, Fields::default()).expect("a record"), folder)
}

/// Only this thread: what is counted happens on it.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The terminal record of a tunnel: begun, filled in as the spine does, serialised and handed to the writer.
pub fn record_line() -> Work {
    let (recorder, folder) = recorder();
    let runtime = runtime();
    Box::new(move |times| {
        // The folder lives as long as its writer.
        let _folder = &folder;
        runtime.block_on(async {
            for _ in 0..times {
                let mut attempt = recorder.begin(Action::Connection).await;
                fill_in(&mut attempt);
                attempt.finish(Outcome::Allowed, None);
            }
        });
    })
}

/// The terminal record of a refusal, as one abuser leaves them by the thousand: nearly all of them are counted together.
pub fn refusal_in_a_flood() -> Work {
    let (recorder, folder) = recorder();
    let runtime = runtime();
    Box::new(move |times| {
        let _folder = &folder;
        runtime.block_on(async {
            for _ in 0..times {
                let mut attempt = recorder.begin(Action::Connection).await;
                attempt.fields.set_source(client());
                attempt.fields.listener = Some(ListenAddr::new(([192, 0, 2, 1], 8080).into()));
                attempt.fields.config_revision = Some("4f2a90c1".into());
                attempt.fields.authority = Some((&b"denied.example:443"[..]).into());
                attempt.fields.domain = Some("denied.example".into());
                attempt.finish(Outcome::Denied, Some(Reason::NotAllowlisted));
            }
        });
    })
}

fn fill_in(attempt: &mut Attempt) {
    let fields = &mut attempt.fields;
    fields.set_source(client());
    fields.client = Some("office".into());
    fields.listener = Some(ListenAddr::new(([192, 0, 2, 1], 8080).into()));
    fields.config_revision = Some("4f2a90c1".into());
    fields.rule_id = Some("bench/tunnel".into());
    fields.rule_name = Some("bench".into());
    fields.mode = Some("tunnel");
    fields.authority = Some((&b"login.microsoftonline.example:443"[..]).into());
    fields.server_name = Some("login.microsoftonline.example".into());
    fields.domain = Some("login.microsoftonline.example".into());
    fields.destination_ip = Some([203, 0, 113, 7].into());
    fields.destination_port = Some(443);
    fields.source_bytes = Some(1_862);
    fields.destination_bytes = Some(48_211);
    fields.server_subject = Some("CN=login.microsoftonline.example".into());
    fields.server_not_after = Some(SystemTime::UNIX_EPOCH);
    fields.upstream_verdict = Some("verified");
}
