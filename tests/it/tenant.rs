//! Only scenes about tenant restrictions belong here: our header exactly once with our value on every listed host, and nowhere else.

mod profiles;

use super::support::client::Tls;
use super::support::h2c::H2;
use super::support::{Config, Origin, Reply, Sekisho, Service};

struct Profile {
    lines: &'static str,
    hosts: &'static [&'static str],
    fields: &'static [(&'static str, &'static str)],
}

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const PROFILES: [Profile; 5] = [
    Profile {
        lines: "profile = \"microsoft-v1\"\nallowed = [\"city.example.lg.jp\", \"b.example.lg.jp\"]\ncontext = \"11111111-2222-3333-4444-555555555555\"",
        hosts: &["login.microsoftonline.com", "login.microsoft.com", "login.windows.net"],
        fields: &[
            ("restrict-access-to-tenants", "city.example.lg.jp,b.example.lg.jp"),
            ("restrict-access-context", "11111111-2222-3333-4444-555555555555"),
        ],
    },
    Profile {
        lines: "profile = \"microsoft-v2\"\ntenant = \"11111111-2222-3333-4444-555555555555\"\npolicy = \"66666666-7777-8888-9999-000000000000\"",
        hosts: &["login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "login.live.com"],
        fields: &[(
            "sec-restrict-tenant-access-policy",
            "11111111-2222-3333-4444-555555555555:66666666-7777-8888-9999-000000000000",
        )],
    },
    Profile {
        lines: "profile = \"google-workspace\"\nallowed = [\"city.example.lg.jp\"]",
        hosts: &["google.com", "*.google.com"],
        fields: &[("x-googapps-allowed-domains", "city.example.lg.jp")],
    },
    Profile {
        lines: "profile = \"slack\"\nrequester = \"T0123ABC\"\nallowed = [\"T0123ABC\", \"E9\"]",
        hosts: &["slack.com", "*.slack.com"],
        fields: &[("x-slack-allowed-workspaces-requester", "T0123ABC"), ("x-slack-allowed-workspaces", "T0123ABC,E9")],
    },
    Profile {
        lines: "profile = \"dropbox\"\nallowed = [\"4875936\"]",
        hosts: &["dropbox.com", "*.dropbox.com"],
        fields: &[("x-dropbox-allowed-team-ids", "4875936")],
    },
];

fn concrete(host: &str) -> String {
    host.replace("*.", "app.")
}

#[tokio::test]
async fn g_each_profile_sets_its_fields_on_every_listed_host() {
    for profile in PROFILES {
        let hosts: Vec<String> = profile.hosts.iter().map(|host| concrete(host)).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let ours: Vec<&str> = profile.fields.iter().map(|(name, _)| *name).collect();
        let origin = Origin::https(&hosts).expecting(&ours).start().await;
        let service = Service::inspect("tenant", profile.hosts, origin.port()).tenant(profile.lines);
        let mut sekisho = Sekisho::start(&Config::new().service(service).hosts(&hosts)).await;
        for host in &hosts {
            let at = origin.at(host);
            let tls = Tls::named(host).trusting(&sekisho.ca());
            let mut h1 = tls.over(sekisho.tunnel(&at).await).await;
            assert_eq!(h1.get(&at, "/h1").await.expect("an answer").status, 200, "{host}");
            let mut h2 = H2::over(tls.clone().alpn(&["h2"]).over(sekisho.tunnel(&at).await).await).await;
            assert_eq!(h2.get(&format!("https://{at}/h2")).await.expect("an answer").status, 200, "{host}");
            for _ in 0..2 {
                let record = sekisho.next_request().await;
                record.says("allowed", "");
                let set: Vec<String> = serde_json::from_value(record.0["sekisho.headers_set"].clone()).expect("names");
                assert_eq!(set.len(), ours.len(), "{record:?}");
            }
        }
        for seen in origin.requests() {
            for (name, value) in profile.fields {
                assert_eq!(seen.values(name), [*value], "{}", seen.authority);
            }
        }
        let record = format!("{:?}", sekisho.records());
        assert!(profile.fields.iter().all(|(_, value)| !record.contains(value)), "values never stand in the record");
    }
}

/// An inspected host with a restriction, and one without; the second origin fails on any field of the first.
async fn stage() -> (Origin, Origin, Sekisho) {
    let listed = Origin::https(&["login.microsoftonline.com"])
        .expecting(&["restrict-access-to-tenants", "restrict-access-context", "x-kept", "upgrade", "sec-websocket-key"])
        .answering(|seen| {
            if seen.h2 {
                return Reply::ok("ok");
            }
            let body = if seen.method == "HEAD" { "" } else { "ok" };
            Reply::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}").into_bytes())
        })
        .start()
        .await;
    let other = Origin::https(&["other.test"]).start().await;
    let config = Config::new()
        .service(Service::inspect("sign-in", &["login.microsoftonline.com"], listed.port()).tenant(PROFILES[0].lines))
        .hosts(&["login.microsoftonline.com"])
        .inspect("other.test", &other);
    let sekisho = Sekisho::start(&config).await;
    (listed, other, sekisho)
}

