use super::*;
use crate::policy::{GroupSource, Mode, PolicySource, ServiceSource};

fn service(name: &str, hosts: &[&str], ports: &[u16], clients: Option<&str>, plain_http: bool) -> ServiceSource {
    ServiceSource {
        name: name.to_owned(),
        line: 1,
        hosts: hosts.iter().map(|host| (HostPattern::parse(host).expect(host), 1)).collect(),
        ports: ports.to_vec(),
        mode: Mode::Tunnel,
        clients: clients.map(|group| vec![group.to_owned()]),
        plain_http,
        headers: Vec::new(),
    }
}

fn policy() -> Policy {
    let group = |name: &str, network: &str| GroupSource {
        name: name.to_owned(),
        networks: vec![network.parse().expect("a network")],
        line: 1,
    };
    Policy::compile(PolicySource {
        groups: vec![group("office", "10.20.0.0/16"), group("other", "10.30.0.0/16")],
        services: vec![
            service("A", &["a.example", "*.a.example", "*cdn.b.example"], &[443, 8443], None, false),
            service("B", &["x.*.a.example", "crl.a.example"], &[80], Some("other"), true),
        ],
    })
    .expect("no conflict")
}

fn settings(otherwise: Otherwise) -> Settings {
    let authority = |text: &str| Authority::parse(text.as_bytes()).expect(text);
    Settings {
        address: None,
        networks: Vec::new(),
        internal_networks: Vec::new(),
        internal_plain_names: false,
        proxies: vec![authority("p1.city.example:8080"), authority("10.0.0.2:8080")],
        internal_domains: vec![DnsName::parse(b"city.example").expect("a name")],
        internal_proxies: Vec::new(),
        otherwise,
        direct_fallback: false,
    }
}

fn of(client: &str, settings: &Settings) -> Option<String> {
    let client = ClientAddr::new((client.parse::<std::net::IpAddr>().expect(client), 1).into());
    script(&policy(), client, settings)
}

#[test]
fn a_script_holds_what_its_client_may_and_which_patterns_answer_for_nothing() {
    let office = of("10.20.0.1", &settings(Otherwise::Block)).expect("a group");
    let head: Vec<_> = office.lines().skip(1).take(7).collect();
    assert_eq!(
        head,
        [
            "var PERMITTED = \"PROXY p1.city.example:8080; PROXY 10.0.0.2:8080\", INSIDE = \"DIRECT\", OTHERWISE = \"PROXY 127.0.0.1:9\";",
            "var OWN = [\"city.example\", \"lgwan.jp\"];",
            "var PLAIN = false, NETWORKS = [];",
            "var PORTS = [[[443,8443],[]],[[],[]]], TABLE = {}, STARRED = {};",
            "put(0, \"*.a.example =a.example\");",
            "put(1, \"=crl.a.example\");",
            "star(\"a.example\", \"x.*:1\");",
        ]
    );
    let other = of("10.30.0.1", &settings(Otherwise::Block)).expect("a group");
    assert!(other.contains("[[80],[80]]"), "{other}");
    assert_eq!(of("10.40.0.1", &settings(Otherwise::Block)), None);
}

#[test]
fn there_is_no_way_past_the_proxy_unless_it_is_asked_for() {
    for (otherwise, direct) in
        [(Otherwise::Proxy, 1), (Otherwise::Block, 1), (Otherwise::Direct, 2), (Otherwise::Internal, 2)]
    {
        let text = of("10.20.0.1", &settings(otherwise)).expect("a group");
        // The way inside is DIRECT here, and that for the own domains alone.
        assert_eq!(text.matches("DIRECT").count(), direct, "{otherwise:?}");
        assert!(!text.contains("; DIRECT"));
    }
    let asked = Settings { direct_fallback: true, ..settings(Otherwise::Block) };
    assert!(of("10.20.0.1", &asked).expect("a group").contains("PROXY 10.0.0.2:8080; DIRECT\""));
    // Where all goes to the proxy, no list of what is permitted is given away.
    let all = of("10.20.0.1", &settings(Otherwise::Proxy)).expect("a group");
    assert!(all.contains("TABLE = {}, STARRED = {}") && !all.contains("a.example"), "{all}");
}

/// The quickest of some times.
fn cost(policy: &Policy, settings: &Settings) -> std::time::Duration {
    let client = ClientAddr::new(([10, 20, 0, 1], 1).into());
    let time = |_| {
        let began = std::time::Instant::now();
        assert!(script(policy, client, settings).is_some());
        began.elapsed()
    };
    (0..5).map(time).min().expect("five")
}

#[test]
fn h11_a_script_that_lists_nothing_costs_nothing_of_the_policy() {
    let hosts: Vec<_> = (0..20_000).map(|n| format!("n{n}.example.com")).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let group =
        GroupSource { name: "all".to_owned(), networks: vec!["10.0.0.0/8".parse().expect("a network")], line: 1 };
    let services = vec![service("many", &hosts, &[443], None, false)];
    let policy = Policy::compile(PolicySource { groups: vec![group], services }).expect("no conflict");
    let (nothing, all) = (cost(&policy, &settings(Otherwise::Proxy)), cost(&policy, &settings(Otherwise::Block)));
    assert!(nothing * 20 < all, "{nothing:?} beside {all:?}");
}

#[test]
fn a_client_has_the_proxies_of_the_longest_network_it_is_in() {
    let authority = |text: &str| Authority::parse(text.as_bytes()).expect(text);
    let network = |nets: &[&str], proxy: &str| Network {
        networks: nets.iter().map(|net| net.parse().expect("a network")).collect(),
        proxies: vec![authority(proxy)],
    };
    let settings = Settings {
        networks: vec![
            network(&["10.20.0.0/17", "fd00::/16"], "half.city.example:8080"),
            network(&["10.20.8.0/24"], "floor.city.example:8080"),
        ],
        ..settings(Otherwise::Proxy)
    };
    for (client, expected) in [
        ("10.20.8.1", "PROXY floor.city.example:8080"),
        ("10.20.9.1", "PROXY half.city.example:8080"),
        ("10.20.200.1", "PROXY p1.city.example:8080; PROXY 10.0.0.2:8080"),
    ] {
        let script = of(client, &settings).expect("a group");
        let first = format!("var PERMITTED = \"{expected}\", INSIDE = \"DIRECT\", OTHERWISE = \"{expected}\";");
        assert_eq!(script.lines().nth(1), Some(first.as_str()), "{client}");
    }
}

#[test]
fn networks_are_written_as_numbers() {
    for (net, expected) in [
        ("10.0.0.0/8", "[16777216,10]"),
        ("192.168.1.0/24", "[256,12625921]"),
        ("0.0.0.0/0", "[4294967296,0]"),
        ("255.255.255.255/32", "[1,4294967295]"),
    ] {
        assert_eq!(numbers(&net.parse().expect("a network")), expected, "{net}");
    }
}
