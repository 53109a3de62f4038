//! Only the reckoning of attempts by records belongs here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::super::support::record::{Record, parse};
use super::super::support::within;
use super::Target;

/// Attempts by the counters.
pub fn begun(metrics: &BTreeMap<String, f64>) -> u64 {
    let begun = metrics.iter().filter(|(name, _)| name.starts_with("sekisho_attempts_total"));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    begun.map(|(_, value)| *value as u64).sum()
}

/// Attempts by the counters, and by the record when the process has ended in order.
pub async fn reconciled(target: &mut Target) -> (u64, u64) {
    let open = |metrics: &BTreeMap<String, f64>| -> f64 {
        let open = metrics.iter().filter(|(name, _)| name.starts_with("sekisho_attempts_in_progress"));
        open.map(|(_, value)| value).sum()
    };
    let sekisho = &mut target.sekisho;
    within("the last attempts", async {
        while open(&sekisho.metrics().await) > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let attempts = begun(&sekisho.metrics().await);
    sekisho.signal(Signal::TERM);
    let status = sekisho.exit().await;
    assert!(status.success(), "{status}: {}", sekisho.stderr());
    let turned = (0..target.turned.get()).map(|turn| sekisho.path(&name(turn)));
    let files = turned.chain([sekisho.path("access.jsonl")]);
    (attempts, files.map(|file| recorded(&file)).sum())
}

/// Has the record begin a file anew, under whatever is going on.
pub async fn turn(target: &Target) {
    let (file, turn) = (target.sekisho.path("access.jsonl"), target.turned.get());
    fs::rename(&file, target.sekisho.path(&name(turn))).expect("renamed");
    target.turned.set(turn + 1);
    target.sekisho.signal(Signal::USR1);
    within("the record's next file", async {
        while fs::metadata(&file).map_or(0, |file| file.len()) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn name(turn: usize) -> String {
    format!("access.{turn}.jsonl")
}

/// Attempts in a file that nobody writes to any more, line by line.
fn recorded(file: &Path) -> u64 {
    let lines = BufReader::new(File::open(file).expect("the record")).lines();
    let counts = lines.map(|line| {
        let records = parse(&format!("{}\n", line.expect("text")));
        records.iter().filter(|record| record.is_terminal()).map(Record::count).sum::<u64>()
    });
    counts.sum()
}
