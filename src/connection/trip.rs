//! One attempt's companion: it calls each phase for the spine, writes down what became known, and says in the spine's words
//! how the attempt ended. No phase is decided here.

use std::sync::Arc;

use tokio::time::Instant;

use super::ending::{Ended, Stage};
use super::gate::{Gate, Live};
use super::plain;
use super::protocols::mirrored;
use super::relaying::Relaying;
use super::sessions::{Entered, Kind, Session};
use crate::addrs::{ClientAddr, ListenAddr};
use crate::admit::{Admission, Counted, Rated, Slots, Visit};
use crate::client::{Client, Established};
use crate::drain::Drain;
use crate::http1::RequestHead;
use crate::identify::client_hello::{ClientHello, Sni};
use crate::identify::{self, Asked};
use crate::names::Host;
use crate::policy::{Agreed, Claim, Decision, Destination, Inspect, Permit, Plain, Rule, Tunnel};
use crate::pressure::{Charge, INSPECTED, Newcomer, Shed};
use crate::reason::{Reason, Side};
use crate::record::{Action, Attempt};
use crate::reply::KeepAlive;
use crate::upstream::connect::Connection;
use crate::upstream::verify::{self, VerifiedUpstream, VerifyError};
use crate::upstream::{self, DialError};

/// What was claimed, or why nothing could be.
pub type Claimed = Result<Asked, Ended>;

/// A tunnel that may begin.
pub struct Ready {
    pub(super) upstream: VerifiedUpstream<Tunnel>,
    pub(super) visit: Visit,
}

impl Ready {
    /// By the proof that both names agree, which has no other use.
    pub fn new(_agreed: Agreed<Tunnel>, upstream: VerifiedUpstream<Tunnel>, visit: Visit) -> Self {
        Self { upstream, visit }
    }
}

/// The decision's fork.
pub enum Way {
    Tunnel(Permit<Tunnel>),
    Inspect(Permit<Inspect>),
    Plain(Permit<Plain>, Box<RequestHead>),
}

/// One attempt under way.
pub struct Trip {
    pub(super) gate: Arc<Gate>,
    pub(super) live: Arc<Live>,
    pub(super) client: ClientAddr,
    pub(super) attempt: Attempt,
    pub(super) action: Action,
    /// How far it is on its way.
    stage: Stage,
    pub(super) relaying: Relaying,
    pub(super) drain: Drain,
    /// Held from the permission of a CONNECT to its relay.
    handshake: Option<Slots>,
    /// What the client's head said of its connection.
    pub(super) keep_alive: KeepAlive,
    /// A plain request with HEAD: its page has no content.
    pub(super) head_only: bool,
    pub(super) claim: Option<Claim>,
    /// What a steered client's claim was read from.
    pub(super) steered: Option<(Established, Box<ClientHello>)>,
}

impl Trip {
    /// Under the configuration of the moment.
    pub(super) async fn begin(
        gate: &Arc<Gate>,
        (client, listener): (ClientAddr, ListenAddr),
        newcomer: Option<Newcomer>,
        action: Action,
    ) -> Self {
        let live = gate.live();
        let mut attempt = gate.recorder().begin(action).await;
        attempt.fields.set_source(client);
        attempt.fields.listener = Some(listener);
        attempt.fields.config_revision = Some(Arc::clone(&live.config.revision).into());
        Self {
            gate: Arc::clone(gate),
            live,
            client,
            attempt,
            action,
            stage: Stage::Claim,
            relaying: Relaying::after(newcomer),
            drain: gate.drain().clone(),
            handshake: None,
            keep_alive: KeepAlive::Yes,
            head_only: false,
            claim: None,
            steered: None,
        }
    }

    /// One of the process that was taken over from, behind its last phase.
    pub(super) fn resume(
        gate: &Arc<Gate>,
        client: ClientAddr,
        (attempt, newcomer): (Attempt, Newcomer),
        claim: Claim,
        ends: Option<Instant>,
    ) -> Self {
        let live = gate.live();
        let drain = gate.drain().at(ends, live.config.drain);
        Self {
            gate: Arc::clone(gate),
            relaying: Relaying::after(Some(newcomer)),
            live,
            client,
            attempt,
            action: Action::Connection,
            stage: Stage::Relay,
            drain,
            handshake: None,
            keep_alive: KeepAlive::No,
            head_only: false,
            claim: Some(claim),
            steered: None,
        }
    }

