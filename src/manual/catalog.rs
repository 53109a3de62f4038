//! The catalogue: what is known of cloud services, how a configuration takes hosts from it, and how to add to it.
//!
//! # Using it
//!
//! `sekisho catalog list` shows the entries and their parts, a line each; `sekisho catalog search login.microsoftonline.com` the parts that
//! reach a host; `sekisho catalog show microsoft-365/sign-in` all that is known of one part, and a `[[service]]` to begin with. None of
//! them reads a configuration; `--folder DIR` adds files of one's own.
//!
//! The catalogue permits nothing by itself. A `[[service]]` with `catalog = "entry/part"` takes the part's hosts, and its ports and
//! `plain_http` where the service says nothing of them; its own `hosts` are added. Several parts are a list,
//! `catalog = ["microsoft-365/exchange", "microsoft-365/teams"]`: each host once, by the line of the first part that has it. What a part
//! says of ports and plain HTTP is meant for its own hosts: where the parts differ, the service says it for all, or there are two.
//! From there on these hosts are like any other: who is let
//! in (`clients`), how (`mode`), which pattern wins, and what conflicts with what, are decided as if they were written out, and rule
//! and record name the line of the part. A pattern such as `{tenant}.sharepoint.com` takes the place of `{tenant}` from
//! `tenant_name` of the service, in its own `hosts` too.
//!
//! What `microsoft-365/…` means can be kept up to date without a new program: [`feeds`](super::feeds).
//!
//! A program that is replaced may bring other hosts: the configuration's revision (in the record and on the summary of `sekisho check`)
//! changes where what is taken has changed; `sekisho catalog show` of both programs tells how.
//!
//! # What `check` says of it
//!
//! | finding | severity |
//! |---|---|
//! | `catalog` leads nowhere; the nearest entries or parts are named | error |
//! | a host has a place for `{tenant}`, and there is no `tenant_name` | error |
//! | what the catalogue permits would be at or above a public suffix, with this `tenant_name` or by a file of one's own | error |
//! | own `hosts` beside a part in plain HTTP, and no `plain_http` that says what they are | error |
//! | parts of one list in plain HTTP and not, or on other ports, and no `plain_http` or `ports` that says what they are | error |
//! | the same part twice in a list, or an empty list | error |
//! | `tenant_name`, and no host has a place for it | warning |
//! | a host of any entry that must not be inspected would be, by a pattern of this service that reaches it or is a part of it, and no service tunnels that very pattern; where a vendor only asks for it, by that very pattern | warning |
//! | a part that a tenant profile could restrict is taken without one (not for `case = "authentication"`) | warning |
//! | a part for which no profile is known, and what the vendor offers instead (not for `case = "authentication"`) | warning |
//! | a part that serves content of every account, where files are worked with (`case = "collaboration"` or `"file-exchange"`) | warning |
//! | a host of the service's own that the approved feed has no longer ([`feeds`](super::feeds)) | warning |
//! | a part of which the approved feed has nothing left | warning |
//! | `*.sharepoint.com`, where another service names a tenant | warning |
//!
//! # A pattern hides a wider one
//!
//! Of the patterns that match a name the most specific answers alone: its ports, clients and headers are not completed from a wider one,
//! whoever listed that. `check` warns where this takes something away: a pattern of one service lies below a `*.` of another, and that
//! other is open to a group, has a port, speaks plain HTTP or sets a header of its own (`[[service.header]]`) that none of the services
//! with the narrower pattern has for it. Nothing is said where the narrower has as much or more, of hosts that must not be inspected and
//! are tunnelled therefore, and of a `*.` above the nearest one. A tenant restriction that is left out on a sign-in host is told as such; here
//! it is told where another vendor's stands in its place, on hosts that belong together for the restriction that is hidden.
//!
//! Where it is meant, the warning stays; where it is not, write the port or the group at the narrower pattern, or list the pattern in the
//! wider service too and part the ports. Of all parts of the catalogue taken together it says three things, each of names whose plain HTTP
//! is a part of its own while a broad part (`microsoft-365/common-broad`, `adobe/app`) permits HTTPS to the domain: these names are refused
//! by HTTPS.
//! No pattern is ever wholly hidden by a single other one: the more specific matches fewer names.
//!
//! # Files of one's own
//!
//! `[catalog] folder = "catalog.d"` names a folder, relative to the configuration. Each `*.toml` in it is an entry; its name without the
//! ending, of lower-case letters, digits and hyphens, is the entry's id. One with the id of an entry of the program takes its place
//! whole. The summary of `check` names these and those that were added, with their files; `sekisho catalog list --folder DIR` names the
//! file beside each of its parts. A file with an unknown key, or with anything else wrong, is refused, and the configuration with it: at a
//! reload the one in force stays.
//!
//! ```toml
//! name = "Example Talk"
//! provider = "Example Inc."
//! category = "chat"
//!
//! [[part]]
//! id = "app"
//! title = "Application"
//! purpose = "application"          # sign-in | application | media | cdn | update | revocation
//! hosts = ["talk.example.com", "*.talk.example.com"]
//! # ports = [443], plain_http = false, profiles = [], no_profile = "…", shared_content = "…", notes = "…"
//!
//! [[part.never_inspect]]
//! hosts = ["device.talk.example.com"]
//! why = "client-certificate"       # certificate-pinned | client-certificate | vendor-asks
//!
//! [[part.source]]
//! url = "https://support.example.com/hosts"
//! read = 2026-11-28
//! confidence = "H"                 # H: the vendor's own; M: another source; L: weak
//! ```
//!
//! `category` is one of identity, office, chat, meeting, storage, development, business, design, ai, cloud, update, security, revocation.
//! `profiles` are those of `[service.tenant]`; `no_profile` says what is done where there is none, `shared_content` what of every account
//! the hosts serve. At most a thousand files of 1 MiB are read, with at most a thousand hosts in a list;
//! what is no ordinary file is refused.
//!
//! # How sure it is
//!
//! Each part says where it was read, on which day, and how sure that is: of the vendor's own documents or data, or of somebody else's.
//! A list of hosts is never whole: vendors add and remove them, Microsoft with thirty days' notice for additions and without any for
//! removals. What is missing shows in the record as `not_allowlisted`. Microsoft 365 is from its worldwide endpoint list of version
//! 2026081400, or from the list that the site has approved ([`feeds`](super::feeds)), without the mail ports, UDP, and `*.sharepoint.com`, `*.msecnd.net` and `*.onmicrosoft.com`, which belong to everybody.
