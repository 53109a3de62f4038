//! The regression gate: instructions and allocations per operation, compared with the baseline that is kept beside this file.
//!
//! Wall time says little on a machine shared with others; how many instructions an operation takes does not depend on them.
//! **How they are counted**: this program runs itself under callgrind (Debian's valgrind, which is all that is needed), once for
//! each operation, as `--count NAME TIMES`. That prepares, does the operation so often once, and then again in
//! [`counted_region`]; callgrind writes out what it has counted at [`warmed_up`] and at the end of that function, for each
//! thread by itself. So neither start and preparation (whose hash seeds differ from run to run), nor what is made on the
//! first call, nor other threads are in the figures. Calls of the C library's allocator stand in the same output, which makes
//! the second column: no allocator of ours, no `unsafe`.
//!
//! **Why not gungraun**: it counts the same instructions with the same callgrind, but needs its runner installed in its own
//! version first (measured here: over two and a half minutes of building on two cores), and macros and client requests in
//! between. Differencing runs of N and 2N calls was the other way without either; it leaves the seeds' noise in.
//!
//! **What is the same on another machine**: callgrind shows the program a processor of its own, of the host's kind as far as
//! it knows it (AVX2 where the host has it: `memchr` and the C library choose by that). Addresses, other load and the clock
//! do not matter beyond a fraction of a per cent. Another compiler or another architecture makes other code: the
//! baseline says which were used, and another architecture is not compared at all.
//!
//! **A row fails** when its instructions are more than [`TOLERANCE`] off, or its allocations more than [`ALLOCATIONS`]; better
//! than the baseline fails too, so that what was gained is written down and cannot be lost unseen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;

use crate::{Counted, OPERATIONS, Operation, Work};

/// Of the baseline's instructions.
const TOLERANCE: f64 = 0.05;
/// Allocations per operation; what is less comes from buffers that grow once in many calls.
const ALLOCATIONS: f64 = 0.2;
/// Calls that are counted: what happens once in a while is spread over them.
const TIMES: u64 = 1000;
/// The C library's functions that give out memory.
const ALLOCATORS: [&str; 5] = ["malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign"];
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/micro/baseline.txt");
const UPDATE: &str = "benches/gate --update";

/// Of one operation, per call. Instructions: `None` where only allocations are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    instructions: Option<f64>,
    allocations: f64,
}

/// The baseline's file, or what is to be written into it.
#[derive(Debug, PartialEq)]
struct Baseline {
    compiler: String,
    architecture: String,
    rows: BTreeMap<String, Row>,
}

/// `--gate`.
pub fn compare() -> ExitCode {
    let (baseline, now) = match read_baseline().and_then(|baseline| Ok((baseline, measure()?))) {
        Ok(both) => both,
        Err(problem) => return say(&format!("the gate could not be run: {problem}\n"), ExitCode::FAILURE),
    };
    if baseline.architecture != now.architecture {
        let (was, is) = (&baseline.architecture, &now.architecture);
        let said = format!("nothing to compare with: the baseline is for {was}, and this machine is {is}\n");
        return say(&said, ExitCode::FAILURE);
    }
    let (table, problems) = judge(&baseline, &now);
    if problems.is_empty() {
        return say(&format!("{table}every operation is within its tolerance\n"), ExitCode::SUCCESS);
    }
    let mut said = format!("{table}\n{}\n", problems.join("\n"));
    if baseline.compiler != now.compiler {
        let (was, is) = (&baseline.compiler, &now.compiler);
        let _ = writeln!(said, "The baseline was made with {was}, this with {is}: that alone may be the cause.");
    }
    let _ = writeln!(
        said,
        "Where it is meant, or better than before: {UPDATE}, and commit the new baseline with its cause."
    );
    say(&said, ExitCode::FAILURE)
}

