use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::addrs::ClientAddr;
use crate::inspect::authority::{self, InitRequest};
use crate::names::{Authority, DnsName};
use crate::policy::{Claim, Decision};
use crate::record::WhenUnwritable;
use crate::upstream::trust::{MinTls, Roots, Stale, Unknown};

const MINIMAL: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[clients]]\nname = \"office\"\n\
                       networks = [\"10.20.0.0/16\"]\n[[service]]\nname = \"A\"\nhosts = [\"a.example.com\"]\n";

/// 2026-01-01; nothing in the tests' files depends on it but certificates made with it.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The `.toml` files of a directory of the package, by name.
fn files(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(package(directory)).expect(directory);
    let paths = entries.map(|entry| entry.expect("entry").path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files
}

/// Problems one a line (hints below), each with the file's bare name.
fn shown(problems: &[Problem]) -> String {
    let bare = |problem: &Problem| {
        let name = problem.file.rsplit('/').next().unwrap_or_default().into();
        Problem { file: name, ..problem.clone() }.to_string() + "\n"
    };
    problems.iter().map(bare).collect()
}

/// A directory with a configuration in it.
struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    fn new(text: &str) -> Self {
        let site = Self { directory: tempfile::tempdir().expect("directory") };
        site.write("sekisho.toml", text.as_bytes());
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect(name);
    }

    /// Makes an issuing CA for `names` and everything below them.
    fn with_ca(self, names: &[&str]) -> Self {
        let request = InitRequest {
            certificate: self.path("ca.pem"),
            key: self.path("ca.key"),
            site: "test".into(),
            permitted: names.iter().map(ToString::to_string).collect(),
            days: 730,
            now: now(),
        };
        authority::init(&request).expect("ca");
        self
    }

    fn load(&self) -> Result<Config, LoadError> {
        load(&self.path("sekisho.toml"), Scope::Full, now())
    }

    /// What is said when loading fails.
    fn refusal(&self) -> String {
        shown(&self.load().expect_err("must be refused").problems)
    }
}

fn inspecting(hosts: &str) -> String {
    MINIMAL.replace("[\"a.example.com\"]", hosts)
        + "mode = \"inspect\"\n[[service.header]]\nname = \"X-Org\"\nvalue = \"secret-org\"\n\
           [issuing_ca]\ncertificate = \"ca.pem\"\nkey = \"ca.key\"\n"
}

fn decide(config: &Config, client: &str, authority: &str) -> Decision {
    let client = ClientAddr::new(format!("{client}:40000").parse().expect("client"));
    config.policy.decide(client, &Claim::Connect(Authority::parse(authority.as_bytes()).expect("authority")))
}

fn header_names(config: &Config, host: &str) -> Vec<String> {
    match decide(config, "10.20.0.7", &format!("{host}:443")) {
        Decision::Inspect(permit) => permit.headers().map(|header| header.name.clone()).collect(),
        other => panic!("{host}: {other:?}"),
    }
}

#[test]
fn every_invalid_file_is_told_exactly() {
    let files = files("tests/configs/invalid");
    for file in &files {
        let error = load(file, Scope::WithoutIssuingCa, now()).expect_err(&file.display().to_string());
        assert!(error.problems.iter().any(Problem::is_error), "{}", file.display());
        let expected = fs::read_to_string(file.with_extension("expected")).expect("the .expected file");
        assert_eq!(shown(&error.problems), expected, "{}", file.display());
    }
    assert_eq!(files.len(), 88);
}

#[test]
fn every_valid_file_loads_with_exactly_its_warnings() {
    let files = files("tests/configs/valid");
    for file in &files {
        let config = load(file, Scope::WithoutIssuingCa, now()).unwrap_or_else(|error| panic!("{error}"));
        let expected = fs::read_to_string(file.with_extension("warnings")).unwrap_or_default();
        assert_eq!(shown(&config.warnings), expected, "{}", file.display());
    }
    assert_eq!(files.len(), 25);
}

