//! What can regress silently, operation by operation. One list, measured in two ways:
//!
//! * `cargo bench --bench micro [FILTER]`: nanoseconds, by criterion. Wall time on a shared machine is good for a ratio between
//!   two commits measured in turn, not for a figure to quote, and never for a gate.
//! * `benches/gate`: instructions and allocations, by callgrind, against a stored baseline (`gate`).
//!
//! Here are the list and the choice of the way; an operation lives in the module named after what it exercises, and calls what
//! the service calls, never a copy of it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use criterion::Criterion;

mod claim;
mod gate;
mod inspected;
mod relay;
mod ruling;

/// One thing that is done over and over, with all it needs.
pub struct Operation {
    /// Of criterion's report, of the baseline's row, and the argument that picks it.
    pub name: &'static str,
    pub counted: Counted,
    /// Builds what it needs; not measured.
    pub prepare: fn() -> Work,
}

/// Does the operation that many times.
pub type Work = Box<dyn FnMut(u64)>;

/// What the gate looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Instructions and allocations.
    Both,
    /// Cryptography: aws-lc picks its code by the processor it finds, so that instructions are the machine's, not ours.
    Allocations,
    /// How often the kernel wakes us decides, or it takes minutes under callgrind.
    Nothing,
}

/// Every operation, in the order in which a connection meets them.
const OPERATIONS: [Operation; 15] = [
    Operation { name: "connect_head", counted: Counted::Both, prepare: claim::connect_head },
    Operation { name: "dns_name", counted: Counted::Both, prepare: claim::dns_name },
    Operation { name: "client_hello", counted: Counted::Both, prepare: claim::client_hello },
    Operation { name: "client_hello_two_segments", counted: Counted::Both, prepare: claim::client_hello_two_segments },
    Operation { name: "decide_among_1e3", counted: Counted::Both, prepare: ruling::decide_among_1e3 },
    Operation { name: "decide_among_1e5", counted: Counted::Both, prepare: ruling::decide_among_1e5 },
    Operation { name: "decide_among_1e6", counted: Counted::Nothing, prepare: ruling::decide_among_1e6 },
    Operation { name: "relay_1_kib_and_back", counted: Counted::Both, prepare: relay::kibibyte_and_back },
    Operation { name: "relay_1_mib", counted: Counted::Nothing, prepare: relay::mebibyte },
    Operation { name: "leaf_mint", counted: Counted::Allocations, prepare: inspected::leaf_mint },
    Operation { name: "request_head_rewrite", counted: Counted::Both, prepare: inspected::request_head_rewrite },
    Operation { name: "response_head", counted: Counted::Both, prepare: inspected::response_head },
    Operation { name: "h1_exchange", counted: Counted::Both, prepare: inspected::h1_exchange },
    Operation { name: "record_line", counted: Counted::Both, prepare: ruling::record_line },
    // When a window ends decides how many of them are lines.
    Operation { name: "refusal_in_a_flood", counted: Counted::Nothing, prepare: ruling::refusal_in_a_flood },
];

/// `call` must be true each time: an operation that fails would be measured as a fast one.
fn repeat(mut call: impl FnMut(u64) -> bool + 'static) -> Work {
    Box::new(move |times| assert_eq!((0..times).filter(|n| call(*n)).count() as u64, times))
}

fn main() -> ExitCode {
    // cargo bench adds --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--gate"] => gate::compare(),
        ["--gate", "--update"] => gate::update(),
        ["--count", name, times] => gate::count(name, times),
        _ => {
            by_criterion();
            ExitCode::SUCCESS
        }
    }
}

fn by_criterion() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for operation in &OPERATIONS {
        criterion.bench_function(operation.name, |bencher| {
            let mut work = (operation.prepare)();
            bencher.iter_custom(|times| {
                let began = Instant::now();
                work(times);
                began.elapsed()
            });
        });
    }
    criterion.final_summary();
}
