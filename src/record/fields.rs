//! Every field of the record, once: the name in Rust, the type, the key, the meaning.
//!
//! The one table below makes the struct that the spine fills, the order in which a line is written, and [`TABLE`], from which
//! the manual's table is made. Keys are those of the Elastic Common Schema as flat dotted names, and `sekisho.*` for what it
//! has no name for. How a type is written, cut and masked is in `values`. Every field is optional, and none needs another to be
//! written (attack K02: a logger that fell over a missing host).

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, SystemTime};

use serde_json::Value as Json;

use crate::addrs::{BalancerAddr, ClientAddr, ListenAddr, OriginalAddr, UpstreamAddr};
use crate::reason::{Outcome, Reason, Side};
use crate::record::id::EventId;
use crate::record::lifecycle::Lifecycle;
use crate::record::line;
use crate::record::read::Read;
use crate::record::values::{AskedAuthority, Names, Text, UrlPath, UserId, Value};

/// One row of the manual's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldDoc {
    pub key: &'static str,
    /// The type in the words of the Elastic field reference; `keyword[]` is an array of them.
    pub kind: &'static str,
    /// One or more English sentences.
    pub meaning: &'static str,
}

macro_rules! fields {
    ($sequence:literal;
     usual { $($vis:vis $name:ident: $type:ty = $key:literal, $meaning:literal;)+ }
     rare { $($rare_vis:vis $rare:ident: $rare_type:ty = $rare_key:literal, $rare_meaning:literal;)+ }) => {
        /// What is known of one event. The spine sets a field when it becomes known; what is not set is not in the line. The
        /// fields that are not public are set by the record itself.
        #[derive(Debug, Clone, Default)]
        pub struct Fields {
            $(#[doc = concat!("`", $key, "`: ", $meaning)] $vis $name: Option<$type>,)+
            pub rare: Rare,
        }

        /// Those that most events do not have.
        #[derive(Debug, Clone, PartialEq)]
        pub struct RareFields {
            $(#[doc = concat!("`", $rare_key, "`: ", $rare_meaning)] $rare_vis $rare: Option<$rare_type>,)+
        }

        static NO_RARE_FIELDS: RareFields = RareFields { $($rare: None,)+ };

        /// Every field in the order of a line.
        pub const TABLE: &[FieldDoc] = &[
            FieldDoc { key: "event.sequence", kind: <u64 as Value>::KIND, meaning: $sequence },
            $(FieldDoc { key: $key, kind: <$type as Value>::KIND, meaning: $meaning },)+
            $(FieldDoc { key: $rare_key, kind: <$rare_type as Value>::KIND, meaning: $rare_meaning },)+
        ];

        impl Fields {
            /// Appends everything behind `line::head`, the newline included.
            pub(super) fn write_body(&self, out: &mut Vec<u8>) {
                $(write_field(out, concat!(",\"", $key, "\":"), self.$name.as_ref());)+
                if let Some(rare) = &self.rare.0 {
                    $(write_field(out, concat!(",\"", $rare_key, "\":"), rare.$rare.as_ref());)+
                }
                out.extend_from_slice(b"}\n");
            }

            /// The fields of a line of ours, the newline included or not. What cannot be read back (a word of another version) is
            /// not there; `None`: it is no line.
            pub(super) fn read(line: &[u8]) -> Option<Self> {
                let mut object: serde_json::Map<String, Json> = serde_json::from_slice(line).ok()?;
                let rare = RareFields { $($rare: object.remove($rare_key).and_then(Read::read),)+ };
                let rare = Rare((rare != NO_RARE_FIELDS).then(|| Box::new(rare)));
                Some(Self { $($name: object.remove($key).and_then(Read::read),)+ rare })
            }

            /// Drops what `other` does not have too.
            pub(super) fn keep_common(&mut self, other: &Self) {
                $(if self.$name != other.$name {
                    self.$name = None;
                })+
                if let Some(rare) = &mut self.rare.0 {
                    $(if rare.$rare != other.rare.$rare {
                        rare.$rare = None;
                    })+
                }
            }
        }
    };
}

/// The rare fields, which have a place from the first of them on that is set: an idle tunnel holds its fields for as long as it lasts.
#[derive(Debug, Clone, Default)]
pub struct Rare(Option<Box<RareFields>>);

impl Deref for Rare {
    type Target = RareFields;

    fn deref(&self) -> &RareFields {
        self.0.as_deref().unwrap_or(&NO_RARE_FIELDS)
    }
}

impl DerefMut for Rare {
    fn deref_mut(&mut self) -> &mut RareFields {
        self.0.get_or_insert_with(|| Box::new(NO_RARE_FIELDS.clone()))
    }
}

fn write_field(out: &mut Vec<u8>, key: &str, value: Option<&impl Value>) {
    if let Some(value) = value {
        out.extend_from_slice(key.as_bytes());
        value.write(out);
    }
}

fields! {
    // event.sequence is given to a line when it is queued, so it has a meaning here and no place in the struct.
    "Number of the line within this run of the service: 1, 2, 3, … without a gap, in the order of the file and across rotated files.";

    usual {
        pub(super) at: SystemTime = "@timestamp", "When the event began, UTC, milliseconds. For an attempt: when its connection was accepted, or, for a later one on it, when its request head was read; it ended `event.duration` later.";
        pub(super) id: EventId = "event.id", "Identifier of the attempt, the reference shown on a refusal page. `established` and the terminal record of one connection share it.";
        pub(super) action: &'static str = "event.action", "connection, request, established or lifecycle.";
        pub(super) outcome: Outcome = "event.outcome", "allowed, denied or failed. Only in terminal records.";
        pub(super) reason: Reason = "event.reason", "Why it ended so, a word of the closed list of reasons. Absent where an allowed attempt ended normally.";
        pub(super) duration: Duration = "event.duration", "Nanoseconds since `@timestamp`, by a clock that never jumps.";
        pub config_revision: Text = "sekisho.config_revision", "Revision of the configuration that decided.";

        pub source_ip: IpAddr = "source.ip", "Address of the client that connected, behind a balancer by its PROXY header. Nothing a client sends can change it.";
        pub source_port: u16 = "source.port", "Port of the client.";
        pub client: Text = "sekisho.client", "The `[[clients]]` group of the client.";
        pub listener: ListenAddr = "sekisho.listener", "The `[[listener]]` that accepted the connection.";
        pub original: OriginalAddr = "sekisho.original_destination", "Where a client meant to go that the network steered to a transparent `[[listener]]`, behind a balancer by its PROXY header. Evidence only: it is never dialled, the name is.";
        pub connection: EventId = "sekisho.connection", "For a request: `event.id` of the connection it came by.";

        pub rule_id: Text = "rule.id", "Identifier of the rule that decided.";
        pub rule_name: Text = "rule.name", "Name of the `[[service]]` that decided.";
        pub mode: &'static str = "sekisho.mode", "tunnel or inspect.";
        pub would_refuse: Reason = "sekisho.would_refuse", "In a time of observing (`site.enforcement`): not_allowlisted, the reason for which this attempt would be refused otherwise; only observing has let it through. Absent: a rule permitted it, or it was refused.";
        pub stage: &'static str = "sekisho.stage", "The stage of the journey at which the attempt ended.";
        pub side: Side = "sekisho.side", "Whose doing the end was: client, upstream or sekisho.";

        pub authority: AskedAuthority = "sekisho.authority", "The authority of the CONNECT or the URI as the client wrote it. A password reads ***, a query ….";
        pub server_name: Text = "tls.client.server_name", "The server_name (SNI) of the client's ClientHello.";
        pub domain: Text = "url.domain", "The host name the decision was about, in its normal form.";
        pub method: Text = "http.request.method", "Method of the request.";
        pub path: UrlPath = "url.path", "Path of the request, never with its query.";
        pub status: u16 = "http.response.status_code", "Status the client was given.";
        pub headers_set: Names = "sekisho.headers_set", "Names of the header fields that were set by the rule; never their values.";

        pub destination_ip: IpAddr = "destination.ip", "Address that was connected to, or tried last.";
        pub destination_port: u16 = "destination.port", "Port of the destination.";
        pub source_bytes: u64 = "source.bytes", "Payload octets from the client to the destination.";
        pub destination_bytes: u64 = "destination.bytes", "Payload octets from the destination to the client.";
        pub tls_version: Text = "tls.version", "TLS version agreed with the destination. Inspected connections only: a tunnel's TLS is the client's own.";
        pub tls_cipher: Text = "tls.cipher", "Cipher suite agreed with the destination. Inspected connections only.";
        pub server_subject: Text = "tls.server.subject", "Subject of the destination's certificate.";
        pub server_not_after: SystemTime = "tls.server.not_after", "End of validity of the destination's certificate.";
        pub upstream_verdict: &'static str = "sekisho.upstream_verdict", "What the verification of the destination gave, and whether it was made for this attempt.";
        pub detail: Text = "sekisho.detail", "One sentence for the administrator where the reason alone does not say enough.";
    }

    rare {
        pub(super) count: u64 = "sekisho.count", "How many events of the same action, outcome and reason this line stands for, all within `event.duration` from `@timestamp` on; what else stands in it holds for each of them. Absent: 1.";
        pub(super) authorities: Names = "sekisho.authorities", "With `sekisho.count`, where the authorities differ: those that were asked for first, each once, up to 16 of them and 2048 octets.";
        pub balancer: BalancerAddr = "sekisho.balancer", "The balancer that passed the connection on, where `proxy_protocol` names one: `source.ip` is then what its PROXY header says, or its own address where that names no client or could not be read.";
        pub balancer_destination: OriginalAddr = "sekisho.balancer_destination", "Where the client connected to at the balancer, by the PROXY header. Of a steered client that is `sekisho.original_destination`.";
        pub certificate_error: &'static str = "sekisho.certificate_error", "With certificate_invalid: expired, not_yet_valid, unknown_issuer, name, revoked, ….";
        pub(super) lifecycle: Lifecycle = "sekisho.lifecycle", "What happened to the service: start, stop, reload, reload_failed, config_problem, reopen, reopen_failed, continued, handed_over, record_recovered, self_probe_failed, self_probe_recovered, tenant_proof_failed, tenant_proof_holds, shedding, refusing, normal, observing, enforcing, control, control_refused, trial_begun, trial_confirmed, trial_rolled_back, last_good, takeover_failed, taken_over, minting_ended, minting_stalled, minting_recovered or unrestricted.";
        pub message: Text = "message", "A lifecycle event in a sentence.";
        pub control: &'static str = "sekisho.control", "What was asked for on the control socket: status, sessions, cut, reload, trial, confirm, rollback, stderr or take_over. Absent where the request could not be read.";
        pub user_id: UserId = "user.id", "Number of the user who asked, as the kernel says it.";
        pub user_name: Text = "user.name", "Name of that user, where /etc/passwd has it.";
        pub process: u32 = "process.pid", "Process that asked.";
        pub version: &'static str = "service.version", "Version of sekisho, in the lines of lifecycle events that are not of the record itself.";
        pub(super) previous_end: &'static str = "sekisho.previous_end", "In start and reopen: how the file that was found ended: none (it was new or empty), clean, or unclean (up to a second of records may be missing).";
        pub(super) previous_sequence: u64 = "sekisho.previous_sequence", "In start and reopen: `event.sequence` of the last line found in the file.";
        pub(super) torn_bytes: u64 = "sekisho.torn_bytes", "Length of an unfinished last line that was found and taken out of the file.";
        pub(super) torn: Text = "sekisho.torn", "The beginning of that unfinished line, as text.";
    }
}

impl Fields {
    /// Sets `source.ip` and `source.port`.
    pub fn set_source(&mut self, client: ClientAddr) {
        self.source_ip = Some(client.ip());
        self.source_port = Some(client.port());
    }

    /// Sets `destination.ip` and `destination.port`.
    pub fn set_destination(&mut self, upstream: UpstreamAddr) {
        self.destination_ip = Some(upstream.ip());
        self.destination_port = Some(upstream.port());
    }

    /// The line of these fields as the file would have it, the newline included.
    pub fn line(&self, sequence: u64) -> Vec<u8> {
        let mut out = Vec::new();
        line::head(&mut out, sequence);
        self.write_body(&mut out);
        out
    }
}

#[cfg(test)]
mod tests;
