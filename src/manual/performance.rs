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
//!
//! # What was found, and what became of it
//!
//! Each of these was seen in a profile (`perf`, `strace`, callgrind, `-Zprint-type-sizes`) and measured again by the commands above.
//!
//! * **The future of a connection was 31,128 octets** and an idle tunnel held all of it: 31.8 KiB resident. What does not last a
//!   tunnel's life is boxed, each way of `drive` is one future, the tunnel polls its two directions by hand and holds no buffer. An
//!   inspected connection kept both read buffers and a relay copied several times; it gives them back while nothing comes. Unit tests
//!   hold the sizes of these futures. The last step (`-Zprint-type-sizes`): an `async fn` that moves its arguments keeps room for both
//!   places, so the relay is made before its future begins; a connection's task came below 2,048 octets, and an idle tunnel to 3.7 KiB from 4.1.
//! * **An idle tunnel waited in three lists**, for a reload, the service's end and an operator's cut, and its future held a place for each: it
//!   has one bell now, which whoever changes any of them rings. What may end an attempt before its relay is given up there, what was
//!   kept in the place of an argument is boxed, and the fields of a record that most events do not have are one pointer. The future is
//!   1,024 octets, an attempt 768, and an idle tunnel 2.7 KiB, not 4.1; an idle inspected connection 23.8, not 26.0.
//! * **A task is moved by value when it is spawned, stored, run and finished.** That is eleven times 6 KiB for each stream of an inspected
//!   HTTP/2 connection: in a box it is a pointer, and a request costs 7 of 100 instructions and 14 of 100 parts of its time less.
//! * **Bulk** was a copy of 64 KiB. A direction that fills that buffer now goes on by `splice(2)` through a lent pipe until it falls dry:
//!   about two thirds of the cost on loopback. Pipes are few and kept by their thread; the 65th flow copies.
//! * **A read that filled a part of its buffer was followed by one that found nothing.** It now counts as the last
//!   ([`sockets::receive`](crate::sockets::receive)). Six `setsockopt` a connection are the listener's, which hands them down.
//! * **A runtime for each processor with a listening socket of its own**, instead of one over all: what one connection wakes is on its own
//!   thread. An inspected HTTP/2 request, which is a task of its own, cost 22 µs before and 13 after in one session; the other rows moved
//!   within their spread. The price: a thread's connections stay on it, so a long computation there (a huge CRL) delays them.
//! * **tokio tells its driver by a system call of every timer that ends before all others**, on its own thread too. A beat ten times a
//!   second on each thread, which is also how its lateness is known, makes the deadlines of connections none of those; it is two timers
//!   in turn, so that it is none itself.
//! * **A chain was verified again for every resumed session**, which is right (I08) and cost a tenth of an inspected connection. What was
//!   found good is remembered by the digest of chain and name, until the next end of a certificate or a CRL in it.
//! * **AES-256-GCM brings SHA-384 into every step of the key schedule**, which no instruction does here. AES-128-GCM is preferred
//!   ([`tls::provider`](crate::tls::provider)), and a handshake seals one ticket, not two.
//! * **A decision among a million patterns walked a tree**: 2,739 instructions. It takes 515 now: it hashes the whole name once,
//!   and once more for each length of literal tail in the list; the pattern with more literal labels at its right end wins, so an
//!   exact one is looked for first, then tails from the longest. The hash has no secret: clients choose what is looked up, only the
//!   configuration what is stored, and keys are compared in full. Patterns with a star elsewhere than a leading `*.` keep the tree, rooted
//!   at the tail: a million of those still cost microseconds.
//! * **A record's line was escaped character by character**, and what is the same for a whole configuration was copied for each. Both
//!   are less than half of what they were; the gate's baseline has the counts.
//!
//! * **Limits, overload states, deadlines and the self-probe cost a tenth** when they came: callgrind over the whole binary counted 41,600
//!   instructions of a refusal (33,500 before them) and 70,300 of a new tunnel (66,500). What an attempt would wait for beside its
//!   client (a drain, its place, a cut) was registered with before it was known that there is anything to wait for, and its task was
//!   moved by value several times. It is 35,200 and 65,200 now. The last side of a tunnel to end is passed on by the close, and no
//!   longer by a `shutdown` before it.
//! * **A task that had much to do kept its thread.** A bulk relay ran on until its budget of 128 reads and writes was used up, which
//!   is up to a millisecond, and a thread asked its sockets for news once in 61 tasks. Now a relay ends its turn behind 256 KiB, a
//!   connection that sends frames behind as many as cost that, an accept loop behind 4 connections (16 then), and the sockets are asked behind 16
//!   tasks ([`turns`](crate::turns)). Under a flood of PINGs the 99th percentile of inspected requests beside it went from 62 to 14
//!   ms in one pair of runs of the scorecard, whose other rows moved within their spread.
//! * **Every octet of a tunnel asked the idle timer, the reloads and the end of the service**, five futures with a lock each, whether
//!   something had come. They are asked now when they rang: [`seldom`](crate::seldom).
//! * **Freed memory did not come back.** After 4,000 inspected connections had been held and closed, resident memory in MiB was, by
//!   allocator (2026-11-28, 11 s later; the CPU rows of the table did not tell them apart):
//!
//!   | allocator | before | held | after |
//!   |---|---|---|---|
//!   | glibc 2.36 | 7 | 101 | 102 |
//!   | mimalloc 3 | 39 | 133 | 139 |
//!   | jemalloc 5.3.1, defaults | 16 | 114 | 112 |
//!   | jemalloc 5.3.1, a thread of its own that gives back after 1 s | 16 | 114 | 29 |
//!   | the same, for the C code of aws-lc too | 15 | 113 | 19 |
//!
//!   The last but one is built in (`src/main.rs`, `.cargo/config.toml`). With the last, a library that is loaded before it and
//!   itself allocates (libfaketime, by which the tests set the clock) waits for it for ever at the start. What is left are caches,
//!   which are bounded, and what aws-lc has freed, which the next connections take.
//!
//! # What was tried, or thought through, and left
//!
//! * `TCP_DEFER_ACCEPT` would save a wake-up of every connection, and hide the clients that connect and say nothing: they would leave no
//!   record.
//! * Keeping verified upstream connections for the same client's next connection would save most of an upstream handshake. It is not
//!   built: a kept connection may be closed by its server at any moment, and the first request of a client's new connection, which
//!   the client has no reason to repeat, would then fail where today it succeeds; and a browser that has left an inspected host seldom
//!   comes back within the seconds for which such a connection could be kept.
//! * gungraun for the gate: its runner takes two and a half minutes to build on a fresh machine.
//! * A secret for the policy's hash, `hashbrown`'s raw table, entries of 32 octets with the pattern inside: each costs a miss or memory for
//!   nothing that is needed.
//! * A cheaper id of an event: it is a keyed hash, so that nobody can guess another's reference.
//!
//! # Beside peers, on 2026-11-28
//!
//! `benches/peers/run --batch-cpu 0.8`, every row in one go: AMD EPYC, 2 cores for clients, proxy and origin, Debian 12, Linux 6.18.
//! Medians of five rounds; in brackets the median of sekisho ÷ peer within a round. Other work of the machine touched some rounds.
//! By Squid's first row the machine was a quarter slower than on 2026-11-23, when that was 212.
//!
//! | work | sekisho | Squid 5.7 | HAProxy 2.6 | nginx 1.22 | tinyproxy 1.11 |
//! |---|---|---|---|---|---|
//! | CONNECT tunnel, new connection + small GET, µs | 228 | 270 (0.83), with peek and splice 313 (0.69) | – | – | 587 (0.40) |
//! | the same steered by SNI alone, µs (sekisho: by CONNECT) | 214 | – | 195 (1.13) | 170 (1.47) | – |
//! | tunnel, bulk, CPU-s/GiB | 0.26 | 0.88 (0.31) | 0.70 (0.39) | 0.70 (0.38) | 2.16 (0.13) |
//! | tunnel, keep-alive small request, µs | 15.0 | 19.0 (0.79) | 15.0 (0.95) | 14.9 (1.03) | 31.3 (0.48) |
//! | refused by name, µs (HAProxy, nginx: by SNI) | 44.5 | 157 (0.29) | 47.7 (0.97) | 29.6 (1.55) | 336 (0.13) |
//! | idle tunnel, KiB | 3.7 | 32.7 (0.11) | 3.3 (1.12) | 15.6 (0.24) | 20.4 (0.18) |
//! | inspect, new connection + small GET, µs | 586 | 3,927 (0.15) | – | – | – |
//! | inspect, HTTP/1.1 keep-alive request, µs | 28.6 | 90.4 (0.31) | – | – | – |
//! | inspect, HTTP/2 request, µs | 19.9 | – | – | – | – |
//! | inspect, bulk, CPU-s/GiB | 1.48 | 5.32 (0.28) | – | – | – |
//! | idle inspected connection, KiB | 25.1 | 164 (0.15) | – | – | – |
//! | latency added by a tunnel, p50 / p99, µs | 57 / 136 | 74 / 262 | 72 / 257 | 44 / 208 | 73 / 193 |
//! | latency added by inspecting, p50 / p99, µs | 100 / 287 | 366 / 1,407 | – | – | – |
//!
//! # Goals, those that are missed, and what would close them
//!
//! The goals were set on a machine that was quicker at system calls: Squid took 113 µs there for the first row and 50 for a refusal.
//!
//! * **A new tunnel**: 228 µs, where 95 was wished on the quicker machine; 0.83 of Squid, where 0.8 was wished, and 0.74 in the run before
//!   on the same day: both within the spread of 0.8. Squid forwards a CONNECT there unread; where it reads the name of the ClientHello as
//!   sekisho does (peek and splice), it is 0.69. By SNI alone it was to be no more than nginx: that is 1.47 by CONNECT, whose head and 200
//!   are two packets more, and not yet by the transparent listener, which takes steered connections only.
//! * **Refused by name**: 1.55 times nginx, where 0.8 was wished, and 44.5 µs where 20 were. About 78 of 100 samples are the kernel's, 27 of
//!   them in `close`, 14 in sending. nginx is steered by SNI here: it closes without an answer, where a CONNECT is owed its 403, is kept
//!   open for the next one, and ends when the client ends it, which is one packet and one wake-up more. Against those who answer the
//!   CONNECT it is 0.29 and 0.13.
//! * **Keep-alive requests in a tunnel**: 1.03 times nginx, where 1.0 was wished; 0.96 to 1.08 in six runs. `strace -c` of 4,000
//!   requests counts 2.06 `recvfrom`, 2.05 `sendto` and 0.17 `epoll_wait` for each; nginx makes 2.05 `recvfrom`, 2.04 `writev` and 0.14
//!   `epoll_wait`. Of the proxy's time nine tenths are the kernel's (1.3 µs of 15.5 its own, nginx 0.9 of 14.8), so that what is left are those
//!   four calls: fewer of them would take `io_uring`, or sockets that the kernel joins itself (`sockmap`), and both want `unsafe` or
//!   privileges.
//! * **An inspected HTTP/2 request**: 19.9 µs (15.5 to 22.8), where 15 was wished and 17.8 was the best peer's on the quicker machine.
//!   Callgrind counts 77,100 instructions for each, those of opening four connections included: half of them in the two state machines of
//!   the h2 crate, an eighth in the record. It was 82,900, and 23.2 µs beside 20.0 in seven rounds in alternation, before the
//!   stream's task was boxed: 6 KiB were moved eleven times. A relay of frames that keeps no second state of each stream would close
//!   it; it would be a second HTTP/2 to keep right against every row of F.
//! * **An inspected HTTP/1.1 request**: 28.6 µs, where 15 was wished. Three fifths are the kernel's: 2.06 `recvfrom`, 2.04 `writev` and
//!   0.18 `epoll_wait` for each (`strace -c`), which are one of each on either side. What is sekisho's is TLS on two sides, and the record.
//! * **A new inspected connection**: 586 µs, where 300 was wished (369 on 2026-11-23, 473 in the run before). The upstream's session is
//!   resumed, with an X25519MLKEM768 exchange that the peers do not make; kept connections would spare it, and are decided against above.
//! * **Inspected bulk**: 1.48 CPU-s/GiB (1.04 on 2026-11-23), where 0.66 was wished on the quicker machine: two copies between the TLS
//!   sessions are left. Turns of 256 KiB are no part of the difference: 1.6 before them, 1.7 with them and 1.6 with today's program in seven
//!   rounds in alternation.
//! * **Met**, later on the same day: an idle tunnel 2.7 KiB, where 4 was wished, and 0.80 of HAProxy; an idle inspected connection 23.8, where
//!   32 was (`benches/peers/run --only tunnel-idle,inspect-idle --peers haproxy --repeat 1`, 2026-11-28 19:18).
//! * **Met**, in the table's run: bulk in tunnels 0.38 of nginx, where 0.95 was; added latency of a tunnel 57 µs at p50 and
//!   136 at p99, where 60 and 250 were, and of inspecting 100 and 287, where 150 and 500 were. Generator, origin and proxy share two cores:
//!   the rounds of a p99 lie between 45 and 2,451, and another run of the day gave 89 and 615.
//! * **A decision among a million patterns**, names drawn at random: 226 and 242 ns in two runs of `cargo bench --bench micro` on the quiet
//!   machine, 56 among a thousand, where 300 was wished: met. It is 515 instructions whatever the length of the list, by the gate.
