//! One attempt's companion: it calls each phase for the spine, writes down what became known, and says in the spine's words
//! how the attempt ended. No phase is decided here.

use std::sync::Arc;
use std::time::SystemTime;

use crate::addrs::ClientAddr;
use crate::admit::Admission;
use crate::client::{Client, Established, Far};
use crate::http1::{Method, RequestHead, RequestReader};
use crate::identify::client_hello::{ClientHello, Sni};
use crate::identify::{self, Asked, Awaited};
use crate::names::Host;
use crate::policy::{Claim, Decision, Destination, Disagreement, Inspect, Permit, Plain, Rule, Tunnel};
use crate::reason::{Reason, Side};
use crate::record::{Action, Attempt};
use crate::reply::{self, KeepAlive, Manner, Page};
use crate::upstream;
use crate::upstream::connect::Connection;
use crate::upstream::verify::{self, VerifiedUpstream, VerifyError};

use super::gate::{Gate, Live};
use super::relay;

/// How far an attempt got (`sekisho.stage`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Admit,
    Claim,
    Decide,
    Dial,
    Verify,
    Establish,
    Reconcile,
    Relay,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Claim => "claim",
            Self::Decide => "decide",
            Self::Dial => "dial",
            Self::Verify => "verify",
            Self::Establish => "establish",
            Self::Reconcile => "reconcile",
            Self::Relay => "relay",
        }
    }
}

/// Why an attempt went no further.
#[derive(Debug)]
pub struct Ended {
    pub side: Side,
    pub stage: Stage,
    pub reason: Reason,
    pub detail: Option<String>,
    /// Whether the client's next request can still be found on its connection.
    pub keep_alive: KeepAlive,
}

impl Ended {
    pub fn new(side: Side, stage: Stage, reason: Reason) -> Self {
        Self { side, stage, reason, detail: None, keep_alive: KeepAlive::Yes }
    }

    /// The service is stopping, and its patience is over.
    pub fn cut() -> Self {
        Self { keep_alive: KeepAlive::No, ..Self::new(Side::Sekisho, Stage::Relay, Reason::ShuttingDown) }
    }

    pub fn because(self, detail: impl ToString) -> Self {
        Self { detail: Some(detail.to_string()), ..self }
    }
}

impl From<Disagreement> for Ended {
    fn from(disagreement: Disagreement) -> Self {
        Self::new(Side::Client, Stage::Reconcile, disagreement.reason()).because(disagreement)
    }
}

/// What the client's connection may carry after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Request,
    Close,
    Abort,
}

/// What was claimed, or why nothing could be.
pub type Claimed = Result<Asked, Ended>;

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
    action: Action,
    /// A plain request with HEAD: its page has no content.
    pub(super) head_only: bool,
    pub(super) claim: Option<Claim>,
    /// What the client is shown as the host: what it asked for.
    asked: String,
}

impl Trip {
    /// Waits for the next claim; the attempt begins with it. `None`: the connection ended in order between two attempts.
    pub async fn claim(
        gate: &Arc<Gate>,
        client: &mut Client,
        _admitted: &Admission,
        reader: &mut RequestReader,
        first: bool,
    ) -> Option<(Self, Claimed)> {
        let live = gate.live();
        let awaited = tokio::select! {
            awaited = identify::next_head(client, reader, &live.config.identify) => Some(awaited),
            // An idle connection has nothing to finish.
            () = gate.drain().draining(), if !first => return None,
            () = gate.drain().cut() => None,
        };
        let claimed = match awaited {
            Some(Awaited::Over) if !first => return None,
            Some(Awaited::Over) => Some(Err(identify::ClaimError::Closed)),
            Some(Awaited::Head(head)) => Some(identify::asked(head)),
            Some(Awaited::Failed(error)) => Some(Err(error)),
            None => None,
        };
        let action = match &claimed {
            Some(Ok(Asked::Plain { .. })) => Action::Request,
            Some(Ok(Asked::Connect { .. }) | Err(_)) | None => Action::Connection,
        };
        // The configuration of the moment at which the claim was complete, not of the one at which the wait for it began.
        let mut trip = Self::begin(gate, gate.live(), client, action).await;
        let claimed = match claimed {
            Some(claimed) => claimed.map_err(|error| trip.no_claim(error)),
            None => Err(Ended::cut()),
        };
        Some((trip, claimed))
    }

