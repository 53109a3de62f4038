//! A running service: looking at it, changing its configuration without fear, and who may do what.
//!
//! # The control socket
//!
//! ```toml
//! [control]
//! socket = "/run/sekisho/control.sock"
//! viewers = "sekisho-viewers"        # may look
//! operators = "sekisho-operators"    # may change too
//! ```
//!
//! A Unix socket: a file of this machine, reached by no network. Who is at its other end is what the kernel says of the process that
//! connected (`SO_PEERCRED`): its user, and the group it runs under.
//!
//! | role | is | may |
//! |---|---|---|
//! | viewer | a member of `viewers` | `status`, `sessions` |
//! | operator | a member of `operators`; root and the service's own user, always | also `sessions cut`, `apply`, `confirm`, `rollback` |
//! | the service's own user, and root | who it runs as | also `upgrade` |
//!
//! `viewers` and `operators` are names of groups in `/etc/group`, or numbers. A member is who is listed there, whose own group it is
//! (`/etc/passwd`), or who runs under it at that moment. The third is for accounts that only a directory service knows: `sg
//! sekisho-operators -c 'sekisho status'`. Without either key the socket is open to root and the service's user alone (mode 0600); with
//! one it can be connected to by everybody (0666), and who has no role is told so and let go as he connects: nothing of his is read, and he
//! takes no place. A membership that was changed counts within a second.
//!
//! To replace the configuration takes the right to write its directory too, which the commands use and the service does not have. To be
//! an operator is not enough for `apply` and `confirm`; `sessions cut` and `rollback` write nothing.
//!
//! Every request leaves a line in the record, but one that is refused because too many ask at once: `sekisho.lifecycle` is `control` or `control_refused`, `sekisho.control` what was asked
//! for, `user.id`, `user.name` and `process.pid` who asked, `message` what came of it. Of a user without a role it is one line a second,
//! with how often he came since the one before; the last of them comes when he has gone. `sekisho_control_requests_total` counts all of them.
//!
//! A socket that nobody listens on any more is taken over at the start; where another service answers, this one does not start.
//! What is there and is no socket is left alone. A reload with another path opens the new one first.
//!
//! # Looking at it
//!
//! `sekisho status` shows version, revision and since when, what `/readyz` says and why, a trial, listeners, connections, load, the
//! record. It ends with 0 where the service is ready, with 3 where it is not.
//!
//! `sekisho sessions` lists what is being relayed: tunnels, inspected connections, plain requests, each with `event.id`, client, group,
//! authority, server name, service, mode, since when, octets both ways, in the words of the record (`--json`). What is refused or not
//! yet decided is not there. What a process that was taken over from has still is listed with its `process.pid` ([upgrade](#upgrade)). It comes in pages of 1000; what begins or ends meanwhile may be in it or not. `--client` takes an address, a
//! network or a group, `--service` a name.
//!
//! `sekisho sessions cut ID` ends one: its record says `cut_by_operator`, a request that was under way on it too. The client may come
//! again: to keep it out, change the policy.
//!
//! # Applying a configuration
//!
//! `sekisho apply NEW.toml --config FILE`
//!
//! 1. loads NEW as if it lay in the place of FILE, and says what is wrong with it as `check` does;
//! 2. shows what it changes, of what the two mean and not of their texts: services with hosts, ports, clients, mode and headers (never
//!    their values), groups, limits, timeouts, addresses, files. With `--record access.jsonl` also which of the recorded requests would
//!    be decided otherwise than recorded ([`learning`](super::learning));
//! 3. asks; `--yes` says yes beforehand. Where nobody can be asked it ends with 3 and has done nothing;
//! 4. replaces FILE in one step, with its mode, its owner and whatever link leads to it, tells the service, and waits for what that
//!    says. Access control lists and other extended attributes are not kept;
//! 5. puts FILE back where the service refuses it: a listener's address that is taken shows only now.
//!
//! The service says the revision of what it read, so what was checked is what is in force, or nothing has changed.
//! Two at once: one wins, the other is told. Where FILE is not what the service has in force, somebody has changed it and not
//! reloaded it, or it is broken: that is told, and `--overwrite` writes over it.
//!
//! # A trial
//!
//! `sekisho apply NEW.toml --config FILE --confirm 5m` leaves FILE as it is. NEW is put beside it as `FILE.trial`, and is in force for five
//! minutes (a second to a day). `sekisho confirm` makes it FILE. Otherwise the service takes FILE up again by itself: whoever has locked
//! himself out waits. `sekisho rollback` does not wait.
//!
//! * Meanwhile `/readyz` has a line `trial: …`, `sekisho_trial` is 1, the record has `trial_begun`, and `trial_confirmed` or
//!   `trial_rolled_back` at the end.
//! * A restart or a crash ends it: FILE is what a start takes up.
//! * SIGHUP is refused meanwhile (`reload_failed`), and so is another `apply`: what they would take up is not what is being tried.
//! * Tunnels that only the trial permitted are cut when it is rolled back (`policy_withdrawn`); limits and open connections go on as at
//!   every reload.
//! * Where FILE is broken when the time is over, as this process or the minting one reads it, what was in force before is in force again,
//!   from memory, and `degraded` says so. Where it cannot be put in force (another program has taken the address of a listener), the trial
//!   goes on and it is tried again every ten seconds.
//! * The revision of a trial is that of what was loaded, as `apply` shows it. `status` shows another one as in force where a service of it
//!   is refused for its registration ([`ismap`](super::ismap)).
//! * `confirm` refuses a `FILE.trial` that was changed after the trial began.
//! * `confirm` is one step: FILE is replaced. Killed before it, it has confirmed nothing; killed behind it, it has confirmed, and whatever ends
//!   the trial says so: `confirm` again, the end of its time (`trial_confirmed`, without a user), a restart. `rollback` is then refused, as
//!   FILE has nothing to go back to. What an `apply` or `confirm` that was killed leaves beside FILE (`.sekisho.toml.new`) is removed by the next.
//!
//! The time is that of the clock that is never set; a machine that sleeps does not count.
//!
//! # The last good configuration
//!
//! With a state directory (`--state-directory`, else the first of `$STATE_DIRECTORY`, which systemd's `StateDirectory=` sets) the text of
//! what was taken up last is kept there, at each start, reload and confirmed trial: `last-good.toml`, mode 0600. Its first line says of
//! which file it is, its revision, when it was taken up, and the hash of the rest.
//!
//! A start with a broken or missing file fails, and says what is wrong. With `run --last-good` it goes on with the kept text, and says so
//! in log, record (`last_good`), `/readyz` (`degraded: the configuration file is broken, …`), `status` and metrics (`sekisho_last_good`,
//! `sekisho_degraded`), until a reload takes the file up. Nothing else uses it.
//!
//! Kept is the text alone. The files it names (CRLs, roots, the issuing CA, the catalogue's folder and feeds) are read as they are now, so
//! the revision may be another one, and one that does not load fails the start.
//!
//! # Upgrade
//!
//! `sekisho upgrade` puts the program it is of in the place of the one that runs: it starts `run --take-over`, and waits until that
//! serves. Nothing is refused and no tunnel breaks:
//!
//! 1. The new process loads the configuration, and starts a minting process of its own. What it does not take is said now, and the old one
//!    goes on.
//! 2. It asks by the control socket, as the service's own user (`runuser -u sekisho`), or root where it runs as root, and gets every listening socket (`SCM_RIGHTS`, unix(7)).
//!    Connections wait in them as before; they are never closed.
//! 3. The old process completes the record, whose last line is `handed_over`, and lends it. The new one gets ready to serve and says so; until
//!    it has the answer it writes and accepts nothing. Then it begins its run in the same file
//!    (`start`, with whom it takes over from). From here on the old one's lines go through the new one: one file has one writer and one
//!    sequence at any time.
//! 4. The old one accepts no more, serves what waits with it already, and hands each tunnel over
//!    with its two sockets, its octets that were read and not written, its counts and its attempt: the terminal record has the
//!    `event.id`, the beginning and the octets of the whole. A tunnel goes on where it is until there is room on the way.
//! 5. Inspected connections end with the request that is under way (`Connection: close`, GOAWAY), those on which nothing was asked yet
//!    with their first, for which they have a second. One that ends so has ended in order, and its record has no reason, over HTTP/1.1 and HTTP/2
//!    alike; at `timeouts.drain` the rest is cut (`shutting_down`). Then the old process ends, and the record
//!    says so (`taken_over`), with how many tunnels and lines came from it.
//!
//! | if | then |
//! |---|---|
//! | the new process fails before it serves: its configuration, an address, the record | the old one goes on, in the record too (`takeover_failed`; behind a `reopen` where it had lent the record by then) |
//! | one of the two has no descriptor left on the way | the same: each says in its log, and the old one in `takeover_failed`, where it was lacking |
//! | the new process has fewer descriptors (`LimitNOFILE`) or less memory (`limits.memory`) than the tunnels take | what it cannot take stays with the old one until `timeouts.drain`; `taken_over` says how many, and for which of the two |
//! | the new process stands still before it serves (SIGSTOP) | the old one goes on after 10 s, or 5 s once it has lent the record, which it locks anew; it serves meanwhile, and what is to be recorded waits. When the other wakes it hears that, whatever has become of the old one, writes nothing and ends. Until then it holds the listening sockets too: outside a unit, a start finds their addresses taken, and `kill -9 PID` frees them |
//! | the old process is killed when the new one has its sockets, and before that serves | the new one serves: no connection is refused, the old one's are gone, `taken_over` says that it ended without a word, and where it had not lent the record yet `start` says that this ended unclean. Under systemd the old one is the main process: systemd ends the unit with both and starts it anew |
//! | the old process is killed while it drains | `taken_over` says that it ended without a word; its attempts have no end in the record |
//! | there is another upgrade while an old process drains | its lines go through both; the middle one stays until it has ended |
//! | the new process dies later | it is as if the service had died; the tunnels that are with the old one go on until `timeouts.drain` |
//! | the new configuration does not permit a tunnel | it ends in the new process with `policy_withdrawn` |
//! | a configuration is on trial | no upgrade: confirm it or roll it back |
//! | the process that runs is of a systemd unit, and whoever calls is not | no upgrade: what is started by hand is not of the unit, which would take the service for ended. `systemctl reload sekisho` |
//! | there is no `[control]` | no upgrade: add it, and restart once |
//! | a listener's address is another one in the file | the new process opens it; connections to the old address are refused from then on, as after a reload. Of the same port it cannot be another one: the old process goes on, and a restart changes it |
//!
//! What the old process still has the new one asks of it: `status` has a line for each such process (`draining` in JSON) with its number of
//! sessions, as of the last second, `sessions` lists them with the others, `sessions cut` reaches them, and `sekisho_draining_sessions` counts them. A process that does
//! not answer within 2 s, and 2 s more for each that it asks in its turn (8 s at most), is said not to, here and by `cut`. Nobody waits
//! for it any more until it has answered, nor for those before it; a second later it is asked again. `kill PID` ends what it has.
//!
//! The new process has a session of its own (`setsid`), and the standard error of the old one, by the control socket: its log goes where the
//! old one's went, and nothing of whoever called `upgrade` stays open. Why it could not take over it says there, and `upgrade` says it too.
//!
//! Limits of `[limits]` count what came over, and
//! those of connections refuse none of it. Rates and verdicts begin anew: a client may come as often again as at a start, and
//! the first tunnel to a host is verified anew. Both processes need memory and descriptors for as long as there are two. Under systemd
//! `systemctl reload sekisho` does it where the program file has changed ([`deployment`](super::deployment)).
//!
//! # Bounds
//!
//! | what | is at most |
//! |---|---|
//! | a request | 4096 octets, within 2 s of its connection |
//! | an answer | 4 MiB, 1000 sessions, within 10 s |
//! | conversations at a time | 8 of one user, 48 of all, 8 more for the service's user, 8 more for root |
//! | the wait of a command for its turn to connect | 10 s |
//! | changes at a time | one; others wait |
//! | a trial | one, of a day |
//! | `/etc/passwd`, `/etc/group` | 4 MiB each, read once a second at most |
//!
//! What is said is one line of JSON each way, with a version ([`protocol`](crate::control::protocol)).
