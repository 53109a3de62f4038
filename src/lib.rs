//! sekisho (関所) is a local-breakout egress filter proxy: it stands between the network of a local government and the Internet
//! line, lets clients reach exactly the cloud services that were approved, and refuses and records everything else.
//!
//! The [`manual`] holds the longer pages: [`manual::guide`] and [`manual::guide_ja`] (for operators, step by step), [`manual::journey`] (one connection from accept to record), [`manual::threats`]
//! (attack → what stops it), [`manual::operations`] (signals, limits, what to do for each reason), [`manual::changes`] (status, sessions, apply, trial, who may do
//! what), [`manual::hardening`] (the minting process, what is given up), [`manual::deployment`] (units, packet filter, package), [`manual::failover`] (two boxes,
//! balancers), [`manual::catalog`], [`manual::proof`],
//! [`manual::feeds`] (a vendor's list of endpoints), [`manual::pac`], [`manual::learning`] (finding out what is used), [`manual::ismap`]
//! (registration of services and its dates), [`manual::record`] (every field), [`manual::performance`] (what it costs, and how that is
//! measured), [`manual::load`] (measuring it yourself).
//!
//! # Codemap
//!
//! Modules in the order in which a connection meets them. A module imports only what stands in the table of
//! `tests/it/structure.rs`, which has no cycle.
//!
//! | module | is |
//! |---|---|
//! | [`names`] | [`names::DnsName`], [`names::Host`], [`names::Authority`]: the one normal form, the one door; [`names::Sni`] |
//! | [`addrs`] | who is who in a flow, and which special-purpose block an address lies in |
//! | [`reason`] | the closed list of reasons: one word in record, metric, reply and manual |
//! | [`control`] | the control socket: what is said on it, and who may ask for what |
//! | [`config`] | one TOML file in, one immutable [`config::Config`] out, or every problem at once |
//! | [`cli`] | arguments → one function per subcommand → exit code |
//! | [`minter`] | the other process, which has the issuing key and signs what is inspected |
//! | [`restrict`] | what a process takes from itself before it meets anybody |
//! | [`server`] | bind, accept, spawn, reload, drain, hand over, the desk behind the control socket; knows no protocol of clients |
//! | [`drain`] | running → draining → cut |
//! | [`connection`] | the spine: `serve` and `drive`, the only code that knows every phase |
//! | [`admit`] | limits: a slot is a value |
//! | [`pressure`] | overload: its readings, its states, and the account of memory |
//! | [`client`] | the client's stream, what was read ahead, how far its conversation got |
//! | [`identify`] | claim: the request head and the ClientHello, read by sans-IO parsers |
//! | [`http1`] | the strict HTTP/1 codec that `identify` reads heads with and `forward` writes messages with |
//! | [`policy`] | decide and reconcile: a pure, total function of facts, and its evidence |
//! | [`pac`] | the script by which browsers find this proxy, made from the policy |
//! | [`autoconfig`] | the listener that hands that script out |
//! | [`catalog`] | what is known of cloud services; a `[[service]]` takes hosts from it |
//! | [`feed`] | a vendor's own list of endpoints, as somebody approved it |
//! | [`upstream`] | resolve → vet → connect → verify |
//! | [`flight`] | the bounded cache whose values are made once: DNS answers and verdicts |
//! | [`seldom`] | a future that is polled only when it was woken itself |
//! | [`locks`] | a lock that a panic elsewhere does not close for everybody |
//! | [`turns`] | a task that has much to do lets others run |
//! | [`files`] | ordinary files, and no more of them than they may hold |
//! | [`aside`] | what blocks runs on a thread of its own |
//! | [`sockets`] | what every TCP connection of ours has |
//! | [`tls`] | what the TLS of both legs has in common |
//! | [`tunnel`] | both directions copied untouched |
//! | [`inspect`] | TLS ends here: issuing CA, leaf certificates, the request loops of HTTP/1.1 and HTTP/2 |
//! | [`exchange`] | one request under way, and which of its fields pass |
//! | [`forward`] | one HTTP/1.1 exchange between two streams |
//! | [`reply`] | (reason × how far) → what the client sees; one table |
//! | [`record`] | the access record: exactly one terminal line per attempt |
//! | [`telemetry`] | diagnostics and health |
//! | [`probe`] | the service's own requests through itself, by which readiness and the watchdog go |
//! | [`proof`] | the tenant proof: what arrives where fields are due, and what does not elsewhere |
//! | [`admin`] | `/livez`, `/readyz`, `/metrics`: read-only views |
//! | [`learning`] | what a record teaches: services to add, and what another policy would have decided |
//! | [`load`] | the load tool: an origin and clients of its own, nothing of the proxy |
//!
//! # Invariants
//!
//! What was checked is a type. Each of these can be made in one place only, so leaving a check out does not compile.
//!
//! * **Deny is what is left.** [`policy::Policy::decide`] has no default but [`policy::Decision::Deny`]; an empty list permits
//!   nothing, and a file that is missing, broken or holds an unknown key gives no [`config::Config`] at all.
//! * **Observing is one denial let through.** [`policy::Policy::judge`] asks [`policy::Policy::decide`] first, and makes of the one denial of
//!   a CONNECT to port 443 that no pattern matches a [`policy::Permit`] of [`policy::Tunnel`], where there is a [`policy::Observing`], which
//!   only [`policy::Enforcement::at`] gives, before its end. So an inspected host cannot be observed, and no header left out.
//! * **Who it is comes before anything else.** A balancer's connection is a [`client::Unannounced`], which no limit and no decision takes, until
//!   its header has named the client; only [`config::Balancers`] makes a [`addrs::BalancerAddr`], and nobody else's header is read.
//! * **One name.** The CONNECT authority, a URI, `Host`, `:authority`, the SNI and the configuration all pass
//!   [`names::DnsName::parse`]; equality is then equality of bytes, and what was judged is what is resolved, verified and recorded.
//! * **The destination never changes.** [`policy::Destination`] is immutable and comes out of a decision only. A difference
//!   between claims is a denial, never an update.
//! * **A destination that must be inspected cannot be tunnelled.** [`policy::Permit`] says the way in its type:
//!   [`policy::Tunnel`], [`policy::Inspect`] or [`policy::Plain`].
//! * **Not one payload byte moves before claim and ClientHello agree.** The relay asks for [`policy::Agreed`], which
//!   [`policy::reconcile_tunnel`] and [`policy::reconcile_inspect`] make.
//! * **The address vetted is the address dialled.** [`upstream::connect`] takes a [`upstream::vet::VettedAddr`] and nothing else. Only
//!   the [`proof`]'s own gate has a [`upstream::vet::StandIn`], which can be nothing but a port of loopback.
//! * **No byte to an upstream whose certificate was not verified.** Tunnel and inspection ask for
//!   [`upstream::verify::VerifiedUpstream`]; a tunnel's certificate is verified too, by a handshake of our own. Plain `http:` has
//!   no certificate, and says so: [`upstream::connect::Connection::into_plain`] wants a [`policy::Permit`] of [`policy::Plain`].
//! * **A slot is held as long as what it is for lives.** [`admit::Admission`], [`admit::Visit`] and [`admit::Slots`] give it back when
//!   dropped; there is no `release`. A dial asks for a [`admit::Visit`].
//! * **What grows is charged before it grows.** [`pressure::Charge`] holds memory of the ceiling, and gives it back when dropped; a
//!   connection has its [`pressure::Newcomer`] before it is read.
//! * **The 200 of CONNECT is sent once, and known to have been.** [`client::Established`] is asked for by whoever reads TLS.
//! * **Exactly one terminal record per attempt.** [`record::Attempt`] hands it in when dropped, a panic or an abort included;
//!   [`record::Conservation::holds`] is the arithmetic that nothing went missing.
//! * **Tenant fields are set last.** [`exchange::fields::request_field_passes`] has removed every copy, and what is [closed](policy::Policy::closed), before
//!   [`exchange::fields::Restrictions`] are written, on every request of every stream.
//! * **A tunnel changes its process whole, or not at all.** A [`connection::Parcel`] has its sockets, its octets, its counts and its
//!   attempt; the old process goes on with it unless the new one says that it has it, and the new one asks its own policy first.
//! * **One table says what a client sees.** [`reply::http_answer`] and [`reply::manner`]; no other file chooses an error.
//! * **Limits outlive reloads, permissions do not.** An inspected request is decided by the configuration of its own moment
//!   ([`inspect::scope::Scope`]); a tunnel that is no longer permitted is cut.
#![forbid(unsafe_code)]

// The vocabulary.
pub mod names;

pub mod addrs;
pub mod reason;

// The service round the connections.
pub mod config;

pub mod aside;
pub mod cli;
pub mod control;
pub mod files;
pub mod locks;
pub mod minter;
pub mod restrict;
pub mod seldom;
pub mod server;
pub mod sockets;
pub mod tls;

pub mod drain;

// The spine.
pub mod connection;

// Its phases: admit, claim, decide.
pub mod admit;
pub mod pressure;

pub mod client;
pub mod identify;

pub mod http1;

pub mod catalog;
pub mod feed;
pub mod pac;
pub mod policy;

// Dial and verify.
pub mod upstream;

pub mod flight;

// Relay.
pub mod tunnel;
pub mod turns;

pub mod inspect;

pub mod exchange;
pub mod forward;

// What is told: to the client, to the record, to the administrator.
pub mod reply;

pub mod record;
pub mod telemetry;

pub mod admin;
pub mod autoconfig;
pub mod probe;
pub mod proof;

// What learns from it, and what measures it.
pub mod learning;
pub mod load;

// The longer pages.
pub mod manual;
