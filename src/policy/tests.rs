//! Behaviour of the policy as a whole: decisions, conflicts, reconciliation.

use super::*;
use crate::addrs::ClientAddr;
use crate::identify::client_hello::{Sni, WhyNoSni};
use crate::names::{Authority, DnsName};
use crate::reason::Reason;

fn group(name: &str, networks: &[&str], line: usize) -> GroupSource {
    let networks = networks.iter().map(|text| text.parse().expect("network")).collect();
    GroupSource { name: name.to_owned(), networks, line }
}

fn service(name: &str, hosts: &[&str], ports: &[u16]) -> ServiceSource {
    let hosts = (11..).zip(hosts).map(|(line, text)| (pattern(text), line)).collect();
    ServiceSource {
        name: name.to_owned(),
        line: 10,
        hosts,
        ports: ports.to_vec(),
        mode: Mode::Tunnel,
        clients: None,
        plain_http: false,
        headers: Vec::new(),
    }
}

fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).expect(text)
}

fn clients(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn client(ip: &str) -> ClientAddr {
    ClientAddr::new((ip.parse::<std::net::IpAddr>().expect("address"), 40000).into())
}

fn connect(authority: &str) -> Claim {
    Claim::Connect(Authority::parse(authority.as_bytes()).expect(authority))
}

fn request(method: Method, authority: &str) -> Claim {
    Claim::Request { method, authority: Authority::parse(authority.as_bytes()).expect(authority) }
}

/// `deny <reason> <rule id>`, or `tunnel|inspect|plain <destination> <rule id>`, and the group.
fn told(decision: &Decision) -> String {
    match decision {
        Decision::Deny(denial) => {
            let group = denial.group().map_or("-", |group| group);
            format!("deny {} {} {group}", denial.reason(), denial.rule().id())
        }
        Decision::Tunnel(permit) => allowed("tunnel", permit),
        Decision::Inspect(permit) => allowed("inspect", permit),
        Decision::Plain(permit) => allowed("plain", permit),
    }
}

fn allowed<M>(way: &str, permit: &Permit<M>) -> String {
    format!("{way} {} {} {}", permit.destination(), permit.rule().id(), permit.group())
}

/// Two groups, one nested in the other, and services for all that a decision tells apart.
fn city() -> Policy {
    let tunnelled = service("tunnelled", &["allowed.test", "*.files.test", "deep.a.files.test"], &[443, 8443]);
    let inspected =
        ServiceSource { mode: Mode::Inspect, ..service("inspected", &["inspected.test", "*.inspected.test"], &[443]) };
    let plain = ServiceSource { plain_http: true, ..service("plain", &["crl.test"], &[80, 443]) };
    let admins =
        ServiceSource { clients: clients(&["admins"]), ..service("admins only", &["admin.files.test"], &[22]) };
    let office_web = ServiceSource { clients: clients(&["office"]), ..service("shared 443", &["shared.test"], &[443]) };
    let admin_web =
        ServiceSource { clients: clients(&["admins"]), ..service("shared 8443", &["shared.test"], &[8443]) };
    Policy::compile(PolicySource {
        groups: vec![group("office", &["10.20.0.0/16"], 1), group("admins", &["10.20.9.0/24"], 2)],
        services: vec![tunnelled, inspected, plain, admins, office_web, admin_web],
    })
    .expect("no conflict")
}

#[test]
fn the_first_reason_that_applies_answers() {
    let policy = city();
    let (office, admin, stranger) = ("10.20.1.1", "10.20.9.1", "192.0.2.1");
    let get = |authority| request(Method::Get, authority);
    for (ip, claim, expected) in [
        // 1. An address is refused before anything else is asked, whoever asks.
        (stranger, connect("192.0.2.7:443"), "deny ip_literal builtin/ip-literal -"),
        (office, connect("192.0.2.7:443"), "deny ip_literal builtin/ip-literal office"),
        (office, connect("[2001:db8::1]:443"), "deny ip_literal builtin/ip-literal office"),
        (office, get("192.0.2.7:80"), "deny ip_literal builtin/ip-literal office"),
        // 2. The client, before the name.
        (stranger, connect("allowed.test:443"), "deny client_not_permitted builtin/client-not-permitted -"),
        (stranger, connect("denied.test:1"), "deny client_not_permitted builtin/client-not-permitted -"),
        // 3. The name, before the port and the method.
        (office, connect("denied.test:443"), "deny not_allowlisted builtin/not-allowlisted office"),
        (office, connect("denied.test:1"), "deny not_allowlisted builtin/not-allowlisted office"),
        (office, request(Method::Other, "denied.test:80"), "deny not_allowlisted builtin/not-allowlisted office"),
        (office, connect("x.allowed.test:443"), "deny not_allowlisted builtin/not-allowlisted office"),
        (office, connect("files.test:443"), "deny not_allowlisted builtin/not-allowlisted office"),
        (office, connect("x.lgwan.jp:443"), "deny not_allowlisted builtin/lgwan office"),
        (office, connect("notlgwan.jp:443"), "deny not_allowlisted builtin/not-allowlisted office"),
        (office, connect("cloudflare-ech.com:443"), "deny not_allowlisted builtin/ech-outer office"),
        // 4. The winner's clients, before its ports; the wider pattern does not complete it.
        (office, connect("admin.files.test:22"), "deny client_not_permitted service/4 office"),
        (office, connect("admin.files.test:443"), "deny client_not_permitted service/4 office"),
        (admin, connect("admin.files.test:22"), "tunnel admin.files.test:22 service/4 admins"),
        // 5. Its ports.
        (admin, connect("admin.files.test:443"), "deny port_not_permitted service/4 admins"),
        (office, connect("allowed.test:442"), "deny port_not_permitted service/1 office"),
        (office, connect("allowed.test:443"), "tunnel allowed.test:443 service/1 office"),
        (office, connect("allowed.test:444"), "deny port_not_permitted service/1 office"),
        (office, connect("ALLOWED.test.:8443"), "tunnel allowed.test:8443 service/1 office"),
        (office, request(Method::Other, "allowed.test:80"), "deny port_not_permitted service/1 office"),
        (admin, connect("x.files.test:443"), "tunnel x.files.test:443 service/1 admins"),
        (office, connect("shared.test:443"), "tunnel shared.test:443 service/5 office"),
        (office, connect("shared.test:8443"), "deny port_not_permitted service/5 office"),
        (admin, connect("shared.test:443"), "deny port_not_permitted service/6 admins"),
        (admin, connect("shared.test:8443"), "tunnel shared.test:8443 service/6 admins"),
        // 6. A CONNECT, by the service's mode.
        (office, connect("inspected.test:443"), "inspect inspected.test:443 service/2 office"),
        (office, connect("a.b.inspected.test:443"), "inspect a.b.inspected.test:443 service/2 office"),
        (office, connect("crl.test:443"), "tunnel crl.test:443 service/3 office"),
        // 7. A request, where nothing takes plain HTTP: 403 whatever the method.
        (office, get("allowed.test:443"), "deny plain_http_not_permitted service/1 office"),
        (office, request(Method::Other, "allowed.test:443"), "deny plain_http_not_permitted service/1 office"),
        (office, get("inspected.test:443"), "deny plain_http_not_permitted service/2 office"),
        // 8. and 9. Its methods.
        (office, get("crl.test:80"), "plain crl.test:80 service/3 office"),
        (office, request(Method::Head, "crl.test:80"), "plain crl.test:80 service/3 office"),
        (office, request(Method::Post, "crl.test:80"), "plain crl.test:80 service/3 office"),
        (office, request(Method::Other, "crl.test:80"), "deny method_not_permitted service/3 office"),
        (office, request(Method::Other, "crl.test:81"), "deny port_not_permitted service/3 office"),
    ] {
        assert_eq!(told(&policy.decide(client(ip), &claim)), expected, "{ip} {claim:?}");
    }
}

#[test]
fn a_rule_names_the_pattern_and_its_line() {
    let policy = city();
    for (authority, pattern, line) in
        [("x.files.test:443", "*.files.test", 12), ("deep.a.files.test:443", "deep.a.files.test", 13)]
    {
        let Decision::Tunnel(permit) = policy.decide(client("10.20.1.1"), &connect(authority)) else {
            panic!("{authority} is permitted");
        };
        assert_eq!(permit.rule().pattern().map(HostPattern::as_str), Some(pattern), "{authority}");
        assert_eq!((permit.rule().line(), permit.rule().name()), (Some(line), "tunnelled"), "{authority}");
    }
    let Decision::Deny(denial) = policy.decide(client("10.20.1.1"), &connect("denied.test:443")) else {
        panic!("denied.test is denied");
    };
    assert_eq!((denial.rule().line(), denial.rule().pattern()), (None, None));
}

#[test]
fn l01_empty_lists_deny_all() {
    let office = || group("office", &["10.20.0.0/16"], 1);
    let open = || service("open", &["allowed.test"], &[443]);
    let rows = [
        ("nothing at all", PolicySource::default(), "deny client_not_permitted builtin/client-not-permitted -"),
        (
            "no groups",
            PolicySource { groups: vec![], services: vec![open()] },
            "deny client_not_permitted builtin/client-not-permitted -",
        ),
        (
            "no networks",
            PolicySource { groups: vec![group("office", &[], 1)], services: vec![open()] },
            "deny client_not_permitted builtin/client-not-permitted -",
        ),
        (
            "no services",
            PolicySource { groups: vec![office()], services: vec![] },
            "deny not_allowlisted builtin/not-allowlisted office",
        ),
        (
            "no hosts",
            PolicySource { groups: vec![office()], services: vec![service("open", &[], &[443])] },
            "deny not_allowlisted builtin/not-allowlisted office",
        ),
        (
            "no clients",
            PolicySource { groups: vec![office()], services: vec![ServiceSource { clients: clients(&[]), ..open() }] },
            "deny client_not_permitted service/1 office",
        ),
        (
            "no ports",
            PolicySource { groups: vec![office()], services: vec![service("open", &["allowed.test"], &[])] },
            "deny port_not_permitted service/1 office",
        ),
        (
            "the neighbour: nothing is empty",
            PolicySource { groups: vec![office()], services: vec![open()] },
            "tunnel allowed.test:443 service/1 office",
        ),
    ];
    for (what, source, expected) in rows {
        let policy = Policy::compile(source).expect(what);
        assert_eq!(told(&policy.decide(client("10.20.1.1"), &connect("allowed.test:443"))), expected, "{what}");
    }
}

#[test]
fn however_wide_a_pattern_is_lgwan_and_the_ech_outer_name_stay_denied() {
    let everything = service("everything", &["*", "*.jp", "lg*.jp", "*.c*m"], &[443]);
    let groups = vec![group("office", &["10.20.0.0/16"], 1)];
    let policy = Policy::compile(PolicySource { groups, services: vec![everything] }).expect("no conflict");
    for (authority, expected) in [
        ("lgwan.jp:443", "deny not_allowlisted builtin/lgwan office"),
        ("a.asp.lgwan.jp:443", "deny not_allowlisted builtin/lgwan office"),
        ("notlgwan.jp:443", "tunnel notlgwan.jp:443 service/1 office"),
        ("cloudflare-ech.com:443", "deny not_allowlisted builtin/ech-outer office"),
        ("cloudflare.com:443", "tunnel cloudflare.com:443 service/1 office"),
    ] {
        assert_eq!(told(&policy.decide(client("10.20.1.1"), &connect(authority))), expected, "{authority}");
    }
}

#[test]
fn a18_the_verdict_does_not_depend_on_the_size_of_the_list() {
    for size in [1, 99, 100, 101, 10_000, 1_000_000] {
        let filler = (1..size).map(|n| (pattern(&format!("host{n}.filler.test")), n));
        let hosts = filler.chain([(pattern("Allowed.test"), size)]).collect();
        let big = ServiceSource { hosts, ..service("big", &[], &[443]) };
        let groups = vec![group("office", &["10.20.0.0/16"], 1)];
        let policy = Policy::compile(PolicySource { groups, services: vec![big] }).expect("no conflict");
        for (authority, expected) in [
            ("allowed.test:443", "tunnel allowed.test:443 service/1 office"),
            ("ALLOWED.TEST:443", "tunnel allowed.test:443 service/1 office"),
            ("allowed.test.:443", "tunnel allowed.test:443 service/1 office"),
            ("denied.test:443", "deny not_allowlisted builtin/not-allowlisted office"),
            ("x.allowed.test:443", "deny not_allowlisted builtin/not-allowlisted office"),
            ("xallowed.test:443", "deny not_allowlisted builtin/not-allowlisted office"),
        ] {
            let decision = policy.decide(client("10.20.1.1"), &connect(authority));
            assert_eq!(told(&decision), expected, "{authority} in a list of {size}");
        }
        let last = policy.decide(client("10.20.1.1"), &connect(&format!("HOST{}.filler.test:443", size - 1)));
        assert_eq!(matches!(last, Decision::Tunnel(_)), size > 1, "the last of the filler in a list of {size}");
    }
}

#[test]
fn headers_go_to_the_hosts_they_are_for_and_their_values_nowhere() {
    let header = |name: &str, hosts| SetHeader { name: name.to_owned(), value: "geheim".to_owned(), hosts };
    let only = HeaderHosts::Only(vec![pattern("login.live.test"), pattern("*.msa.test")]);
    let headers = vec![
        header("Restrict-Access-To-Tenants", HeaderHosts::All),
        header("sec-Restrict-Tenant-Access-Policy", only),
        header("X-Nowhere", HeaderHosts::Only(Vec::new())),
    ];
    let hosts = ["login.test", "login.live.test", "*.msa.test"];
    let signing_in = ServiceSource { mode: Mode::Inspect, headers, ..service("sign-in", &hosts, &[443]) };
    let source = PolicySource { groups: vec![group("office", &["10.20.0.0/16"], 1)], services: vec![signing_in] };
    let shown = format!("{source:?} {}", source.services[0].headers[0]);
    let policy = Policy::compile(source).expect("no conflict");
    let both = ["Restrict-Access-To-Tenants", "sec-Restrict-Tenant-Access-Policy"];
    for (authority, expected) in
        [("login.test:443", &both[..1]), ("login.live.test:443", &both), ("a.msa.test:443", &both)]
    {
        let Decision::Inspect(permit) = policy.decide(client("10.20.1.1"), &connect(authority)) else {
            panic!("{authority} is inspected");
        };
        let names: Vec<&str> = permit.headers().map(|header| header.name.as_str()).collect();
        assert_eq!(names, expected, "{authority}");
        assert!(permit.headers().all(|header| header.value == "geheim"));
        assert!(!format!("{permit:?}").contains("geheim"));
    }
    assert!(shown.contains("Restrict-Access-To-Tenants") && !shown.contains("geheim"), "{shown}");
    assert!(!format!("{policy:?}").contains("geheim"));
}

#[test]
fn every_conflict_is_told_at_once() {
    let groups = vec![
        group("office", &["10.20.0.0/16"], 1),
        group("annex", &["10.30.0.0/16", "10.20.5.5/16", "10.30.0.0/16"], 2),
        group("office", &["10.40.0.0/16"], 3),
    ];
    let header = SetHeader { name: "X-A".to_owned(), value: "v".to_owned(), hosts: HeaderHosts::All };
    let services = vec![
        service("one", &["allowed.test", "*.Allowed.test", "allowed.test."], &[443]),
        service("two", &["*.allowed.test"], &[80, 443]),
        ServiceSource { clients: clients(&["nobody"]), ..service("three", &["three.test"], &[443]) },
        ServiceSource { headers: vec![header], ..service("four", &["four.test"], &[443]) },
        ServiceSource { mode: Mode::Inspect, plain_http: true, ..service("five", &["five.test"], &[80]) },
    ];
    let conflicts = Policy::compile(PolicySource { groups, services }).expect_err("conflicts");
    let told: Vec<String> = conflicts.iter().map(|conflict| format!("{}: {conflict}", conflict.line)).collect();
    assert_eq!(
        told,
        [
            "2: network 10.20.5.5/16 stands in clients \"office\" (line 1) and in clients \"annex\" (line 2): a client is in \
             one group only, remove it from one",
            "3: two [[clients]] are named \"office\" (first in line 1): give one of them another name",
            "10: service \"three\" is for clients \"nobody\", and there is no [[clients]] of that name",
            "10: service \"four\" sets headers, which takes mode = \"inspect\" without plain_http: in any other way they \
             would not be on every request",
            "10: service \"five\" has plain_http and mode = \"inspect\": make two services of it",
            "13: allowed.test stands twice in service \"one\" (first in line 11): remove one",
            "11: *.allowed.test stands in service \"one\" (line 12) and in service \"two\" (line 11) with ports and clients \
             that overlap, so that neither would decide: remove it from one, or part their ports or clients",
        ]
    );
}

#[test]
fn one_pattern_in_two_services_needs_ports_or_clients_apart() {
    let on = |ports: &[u16], groups: Option<&[&str]>| ServiceSource {
        clients: groups.and_then(clients),
        ..service("s", &["*.allowed.test"], ports)
    };
    for (first, second, conflict) in [
        (on(&[443], None), on(&[443], None), true),
        (on(&[443], None), on(&[80, 443], None), true),
        (on(&[443], None), on(&[80], None), false),
        (on(&[443], Some(&["office"])), on(&[443], Some(&["admins"])), false),
        (on(&[443], Some(&["office"])), on(&[443], Some(&["admins", "office"])), true),
        (on(&[443], Some(&["office"])), on(&[443], None), true),
        (on(&[443], None), on(&[443], Some(&["office"])), true),
        (on(&[443], None), on(&[443], Some(&[])), false),
        (on(&[443], Some(&["office"])), on(&[80], Some(&["office"])), false),
    ] {
        let shown = format!("{:?} {:?} / {:?} {:?}", first.ports, first.clients, second.ports, second.clients);
        let groups = vec![group("office", &["10.20.0.0/16"], 1), group("admins", &["10.20.9.0/24"], 2)];
        let compiled = Policy::compile(PolicySource { groups, services: vec![first, second] });
        assert_eq!(compiled.is_err(), conflict, "{shown}");
    }
}

#[test]
fn the_summary_shows_the_effective_policy() {
    let policy = city();
    let services: Vec<ServiceSummary<'_>> = policy.services().collect();
    assert_eq!(services.len(), 6);
    assert_eq!((services[0].id, services[0].name, services[0].line), ("service/1", "tunnelled", 10));
    assert_eq!((services[0].ports, &services[0].groups[..]), (&[443, 8443][..], &["office", "admins"][..]));
    assert_eq!((services[1].mode, services[2].plain_http), (Mode::Inspect, true));
    assert_eq!(services[3].groups, ["admins"]);
    let hosts: Vec<_> = services[3].hosts.iter().map(|listed| (listed.pattern().as_str(), listed.line())).collect();
    assert_eq!(hosts, [("admin.files.test", 11)]);
    let groups: Vec<String> = policy.groups().map(|group| format!("{} {:?}", group.name, group.networks)).collect();
    assert_eq!(groups, ["office [10.20.0.0/16]", "admins [10.20.9.0/24]"]);
}

fn tunnel(policy: &Policy, authority: &str) -> Permit<Tunnel> {
    let Decision::Tunnel(permit) = policy.decide(client("10.20.1.1"), &connect(authority)) else {
        panic!("{authority} is tunnelled");
    };
    permit
}

fn inspect(policy: &Policy, authority: &str) -> Permit<Inspect> {
    let Decision::Inspect(permit) = policy.decide(client("10.20.1.1"), &connect(authority)) else {
        panic!("{authority} is inspected");
    };
    permit
}

fn sni(text: &str) -> Sni {
    Sni::Name(DnsName::parse(text.as_bytes()).expect(text))
}

#[test]
fn a01_a_hello_for_another_name_is_a_denial_with_both_names() {
    let policy = city();
    // Both names of the second row are permitted, and by one rule: that makes no difference.
    for (authority, given) in [("allowed.test:443", "denied.test"), ("x.files.test:443", "y.files.test")] {
        let disagreement = reconcile_tunnel(tunnel(&policy, authority), &sni(given)).expect_err(given);
        assert_eq!(disagreement.reason(), Reason::NameMismatch);
        assert_eq!(disagreement.destination().to_string(), authority);
        assert_eq!(disagreement.presented().map(DnsName::as_str), Some(given));
        assert_eq!((disagreement.rule().id(), &**disagreement.group()), ("service/1", "office"));
    }
    let given = sni("x.inspected.test");
    let disagreement = reconcile_inspect(inspect(&policy, "inspected.test:443"), &given).expect_err("another name");
    assert_eq!(disagreement.to_string(), "the hello names x.inspected.test, the connection is for inspected.test:443");
    assert_eq!(disagreement.rule().id(), "service/2");
}

#[test]
fn a01_the_same_name_agrees_however_it_was_written() {
    let policy = city();
    let agreed = reconcile_tunnel(tunnel(&policy, "Allowed.Test.:8443"), &sni("ALLOWED.test")).expect("one name");
    assert_eq!(agreed.destination().to_string(), "allowed.test:8443");
    let agreed = reconcile_inspect(inspect(&policy, "inspected.test:443"), &sni("inspected.test.")).expect("one name");
    assert_eq!(agreed.permit().rule().id(), "service/2");
}

#[test]
fn a02_an_address_has_no_permit_that_a_hello_could_agree_with() {
    let policy = city();
    for authority in ["198.51.100.9:443", "[::ffff:198.51.100.9]:443", "127.0.0.1:443"] {
        let decision = policy.decide(client("10.20.1.1"), &connect(authority));
        assert!(matches!(decision, Decision::Deny(denial) if denial.reason() == Reason::IpLiteral), "{authority}");
    }
}

#[test]
fn d07_no_server_name_agrees_only_where_tls_ends_here() {
    let policy = city();
    let absent = Sni::Absent(WhyNoSni::NoExtension);
    let disagreement = reconcile_tunnel(tunnel(&policy, "allowed.test:443"), &absent).expect_err("no server name");
    assert_eq!((disagreement.reason(), disagreement.presented()), (Reason::NoSni, None));
    let agreed = reconcile_inspect(inspect(&policy, "inspected.test:443"), &absent).expect("the authority is the name");
    assert_eq!(agreed.destination().to_string(), "inspected.test:443");
}

#[test]
fn d10_the_outer_name_of_an_encrypted_hello_is_judged() {
    let policy = city();
    let outer = sni("cloudflare-ech.com");
    let disagreement = reconcile_tunnel(tunnel(&policy, "allowed.test:443"), &outer).expect_err("the outer name");
    assert_eq!(disagreement.reason(), Reason::NameMismatch);
    let decision = policy.decide(client("10.20.1.1"), &connect("cloudflare-ech.com:443"));
    assert_eq!(told(&decision), "deny not_allowlisted builtin/ech-outer office");
}

fn observe(closed: &[&str]) -> Enforcement {
    let closed = closed.iter().map(|text| pattern(text)).collect();
    Enforcement::Observe(Observe { until: Until::new(moment(1_000)), closed })
}

fn moment(seconds: u64) -> std::time::SystemTime {
    std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
}

#[test]
fn it_is_observed_until_the_very_moment() {
    let observed = observe(&[]);
    assert!(observed.at(moment(999)).is_some());
    assert!(observed.at(moment(1_000)).is_none());
    assert!(observed.at(moment(1_001)).is_none());
    assert!(Enforcement::Enforce.at(moment(0)).is_none());
    assert_eq!(
        observed.at(moment(0)).map(|observing| observing.until().to_string()).as_deref(),
        Some("1970-01-01T00:16:40Z")
    );
}

#[test]
fn g09_observing_lets_through_what_nothing_lists_on_443_and_nothing_else() {
    let policy = city();
    let (office, stranger) = ("10.20.1.1", "192.0.2.1");
    let observed = observe(&["login.test", "*.restricted.test"]);
    for (ip, claim, expected) in [
        (office, connect("denied.test:443"), "tunnel denied.test:443 builtin/observe office"),
        ("10.20.9.1", connect("a.b.denied.test:443"), "tunnel a.b.denied.test:443 builtin/observe admins"),
        // Another port, another way, another client, no name.
        (office, connect("denied.test:8443"), "deny not_allowlisted builtin/not-allowlisted office"),
        (office, connect("denied.test:80"), "deny not_allowlisted builtin/not-allowlisted office"),
        (office, request(Method::Get, "denied.test:80"), "deny not_allowlisted builtin/not-allowlisted office"),
        (office, request(Method::Get, "denied.test:443"), "deny not_allowlisted builtin/not-allowlisted office"),
        (stranger, connect("denied.test:443"), "deny client_not_permitted builtin/client-not-permitted -"),
        (office, connect("192.0.2.7:443"), "deny ip_literal builtin/ip-literal office"),
        (office, connect("[2001:db8::1]:443"), "deny ip_literal builtin/ip-literal office"),
        // Names that are never permitted are not observed either.
        (office, connect("lgwan.jp:443"), "deny not_allowlisted builtin/lgwan office"),
        (office, connect("a.asp.lgwan.jp:443"), "deny not_allowlisted builtin/lgwan office"),
        (office, connect("cloudflare-ech.com:443"), "deny not_allowlisted builtin/ech-outer office"),
        // Nor those that a tenant restriction is for, which a tunnel would evade.
        (office, connect("login.test:443"), "deny not_allowlisted builtin/not-allowlisted office"),
        (office, connect("x.restricted.test:443"), "deny not_allowlisted builtin/not-allowlisted office"),
        (office, connect("restricted.test:443"), "tunnel restricted.test:443 builtin/observe office"),
        // What is listed is decided by its list alone.
        (office, connect("inspected.test:443"), "inspect inspected.test:443 service/2 office"),
        (office, connect("inspected.test:8443"), "deny port_not_permitted service/2 office"),
        (office, connect("admin.files.test:443"), "deny client_not_permitted service/4 office"),
        (office, connect("allowed.test:443"), "tunnel allowed.test:443 service/1 office"),
        (office, request(Method::Get, "allowed.test:443"), "deny plain_http_not_permitted service/1 office"),
    ] {
        let decision = policy.judge(client(ip), &claim, observed.at(moment(0)));
        assert_eq!(told(&decision), expected, "{ip} {claim:?}");
        let by_observing = expected.contains("builtin/observe").then_some(Reason::NotAllowlisted);
        let would_refuse = if let Decision::Tunnel(permit) = &decision { permit.would_refuse() } else { None };
        assert_eq!(would_refuse, by_observing, "{claim:?}");
        // When it is over, and where it never was, it is the policy's own decision.
        for observing in [observed.at(moment(1_000)), Enforcement::Enforce.at(moment(0))] {
            let decision = told(&policy.judge(client(ip), &claim, observing));
            assert_eq!(decision, told(&policy.decide(client(ip), &claim)), "{claim:?}");
        }
    }
}

proptest::proptest! {
    /// Whatever is asked: observing changes the one denial, into the one permit.
    #[test]
    fn observing_changes_nothing_but_an_unlisted_connect_to_443(
        host in "((login|allowed|x|deep|inspected|shared|crl|lgwan)\\.)?(a\\.files|files|allowed|inspected|shared|crl|denied|lgwan|login)\\.(test|jp)|192\\.0\\.2\\.7",
        port in proptest::sample::select(vec![443_u16, 80, 22, 8443, 444]),
        ip in proptest::sample::select(vec!["10.20.1.1", "10.20.9.1", "192.0.2.1"]),
        way in proptest::sample::select(vec![None, Some(Method::Get), Some(Method::Post), Some(Method::Other)]),
    ) {
        let policy = city();
        let authority = format!("{host}:{port}");
        let claim = way.map_or_else(|| connect(&authority), |method| request(method, &authority));
        let observed = observe(&["login.test"]);
        let before = policy.decide(client(ip), &claim);
        let after = policy.judge(client(ip), &claim, observed.at(moment(0)));
        let connects = matches!(&claim, Claim::Connect(Authority { port: 443, .. }));
        match (&before, &after) {
            (Decision::Deny(denial), Decision::Tunnel(permit)) => {
                proptest::prop_assert!(connects && host != "login.test", "{}", authority);
                proptest::prop_assert_eq!(denial.rule().id(), "builtin/not-allowlisted");
                proptest::prop_assert_eq!(permit.destination().to_string(), authority);
                proptest::prop_assert_eq!(Some(permit.group()), denial.group());
                proptest::prop_assert_eq!(permit.would_refuse(), Some(denial.reason()));
            }
            (before, after) => {
                proptest::prop_assert_eq!(told(before), told(after));
                let unlisted = matches!(before, Decision::Deny(denial) if denial.rule().id() == "builtin/not-allowlisted");
                proptest::prop_assert!(!(unlisted && connects) || host == "login.test", "{}", authority);
            }
        }
    }
}
