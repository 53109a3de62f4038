//! The access record: JSON Lines, one object a line, UTF-8, one terminal line per attempt.
//!
//! An *attempt* is a CONNECT, an accepted connection that ended before one (`event.action` = `connection`), or a plain or inspected
//! request (`request`). An allowed connection also writes an `established` line when it begins, and the service itself writes
//! `lifecycle` lines. A connection's requests name it in `sekisho.connection`.
//!
//! The `established` line of a connection stands before its terminal one, with one exception: of a tunnel that began as another process took
//! over ([`changes`](super::changes#upgrade)) the first comes from the old process and the second is the new one's, and a tunnel that ends at
//! once may have them the other way round. `event.id` says what belongs together.
//!
//! For each action, attempts are the sum of `sekisho.count` (absent: 1) over the lines with `event.outcome` allowed, denied and
//! failed, always. `event.sequence` has no gap whatever is counted together, and that is two things only:
//!
//! * **A flood of refusals.** Of one client (an IPv6 /64 is one), action and reason, 50 denied attempts within 0.9 s stand in lines
//!   of their own. The further ones are one line at the end of that time; a flood that goes on is one such line after the other,
//!   until no more than 50 come in the time of one. An attempt that has an `established` line is never among them, nor is one that
//!   failed. The line has the time of the first (`@timestamp`) and from there to the last (`event.duration`), every field that was
//!   the same in all of them, and in `sekisho.authorities` the first 16 different ones that were asked for (2048 octets of them):
//!   *which* names were refused is known of the first 50 and of that sample, *how many* attempts there were of all. The references on
//!   their refusal pages are in no line: look for client and time. Where `source.ip` is missing, `sekisho.detail` says whose they
//!   were: an IPv6 /64, or all clients past the 4096 that are told apart.
//! * **What could not be written one by one** while the file was unwritable: one line for each action, outcome and reason.
//!
//! A count is in the file within the second, like any line, before what ends a file or a run and before every `lifecycle` line.
//!
//! A text longer than [`LONGEST_TEXT`](crate::record::LONGEST_TEXT) octets is cut and ends in `…[cut N bytes, sha256 xxxxxxxx]`, the
//! beginning of the hash of the whole. Control, bidirectional and invisible characters are escaped. Queries, passwords and values of
//! header fields are in no line.
//!
//! The words of `event.reason` are in [`operations`](super::operations#reasons), those of `sekisho.certificate_error` in
//! [`Fault`](crate::upstream::verify::Fault). A field that is not known is not in the line.
//!
//! # Fields, in the order of a line
//!
//! | field | type | meaning |
//! |---|---|---|
//! | `event.sequence` | long | Number of the line within this run of the service: 1, 2, 3, … without a gap, in the order of the file and across rotated files. |
//! | `@timestamp` | date | When the event began, UTC, milliseconds. For an attempt: when its connection was accepted, or, for a later one on it, when its request head was read; it ended `event.duration` later. |
//! | `event.id` | keyword | Identifier of the attempt, the reference shown on a refusal page. `established` and the terminal record of one connection share it. |
//! | `event.action` | keyword | connection, request, established or lifecycle. |
//! | `event.outcome` | keyword | allowed, denied or failed. Only in terminal records. |
//! | `event.reason` | keyword | Why it ended so, a word of the closed list of reasons. Absent where an allowed attempt ended normally. |
//! | `event.duration` | long | Nanoseconds since `@timestamp`, by a clock that never jumps. |
//! | `sekisho.config_revision` | keyword | Revision of the configuration that decided. |
//! | `source.ip` | ip | Address of the client that connected, behind a balancer by its PROXY header. Nothing a client sends can change it. |
//! | `source.port` | long | Port of the client. |
//! | `sekisho.client` | keyword | The `[[clients]]` group of the client. |
//! | `sekisho.listener` | keyword | The `[[listener]]` that accepted the connection. |
//! | `sekisho.original_destination` | keyword | Where a client meant to go that the network steered to a transparent `[[listener]]`, behind a balancer by its PROXY header. Evidence only: it is never dialled, the name is. |
//! | `sekisho.connection` | keyword | For a request: `event.id` of the connection it came by. |
//! | `rule.id` | keyword | Identifier of the rule that decided. |
//! | `rule.name` | keyword | Name of the `[[service]]` that decided. |
//! | `sekisho.mode` | keyword | tunnel or inspect. |
//! | `sekisho.would_refuse` | keyword | In a time of observing (`site.enforcement`): not_allowlisted, the reason for which this attempt would be refused otherwise; only observing has let it through. Absent: a rule permitted it, or it was refused. |
//! | `sekisho.stage` | keyword | The stage of the journey at which the attempt ended. |
//! | `sekisho.side` | keyword | Whose doing the end was: client, upstream or sekisho. |
//! | `sekisho.authority` | keyword | The authority of the CONNECT or the URI as the client wrote it. A password reads ***, a query …. |
//! | `tls.client.server_name` | keyword | The server_name (SNI) of the client's ClientHello. |
//! | `url.domain` | keyword | The host name the decision was about, in its normal form. |
//! | `http.request.method` | keyword | Method of the request. |
//! | `url.path` | keyword | Path of the request, never with its query. |
//! | `http.response.status_code` | long | Status the client was given. |
//! | `sekisho.headers_set` | keyword[] | Names of the header fields that were set by the rule; never their values. |
//! | `destination.ip` | ip | Address that was connected to, or tried last. |
//! | `destination.port` | long | Port of the destination. |
//! | `source.bytes` | long | Payload octets from the client to the destination. |
//! | `destination.bytes` | long | Payload octets from the destination to the client. |
//! | `tls.version` | keyword | TLS version agreed with the destination. Inspected connections only: a tunnel's TLS is the client's own. |
//! | `tls.cipher` | keyword | Cipher suite agreed with the destination. Inspected connections only. |
//! | `tls.server.subject` | keyword | Subject of the destination's certificate. |
//! | `tls.server.not_after` | date | End of validity of the destination's certificate. |
//! | `sekisho.upstream_verdict` | keyword | What the verification of the destination gave, and whether it was made for this attempt. |
//! | `sekisho.detail` | keyword | One sentence for the administrator where the reason alone does not say enough. |
//! | `sekisho.count` | long | How many events of the same action, outcome and reason this line stands for, all within `event.duration` from `@timestamp` on; what else stands in it holds for each of them. Absent: 1. |
//! | `sekisho.authorities` | keyword[] | With `sekisho.count`, where the authorities differ: those that were asked for first, each once, up to 16 of them and 2048 octets. |
//! | `sekisho.balancer` | keyword | The balancer that passed the connection on, where `proxy_protocol` names one: `source.ip` is then what its PROXY header says, or its own address where that names no client or could not be read. |
//! | `sekisho.balancer_destination` | keyword | Where the client connected to at the balancer, by the PROXY header. Of a steered client that is `sekisho.original_destination`. |
//! | `sekisho.certificate_error` | keyword | With certificate_invalid: expired, not_yet_valid, unknown_issuer, name, revoked, …. |
//! | `sekisho.lifecycle` | keyword | What happened to the service: start, stop, reload, reload_failed, config_problem, reopen, reopen_failed, continued, handed_over, record_recovered, self_probe_failed, self_probe_recovered, tenant_proof_failed, tenant_proof_holds, shedding, refusing, normal, observing, enforcing, control, control_refused, trial_begun, trial_confirmed, trial_rolled_back, last_good, takeover_failed, taken_over, minting_ended, minting_stalled, minting_recovered or unrestricted. |
//! | `message` | keyword | A lifecycle event in a sentence. |
//! | `sekisho.control` | keyword | What was asked for on the control socket: status, sessions, cut, reload, trial, confirm, rollback, stderr or take_over. Absent where the request could not be read. |
//! | `user.id` | keyword | Number of the user who asked, as the kernel says it. |
//! | `user.name` | keyword | Name of that user, where /etc/passwd has it. |
//! | `process.pid` | long | Process that asked. |
//! | `service.version` | keyword | Version of sekisho, in the lines of lifecycle events that are not of the record itself. |
//! | `sekisho.previous_end` | keyword | In start and reopen: how the file that was found ended: none (it was new or empty), clean, or unclean (up to a second of records may be missing). |
//! | `sekisho.previous_sequence` | long | In start and reopen: `event.sequence` of the last line found in the file. |
//! | `sekisho.torn_bytes` | long | Length of an unfinished last line that was found and taken out of the file. |
//! | `sekisho.torn` | keyword | The beginning of that unfinished line, as text. |
