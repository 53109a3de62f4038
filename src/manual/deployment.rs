//! Deployment: the files of `deploy/`, what each is for, and what of them was run where.
//!
//! # The package
//!
//! `deploy/debian/build` makes `target/debian/sekisho_VERSION_amd64.deb` with cargo-deb, for Debian 12 and later. It brings the program,
//! completions, the units below, and `examples/` in `/usr/share/doc/sekisho`. Nothing starts by its installation:
//!
//! ```sh
//! dpkg -i sekisho_*.deb                                   # users, directories; units enabled, none started
//! cp /usr/share/doc/sekisho/examples/collaboration.toml /etc/sekisho/sekisho.toml
//! editor /etc/sekisho/sekisho.toml                        # key = "credential:ca-key", where a service is inspected
//! editor /etc/sekisho/sekisho.nft                         # the clients' side, for transparent listeners
//! sekisho ca init --config /etc/sekisho/sekisho.toml --key /etc/credstore/sekisho.ca-key --root-key /media/offline/ca-root.key
//! systemctl start sekisho
//! ```
//!
//! systemd reads the key as root (`LoadCredential=`), and the unit copies it to `/run/sekisho-credentials`, where the service and, in an
//! upgrade, its successor find it: in memory, the service's own, gone when it stops. (systemd 252 shows a unit's credentials to what a start
//! runs, and to nothing that a reload runs.) It is read at a start: another key needs a restart. The unit does the same with
//! `sekisho.ca-next-key`, where there is one, which is `credential:ca-next-key` for `[issuing_ca.next]`; the
//! [guide](super::guide#8-incidents) has the change step by step. `check` outside of the unit looks at everything but the key, and says how it
//! would look at that too: `systemd-run --quiet --pipe -p LoadCredential=ca-key:sekisho.ca-key sekisho check …`
//! ([`hardening`](super::hardening)).
//!
//! Debian 12's Linux 6.1 has Landlock without TCP ports (6.7) and without signals (6.12): the service says so at each start, and serves ([`hardening`](super::hardening#what-is-given-up)).
//!
//! | step | what happens | what does not |
//! |---|---|---|
//! | install | users `sekisho` and `sekisho-crl`; `sekisho.service`, `sekisho-nftables.service` and the CRL timer are enabled | nothing is started: without `/etc/sekisho/sekisho.toml` the service has nothing to run. The kernel's settings and rules come with the next boot, or with the first start of the service |
//! | upgrade | files are replaced; what the site has changed is kept | the running process is not restarted, no connection is cut: `systemctl reload sekisho` has the new program take over (`sekisho upgrade`; without `[control]` a restart does) |
//! | remove | service and timer are stopped, units gone | conffiles stay; the packet filter's rules stay in force until the machine starts anew |
//! | purge | conffiles and `/var/lib/sekisho`, `/var/lib/sekisho-crl` go, without a question | the record in `/var/log/sekisho`, what somebody put into `/etc/sekisho` and `/etc/credstore`, and the users stay: evidence, and a CA that cannot be made again |
//!
//! A machine from which the package was purged forwards nothing until it starts anew, and then what its own settings say (Debian: nothing).
//! Lead no clients' traffic to it.
//!
//! # What each file does
//!
//! | file | goes to | does |
//! |---|---|---|
//! | `systemd/sekisho.service` | `/usr/lib/systemd/system` | the service: own user, no capability, read-only system, nothing executable but itself, watchdog, started again after 250 ms however often it dies |
//! | `systemd/sekisho.socket` | as above, not enabled | systemd holds the listening socket: clients wait while the service starts anew, ports below 1024 without a capability |
//! | `systemd/drop-ins/tproxy.conf` | `/etc/systemd/system/sekisho.service.d` | CAP_NET_ADMIN for `steering = "tproxy"` |
//! | `systemd/drop-ins/encrypted-key.conf` | as above | the CA's key in `/etc/credstore.encrypted`, encrypted to the machine by `systemd-creds`; the next one's too |
//! | `systemd/sekisho-nftables.service` | `/usr/lib/systemd/system` | loads `nftables/closed.nft`, then `/etc/sekisho/sekisho.nft`, before any interface is up; stopping it unloads nothing |
//! | `systemd/nftables.service.d/sekisho.conf` | as above | loads them again where Debian's own `nftables.service` has emptied the rule set |
//! | `systemd/sekisho-crl-fetch.*`, `crl/crl-fetch` | as above, `/usr/lib/sekisho` | fetches revocation lists [through the proxy](#revocation-lists) |
//! | `systemd/sekisho-catalog-fetch.*` | as above, not enabled | looks for a newer endpoint list ([`feeds`](super::feeds)) |
//! | `nftables/sekisho.nft`, `sekisho-tproxy.nft` | `/etc/sekisho` | steering, default-deny forwarding, refusal of QUIC, a limit of new connections by source |
//! | `sysctl.d/60-sekisho.conf`, `modules-load.d/sekisho.conf` | `/etc/sysctl.d`, `/usr/lib/modules-load.d` | forwarding off, queues, ports, connection tracking; each with its reason |
//! | `sysusers.d`, `tmpfiles.d` | `/usr/lib` | users and directories |
//! | `logrotate/sekisho` | `/etc/logrotate.d` | daily, 400 files |
//! | `prometheus/sekisho.rules.yml`, `grafana/sekisho.json` | where these run | alerts, each with what to do; a dashboard |
//! | `container/Containerfile` | – | an image without root, for a read-only root file system |
//!
//! # Fail closed
//!
//! Three things keep a packet of the clients' network from getting past a machine whose sekisho is dead, stopped or not started yet, and
//! each does so alone: forwarding is off in the kernel, which sekisho does not need (`60-sekisho.conf`); the `forward` chain drops, from
//! before the first interface is up; steered connections go to a port on which nobody listens. A site's rules that have an error leave
//! `closed.nft` in force and `sekisho-nftables.service` failed. Where something else on the machine turns forwarding on (a container
//! runtime, media that the firewall rules let through), the rules alone hold.
//!
//! # The service and its sandbox
//!
//! `systemd-analyze security` says 1.4 (0 is closed, 10 open). What is left: the network, which is its work; AF_UNIX for systemd and the
//! control socket; user ids of others, by which that socket tells who asks (so no `PrivateUsers=`); `/proc/meminfo`, by which
//! `limits.memory` is found (so no `ProcSubset=pid`); a record that its group may read; `capset`, by which it gives up
//! what it has. `MemoryMax=85%` of the machine is above
//! `limits.memory`, which is three quarters of that. `TimeoutStopSec=` has to be above `timeouts.drain`.
//!
//! A reload is `sekisho upgrade --if-changed`, where the program file is another than the one that runs, and then SIGHUP: what is wrong
//! with the configuration stands in the journal, the old one stays in force, and `/readyz` says `degraded`. `NotifyAccess=exec` is for the
//! successor, which feeds the watchdog and has its log in the same journal; with `main` systemd would end it after `WatchdogSec=`.
//! With the socket unit two units are stopped: `systemctl stop sekisho.socket sekisho`. As long as the socket is there the next connection
//! starts the service; while it cannot start, clients hang instead of being refused, which keeps browsers from going to a second proxy of
//! the PAC script. On a pair leave it out.
//!
//! # Revocation lists
//!
//! `/etc/sekisho/crl-list` names them (`examples/crl-list`), the timer fetches them four times a day, as a user that can write nothing else,
//! from the one address that it may reach: the listener. The configuration needs a `[[clients]]` with `127.0.0.1/32`, a `[[service]]` with
//! `plain_http = true` for the lists' hosts (`catalog = ["revocation/…"]`), and `crls = ["/var/lib/sekisho-crl/*.crl"]`.
//!
//! A list takes the place of the one before where sekisho itself reads it, its end lies ahead, it is no older, of the same issuer, and
//! signed by the certificate that its line names. What is refused or not had leaves the old one, and the unit failed with the reason in
//! its journal; the other lists are taken all the same. The service is told (SIGHUP) where one has changed.
//! `sekisho_crl_next_update_timestamp_seconds` is the earliest end of all lists in force; `SekishoRevocationListEnds` alerts a day ahead.
//!
//! # Monitoring
//!
//! Scrape the `[admin]` address with `job_name: sekisho`. `SekishoDown` needs that name. Each alert has `summary`, `summary_ja` and
//! `action`. `promtool test rules deploy/prometheus/sekisho.rules.test.yml` shows on a machine where all is wrong that each fires, and on a
//! busy one that none does.
//!
//! # What was run, and where
//!
//! | what | by |
//! |---|---|
//! | units, verified; exposure; scripts; rules; alert rules; the dashboard's structure and queries | `tests/it/deploy.rs`, on each run |
//! | socket activation, readiness, watchdog and credentials as environment | `tests/it/deploy/units.rs`, with `systemd-socket-activate` and a socket in systemd's place |
//! | the packet filter's rules with steered clients that never stop: sekisho killed, stopped, started, reloaded, upgraded, by redirect and tproxy | `tests/it/steered/`, in network namespaces; at length by `tests/run --long` |
//! | an upgrade of a process that `systemd-socket-activate` started; one behind a real HAProxy | `tests/it/deploy/units.rs`, `tests/it/balanced/haproxy.rs` |
//! | lists fetched through a real sekisho, and each way in which one is refused | `tests/it/deploy/crl.rs` |
//! | package in a root made with debootstrap: installed, upgraded, removed, purged | `tests/package`, by `tests/run --long` |
//! | a booted Debian 12 with the package: sandbox, credential, encrypted credential, reload, watchdog, restarts, rotation of the record, the change of the issuing CA by the guide's commands, rules at boot and after `nftables.service`, timer, tproxy's capability, socket unit, a reload by which a new program takes over and feeds the watchdog, removal | the same, systemd 252 under `systemd-nspawn` on loopback |
//! | the image's last stage, step by step, run without root on a read-only root | the same |
//!
//! Not run: a machine that boots by itself (order against real interfaces, DHCP, `network-online.target`), `MemoryMax=` and
//! `IPAddressDeny=` as the kernel applies them (the container had no control groups for memory, and their BPF was not seen to act),
//! a TPM, other versions of systemd than 252, an image built whole by podman or docker (its last stage was by buildah 1.28, with a program
//! made elsewhere, and ran as its user), the dashboard in a Grafana, Debian on other architectures than amd64.
