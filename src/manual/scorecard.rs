//! The scorecard: every attack, bad input and fault against one running proxy, and what it costs those who behave.
//!
//! # How it is measured
//!
//! `tests/run` ends with every attack in turn against an optimised build, each from one address (limiter keys from as many as it tries) for
//! a few seconds, beside two clients that behave: new tunnels, 80 a second, and requests on kept inspected connections, 150 a second, in
//! open loop. Clients, origin and attackers would have machines of their own. Here all share one, so the clients and their origin run
//! before everybody else (`SCHED_FIFO`), and the attackers, with an origin of their own that they are relayed to, when nobody else does
//! (`SCHED_IDLE`): a client waits for the proxy, and not for a processor that an attacker has. Each attack is met twice and the clients'
//! 99th percentiles stand three abreast: *alone*; *elsewhere*, the attack aimed at a decoy, a second proxy of the same configuration;
//! *beside*, aimed at the proxy the clients use. In parentheses: *beside* by *alone*, and by *elsewhere*, which is what sharing one process
//! with the attack costs. *Tried* is what was tried at the clients' proxy, connections and, on HTTP/2, turns of up to 200 frames; *arrived*
//! (printed since) what the decoy counted of the attack; *processor* what the proxy that the clients use took of one, with the clients' own
//! requests, without its minting process. All of it runs in a network of its own behind `sekisho-tproxy.nft` as it is shipped, with the
//! loopback for the clients' side; the last lines say whether the rules were in force, as without root or `nft` they are not.
//!
//! Attackers try what an address can: those that hold connections (silent, dribbled hellos, slow heads) begin a thousand attempts a second,
//! to hold 5,000, of which `limits.per_client` leaves them 512 and the rules 200 a second; the others are so many at once and try again
//! when they were ended, one that was turned away after a millisecond. A connection that the rules drop is given up after 50 ms (in the flood
//! of connections after one), before this system's own retries. In the mint flood the origin's certificate has none of the names:
//! each visit costs a leaf and ends with the page that says so.
//!
//! Then tunnels are held under reloads, half of them broken, with `limits.per_client.connections` at 20,000; the fuzzers' seeds that a client
//! can send are sent to the running proxy: heads to the listener, hellos in a tunnel, requests, frames and chunks inside an inspected
//! connection; and every fault of a line, a name server, the disk, the clock, the configuration and the process comes once and goes, at
//! proxies of its own. `tests/run --long` does so at full length, with 9,000 tunnels held for ten minutes under 1,000 reloads and each
//! attack and fault three times; of an attack's figures the middle one counts. Limiter keys go on there until ten million have come.
//!
//! Asserted is what holds on any machine: no good request fails; each attack arrived; memory stays below `limits.memory`, it and
//! descriptors come back; beside the held tunnels nine tenths of a thousand requests a second; after each bad input the proxy answers; good
//! requests pass again within 5 s of a fault; and records are as many as attempts, of both proxies, of the bad inputs and of every fault.
//! Latencies are printed and not asserted.
//!
//! # At full length
//!
//! On 2026-11-29, 2 cores, limits by default, ceiling 512 MiB, commit 682b85d, optimised attackers, in one run of 40 minutes,
//! beside 378,432 good requests of which none failed:
//!
//! | attack | tried | tunnel p99, µs: alone, elsewhere, beside | inspected p99, µs: alone, elsewhere, beside | processor, %: alone, elsewhere, beside | peak MiB | descriptors back | memory back |
//! |---|---|---|---|---|---|---|---|
//! | connection flood (H03) | 114265 | 2671, 2479, 2463 (0.9×, 1.0×) | 1023, 1046, 921 (0.9×, 0.9×) | 6, 6, 8 | 21 | 0.6 s | 0.0 s |
//! | silent connections (H03, H05) | 28278 | 3135, 2891, 2559 (0.8×, 0.9×) | 1219, 1147, 1082 (0.9×, 0.9×) | 7, 6, 9 | 24 | 0.8 s | 0.0 s |
//! | hello dribble (D05) | 28703 | 3009, 2639, 3089 (1.0×, 1.2×) | 1245, 1122, 1213 (1.0×, 1.1×) | 7, 7, 13 | 25 | 0.8 s | 0.0 s |
//! | handshake flood (D16)* | 3967 | 2479, 2855, 5295 (2.1×, 1.9×) | 943, 1090, 1419 (1.5×, 1.3×) | 6, 6, 12 | 21 | 0.0 s | 0.0 s |
//! | slow heads (H02) | 28132 | 2687, 2661, 2803 (1.0×, 1.1×) | 1135, 1040, 975 (0.9×, 0.9×) | 7, 6, 9 | 26 | 0.0 s | 0.0 s |
//! | slow bodies (H02) | 300 | 2647, 2335, 4939 (1.9×, 2.1×) | 964, 916, 1134 (1.2×, 1.2×) | 6, 6, 8 | 25 | 0.1 s | 0.0 s |
//! | slow readers (H02, H07) | 180 | 2509, 2449, 2605 (1.0×, 1.1×) | 1013, 942, 1096 (1.1×, 1.2×) | 7, 6, 7 | 29 | 0.1 s | 1.6 s |
//! | refused flood (H10) | 3830 | 2651, 3119, 3247 (1.2×, 1.0×) | 864, 1030, 1026 (1.2×, 1.0×) | 6, 6, 7 | 22 | 0.0 s | 0.0 s |
//! | malformed heads (E01 to E11) | 3598 | 2943, 3157, 2833 (1.0×, 0.9×) | 1195, 1050, 1010 (0.8×, 1.0×) | 7, 7, 7 | 22 | 0.0 s | 0.0 s |
//! | heads too large (H01) | 3589 | 2593, 3231, 3773 (1.5×, 1.2×) | 945, 1033, 1507 (1.6×, 1.5×) | 6, 6, 10 | 23 | 0.0 s | 0.0 s |
//! | rapid reset (F01) | 912 | 2965, 2697, 2469 (0.8×, 0.9×) | 1208, 969, 1012 (0.8×, 1.0×) | 6, 6, 6 | 22 | 0.0 s | 0.0 s |
//! | provoked resets (F02)* | 27015 | 2061, 2465, 3117 (1.5×, 1.3×) | 809, 820, 1105 (1.4×, 1.3×) | 5, 5, 7 | 29 | 0.0 s | 0.0 s |
//! | CONTINUATION flood (F03) | 5813 | 3203, 2975, 3621 (1.1×, 1.2×) | 1193, 1100, 1155 (1.0×, 1.1×) | 7, 7, 7 | 22 | 0.0 s | 0.0 s |
//! | PING and SETTINGS flood (F04) | 5600 | 2877, 2687, 3269 (1.1×, 1.2×) | 1034, 1214, 1143 (1.1×, 0.9×) | 7, 7, 8 | 22 | 0.0 s | 0.0 s |
//! | empty DATA flood (F05) | 4444 | 2963, 2765, 2711 (0.9×, 1.0×) | 990, 1091, 1046 (1.1×, 1.0×) | 6, 7, 7 | 22 | 0.0 s | 0.0 s |
//! | HPACK bomb (F06) | 880 | 2691, 2579, 2693 (1.0×, 1.0×) | 1007, 978, 1079 (1.1×, 1.1×) | 6, 6, 7 | 22 | 0.0 s | 0.0 s |
//! | window stall (F07, F10) | 6060 | 2919, 2763, 6615 (2.3×, 2.4×) | 1086, 979, 1282 (1.2×, 1.3×) | 7, 6, 8 | 62 | 0.1 s | 2.3 s |
//! | mint flood (H06) | 1829 | 2575, 3179, 3355 (1.3×, 1.1×) | 847, 1242, 1482 (1.7×, 1.2×) | 6, 7, 12 | 26 | 0.0 s | 0.0 s |
//! | limiter keys (H04)* | 10253276 | 2681, 3093, 3479 (1.3×, 1.1×) | 891, 1150, 1246 (1.4×, 1.1×) | 5, 5, 74 | 29 | 0.0 s | 0.2 s |
//!
//! (In that run every other malformed head was never sent: a count was taken twice, which is corrected in the numbers tried above. With all
//! twelve, three times for 10 s: 0.9 and 0.9.)
//!
//! \* In a run of their own on the same day, commit bff0a53. (The flood of handshakes in another, commit 1d58f99.) What was called provoked
//! resets before ended its connection with the first frame, by a window of nothing; now the windows are beyond their bound, and the streams
//! are reset. The limiter keys are clients that come once, each from an address of its own: of these ten million, 10,044,387 by the proxy's
//! own count, some 10,000 a second for seventeen minutes. So that they are not forgotten at once, what each has used counts for a second
//! (`new_connections_per_second = 1`; by default a hundredth): between 8,963 and 20,406 clients were remembered, of 65,536 at most. To have
//! the store full would take more than 32,000 such clients a second, which this machine has not; what comes then is a unit test's. Of a
//! hundred windows of 10 s beside it the middle one counts above; in two of them the new tunnels' 99th percentile was more than twice that
//! of *alone*, at most 7,287 µs, and in twelve the inspected requests', at most 2,887 µs. The record had a hundred files meanwhile, turned
//! under the flood: 10,569,531 attempts, as many records.
//!
//! 9,000 tunnels were held for 600 s under 1,000 reloads, half of them broken, beside 599,342 good requests, of which none failed, and no
//! tunnel ended; 230 bad inputs of 133 seeds; 58 faults three times each, all survived, the slowest recovery 4.0 s (a name server's
//! NXDOMAIN is kept for 5 s), of which four (a kept verdict) came once and were met three times: since then each comes three times too, and
//! a storm of reloads is the 59th; 1,552,557 records expected and found, of the decoy 542,133. The rules dropped 344,450 connections.
//!
//! # Against the goal
//!
//! The goal is a 99th percentile at most doubled, for one abuser at each of: the flood of connections, dribbled hellos, slow heads, bodies
//! and readers, the refused flood, rapid reset, HPACK bomb, mint flood and limiter keys. It is met; closest come the new tunnels beside
//! slow bodies (1.9; 0.9 in an earlier run). The window stall is none of these and was above it in this run, 2.3 for new tunnels, and 1.1
//! three times anew; in 3 s, of which the beginning is more than a hundredth, it was 10.5. Presumably new tunnels wait behind its two
//! thousand streams, which begin in one moment; it was not looked into. Of the flood of handshakes, which is none of these either, the new
//! tunnels' was 2.1: whoever may open a hundred connections a second, and two hundred at once, may greet as often.
//!
//! What it took: a source that opens more than 200 connections a second is dropped by the packet filter (the flood of connections was
//! 4.1 and 3.9 times *alone* without, in debug builds of the attackers, and 2.5 and 2.0 with optimised ones); a client that floods one HTTP/2
//! connection after the other is let open none for a second (rapid reset 2.4 and 3.4, HPACK bomb 2.4 and 3.0 with 100 such connections a
//! second); frames that carry nothing are counted. The rest was this machine's: attackers that went on writing to connections that were
//! ended, computed each frame anew, held with 10,000 attempts a second, or had this system try thousands of dropped connections again in
//! one moment, took the processors that the clients wait for, whichever proxy they were aimed at. So did one origin for everybody: before all
//! others, it filled the sockets of sixty slow readers before the proxy had a turn. With the attacked origin in three classes, slow readers
//! three times for 10 s each, tunnels and inspected requests *beside* by *alone*: before everybody (`SCHED_FIFO`) 8.0 and 2.9, once 8.5 and
//! 12.9 with *elsewhere* higher than *beside*; as the proxy itself (`SCHED_OTHER`) 1.4 and 1.0; behind everybody (`SCHED_IDLE`) 1.3 and 1.1.
