//! Only scenes about the script for browsers belong here: what a JavaScript engine makes of it, beside the policy itself.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use sekisho::addrs::ClientAddr;
use sekisho::config::{self, Scope};
use sekisho::names::{Authority, DnsName};
use sekisho::policy::{Claim, Decision, Method};

use super::support::sekisho::{run, text};

const NAMES: usize = 10_000;

const CONFIG: &str = r#"
[[listener]]
address = "127.0.0.1:8080"
[[clients]]
name = "office"
networks = ["10.20.0.0/16"]
[[clients]]
name = "school"
networks = ["10.30.0.0/16"]
[pac]
proxies = ["proxy.city.example:8080", "10.0.0.2:8080"]
internal_domains = ["city.example", "b.jp"]
internal_proxies = ["inner.city.example:3128"]
otherwise = "block"
[[service]]
name = "exact and below"
hosts = ["a.com", "*.a.com", "b.a.com", "c.b.a.com", "constructor.a.com"]
ports = [443, 8443]
[[service]]
name = "of one group"
hosts = ["b.b.a.com", "*.c.a.com", "a.c.com"]
clients = ["school"]
[[service]]
name = "starred"
hosts = ["*b.c.com", "a*.c.com", "a*b.c.com", "*.c.com", "b.*.c.com", "a.*.b.com", "*.*.b.com", "ab*.*.b.com"]
[[service]]
name = "plain"
hosts = ["crl.b.com", "*.crl.com"]
ports = [80, 8080]
plain_http = true
[[service]]
name = "starred, of the other group"
hosts = ["c.*.c.com", "*.b.c.com"]
clients = ["office"]
ports = [8443]
[[service]]
name = "wide"
hosts = ["*.net"]
allow_broad = true
"#;

/// Every name the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % n
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn name(&mut self) -> String {
        let labels = ["a", "b", "c", "ab", "ba", "aab", "crl", "b", "a", "constructor", "xn--wgv71a"];
        let tops = [
            "a.com",
            "c.com",
            "b.com",
            "com",
            "crl.com",
            "net",
            "lgwan.jp",
            "notlgwan.jp",
            "b.jp",
            "city.example",
            "jp",
        ];
        let mut name = String::new();
        for _ in 0..self.below(4) {
            name += self.of(&labels);
            name += ".";
        }
        name + self.of(&tops)
    }
}

/// What a browser would ask of the script, and the same as a claim; with the port that the scheme stands for.
fn asked(dice: &mut Dice) -> (String, String, Claim) {
    let name = dice.name();
    let scheme = dice.of(&["https", "https", "http", "wss", "ws", "HTTPS"]);
    let written = dice.of(&["", "", ":443", ":80", ":8443", ":8080", ":22"]);
    let plain = scheme == "http";
    let port = match written {
        "" if plain || scheme == "ws" => 80,
        "" => 443,
        port => port[1..].parse().expect("a port"),
    };
    let authority = Authority::parse(format!("{name}:{port}").as_bytes()).expect("an authority");
    let claim = if plain { Claim::Request { authority, method: Method::Get } } else { Claim::Connect(authority) };
    let host = match dice.below(8) {
        0 => name.to_uppercase(),
        1 => format!("{name}."),
        _ => name,
    };
    let path = if plain { "/a:1/b?c=http://a.com/" } else { "/" };
    (format!("{scheme}://{host}{written}{path}"), host, claim)
}

fn node(dir: &Path, script: &str, questions: &[(String, String)]) -> Option<Vec<String>> {
    let driver = "const fs = require('fs'), vm = require('vm');\n\
                  const box = vm.createContext({});\n\
                  vm.runInContext(fs.readFileSync('proxy.pac', 'utf8'), box);\n\
                  box.questions = JSON.parse(fs.readFileSync('questions.json', 'utf8'));\n\
                  console.log(vm.runInContext('questions.map(q => FindProxyForURL(q[0], q[1])).join(\"\\\\n\")', box));\n";
    fs::write(dir.join("proxy.pac"), script).expect("written");
    fs::write(dir.join("questions.json"), serde_json::to_string(questions).expect("JSON")).expect("written");
    let out = Command::new("node").args(["-e", driver]).current_dir(dir).output();
    let Ok(out) = out else {
        super::real_clients::stage::skipped("node", "it is not installed; tests/run installs it");
        return None;
    };
    assert!(out.status.success(), "{}", text(&out.stderr));
    Some(text(&out.stdout).lines().map(str::to_owned).collect())
}

