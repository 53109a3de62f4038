//! Running it: signals, reload, the admin listener, the record's file, limits, and what to do for each reason.
//!
//! # Commands and exit codes
//!
//! | command | 0 | 1 | 3 | 4 |
//! |---|---|---|---|---|
//! | `run`, `quickstart` | ended in order | could not start, or not go on; standard error says why | – | – |
//! | `check` | no errors (warnings too) | errors, all of them listed | – | – |
//! | `explain` | permitted | the question could not be answered | denied | – |
//! | `suggest` | done | a file could not be read | – | – |
//! | `replay` | nothing would change | a file could not be read, or the configuration has errors | something would ([`learning`](super::learning)) | – |
//! | `mint` | started by `run` alone ([`hardening`](super::hardening)): ended with it | ended for another reason | – | – |
//! | `ca init`, `ca show` | done | not done, and nothing overwritten | – | – |
//! | `status` | ready | no answer | not ready | – |
//! | `sessions`, `sessions cut`, `confirm`, `rollback` | done | not done; standard error says why ([`changes`](super::changes)) | – | – |
//! | `apply` | in force, or nothing to change | not done, and everything is as it was | nobody said yes | – |
//! | `upgrade` | the new process serves, or with `--if-changed` there is nothing to upgrade | not done, and the old process goes on ([`changes`](super::changes#upgrade)) | – | – |
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
//! | SIGHUP | reloads the configuration and everything it names: trust, CRLs, issuing CA, record; and resolv.conf, where it names no `[resolver] servers`; refused while one is [on trial](super::changes#a-trial) |
//! | SIGUSR1 | reopens the record's file, nothing else |
//! | SIGTERM, SIGINT | drains: not ready, listeners closed, idle connections closed, requests finish, at `timeouts.drain` the rest is cut |
//! | a second one of these | cuts now |
//!
//! A reload that is under way when SIGTERM or SIGINT comes is given up, however long it would take yet.
//!
//! Under systemd, `Type=notify` sees READY, RELOADING and STOPPING. With `WatchdogSec=` in the unit it also sees WATCHDOG once a second
//! for as long as the [self-probe](#the-self-probe) passes on every thread, and restarts a service in which it no longer does. Give it
//! `WatchdogSec=30s`: a restart ends every tunnel, and a machine may be busy for a while.
//!
//! # Reload
//!
//! All or nothing. New listeners, the admin listener and the record are opened before anything is given up; where one cannot be, or the
//! file has an error, the old configuration stays in force. Then `/readyz` stays 200 with `degraded` in its body, `sekisho_degraded` is
//! 1, the record has a `reload_failed` line and the log an error with every problem. `check` says the same problems beforehand.
//! What needs a folder or a port that the service gave up at its start is refused too ([`hardening`](super::hardening#restart-needed)).
//! What happens to open connections is told in [`journey`](super::journey#reload). Raised descriptor limits are taken up; a
//! `limits.connections` that the limit does not carry is lowered with a warning.
//!
//! # The admin listener
//!
//! Plain HTTP, GET and HEAD, three paths, no policy, no names, no keys in any answer. It asks for no password, so bind it to an
//! address that only the monitoring reaches. A request with an `Origin` is a page's in a browser, and gets 403; so does on a loopback
//! address one whose `Host` is neither an IP address nor `localhost`. Whatever tells more or changes something is asked by the
//! [control socket](super::changes).
//!
//! | path | status | body |
//! |---|---|---|
//! | `/livez` | 200 | `ok`: the process answers |
//! | `/readyz` | 200 | `ok`; `degraded: …` where the last reload failed, the [last good configuration](super::changes#the-last-good-configuration) is in force, or the record cannot be written under `continue`; `trial: …`, its revision and until when; `shedding: …` and what presses ([overload](#overload)); `observing: …` and until when ([`learning`](super::learning)) |
//! | `/readyz` | 503 | `starting`, `draining`, `self_probe_failed`, `minting_stalled`, `tenant_proof_failed`, `record_unavailable` under `deny`, or `refusing: …` and what presses |
//! | `/metrics` | 200 | OpenMetrics: attempts, records by action and outcome, reasons, the record's queue and losses, reloads, trial, last good configuration, requests on the control socket, enforcement, connections, sessions by mode, limits, overload, [registrations](super::ismap#where-it-shows), the earliest end of a [revocation list](super::deployment#revocation-lists) |
//!
//! For each action, `sekisho_attempts_total` = `sekisho_attempts_in_progress` + the sum of `sekisho_records_total`. An alarm
//! belongs on `sekisho_record_lost_total`, `sekisho_record_writable` at 0, `sekisho_degraded` at 1, `sekisho_self_probe_passing` at 0,
//! `sekisho_tenant_proof` at 0, `sekisho_minting` at 0, `sekisho_restriction` at 0 ([`hardening`](super::hardening#how-to-see-it)) and
//! `internal_error` among the reasons: `deploy/prometheus` has these and others ([`deployment`](super::deployment)); of `sekisho_restriction` the kinds that
//! Debian 12's kernel can: which others are 0 is for the site's kernel to say.
//!
//! # The self-probe
//!
//! Once a second the service sends two requests through itself, on each thread that serves: one that must be refused, and one that must
//! be allowed, to an origin of its own on 127.0.0.1 whose certificate it verifies ([`probe`](crate::probe)). Nothing of it has to be
//! configured or permitted, and it is in no count of attempts. After three failures in a row on one thread `/readyz` is 503
//! `self_probe_failed`, `sekisho_self_probe_passing` is 0, and record and log say on which thread and why; when it passes again on all of
//! them, all of that goes back by itself. `sekisho_self_probes_total` counts both.
//!
//! | it says | look for |
//! |---|---|
//! | what it was given before has not ended | a thread that stands still: a defect; the watchdog restarts the service |
//! | it took longer than 5s | the same, a record whose file system hangs, or a machine without any processor time left |
//! | a connection to it failed | no descriptor or memory left; a machine without 127.0.0.1 |
//! | CONNECT … was answered … | the answer has the reason; see [below](#reasons) |
//!
//! # Overload
//!
//! Ten times a second the service looks at itself, and is in one of three states. Each change is a line of the log and a `shedding`,
//! `refusing` or `normal` line of the record, with what presses and by how much; `/readyz` and `sekisho_overload` tell the present one.
//!
//! | state | new connections | connections without a tunnel or handshake yet | inspected requests | what stands |
//! |---|---|---|---|---|
//! | normal | within the limits | end by their deadlines | within the limits | goes on |
//! | shedding | 503 `overloaded` for a client that holds 8 or more, and as many as the mean of all clients; all others within the limits | of those older than 1 s the oldest eighth is ended, every 100 ms | within the limits | goes on |
//! | refusing | closed at once, recorded as `overloaded` | the older half is ended, every 100 ms | 503 `overloaded` | goes on |
//!
//! | what presses | shedding | refusing | over |
//! |---|---|---|---|
//! | `queue_delay`: the time a task of the busiest thread waits, the least of a second | 1 s | 5 s | below 200 ms |
//! | `descriptors`: free ones (*r*: those kept for record, admin and reload, 64 or an eighth of the limit) | fewer than 2 *r* | fewer than 1.25 *r*, or an accept failed | 2.5 *r* |
//! | `memory` ([below](#memory)) | charged 90 % of the budget, or resident 80 % of `limits.memory` with half of the budget charged or grown (by 5 % since hardly anything was charged) | resident 90 % with a quarter charged or grown | charged below 80 %, and resident below 75 % or what the allocator keeps |
//! | `accept_backlog`: connections that wait to be accepted, of the kernel's queue (`net.core.somaxconn`, at most 4096) | half | – | a tenth |
//! | `half_open`: slots of `limits.connections` held, half of them without a tunnel or handshake | 90 % | – | 80 %, or a quarter of them |
//!
//! A state is entered at once and left when its cause has been over for a second. `shedding` is no reason to send clients elsewhere, so
//! `/readyz` stays 200; under `refusing` nobody new is served here, so it is 503. Whatever opens a descriptor for a client closes it again
//! where it is one of the *r* that are kept, so the record can always be opened anew, the admin listener asked, and a reload done.
//! An alarm belongs on `sekisho_overload{state="refusing"}` at 1, and a look at `sekisho_overload_entered_total{state="shedding"}`.
//!
//! # Memory
//!
//! `limits.memory` is what resident memory stays below: where it is not set, three quarters of the machine's, or of what a control group
//! above the process allows (v2 `memory.max`, `memory.high`; v1 `memory.limit_in_bytes`), so that the kernel's share of each connection
//! fits beside it. What is resident at the start (the policy, the trust) is taken off, and three quarters of the rest is the budget
//! (`sekisho_memory_budget_bytes`) that is charged before it is used; what has no room in it is refused with `overloaded`. The last quarter
//! is for caches (leaves 26 MiB, and others below that), the record's queue (32 MiB at most) and the allocator.
//!
//! What an allocator keeps for the next who needs it is no overload (glibc's kept all of it after 3,000 inspected connections: 103 MB
//! where 27 MB were before; the one that is used gives it back within seconds).
//!
//! | what | charged | measured idle |
//! |---|---|---|
//! | a connection that owes a head, a ClientHello or a handshake | 72 KiB | 2 KiB, and what it has sent of its head |
//! | a tunnel | 8 KiB | 2.7 KiB |
//! | an inspected connection | 72 KiB | 24 KiB |
//! | a request under way on it | 16 KiB | – |
//! | a body of an HTTP/2 stream whose reader is slower than its writer | 256 KiB, at most 1 MiB each way of a connection | – |
//!
//! So 5,000 tunnels, 2,000 inspected connections, 500 that are just being made and 1,000 requests at a time are charged 242 MB: with
//! 50 MB at the start, `limits.memory` is at least 375 MB. A tunnel whose two sides have both stopped reading holds 64 KiB each
//! way, which is not charged. The unit's `MemoryMax` belongs above `limits.memory`, not at it: at `MemoryMax` the kernel ends the process
//! (O02), with it every tunnel, and nothing passes until it has been started again. An allocation that the system refuses ends it too.
//!
//! # The record's file, and logrotate
//!
//! The file is made 0640 and opened for appending without following a link; a second sekisho on the same file is refused. Rotate by
//! renaming, then SIGUSR1, as `deploy/logrotate/sekisho` does. `copytruncate` would lose lines.
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
//! 1. Move the issuing certificate and key away (`ca init` never overwrites), and bring the root's key back beside the root's certificate, or
//!    say where it is (`--root-key`).
//! 2. `sekisho ca init --config FILE` (with `--reserve NAME` for hosts to come) makes a new intermediate under the same root. Clients that
//!    trust the root need nothing.
//! 3. `sekisho check --config FILE`, then SIGHUP; a restart, where the key is a credential.
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
//! | `not_allowlisted` | 403 http_request_denied | alert 49 | no pattern matches the name | nothing, or after approval add it to a `[[service]]`; `sekisho suggest` ([`learning`](super::learning)) gathers them |
//! | `port_not_permitted` | 403 http_request_denied | alert 49 | the name is listed, the port is not | add the port to `ports` if it is approved |
//! | `service_not_approved` | 403 http_request_denied | alert 49 | the ISMAP registration of the service is over, and its `after_grace` is `deny` | decide, and write it into `[service.ismap]`: see [`ismap`](super::ismap) |
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
//! | `overloaded` | 503 proxy_internal_error | alert 49 | no room for new work: see [overload](#overload); look-ups or handshakes under way | the record's last `shedding` or `refusing` line says what presses; look for a flood |
//! | `record_unavailable` | 503 proxy_internal_error | alert 49 | the record cannot be written and `when_unwritable` is `deny` | free the disk, mend its mode or mount; it recovers by itself |
//! | `shutting_down` | 503 proxy_internal_error | alert 49 | the service is stopping: what came too late, or was cut at `timeouts.drain` with something under way | nothing |
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
//! | `idle_timeout` | 504 http_response_timeout | close | nothing moved for the idle limit | nothing; `timeouts.tunnel_idle`, `timeouts.tunnel_half_closed`, `timeouts.inspected_idle` |
//! | `connection_expired` | 503 connection_terminated | close | the connection has been open for as long as it may | nothing: the client makes another; `timeouts.connection_life` |
//! | `too_slow` | 408 http_request_error | close | the client sent or took its content more slowly than it must | one now and then is a bad line or a download left alone; many from one client deserve a look; `timeouts.body_progress` |
//! | `client_rejected_certificate` | 499 connection_terminated | close | the client does not trust the issuing CA, or pins another | install the root there; tunnel the hosts of applications that pin |
//! | `policy_withdrawn` | 403 http_request_denied | alert 49 | a reload, or the end of a registration, took the permission away | nothing |
//! | `cut_by_operator` | 403 http_request_denied | alert 49 | an operator ended it: [`sekisho sessions cut`](super::changes) | ask who did: the record's `control` line says it |
//!
//! # Limits and timeouts
//!
//! | key | default | bounds |
//! |---|---|---|
//! | `limits.connections` | 20000 | connections of all clients, lowered to what the descriptor limit carries |
//! | `limits.memory` | 3/4 | resident memory, of what the machine or a control group has; see [memory](#memory) |
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
//! | `timeouts.upstream_response` | 2m | from a whole inspected or plain request to the whole head of its answer |
//! | `timeouts.body_progress` | 1m | waiting for a peer of an inspected or plain request to send or take 64 KiB of content |
//! | `timeouts.tunnel_idle` | 1h | a tunnel over which nothing moves |
//! | `timeouts.tunnel_half_closed` | 1m | a tunnel over which nothing moves after one side has said its end |
//! | `timeouts.inspected_idle` | 2m | an inspected connection or request over which nothing moves |
//! | `timeouts.connection_life` | 0s | a client's connection as a whole, whatever moves on it; `0s` is no limit |
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
//! Its limit `floods` is no key: it is of a client that floods one HTTP/2 connection after the other. `sekisho_limit_clients` is how many
//! clients are remembered, some for longer than they have to be. While it is 65536, whoever is not among them shares with all such what one
//! client may have, and is refused once that is used up: so many addresses with connections, or that have just used something, deserve a
//! look.
//! The refusal of a connection, a CONNECT or a plain request that came too fast (`rate_limited`) is held back for a second, so that
//! who begins again with each refusal is slowed to one a second on each of its connections; where 4096 are held back already, or 32 of
//! connections that got no slot, the next is answered at once. Requests on an inspected connection are answered at once: the
//! connection ends behind a hundred that came too fast.
//! A reload changes limits at once, open connections' too: nothing that is held is cut, and what a rate has counted stays counted;
//! octets that are not paid for are paid at the new rate. A connection stays with the group and the service it was accepted under,
//! and where a reload renames those, with their last limits.
//!
//! A rate of octets that clients share (`limits.download`, a group's, a service's) is divided among those who are using it, a client's
//! part falling to the others while it needs none: hundreds of bulk connections of one are worth as much as one of another. A
//! client's own connections take turns, which are the shorter the more it has open, and no less than 1 KiB. A tunnel whose client is
//! gone with a reset is ended within a quarter of a second, also where its octets wait for their turn.
//!
//! # Slow peers
//!
//! Every wait for a peer ends. A head, a ClientHello and a handshake are due as a whole: octets that come one by one do not put the
//! end off, neither does a half-sent head of HTTP/2 (`request_head`). Content is due by its rate: for every `body_progress` that a peer
//! keeps us *waiting* it must have moved 64 KiB, or all that is left. Only its own slowness is counted: an upstream that is slow to take
//! an upload does not make its client slow, and a client to which nothing is sent owes nothing. Not counted are the content of an
//! answer as it comes from its origin (event streams and long downloads look alike), what an HTTP/2 client sends once the answer has
//! begun (gRPC converses so), WebSockets and tunnels: these have their idle limits. What each can hold meanwhile is bounded below.
//!
//! | peer that is slow in | until | seen |
//! |---|---|---|
//! | its CONNECT, or the head of a plain or inspected request | `request_head` | `request_head_timeout`: 408; HTTP/2: GOAWAY ENHANCE_YOUR_CALM |
//! | its ClientHello | `client_hello` | `client_hello_timeout`: close |
//! | its part of a TLS handshake | `client_handshake`, `upstream_handshake` | `tls_failed` |
//! | sending content | `body_progress` | `too_slow`: 408 before an answer has begun, then a cut |
//! | taking an answer | `body_progress` | `too_slow`: close; HTTP/2: RST_STREAM CANCEL |
//! | being connected to | `upstream.connect_timeout` | `connect_timeout`: 504 |
//! | taking a request | `body_progress` | `upstream_timeout`: 504 |
//! | answering (first octet to last of the head) | `upstream_response` | `upstream_timeout`: 504 |
//! | sending or taking anything | `inspected_idle`, `tunnel_idle` | `idle_timeout` |
//! | ending, where the other side has ended | `tunnel_half_closed` | `idle_timeout` |
//! | leaving, however busy | `connection_life`, then `drain` | `connection_expired`: it is drained as at SIGTERM |
//!
//! A peer that has vanished (power, cable) is told by probes: the first after 45 to 105 s of silence, another place in that minute for
//! each connection, so that thousands that fell idle together are not probed together; then one every 15 s. After three minutes without
//! an answer, to a probe or to what was sent, its connection ends as `client_closed` or `upstream_closed`.
//!
//! `connection_life` is off by default: working connections last a working day, those whose permission goes are cut at the reload, and
//! each counts against its client's limits. Set it where a tunnel must meet its destination's certificate anew from time to time.
//!
//! # Bounds
//!
//! Everything a client or an upstream could make grow. A test compares these with the code's constants.
//!
//! | what | bound | constant |
//! |---|---|---|
//! | clients that limits tell apart; past it, new ones are one client | 65536 | `src/admit/clients.rs` MAX_KEYS |
//! | names with their ports that `suggest` keeps | 100000 | `src/learning/asked.rs` MAX_NAMES |
//! | different changes that `replay` keeps | 100000 | `src/learning/replay.rs` MAX_CHANGES |
//! | octets of a line that they read | 1 << 20 | `src/learning/attempts.rs` MAX_LINE |
//! | octets of a request head | 64 * 1024 | `src/http1.rs` HEAD |
//! | field lines of a head | 128 | `src/http1.rs` FIELDS |
//! | octets of a request target | 16 * 1024 | `src/http1.rs` TARGET |
//! | octets of a chunk's line | 256 | `src/http1/body.rs` MAX_CHUNK_LINE |
//! | octets of chunk extensions in one body | 16 * 1024 | `src/http1/body.rs` MAX_CHUNK_EXTENSIONS |
//! | octets of trailers | 8 * 1024 | `src/http1/body.rs` MAX_TRAILERS |
//! | octets of a ClientHello on the wire | 64 * 1024 | `src/identify/client_hello.rs` MAX_WIRE |
//! | octets of a PROXY header | 4096 | `src/identify/proxy_protocol.rs` MAX_WIRE |
//! | octets of one of version 1 | 107 | `src/identify/proxy_protocol.rs` MAX_LINE |
//! | balancers' connections that wait for theirs at a time, for 5 s | 256 | `src/connection/announce.rs` UNANNOUNCED |
//! | networks in `proxy_protocol` | 64 | `src/config/balancers.rs` MOST |
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
//! | leaf certificates kept, of names asked for more than once | 4096 | `src/inspect/leaf.rs` CAPACITY |
//! | and of those asked for once | 512 | `src/inspect/leaf.rs` NEWCOMERS |
//! | octets read at a time for a tunnel, one buffer a thread | 64 * 1024 | `src/tunnel.rs` CHUNK |
//! | octets of content a slow peer must move for every `timeouts.body_progress` | 64 * 1024 | `src/exchange/patience.rs` LEAST |
//! | octets of a pipe that bulk goes through a tunnel by | 512 * 1024 | `src/tunnel/pipes.rs` SIZE |
//! | such pipes at once | 64 | `src/tunnel/pipes.rs` MOST |
//! | octets of an inspected or plain connection unsent in the system | 128 * 1024 | `src/sockets.rs` UNSENT |
//! | octets of an HTTP/1 content held between its two sides | 16 * 1024 | `src/forward.rs` CHUNK |
//! | octets a client may send ahead of an answer | 64 * 1024 | `src/forward.rs` READ_AHEAD |
//! | interim answers to one request | 16 | `src/forward/response.rs` MAX_INTERIM |
//! | HTTP/2 streams of a client | 128 | `src/inspect/h2_settings.rs` STREAMS |
//! | octets of an HTTP/2 header list | 64 * 1024 | `src/inspect/h2_settings.rs` HEADER_LIST |
//! | fields of an HTTP/2 request | 256 | `src/inspect/h2_settings.rs` FIELDS |
//! | octets of an HTTP/2 request as HTTP/1 would write it | 48 * 1024 | `src/inspect/h2_settings.rs` HEAD |
//! | octets of HTTP/2 trailers | 32 * 1024 | `src/inspect/h2_settings.rs` TRAILERS |
//! | octets of an HPACK table | 4096 | `src/inspect/h2_settings.rs` HEADER_TABLE |
//! | octets of an HTTP/2 frame | 16 * 1024 | `src/inspect/h2_settings.rs` FRAME |
//! | octets of one HTTP/2 body held unread | 256 * 1024 | `src/inspect/h2_settings.rs` STREAM_WINDOW |
//! | octets of all bodies of an HTTP/2 connection held unread | 1024 * 1024 | `src/inspect/h2_settings.rs` CONNECTION_WINDOW |
//! | octets of one HTTP/2 body held unsent | 32 * 1024 | `src/inspect/h2_settings.rs` SEND_BUFFER |
//! | overhead of small DATA frames while unread | 512 * 1024 | `src/inspect/h2_settings.rs` SMALL_FRAMES |
//! | HTTP/2 streams a client may reset before we looked at them | 20 | `src/inspect/h2_settings.rs` UNSEEN_RESETS |
//! | resets a client may provoke on a connection | 256 | `src/inspect/h2_settings.rs` PROVOKED_RESETS |
//! | HTTP/2 streams of ours whose late frames are still ignored | 64 | `src/inspect/h2_settings.rs` REMEMBERED_RESETS |
//! | informational answers to one HTTP/2 request | 16 | `src/inspect/h2_settings.rs` INFORMATIONAL |
//! | HTTP/2 frames that carry nothing of a message (PING, SETTINGS, WINDOW_UPDATE), of either side | 1000 | `src/inspect/h2_settings.rs` IDLE_FRAMES |
//! | so many more a second when those are used up | 100 | `src/inspect/h2_settings.rs` IDLE_FRAMES_PER_SECOND |
//! | so many more for each HEADERS | 10 | `src/inspect/h2_settings.rs` IDLE_FRAMES_OF_A_HEAD |
//! | so many more for each DATA that is sent to that side | 2 | `src/inspect/h2_settings.rs` IDLE_FRAMES_OF_DATA |
//! | and one more for so many octets of it | 512 | `src/inspect/h2_settings.rs` OCTETS_OF_AN_IDLE_FRAME |
//! | of these, not used yet | 65536 | `src/inspect/h2_settings.rs` IDLE_FRAMES_EARNED |
//! | HTTP/2 streams a client may cancel without an answered one between | 256 | `src/inspect/h2_settings.rs` CANCELLED_STREAMS |
//! | HTTP/2 connections a client may flood, and one more a second, before it opens no other for a second | 10 | `src/admit/meter.rs` FLOODS |
//! | lines of the record that wait | 8192 | `src/record/queue.rs` CAPACITY |
//! | octets of the record that wait | 16 << 20 | `src/record/queue.rs` CAPACITY_BYTES |
//! | refusals of a client, action and reason in lines of their own, in 0.9 s | 50 | `src/record/flood.rs` WHOLE |
//! | of these kinds of refusal, told apart at a time | 4096 | `src/record/flood.rs` MAX_CAUSES |
//! | authorities named where refusals are counted together | 16 | `src/record/flood.rs` MAX_AUTHORITIES |
//! | octets of these | 2048 | `src/record/flood.rs` MAX_AUTHORITY_BYTES |
//! | octets of one value in the record | 1024 | `src/record/values.rs` LONGEST_TEXT |
//! | octets charged for a connection that is not established | 72 * 1024 | `src/pressure/memory.rs` NEWCOMER |
//! | octets charged for a tunnel | 8 * 1024 | `src/pressure/memory.rs` ESTABLISHED |
//! | octets charged for an inspected connection, beside that | 64 * 1024 | `src/pressure/memory.rs` INSPECTED |
//! | octets charged for an inspected request | 16 * 1024 | `src/pressure/memory.rs` REQUEST |
//! | descriptors kept for record, admin and reload; at most an eighth | 64 | `src/sockets.rs` RESERVED |
//! | connections without a slot that are answered at a time | 64 | `src/connection/front.rs` TURNED_AWAY |
//! | admin connections at a time | 32 | `src/admin.rs` CONNECTIONS |
//! | clients' connections to the PAC listener at a time | 256 | `src/autoconfig/places.rs` CONNECTIONS |
//! | of one client | 8 | `src/autoconfig/places.rs` OF_ONE |
//! | strangers' connections to it | 8 | `src/autoconfig/places.rs` STRANGERS |
//! | PAC scripts made at a time; kept is one for each group and `[[pac.network]]` | 2 | `src/autoconfig/shelf.rs` MAKERS |
//! | octets of a PAC script | 1 << 20 | `src/autoconfig.rs` MOST |
//! | octets of a configuration file | 64 << 20 | `src/config.rs` MAX_FILE |
