//! What the targets that play a whole inspected connection share: the proxy's side of one without its TLS, and the arithmetic of
//! its record. Paused time: what waits for a limit waits no longer than it takes to see that nothing else is to be done.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use sekisho::addrs::ClientAddr;
use sekisho::admit::Subjects;
use sekisho::config;
use sekisho::drain::Drain;
use sekisho::exchange::patience::Deadlines;
use sekisho::inspect::scope::{Ruling, Scope};
use sekisho::names::Authority;
use sekisho::policy::{Claim, Decision, Destination};
use sekisho::pressure::Pressure;
use sekisho::record::{Conservation, Fields, Recorder};
use tokio::runtime::Runtime;

pub const HOST: &str = "login.example.jp";
/// The field that is set, and what a client must never get past it.
pub const OURS: &str = "restrict-access-to-tenants";
pub const TENANT: &str = "city.example.lg.jp";

const CONFIG: &str = r#"
[[listener]]
address = "127.0.0.1:8080"
[[clients]]
name = "office"
networks = ["10.0.0.0/8"]
[[service]]
name = "Sign-in"
hosts = ["login.example.jp"]
mode = "inspect"
[[service.header]]
name = "Restrict-Access-To-Tenants"
value = "city.example.lg.jp"
[issuing_ca]
certificate = "ca.pem"
key = "ca.key"
[record]
path = "access.jsonl"
"#;

/// Kept from one input to the next.
pub struct Stage {
    pub runtime: Runtime,
    pub recorder: Recorder,
    record: PathBuf,
    subjects: Arc<Subjects>,
    pressure: Arc<Pressure>,
    deadlines: Deadlines,
    destination: Destination,
    ruling: Arc<ArcSwap<Ruling>>,
    played: u64,
}

impl Stage {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sekisho-fuzz-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("sekisho.toml");
        fs::write(&file, CONFIG).expect("written");
        let config = config::load(&file, config::Scope::WithoutIssuingCa, SystemTime::now()).expect("a configuration");
        let record = config.record.path.clone();
        // Of a process that had this number before.
        let _ = fs::remove_file(&record);
        let recorder = Recorder::start(config.record, Fields::default()).expect("a record");
        let authority = Authority::parse(format!("{HOST}:443").as_bytes()).expect("an authority");
        let Decision::Inspect(permit) = config.policy.decide(client(), &Claim::Connect(authority)) else {
            panic!("{HOST} is inspected");
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        Self {
            runtime: runtime.expect("a runtime"),
            recorder,
            record,
            subjects: Subjects::unlimited(),
            pressure: Pressure::new(&config.pressure),
            deadlines: config.inspect.deadlines,
            destination: permit.destination().clone(),
            ruling: Arc::new(ArcSwap::from_pointee(Ruling { policy: config.policy, revision: config.revision })),
            played: 0,
        }
    }

    /// The scope of one more connection.
    pub fn scope(&mut self) -> Arc<Scope> {
        self.played += 1;
        if self.played.is_multiple_of(4096) {
            // The writer makes it anew; what was in it is of no use.
            let _ = fs::remove_file(&self.record);
        }
        if self.recorder.snapshot().queue_length > 1024 {
            self.runtime.block_on(self.recorder.flush());
        }
        Arc::new(Scope {
            client: client(),
            destination: self.destination.clone(),
            ruling: Arc::clone(&self.ruling),
            reloads: tokio::sync::watch::Sender::new(0).subscribe(),
            subjects: Arc::clone(&self.subjects),
            recorder: self.recorder.clone(),
            drain: Drain::never(),
            pressure: Arc::clone(&self.pressure),
            deadlines: self.deadlines,
            common: Fields::default(),
            connection: Arc::default(),
            standing: ArcSwapOption::empty(),
            withdrawn: false.into(),
            limited: 0.into(),
            refusal: None,
        })
    }

    /// The requests recorded so far.
    pub fn requests(&self) -> Conservation {
        let requests = self.recorder.snapshot().requests;
        assert!(requests.holds() && requests.live == 0, "a request without its record: {requests:?}");
        requests
    }
}

fn client() -> ClientAddr {
    ClientAddr::new("10.0.0.1:4711".parse().expect("an address"))
}