/// `--gate --update`.
pub fn update() -> ExitCode {
    let written = measure().and_then(|now| {
        let text = now.to_string();
        std::fs::write(BASELINE, &text).map_err(|error| format!("{BASELINE} cannot be written: {error}"))?;
        Ok(text)
    });
    match written {
        Ok(text) => say(&format!("{text}written to {BASELINE}\n"), ExitCode::SUCCESS),
        Err(problem) => say(&format!("no new baseline: {problem}\n"), ExitCode::FAILURE),
    }
}

/// `--count NAME TIMES`, the program under callgrind.
pub fn count(name: &str, times: &str) -> ExitCode {
    let operation = OPERATIONS.iter().find(|operation| operation.name == name);
    let (Some(operation), Ok(times)) = (operation, times.parse()) else {
        return say("--count takes an operation and a number\n", ExitCode::from(2));
    };
    let mut work = (operation.prepare)();
    work(times);
    warmed_up();
    counted_region(&mut work, times);
    ExitCode::SUCCESS
}

/// Callgrind knows this and the next by their names, so they may neither be folded into their caller nor end in a jump.
#[inline(never)]
fn warmed_up() {
    std::hint::black_box(());
}

#[inline(never)]
fn counted_region(work: &mut Work, times: u64) {
    work(times);
    std::hint::black_box(times);
}

#[expect(clippy::print_stdout, reason = "the gate's result")]
fn say(text: &str, code: ExitCode) -> ExitCode {
    print!("{text}");
    code
}

fn read_baseline() -> Result<Baseline, String> {
    let text = std::fs::read_to_string(BASELINE).map_err(|error| format!("{BASELINE}: {error}; {UPDATE} makes it"))?;
    Baseline::parse(&text).ok_or_else(|| format!("{BASELINE} is not what {UPDATE} writes; make it anew"))
}

/// Every row of the gate, on as many processors as there are.
fn measure() -> Result<Baseline, String> {
    let operations: Vec<&Operation> = OPERATIONS.iter().filter(|it| it.counted != Counted::Nothing).collect();
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for callgrind's output: {error}"))?;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let of_worker = |worker: usize| {
        let own = operations.iter().skip(worker).step_by(workers);
        own.map(|it| Ok((it.name.to_owned(), row(it, folder.path())?))).collect::<Result<Vec<_>, String>>()
    };
    let rows: Result<Vec<_>, String> = thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|worker| scope.spawn(move || of_worker(worker))).collect();
        running.into_iter().map(|it| it.join().unwrap_or_else(|_| Err("a worker panicked".to_owned()))).collect()
    });
    let compiler =
        Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned())).arg("--version").output();
    let compiler = compiler.map_err(|error| format!("rustc --version: {error}"))?.stdout;
    Ok(Baseline {
        compiler: String::from_utf8_lossy(&compiler).trim().to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        rows: rows?.into_iter().flatten().collect(),
    })
}

