//! Attacks, and what stops each.
//!
//! The rows are those of the project's catalogue of attacks (`threats.md`); a test with the row's id in its name stands in `src/` or
//! `tests/`, which `tests/it/structure.rs` demands. *Seen* is the reason in the record and what the client gets. Rows without a
//! test, and why, stand under [left out](#rows-left-out); what stays possible under [residual risks](#residual-risks). Every
//! bound and deadline that a row of F and H speaks of is in [`operations`](super::operations#bounds). What each attack costs those who
//! behave is measured: [`scorecard`](super::scorecard).
//!
//! # A. Who is being talked to
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | A01 | CONNECT names an allowed host, the SNI another | [`policy::reconcile_tunnel`](crate::policy::reconcile_tunnel()) | `name_mismatch`, alert unrecognized_name |
//! | A02 | CONNECT to an address, SNI an allowed name | [`names::Host`](crate::names::Host), [`Policy::decide`](crate::policy::Policy::decide) | `ip_literal`, 403 |
//! | A03 | inside inspection another `Host` (fronting) | [`Scope::open`](crate::inspect::scope::Scope::open) | `name_mismatch`, 421, connection ends |
//! | A04 | absolute-form URI, `Host` and CONNECT differ | [`Scope::open`](crate::inspect::scope::Scope::open) | `name_mismatch`, 421 |
//! | A05 | plain proxy: URI and `Host` differ | [`forward`](crate::forward): `Host` is written from the URI | the URI's host alone |
//! | A06 | two, odd or empty `Host` fields | [`http1`](crate::http1), [`names::Authority`](crate::names::Authority) | `malformed_request` or `malformed_name`, 400 |
//! | A07 | h2 `:authority` differs from SNI or `host`, or is missing | [`Scope::open`](crate::inspect::scope::Scope::open) on every stream | `name_mismatch`, 421, or `malformed_request`, 400; the connection lives |
//! | A08 | a connection opened for A used for B | [`Scope`](crate::inspect::scope::Scope) holds one [`Destination`](crate::policy::Destination); [leaves](crate::inspect::issuer) have one SAN | `name_mismatch`, 421 |
//! | A09 | keep-alive: the next request goes elsewhere on an old connection | each plain request is a claim of its own with a dial of its own: [`connection`](crate::connection) | decided by itself |
//! | A10 | CONNECT is judged, inner requests are not | [`Scope::open`](crate::inspect::scope::Scope::open) judges each, with a record each | the inner request's own reason |
//! | A11 | Upgrade, WebSocket or extended CONNECT with another authority | [`Scope::open`](crate::inspect::scope::Scope::open); announced only where the upstream announced it: [`inspect::h2`](crate::inspect::h2) | `name_mismatch`, 421; `method_not_permitted`, 405 |
//! | A12 | CONNECT inside inspection | [`Scope::open`](crate::inspect::scope::Scope::open) | `method_not_permitted`, 405 |
//! | A13 | a steered client that forges the address it means | the claim is the hello's name or the request's `Host` alone ([`first_of_steered`](crate::identify::first_of_steered)); the address is an [`OriginalAddr`](crate::addrs::OriginalAddr), which nothing dials, and stands in the record | the name's own origin, or the name's refusal |
//! | A14 | not TLS behind CONNECT, or from a steered client | [`client_hello`](mod@crate::identify::client_hello) | `not_tls`, close |
//! | A15 | data leaks through DNS queries for a blocked name | [`Policy::decide`](crate::policy::Policy::decide) comes before [`Resolver`](crate::upstream::resolve::Resolver) | `not_allowlisted`, 403, no query |
//! | A16 | escape to QUIC by `Alt-Svc` | [`response_field_passes`](crate::exchange::fields::response_field_passes) | the field is gone |
//! | A17 | CONNECT to the proxy itself | [`Policy::decide`](crate::policy::Policy::decide) for addresses; for names [`SelfAddrs`](crate::upstream::vet::SelfAddrs), before and after connecting; `Via` on plain HTTP | `ip_literal` or `self_connection`, 403 |
//! | A18 | the matcher differs above some list size | [`policy`](crate::policy): one table for every size | the same verdict |
//! | A19 | sloppy wildcards | [`HostPattern`](crate::policy::HostPattern) | `not_allowlisted`, 403 |
//!
//! # B. Where the packets go
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | B01 | an allowed name resolves to a special address | [`AddressClass`](crate::addrs::AddressClass), [`VettedAddr`](crate::upstream::vet::VettedAddr) | `address_denied`, 403, no SYN |
//! | B02 | rebinding between check and connect | [`VettedAddr`](crate::upstream::vet::VettedAddr) is the value that is dialled | one look-up per dial |
//! | B03 | good and bad answers mixed | [`vet`](crate::upstream::vet::vet()) drops the bad ones before the race | the good ones alone |
//! | B04 | the good address fails, the private one is tried | [`connect`](crate::upstream::connect::connect()) does not know what was dropped | `connect_failed`, 502 |
//! | B05 | hostile DNS answers | [`resolve`](crate::upstream::resolve): bounded time, CNAMEs, addresses | `dns_failed`, 502; `dns_timeout`, 504 |
//! | B06 | search lists, hosts file, single labels | [`Resolver`](crate::upstream::resolve::Resolver) asks for the name under the root only | `not_allowlisted`, 403; `dns_failed`, 502 |
//! | B07 | IPv6 zone ids | [`Host::parse`](crate::names::Host::parse) | `malformed_name`, 400 |
//! | B08 | ports out of range, signed, padded, missing | [`Authority::parse`](crate::names::Authority::parse) | `malformed_request`, 400; `port_not_permitted`, 403 |
//! | B09 | a forged client address in a field, or in a PROXY header | [`ClientAddr`](crate::addrs::ClientAddr) comes from accept, or from a [`BalancerAddr`](crate::addrs::BalancerAddr)'s header, which only [`Balancers`](crate::config::Balancers) makes; of all others a header is [what it is](crate::identify::proxy_protocol): no request | no effect; `malformed_request`, `not_tls` |
//!
//! # C. How names are written
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | C01 | upper case | [`DnsName::parse`](crate::names::DnsName::parse) | as lower case |
//! | C02 | trailing dot | [`DnsName::parse`](crate::names::DnsName::parse) | as without it |
//! | C03 | empty, long, doubly dotted names | [`DnsName::parse`](crate::names::DnsName::parse) | `malformed_name`, 400 |
//! | C04 | brackets round a name | [`Host::parse`](crate::names::Host::parse) | `malformed_name`, 400 |
//! | C05 | NUL, control and 8-bit octets | [`http1`](crate::http1), [`DnsName::parse`](crate::names::DnsName::parse) | `malformed_request` or `malformed_name`, 400 |
//! | C06 | percent-encoding | [`DnsName::parse`](crate::names::DnsName::parse) | `malformed_name`, 400 |
//! | C07 | user information | [`Authority::parse`](crate::names::Authority::parse) | `malformed_request`, 400 |
//! | C08 | `\`, `#`, `?`, `/`, `;`, space | [`http1`](crate::http1), [`DnsName::parse`](crate::names::DnsName::parse) | `malformed_request` or `malformed_name`, 400 |
//! | C09 | U-labels, look-alike dots, broken `xn--` | [`DnsName::parse`](crate::names::DnsName::parse): UTS #46 round trip | `malformed_name`, 400 |
//! | C10 | underscores, edge hyphens | [`DnsName::parse`](crate::names::DnsName::parse): `_` is taken, an edge `-` is not | `malformed_name`, 400 |
//! | C11 | inet_aton numbers, IPv4 inside IPv6 | [`Host::parse`](crate::names::Host::parse) | `malformed_name`, 400; `ip_literal`, 403 |
//! | C12 | `host:`, two ports, no host | [`Authority::parse`](crate::names::Authority::parse) | `malformed_request` or `malformed_name`, 400 |
//! | C13 | `*`, `*.com`, `**` in the configuration | [`HostPattern`](crate::policy::HostPattern), [`Breadth`](crate::policy::Breadth) | the file is refused |
//! | C14 | names one character from an allowed one | [`policy`](crate::policy), against a reference matcher | `not_allowlisted`, 403 |
//!
//! # D. ClientHello and TLS
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | D01 | one record in many segments | [`HelloReader`](crate::identify::client_hello::HelloReader) | the same verdict at every cut |
//! | D02 | the message over several records | [`HelloReader`](crate::identify::client_hello::HelloReader) | the same verdict |
//! | D03 | other records or messages in between | [`HelloReader`](crate::identify::client_hello::HelloReader) | `malformed_client_hello`, alert decode_error |
//! | D04 | a large hello | [`MAX_WIRE`](crate::identify::client_hello::MAX_WIRE) | `client_hello_too_large`, alert decode_error |
//! | D05 | a dribbled hello | the bound of D04, `timeouts.client_hello` | `client_hello_timeout`, close |
//! | D06 | malformed server_name | [`HelloError`](crate::identify::client_hello::HelloError): never taken for an absent one | `malformed_client_hello`, alert decode_error |
//! | D07 | no server_name | [`reconcile_tunnel`](crate::policy::reconcile_tunnel()), [`reconcile_inspect`](crate::policy::reconcile_inspect()) | tunnel: `no_sni`, alert unrecognized_name; inspected: the CONNECT name |
//! | D08 | GREASE, permuted extensions | [`client_hello`](mod@crate::identify::client_hello) | passes |
//! | D09 | post-quantum hellos | [`client_hello`](mod@crate::identify::client_hello) | passes |
//! | D10 | Encrypted ClientHello | decided on the outer name; the shared outer name `cloudflare-ech.com` is never permitted: [`Policy::decide`](crate::policy::Policy::decide) | `name_mismatch`; `not_allowlisted` |
//! | D11 | old and odd versions | [`client_hello`](mod@crate::identify::client_hello) | `tls_version`, alert protocol_version |
//! | D12 | another name in the second ClientHello | inspected: rustls; the destination would stay all the same. Tunnelled: see [residual risks](#residual-risks) | `name_mismatch`, alert unrecognized_name |
//! | D13 | data before the verdict, 0-RTT | [`Agreed`](crate::policy::Agreed); no early data: [`LeafCache`](crate::inspect::leaf::LeafCache) | nothing moves |
//! | D14 | resumption under another name | tickets sealed per name: [`LeafCache`](crate::inspect::leaf::LeafCache); upstream sessions die with their [`Trust`](crate::upstream::trust::Trust) | a full handshake |
//! | D15 | ALPN games | the upstream is offered what the client offered of `h2` and `http/1.1`: [`verify::inspect`](crate::upstream::verify::inspect()) | `no_application_protocol`, alert |
//! | D16 | floods of handshakes and inside TLS | handshakes are [`Slots`](crate::admit::Slots), and come at the rate of new connections; rustls takes 32 key updates between two messages, few change_cipher_specs in a handshake, and refuses renegotiation | `rate_limited`, 429; the connection ends, `client_closed` or `tls_failed` |
//! | D17 | client certificates, TLS 1.0 upstreams | [`verify`](crate::upstream::verify); never tunnelled instead | `client_certificate_required` or `tls_failed`, 502 page |
//!
//! # E. HTTP/1 framing
//!
//! What is not provably unambiguous is refused and the connection closed; what goes on is written anew with one framing.
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | E01 | Content-Length beside Transfer-Encoding | [`RequestReader`](crate::http1::RequestReader) | `malformed_request`, 400 |
//! | E02 | Content-Length twice | [`RequestReader`](crate::http1::RequestReader) | `malformed_request`, 400 |
//! | E03 | odd numbers | [`RequestReader`](crate::http1::RequestReader) | `malformed_request`, 400 |
//! | E04 | odd transfer codings | [`RequestReader`](crate::http1::RequestReader) | `malformed_request`, 400 |
//! | E05 | odd chunk sizes | [`BodyReader`](crate::http1::BodyReader) | `malformed_request`, 400 |
//! | E06 | chunk extensions | [`BodyReader`](crate::http1::BodyReader): bounded, dropped | `malformed_request`, 400 |
//! | E07 | octets round the last chunk, bad trailers | [`BodyReader`](crate::http1::BodyReader) | `malformed_request`, 400 |
//! | E08 | folded lines | [`RequestReader`](crate::http1::RequestReader) | `malformed_request`, 400 |
//! | E09 | bare CR, LF, NUL | [`RequestReader`](crate::http1::RequestReader) | `malformed_request`, 400 |
//! | E10 | odd field names | [`RequestReader`](crate::http1::RequestReader) | `malformed_request`, 400 |
//! | E11 | odd request lines | [`RequestReader`](crate::http1::RequestReader) | `malformed_request`, 400; `head_too_large`, 431 |
//! | E12 | content where none is due | [`RequestHead`](crate::http1::RequestHead): such an upstream connection is not used again; none with CONNECT | `malformed_request`, 400 for CONNECT |
//! | E13 | `Expect` games | answered here, never passed on: [`forward`](crate::forward) | `malformed_request`, 400 where odd |
//! | E14 | CR LF from HTTP/2 | nothing is translated between versions; the writer takes none: [`WriteError`](crate::http1::WriteError) | stream error, or 400 |
//! | E15 | h2 content-length lies, connection fields | [`inspect::h2`](crate::inspect::h2) | stream error |
//! | E16 | pipelining with denied requests inside | each is judged: [`inspect::h1`](crate::inspect::h1); bounded reading ahead: [`forward`](crate::forward) | each its own |
//! | E17 | hostile answers | [`ResponseReader`](crate::http1::ResponseReader) | `upstream_malformed`, 502 page |
//! | E18 | a request behind a half-read body | the connection ends: [`forward`](crate::forward) | close |
//! | E19 | h2c | [`http1`](crate::http1): the preface is no request, `Upgrade: h2c` is stripped | `malformed_request`, 400, or stripped |
//! | E20 | bytes behind `Upgrade` before 101 | [`forward`](crate::forward): raw only from 101 on | answered as it is |
//!
//! # F. HTTP/2 abuse
//!
//! Of clients and of upstreams: both legs have the same limits, all of them in `inspect/h2_settings.rs`. An upstream that breaks them has
//! its connection ended; its client gets 502, GOAWAY and another connection to come by.
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | F01 | rapid reset | `UNSEEN_RESETS`, and `CANCELLED_STREAMS` for a patient one; `FLOODS` for who comes again and again | `rate_limited`, GOAWAY ENHANCE_YOUR_CALM; a record for each request |
//! | F02 | resets that a client provokes (MadeYouReset) | `PROVOKED_RESETS` | `rate_limited`, GOAWAY ENHANCE_YOUR_CALM |
//! | F03 | CONTINUATION flood, a head that is never finished | the crate counts the frames; `timeouts.request_head` for the whole head | `rate_limited` or `request_head_timeout`, GOAWAY ENHANCE_YOUR_CALM |
//! | F04 | SETTINGS, PING and PRIORITY floods, acknowledgements withheld | one answer at a time: who does not read it is not read; none is waited for. `IDLE_FRAMES` for all that carry nothing of a message | `rate_limited`, GOAWAY ENHANCE_YOUR_CALM |
//! | F05 | empty DATA | the crate counts them: 100 in a connection's life | `rate_limited`, GOAWAY ENHANCE_YOUR_CALM |
//! | F06 | HPACK bomb, cookie crumbs, answers held by zero windows | `HEADER_LIST`, `FIELDS`; `STREAM_WINDOW`, `CONNECTION_WINDOW`, `SEND_BUFFER`; `timeouts.body_progress` | `head_too_large`, 431, or `rate_limited`; `too_slow`, RST_STREAM CANCEL |
//! | F07 | windows that open octet by octet, or never | `timeouts.body_progress` counts octets, not updates | `too_slow`, RST_STREAM CANCEL |
//! | F08 | broken HPACK | the crate; `HEADER_TABLE` | `malformed_request`, GOAWAY PROTOCOL_ERROR |
//! | F09 | frames out of order, too long, of nothing | the crate; `FRAME` | `malformed_request`, GOAWAY |
//! | F10 | streams that are never finished, answers never read | `STREAMS`, `timeouts.body_progress`, `timeouts.inspected_idle` | `too_slow`, 408 or RST_STREAM; `idle_timeout` |
//! | F11 | the same of an upstream: floods, pushes, GOAWAY without end, half answers, requests it never takes | the limits of both legs, `INFORMATIONAL`, `timeouts.upstream_response`, `timeouts.body_progress` | `upstream_malformed`, 502; `upstream_timeout`, 504 |
//!
//! # G. Tenant fields
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | G01 | the client sends the field too | [`request_field_passes`](crate::exchange::fields::request_field_passes) | ours once |
//! | G02 | `_` or another sign for `-` | [`folds_to`](crate::exchange::fields::folds_to) | ours once |
//! | G03 | `Connection` names our field | ours are set last: [`Restrictions`](crate::exchange::fields::Restrictions) | ours once |
//! | G04 | in trailers | [`request_trailer_passes`](crate::exchange::fields::request_trailer_passes) | gone |
//! | G05 | hidden by odd lines | rows E08 to E10; upper case in h2: [`inspect::h2`](crate::inspect::h2) | `malformed_request`, 400 |
//! | G06 | another request, stream, method, version | every request has an [`Exchange`](crate::exchange::Exchange) with its restrictions | ours once on each |
//! | G07 | no room for our field | [`forward`](crate::forward), [`inspect::h2`](crate::inspect::h2) | `head_too_large`, 431 |
//! | G08 | inspection made impossible | [`Permit`](crate::policy::Permit)`<`[`Inspect`](crate::policy::Inspect)`>` has no way into a tunnel | the failure's reason; nothing goes upstream |
//! | G09 | a sign-in host that is not listed | [`config`](crate::config): a warning of `check` | a warning |
//! | G10 | CR LF in the configured value | [`config`](crate::config) | the file is refused |
//! | G11 | another allowed host reflects fields | [`Permit::headers`](crate::policy::Permit::headers): of this service and host only | absent there |
//!
//! # H. Exhaustion and fairness
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | H01 | heads, fields, targets and trailers without end | [`http1::Limits`](crate::http1::Limits), `HEADER_LIST` of HTTP/2 | `head_too_large`, 431 |
//! | H02 | slow heads, hellos, contents and readers | [deadlines](super::operations#slow-peers) for the whole of each: [`Patience`](crate::exchange::patience::Patience) for content; `limits.per_client` | `request_head_timeout`, `client_hello_timeout`, `too_slow` |
//! | H03 | half-open handshakes, idle and half-closed tunnels | `timeouts.client_handshake`, `timeouts.tunnel_idle`, `timeouts.tunnel_half_closed`, `timeouts.connection_life`; a source's flood of connections by the shipped rules, before it costs anything | counter `flood_dropped`; `tls_failed`, `idle_timeout`, `connection_expired` |
//! | H04 | more addresses than a limiter can remember | a bounded store of [`admit`](crate::admit), `MAX_KEYS`: who is as good as new is forgotten, nobody else | one shared limit for the rest |
//! | H05 | descriptors run out | `limits.connections` is lowered to what they carry; some are kept for record, admin and reload, and [`pressure`](crate::pressure) sheds before they are needed; 256 of balancers may wait for their header, for 5 s; a process that holds half of its descriptors before the first connection does not start, and takes no other's place | `too_many_connections`, `overloaded` |
//! | H06 | leaves minted for random names | `leaf_mints_per_second` of [`Rated`](crate::admit::Rated); [`LeafCache`](crate::inspect::leaf::LeafCache): bounded, one work per name | `rate_limited`, alert |
//! | H07 | one side fast, the other slow | neither is read faster than the other takes: [`forward`](crate::forward), [`tunnel`](crate::tunnel), the windows of HTTP/2 | the fast side waits |
//! | H08 | parsing that is quadratic or recursive | [`http1`](crate::http1) reads each octet once; small chunks go out together | nothing to see |
//! | H09 | a list so long, or patterns such, that a look-up takes long | [`policy`](crate::policy): a hash walk over the labels of a name, no regular expressions; its steps do not grow with the list, but for patterns that differ only between two stars of one label (`*a*`, `*b*`), which are compared one by one | nothing to see |
//! | H10 | a flood of refusals fills the record | those of one client within a second are recorded as [counts](super::record#floods-of-refusals); a balancer's checks are a [metric](super::failover#its-own-checks) | `sekisho.count` |
//! | H11 | more look-ups than a resolver takes | `dns_lookups` of [`Counted`](crate::admit::Counted); [`flight`](crate::flight): bounded runs | `rate_limited`, 429; `overloaded`, 503 |
//! | H12 | compressed contents that unpack to much | nothing is unpacked | passes as it is |
//!
//! # I. Upstream certificates
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | I01 | every kind of bad certificate | [`VerifiedUpstream`](crate::upstream::verify::VerifiedUpstream) | `certificate_invalid` with [`Fault`](crate::upstream::verify::Fault); 502 on CONNECT or as a page |
//! | I02 | a bad certificate laundered into a good leaf | the client's handshake comes last; the page is ours alone: [`inspect::page`](crate::inspect::page) | 502 page |
//! | I03 | chains that exhaust or crash the verifier | [`upstream::verify`](crate::upstream::verify): bounded issuers and octets | `certificate_invalid` (chain_too_large) |
//! | I04 | wrong trust with crossed or broken chains | webpki finds the path; issuers it would take against RFC 5280 are left out before, in [`upstream::verify`](crate::upstream::verify) | `certificate_invalid`, or the good path |
//! | I05 | SAN type confusion, NUL | webpki, asked by [`upstream::verify`](crate::upstream::verify) | `certificate_invalid` |
//! | I06 | name-constraint errors of the library | the version floor in `Cargo.toml`, and a test | `certificate_invalid` (name_constraints) |
//! | I07 | revoked, stale, missing CRLs | [`Trust`](crate::upstream::trust::Trust) | `certificate_invalid` (revoked, crl_stale, revocation_unknown) |
//! | I08 | resumption skips verification after a change | sessions die with their [`Trust`](crate::upstream::trust::Trust); a resumed session's chain is verified again | a full handshake |
//!
//! # J. The issuing CA
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | J01 | the key file is open to others, or a link | [`keyfile`](crate::inspect::keyfile) | refuses to start |
//! | J02 | the key in an output | no output has it: [`Issuer`](crate::inspect::issuer::Issuer), and the process that serves never has it; no core dumps, and nobody looks in: [`restrict`](crate::restrict) | nothing |
//! | J03 | a CA shared by installations | [`authority`](crate::inspect::authority) makes new keys, never overwrites | other keys |
//! | J04 | a leaf that can do too much | [`Issuer::mint`](crate::inspect::issuer::Issuer::mint) | one SAN, serverAuth, 14 days |
//! | J05 | a stolen CA signs anything | name constraints: [`constraints`](crate::inspect::constraints); an intermediate that [`authority`](crate::inspect::authority) makes has them, under a root whose key is taken away | `issuing_failed` outside of them |
//! | J06 | leaves for denied or unverified names | a leaf is asked for with an [`Agreed`](crate::policy::Agreed)`<`[`Inspect`](crate::policy::Inspect)`>` in hand | no leaf |
//! | J07 | the process that serves is taken over | the key is another process's, which signs what its own policy inspects: [`minter`](crate::minter); [`restrict`](crate::restrict) | no other name, no key |
//! | J08 | rotation | two CAs overlap: [`Issuer::which`](crate::inspect::issuer::Issuer::which); no leaf or ticket of another CA is served: [`LeafCache`](crate::inspect::leaf::LeafCache); open connections go on | no failure |
//!
//! # K. The record
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | K01 | injection by names and fields | [`record::Text`](crate::record::Text) and the escaper | one JSON line each |
//! | K02 | a missing field | every field of [`record::Fields`](crate::record::Fields) is optional | a shorter line |
//! | K03 | full or failing disk | [`record::State`](crate::record::State), [`WhenUnwritable`](crate::record::WhenUnwritable) | `record_unavailable`, 503, until it can be written |
//! | K05 | rotation, crash | [`record`](crate::record): reopen; a torn last line is cut and reported | lifecycle lines |
//! | K06 | secrets in the record | [`UrlPath`](crate::record::UrlPath), [`AskedAuthority`](crate::record::AskedAuthority), names of fields only | masked |
//! | K07 | reordering, clock jumps | `event.sequence`, given under the queue's lock: [`record`](crate::record) | 1, 2, 3, … |
//!
//! # L. Configuration
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | L01 | an empty list permits all | [`Policy::decide`](crate::policy::Policy::decide) | it permits nothing |
//! | L02 | no file at start | [`config::load`](crate::config::load) | exit code 1 |
//! | L03 | a broken file at reload | [`server`](crate::server) keeps the old one and says so: [`Health`](crate::telemetry::Health) | `degraded`, a metric, a line in record and log |
//! | L04 | a truncated file that still parses | `site.last_line`, where it is set: [`config`](crate::config); `apply` replaces the file in one step; the [last good text](crate::config::LastGood) has its hash | the file is refused |
//! | L05 | unknown, misspelt, duplicate keys, wrong types | [`config`](crate::config) | the file is refused |
//! | L06 | a bad TLS or CA option | [`config`](crate::config) | the file is refused |
//! | L07 | many reloads under load | one pointer swap: [`Gate::replace`](crate::connection::Gate::replace) | no wrong verdict |
//! | L08 | a rule removed while connections are open | [`Scope`](crate::inspect::scope::Scope), and the tunnels ask the new policy, after a trial too | `policy_withdrawn` |
//!
//! # M. Admin
//!
//! | row | attack | stopped by | seen |
//! |---|---|---|---|
//! | M02 | a page in a browser of the machine that asks the admin listener, under a name that it made to lead there; anything that changes state reached by a network | [`admin`](crate::admin) takes GET and HEAD, no `Origin`, and on loopback no `Host` but an IP address or localhost; what changes is asked on the [`control`](crate::control) socket, a file | 403, 405 |
//! | M05 | a PAC script that leads astray: names that are script, other hosts' properties, names that take long or are none; the listener's paths, slow and greedy clients, and those who ask and leave | [`pac`](crate::pac) writes parsed names only, matches by hand, and lists nothing for what is no name; [`autoconfig`](crate::autoconfig) has two paths, a deadline for heads, few connections of one client, and makes a script once | 404, 403, 431, or closed |
//! | M01 | the admin listener through the proxy | as A17: [`SelfAddrs`](crate::upstream::vet::SelfAddrs) holds it; no name is "ours" | `ip_literal`, `not_allowlisted` or `self_connection`, 403 |
//! | M06 | metric labels by host or user | [`admin`](crate::admin): labels are words of closed lists | bounded |
//! | M07 | policy or keys read without leave | [`admin`](crate::admin) has no such answer; the [`control`](crate::control) socket tells who has a [`Role`](crate::control::role::Role) by the kernel's word, and nobody the keys | 404, `not_permitted` |
//!
//! # N. Upstreams that fail
//!
//! | row | failure | met by | seen |
//! |---|---|---|---|
//! | N02 | the upstream ends in the middle of an answer | [`forward`](crate::forward), [`inspect::h2`](crate::inspect::h2), [`tunnel`](crate::tunnel) | `upstream_truncated`; no last chunk and no close_notify, RST_STREAM in HTTP/2; a tunnel breaks as its upstream does |
//! | N03 | refused, black-holed, silent, slow, broken off at any stage | a time for each: [`connect`](crate::upstream::connect), [`verify`](crate::upstream::verify), `timeouts.upstream_response`; what was found on a broken line is kept for a second | `connect_failed`, `upstream_closed`, `tls_failed`, 502; `connect_timeout`, `upstream_timeout`, 504 |
//! | N05 | one half ends, the other goes on, or says nothing | [`tunnel`](crate::tunnel) passes an end on; `timeouts.tunnel_half_closed` | every octet arrives; `idle_timeout` |
//!
//! # O. The machine
//!
//! | row | failure | met by | seen |
//! |---|---|---|---|
//! | O01 | the wall clock jumps | every limit and [`Attempt`](crate::record::Attempt) by the monotonic clock; the end of observing by both, the first of them ([`Observance`](crate::connection::Observance)); certificates and `@timestamp` by the wall clock | `certificate_invalid` (expired, not_yet_valid) while it is wrong |
//! | O02 | memory ends: an allocation fails, or the kernel kills the process | the process ends, and with it every way out, as in O06; [`pressure`](crate::pressure)'s ceiling is there so that it does not come to that | connection refused |
//! | O03 | the process is stopped and goes on, or killed | what was waiting is served; after a kill the next `start` line says what is missing: [`record`](crate::record) | nothing, or `sekisho.previous_end` |
//! | O05 | what grows a little with each attempt, and is much after a day | bounded stores, guards that give back: in small, ten attempts of each of six kinds and a reload, forty times: behind the last ten not three descriptors more, and less than 1 MiB more, than behind the sixth to the fifteenth; a whole day was not run | nothing to see |
//! | O06 | packets past a proxy that is stopped, killed or starting | `deploy/nftables`: steered ports refuse where nobody listens, the forward chain passes nothing; a counter and a capture on the internet's side stay at 0 through a hundred kills, aborts, stops and starts (`tests/it/steered/siege.rs`) | connection refused |
//! | O06 | packets past one box of a [pair](super::failover) that is dead, or attracted by it | `deploy/keepalived`: who is not ready gives the address up, both do where both are not; the same counter stays at 0 | the other box within 3 s, or nobody |
//! | O04 | a thread that serves stands still | [`probe`](crate::probe) goes through each; the watchdog is fed by nothing else | `/readyz` 503 `self_probe_failed`; systemd restarts |
//!
//! # Rows left out
//!
//! | row | why |
//! |---|---|
//! | A20 | cannot be seen: see [residual risks](#residual-risks) |
//! | K04 | there is no remote receiver: the record is a file, and a collector reads that |
//! | M03 | there is no login |
//! | M04 | there is no proxy authentication; `Proxy-Authorization` is removed and never recorded |
//! | N01 | there is no ICAP |
//! | N04 | there is no parent proxy, and so no way round one |
//!
//! While a site [observes](super::learning) (`site.enforcement`, at most thirty days), A15 does not hold for port 443: a name that nothing
//! lists is looked up and reached, and only the record says that it would have been refused. G09 does hold: the hosts of a tenant restriction stay closed.
//!
//! Of A16, UDP 443 is the packet filter's: `deploy/nftables` refuses and counts it.
//!
//! # Searched by fuzzing
//!
//! The targets of `tests/fuzz` search, guided by coverage, for octets that break what must hold of them; `tests/fuzz/run 600` runs each
//! for ten minutes, on the stable compiler. The ordinary tests replay their seeds, and feed `names`, `policy_decision` and
//! `proxy_protocol` from a generator. *Runs* and *edges* are those of 600 s each on 2026-11-28 (`inspect_h2` and `record_line` anew on 2026-11-29), two at a time, at the lowest priority
//! beside compilers. What was found: `connect_head` was given `HTTP/1.?`, which was taken for HTTP/1.1, as the pattern that a version is
//! compared with marks the digit so; its seed and a test are named after it, and its figures are those of the search behind the
//! correction.
//!
//! | target | fed with | must hold | runs | edges |
//! |---|---|---|---|---|
//! | `chunked` | chunked content | the same in pieces; what is written anew reads back the same | 16384399 | 363 |
//! | `client_hello` | a ClientHello | the same verdict wherever it is cut; no verdict changes with more octets | 8245754 | 1082 |
//! | `config` | a configuration | problems or none, each with a message | 2823803 | 6272 |
//! | `connect_head` | what a client says first | the same claim in pieces; one authority, by a naive reading too | 26824364 | 1724 |
//! | `http1_request` | a request's head | the same in pieces; what is written anew reads back the same | 28799990 | 673 |
//! | `http1_response` | a response's head | the same | 14837526 | 482 |
//! | `inspect_h1` | the requests of an inspected connection | upstream, a strict reader of its own finds one framing, one `Host`, our field once, and as many requests as the record | 1383618 | 7020 |
//! | `inspect_h2` | the frames of one | upstream, one authority and our field once; a record for every request | 1442177 | 13007 |
//! | `names` | what stands where a name is due | six doors, one answer: CONNECT, URI, `Host`, `:authority`, SNI, configuration | 2681404 | 2282 |
//! | `policy_decision` | a policy and questions | the verdict of a naive reading of the precedence | 2892646 | 2939 |
//! | `policy_pattern` | a pattern | a normal form is its own | 3039302 | 10193 |
//! | `proxy_protocol` | a balancer's header | the same verdict wherever it is cut; the addresses that a naive reading finds | 18330970 | 267 |
//! | `record_line` | every text of a line, or some | one line, one JSON object, nothing a terminal obeys | 1073866 | 539 |
//!
//! # Residual risks
//!
//! * **Fronting inside a tunnel (A20).** What is asked for inside a tunnel's TLS cannot be seen. Where one address serves many
//!   names (a CDN), a client may talk to another of them under an allowed SNI, if the CDN lets it. Inspect such hosts.
//! * **Encrypted ClientHello (D10).** GREASE and real ECH look the same. A tunnel is decided on the outer name; a server that accepts
//!   ECH under an allowed outer name serves the hidden one. `cloudflare-ech.com` is refused; other providers' outer names must not be
//!   listed. Inspected hosts are safe: we answer for the outer name and accept no ECH.
//! * **The second ClientHello (D12).** After a HelloRetryRequest a tunnel's client sends another hello, which is not read. RFC 8446
//!   section 4.1.2 forbids it to change the name; a server that does not check could be led elsewhere.
//! * **A tunnel's certificate is judged by our handshake, not by the tunnel's.** It is the same address, port and name, but a server
//!   that can tell the two apart can answer them differently, and within `upstream.verify_cache` it can change. The client still
//!   verifies for itself.
//! * **Revocation is by the CRLs of `upstream.crls` alone.** A stapled OCSP response is not asked for and not looked at, and no OCSP
//!   server or distribution point is. A root's own end and key usage are not judged either: whoever lists it vouches for it, and
//!   `check` warns where it has expired.
//! * **Plain HTTP** (`plain_http`) proves nothing about who answered. It is for CRLs, OCSP and signed updates.
//! * **Data in permitted names.** Whoever may reach `*.example.com` can encode data in names under it, and those are asked of DNS.
//! * **Sign-in is not use.** Tenant fields restrict sign-in at the vendor's hosts. Links for anyone, anonymous meetings and replayed
//!   tokens are the vendor's to stop, and vendors change their hosts.
//! * **The minting process signs for whoever holds its socket** (J07). An attacker in the serving process gets leaves of 14 days for names
//!   that are inspected, which that process answers for anyway, and no others. There is no PKCS#11: the key is in a process's memory. Where
//!   its file lies beside the configuration, such an attacker can read it; `sekisho_restriction{kind="issuing_key"}` says so
//!   ([`hardening`](super::hardening#the-key)). Where the record lies beside the configuration, such an attacker writes what the next start
//!   reads; `sekisho_restriction{kind="configuration"}` says so, and until then nothing new is inspected by it
//!   ([`hardening`](super::hardening#what-the-minting-process-believes)).
//! * **The last good configuration** is kept by the process that serves, and nothing else vouches for it (J07): an attacker in that process
//!   can write another one, and whoever starts with `--last-good` obeys it. Read `last-good.toml` in the state directory before, or repair
//!   the file instead.
//! * **One client among those who share an address.** Who floods uses up what all behind his address, or in his `limits.ipv6_prefix`, may open;
//!   and who can forge the addresses of others in SYNs uses up theirs with the packet filter (`flood_dropped`). Switches that keep each
//!   terminal to its own address stop the second.
//! * **Loops over other proxies.** A loop is seen by address and port, and on plain HTTP by `Via`. A CONNECT that comes back over
//!   another proxy or address translation is not seen; the limits of connections end it.
