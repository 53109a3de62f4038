//! What the service takes from itself: the minting process, what is given up and by which kernel, the issuing CA's key and its rotation.
//!
//! # Two processes
//!
//! `sekisho run` starts a second process, `sekisho mint`, as soon as it has read a configuration with `[issuing_ca]`. That one has the issuing
//! key, the first has the network ([`minter`](crate::minter)):
//!
//! | | serves | mints |
//! |---|---|---|
//! | has | listeners, connections, the record, the keys of leaves | the issuing key, one socket to the other |
//! | decides | who may reach what | whether a name is inspected, by a configuration it has read itself |
//! | is the main process of the unit | yes | no |
//! | ends | on SIGTERM and SIGINT, and with the minting process | when the other end of its socket is gone; stopped, it is let go on for that; signals it leaves to the other |
//!
//! What goes over the socket ([`question`](crate::inspect::question)): a name, and back a certificate for the public key that the serving
//! process gave when the configuration was taken up. No private key crosses. The leaf's key is made where it is used: whoever
//! has taken over that process has its handshakes anyway, and gains nothing by asking with another key. What he cannot do is ask for a
//! name that the policy does not inspect, for a CA, for a longer life, or with another file: the path is an argument of the minting
//! process, in messages there is a word of a closed list.
//!
//! A reload is taken up only where both have read the same revision; else it is refused, and everything stays as it was. Handshakes that
//! began before it still get their leaf for a minute. Which configuration is in force is said again until the minting process has answered
//! that it knows, and before it reads another one.
//!
//! **The minting process ends** only by a defect, by the system's hand (out of memory) or by somebody's. The service then stops, as on
//! SIGTERM, with exit code 1; the log has an error and the record a `minting_ended` line, `sekisho_minting` is 0 while it drains. It does not
//! start another one: it has given up starting programs. Nor does it go on without: it would serve the names it has leaves for
//! and answer the others with alerts, until somebody noticed. `Restart=always` of the unit starts both anew.
//!
//! **A minting process that gives no answer** (stopped, starved, its memory on a dead disk) has not ended. It is asked once a second whether
//! it is there; where it does not say so within 5 s, `/readyz` is 503 `minting_stalled`, `sekisho_minting` is 0, and log and record
//! (`minting_stalled`) say why; `minting_recovered` when it answers again. Names that have a leaf are served meanwhile, the others
//! fail as `issuing_failed`, and a reload is refused after those 5 s. While it reads a configuration, which a million names make
//! seconds, leaves wait for that, and it is not judged. The service does not end by it: whether to restart is for whoever looks.
//! Where the service ends meanwhile, the system lets the stopped one go on, so that it ends too: its group of processes has nobody left who could
//! (setpgid(2), SIGHUP and SIGCONT). Not where whoever takes orphans is of the same session, as a shell that is process 1 of a container and
//! whose end is everybody's, and not in a frozen control group, which the service manager has to kill.
//!
//! # What the minting process believes
//!
//! It is told names and a word for a file by a process that may be an attacker's. So what it believes does not come from there:
//!
//! | of | it believes | because |
//! |---|---|---|
//! | the path of the configuration | its own argument | it was started with it, before anybody was met |
//! | the first configuration | what it reads at the start, of the last good one where `--last-good` asks for that | nobody was met yet. The last good one lies in the state directory, and is what a process before may have left there |
//! | a configuration of a reload or a trial, where the serving process cannot write it | what it reads | somebody else has written it |
//! | one that the serving process could write | what it leaves out, and nothing that it adds | it is the serving process's own word |
//! | that a client wants a name | does not ask | a leaf is for the key of the serving process, which serves the name anyway |
//!
//! The serving process could write a configuration where it lies in a folder that was granted for the record, the control socket or the
//! state directory, or below one, and owners and modes let its user; the same counts for the folder of the site's own catalogue. On a kernel
//! without Landlock owners and modes alone decide. Then a reload that inspects a pattern which the first configuration did not inspect is
//! refused, `restart needed`, and a name that falls to another pattern gets no leaf. Taking names away, other keys, and everything that
//! is not about inspection are taken up as before. `sekisho_restriction{kind="configuration"}` is 0 there from the start on: at
//! the next start, whatever then stands in the file is obeyed by both. The package keeps them apart (`/etc/sekisho`, root's; `/var/log/sekisho`,
//! `/run/sekisho`, `/var/lib/sekisho`); a first try in one folder does not, and `check` warns of it where there is an `[issuing_ca]`.
//!
//! `[issuing_ca]` where there was none at the start asks for a restart: nobody is there to hold the key.
//!
//! What it costs, on two cores of a virtual machine: a leaf takes 80 µs from question to answer (99 of 100 within 125 µs), 45 µs of them the
//! minting process's own, which has 15 MiB; signed in the serving process it took 35 µs of that process's time. A name
//! that was asked for before costs nothing.
//!
//! `quickstart`, `prove` and `check` use the key themselves: they are run by whoever owns it, and serve nobody else.
//!
//! # What is given up
//!
//! After the configuration is read, and before the threads start that serve, the process gives up what the configuration does not need
//! ([`restrict`](crate::restrict)). For good: a reload cannot have it back.
//!
//! | `kind` | what is left | by | since |
//! |---|---|---|---|
//! | `dumps` | no core dump; other processes of the same user cannot look into it | `RLIMIT_CORE`, `PR_SET_DUMPABLE` | any |
//! | `capabilities` | none; `CAP_NET_ADMIN` with a `tproxy` listener, `CAP_NET_BIND_SERVICE` with a port below 1024, so that a reload can open it again | capset(2), the bounding set | any |
//! | `files` | reading in the folders of the files that the configuration names, of the system's roots with `roots = "system"`, resolv.conf where no server is named, and its own state in /proc; writing in the record's folder | Landlock, ABI 1; that files are not cut short, ABI 3 or seccomp | Linux 5.13 |
//! | `tcp_ports` | listening on the listeners' ports; connecting to the services' ports, 80, 443, the DNS servers' ports | Landlock, ABI 4 | Linux 6.7 |
//! | `signals` | to itself only; no abstract Unix socket but the service manager's, which is connected to before (`NOTIFY_SOCKET=@…`) | Landlock, ABI 6 | Linux 6.12 |
//! | `system_calls` | all but a list of those that start programs, make memory executable, look into other processes, signal or starve them, change the machine or the user, or open kernel interfaces a proxy does not use; sockets of IP and Unix only | seccomp | Linux 3.17 |
//! | `every_thread` | the above holds for every thread of the process: there was one when it was given up, or the kernel reaches the others | counted; Landlock, ABI 8 | any; Linux 7.0 |
//! | `issuing_key` | no issuing key's file, of this CA and of the next, can be opened by the process that serves | it was tried, at the start and after each reload | `files` |
//! | `configuration` | what the configuration is read from cannot be written by the process that serves | [compared](#what-the-minting-process-believes), at the start and after each reload | `files`, or owners and modes |
//!
//! **Debian 12** (Linux 6.1) has Landlock ABI 2: `files` holds, `tcp_ports` and `signals` do not, and are 0 with a warning at each start. A
//! serving process that was taken over may there connect to any TCP port: the firewall's rules for the machine's own connections are what is left,
//! and `RestrictAddressFamilies=` and `IPAddressDeny=` of the unit. Signals are refused by `system_calls` there too. Debian 13 (Linux 6.12)
//! has ABI 6, which is all of it. This was read in the kernels' documentation; the tests ran on Linux 6.18.
//!
//! Privileges cannot be gained (`no_new_privs`). Addresses and UDP are not restricted by the kernel's means: where a connection may lead is for the
//! address guard and the firewall. The minting process gives up all of that, every port, every socket and all writing.
//!
//! A system call that was given up fails with EPERM and kills nothing. The list is of what is forbidden, since a list of what is allowed
//! breaks a running service with an update of the C library.
//!
//! What is left all the same:
//!
//! * Of other processes: Unix sockets with a path can be connected to where their modes let, as those of the service manager and of a
//!   container engine do for root. seccomp does not see a path, and Landlock none of sockets; do not run it as root.
//! * Of memory: what is executable stays so, and nothing becomes so; code that is there can be run in another order.
//! * Of files: modes (`chmod`) and times of files that belong to the user can be changed by the process that serves, whatever folder they
//!   are in; owners and extended attributes cannot. That a file is there can be seen everywhere.
//! * Of threads: the allocator's own, by which freed memory goes back to the system, begins when all of it has been given up, and the minting
//!   process has none. What is loaded into the process from outside (`LD_PRELOAD`) and starts threads before that is not reached before Linux
//!   7.0; seccomp and `no_new_privs` hold for it all the same, and `every_thread` is 0.
//! * Descriptors that are open: listeners, record, connections.
//!
//! The folder of a named file is readable and not only the file, since files are changed by putting others in their place. Of `/`, `/etc` and
//! `/root` it is the file alone, but of `/etc` everything where `[control]` has `viewers` or `operators`: who is in which group stands in
//! `/etc/group` and `/etc/passwd` (no other file is read for it, and no name service asked). Both are read anew, once a second at most: who
//! leaves a group has lost it within a second. Whoever changes them (`useradd`, `gpasswd`) puts other files in their place, which a rule for
//! a file does not reach: Landlock's rules are for the very file that was there, or for a folder with everything below it. Modes are what
//! keeps the rest of `/etc`: the service's own user reads there what everybody reads. With a `[control]` for root alone it is `/etc/passwd`
//! and `/etc/group`, and the first group that a reload names wants a restart. So have the key where the service does not read: a credential,
//! or a folder of its own outside of `/etc`; and give the configuration a folder of its own, and where /etc/resolv.conf is replaced while the
//! service runs, name `[resolver] servers`: a reload that may not read the new file goes on with the servers of before, and says so
//! (`config_problem`).
//! The record's folder can be written, and so can that of the control socket and the state directory. The folders themselves have to stay:
//! one that is removed and made anew is another. As root the service has no capability to get round owners and modes either: the record's
//! folder must be its user's.
//!
//! # How to see it
//!
//! * The log says at the start what was `restricted`, and warns of each kind that was `not restricted` and why.
//! * The record has one line for the latter, `unrestricted`, and another where a reload changes `issuing_key` or `configuration`.
//! * `sekisho_restriction{kind="…"}` is 1 for what holds. An alarm belongs on 0.
//! * `grep -E 'Cap|NoNewPrivs|Seccomp' /proc/PID/status` says what the kernel thinks.
//!
//! Nothing of it is fatal: an older kernel serves as it did, and says so.
//!
//! # Restart needed
//!
//! A reload that needs a folder, a port to listen on or a port to connect to that was given up is refused: `restart needed`, with what it is;
//! the old configuration stays in force. So is one whose file cannot be read because it lies elsewhere. `check`, which has given up
//! nothing, finds no fault with it. To move a listener by a reload, start with both addresses.
//!
//! # The key
//!
//! | `issuing_ca.key` | `issuing_key` | |
//! |---|---|---|
//! | `"credential:ca-key"` | 1 | what `LoadCredential=ca-key:FILE` or `LoadCredentialEncrypted=ca-key:FILE` of the unit puts into `$CREDENTIALS_DIRECTORY`; made with `sekisho ca init --key FILE --root-key OFFLINE` |
//! | a file in a folder of its own | 1 | nothing else that the configuration names may lie there or be that folder's parent |
//! | a file beside the configuration | 0 | the process that serves never reads it, and whoever takes that process over could |
//!
//! With a credential, `check` and `explain` outside of the unit look at everything but the key, and say so.
//!
//! # Another issuing CA
//!
//! Two of them overlap, under one root that clients trust or under two that they trust both:
//!
//! 1. write `[issuing_ca.next]` with `certificate`, `key` and `from`, a day in Japan on which both are valid;
//! 2. bring the root's key back, run `sekisho ca init --next`, which never overwrites, and take it away again. The root is that of the present
//!    CA: its key is looked for beside `ca.pem`, or where `--root-key` says;
//! 3. reload; restart, where the key is a credential, which is read at a start. Both are checked at every load from now on, also whether they cover what is inspected;
//! 4. from the beginning of that day on, leaves are the next one's: each is made anew when it is next asked for, and with it the key that
//!    seals tickets, so that nothing of the old one is resumed. Open connections go on. No reload is due, and no handshake fails;
//! 5. some time later move its files to where the first one's are, remove the section, and reload or restart; `check` reminds of it.
//!
//! `ca show` describes both. Without a successor `check` warns from 60 days before the end on.
