//! Only faults of the disk under the record belong here.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;

use super::process::ready;
use super::{HOST, ROUNDS, Survived, Told, passes, recovered, settled};
use crate::support::client::Tls;
use crate::support::{Config, Origin, Sekisho, until, within};

/// A file system of its own, in memory; only root can have one.
struct Disk(PathBuf);

impl Disk {
    /// Over `directory`, so large; `None` where it cannot be had.
    fn over(directory: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(directory).expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "sekisho-test"])
            .arg(directory)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(directory.to_owned()))
    }

    fn remount(&self, options: &str) -> bool {
        let remounted = Command::new("mount").args(["-o", options]).arg(&self.0).stderr(Stdio::null()).status();
        remounted.is_ok_and(|status| status.success())
    }

    /// Writes until nothing more goes in.
    fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.0.join("filler")).expect("a filler");
        for size in [4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).expect("there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn k03_a_disk_that_fills_up_and_is_freed_again_costs_no_record() {
    passes(full(ROUNDS)).await;
}

pub async fn full(rounds: usize) -> Told {
    let origin = Origin::https(&[HOST]).start().await;
    let config = Config::new().tunnel(HOST, &origin).set("record", "path", "\"disk/access.jsonl\"");
    let disk = std::sync::Mutex::new(None);
    let arrange = |dir: &Path| {
        *disk.lock().expect("disk") = Disk::over(&dir.join("disk"), "400k");
        // Where the cast looks for it.
        symlink(dir.join("disk/access.jsonl"), dir.join("access.jsonl")).expect("a link");
    };
    let sekisho = Sekisho::start_with(&config, arrange).await;
    let Some(disk) = disk.into_inner().expect("disk") else {
        return Err("no file system can be mounted");
    };
    let (authority, tls) = (origin.at(HOST), Tls::named(HOST));
    let mut open = tls.over(sekisho.tunnel(&authority).await).await;
    assert_eq!(open.get(&authority, "/").await.expect("an answer").status, 200);
    let mut survived = Survived::new("and freed again", rounds);
    for round in 0..rounds {
        disk.fill();
        within("a full disk", async {
            while sekisho.admin("/readyz").await.status == 200 {
                sekisho.connect("denied.test:443").await;
            }
        })
        .await;
        ready(&sekisho, 503, "record_unavailable").await;
        let before = origin.connects();
        let (_, answer) = sekisho.connect(&authority).await;
        assert_eq!(answer.status, 503, "{round}: {answer:?}");
        answer.details("record_unavailable");
        assert_eq!(origin.connects(), before, "nothing goes out unrecorded");
        assert_eq!(open.get(&authority, "/").await.expect("an answer").status, 200, "what was established goes on");
        // It is refused like everybody, and takes that for what it is: a new process would have no more room.
        let failed =
            |metrics: &std::collections::BTreeMap<String, f64>| metrics["sekisho_self_probes_total{result=\"failed\"}"];
        assert_eq!(failed(&sekisho.metrics().await), 0.0);
        disk.free();
        survived.after(recovered("the disk", &sekisho, &authority, &tls).await);
    }
    open.bye().await;
    let told = settled(&sekisho, vec![survived]).await;
    assert_eq!(
        sekisho.records().iter().filter(|record| record.text("sekisho.lifecycle") == "record_recovered").count(),
        rounds
    );
    drop(sekisho);
    drop(disk);
    told
}

#[tokio::test]
async fn k03_a_file_system_that_becomes_read_only_keeps_the_record_in_the_file_it_has() {
    passes(read_only(ROUNDS)).await;
}

pub async fn read_only(rounds: usize) -> Told {
    let config = Config::new().set("record", "path", "\"disk/access.jsonl\"");
    let disk = std::sync::Mutex::new(None);
    let arrange = |dir: &Path| {
        *disk.lock().expect("disk") = Disk::over(&dir.join("disk"), "400k");
        symlink(dir.join("disk/access.jsonl"), dir.join("access.jsonl")).expect("a link");
    };
    let mut sekisho = Sekisho::start_with(&config, arrange).await;
    let Some(disk) = disk.into_inner().expect("disk") else {
        return Err("no file system can be mounted");
    };
    let mut survived = Survived::new("and writable again", rounds);
    for round in 1..=rounds {
        sekisho.refused("denied.test:443", 403, "not_allowlisted").await;
        let turned = sekisho.path(&format!("disk/access.{round}.jsonl"));
        fs::rename(sekisho.path("disk/access.jsonl"), &turned).expect("renamed");
        // The file that is open for writing keeps the file system itself from it; the way to it can be closed.
        if !(Command::new("mount").arg("--bind").args([&disk.0, &disk.0]).status().is_ok_and(|status| status.success())
            && disk.remount("remount,ro,bind"))
        {
            return Err("no file system can be mounted read-only");
        }
        sekisho.signal(Signal::USR1);
        until("the failed reopening", || {
            let text = fs::read_to_string(&turned).ok()?;
            text.contains("\"sekisho.lifecycle\":\"reopen_failed\"").then_some(())
        })
        .await;
        assert_eq!(sekisho.connect("denied.test:443").await.1.status, 403);
        assert_eq!(sekisho.admin("/readyz").await.status, 200);
        assert!(Command::new("umount").arg("-l").arg(&disk.0).status().expect("umount").success());
        let over = Instant::now();
        sekisho.signal(Signal::USR1);
        sekisho.lifecycle("reopen", 1).await;
        survived.after(over.elapsed());
        // What was refused meanwhile stands in the file before.
        let before = fs::read_to_string(&turned).expect("there");
        assert_eq!(before.matches("\"event.reason\":\"not_allowlisted\"").count(), 2, "{before}");
    }
    let metrics = sekisho.quiet().await;
    // Two in every file, as was seen above.
    assert_eq!(metrics["sekisho_attempts_total{action=\"connection\"}"], 2.0 * rounds as f64);
    assert_eq!(metrics["sekisho_record_lost_total"], 0.0);
    drop(sekisho);
    drop(disk);
    Ok(vec![survived])
}