#[test]
fn m05_the_script_says_what_the_policy_says_of_ten_thousand_names() {
    let dir = tempfile::TempDir::new().expect("a directory");
    fs::write(dir.path().join("sekisho.toml"), CONFIG).expect("written");
    let config = config::load(&dir.path().join("sekisho.toml"), Scope::Full, SystemTime::now()).expect("sound");
    for client in ["10.20.0.7", "10.30.0.7"] {
        let out = run(dir.path(), &["pac", "--client", client]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let mut dice = Dice(7);
        let questions: Vec<_> = (0..NAMES).map(|_| asked(&mut dice)).collect();
        let urls: Vec<_> = questions.iter().map(|(url, host, _)| (url.clone(), host.clone())).collect();
        let Some(answers) = node(dir.path(), &text(&out.stdout), &urls) else { return };
        assert_eq!(answers.len(), NAMES);
        let mut seen = std::collections::BTreeMap::<&str, usize>::new();
        for ((url, _, claim), answer) in questions.iter().zip(&answers) {
            let name = claim.authority().host.to_string();
            let inside = ["city.example", "b.jp", "lgwan.jp"]
                .iter()
                .any(|domain| name == *domain || name.ends_with(&format!(".{domain}")));
            let addr = ClientAddr::new((client.parse::<std::net::IpAddr>().expect("an address"), 1).into());
            let expected = match config.policy.decide(addr, claim) {
                _ if inside => "PROXY inner.city.example:3128",
                Decision::Deny(_) => "PROXY 127.0.0.1:9",
                Decision::Tunnel(_) | Decision::Inspect(_) | Decision::Plain(_) => {
                    "PROXY proxy.city.example:8080; PROXY 10.0.0.2:8080"
                }
            };
            assert_eq!(answer, expected, "{url} of {client}");
            *seen.entry(expected).or_default() += 1;
        }
        assert!(seen.len() == 3 && seen.values().all(|n| *n > 500), "{seen:?}");
    }
}

/// Hosts that are no names, and URLs that are none, go where all else goes.
#[test]
fn m05_addresses_and_odd_urls_are_never_permitted() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = CONFIG.replace("hosts = [\"*.net\"]", "hosts = [\"*\"]");
    fs::write(dir.path().join("sekisho.toml"), config).expect("written");
    let out = run(dir.path(), &["pac", "--client", "10.20.0.7"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let (permitted, otherwise) = ("PROXY proxy.city.example:8080; PROXY 10.0.0.2:8080", "PROXY 127.0.0.1:9");
    let cases = [
        ("https://any.where.example/", "any.where.example", permitted),
        ("https://hasownproperty/", "hasownproperty", permitted),
        ("https://10.0.0.1/", "10.0.0.1", otherwise),
        ("https://0x7f.1/", "0x7f.1", otherwise),
        ("https://2130706433/", "2130706433", otherwise),
        ("https://[::1]/", "::1", otherwise),
        ("https://[::1]/", "[::1]", otherwise),
        ("https://any.where.example:99/", "any.where.example", otherwise),
        ("https://cloudflare-ech.com/", "cloudflare-ech.com", otherwise),
        ("https://a.lgwan.jp:99/", "A.LGWAN.JP.", "PROXY inner.city.example:3128"),
        ("https://user:443@any.where.example:99/", "any.where.example", otherwise),
        ("any.where.example", "any.where.example", otherwise),
        ("", "", otherwise),
    ];
    let questions: Vec<_> = cases.iter().map(|(url, host, _)| ((*url).to_owned(), (*host).to_owned())).collect();
    let Some(answers) = node(dir.path(), &text(&out.stdout), &questions) else { return };
    for ((url, _, expected), answer) in cases.iter().zip(&answers) {
        assert_eq!(answer, expected, "{url}");
    }
}

/// A script for a policy that permits every name, and its answers for these hosts on port 443.
fn answers_where_all_is_permitted(hosts: &[String]) -> Option<Vec<bool>> {
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = CONFIG.replace("hosts = [\"*.net\"]", "hosts = [\"*\"]").replace("\"b.jp\"", "\"inner.jp\"");
    fs::write(dir.path().join("sekisho.toml"), config).expect("written");
    let out = run(dir.path(), &["pac", "--client", "10.20.0.7"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let questions: Vec<_> = hosts.iter().map(|host| (format!("https://{host}/"), host.clone())).collect();
    let answers = node(dir.path(), &text(&out.stdout), &questions)?;
    assert_eq!(answers.len(), hosts.len());
    let permitted = |answer: &String| match answer.as_str() {
        "PROXY proxy.city.example:8080; PROXY 10.0.0.2:8080" => true,
        "PROXY 127.0.0.1:9" => false,
        other => panic!("{other}"),
    };
    Some(answers.iter().map(permitted).collect())
}

/// What the proxy would refuse because it is no name never goes there.
#[test]
fn m05_what_is_no_name_is_never_permitted() {
    let label = |n| "a".repeat(n);
    let long = |last| [label(63), label(63), label(63), label(last)].join(".");
    let (whole, longer) = (long(61), long(62));
    let cases = [
        ("x.ex.com", true),
        ("x.EX.com.", true),
        ("_a-b.ex.com", true),
        ("a", true),
        (&format!("{}.ex.com", label(63)), true),
        (&whole, true),
        (&format!("{whole}."), true),
        (".ex.com", false),
        ("a..ex.com", false),
        ("ex.com..", false),
        (".", false),
        ("-a.ex.com", false),
        ("a-.ex.com", false),
        ("a.ex.com-", false),
        (&format!("{}.ex.com", label(64)), false),
        (&longer, false),
        (&format!("{longer}."), false),
        ("é.ex.com", false),
        // The sign for kelvin, of which the small letter is a k.
        ("\u{212a}.ex.com", false),
        ("a b.ex.com", false),
        ("a%2e.ex.com", false),
        ("a\n.ex.com", false),
        ("a.ex.com\n", false),
        ("*.ex.com", false),
        // Also where it would stay inside: nothing has such a name.
        ("a..city.example", false),
    ];
    let mut hosts: Vec<_> = cases.iter().map(|(host, _)| (*host).to_owned()).collect();
    let mut expected: Vec<_> = cases.iter().map(|(_, permitted)| *permitted).collect();
    let mut dice = Dice(11);
    for _ in 0..NAMES {
        let pieces = ["a", "B", "b", "-", ".", ".", "_", "7", "%", "é", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"];
        let length = 1 + dice.below(12);
        let host: String = (0..length).map(|_| dice.of(&pieces)).collect();
        expected.push(DnsName::parse(host.as_bytes()).is_ok());
        hosts.push(host);
    }
    assert!([true, false].iter().all(|kind| expected.iter().filter(|permitted| *permitted == kind).count() > 1_000));
    let Some(answers) = answers_where_all_is_permitted(&hosts) else { return };
    for ((host, expected), answer) in hosts.iter().zip(&expected).zip(&answers) {
        assert_eq!(DnsName::parse(host.as_bytes()).is_ok(), *expected, "{host:?}");
        assert_eq!(answer, expected, "{host:?}");
    }
}

/// Where the intranet is told by addresses and by plain names, these stay inside, in their one usual spelling.
#[test]
fn m05_what_is_internal_by_address_or_plain_name_stays_inside() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let keys = "otherwise = \"block\"\ninternal_networks = [\"10.0.0.0/8\", \"192.168.4.0/22\", \"203.0.113.9/32\"]\n\
                internal_plain_names = true";
    let config = CONFIG.replace("otherwise = \"block\"", keys).replace("hosts = [\"*.net\"]", "hosts = [\"*\"]");
    fs::write(dir.path().join("sekisho.toml"), config).expect("written");
    let out = run(dir.path(), &["pac", "--client", "10.20.0.7"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let (inside, otherwise) = ("PROXY inner.city.example:3128", "PROXY 127.0.0.1:9");
    let cases = [
        ("http://10.0.0.0/", "10.0.0.0", inside),
        ("https://10.255.255.255:8443/x", "10.255.255.255", inside),
        ("http://11.0.0.0/", "11.0.0.0", otherwise),
        ("http://9.255.255.255/", "9.255.255.255", otherwise),
        ("http://192.168.4.0/", "192.168.4.0", inside),
        ("http://192.168.7.255/", "192.168.7.255", inside),
        ("http://192.168.3.255/", "192.168.3.255", otherwise),
        ("http://192.168.8.0/", "192.168.8.0", otherwise),
        ("http://203.0.113.9/", "203.0.113.9", inside),
        ("http://203.0.113.8/", "203.0.113.8", otherwise),
        ("http://010.0.0.1/", "010.0.0.1", otherwise),
        ("http://10.0.0.256/", "10.0.0.256", otherwise),
        ("http://10.1/", "10.1", otherwise),
        ("http://0x0a000001/", "0x0a000001", otherwise),
        ("http://167772161/", "167772161", otherwise),
        ("http://[::ffff:10.0.0.1]/", "[::ffff:10.0.0.1]", otherwise),
        ("http://[::ffff:10.0.0.1]/", "::ffff:10.0.0.1", otherwise),
        ("http://intra/", "intra", inside),
        ("http://INTRA./", "INTRA.", inside),
        ("http://10.0.0.1.a.com:8443/", "10.0.0.1.a.com", otherwise),
        ("", "", otherwise),
    ];
    let questions: Vec<_> = cases.iter().map(|(url, host, _)| ((*url).to_owned(), (*host).to_owned())).collect();
    let Some(answers) = node(dir.path(), &text(&out.stdout), &questions) else { return };
    for ((url, _, expected), answer) in cases.iter().zip(&answers) {
        assert_eq!(answer, expected, "{url}");
    }
}

#[test]
fn a_script_is_asked_for_by_a_client_of_a_group() {
    let dir = tempfile::TempDir::new().expect("a directory");
    fs::write(dir.path().join("sekisho.toml"), CONFIG).expect("written");
    for (arguments, expected) in [
        (
            ["pac"].as_slice(),
            "sekisho: --client IP is due: there are the [[clients]] \"office\", \"school\", and each has a script of its own\n",
        ),
        (
            &["pac", "--client", "10.99.0.1"],
            "sekisho: 10.99.0.1 is in no [[clients]]: it would be refused everything\n",
        ),
    ] {
        let out = run(dir.path(), arguments);
        assert_eq!((out.status.code(), text(&out.stderr).as_str()), (Some(1), expected));
    }
    let one = CONFIG
        .replace("[[clients]]\nname = \"school\"\nnetworks = [\"10.30.0.0/16\"]\n", "")
        .replace("clients = [\"school\"]\n", "");
    fs::write(dir.path().join("sekisho.toml"), &one).expect("written");
    let out = run(dir.path(), &["pac"]);
    assert!(
        out.status.code() == Some(0) && text(&out.stdout).contains("function FindProxyForURL"),
        "{}",
        text(&out.stderr)
    );
    fs::write(
        dir.path().join("sekisho.toml"),
        one.replace("[pac]\n", "[pac]\nway = 1\n").replace("10.0.0.2:8080", "10.0.0.2"),
    )
    .expect("written");
    let out = run(dir.path(), &["pac"]);
    let said = text(&out.stderr);
    assert!(
        out.status.code() == Some(1)
            && said.contains("pac.way: found an unknown key")
            && said.contains("pac.proxies[1]: found \"10.0.0.2\", expected a host and a port"),
        "{said}"
    );
}

/// A page may ask for any name: whatever the patterns, an answer takes the script a moment.
#[test]
fn m05_no_name_makes_the_script_slow() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let stars = "*a".repeat(12);
    let config = CONFIG.replace("\"ab*.*.b.com\"", &format!("\"ab*.*.b.com\", \"{stars}*b.c.com\""));
    fs::write(dir.path().join("sekisho.toml"), config).expect("written");
    let out = run(dir.path(), &["pac", "--client", "10.20.0.7"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    // Two to the sixtieth ways to part it.
    let host = format!("{}x.c.com", "a".repeat(60));
    let questions = vec![(format!("https://{host}/"), host); 1_000];
    let Some(answers) = node(dir.path(), &text(&out.stdout), &questions) else { return };
    let permitted = "PROXY proxy.city.example:8080; PROXY 10.0.0.2:8080";
    assert!(answers.len() == 1_000 && answers.iter().all(|answer| answer == permitted), "{:?}", answers.first());
}

/// A URL may hold a name of a hundred thousand labels: it is no name, and no table is asked for it.
#[test]
fn m05_a_name_of_too_many_labels_is_answered_at_once() {
    let hosts: Vec<_> = (1..=20).map(|n| format!("{}ex.com", "a.".repeat(5_000 * n))).collect();
    let Some(answers) = answers_where_all_is_permitted(&hosts) else { return };
    assert!(answers.iter().all(|permitted| !permitted), "{answers:?}");
}

#[test]
fn a_script_that_cannot_be_written_whole_is_no_success() {
    let dir = tempfile::TempDir::new().expect("a directory");
    fs::write(dir.path().join("sekisho.toml"), CONFIG).expect("written");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("there");
    let out = Command::new(super::support::sekisho::binary())
        .args(["pac", "--client", "10.20.0.7"])
        .current_dir(dir.path())
        .stdout(full)
        .output()
        .expect("it runs");
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("the script could not be written"), "{}", text(&out.stderr));
}
