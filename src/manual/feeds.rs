//! Endpoint feeds: a vendor's own list, imported or fetched, reviewed, approved, and put back where it was wrong.
//!
//! The catalogue's entry `microsoft-365` was made from Microsoft's worldwide endpoint list (version 2026081400). Microsoft changes that
//! list about once a month: additions with thirty days' notice, removals without. With a feed the site follows it without a new program,
//! and nothing follows by itself: each list is looked at by somebody before it is in force, unless the site has said otherwise
//! (`auto_approve`).
//!
//! # From a list to the policy
//!
//! ```toml
//! [catalog]
//! folder = "catalog.d"                     # must be there; feeds are kept in catalog.d/feeds
//! # feed = "https://endpoints.office.com"  # whom `fetch` asks
//! # auto_approve = []                      # what `fetch` may put in force
//! ```
//!
//! ```sh
//! curl -o endpoints.json "https://endpoints.office.com/endpoints/worldwide?ClientRequestId=$(uuidgen)"   # anywhere, carried in
//! curl -o changes.json "https://endpoints.office.com/changes/worldwide/2026081400?ClientRequestId=…"     # since the version in force
//! sekisho catalog import endpoints.json --changes changes.json
//! sekisho catalog diff --record /var/log/sekisho/access.jsonl
//! sekisho catalog approve --by 'YAMADA Hanako' --note 'R8-112' --digest 589f6827d7ad
//! systemctl reload sekisho
//! ```
//!
//! | command | does | exit |
//! |---|---|---|
//! | `sekisho catalog import FILE` | reads the list strictly and keeps it as pending, in the place of what was pending; with `--changes FILE`, what `/changes` told of it | 0, 1 refused |
//! | `sekisho catalog fetch` | asks [`feed`](crate::config::CatalogSettings) for it where there is a newer one, and for what has changed since the one in force, then as `import` | 0, also where there is nothing newer; 1 |
//! | `sekisho catalog diff` | what the pending list would change | 0 no difference, 3 differences, 1 error |
//! | `sekisho catalog approve --by NAME` | puts the pending list in force | 0, 1 |
//! | `sekisho catalog revert --by NAME` | puts the last one with other content back in force, or `--to NUMBER`; 0 is the program's own | 0, 1 |
//! | `sekisho catalog history` | every list that was in force, by whom and when | 0, 1 where one cannot be read |
//!
//! All take `--config FILE` (default `./sekisho.toml`); all but `fetch` take `--folder DIR` in its place. None needs a running proxy, and
//! none tells it anything: it takes what was approved with its next reload, and the revision in record and summary changes with it.
//! The summary of `check` names the file of the list in force. Where the configuration is named, `approve` and `revert` load it with the new list first, and put nothing in force with which it
//! would not load (a host that the site lists by hand and the list now has too, a part that is gone, an inspected host that the issuing
//! CA does not cover; the last only where they may read its key). `diff` says so beforehand, and
//! names services that list a removed host by themselves, for which it therefore stays permitted. All three print the warnings that the
//! configuration has with the new list and not with the one in force. `approve` refuses a list without any difference, for which `diff`
//! ends with 0.
//!
//! # What is taken, and what is refused
//!
//! A list is taken whole or refused whole, with the reason; what was pending and what is in force stay. Refused is: what is cut short
//! or no JSON; what has another shape (an unknown key, another type, another category, an id twice); a text with a control character or
//! any other than ASCII; a host that is no host pattern, an address, at or above a public suffix, or under lgwan.jp; ports that are
//! none; more than 1 MiB, 500 sets, 300 hosts or addresses in a set, 5000 hosts in all. Also refused is a list with less than half of the hosts
//! in force, of which parts would take less than half as many (a set without TCP port 443 is taken by none), or without a service area
//! that the one in force has; `--accept-shrunk` takes it all the same. Missing keys, empty texts, spaces in
//! lists of ports and the same host twice are in real lists, and are no fault. Before the first approval what is in force is the
//! program's own entry, which has no service areas.
//!
//! Addresses are kept with the list and permit nothing: sekisho permits names. `diff` counts those that came and went, for firewalls that
//! take them. `import` notes a range wider than 40.96.0.0/13 or 2603:1063:6000::/35, the widest of the real list of version 2026081400.
//!
//! Google's `goog.json` and the lists that Zoom publishes hold addresses only, and are refused with that reason; what is known of
//! these services' names is in the program's catalogue.
//!
//! What changes is found by comparing whole lists. `/changes` adds two things that they do not have: the day from which on Microsoft uses
//! an added host (`effectiveDate`, as a rule thirty days after it is published), and Microsoft's word for the change (`impact`). It is read
//! as strictly: refused whole is what is cut short, of another shape, more than 1 MiB, 1000 changes, 2000 hosts or 20000 addresses, or has a
//! host, an address or a day that is none. Words that are new are kept as they come, and no changes at all are an answer too.
//! `import` with a `--changes` file that is refused changes nothing; `fetch` keeps the list without it, and warns.
//!
//! # Which part gets which host
//!
//! Services take parts (`microsoft-365/teams`), Microsoft numbers sets (12). [`places`](crate::feed::places) has the rules and the one
//! table from sets to parts. In short:
//!
//! * A host that the program knows stays in its part; one that is new goes to the part of its set. Ports, tenant profiles, what must
//!   not be inspected, notes and sources of a part stay as the program has them; where Microsoft asks for no inspection of a part, that
//!   holds for new hosts of the categories Optimize and Allow too.
//! * `sign-in`, `sign-in-consumer`, `device`, `sharepoint` and `sharepoint-admin` are of other documents of Microsoft's. A feed neither
//!   adds to them nor removes from them, so that what is inspected for a tenant restriction is never widened by it. A new wildcard over
//!   a host of the sign-in, such as `*.login.microsoftonline.com`, goes to `common-broad`, and a new single host of set 56 to
//!   `sign-in-other`.
//! * A set that the program does not know gets a part of its own, `microsoft-365/set-204`. Nothing takes it until a service names it.
//! * Left out, each with the reason on the screen of `diff`: sets without TCP port 443 (mail, media by address, plain HTTP), what
//!   every tenant or anybody may have names under (`*.sharepoint.com`, `*.onmicrosoft.com`, `*.msecnd.net`, `*.azureedge.net`), and
//!   hosts that another entry of the program has (`revocation/*`, `windows-update/*`).
//! * A part of which the list has nothing left permits nothing; `check` warns where a service takes it.
//!
//! * A host that a service lists by itself, and that an approved list had and the one in force has not, is a warning of `check`: nobody may
//!   be using it any more, and a name that is given up may become somebody else's.
//!
//! A `microsoft-365.toml` of the site's own in the folder takes the entry's place whole, and with an approved list beside it the
//! configuration is refused.
//!
//! # What `diff` shows
//!
//! For each part what is added, removed, widened (a pattern in place of those it reaches) and narrowed; whether another pattern of the
//! entry reaches the host already or still; the sets that list it. Where `/changes` told of it, an added host has the day from which on it
//! is used and how far ahead that is (`from 2026-12-01 (3 days ahead)`, in UTC), and every host the word for its change (`announced as
//! AddedUrl`). There is no day where it is not certain: one of the sets that list the host was not announced, or the host was removed from
//! a set, so that it was in use before. `approve` refuses nothing for it: a host is permitted from its approval on, which the thirty days are
//! meant for. It names those that are not in use yet by what came with the list. Then what changed of the sets themselves: new, gone, category, required,
//! ports, addresses. With `--record FILE`, which may stand several times, it counts the requests for each host: those of the record's
//! last day that is over, or since `--since`, in UTC. A tunnel is one request, an inspected connection as many as there were in it. Lines
//! that are torn or no record are passed over and counted. Refusals that the record has counted together (`sekisho.count`) name no host
//! where they differ in it, and are in no figure here. Compressed records have to be unpacked first.
//!
//! # What is kept
//!
//! ```text
//! catalog.d/feeds/microsoft-365/
//!   pending.json       imported or fetched, in force for nobody
//!   0001.json          what was approved first: the list, where it is from, who, when, why
//!   0002.json …        one more for each approval and each reversal; the highest number is in force
//!   fetch.json         when it may be asked again, and as whom
//! ```
//!
//! A numbered file is written once and never changed, and it comes into being whole: after a crash the state before or the state after
//! is there. Of two who approve at once one is told that somebody else was first. The highest number that cannot be read refuses
//! the configuration with file and reason (at a reload the one in force stays); an older one is never taken instead. `revert` works then
//! too. A reversal passes over states with the same list, and does not go through what was put back before: after 1, 2 and a reversal to 1 the next one goes to the program's own
//! list. The files are JSON, a host a line, and small: keep the folder under version control, and make it writable for those alone who may
//! approve, and not for the user that the proxy runs as, who has to read it. Who can write there decides what the entry means, as who can
//! write the configuration does. Files are made with mode 0644 and folders with 0755, whatever the umask is.
//!
//! **Deleting or moving these files changes what is in force, silently.** Without the highest number the one before it is in force with
//! the next start or reload, without any the program's own list; a folder that is moved away, or a backup that is put back, does the
//! same, and nothing warns of it but the revision in record and summary. `history` tells of a gap, and cannot tell that the highest is
//! gone. Go back by `revert`, never by deleting.
//!
//! # Fetching
//!
//! `sekisho catalog fetch` goes the proxy's own way to a destination: `[resolver]`, the address guard, `[upstream]` with its source
//! address, roots and CRLs; the certificate must be the server's. It asks `/version` first and `/endpoints` only where that names a
//! newer one than the last, then `/changes` since the version in force, all under a random identifier that stays the same. What is in force
//! from a file has no version, and `/changes` is not asked then. It asks once an hour at most (a list that was refused as shrunk can be
//! asked for at once with `--accept-shrunk`), and after a 429 not before
//! the time that came with it (an hour to a day); until then it ends with 1 and the time. Only 200 is taken, no redirect is followed.
//! `deploy/systemd` has a timer. A proxy without a way to Microsoft imports files.
//!
//! # Changes that need nobody
//!
//! Without `[catalog] auto_approve` a person approves each list. With it `fetch` puts a list in force by itself where every change of a
//! host is of a kind that stands there: `added`, `removed`, `widened`, `narrowed`, of any category or, as in `"added:allow"`, of sets of
//! that one (optimize, allow, default; of several sets that list a host each must be of it). One change that is not holds back the whole
//! list as pending. The first list is always somebody's, and so is a list taken with `--accept-shrunk`, what is new in `common-broad` or
//! `sign-in-other`, and a list with which the configuration would not load or has a new warning, and the next one after a reversal. A list
//! without any difference stays pending. `history` has it under the name `[catalog] auto_approve`. The
//! day from which on Microsoft uses an added host holds nothing back: a list is approved whole, the next one with days of its own comes about
//! when those of this one are over, so that none might ever be approved, and what was removed would stay permitted meanwhile. The proxy is
//! not told: a unit that runs `fetch` can reload it afterwards (`ExecStartPost=+systemctl reload sekisho.service`).