    async fn begin(gate: &Arc<Gate>, live: Arc<Live>, client: &Client, action: Action) -> Self {
        let mut attempt = gate.recorder().begin(action).await;
        attempt.fields.set_source(client.addr());
        attempt.fields.listener = Some(client.listener().to_string().as_str().into());
        attempt.fields.config_revision = Some((&*live.config.revision).into());
        Self {
            gate: Arc::clone(gate),
            live,
            client: client.addr(),
            attempt,
            action,
            head_only: false,
            claim: None,
            asked: String::new(),
        }
    }

    fn no_claim(&mut self, error: identify::ClaimError) -> Ended {
        if let identify::ClaimError::Authority { written, .. } = &error {
            self.attempt.fields.authority = Some(written.as_slice().into());
        }
        let keep_alive = if error.is_recoverable() { KeepAlive::Yes } else { KeepAlive::No };
        Ended { keep_alive, ..Ended::new(Side::Client, Stage::Claim, error.reason()).because(&error) }
    }

    /// Asks the policy, where the record can take what follows.
    pub fn decide(&mut self, asked: Asked) -> Result<Way, Ended> {
        let claim = asked.claim();
        self.asked = claim.authority().to_string();
        self.attempt.fields.authority = Some(asked.written().into());
        self.attempt.fields.destination_port = Some(claim.authority().port);
        if let Host::Name(name) = &claim.authority().host {
            self.attempt.fields.domain = Some(name.as_str().into());
        }
        if let Asked::Plain { head, .. } = &asked {
            self.attempt.fields.method = Some(head.method().as_str().into());
            self.attempt.fields.path = Some(relay::path(head).into());
            self.head_only = *head.method() == Method::Head;
        }
        self.gate.recordable().map_err(|reason| Ended::new(Side::Sekisho, Stage::Decide, reason))?;
        let decision = self.live.config.policy.decide(self.client, &claim);
        self.claim = Some(claim);
        let way = match (decision, asked) {
            (Decision::Deny(denial), _) => {
                self.note_rule(denial.rule(), denial.group().map(|group| &**group));
                return Err(Ended::new(Side::Client, Stage::Decide, denial.reason()));
            }
            (Decision::Tunnel(permit), _) => {
                self.note_permit(&permit, Some("tunnel"));
                Way::Tunnel(permit)
            }
            (Decision::Inspect(permit), _) => {
                self.note_permit(&permit, Some("inspect"));
                Way::Inspect(permit)
            }
            (Decision::Plain(permit), Asked::Plain { head, .. }) => {
                self.note_permit(&permit, None);
                Way::Plain(permit, head)
            }
            (Decision::Plain(_), Asked::Connect { .. }) => {
                return Err(Ended::new(Side::Sekisho, Stage::Decide, Reason::InternalError));
            }
        };
        Ok(way)
    }