    /// Asks the policy, where the record can take what follows.
    pub fn decide(&mut self, asked: Asked) -> Result<Way, Ended> {
        self.stage = Stage::Decide;
        let claim = asked.claim();
        self.claim = Some(claim.clone());
        self.attempt.fields.authority = asked.written().map(Into::into);
        self.attempt.fields.destination_port = Some(claim.authority().port);
        if let Host::Name(name) = &claim.authority().host {
            self.attempt.fields.domain = Some(name.into());
        }
        if let Asked::Plain { head, .. } = &asked {
            self.attempt.fields.method = Some(head.method().as_str().into());
            self.attempt.fields.path = Some(plain::path(head).into());
            if plain::is_loop(head) {
                return Err(Ended::new(Side::Client, Stage::Decide, Reason::SelfConnection));
            }
        }
        if let Asked::Steered { hello, .. } = &asked {
            self.note_name(hello);
        }
        self.gate.recordable().map_err(|reason| Ended::new(Side::Sekisho, Stage::Decide, reason))?;
        let decision = self.live.decide(self.client, &claim);
        let way = match (decision, asked) {
            (Decision::Deny(denial), _) => {
                self.note_rule(denial.rule(), denial.group());
                return Err(Ended::new(Side::Client, Stage::Decide, denial.reason()));
            }
            (Decision::Tunnel(permit), asked) => {
                self.steered = asked.into_hello();
                self.note_permit(&permit, Some("tunnel"));
                Way::Tunnel(permit)
            }
            (Decision::Inspect(permit), asked) => {
                self.steered = asked.into_hello();
                self.note_permit(&permit, Some("inspect"));
                Way::Inspect(permit)
            }
            (Decision::Plain(permit), Asked::Plain { head, .. }) => {
                self.note_permit(&permit, None);
                Way::Plain(permit, head)
            }
            (Decision::Plain(_), Asked::Connect { .. } | Asked::Steered { .. }) => {
                return Err(Ended::new(Side::Sekisho, Stage::Decide, Reason::InternalError));
            }
        };
        Ok(way)
    }

    /// Memory for an inspected connection, for as long as the value lives.
    pub fn room(&self) -> Result<Charge, Ended> {
        let pressure = self.gate.pressure();
        pressure.memory().charge(INSPECTED).ok_or_else(|| {
            pressure.count(Shed::Connections);
            Ended::cut(self.stage, Reason::Overloaded).because("no memory for one more inspected connection")
        })
    }

    /// The limits of the service, before anything is spent on the attempt: no DNS query and no SYN without them.
    pub fn visit(&mut self, way: &Way, admitted: &Admission) -> Result<Visit, Ended> {
        let (rule, by) = match way {
            Way::Tunnel(permit) => (permit.rule(), Rated::NewConnections),
            Way::Inspect(permit) => (permit.rule(), Rated::NewConnections),
            Way::Plain(permit, _) => (permit.rule(), Rated::Requests),
        };
        let limited = |refused| Ended::limited(Stage::Decide, refused);
        let visit = admitted.visit(rule.name(), by).map_err(limited)?;
        if by == Rated::NewConnections {
            self.handshake = Some(visit.subjects().hold(Counted::Handshakes).map_err(limited)?);
        }
        Ok(visit)
    }

    /// From here on octets are relayed.
    pub(super) fn begin_relay(&mut self) {
        self.handshake = None;
        self.relaying.begin();
    }

    /// From here on it can be listed, and cut.
    pub(super) fn session(&self, kind: Kind) -> Entered {
        let fields = &self.attempt.fields;
        let session = Session::new(self.attempt.id(), self.attempt.began(), self.client, fields, kind);
        self.gate.sessions().enter(session)
    }

    /// resolve → vet → connect.
    pub async fn dial(&mut self, destination: &Destination, visit: &Visit) -> Result<Connection, Ended> {
        self.stage = Stage::Dial;
        let live = &self.live;
        let look_up = || visit.subjects().hold(Counted::DnsLookups);
        let dialled =
            upstream::dial(destination, &live.resolver, look_up, &live.config.guard, &live.config.dial, &live.selves)
                .await;
        let connection = dialled.map_err(|error| {
            if let Some(tried) = error.tried() {
                self.attempt.fields.set_destination(tried);
            }
            match error {
                DialError::Limited(refused) => Ended::limited(Stage::Dial, refused),
                error => Ended::new(Side::Upstream, Stage::Dial, error.reason()).because(error),
            }
        })?;
        self.attempt.fields.set_destination(connection.address());
        Ok(connection)
    }

    /// A tunnel's destination, verified by a handshake of our own or by one lately made.
    pub async fn verify(
        &mut self,
        destination: &Destination,
        connection: Connection,
    ) -> Result<VerifiedUpstream<Tunnel>, Ended> {
        self.stage = Stage::Verify;
        let (gate, live) = (Arc::clone(&self.gate), Arc::clone(&self.live));
        let verdict =
            gate.verdicts.tunnel(connection, destination, &live.config.verify, &live.config.dial, &live.selves);
        let upstream = verdict.await.map_err(|error| self.unverified(&error))?;
        self.note_upstream(&upstream);
        Ok(upstream)
    }

