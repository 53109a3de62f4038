//! `sekisho load`: measuring a proxy with clients and an origin of one's own, and what the figures mean.
//!
//! # A first run
//!
//! `sekisho load origin` is the cloud service. It prints a whole `sekisho.toml` for a first try. `sekisho run --config sekisho.toml` is
//! the proxy, `sekisho load run --proxy … --target … --ca …` the clients. `--report FILE` writes a page with plots, `--json FILE` the
//! figures. To see what the proxy costs, make the same run without it: `--via sni` with the origin's address as `--proxy`. The generator
//! takes half of the processors; on a machine that the proxy is on too, the figures are those of both together, so for a capacity put
//! clients, proxy and origin on machines of their own.
//!
//! All clients have the generator's address. `limits.per_client` would stop them, so the printed configuration raises it; take these
//! lines out again after the test. For an inspected service add the proxy's root with a second `--ca`.
//!
//! # Scenarios
//!
//! | scenario | each request is |
//! |---|---|
//! | `new` | TCP, CONNECT, a full TLS 1.3 handshake, `GET /` (13 octets); then a close in order, which is waited for and not in the latency |
//! | `h1` | `GET /` on one of `--connections` HTTP/1.1 connections that are kept |
//! | `h2` | `GET /` on one of `--connections` HTTP/2 connections, `--streams` at a time on each |
//! | `bulk` | `GET /bytes/SIZE` on one of `--connections` HTTP/1.1 connections |
//! | `refused` | CONNECT to `refused.invalid:443` on a new connection, where a 4xx is success; via sni TLS with that name, where an alert, a close or a reset is |
//! | `idle` | `--connections` connections with TLS done are opened, `holding N` is printed, after `--hold` one `GET /` on each |
//! | `office` | the mix below, for `--duration` |
//!
//! TLS is 1.3 with X25519 and without resumption, so that every handshake costs the same whatever stands between. Connections that are
//! kept are opened before the start, 64 at a time. A request that takes longer than 30 s fails.
//!
//! # The office day
//!
//! The proportions are chosen, not measured; a site's own record knows better. They follow what is commonly said of office suites in
//! the cloud: a client has sessions open all day on which little happens, opens several connections at once when somebody opens a page,
//! and moves files now and then. Times are means of exponential distributions, from one act to the next of one client.
//!
//! | role | share | every | what | stands for |
//! |---|---|---|---|---|
//! | quiet | 75 % | 30 s | a small GET on a kept HTTP/2 connection | mail, presence and notification sessions |
//! | typing | 12 % | 1 s | a small GET on a kept HTTP/2 connection | editing together, chat |
//! | visits | 6 % | 15 s | 6 new connections at once, a small GET on each | opening a page, signing in |
//! | downloads | 5 % | 10 s | a GET of 4000000 octets on a kept HTTP/1.1 connection | documents, attachments |
//! | uploads | 2 % | 20 s | a POST of 1000000 octets on a kept HTTP/1.1 connection | saving, synchronising |
//!
//! # Closed and open loop
//!
//! Without `--rate` each connection asks again as soon as it was answered: what comes out is the most that so many connections get
//! through, and a latency under full load. With `--rate` requests are meant to begin at moments fixed beforehand (Poisson arrivals,
//! the same in each run), and a latency counts from the intended moment, however late the request really began. A client that waits for
//! an answer before it asks again would leave out of its figures just the requests that a stall delays (coordinated omission). What
//! finds every connection busy waits; when as much waits as is meant to begin in two seconds (at least 1000), more fails as `not_sent`.
//! Where the generator itself was late (p99 above 2 ms, or its threads busy for more than 95 % of the time) the summary says INVALID
//! and why: the figures are then those of the generator.
//!
//! # Targets
//!
//! Load on somebody else's service is an attack. The address of `--proxy` has to be loopback, private (RFC 1918, `fc00::/7`) or
//! link-local. The target's name is resolved by the proxy, which this tool cannot watch. So a name passes where it ends in `.test`,
//! `.invalid`, `.localhost`, `.local`, `.internal` or `.home.arpa`, which are nobody's on the Internet, or where this machine's own
//! resolver gives it addresses and every one of them would pass as `--proxy`. Anything else needs `--i-own-the-target`. A proxy whose
//! resolver says otherwise than this machine's is beyond what can be checked.
//!
//! # Exit codes
//!
//! 0: ended without errors. 4: ended, and some requests failed. 1: could not run, or not one request succeeded.
//!
//! # Figures
//!
//! The keys of `--json`, which are kept from version to version:
//!
//! | key | is |
//! |---|---|
//! | `scenario`, `via` | as given |
//! | `requests` | those that came out as they should; failures are not in it |
//! | `errors` | failures by kind, an object that is empty where there are none |
//! | `seconds` | from the start, when everything was open that is opened beforehand, to the last answer |
//! | `bytes_received`, `bytes_sent` | octets of content; heads and TLS are not counted |
//! | `latency_us` | `p50`, `p90`, `p99`, `p999`, `max` in microseconds, to three figures |
//! | `connections` | connections opened to the end of TLS, those before the start included |
//! | `per_second` | a list: `at` (seconds from the start to its end), `seconds` (its length), `requests`, `errors`, `bytes_received`, `bytes_sent`, `p50_us`, `p99_us` |
//! | `opening_seconds` | opening connections before the start |
//! | `rate` | as given; absent in the closed loop |
//! | `generator_lag_us` | as `latency_us`: how late the generator began; absent in the closed loop |
//! | `generator_threads`, `generator_cpu_seconds` | of this tool |
//! | `invalid` | why the figures say more about this tool than about the proxy; absent where they do not |
//!
//! | kind of error | is |
//! |---|---|
//! | `connect_refused` | nothing listens at `--proxy` |
//! | `connect_403`, `connect_429`, … | CONNECT was answered with this status |
//! | `status_503`, … | a request was answered with something other than 200 |
//! | `not_refused` | `refused` was let through |
//! | `tls`, `alpn` | the handshake failed; the other end does not speak HTTP/2 |
//! | `reset`, `closed` | the connection broke off, or ended before the answer did |
//! | `timeout` | nothing within 30 s |
//! | `not_http`, `framing` | no HTTP/1.1 response, or one without Content-Length |
//! | `h2`, `h2_goaway`, `h2_reset` | HTTP/2 ended the request |
//! | `not_sent` | the open loop had no place to wait left |
//! | `no_descriptor`, `no_source_port` | this machine's limits: `ulimit -Hn`; more `--client-address`, each has about 28,000 ports |
//! | `io` | anything else; the sentence says what |
//!
//! # Capacity in the report
//!
//! The report's last table is reckoned, not measured: source ports of one address to one destination, new connections a second
//! before ports wait in TIME_WAIT, clients per egress address, connections of one `sekisho run` by its descriptor limit. Each line has
//! its formula. The limits are those of the machine that the tool ran on.
