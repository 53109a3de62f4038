//! The tenant proof: whether the restriction arrives where it is due, confirmed every few minutes.
//!
//! At its start, after every reload and every five minutes the service asks for each inspected host through its own policy, issuing CA and
//! headers, over HTTP/1.1 and HTTP/2, as a client of the service's own `[[clients]]` ([`proof`](crate::proof)). The first request on each
//! connection carries hostile copies of the fields that are due: in other cases and spellings, several at once, named in `Connection`,
//! in the trailer; the second none. For a pattern with stars a host of that shape is asked for. An origin on 127.0.0.1 stands in for all
//! of them, and nothing leaves the machine. What arrives there has to be each field that is due, once, with its value, on every request,
//! and no field of any service where it is not due. It is in no count of attempts, and takes some milliseconds of a processor a host.
//! Fields that are closed are tried too: whatever a profile sets anywhere, and whatever field of its own a service sets whose name begins with
//! `X-`, no client's own passes to any inspected host. Other fields of a service's own (`Authorization`) are closed on its hosts alone.
//!
//! Where something else arrives, or no answer comes three times in a row, `/readyz` is 503 `tenant_proof_failed`, `sekisho_tenant_proof` is 0, and
//! record (`tenant_proof_failed`) and log say at which host, over which protocol and what; the proof is then made again every ten
//! seconds. While it holds, the record has a line (`tenant_proof_holds`) at the start and every hour, and
//! `sekisho_tenant_proof_held_timestamp_seconds` says when it last did. Where no service sets a field there is nothing to prove and no
//! `sekisho_tenant_proof`. `sekisho prove` makes one proof without a running service, as a table to file, or `--json`; no values are in it.
//!
//! It does not show that the clients really come this way, what the destination's own certificate is worth, or that the vendor obeys
//! the field and the tenant's settings there are right. Sign in with an account of another tenant for that, from a terminal, as often as the
//! guideline asks for a confirmation.
//!
//! | it says | look for |
//! |---|---|
//! | a field is missing, arrived twice, or for other hosts | a defect of this program: take it out of service, and tell us |
//! | no answer (… `issuing_failed`) | the issuing CA's files, its end, its name constraints |
//! | no answer within 10 s | no processor time, no descriptors, no memory: `/readyz` and `sekisho_overload` say which |
//! | no name was found that it answers for; no address is in its `[[clients]]` | a pattern or group that narrower ones hide, so that nobody reaches the service by it: remove it, or them. It is said once (`config_problem`) and is no failure |
//! | could not be set up | the sentence behind it: no port on loopback, an issuing certificate that cannot be read (above 64 KiB, which a few thousand inspected domains make it, this program's own client does not take it). It is no failure either |
