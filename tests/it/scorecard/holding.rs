//! Only the long hold belongs here: idle tunnels kept open while the configuration is reloaded, every other time a broken one,
//! and requests go on.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::Value;

use super::super::support::load_origin::LoadOrigin;
use super::super::support::{Config, Sekisho};
use super::{Length, good};

#[derive(Debug)]
pub struct Outcome {
    pub tunnels: u64,
    pub seconds: u64,
    pub reloads: usize,
    pub ended_early: u64,
    pub requests: u64,
    pub failed: u64,
}

pub async fn run(config: &Config, sekisho: &mut Sekisho, origin: &LoadOrigin, length: Length) -> Outcome {
    // All of them from one address, and as quickly as they come.
    let roomy = ["connections", "new_connections_per_second", "burst", "requests_per_second"];
    let config = roomy.iter().fold(config.clone(), |config, key| config.set("limits.per_client", key, "20000"));
    sekisho.reload(&config).await;
    let (tunnels, hold) = (length.tunnels.to_string(), format!("{}s", length.hold_seconds));
    let arguments = ["--scenario", "idle", "--connections", &tunnels, "--hold", &hold];
    let mut holder = origin
        .command(sekisho.addr().port(), &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut said = BufReader::new(holder.stdout.take().expect("piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("text");
    assert_eq!(line.trim_end(), format!("holding {tunnels}"));
    let mut outcome = Outcome {
        tunnels: length.tunnels,
        seconds: length.hold_seconds,
        reloads: length.reloads,
        ended_early: 0,
        requests: 0,
        failed: 0,
    };
    let seconds = length.hold_seconds;
    let (figures, refused, ()) = tokio::join!(
        good::run(sekisho, origin, seconds, good::BUSY),
        good::refused(sekisho, origin, seconds),
        reloads(&config, sekisho, length)
    );
    (outcome.requests, outcome.failed) = (figures.requests + refused.requests, figures.failed + refused.failed);
    // A thousand a second; what a machine that stands still for a moment does not send is no failed request, and is told.
    assert!(outcome.requests >= seconds * 900, "hardly a load: {} requests in {seconds} s", outcome.requests);
    said.read_to_string(&mut line).expect("text");
    holder.wait().expect("waited");
    let json = std::fs::read_to_string(origin.dir.path().join("out.json")).expect("figures");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    outcome.ended_early =
        json["errors"].as_object().map_or(0, |errors| errors.values().filter_map(Value::as_u64).sum());
    assert_eq!((outcome.ended_early, outcome.failed), (0, 0), "{json}");
    outcome
}

/// Evenly over nine tenths of the hold; each is waited for by what the metrics count of it.
async fn reloads(config: &Config, sekisho: &Sekisho, length: Length) {
    let good = config.render(&sekisho.listeners, sekisho.admin);
    let pause =
        std::time::Duration::from_secs(length.hold_seconds) * 9 / 10 / u32::try_from(length.reloads).expect("few");
    for n in 0..length.reloads {
        let counted = if n % 2 == 0 { "sekisho_reloads_failed_total" } else { "sekisho_reloads_total" };
        let before = sekisho.metrics().await[counted];
        sekisho.replace_config(&if n % 2 == 0 { format!("{good}\nbroken = [") } else { format!("{good}\n# {n}\n") });
        sekisho.signal(rustix::process::Signal::HUP);
        super::super::support::within("a reload", async {
            while sekisho.metrics().await[counted] <= before {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        tokio::time::sleep(pause).await;
    }
}