fn exactly_once(origin: &Origin, row: &str) {
    let seen = origin.requests().pop().expect("a request");
    for (name, value) in PROFILES[0].fields {
        assert_eq!(seen.values(name), [*value], "{row}: {:?}", seen.headers);
    }
    let spellings = seen
        .headers
        .iter()
        .filter(|(name, _)| name.to_ascii_lowercase().replace('_', "-").starts_with("restrict-access"));
    assert_eq!(spellings.count(), 2, "{row}: {:?}", seen.headers);
}

#[tokio::test]
async fn g01_g02_g03_g06_nothing_a_client_sends_changes_our_fields_in_h1() {
    let (listed, _other, mut sekisho) = stage().await;
    let host = "login.microsoftonline.com";
    let at = listed.at(host);
    let ca = sekisho.ca();
    let rows = [
        ("nothing", "GET", String::new()),
        ("G01 the same", "GET", "Restrict-Access-To-Tenants: evil.example\r\n".to_owned()),
        ("G01 any case", "GET", "RESTRICT-access-TO-tenants: evil.example\r\n".to_owned()),
        ("G01 many", "GET", "Restrict-Access-To-Tenants: a\r\n".repeat(20)),
        ("G01 a list", "GET", "Restrict-Access-To-Tenants: a, b, c\r\n".to_owned()),
        ("G01 empty", "GET", "Restrict-Access-To-Tenants:\r\nRestrict-Access-Context:\r\n".to_owned()),
        (
            "G02 underscores",
            "GET",
            "Restrict_Access_To_Tenants: evil\r\nrestrict-access_to-tenants: evil\r\n".to_owned(),
        ),
        (
            "G03 hop-by-hop",
            "GET",
            "Connection: Restrict-Access-To-Tenants, Restrict-Access-Context, close\r\n".to_owned(),
        ),
        (
            "G03 both",
            "GET",
            "Connection: Restrict-Access-To-Tenants\r\nRestrict-Access-To-Tenants: evil\r\n".to_owned(),
        ),
        ("G06 HEAD", "HEAD", String::new()),
        ("G06 OPTIONS", "OPTIONS", String::new()),
        ("G06 PUT", "PUT", "Content-Length: 0\r\n".to_owned()),
        ("G06 an unknown method", "PROPFIND", String::new()),
        ("G06 a WebSocket", "GET", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n".to_owned()),
    ];
    for (row, method, fields) in rows {
        let mut wire = Tls::named(host).trusting(&ca).over(sekisho.tunnel(&at).await).await;
        for turn in 0..2 {
            wire.send(format!("{method} /{turn} HTTP/1.1\r\nHost: {at}\r\n{fields}\r\n")).await;
            let answer =
                wire.maybe_response(method).await.unwrap_or_else(|| panic!("{row}, request {turn}: no answer"));
            assert_eq!(answer.status, 200, "{row}: {answer:?}");
            exactly_once(&listed, row);
            sekisho.next_request().await.says("allowed", "");
            if answer.value("connection") == "close" || fields.contains("close") {
                break;
            }
        }
    }
    let mut wire = Tls::named(host).trusting(&ca).over(sekisho.tunnel(&at).await).await;
    wire.send(format!("GET https://{at}/ HTTP/1.0\r\nHost: {at}\r\n\r\n")).await;
    assert_eq!(wire.response("GET").await.status, 200);
    exactly_once(&listed, "G06 HTTP/1.0, absolute-form");
    let mut wire = Tls::named(host).trusting(&ca).over(sekisho.tunnel(&at).await).await;
    wire.send(format!("POST / HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nRestrict-Access-To-Tenants: evil\r\n\r\n")).await;
    assert_eq!(wire.response("POST").await.status, 200);
    exactly_once(&listed, "G04 in a trailer");
    assert!(listed.requests().pop().expect("a request").trailers.is_empty());
}

#[tokio::test]
async fn g01_g02_g06_nothing_a_client_sends_changes_our_fields_in_h2() {
    let (listed, _other, mut sekisho) = stage().await;
    let host = "login.microsoftonline.com";
    let at = listed.at(host);
    let tls = Tls::named(host).trusting(&sekisho.ca()).alpn(&["h2"]);
    let mut h2 = H2::over(tls.over(sekisho.tunnel(&at).await).await).await;
    for (row, name, times) in [
        ("nothing", "x-kept", 1),
        ("G01 the same", "restrict-access-to-tenants", 1),
        ("G01 many", "restrict-access-to-tenants", 20),
        ("G02 underscores", "restrict_access_to_tenants", 2),
        ("G02 mixed", "restrict-access_context", 1),
    ] {
        let mut request = http::Request::get(format!("https://{at}/"));
        for _ in 0..times {
            request = request.header(name, "evil");
        }
        assert_eq!(
            h2.request(request.body(()).expect("a request"), b"", None).await.expect("an answer").status,
            200,
            "{row}"
        );
        exactly_once(&listed, row);
        sekisho.next_request().await.says("allowed", "");
    }
}

#[tokio::test]
async fn g05_hidden_spellings_are_400() {
    let (listed, _other, mut sekisho) = stage().await;
    let at = listed.at("login.microsoftonline.com");
    for fields in [
        "X: a\r\n Restrict-Access-To-Tenants: evil\r\n",
        "Restrict-Access-To-Tenants : evil\r\n",
        "Restrict-Access-To-Tenants\0: evil\r\n",
        "Restrict-Access-To-Tenants\u{85}: evil\r\n",
        "X: a\nRestrict-Access-To-Tenants: evil\r\n",
        " Restrict-Access-To-Tenants: evil\r\n",
    ] {
        let tls = Tls::named("login.microsoftonline.com").trusting(&sekisho.ca());
        let mut wire = tls.over(sekisho.tunnel(&at).await).await;
        wire.send(format!("GET / HTTP/1.1\r\nHost: {at}\r\n{fields}\r\n")).await;
        wire.response("GET").await.page(400, "malformed_request");
        sekisho.next_request().await.says("denied", "malformed_request");
    }
    assert!(listed.requests().is_empty());
}

#[tokio::test]
async fn g07_a_head_without_room_for_our_fields_is_431() {
    let (listed, _other, mut sekisho) = stage().await;
    let at = listed.at("login.microsoftonline.com");
    let ca = sekisho.ca();
    let mut refused = 0;
    // 64 KiB is a usual limit; around whatever it is, there must be no size at which a head passes without our fields.
    for size in (64_600..65_600).step_by(50).chain([16_000, 32_000, 70_000, 100_000]) {
        let mut wire = Tls::named("login.microsoftonline.com").trusting(&ca).over(sekisho.tunnel(&at).await).await;
        let head = format!("GET / HTTP/1.1\r\nHost: {at}\r\nX-Kept: ");
        let _ = wire.try_send(format!("{head}{}\r\n\r\n", "y".repeat(size - head.len() - 4))).await;
        let answer = wire.response("GET").await;
        let record = sekisho.next_request().await;
        match answer.status {
            200 => exactly_once(&listed, &size.to_string()),
            431 => {
                refused += 1;
                record.says("denied", "head_too_large");
            }
            other => panic!("{other} at {size}"),
        }
    }
    assert!(refused > 2);
    let fields = listed.requests().len();
    assert!(fields > 0);
}

#[tokio::test]
async fn g08_a_listed_host_that_cannot_be_inspected_is_refused() {
    let (listed, _other, mut sekisho) = stage().await;
    let at = listed.at("login.microsoftonline.com");
    let mut wire = sekisho.tunnel(&at).await;
    wire.send("SSH-2.0-x\r\n").await;
    wire.closed().await;
    sekisho.next_connection().await.says("denied", "not_tls");
    let tls = Tls::named("login.microsoftonline.com").trusting(&sekisho.ca());
    assert!(tls.clone().alpn(&["spdy/3"]).try_over(sekisho.tunnel(&at).await).await.is_err());
    sekisho.next_connection().await.says("denied", "no_application_protocol");
    // A client that trusts only the real CA sees that it is inspected, and nothing else.
    assert!(Tls::named("login.microsoftonline.com").try_over(sekisho.tunnel(&at).await).await.is_err());
    sekisho.next_connection().await.says("failed", "client_rejected_certificate").with("sekisho.side", "client");
    assert!(listed.requests().is_empty());
    sekisho.finish().await;
}

#[tokio::test]
async fn g11_other_hosts_never_see_our_fields() {
    let (_listed, other, mut sekisho) = stage().await;
    let at = other.at("other.test");
    let tls = Tls::named("other.test").trusting(&sekisho.ca());
    let mut h1 = tls.over(sekisho.tunnel(&at).await).await;
    assert_eq!(h1.get(&at, "/").await.expect("an answer").status, 200);
    let mut h2 = H2::over(tls.clone().alpn(&["h2"]).over(sekisho.tunnel(&at).await).await).await;
    assert_eq!(h2.get(&format!("https://{at}/")).await.expect("an answer").status, 200);
    for seen in other.requests() {
        assert!(
            !seen.headers.iter().any(|(name, value)| name.contains("restrict") || value.contains(TENANT)),
            "{seen:?}"
        );
    }
    for _ in 0..2 {
        let record = sekisho.next_request().await;
        assert!(
            !record.has("sekisho.headers_set") || record.0["sekisho.headers_set"] == serde_json::json!([]),
            "{record:?}"
        );
    }
}

#[tokio::test]
async fn g01_g02_a_field_of_ours_with_another_sign_than_a_hyphen_stands_once_too() {
    for ours in ["X_Allowed_Org", "X.Allowed.Org", "X-Allowed-Org"] {
        let origin = Origin::https(&["allowed.test"]).expecting(&[&ours.to_ascii_lowercase()]).start().await;
        let service = Service::inspect("own header", &["allowed.test"], origin.port()).header(ours, "city");
        let mut sekisho = Sekisho::start(&Config::new().service(service).hosts(&["allowed.test"])).await;
        let at = origin.at("allowed.test");
        let tls = Tls::named("allowed.test").trusting(&sekisho.ca());
        for theirs in ["X_Allowed_Org", "x-allowed-org", "X-ALLOWED_ORG", "X.Allowed.Org", "x~allowed~org"] {
            let mut wire = tls.over(sekisho.tunnel(&at).await).await;
            wire.send(format!("GET / HTTP/1.1\r\nHost: {at}\r\n{theirs}: evil\r\n\r\n")).await;
            assert_eq!(wire.response("GET").await.status, 200, "{theirs}");
            let seen = origin.requests().pop().expect("a request");
            assert_eq!(seen.values(ours), ["city"], "{ours}, {theirs}: {}", seen.head);
            assert!(!seen.head.contains("evil"), "{ours}, {theirs}: {}", seen.head);
            sekisho.next_request().await.says("allowed", "");
        }
    }
}
