//! Learning what is used: observe, suggest, check, replay, enforce.
//!
//! Nobody knows beforehand which hosts the staff's cloud services are on. Whoever enforces from the first day finds out by complaints;
//! whoever permits everything to find out has no filter, and often keeps it. sekisho observes for a while, at most thirty days, and only
//! what it can still answer for; then it enforces, by itself.
//!
//! # 1. Observe
//!
//! ```toml
//! [site]
//! enforcement = "observe"
//! observe_until = 2026-12-15T18:00:00+09:00    # at most 30 days ahead, with its offset
//! ```
//!
//! While it observes, **one** refusal is turned into a permission ([`Policy::judge`](crate::policy::Policy::judge)): that of a CONNECT to
//! port 443, by a client of some `[[clients]]`, to a name that no pattern of the configuration matches. It becomes a tunnel like any other:
//! the address guard, `self_connection`, the certificate's verification, the server_name that must agree, the limits and the record are those
//! of any tunnel. Everything else is refused as always:
//!
//! * another port, `http://`, an IP address, a client in no `[[clients]]`, a name at or under `lgwan.jp` or `cloudflare-ech.com`;
//! * a name that is listed: its list alone decides, by port, client and mode. What is inspected stays inspected, with its headers;
//! * a name that a tenant restriction of the configuration is for (the vendor's list of the profile) and that is not listed: through a
//!   tunnel anybody's tenant could be signed in to.
//!
//! So list what you know already, and restrict sign-in, **before** observing: what stands in the file is in force from the first minute.
//!
//! What is lost meanwhile: there is no allowlist on port 443. Clients reach every site in the world there, and names are looked up in DNS
//! that would not be (A15). Addresses that `upstream.allow_addresses` excepts are reached by such names too, where the certificate there is
//! for the name. Nobody should be able to overlook it:
//!
//! | where | what it says |
//! |---|---|
//! | `check` | a warning, and `OBSERVING` with the end at the top of the screen |
//! | log | a warning at the start, every hour, and when it is over |
//! | record | a `lifecycle` line `observing` when it begins (and `config_problem` with the warning), `enforcing` when it is over; in every line of an attempt that was let through `sekisho.would_refuse` = `not_allowlisted`, with `rule.id` = `builtin/observe` |
//! | `/readyz` | 200, with `observing: … until …` in the body |
//! | `/metrics` | `sekisho_enforcement{mode="observe"}` is 1, `sekisho_observe_until_seconds` is the end (since 1970); while enforcing, `{mode="enforce"}` is 1 and the end 0 |
//! | `explain` | `OBSERVING`, and what enforcing would say; exit code 0, as it is let through. `--json`: `would_refuse`, `observe_until` |
//!
//! An alarm on `sekisho_enforcement{mode="observe"}` at 1, a day past the one you meant, is a good idea all the same.
//!
//! The script for browsers ([`pac`](super::pac)) says what the policy says, and nothing of observing: names that nothing lists go where `otherwise` sends them.
//! With `otherwise = "proxy"`, the default, they come here and are observed; with `"internal"`, `"block"` or `"direct"` nothing is learned of
//! them.
//!
//! # 2. The end
//!
//! From `observe_until` on it enforces, without a reload: new attempts at that very moment, and tunnels that were only observed are cut
//! (`policy_withdrawn`). The moment is one of the wall clock. A clock that is set forward ends it at once, for good; one that is set back gives
//! no time again, as what was left when the configuration was taken up is also counted by a clock that never jumps. A reload with the same
//! `observe_until` begins nothing anew; a restart, or another moment, does.
//!
//! A reload to `enforcement = "enforce"` (or without the two keys) ends it earlier, in the same way. A tunnel whose rule a reload took away
//! is cut too, and not observed from then on: its record would not say so. A file whose `observe_until` has passed is loaded, with a warning,
//! and enforces; one whose `observe_until` is more than thirty days ahead is refused. Both are judged by the wall clock: a machine that starts
//! with a wrong one starts sekisho after `time-sync.target`.
//!
//! # 3. Suggest
//!
//! ```text
//! sekisho suggest --config sekisho.toml access.jsonl > proposed.toml
//! zcat access.jsonl.*.gz | sekisho suggest -
//! ```
//!
//! It reads records (any number of files of any size, line by line), and makes `[[service]]` blocks of what only observing let through
//! (`observed`) and of what was refused as `not_allowlisted` (`refused`): of a site that enforces it shows what is asked for in vain.
//! First come parts of the [catalogue](super::catalog) that reach a name (`catalog = "microsoft-365/exchange"`), then exact names, by the
//! domain somebody registered; each kind by how often. Comments say how often, by which groups, on how many days, which of a part's patterns
//! were asked for by name, where a tenant restriction is offered, and under which suffixes anybody may get a name (`github.io`,
//! `cloudfront.net`). With a configuration, `clients` names the groups that asked, where there are others.
//!
//! It never makes a wildcard: how wide a service reaches is for its vendor's documents to say. A part of the catalogue that needs a tenant's
//! name is not proposed either: whose tenant it was, a name does not say. Parts of which the configuration
//! decides a pattern already would conflict with it, or take names away from a wider one with its mode and headers: of them the names are
//! proposed one by one.
//!
//! Left out, and counted at the end: what the configuration decides otherwise by now; what was let through and failed; names that no service
//! may list; other ports than 443 (80 in plain HTTP); floods that the record counted together, beyond their sample of names; names past the
//! first hundred thousand.
//!
//! Nothing is approved by that. An observed name is one that somebody asked for: an advertisement, a private mailbox, a remote control.
//! Read each block, find out whose it is, and delete what has no business on the list.
//!
//! # 4. Check and replay
//!
//! ```text
//! cat sekisho.toml proposed.toml > new.toml    # and enforcement = "enforce"; site.last_line stays last, where it is set
//! sekisho check --config new.toml
//! sekisho replay --config new.toml access.jsonl
//! ```
//!
//! `replay` asks the new policy again about every attempt in the record, with its client, name, port and method: the very function the proxy
//! calls. It lists each flow whose verdict, mode or headers (their names) would be another, with the number of attempts (`sekisho.count`
//! included), the rule that would decide and when it was asked first. Exit code 0: nothing would change; 3: something would; 1: error. `--json` is a line
//! for each, and one with the sums. It is good before any change of the policy, observed or not.
//!
//! ```text
//!      210  office: CONNECT www.example.com:443: tunnel (observed) -> tunnel
//!           by service/7 example.com at new.toml:61, first 2026-12-01T08:31:07.512Z
//!        4  office: CONNECT ads.example.net:443: tunnel (observed) -> deny (not_allowlisted)
//!           by builtin/not-allowlisted No [[service]] lists the name, first 2026-12-02T09:00:00.101Z
//! ```
//!
//! What a policy does not decide is not compared: DNS, certificates, limits, what a server answered. An attempt on which nothing had been
//! decided (it came over a limit, or was malformed), and one of which the record does not know the client or the name (a flood that was counted
//! together), are counted and not asked. A CONNECT that was inspected has no headers of its own in the record; its requests have.
//!
//! # 5. Enforce
//!
//! Put the new file in place, without `observe` and `observe_until`, and reload. What still lacks shows as `not_allowlisted`; `suggest` reads that
//! too.
//!
//! # Records that are read
//!
//! A line that is torn, longer than a mebibyte, or none of a record's is passed over and counted; a file that has no other lines is an error,
//! and so is one that is compressed, or no ordinary file. What a record says is not trusted, as anybody may have written it: names pass the
//! same door as on the wire ([`DnsName::parse`](crate::names::DnsName::parse)) before they are proposed, and what else is shown of it is in
//! comments, escaped. Memory is bounded by a hundred thousand names, and as many changes.
