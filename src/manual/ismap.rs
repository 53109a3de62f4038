//! Registration of services (ISMAP): what the configuration says of it, what sekisho does of itself, and what it never does.
//!
//! The guideline's draft (案, 2024-02-01) permits services that stand on the ISMAP cloud service list, and leaves the body's own check in
//! place: a registration is of one service and of one scope (言明の対象範囲). What runs on a registered platform is not registered by
//! that, and neither is another product of the same vendor. So nothing of a registration comes with the program, no number and no date:
//! who runs it looks the service up in the list (<https://www.ismap.go.jp/csm>) and writes down what was found, who found it, and when.
//!
//! ```toml
//! [site]
//! require_ismap = "enforce"      # enforce | warn; omitted: no registration is asked for
//! accept_liu = false             # true: registrations on the ISMAP-LIU list count too
//!
//! [[service]]
//! name = "Exchange"
//! catalog = "microsoft-365/exchange"
//! [service.ismap]
//! state = "registered"
//! number = "C00-0000-0"          # the list's own; only its form is checked
//! scope = "what of it the statement names"
//! valid_until = 2027-03-31       # its last day
//! confirmed_by = "情報政策課"
//! confirmed_on = 2026-11-01
//! grace = "30d"
//! after_grace = "deny"
//! ```
//!
//! # States
//!
//! | `state` | is | needs | with `require_ismap = "enforce"` |
//! |---|---|---|---|
//! | `registered` | on the list | `number`, `valid_until`, `confirmed_by`, `confirmed_on`; with `enforce` also `after_grace` | permitted |
//! | `renewal-pending` | on the list, and its renewal has been applied for | the same but `after_grace` | permitted |
//! | `lapsed`, `withdrawn` | no longer on it | – | an error |
//! | `unverified` | not looked up; also a service without `[service.ismap]` | – | an error |
//! | `exempt` | decided by the body to need none: revocation lists of certificates, a service of its own | `scope` (why), `confirmed_by`, `confirmed_on` | permitted |
//!
//! An error refuses the configuration: `check` says where, `run` does not start with it, and at a reload the one in force stays. With `warn`
//! each of these is a warning. `list = "ismap-liu"` says that the registration stands on the list for low-impact services; whether that
//! list counts for this use is not stated by the draft (要確認), so that it does so only with `accept_liu = true`.
//!
//! A number on the list of ISMAP has the form `C21-0005-2`. The form of those on the ISMAP-LIU list is not known (要確認): letters, digits
//! and hyphens are taken.
//!
//! # Dates
//!
//! Days are those of Japan, whatever the machine's time zone. A date alone ends nothing: a registration whose renewal has been applied for
//! stays valid past it until the committee decides (ISMAP基本規程 3.5, 要確認). A passed date asks for a decision, and what happens where
//! nobody decides is chosen beforehand, for each service, as one can be done without and another cannot.
//!
//! | day | told | traffic |
//! |---|---|---|
//! | 90, 60, 30 days before `valid_until` | once each while it runs; at every `check`, start and reload from the 90th day on | goes on |
//! | after `valid_until`, for `grace` (1 to 365 days) | that a decision is due, and what comes else | goes on |
//! | after that, with `after_grace = "warn"` | at every `check`, start and reload | goes on |
//! | after that, with `after_grace = "deny"` | that the service is refused | refused |
//! | after `valid_until`, in `renewal-pending` | that its date has passed | goes on, without end |
//!
//! *Told* is: a warning of `check` with file and line, a warning of the log, and a `config_problem` line of the record, with the same words
//! in all three. The decision is a change of the file and a reload: the new date, another `state`, or the service removed.
//!
//! `after_grace = "deny"` takes effect within five seconds of midnight, with no reload: new flows get `service_not_approved` (403), tunnels
//! that are open are cut and inspected connections get that page with their next request, both recorded as `policy_withdrawn`. The configuration's
//! revision changes with what is refused, so that one revision always decides the same. A start or reload on such a day loads the
//! configuration and refuses the service. What has been refused stays so until a reload, also where
//! the clock is set back; a `confirmed_on` that is to come refuses the file, as the clock is wrong then. Any other service goes on as before:
//! names that a wider pattern of another service reaches too are refused all the same, as the winner alone answers.
//!
//! # Where it shows
//!
//! The summary of `check` has a line for each service with its state, number, last day and the days that are left, those that want a
//! decision first. `explain` shows the same line (`--json`: `ismap`). Metrics, by `rule.id` of the record as no name of a service stands
//! in them, for services whose registration is asked for or stated:
//!
//! | metric | is |
//! |---|---|
//! | `sekisho_ismap_state{rule,state}` | 1 for the state in the configuration |
//! | `sekisho_ismap_valid_until_timestamp_seconds{rule}` | when the last day is over |
//! | `sekisho_ismap_refused{rule}` | 1 while the service is refused for it |
//!
//! An alarm belongs on `sekisho_ismap_valid_until_timestamp_seconds - time() < 60 * 86400` and on `sekisho_ismap_refused` at 1.
