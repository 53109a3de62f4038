//! Two boxes of which one may die, and balancers in front of them.
//!
//! There are two ways, both tested as they are shipped (`tests/it/failover.rs`): a [pair](#a-pair) whose boxes share one address by VRRP,
//! and a [balancer](#balancers) that knows which box is ready. Sessions of the box that dies are lost either way: a connection's state is
//! in one process. Clients make new ones, which the other box serves.
//!
//! # What both boxes have in common
//!
//! Nothing at run time: leaves, verdicts and DNS answers are made anew where they are asked for, limits are counted by each box for itself.
//! The same on both, by copying: `sekisho.toml` but for addresses of the box's own, the issuing CA (the root that clients trust and the
//! intermediate with its key, so that it does not matter who signed), the folder of `[catalog]` with the feed's state, the files of
//! `[upstream]`, the packet filter's rules. The revision that `check` prints is the same where no address in the file is the box's own. Each
//! box has a record of its own: an attempt is in one of them.
//!
//! # A pair
//!
//! `deploy/keepalived/keepalived.conf` is for both boxes; five definitions at its top are a box's own. Terminals have its two addresses as
//! their gateway (steered by `deploy/nftables`) or as their proxy's host. One of the boxes has them, IPv4 and IPv6 together.
//!
//! | what happens | who notices | measured until all clients are served |
//! |---|---|---|
//! | sekisho is killed, or drains (`/readyz` 503) | the check, once a second | 0.9 to 1.4 s |
//! | sekisho is stopped, or stands still | the check, by its time limit | 2.1 s |
//! | the cable of the clients' side is cut | the other one, after three adverts | 1.1 to 1.4 s |
//! | that of the line's side | the kernel | 0.5 s |
//! | the box falls silent | the other one, after three adverts | 0.9 to 1.1 s |
//! | keepalived is killed | its other process, which gives the addresses up | 0.2 to 0.5 s |
//! | all of keepalived is killed at once | the other one, after three adverts | 0.8 to 1.1 s |
//! | behind HAProxy: sekisho is killed | the next connection, which goes to the other box | below 0.1 s |
//! | behind HAProxy: sekisho is stopped | the check, by its time limit | 0.5 to 1.6 s |
//!
//! (2026-11-28, network namespaces on one machine of 2 busy cores, each twice, with new connections by IPv4, IPv6 and CONNECT at the same
//! time; a test asserts 3 s. A counter on the internet's side saw no packet of the clients' network throughout.)
//!
//! **No box is both dead and attracting traffic.** The check's failure puts a box into FAULT, in which it has no address; a weight would not:
//! with `nopreempt` the other box lets a master be whose priority has fallen. Where both boxes are not ready neither has the addresses, and
//! clients find nobody: nothing passes, which is what a filter owes. A box that starts is in FAULT until sekisho has answered twice.
//!
//! **A box that comes back takes nothing away** (`nopreempt`, both `BACKUP`): taking the addresses back would end the sessions that the
//! failure has left alone. Which box serves is of no consequence; to change it, stop keepalived on the one that does.
//!
//! **A box that drains is not ready** and gives the addresses up at once, so that the sessions it lets finish lose their way: under VRRP a
//! stop is a failover. A balancer lets them finish.
//!
//! **What is left.** Where every process of keepalived is killed at once the addresses stay on the box; clients go to the other one, which has
//! announced itself, until systemd starts keepalived again (`deploy/keepalived/sekisho.conf`), which begins by removing them. A box that
//! fell silent and comes back finds another master: the one of lower priority gives way, and its sessions end. VRRP version 3 has no
//! password: whoever is on the switch with the boxes can claim the addresses, as with ARP itself.
//!
//! # Balancers
//!
//! `deploy/haproxy/haproxy.cfg` passes TCP on as it is and asks each box's `/readyz`. Behind it every connection comes from the balancer, so
//! it says whose it is by the PROXY protocol, version 1 or 2, and the listener believes it:
//!
//! ```toml
//! [[listener]]
//! address = "10.20.0.2:8080"
//! proxy_protocol = ["10.20.0.4/32"]     # the balancer's own address, and nobody else's
//! ```
//!
//! A connection from these addresses must begin with a header; one from any other must not, and a header that it sends is read as what it
//! is there: a malformed request, or no TLS. The address in the header is the client's, for group, limits, decision and record
//! (`source.ip`, an IPv4-mapped one as IPv4). `sekisho.balancer` says who passed it on, `sekisho.balancer_destination` where the client had
//! connected to. On a transparent listener the header's destination is what the client meant (`sekisho.original_destination`): its port is
//! part of the claim, its address is never dialled.
//!
//! **Whoever is in `proxy_protocol` can say to be anybody.** List single addresses; `check` warns where a network also has clients in it, and
//! refuses one that is everybody. Nothing but the network keeps another machine from taking the balancer's address. A reload changes who is
//! believed for new connections, without touching the listener.
//!
//! A connection without a sound header is closed without a word, as nobody is known who could be told, and recorded with the balancer's
//! address: `malformed_request`, `request_head_timeout` after 5 s, `client_closed`. A balancer sends its header at once, before a word of
//! the client, so no client can hold a connection in that state; 256 at most are in it, and further ones are refused as `overloaded`.
//! Limits come behind the header and are the client's: who uses his up does not use up others', though all come from one address.
//! `limits.per_client` of a balancer's own address limits nothing but what it asks for itself. A record's `@timestamp` is from when the header
//! had come. The admin and the PAC listener read no headers.
//!
//! ## Its own checks
//!
//! A balancer that looks whether somebody listens says `LOCAL` (version 2), `UNKNOWN` or its own end of the connection (version 1), or
//! nothing, and leaves. That is no attempt of anybody's: it is counted in `sekisho_balancer_checks_total` and leaves no record, which
//! one line a second would fill. Where it asks for something it is a client with its own address, and may what that address may; so is
//! whoever it cannot name (HAProxy names every client that has an IP address). Where its address lies outside the networks of `[[clients]]`
//! that is nothing. A client's connection that ends unasked is recorded as ever.
//!
//! Ask `/readyz` of the admin listener rather than whether the port is open: a port is open on a box that is stopped.
//!
//! # Where a box of a pair listens
//!
//! On `0.0.0.0` and `[::]`, for `[[listener]]` and `[pac]` alike, and not on the address that keepalived gives: that one is there only when
//! sekisho is ready, and sekisho would not begin without it.
//!
//! # Steered to the wrong listener
//!
//! TLS as the first that comes to an explicit listener means that the packet filter steers clients there. Each such record says so in
//! `sekisho.detail`, and the log once: steered clients need `mode = "transparent"`.
