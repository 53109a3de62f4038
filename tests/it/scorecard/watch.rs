//! Only what a process holds belongs here, read from /proc while it works.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What it holds now.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    pub resident_kib: u64,
    pub descriptors: usize,
}

/// Looks at a process until it is dropped, and keeps the most it held.
pub struct Watch {
    pid: u32,
    peak_kib: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn over(pid: u32) -> Self {
        let (peak_kib, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (peak, ended) = (Arc::clone(&peak_kib), Arc::clone(&over));
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                peak.fetch_max(resident_kib(pid), Ordering::Relaxed);
                thread::park_timeout(Duration::from_millis(10));
            }
        });
        Self { pid, peak_kib, over, thread: Some(thread) }
    }

    pub fn now(&self) -> Held {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count);
        Held { resident_kib: resident_kib(self.pid), descriptors }
    }

    /// Ticks of processor time it has taken so far.
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // Behind the name, which may have blanks in it: utime and stime are the 14th and 15th of all (proc(5)).
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    }

    pub fn peak_kib(&self) -> u64 {
        self.peak_kib.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or_default()
}
