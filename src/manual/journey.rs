//! One connection, from accept to record.
//!
//! [`connection`](crate::connection) is the spine: `serve` holds a client's connection, `drive` one attempt on it. Each phase is
//! one line of `drive`, takes what only the phase before can make, and calls no other phase.
//!
//! ```text
//! tunnel    accept → admit → claim → decide → dial → verify → establish → reconcile → relay → record
//! inspect   accept → admit → claim → decide → establish → reconcile → dial → verify → relay → record
//! plain     accept → admit → claim → decide → dial → relay → record
//! ```
//!
//! # The phases they share
//!
//! **accept.** [`server`](crate::server) gives the socket a task of its own. From here on the client is a [`ClientAddr`]; nothing
//! it sends can change that.
//!
//! Of a connection from a [balancer](super::failover#balancers) it is not known yet whose it is: it is an [`Unannounced`], in which there is no
//! client, until its PROXY header has been read ([`proxy_header`](crate::identify::proxy_header), at most 5 s). Then it is a client's like
//! any other. No limit has been asked before, so that none is used up in the balancer's name.
//!
//! **admit.** [`Limits::admit`] asks the rate of new connections, then the slots of all, of the client's group and of this client, and
//! gives an [`Admission`]. Nothing has been read yet. A client without a slot gets its status (429 or 503) at once. With the slot comes
//! a place among the [`Newcomers`](crate::pressure::Newcomers): until the relay begins, an [overloaded](super::operations#overload)
//! service may end the connection, the oldest first.
//!
//! **claim.** [`identify`](crate::identify) reads a request head with the codec of [`http1`](crate::http1) and makes it an
//! [`Asked`]: a CONNECT with its [`Authority`], or an absolute-form `http:` request. What is not unambiguous ends here.
//! The attempt begins with the claim: [`Recorder::begin`] waits while the record is behind, and an [`Attempt`] can from now on not
//! end without its terminal record. One connection may carry several attempts, one after the other: a refused CONNECT leaves it open.
//!
//! A client that the network steered to a transparent listener says no CONNECT: the name of its ClientHello, with the port that it meant,
//! is the claim, or the `Host` of a request in origin-form. Which address it meant is in the record and nowhere else
//! ([`OriginalAddr`](crate::addrs::OriginalAddr)). It is sent no 200, so **establish** is nothing; all else is as below.
//!
//! **decide.** First the record is asked whether it can be written ([`Recorder::state`]): under `deny` nobody gets a decision that
//! could not be recorded. Then [`Policy::decide`], a pure function; its documentation is the list of precedence. It answers with a
//! [`Denial`], or with a [`Permit`] for one [`Destination`]. While the site [observes](super::learning), [`Policy::judge`] makes a tunnel of
//! the denial of a name that nothing lists, and of no other. Then the service's own limits are asked: a [`Visit`] is a slot with it, and
//! whoever dials asks for one. Until both have said yes there is no DNS query and no SYN.
//!
//! # Tunnel
//!
//! **dial.** [`dial`](crate::upstream::dial): [`Resolver::resolve`] (static hosts, then DNS, never a search list),
//! [`vet`](crate::upstream::vet::vet) (each answer by itself; the refused are gone for good), [`connect`](crate::upstream::connect::connect)
//! (happy eyeballs over [`VettedAddr`]s only).
//!
//! **verify.** TLS 1.3 hides the server's certificate from whoever looks on. So [`Verdicts::tunnel`] makes a handshake of our own to
//! the very same address, for the same name, before the tunnel is opened, checks chain, name, validity and CRLs, and keeps the
//! verdict for `upstream.verify_cache`, never past the end of a certificate or a CRL, under a key with address, port, name and trust
//! revision. Many clients who ask at once share one handshake ([`Flight`](crate::flight::Flight)). A bad certificate ends the
//! attempt; no next address is tried. The result is a [`VerifiedUpstream`]`<`[`Tunnel`]`>`.
//!
//! **establish.** [`Client::establish`](crate::client::Client::establish) sends the 200. Everything that can be known before is
//! answered before, with an honest status.
//!
//! **reconcile.** [`client_hello`](crate::identify::client_hello()) reads the ClientHello whole, over however many records and
//! segments. [`reconcile_tunnel`] compares its name with the destination's; a tunnel's hello must have one. The result is an
//! [`Agreed`]`<`[`Tunnel`]`>`.
//!
//! **relay.** The `established` line is queued, then [`Tunnel::copy`](crate::tunnel::Tunnel::copy) copies both ways, the hello first,
//! until both sides have ended, or nothing moved for `timeouts.tunnel_idle`, or for `timeouts.tunnel_half_closed` after one has ended.
//!
//! # Inspect
//!
//! Browsers show no body of a refused CONNECT, so everything after the decision is told as a page inside TLS.
//!
//! **establish, reconcile.** The 200 goes out, the hello is read, [`reconcile_inspect`] compares. An absent SNI agrees here, because
//! TLS ends here and the origin is verified for the destination whatever the client says.
//!
//! **dial, verify.** As above, but the connection's own handshake ([`verify::inspect`](crate::upstream::verify::inspect)) is the
//! verification, with those of the client's application protocols that are inspected (`h2`, `http/1.1`). A resumed session is
//! verified again. The result is a [`VerifiedUpstream`]`<`[`Inspect`]`>`.
//!
//! **relay.** The client's handshake comes last, with a leaf of [`LeafCache`] for the destination's name and in the protocol the
//! upstream chose, so that nothing is translated between HTTP versions. [`h1::run`](crate::inspect::h1::run) and
//! [`h2::run`](crate::inspect::h2::run) ask [`Scope::open`] for every request: method, every authority it names, the record, the
//! rate, and the policy *of this moment*. Each request is an attempt with a record of its own ([`Exchange`]), tied to its
//! connection's by `sekisho.connection`. Hop-by-hop fields and every spelling of ours go, then ours are set, then the one framing.
//!
//! What a forwarding proxy does by RFC 9110 and this one does not: no `Via` is added, `Max-Forwards` is not counted, and of interim answers
//! only 103 passes on (100 is sekisho's own, since no expectation is passed on). And a client that ends its side of TLS (close_notify) has
//! left: what it asked for before may have been done, and is not answered.
//!
//! **Where the upstream fails**, [`page::serve`](crate::inspect::page::serve) answers every request with the page of the
//! reason, under a leaf for the inspected name. No byte of the failed origin is in it.
//!
//! # Plain
//!
//! An `http:` request to a service with `plain_http`: GET, HEAD and POST. There is no certificate, and
//! [`Connection::into_plain`](crate::upstream::connect::Connection::into_plain) wants the [`Permit`]`<`[`Plain`]`>` to say so. `Host`
//! is written from the URI, each request has an upstream connection of its own, `Via` is added, and no tenant field can be set.
//!
//! # How a refusal is answered
//!
//! [`Far`](crate::client::Far) says how far the client's conversation got, [`reply`](crate::reply) what it then sees:
//!
//! | conversation | answer |
//! |---|---|
//! | a head is due | the status of [`http_answer`](crate::reply::http_answer) with `Proxy-Status`; on plain HTTP with the page |
//! | the 200 was sent | the TLS alert of [`manner`](crate::reply::manner), or a close |
//! | inspected | the page over TLS, on HTTP/1.1 and HTTP/2 |
//! | relayed | nothing more: a reset, so that what was sent cannot pass for a whole message |
//!
//! The record is queued before the client sees the outcome.
//!
//! # Reload
//!
//! SIGHUP loads the file as `check` would. Where anything is wrong, everything stays as it was, and `/readyz`, a metric, the record
//! and the log say so. Else new sockets are bound and the new record opened first; only then one pointer is swapped
//! ([`Gate::replace`](crate::connection::Gate::replace)). Attempts that begin now use the new configuration.
//!
//! Nothing lives on under a permission that was withdrawn. An inspected connection is decided by the configuration in force at each
//! request; where that no longer permits, the request gets the page of its reason and the connection ends (`Connection: close`, GOAWAY).
//! A tunnel that is no longer permitted is cut. Both connections are recorded as `policy_withdrawn`. Removed listeners close; their connections go on.
//! So is what is open to a service whose [registration](super::ismap) is over, which takes no SIGHUP.
//! Trust, CRLs and the issuing CA are loaded anew, and with them go resumable sessions, leaves and session tickets.
//!
//! # Drain
//!
//! At SIGTERM [`Drain`](crate::drain::Drain) goes from running to draining: `/readyz` is 503, listeners close, idle connections
//! close, requests finish. A connection that ends so, between two requests, has ended in order: its record has no reason, over HTTP/1.1 and
//! HTTP/2 alike. When no connection is left, or `timeouts.drain` is over, or a second signal comes, the rest is cut and
//! recorded as `shutting_down`; the record is written out, `stop` is its last line, and the process ends.
//!
//! [`Admission`]: crate::admit::Admission
//! [`Visit`]: crate::admit::Visit
//! [`Agreed`]: crate::policy::Agreed
//! [`Asked`]: crate::identify::Asked
//! [`Attempt`]: crate::record::Attempt
//! [`Authority`]: crate::names::Authority
//! [`ClientAddr`]: crate::addrs::ClientAddr
//! [`Denial`]: crate::policy::Denial
//! [`Destination`]: crate::policy::Destination
//! [`Exchange`]: crate::exchange::Exchange
//! [`Inspect`]: crate::policy::Inspect
//! [`LeafCache`]: crate::inspect::leaf::LeafCache
//! [`Limits::admit`]: crate::admit::Limits::admit
//! [`Permit`]: crate::policy::Permit
//! [`Plain`]: crate::policy::Plain
//! [`Policy::decide`]: crate::policy::Policy::decide
//! [`Policy::judge`]: crate::policy::Policy::judge
//! [`Recorder::begin`]: crate::record::Recorder::begin
//! [`Recorder::state`]: crate::record::Recorder::state
//! [`Resolver::resolve`]: crate::upstream::resolve::Resolver::resolve
//! [`Scope::open`]: crate::inspect::scope::Scope::open
//! [`Tunnel`]: crate::policy::Tunnel
//! [`Verdicts::tunnel`]: crate::upstream::verify::Verdicts::tunnel
//! [`Unannounced`]: crate::client::Unannounced
//! [`VerifiedUpstream`]: crate::upstream::verify::VerifiedUpstream
//! [`VettedAddr`]: crate::upstream::vet::VettedAddr
//! [`reconcile_inspect`]: crate::policy::reconcile_inspect()
//! [`reconcile_tunnel`]: crate::policy::reconcile_tunnel()