    /// resolve → vet → connect.
    pub async fn dial(&mut self, destination: &Destination) -> Result<Connection, Ended> {
        let live = &self.live;
        let dialled =
            upstream::dial(destination, &live.resolver, &live.config.guard, &live.config.dial, &live.selves).await;
        let connection = dialled.map_err(|error| {
            if let Some(tried) = error.tried() {
                self.attempt.fields.set_destination(tried);
            }
            Ended::new(Side::Upstream, Stage::Dial, error.reason()).because(error)
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
        let alpn = relay::mirrored(hello)
            .ok_or_else(|| Ended::new(Side::Client, Stage::Verify, Reason::NoApplicationProtocol))?;
        let upstream = verify::inspect(connection, destination, alpn, &self.live.config.verify)
            .await
            .map_err(|error| self.unverified(&error))?;
        self.note_upstream(&upstream);
        self.attempt.fields.tls_version = upstream.tls_version().map(Into::into);
        self.attempt.fields.tls_cipher = upstream.cipher().map(|cipher| cipher.as_str().into());
        Ok(upstream)
    }

    /// The 200 of CONNECT.
    pub async fn establish(&mut self, client: &mut Client) -> Result<Established, Ended> {
        let gone = |e| Ended::new(Side::Client, Stage::Establish, Reason::ClientClosed).because(e);
        client.establish().await.map_err(gone)
    }

    pub async fn client_hello(&mut self, client: &mut Client, established: &Established) -> Result<ClientHello, Ended> {
        let settings = &self.live.config.identify;
        let hello = identify::client_hello(client, established, settings)
            .await
            .map_err(|e| Ended::new(Side::Client, Stage::Reconcile, e.reason()).because(e))?;
        if let Sni::Name(name) = &hello.sni {
            self.attempt.fields.server_name = Some(name.as_str().into());
        }
        Ok(hello)
    }

    /// Writes down how the attempt ended, then tells the client in the manner it still understands.
    pub async fn refuse(mut self, ended: Ended, client: &mut Client) -> Next {
        self.note_ended(&ended);
        self.attempt.conclude(ended.reason.outcome(), Some(ended.reason));
        let reference = self.attempt.id().to_string();
        if client.far() == Far::Head {
            self.attempt.fields.status = Some(reply::http_answer(ended.reason).status);
        }
        // The record is queued before the client sees the outcome.
        self.attempt.commit();
        match (client.far(), ended.reason) {
            (_, Reason::ClientClosed) | (Far::Relayed, _) => Next::Abort,
            (Far::Head, reason) => {
                let keep = ended.keep_alive;
                let answer = match self.action {
                    Action::Connection => reply::connect_refusal(reason, keep).into_bytes(),
                    Action::Request => relay::plain_page(
                        &Page::new(reason, &self.asked, &reference, SystemTime::now()),
                        self.head_only,
                    ),
                };
                let sent = client.send(&answer).await;
                // A plain request's body may stand where the next head is due.
                let again = sent.is_ok() && keep == KeepAlive::Yes && self.action == Action::Connection;
                if again { Next::Request } else { Next::Close }
            }
            (Far::Established, reason) => {
                if let Manner::Alert(description) = reply::manner(reason) {
                    let _ = client.send(&reply::alert_record(description)).await;
                }
                Next::Close
            }
        }
    }

    fn note_rule(&mut self, rule: &Rule, group: Option<&str>) {
        let fields = &mut self.attempt.fields;
        fields.rule_id = Some(rule.id().into());
        fields.rule_name = Some(rule.name().into());
        fields.client = group.map(Into::into);
    }

    fn note_permit<M>(&mut self, permit: &Permit<M>, mode: Option<&'static str>) {
        self.note_rule(permit.rule(), Some(permit.group()));
        self.attempt.fields.mode = mode;
    }

    pub(super) fn note_ended(&mut self, ended: &Ended) {
        let fields = &mut self.attempt.fields;
        fields.side = Some(ended.side.as_str());
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
        fields.certificate_error = error.fault().map(verify::Fault::as_str);
        Ended::new(Side::Upstream, Stage::Verify, error.reason()).because(error)
    }
}

/// Answers a connection that gets no slot, and leaves its record.
pub async fn turn_away(gate: &Arc<Gate>, mut client: Client, reason: Reason) {
    let trip = Trip::begin(gate, gate.live(), &client, Action::Connection).await;
    let ended = Ended { keep_alive: KeepAlive::No, ..Ended::new(Side::Client, Stage::Admit, reason) };
    if trip.refuse(ended, &mut client).await != Next::Abort {
        client.close().await;
    }
}