    /// An inspected destination's own handshake, with the client's protocols in hand.
    pub async fn handshake(
        &mut self,
        destination: &Destination,
        connection: Connection,
        hello: &ClientHello,
    ) -> Result<VerifiedUpstream<Inspect>, Ended> {
        self.stage = Stage::Verify;
        let alpn =
            mirrored(hello).ok_or_else(|| Ended::new(Side::Client, Stage::Verify, Reason::NoApplicationProtocol))?;
        let upstream = verify::inspect(connection, destination, alpn, &self.live.config.verify)
            .await
            .map_err(|error| self.unverified(&error))?;
        self.note_upstream(&upstream);
        self.attempt.fields.tls_version = upstream.tls_version().map(Into::into);
        self.attempt.fields.tls_cipher = upstream.cipher().map(|cipher| cipher.as_str().into());
        Ok(upstream)
    }

    /// The client's hello: behind the 200 of its CONNECT, or the one that a steered client began with.
    pub async fn hello(&mut self, client: &mut Client) -> Result<Box<ClientHello>, Ended> {
        if let Some((_, hello)) = self.steered.take() {
            return Ok(hello);
        }
        let established = self.establish(client).await?;
        self.client_hello(client, &established).await.map(Box::new)
    }

    /// The 200 of CONNECT.
    async fn establish(&mut self, client: &mut Client) -> Result<Established, Ended> {
        self.stage = Stage::Establish;
        let gone = |e| Ended::new(Side::Client, Stage::Establish, Reason::ClientClosed).because(e);
        client.establish().await.map_err(gone)
    }

    async fn client_hello(&mut self, client: &mut Client, established: &Established) -> Result<ClientHello, Ended> {
        self.stage = Stage::Reconcile;
        let settings = &self.live.config.identify;
        let hello = identify::client_hello(client, established, settings)
            .await
            .map_err(|e| Ended::new(Side::Client, Stage::Reconcile, e.reason()).because(e))?;
        self.note_name(&hello);
        Ok(hello)
    }

    pub(super) fn note_name(&mut self, hello: &ClientHello) {
        if let Sni::Name(name) = &hello.sni {
            self.attempt.fields.server_name = Some(name.into());
        }
    }

    /// Writes down how the attempt ended, where the client is told nothing.
    pub fn record_only(mut self, ended: &Ended) {
        self.note_ended(ended);
        self.attempt.conclude(ended.reason.outcome(), Some(ended.reason));
    }

    pub fn relaying(&self) -> Relaying {
        self.relaying.clone()
    }

    /// Why a relay is cut: its connection has had its time, or the service has.
    pub(super) fn cut_short(&self) -> Reason {
        if self.drain.has_outlived() { Reason::ConnectionExpired } else { Reason::ShuttingDown }
    }

    /// The service ends this attempt while it is on its way.
    pub fn cut(&self, reason: Reason) -> Ended {
        Ended::cut(self.stage, reason)
    }

    fn note_rule(&mut self, rule: &Rule, group: Option<&Arc<str>>) {
        let fields = &mut self.attempt.fields;
        fields.rule_id = Some(rule.shared_id().into());
        fields.rule_name = Some(rule.shared_name().into());
        fields.client = group.map(|group| Arc::clone(group).into());
    }

    fn note_permit<M>(&mut self, permit: &Permit<M>, mode: Option<&'static str>) {
        self.note_rule(permit.rule(), Some(permit.group()));
        self.attempt.fields.mode = mode;
        self.attempt.fields.would_refuse = permit.would_refuse();
    }

    pub(super) fn note_ended(&mut self, ended: &Ended) {
        let fields = &mut self.attempt.fields;
        fields.side = Some(ended.side);
        fields.stage = Some(ended.stage.as_str());
        if let Some(detail) = &ended.detail {
            fields.detail = Some(detail.as_str().into());
        }
    }

    fn note_upstream<M: verify::Leg>(&mut self, upstream: &VerifiedUpstream<M>) {
        let fields = &mut self.attempt.fields;
        fields.upstream_verdict = Some(upstream.verdict().as_str());
        fields.server_subject = Some(upstream.certificate().subject.as_str().into());
        fields.server_not_after = Some(upstream.certificate().not_after);
    }

    fn unverified(&mut self, error: &VerifyError) -> Ended {
        let fields = &mut self.attempt.fields;
        if let Some(certificate) = error.certificate() {
            fields.server_subject = Some(certificate.subject.as_str().into());
            fields.server_not_after = Some(certificate.not_after);
        }
        fields.rare.certificate_error = error.fault().map(verify::Fault::as_str);
        Ended::new(Side::Upstream, Stage::Verify, error.reason()).because(error)
    }
}