fn row(operation: &Operation, folder: &Path) -> Result<Row, String> {
    let name = operation.name;
    let out = folder.join(name);
    let program = std::env::current_exe().map_err(|error| format!("this program is not to be found: {error}"))?;
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-before=*warmed_up*", "--dump-after=*counted_region*"])
        .args(["--separate-threads=yes", "--compress-strings=no", "--dump-line=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["--count", name, &TIMES.to_string()])
        .output();
    let run = run.map_err(|error| format!("valgrind: {error}; it is Debian's package of that name"))?;
    if !run.status.success() {
        return Err(format!("{name} under valgrind: {}\n{}", run.status, String::from_utf8_lossy(&run.stderr)));
    }
    // The second of the two that were asked for, and the first thread.
    let profile = std::fs::read_to_string(folder.join(format!("{name}.2-01"))).unwrap_or_default();
    let (instructions, allocations) = totals(&profile)
        .filter(|(instructions, _)| *instructions > 0)
        .ok_or_else(|| format!("{name}: callgrind counted nothing: is counted_region still a function of its own?"))?;
    let per_call = |total: u64| total as f64 / TIMES as f64;
    let instructions = (operation.counted == Counted::Both).then(|| per_call(instructions));
    Ok(Row { instructions, allocations: per_call(allocations) })
}

/// Instructions, and calls of [`ALLOCATORS`], of one profile in callgrind's format.
fn totals(profile: &str) -> Option<(u64, u64)> {
    let (mut instructions, mut allocations, mut callee) = (None, 0, "");
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("cfn=") {
            callee = name;
        } else if let Some(calls) = line.strip_prefix("calls=").and_then(|rest| rest.split(' ').next()) {
            if ALLOCATORS.contains(&callee) {
                allocations += calls.parse::<u64>().ok()?;
            }
        } else if let Some(total) = line.strip_prefix("totals: ") {
            instructions = total.trim().parse().ok();
        }
    }
    Some((instructions?, allocations))
}

/// A line for each operation, and a sentence for each that fails.
fn judge(baseline: &Baseline, now: &Baseline) -> (String, Vec<String>) {
    let mut table = String::from("operation                      instructions        allocations\n");
    let mut problems = Vec::new();
    for (name, is) in &now.rows {
        let Some(was) = baseline.rows.get(name) else {
            problems.push(format!("{name}: the baseline does not know it"));
            continue;
        };
        let _ = write!(table, "{name:<27}");
        match (was.instructions, is.instructions) {
            (Some(was), Some(is)) => {
                let change = is / was - 1.0;
                let _ = write!(table, "{is:>12.0} {:>+6.1}%", change * 100.0);
                if change.abs() > TOLERANCE {
                    let worse = if change > 0.0 { "more" } else { "fewer" };
                    let by = change.abs() * 100.0;
                    problems
                        .push(format!("{name}: {was:.0} instructions in the baseline, {is:.0} now: {by:.1}% {worse}"));
                }
            }
            (None, None) => {
                let _ = write!(table, "{:>20}", "not counted");
            }
            (Some(_), None) | (None, Some(_)) => {
                problems.push(format!("{name}: whether its instructions count has changed"));
            }
        }
        let _ = writeln!(table, "{:>12.2} {:>+6.2}", is.allocations, is.allocations - was.allocations);
        if (is.allocations - was.allocations).abs() > ALLOCATIONS {
            let (was, is) = (was.allocations, is.allocations);
            problems.push(format!("{name}: {was:.2} allocations in the baseline, {is:.2} now"));
        }
    }
    let gone = baseline.rows.keys().filter(|name| !now.rows.contains_key(*name));
    problems.extend(gone.map(|name| format!("{name}: in the baseline, but no longer an operation")));
    (table, problems)
}

impl Baseline {
    /// The inverse of `to_string`.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let compiler = lines.next()?.strip_prefix("compiler ")?.trim().to_owned();
        let architecture = lines.next()?.strip_prefix("architecture ")?.trim().to_owned();
        let rows = lines.map(|line| {
            let mut cells = line.split_whitespace();
            let (name, instructions, allocations) = (cells.next()?, cells.next()?, cells.next()?);
            let instructions = if instructions == "-" { None } else { Some(instructions.parse().ok()?) };
            Some((name.to_owned(), Row { instructions, allocations: allocations.parse().ok()? }))
        });
        Some(Self { compiler, architecture, rows: rows.collect::<Option<_>>()? })
    }
}

impl std::fmt::Display for Baseline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "# What one operation takes: instructions, allocations. Written by {UPDATE}; see gate.rs.")?;
        writeln!(f, "compiler     {}\narchitecture {}", self.compiler, self.architecture)?;
        for (name, row) in &self.rows {
            let instructions = row.instructions.map_or_else(|| "-".to_owned(), |count| format!("{count:.1}"));
            writeln!(f, "{name:<27} {instructions:>12} {:>8.2}", row.allocations)?;
        }
        Ok(())
    }
}
