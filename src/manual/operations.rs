//! Running it: signals, reload, the admin listener, the record's file, limits, and what to do for each reason.
//!
//! # Commands and exit codes
//!
//! | command | 0 | 1 | 3 | 4 |
//! |---|---|---|---|---|
//! | `run`, `quickstart` | ended in order | could not start, or not go on; standard error says why | – | – |
//! | `check` | no errors (warnings too) | errors, all of them listed | – | – |
//! | `explain` | permitted | the question could not be answered | denied | – |
//! | `ca init`, `ca show` | done | not done, and nothing overwritten | – | – |
//! | `load` | no errors | could not run, or nothing succeeded | – | some requests failed ([`load`](super::load)) |
//!
//! Wrong arguments end every command with 1.
//!
//! Diagnostics go to standard error ([`telemetry`](crate::telemetry)); `SEKISHO_LOG=debug` says more, `NO_COLOR` takes the colours off.
//!
//! # Signals
//!
//! | signal | does |
//! |---|---|
//! | SIGHUP | reloads the configuration and everything it names: trust, CRLs, issuing CA, record |
//! | SIGUSR1 | reopens the record's file, nothing else |
//! | SIGTERM, SIGINT | drains: not ready, listeners closed, idle connections closed, requests finish, at `timeouts.drain` the rest is cut |
//! | a second one of these | cuts now |
//!
//! Under systemd, `Type=notify` sees READY, RELOADING and STOPPING.
//!
//! # Reload
//!
//! All or nothing. New listeners, the admin listener and the record are opened before anything is given up; where one cannot be, or the
//! file has an error, the old configuration stays in force. Then `/readyz` stays 200 with `degraded` in its body, `sekisho_degraded` is
//! 1, the record has a `reload_failed` line and the log an error with every problem. `check` says the same problems beforehand.
//! What happens to open connections is told in [`journey`](super::journey#reload). Raised descriptor limits are taken up; a
//! `limits.connections` that the limit does not carry is lowered with a warning.
//!
//! # The admin listener
//!
//! Plain HTTP, GET and HEAD, three paths, no policy, no names, no keys in any answer. It asks for no password, so bind it to an
//! address that only the monitoring reaches.
//!
//! | path | status | body |
//! |---|---|---|
//! | `/livez` | 200 | `ok`: the process answers |
//! | `/readyz` | 200 | `ok`, or `degraded: …` where the last reload failed, or the record cannot be written under `continue` |
//! | `/readyz` | 503 | `starting`, `draining`, or `record_unavailable` under `deny` |
//! | `/metrics` | 200 | OpenMetrics: attempts, records by action and outcome, reasons, the record's queue and losses, reloads, connections, limits |
//!
//! For each action, `sekisho_attempts_total` = `sekisho_attempts_in_progress` + the sum of `sekisho_records_total`. An alarm
//! belongs on `sekisho_record_lost_total`, `sekisho_record_writable` at 0, `sekisho_degraded` at 1 and `internal_error` among the reasons.
//!
//! # The record's file, and logrotate
//!
//! The file is made 0640 and opened for appending without following a link; a second sekisho on the same file is refused. Rotate by
//! renaming, then SIGUSR1. `copytruncate` would lose lines.
//!
//! ```text
//! /var/log/sekisho/access.jsonl {
//!     daily
//!     rotate 400
//!     compress
//!     delaycompress
//!     missingok
//!     postrotate
//!         systemctl kill --signal=SIGUSR1 sekisho.service
//!     endscript
//! }
//! ```
//!
//! `rotate 400` is an example: how long logs are kept is the body's own rule. A file that was left in order ends in a `stop` or
//! `continued` line. After a kill at most the last second is missing, and the next `start` line says so (`sekisho.previous_end`). While
//! the file cannot be written it is tried again four times a second; what waited is then written, at worst as counts. A flood of
//! refusals does not fill the disk: it is counted ([`record`](super::record)), exactly, with a sample of the names.
//!
//! # Issuing the intermediate again
//!
//! `ca show` says what the issuing CA covers and when it ends. Before it ends, or when a new inspected host is not covered:
//!
//! 1. Move the issuing certificate and key away (`ca init` never overwrites), and bring the root's key back beside the root's certificate.
//! 2. `sekisho ca init --config FILE` (with `--reserve NAME` for hosts to come) makes a new intermediate under the same root. Clients that
//!    trust the root need nothing.
//! 3. `sekisho check --config FILE`, then SIGHUP.
//! 4. Take the root's key offline again.
//!
//! A new *root* has to be given to every client first.
//!
//! # Reasons
//!
//! The word stands in `event.reason`, in `Proxy-Status`, on the page and in `sekisho_reasons_total`. *Status* is what a client gets while
//! HTTP can still be spoken, with the error type of RFC 9209; *TLS* what it gets between the 200 of CONNECT and the end of a handshake.
//! 499 is never sent: the client is gone.
//!
//! | reason | status | TLS | meaning | what to do |
//! |---|---|---|---|---|
//! | `malformed_request` | 400 http_request_error | alert 49 | the head is not unambiguous HTTP | look at `sekisho.detail`; update or report the client |
//! | `malformed_name` | 400 http_request_error | alert 49 | where a name is due stands none | see what the client was given as address |
//! | `client_not_permitted` | 403 http_request_denied | alert 49 | the client is in no group, or in none the service is for | `explain --client IP`; correct `[[clients]]` or the service's `clients` |
//! | `not_allowlisted` | 403 http_request_denied | alert 49 | no pattern matches the name | nothing, or after approval add it to a `[[service]]` |
//! | `port_not_permitted` | 403 http_request_denied | alert 49 | the name is listed, the port is not | add the port to `ports` if it is approved |
//! | `ip_literal` | 403 http_request_denied | alert 49 | an IP address stood where a name is due | have the client use the name |
//! | `plain_http_not_permitted` | 403 http_request_denied | alert 49 | `http://` to a service without `plain_http` | use https; for CRL and update hosts a service with `plain_http = true` |
//! | `address_denied` | 403 destination_ip_prohibited | alert 49 | every address of the name is special-purpose | check the DNS answer; if it is meant, `upstream.allow_addresses` |
//! | `self_connection` | 403 proxy_loop_detected | alert 49 | the destination is this proxy | correct the client's proxy settings or the DNS entry |
//! | `method_not_permitted` | 405 http_request_denied | alert 49 | a method the service does not take, CONNECT inside inspection included | nothing, or report the client |
//! | `request_head_timeout` | 408 http_request_error | alert 49 | no whole head in time | a slow or idle client; `timeouts.request_head` |
//! | `head_too_large` | 431 http_request_error | alert 49 | the head is over its limit, or would be with the tenant fields | clear the site's cookies in the browser |
//! | `name_mismatch` | 421 http_request_denied | alert 112 | SNI, `Host` or `:authority` is not the connection's name | one now and then is a browser's reuse; many from one client deserve a look |
//! | `rate_limited` | 429 connection_limit_reached | alert 49 | too many in too short a time, in nearly every case from one client; `sekisho.detail` names the limit | find out what runs there; `limits.per_client` |
//! | `too_many_connections` | 429 connection_limit_reached | alert 49 | this client holds as many connections as it may | as above; behind address translation raise `connections` per client |
//! | `too_many_connections` | 503 connection_limit_reached | alert 49 | all clients together do, or a group's or a service's (`sekisho.detail`) | raise that limit and `LimitNOFILE`, or find the flood |
//! | `dns_failed` | 502 dns_error | alert 49 | the name has no address, or the resolver refused | ask the resolver for the name |
//! | `connect_failed` | 502 connection_refused | alert 49 | no address accepted a connection | check the line, its firewall and `upstream.bind` |
//! | `certificate_invalid` | 502 tls_certificate_error | alert 49 | the certificate did not pass; `sekisho.certificate_error` says why | never ignore it; for an own CA `upstream.extra_roots` |
//! | `tls_failed` | 502 tls_protocol_error | alert 49 | a handshake failed for another reason | `sekisho.side` says whose; check the origin's TLS versions |
//! | `client_certificate_required` | 502 tls_alert_received | alert 49 | the origin asks for a client certificate | tunnel the host instead of inspecting it |
//! | `upstream_closed` | 502 connection_terminated | alert 49 | the origin closed before it answered | try again; ask the service's status page |
//! | `upstream_truncated` | 502 http_response_incomplete | alert 49 | the origin closed inside an answer | try again |
//! | `upstream_malformed` | 502 http_protocol_error | alert 49 | the answer is not unambiguous HTTP | `sekisho.detail`; report it to the service |
//! | `no_application_protocol` | 403 http_request_denied | alert 120 | no protocol in common that is inspected | tunnel the host, if no tenant restriction is due there |
//! | `overloaded` | 503 proxy_internal_error | alert 49 | no room for new work: descriptors, look-ups or handshakes under way | raise `LimitNOFILE`; look for a flood of names |
//! | `record_unavailable` | 503 proxy_internal_error | alert 49 | the record cannot be written and `when_unwritable` is `deny` | free the disk, mend its mode or mount; it recovers by itself |
//! | `shutting_down` | 503 proxy_internal_error | alert 49 | the service is stopping | nothing |
//! | `issuing_failed` | 503 proxy_internal_error | alert 49 | no leaf could be made | `ca show`; issue the intermediate again |
//! | `internal_error` | 503 proxy_internal_error | alert 49 | a defect of sekisho | report it with the record's line and the log |
//! | `connect_timeout` | 504 connection_timeout | alert 49 | no address accepted a connection in time | as `connect_failed` |
//! | `dns_timeout` | 504 dns_timeout | alert 49 | no answer from the resolver in time | check `resolver.servers` |
//! | `upstream_timeout` | 504 http_response_timeout | alert 49 | the origin did not answer in time | try again; check the line's load |
//! | `no_sni` | 403 http_request_denied | alert 112 | the ClientHello names no server | an old client; inspect the service or update the client |
//! | `malformed_client_hello` | 403 http_request_denied | alert 50 | the ClientHello is not one | update or report the client |
//! | `client_hello_too_large` | 403 http_request_denied | alert 50 | the ClientHello is over its limit | report the client |
//! | `tls_version` | 403 http_request_denied | alert 70 | no TLS version that is taken | let the client use TLS 1.2 or 1.3 |
//! | `not_tls` | 403 http_request_denied | close | what follows CONNECT is not TLS | nothing: only TLS is carried |
//! | `client_hello_timeout` | 408 http_request_error | close | no whole ClientHello in time | a slow or idle client; `timeouts.client_hello` |
//! | `client_closed` | 499 connection_terminated | close | the client went away | nothing |
//! | `idle_timeout` | 504 http_response_timeout | close | nothing moved for the idle limit | nothing; `timeouts.tunnel_idle`, `timeouts.inspected_idle` |
//! | `client_rejected_certificate` | 499 connection_terminated | close | the client does not trust the issuing CA, or pins another | install the root there; tunnel the hosts of applications that pin |
//! | `policy_withdrawn` | 403 http_request_denied | alert 49 | a reload took the permission away | nothing |
//!
//! # Limits and timeouts
//!
//! | key | default | bounds |
//! |---|---|---|
//! | `limits.connections` | 20000 | connections of all clients, lowered to what the descriptor limit carries |
//! | `limits.new_connections_per_second` | none | the rate of new connections |
//! | `limits.burst` | none | how many of them may come at once; by default two seconds' worth |
//! | `limits.requests_per_second` | none | inspected requests, and further plain requests on an open connection |
//! | `limits.upload` | none | octets a second from clients to upstreams: they are slowed, nothing is refused |
//! | `limits.download` | none | octets a second from upstreams to clients |
//! | `limits.handshakes` | none | CONNECTs between their permission and their relay |
//! | `limits.leaf_mints_per_second` | none | leaf certificates made |
//! | `limits.dns_lookups` | none | look-ups that are waited for |
//! | `limits.per_client.connections` | 512 | connections of one client |
//! | `limits.per_client.new_connections_per_second` | 100 | as above, of one client; a further CONNECT on an open connection counts like a new one |
//! | `limits.per_client.burst` | 200 | how many of them may come at once |
//! | `limits.per_client.requests_per_second` | 500 | as above, of one client |
//! | `limits.per_client.upload` | none | octets a second of one client, which its connections share |
//! | `limits.per_client.download` | none | as above |
//! | `limits.per_client.handshakes` | 256 | as above, of one client; no fewer than `burst` where it is not set |
//! | `limits.per_client.leaf_mints_per_second` | 50 | as above, of one client: inspected names that are new |
//! | `limits.per_client.dns_lookups` | 128 | as above, of one client; a name that is known costs none |
//! | `limits.ipv6_prefix` | 64 | IPv6 addresses with so many leading bits in common are one client |
//! | `timeouts.request_head` | 15s | a whole request head |
//! | `timeouts.client_hello` | 10s | a whole ClientHello |
//! | `timeouts.client_handshake` | 10s | the client's TLS handshake with us |
//! | `timeouts.upstream_handshake` | 10s | a TLS handshake with an upstream |
//! | `timeouts.dns` | 5s | a look-up, all servers together |
//! | `timeouts.tunnel_idle` | 1h | a tunnel over which nothing moves |
//! | `timeouts.inspected_idle` | 2m | an inspected connection or request over which nothing moves |
//! | `timeouts.drain` | 30s | from SIGTERM until the rest is cut |
//! | `upstream.connect_timeout` | 5s | connecting, all addresses together |
//! | `upstream.verify_cache` | 10m | how long a tunnel's verdict is kept |
//!
//! `[clients.limits]` has the same keys for a group as a whole, `[service.limits]` for a service (its `connections` are CONNECTs and
//! plain requests that last); without a key there is no such limit. `[clients.limits.per_client]` takes the place of
//! `limits.per_client` for the clients of a group, key by key. A client is one address: behind address translation a whole office is
//! one, so give such a group its own `per_client`.
//!
//! What is over a limit is refused before a name is looked up or an upstream is spoken to, and the record's `sekisho.detail` names the
//! limit; octets wait. `sekisho_limit_reached_total` counts both by limit and by whose it is, `sekisho_limit_held` is what is held now.
//! A reload changes limits at once, open connections' too: nothing that is held is cut, and what a rate has counted stays counted.
//!
//! # Bounds
//!
//! Everything a client or an upstream could make grow. A test compares these with the code's constants.
//!
//! | what | bound | constant |
//! |---|---|---|
//! | clients that limits tell apart; past it, new ones are one client | 65536 | `src/admit/clients.rs` MAX_KEYS |
//! | octets of a request head | 64 * 1024 | `src/http1.rs` HEAD |
//! | field lines of a head | 128 | `src/http1.rs` FIELDS |
//! | octets of a request target | 16 * 1024 | `src/http1.rs` TARGET |
//! | octets of a chunk's line | 256 | `src/http1/body.rs` MAX_CHUNK_LINE |
//! | octets of chunk extensions in one body | 16 * 1024 | `src/http1/body.rs` MAX_CHUNK_EXTENSIONS |
//! | octets of trailers | 8 * 1024 | `src/http1/body.rs` MAX_TRAILERS |
//! | octets of a ClientHello on the wire | 64 * 1024 | `src/identify/client_hello.rs` MAX_WIRE |
//! | protocols in one ALPN extension | 1024 | `src/identify/client_hello.rs` MAX_ALPN |
//! | DNS answers kept | 8192 | `src/upstream/resolve.rs` MAX_KEPT |
//! | look-ups under way | 512 | `src/upstream/resolve.rs` MAX_RUNNING |
//! | addresses of a family taken from an answer | 8 | `src/upstream/dns.rs` MAX_ADDRESSES |
//! | CNAMEs followed | 16 | `src/upstream/dns.rs` MAX_CNAMES |
//! | verdicts on certificates kept | 8192 | `src/upstream/verify.rs` MAX_VERDICTS |
//! | verifying handshakes under way | 512 | `src/upstream/verify.rs` MAX_RUNNING |
//! | octets of a certificate chain | 64 * 1024 | `src/upstream/verifier.rs` MAX_CHAIN_BYTES |
//! | issuers looked at in a chain | 6 | `src/upstream/verifier.rs` MAX_ISSUERS |
//! | upstream TLS sessions kept | 2048 | `src/upstream/trust.rs` MAX_SESSIONS |
//! | leaf certificates kept | 4096 | `src/inspect/leaf.rs` CAPACITY |
//! | octets read at a time for a tunnel, one buffer a thread | 64 * 1024 | `src/tunnel.rs` CHUNK |
//! | octets a client may send ahead of an answer | 64 * 1024 | `src/forward.rs` READ_AHEAD |
//! | interim answers to one request | 16 | `src/forward/response.rs` MAX_INTERIM |
//! | HTTP/2 streams of a client | 128 | `src/inspect/h2_settings.rs` STREAMS |
//! | octets of an HTTP/2 header list | 64 * 1024 | `src/inspect/h2_settings.rs` HEADER_LIST |
//! | octets of one HTTP/2 body held unread | 256 * 1024 | `src/inspect/h2_settings.rs` STREAM_WINDOW |
//! | octets of all bodies of an HTTP/2 connection held unread | 1024 * 1024 | `src/inspect/h2_settings.rs` CONNECTION_WINDOW |
//! | HTTP/2 streams a client may cancel without an answered one between | 256 | `src/inspect/h2_settings.rs` CANCELLED_STREAMS |
//! | lines of the record that wait | 8192 | `src/record/queue.rs` CAPACITY |
//! | octets of the record that wait | 16 << 20 | `src/record/queue.rs` CAPACITY_BYTES |
//! | refusals of a client, action and reason in lines of their own, in 0.9 s | 50 | `src/record/flood.rs` WHOLE |
//! | of these kinds of refusal, told apart at a time | 4096 | `src/record/flood.rs` MAX_CAUSES |
//! | authorities named where refusals are counted together | 16 | `src/record/flood.rs` MAX_AUTHORITIES |
//! | octets of these | 2048 | `src/record/flood.rs` MAX_AUTHORITY_BYTES |
//! | octets of one value in the record | 1024 | `src/record/values.rs` LONGEST_TEXT |
//! | admin connections at a time | 32 | `src/admin.rs` CONNECTIONS |
//! | octets of a configuration file | 64 << 20 | `src/config.rs` MAX_FILE |