#[test]
fn every_shipped_file_loads_without_a_warning_and_its_summary_is_one_screen() {
    let mut all = files("config");
    all.extend(files("config/examples"));
    for file in &all {
        let config = load(file, Scope::WithoutIssuingCa, now()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(shown(&config.warnings), "", "{}", file.display());
        assert!(summary(&config).lines().count() <= 40, "{}", summary(&config));
    }
    assert_eq!(all.len(), 4);
}

#[test]
fn the_shipped_file_shows_every_key() {
    let text = fs::read_to_string(package("config/sekisho.toml")).expect("file");
    let shows = |name: &str| {
        let line = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{name} = "));
        let header = |line: &str| line.contains(&format!("[{name}]")) || line.contains(&format!(".{name}]"));
        text.lines().any(|text| line(text) || header(text))
    };
    let keys = schema::SECTIONS.iter().flat_map(|keys| keys.names).chain(schema::ROOT.names);
    let missing: Vec<_> = keys.filter(|name| !shows(name) && **name != "hosts").collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn secrets_are_in_no_problem_and_no_summary() {
    let mut masked = 0;
    for file in files("tests/configs/invalid").iter().chain(&files("tests/configs/valid")) {
        let text = fs::read_to_string(file).expect("file");
        let problems = problems_of("sekisho.toml", &text);
        assert!(!shown(&problems).contains("secret"), "{}", shown(&problems));
        masked += usize::from(text.contains("secret"));
    }
    assert!(masked > 10, "{masked} files hold a secret");
    let config = Site::new(&inspecting("[\"a.example.com\"]")).with_ca(&["a.example.com"]).load().expect("config");
    assert!(!summary(&config).contains("secret") && summary(&config).contains("X-Org"));
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn absent_keys_are_the_samples_values() {
    let config = Site::new(MINIMAL).load().expect("config");
    let sample = load(&package("tests/configs/valid/everything_of_the_sample.toml"), Scope::WithoutIssuingCa, now());
    let sample = sample.unwrap_or_else(|error| panic!("{error}"));
    let defaults = |limits: &admit::Settings| (limits.all.clone(), limits.per_client.clone(), limits.ipv6_prefix);
    assert_eq!(defaults(&config.limits), defaults(&sample.limits));
    assert_eq!(config.identify, sample.identify);
    assert_eq!(config.tunnel, sample.tunnel);
    assert_eq!(config.inspect, sample.inspect);
    assert_eq!(config.drain, sample.drain);
    assert_eq!(config.trust, sample.trust);
    assert_eq!(config.guard, sample.guard);
    assert_eq!(config.dial, sample.dial);
    assert_eq!(config.resolver.timeout, sample.resolver.timeout);
    assert_eq!(config.verify.handshake, sample.verify.handshake);
    assert_eq!(config.verify.cache, sample.verify.cache);
    assert_eq!(config.record.when_unwritable, sample.record.when_unwritable);
    assert_eq!(config.record.path.file_name(), sample.record.path.file_name());
    assert_eq!((config.admin, config.issuing_files, config.site.case), (None, None, None));
}

#[test]
fn every_key_arrives_where_it_belongs() {
    let config = load(&package("tests/configs/valid/every_key_changed.toml"), Scope::WithoutIssuingCa, now());
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let (seconds, ip) = (Duration::from_secs, |text: &str| text.parse::<std::net::IpAddr>().expect(text));
    assert_eq!((config.site.name.as_str(), config.site.case), ("例示市", Some(Case::FileExchange)));
    assert_eq!(
        config.listeners.iter().map(|listener| listener.address.to_string()).collect::<Vec<_>>(),
        ["0.0.0.0:3128", "[::1]:3129"]
    );
    assert_eq!(config.admin.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9091"));
    let control = config.control.as_ref().expect("[control]");
    let group = |group: &Option<crate::control::Group>| group.as_ref().map(|group| group.id);
    assert_eq!((group(&control.viewers), group(&control.operators)), (Some(991), Some(990)));
    assert_eq!(control.socket, Path::new("/run/sekisho/control.sock"));
    let servers: Vec<_> = config.resolver.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.0.0.53:5353", "[2001:db8::53]:53"]);
    let host = DnsName::parse(b"allowed.test").expect("name");
    assert_eq!(config.resolver.hosts.get(&host), Some(&vec![ip("127.0.0.1"), ip("::1")]));
    assert_eq!((config.trust.crl_stale, config.trust.min_tls), (Stale::Allow, MinTls::Tls13));
    assert_eq!((config.verify.cache, config.verify.handshake), (Duration::ZERO, seconds(3)));
    assert_eq!(config.guard.allow.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1/32"]);
    assert_eq!(config.guard.nat64.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2001:db8:64::/96"]);
    assert_eq!((config.dial.bind, config.dial.timeout), (Some(ip("203.0.113.10")), seconds(4)));
    assert_eq!((config.resolver.timeout, config.drain), (seconds(6), seconds(9)));
    assert_eq!((config.identify.client_hello, config.identify.request_head), (seconds(1), seconds(7)));
    let exchange = config.inspect.deadlines;
    assert_eq!((config.inspect.client_handshake, exchange.idle), (seconds(2), seconds(8)));
    assert_eq!((exchange.response, exchange.progress), (seconds(10), seconds(11)));
    assert_eq!(config.connection_life, Some(seconds(12)));
    assert_eq!((config.tunnel.idle, config.tunnel.half_closed), (seconds(5), seconds(4)));
    assert_eq!(limits_in_words(&config), LIMITS_CHANGED);
    assert_eq!(config.pressure.memory, pressure::Ceiling::Octets(300_000_000));
    assert_eq!(config.record.when_unwritable, WhenUnwritable::Continue);
    assert_eq!(config.record.path, Path::new("/var/log/sekisho/a.jsonl"));
    let services: Vec<_> = config.policy.services().collect();
    assert_eq!(services.len(), 2);
    assert_eq!(services.iter().map(|service| service.plain_http).collect::<Vec<_>>(), [false, true]);
    assert_eq!(services.iter().map(|service| service.ports.to_vec()).collect::<Vec<_>>(), [vec![443, 8443], vec![80]]);
    assert_eq!(services.iter().map(|service| service.groups.len()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(config.inspected().map(ToString::to_string).collect::<Vec<_>>(), ["*.example.com"]);
    assert_eq!(header_names(&config, "www.example.com"), ["X-Allowed-Org"]);
}

#[test]
fn b09_who_is_believed_is_on_the_screen() {
    let config =
        load(&package("tests/configs/valid/proxy_protocol.toml"), Scope::WithoutIssuingCa, now()).expect("loads");
    let screen = summary(&config).split_whitespace().collect::<Vec<_>>().join(" ");
    let one = "0.0.0.0:8080 (explicit, PROXY protocol from 10.20.0.5/32, fd00:20::5/128,";
    assert!(screen.contains(one), "{screen}");
    assert!(screen.contains("0.0.0.0:8443 (transparent, redirect, PROXY protocol from"), "{screen}");
}

#[test]
fn observing_arrives_and_is_on_the_screen_and_what_has_passed_is_enforced() {
    let load = |name: &str| {
        let config = load(&package(&format!("tests/configs/valid/{name}.toml")), Scope::WithoutIssuingCa, now());
        config.unwrap_or_else(|error| panic!("{error}"))
    };
    let observed = load("observe");
    let observing = observed.site.enforcement.at(now()).expect("it is observed");
    assert_eq!(observing.until().to_string(), "2026-01-31T00:00:00Z");
    let row = "OBSERVING  until 2026-01-31T00:00:00Z: names that no service lists pass on port\n           443, as verified tunnels\n";
    assert!(summary(&observed).contains(row), "{}", summary(&observed));
    for name in ["observe_passed", "enforce"] {
        let enforced = load(name);
        assert_eq!(enforced.site.enforcement, Enforcement::Enforce, "{name}");
        assert!(!summary(&enforced).contains("OBSERVING"), "{name}");
    }
}

/// A host that a vendor's restriction is for, and that was forgotten in the list, would be a way past it.
#[test]
fn g09_observing_leaves_the_hosts_of_tenant_restrictions_closed() {
    let text = inspecting("[\"login.microsoftonline.com\"]").replace("X-Org", "restrict-access-to-tenants")
        + "[site]\nenforcement = \"observe\"\nobserve_until = 2026-01-15T00:00:00+09:00\n";
    let config = Site::new(&text).with_ca(&["login.microsoftonline.com"]).load().expect("config");
    let judge = |host: &str| {
        let client = ClientAddr::new("10.20.0.7:40000".parse().expect("client"));
        let claim = Claim::Connect(Authority::parse(format!("{host}:443").as_bytes()).expect("authority"));
        config.policy.judge(client, &claim, config.site.enforcement.at(now()))
    };
    assert!(matches!(judge("login.microsoftonline.com"), Decision::Inspect(_)));
    for sibling in ["login.windows.net", "login.microsoft.com", "login.live.com"] {
        assert!(matches!(judge(sibling), Decision::Deny(_)), "{sibling}");
    }
    assert!(matches!(judge("slack.com"), Decision::Tunnel(_)));
}

/// What every request has is a client's own on other hosts; an `X-` field of a service is closed everywhere.
#[test]
fn g01_a_field_of_a_services_own_is_closed_elsewhere_where_it_is_no_ordinary_one() {
    let authorization = "[[service.header]]\nname = \"Authorization\"\nvalue = \"Bearer x\"\n[issuing_ca]";
    let text = inspecting("[\"a.example.com\"]").replace("[issuing_ca]", authorization);
    let config = Site::new(&text).with_ca(&["a.example.com"]).load().expect("config");
    let closed = config.policy.closed();
    assert!(closed.contains(&"x-org".to_owned()) && !closed.contains(&"authorization".to_owned()), "{closed:?}");
}

/// What `every_key_changed.toml` says, and what follows from it.
const LIMITS_CHANGED: [&str; 8] = [
    "all: connections 11, new_connections_per_second 21, burst 22, requests_per_second 23, upload 24MB, download 25KiB, \
     handshakes 26, leaf_mints_per_second 27, dns_lookups 28",
    "client /56: connections 10, new_connections_per_second 12, burst 13, requests_per_second 14, upload 15GB, download 16MB, \
     handshakes 17, leaf_mints_per_second 18, dns_lookups 19",
    "office: connections 9, new_connections_per_second 31, burst 62, requests_per_second 33, upload 34MB, download 35MB, \
     handshakes 36, leaf_mints_per_second 37, dns_lookups 38",
    "client of office: connections 8, new_connections_per_second 12, burst 13, requests_per_second 14, upload 15GB, \
     download 44MB, handshakes 17, leaf_mints_per_second 18, dns_lookups 19",
    "lab: ",
    "client of lab: connections 10, new_connections_per_second 12, burst 13, requests_per_second 14, upload 15GB, download 16MB, \
     handshakes 17, leaf_mints_per_second 18, dns_lookups 19",
    "A: connections 7, new_connections_per_second 51, burst 52, requests_per_second 53, upload 54MB, download 55MB, \
     handshakes 56, leaf_mints_per_second 57, dns_lookups 58",
    "B: ",
];

fn limits_in_words(config: &Config) -> Vec<String> {
    let admit::Settings { all, per_client, groups, services, ipv6_prefix } = &config.limits;
    let client = |group: &str| format!("client of {group}");
    let groups = groups.iter().flat_map(|of| [(of.name.clone(), &of.whole), (client(&of.name), &of.per_client)]);
    let services = services.iter().map(|of| (of.name.clone(), &of.whole));
    let rows = [("all".to_owned(), all), (format!("client /{ipv6_prefix}"), per_client)];
    let rows = rows.into_iter().chain(groups).chain(services);
    let row = |(whose, quotas): (String, &admit::Quotas)| {
        let shown: Vec<_> = quotas_shown(quotas).into_iter().map(|(key, value)| format!("{key} {value}")).collect();
        format!("{whose}: {}", shown.join(", "))
    };
    rows.map(row).collect()
}

/// What would need files or a machine's own roots to load.
#[test]
fn trust_sources_are_resolved_against_the_file() {
    for (text, roots, unknown) in [
        ("roots = \"bundled\"", Roots::Bundled, Unknown::Allow),
        ("roots = \"system\"\ncrl_unknown = \"deny\"", Roots::System, Unknown::Deny),
        ("roots = \"own.pem\"", Roots::File("/etc/sekisho/own.pem".into()), Unknown::Allow),
        ("roots = \"/own.pem\"", Roots::File("/own.pem".into()), Unknown::Allow),
    ] {
        let text = format!("{MINIMAL}[upstream]\n{text}\nextra_roots = [\"a.pem\"]\n");
        let mut problems = Problems::new("f", &text);
        let tree = document::parse(&mut problems).expect("tree");
        let upstream = lower::lower(&tree, Path::new("/etc/sekisho"), Shelf::BuiltIn, &mut problems).upstream;
        assert_eq!((upstream.roots, upstream.crl_unknown), (roots, unknown));
        let extra: Vec<_> = upstream.extra_roots.into_iter().map(|(path, _)| path).collect();
        assert_eq!(extra, [Path::new("/etc/sekisho/a.pem")]);
        assert!(!problems.any_error());
    }
}

#[test]
fn l01_empty_and_absent_lists_permit_nothing() {
    for name in ["l01_empty_lists", "l01_only_a_listener"] {
        let config = load(&package(&format!("tests/configs/valid/{name}.toml")), Scope::Full, now()).expect(name);
        for host in ["a.example.com:443", "b.example.com:443", "example.com:443"] {
            assert!(matches!(decide(&config, "10.20.0.7", host), Decision::Deny(_)), "{name} {host}");
        }
    }
    // One list at a time.
    for (from, to) in [
        ("[\"10.20.0.0/16\"]", "[]"),
        ("[\"a.example.com\"]", "[]"),
        ("[\"a.example.com\"]\n", "[\"a.example.com\"]\nports = []\n"),
        ("[\"a.example.com\"]\n", "[\"a.example.com\"]\nclients = []\n[[service]]\nname = \"B\"\nhosts = []\n"),
    ] {
        let permits = |text: &str| {
            let config = Site::new(text).load().unwrap_or_else(|error| panic!("{error}"));
            !matches!(decide(&config, "10.20.0.7", "a.example.com:443"), Decision::Deny(_))
        };
        assert!(permits(MINIMAL));
        assert!(!permits(&MINIMAL.replace(from, to)), "{to}");
    }
}

#[test]
fn l02_no_file_no_configuration() {
    let site = Site::new("");
    for (name, expected) in [
        (
            "missing.toml",
            "missing.toml: error: found no readable file (No such file or directory (os error 2)), expected the \
          configuration\n    hint: name it with --config FILE; `sekisho quickstart` writes one to begin with\n",
        ),
        (
            ".",
            "no readable file (it is no ordinary file), expected the configuration\n    hint: is this the right file? An ordinary one",
        ),
    ] {
        let error = load(&site.path(name), Scope::Full, now()).expect_err(name);
        assert_eq!(error.problems.len(), 1);
        assert!(shown(&error.problems).contains(expected), "{}", shown(&error.problems));
    }
}

#[test]
fn text_in_another_encoding_is_refused_by_name_and_a_byte_order_mark_is_not_seen() {
    let site = Site::new("");
    site.write("sekisho.toml", b"# a\n# \x8e\x73\n");
    assert!(site.refusal().contains("error: found text that is not UTF-8 in line 2"), "{}", site.refusal());
    site.write("sekisho.toml", format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n")).as_bytes());
    assert_eq!(shown(&site.load().expect("config").warnings), "");
    site.write("sekisho.toml", format!("\u{feff}a = 1\n{MINIMAL}").as_bytes());
    assert!(site.refusal().starts_with("sekisho.toml:1:1: error: a: found an unknown key"), "{}", site.refusal());
}

#[test]
fn l04_a_file_cut_anywhere_is_refused() {
    let text = fs::read_to_string(package("config/sekisho.toml")).expect("file");
    let whole = text.trim_end().len();
    let ends = (0..whole).filter(|at| text.is_char_boundary(*at));
    let cuts: Vec<_> =
        ends.filter(|at| at % 31 == 0 || text.get(..*at).is_some_and(|head| head.ends_with('\n'))).collect();
    assert!(cuts.len() > 200);
    for cut in cuts {
        let head = text.get(..cut).expect("a boundary");
        assert!(problems_of("f", head).iter().any(Problem::is_error), "cut after {head:?}");
    }
    assert!(problems_of("f", &text).is_empty());
}

#[test]
fn l05_three_mistakes_are_three_problems() {
    let text = fs::read_to_string(package("tests/configs/invalid/three_mistakes.toml")).expect("file");
    assert_eq!(problems_of("f", &text).len(), 3);
}

#[test]
fn l06_a_trust_source_that_is_not_there_is_refused_where_it_is_named() {
    for (line, place, file) in [
        ("roots = \"bundeld\"", "sekisho.toml:2:9: error: upstream.roots: ", "bundeld"),
        ("extra_roots = [\"no.pem\"]", "sekisho.toml:2:16: error: upstream.extra_roots[0]: ", "no.pem"),
        ("crls = [\"no.crl\"]", "sekisho.toml:2:9: error: upstream.crls[0]: ", "no.crl"),
    ] {
        let refusal = Site::new(&format!("[upstream]\n{line}\n{MINIMAL}")).refusal();
        assert!(refusal.starts_with(place) && refusal.contains(file), "{refusal}");
        assert_eq!(refusal.matches(": error:").count(), 1, "{refusal}");
    }
}

#[test]
fn l06_an_issuing_ca_that_cannot_be_used_is_refused() {
    let site = Site::new(&inspecting("[\"a.example.com\"]"));
    assert!(site.refusal().contains("error: issuing_ca.certificate: "), "{}", site.refusal());
    let without = load(&site.path("sekisho.toml"), Scope::WithoutIssuingCa, now()).expect("ca init needs no CA");
    assert!(without.issuing.is_none());
    let site = site.with_ca(&["a.example.com"]);
    assert!(site.load().expect("config").issuing.is_some());
    fs::set_permissions(site.path("ca.key"), fs::Permissions::from_mode(0o644)).expect("mode");
    assert!(site.refusal().contains("error: issuing_ca.certificate: "), "{}", site.refusal());
}

#[test]
fn j05_hosts_the_ca_does_not_cover_are_refused_with_the_way_to_a_new_intermediate() {
    let hosts = "[\"a.example.com\", \"b.example.net\", \"*.example.net\"]";
    let site = Site::new(&inspecting(hosts)).with_ca(&["example.com"]);
    let refusal = site.refusal();
    for part in [
        "sekisho.toml:8:27: error: service[0].hosts[1]: found \"b.example.net\", which the issuing CA cannot sign for: ",
        "sekisho.toml:8:44: error: service[0].hosts[2]: found \"*.example.net\", which the issuing CA cannot sign for: ",
        "hint: issue a new intermediate under the same root; the clients keep the root they trust:",
        "ca-root.key back from its safe place",
        "run `sekisho ca init`",
    ] {
        assert!(refusal.contains(part), "{part}\n{refusal}");
    }
    assert_eq!(refusal.matches("hint:").count(), 1, "the way is told once: {refusal}");
    assert!(!refusal.contains("a.example.com\", which"), "{refusal}");
}

#[test]
fn an_issuing_ca_without_constraints_is_taken_with_a_warning() {
    let site = Site::new(&inspecting("[\"a.example.com\", \"b.example.net\"]"));
    let key = rcgen::KeyPair::generate().expect("key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.not_before = (now() - Duration::from_secs(86_400)).into();
    params.not_after = (now() + Duration::from_secs(86_400 * 365)).into();
    let certificate = params.self_signed(&key).expect("certificate");
    site.write("ca.pem", certificate.pem().as_bytes());
    site.write("ca.key", key.serialize_pem().as_bytes());
    fs::set_permissions(site.path("ca.key"), fs::Permissions::from_mode(0o600)).expect("mode");
    let config = site.load().unwrap_or_else(|error| panic!("{error}"));
    let warnings = shown(&config.warnings);
    assert_eq!(warnings.matches(": warning:").count(), 1, "{warnings}");
    assert!(warnings.contains("issuing_ca.certificate: found an issuing CA without name constraints"), "{warnings}");
}

#[test]
fn the_revision_changes_with_the_file_and_with_the_certificate() {
    let site = Site::new(&inspecting("[\"a.example.com\"]")).with_ca(&["a.example.com"]);
    let first = site.load().expect("config").revision;
    assert_eq!(first, site.load().expect("config").revision);
    assert!(first.len() == 12 && first.bytes().all(|b| b.is_ascii_hexdigit()), "{first}");
    site.write("sekisho.toml", (inspecting("[\"a.example.com\"]") + "# \n").as_bytes());
    let second = site.load().expect("config").revision;
    assert_ne!(first, second);
    let (certificate, key) = (site.path("ca.pem"), site.path("ca.key"));
    fs::remove_file(certificate).and_then(|()| fs::remove_file(key)).expect("files");
    let site = site.with_ca(&["a.example.com"]);
    assert_ne!(second, site.load().expect("config").revision);
}

#[test]
fn globs_name_the_files_there_are() {
    let text = MINIMAL.to_owned() + "[upstream]\ncrls = [\"crl/*.crl\"]\n";
    let site = Site::new(&text);
    assert!(shown(&site.load().expect("config").warnings).contains("matches no file"));
    fs::create_dir(site.path("crl")).expect("directory");
    site.write("crl/b.crl", b"not a CRL");
    site.write("crl/c.txt", b"");
    let refusal = site.refusal();
    assert!(
        refusal.contains("upstream.crls[0]: ") && refusal.contains("b.crl") && !refusal.contains("c.txt"),
        "{refusal}"
    );
}

#[test]
fn tenant_headers_are_set_on_their_hosts_and_nowhere_else() {
    let named =
        |name: &str| load(&package(&format!("tests/configs/valid/{name}.toml")), Scope::WithoutIssuingCa, now());
    let config = named("microsoft_v1_with_consumer_accounts_refused").unwrap_or_else(|error| panic!("{error}"));
    for host in ["login.microsoftonline.com", "login.microsoft.com", "login.windows.net"] {
        assert_eq!(header_names(&config, host), ["Restrict-Access-To-Tenants", "Restrict-Access-Context"], "{host}");
    }
    assert_eq!(header_names(&config, "login.live.com"), ["sec-Restrict-Tenant-Access-Policy"]);
    let config = named("profiles").unwrap_or_else(|error| panic!("{error}"));
    for (host, names) in [
        ("login.live.com", vec!["sec-Restrict-Tenant-Access-Policy"]),
        ("accounts.google.com", vec!["X-GoogApps-Allowed-Domains"]),
        ("a.slack.com", vec!["X-Slack-Allowed-Workspaces-Requester", "X-Slack-Allowed-Workspaces"]),
        ("www.dropbox.com", vec!["X-Dropbox-allowed-Team-Ids"]),
    ] {
        assert_eq!(header_names(&config, host), names, "{host}");
    }
}

#[test]
fn tenant_values_are_what_the_vendors_take() {
    let config = load(&package("tests/configs/valid/profiles.toml"), Scope::WithoutIssuingCa, now());
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    for (host, expected) in [
        ("login.live.com", "11111111-2222-3333-4444-555555555555:11111111-2222-3333-4444-555555555555"),
        ("accounts.google.com", "city.example.lg.jp,second.example.jp"),
        ("a.slack.com", "T0OWN T0OWN,E0ORG"),
        ("www.dropbox.com", "4875936"),
    ] {
        let Decision::Inspect(permit) = decide(&config, "10.20.0.7", &format!("{host}:443")) else { panic!("{host}") };
        let values: Vec<_> = permit.headers().map(|header| header.value.clone()).collect();
        assert_eq!(values.join(" "), expected, "{host}");
    }
}

/// Day by day, with no reload: who is refused, what is told, and under which revision.
#[test]
fn days_end_what_was_to_end_and_tell_what_comes() {
    use time::macros::date;
    let config = load(&package("tests/configs/valid/ismap_enforced.toml"), Scope::WithoutIssuingCa, now());
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let refused = |config: &Config| {
        let refused = config.policy.services().filter(|service| !service.approved);
        refused.map(|service| service.name.to_owned()).collect::<String>()
    };
    assert_eq!((refused(&config).as_str(), config.approvals.day), ("C", date!(2026 - 01 - 01)));
    assert!(config.on(date!(2026 - 01 - 30)).is_none(), "the last day of B's grace");
    let second = config.on(date!(2026 - 01 - 31)).expect("B is over");
    assert_eq!((refused(&second).as_str(), second.approvals.day), ("BC", date!(2026 - 01 - 31)));
    assert!(matches!(decide(&second, "10.20.0.7", "b.example.com:443"), Decision::Deny(denial)
        if denial.reason() == crate::reason::Reason::ServiceNotApproved));
    assert!(matches!(decide(&second, "10.20.0.7", "d.example.com:443"), Decision::Tunnel(_)));
    assert!(second.on(date!(2025 - 06 - 01)).is_none(), "what is refused stays so where the clock goes back");
    let third = second.on(date!(2027 - 02 - 15)).expect("A is over, 45 days after its end");
    assert_eq!(refused(&third), "ABC");
    assert!(third.on(date!(2040 - 01 - 01)).is_none(), "a pending renewal and an exemption do not end");
    // The same whether it came to it by days or was loaded so.
    let revisions = [&config, &second, &third].map(|config| Arc::clone(&config.revision));
    assert_eq!(revisions.iter().collect::<std::collections::HashSet<_>>().len(), 3);
    let at_once = config.on(date!(2027 - 02 - 15)).expect("B and A are over");
    assert_eq!((at_once.revision, refused(&third)), (Arc::clone(&third.revision), "ABC".to_owned()));

    let told = |since, today| shown(&config.turned(since, today));
    assert_eq!(told(date!(2026 - 01 - 01), date!(2026 - 01 - 30)), "", "E's renewal is pending");
    assert_eq!(
        told(date!(2026 - 01 - 30), date!(2026 - 01 - 31)),
        "ismap_enforced.toml:31:15: warning: service[1].ismap.valid_until: found 2025-12-31, 31 days ago: the service is refused \
         (after_grace = \"deny\"), expected a decision: the new date, state = \"renewal-pending\", or \"lapsed\"\n"
    );
    assert_eq!(
        told(date!(2026 - 10 - 01), date!(2026 - 10 - 02)),
        "ismap_enforced.toml:19:15: warning: service[0].ismap.valid_until: found 2026-12-31, 90 days left, expected the new date, or \
         state = \"renewal-pending\" once the renewal is applied for\n"
    );
    assert_eq!(told(date!(2026 - 10 - 02), date!(2026 - 10 - 31)), "");
}

proptest! {
    /// The door for whatever an editor, a deployment or an attacker leaves behind: no text may bring the process down.
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        shown(&problems_of("f", &text));
    }

    #[test]
    fn no_damaged_file_panics(start in 0usize..9000, length in 0usize..60, junk in "[\\[\\]\"'=.,#{}\\n\\\\a-c0-9]{0,6}") {
        let text = include_str!("../../config/sekisho.toml");
        let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let (head, tail) = (boundary(start), boundary(start + length));
        let damaged = format!("{}{junk}{}", &text[..head], &text[tail..]);
        shown(&problems_of("f", &damaged));
    }
}

/// No client may send a field that any profile sets (attack G01): the list has them all.
#[test]
fn g01_every_field_of_a_profile_is_closed_to_clients() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = load(&root.join("tests/configs/valid/profiles.toml"), Scope::WithoutIssuingCa, now()).expect("sound");
    let set: Vec<_> = config.policy.services().flat_map(|service| service.header_names).collect();
    for name in super::profiles::PROFILES.iter().map(|profile| profile.header).chain(set) {
        assert!(super::profiles::FIELDS.contains(&name), "{name}");
    }
    let only = load(&root.join("tests/configs/valid/transparent.toml"), Scope::WithoutIssuingCa, now()).expect("sound");
    assert_eq!(only.policy.closed().len(), super::profiles::FIELDS.len());
}
