//! Only scenes with a real browser belong here that knows of no proxy.

use std::time::Duration;

use super::{FORGED4, at, config};
use crate::real_clients::browser::{STEERED, home, profile};
use crate::real_clients::stage::{self, Ran, about};
use crate::support::netns::{CLIENT4, ORIGIN4, Office, have};
use crate::support::{Origin, Reply, Sekisho};

/// A page that asks four times more before it is loaded, one after the other, and says each time that the same is to be had by QUIC.
fn page(target: &str) -> Reply {
    let (kind, body) = match target {
        "/" => (
            "text/html",
            "<p>Reached the origin.</p><script>for (let i = 0; i < 4; i++) { const x = new XMLHttpRequest(); \
             x.open('GET', '/again' + i, false); x.send(); document.write('<i>' + x.responseText + '</i>') }</script>",
        ),
        _ => ("text/plain", "again"),
    };
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nAlt-Svc: h3=\":443\"; ma=86400\r\nCache-Control: no-store");
    Reply::Raw(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// What a browser of the client's network makes of `https://HOST/`: it finds one address for all names, at which nobody is.
async fn loads(office: &Office, host: &str, root: &std::path::Path) -> Ran {
    let home = home(root).await;
    let mut command = office.client.command("timeout");
    command.args(["-k", "2", "60", "chromium"]).env("HOME", home.path()).args(STEERED).arg(profile(&home));
    command.arg(format!("--host-resolver-rules=MAP * {FORGED4}")).arg("--dump-dom").arg(format!("https://{host}/"));
    let ran = stage::run(command, "").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran
}

/// No setting leads the browser here. It is told that the origin speaks QUIC, tries that where the tunnel keeps the word, is refused by the
/// packet filter, and goes on by TCP. In an inspected answer the word does not stand.
#[tokio::test]
async fn a16_chromium_is_steered_and_goes_back_from_quic() {
    if !have("Chromium that is steered") || !stage::have("Chromium, steered", &["chromium", "certutil"]) {
        return;
    }
    let office = Office::new();
    office.load("sekisho.nft");
    let fields = [
        "x-allowed-org",
        "accept-encoding",
        "accept-language",
        "sec-ch-ua",
        "sec-ch-ua-mobile",
        "sec-ch-ua-platform",
        "sec-fetch-site",
        "sec-fetch-mode",
        "sec-fetch-dest",
        "sec-fetch-user",
        "upgrade-insecure-requests",
        "referer",
        "priority",
        "cache-control",
        "pragma",
    ];
    let origin = Origin::https(&["tunnelled.test", "inspected.test"]).alpn(&["http/1.1"]).expecting(&fields);
    let origin = origin.answering(|seen| page(&seen.target)).start_on(office.internet.listen(at(ORIGIN4, 443)));
    let mut sekisho = Sekisho::start_inside(&config(""), &office.gate).await;

    for (host, root) in [("inspected.test", "ca-root.pem"), ("tunnelled.test", "origins.pem")] {
        let before = office.gate.counted("quic_refused");
        let ran = loads(&office, host, &sekisho.path(root)).await;
        assert!(ran.stdout.contains("Reached the origin."), "{host}: {ran:?}");
        assert_eq!(ran.stdout.matches("<i>again</i>").count(), 4, "{host}: {ran:?}");
        let tried = office.gate.counted("quic_refused") - before;
        assert_eq!(tried > 0, host == "tunnelled.test", "{host}: {tried} packets to UDP 443");
    }
    let marked = |seen: &&crate::support::origin::Seen| !seen.values("x-allowed-org").is_empty();
    assert!(origin.requests().iter().filter(marked).count() >= 5, "{:?}", origin.requests());
    sekisho.signal(rustix::process::Signal::TERM);
    tokio::time::timeout(Duration::from_secs(20), sekisho.exit()).await.expect("it ends");
    let records = sekisho.records();
    for host in ["inspected.test", "tunnelled.test"] {
        let connections = about(&records, "connection", host);
        assert!(!connections.is_empty(), "{records:#?}");
        for record in connections {
            assert!(record.outcome() == "allowed" || record.reason() == "client_closed", "{record:?}");
            record.with("source.ip", CLIENT4).with("sekisho.original_destination", &format!("{FORGED4}:443"));
        }
    }
}
