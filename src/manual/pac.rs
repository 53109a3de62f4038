//! Browsers: the script by which they find this proxy (PAC).
//!
//! The script for browsers is made from the policy, for each `[[clients]]` its own: what the client is permitted goes to `pac.proxies` (of
//! the `[[pac.network]]` with the longest prefix that holds the client, where there is one), names at and under `pac.internal_domains` and
//! `lgwan.jp` take the way inside (`pac.internal_proxies`, or DIRECT), as do IPv4 addresses in `pac.internal_networks` (none of everybody's: more
//! than a 64th of all addresses is an error, as is a public suffix among the domains) and, with
//! `pac.internal_plain_names`, names without a dot; all else goes where `pac.otherwise` says. With `proxy`, the default, that is this proxy
//! too, which refuses it and says why, and the script lists nothing. With `internal`, `block` or `direct` it decides by the policy's own
//! rules, ports included.
//!
//! What is no name to the proxy (more than 253 octets, a label that is empty, longer than 63 or has a `-` at an end, any other character than
//! letters, digits, `-` and `_`) goes where all else goes, under the own domains too, and no list is searched for it. Only whether a label
//! beginning with `xn--` decodes is not looked at: the proxy refuses what does not.
//!
//! `pac.address` serves it, as `/proxy.pac` and `/wpad.dat`, always as the policy in force has it: browsers are told not to use an old one
//! without asking (`ETag`, `Cache-Control: private, no-cache`), and get it in gzip where they take that. Each client gets the script of
//! its own group and network, which is made once, two of them at a time; who is in no `[[clients]]` gets 403. `limits` count here too
//! (429). Nothing of it is in the access record, as nothing is reached by it; `sekisho_pac_requests_total` counts. The port is no destination
//! (`self_connection`). `sekisho pac --client IP` prints the same script for a web server of your own, to be made anew with every change of
//! the policy; its type is `application/x-ns-proxy-autoconfig`.
//!
//! There are 256 connections for clients and 8 for strangers. A client, told apart by `limits.ipv6_prefix` as everywhere, has eight: one more is
//! closed at once and counted as `refused`. A client's connection lasts 30 s, a stranger's five. While all 256 are taken a newcomer waits, the
//! others behind it in the system's queue, and the connection that has lasted longest is ended as soon as it has lasted two seconds: who
//! holds on to all places, for which it takes 32 clients, keeps others waiting for two seconds. Of the descriptors kept for the service
//! none is used here: what would need one is closed and counted as `refused`.
//!
//! Browsers are told `http://THIS-PROXY:8081/proxy.pac` by their management (group policy, MDM). They find `/wpad.dat` by themselves where DNS has
//! a host `wpad` or DHCP an option 252, and then at port 80 unless the option says another; whoever can answer for that name instead of
//! you decides where browsers go, so prefer to name the address. A script of more than 1 MiB is not served (500 and a line in the log):
//! browsers do not take it. Windows' own services (WinHTTP) try the first proxy of a list only.
//!
//! A script enforces nothing: only a firewall that lets nothing past the proxy does. Without `direct_fallback` a browser whose proxies are
//! dead goes nowhere.
