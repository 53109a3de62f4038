//! What sekisho costs, and how that is known: four measurements, each for what it can tell. Findings follow below them.
//!
//! # What is measured, and how
//!
//! | question | command | unit | where |
//! |---|---|---|---|
//! | Does it cost less than what one would take instead? | `benches/peers/run` | CPU of the proxy's processes per unit of work | `benches/peers/` |
//! | What does one step cost, and did a change help? | `cargo bench --bench micro` | nanoseconds | `benches/micro/` |
//! | Did a change make a step dearer, unseen? | `benches/gate` | instructions and allocations per operation | `benches/micro/gate.rs`, `baseline.txt` beside it |
//! | Do the steps of a decision grow with the list? | `cargo test policy` | steps, counted in the test build | `src/policy/` |
//!
//! ## CPU per unit of work
//!
//! The measure for a proxy is what it takes of the processor: user and system time of its process and of every child, from
//! `/proc/PID/stat`, over the connections, requests, or octets it carried meanwhile. Wall time is not, on a machine where clients and
//! origin run beside it: it says as much about them. Memory of idle connections is resident size over their number.
//!
//! ## Beside peers
//!
//! `benches/peers/run` starts the proxies Debian offers, each with a fair configuration that is kept there, and sekisho with all it
//! does switched on (policy, address guard, verification, limits, record), and drives them in alternation through the same scenarios with
//! the same clients and the same origin. Only figures of one run are compared; what a row claims is a ratio. Rows that sekisho loses
//! stay in.
//!
//! ## Step by step
//!
//! The operations in `benches/micro` call what the service calls: a CONNECT's head and a ClientHello read, a name parsed, a decision
//! among many patterns, a leaf minted, heads rewritten, one inspected request from end to end without TLS and sockets, a record
//! written, the relay over loopback. criterion times them. On a shared machine that is good for the ratio of two commits measured
//! one after the other, more than once; never for a figure to quote.
//!
//! ## The gate
//!
//! `benches/gate` counts, under valgrind's callgrind, the instructions and the allocations of the same operations, and compares them
//! with the baseline that is kept in the package; `tests/run` does so too, where valgrind is and without `--quick`. The counts do not
//! depend on other load, addresses or hash seeds, so that a small loss is seen on any machine. A row outside its tolerance fails, also for
//! the better: `benches/gate --update` writes a new baseline, which is committed with the change that caused it.
//!
//! What the gate does not see: system calls and what the kernel does in them, misses of cache and branch, waiting for locks, and
//! cryptography, whose code is chosen by the processor (of a leaf, only the allocations are compared). These show in the peers' table.
//!
//! No figure may stand on this page that none of these commands gives.
