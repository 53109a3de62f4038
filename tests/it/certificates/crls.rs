//! Only revocation belongs here: CRLs of every shape, what is said without one, and when a verdict that was kept must end.

use std::fs;

use super::super::support::client::Tls;
use super::super::support::sekisho::{prepare, run, text};
use super::super::support::x509::{Crl, Signer, Tbs, ext, extension, name, pem, seq, tlv, usage, utc, utc_in};
use super::super::support::{Config, Origin, Sekisho, Service, within};
use super::{Cast, HOST, Row, copy, inspect, judge_with};

const SERIAL: [u8; 12] = [0x4a; 12];

/// issuingDistributionPoint, critical.
fn scope(content: &[u8]) -> Vec<u8> {
    ext(28, true, &tlv(0x30, content))
}

/// A DistributionPointName of one URI.
fn point(uri: &str) -> Vec<u8> {
    tlv(0xa0, &tlv(0xa0, &tlv(0x86, uri.as_bytes())))
}

/// One issuer, its CRLs and one leaf.
struct Case {
    cast: Cast,
    crls: Vec<Vec<u8>>,
    row: Row,
}

/// `crls` of an intermediate of its own, and a leaf with [`SERIAL`] below it.
fn case(root: &Signer, what: &str, fault: &'static str, crls: Vec<Crl>) -> Case {
    changed(root, what, fault, crls, |_| {}, |_| {})
}

fn changed(
    root: &Signer,
    what: &str,
    fault: &'static str,
    crls: Vec<Crl>,
    ca: impl FnOnce(&mut Tbs),
    leaf: impl FnOnce(&mut Tbs),
) -> Case {
    let mut cast = Cast::below(root.clone(), what);
    cast.middle = cast.intermediate.ca().set(ca).signed_by(root);
    let row = cast.changed(what, fault, leaf);
    let crls = crls.iter().map(|crl| crl.signed_by(&cast.intermediate)).collect();
    Case { cast, crls, row }
}

async fn judge(root: &Signer, cases: Vec<Case>, more: &[Vec<u8>], unknown: &str, stale: &str) {
    let crls: Vec<_> = cases.iter().flat_map(|case| case.crls.clone()).chain(more.iter().cloned()).collect();
    let rows = cases.into_iter().map(|case| case.row).collect();
    let adjust = |config: Config| {
        config.set("upstream", "crls", "[\"crls/*\"]").set("upstream", "crl_unknown", &format!("{unknown:?}")).set(
            "upstream",
            "crl_stale",
            &format!("{stale:?}"),
        )
    };
    judge_with(&[root.root()], rows, adjust, |dir| {
        fs::create_dir_all(dir.join("crls")).expect("mkdir");
        // One in DER, the others in one file.
        fs::write(dir.join("crls/first.crl"), &crls[0]).expect("crl");
        if crls.len() > 1 {
            fs::write(dir.join("crls/rest.pem"), pem("X509 CRL", &crls[1..])).expect("crls");
        }
    })
    .await;
}

#[tokio::test]
async fn i07_crls_that_are_current() {
    let root = Signer::new("CRL root");
    let reason = |code| vec![ext(21, false, &tlv(10, &[code]))];
    let entry = |code| Crl::of(&[]).set(|crl| crl.revoked = vec![(SERIAL.to_vec(), reason(code))]);
    let listed = || Crl::of(&[&SERIAL]);
    let scoped = |content: &[u8]| listed().set(|crl| crl.extensions.push(scope(content)));
    let at = |uri: &str| ext(31, false, &tlv(0x30, &seq(&[&point(uri)])));
    let row = |what, fault, crl| case(&root, what, fault, vec![crl]);
    let cases = vec![
        row("not on it", "", Crl::of(&[&[1, 2, 3]])),
        row("on it", "revoked", listed()),
        row("nobody on it", "", Crl::of(&[])),
        row("on hold", "revoked", entry(6)),
        // removeFromCRL belongs in delta CRLs alone (RFC 5280 section 5.3.1): in doubt it is revoked.
        row("removeFromCRL", "revoked", entry(8)),
        row("dated in the future", "revoked", listed().set(|crl| crl.this_update = utc(1))),
        // RFC 5280 section 6.3.3 (b) would look for another CRL; in doubt it counts.
        row("a distribution point the certificate does not name", "revoked", scoped(&point("http://a/"))),
        changed(
            &root,
            "its own, for user certificates",
            "revoked",
            vec![scoped(&[point("http://a/"), tlv(0x81, &[0xff])].concat())],
            |_| {},
            |leaf| {
                leaf.more = vec![at("http://a/")];
            },
        ),
        changed(
            &root,
            "its own, for CA certificates",
            "",
            vec![scoped(&[point("http://a/"), tlv(0x82, &[0xff])].concat())],
            |_| {},
            |leaf| {
                leaf.more = vec![at("http://a/")];
            },
        ),
        changed(
            &root,
            "its own distribution point",
            "revoked",
            vec![scoped(&point("http://a/"))],
            |_| {},
            |leaf| {
                leaf.more = vec![at("http://a/")];
            },
        ),
        changed(
            &root,
            "another distribution point",
            "",
            vec![scoped(&point("http://b/"))],
            |_| {},
            |leaf| {
                leaf.more = vec![at("http://a/")];
            },
        ),
        changed(&root, "an issuer without cRLSign", "crl_invalid", vec![listed()], |ca| ca.usage = usage(0x04), |_| {}),
        case(&root, "no CRL", "", vec![]),
        case(&root, "a newer one without it", "", vec![listed().set(|crl| crl.this_update = utc(-4)), Crl::of(&[])]),
        case(
            &root,
            "a newer one with it",
            "revoked",
            vec![Crl::of(&[]).set(|crl| crl.this_update = utc(-4)), listed()],
        ),
        row("20,000 entries and it", "revoked", {
            let mut crl = listed();
            crl.revoked.extend((0..20_000_u32).map(|n| ([&[1][..], &n.to_be_bytes()].concat(), vec![])));
            crl
        }),
    ];
    let mut wrong_key = case(&root, "signed by another key", "crl_invalid", vec![]);
    wrong_key.crls = vec![listed().signed_by(&wrong_key.cast.intermediate.rekeyed())];
    let serial = vec![0x66; 8];
    let above =
        changed(&root, "the intermediate on the root's", "revoked", vec![], |ca| ca.serial.clone_from(&serial), |_| {});
    let of_root = Crl::of(&[&serial]).signed_by(&root);
    judge(&root, [cases, vec![wrong_key, above]].into_iter().flatten().collect(), &[of_root], "allow", "deny").await;
}

#[tokio::test]
async fn i07_crls_that_are_stale_or_missing() {
    let root = Signer::new("CRL root");
    let of_root = Crl::of(&[]).signed_by(&root);
    let stale = |serials: &[&[u8]]| Crl::of(serials).set(|crl| (crl.this_update, crl.next_update) = (utc(-9), utc(-1)));
    let cases = |stale_word, unknown_word| {
        vec![
            case(&root, "current", "", vec![Crl::of(&[])]),
            case(&root, "stale, not on it", stale_word, vec![stale(&[])]),
            case(&root, "none", unknown_word, vec![]),
        ]
    };
    judge(&root, cases("crl_stale", ""), std::slice::from_ref(&of_root), "allow", "deny").await;
    judge(&root, cases("", ""), std::slice::from_ref(&of_root), "allow", "allow").await;
    judge(&root, cases("crl_stale", "revocation_unknown"), &[of_root], "deny", "deny").await;
    let on_it = vec![case(&root, "stale, and on it", "revoked", vec![stale(&[&SERIAL])])];
    judge(&root, on_it, &[], "allow", "allow").await;
    // With "deny" the intermediate needs a CRL too: that of the root.
    let lone = vec![case(&root, "the root's is missing", "revocation_unknown", vec![Crl::of(&[])])];
    judge(&root, lone, &[], "deny", "deny").await;
}

#[test]
fn i07_crls_that_cannot_be_used_are_told_at_check() {
    let signer = Signer::new("an issuer");
    let with =
        |extensions: Vec<Vec<u8>>| Crl::of(&[&SERIAL]).set(|crl| crl.extensions.extend(extensions)).signed_by(&signer);
    let strange = extension(&[0x2b, 6, 1, 4, 1, 0x83, 0x91, 0x56, 1], true, &tlv(5, &[]));
    let entry = |extension: Vec<u8>| {
        Crl::of(&[]).set(|crl| crl.revoked = vec![(SERIAL.to_vec(), vec![extension])]).signed_by(&signer)
    };
    let good = with(vec![]);
    for (what, bytes, words) in [
        ("a delta CRL", with(vec![ext(27, true, &tlv(2, &[1]))]), "is a delta CRL"),
        ("an indirect one", with(vec![scope(&tlv(0x84, &[0xff]))]), "is an indirect CRL"),
        (
            "some reasons",
            with(vec![scope(&[point("http://a/"), tlv(0x83, &[1, 0x40])].concat())]),
            "covers only some reasons",
        ),
        ("no distribution point", with(vec![scope(&tlv(0x81, &[0xff]))]), "issuingDistributionPoint"),
        ("unknown, critical", with(vec![strange.clone()]), "a critical extension that is not known"),
        ("unknown, critical, in an entry", entry(strange), "a critical extension that is not known"),
        ("another issuer's entry", entry(ext(29, true, &seq(&[&tlv(0xa4, &name("x"))]))), "is an indirect CRL"),
        ("no nextUpdate", Crl::of(&[]).set(|crl| crl.next_update = vec![]).signed_by(&signer), "nextUpdate"),
        ("octets behind it", [&good[..], b"x"].concat(), "is not a certificate revocation list"),
        ("cut", good[..good.len() - 9].to_vec(), "is not a certificate revocation list"),
        ("nothing", vec![], "is not a certificate revocation list"),
        ("a certificate", pem("CERTIFICATE", &[signer.root()]).into_bytes(), "no \"X509 CRL\" section"),
        (
            "PEM that is not",
            b"-----BEGIN X509 CRL-----\n!!\n-----END X509 CRL-----\n".to_vec(),
            "is not well-formed PEM",
        ),
    ] {
        let config =
            Config::new().service(Service::tunnel("one", &["a.test"], 443)).set("upstream", "crls", "[\"c/*.crl\"]");
        let (dir, ..) = prepare(&config);
        fs::create_dir_all(dir.path().join("c")).expect("mkdir");
        fs::write(dir.path().join("c/one.crl"), bytes).expect("crl");
        let checked = run(dir.path(), &["check", "--config", "sekisho.toml"]);
        let said = text(&checked.stdout) + &text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(1), "{what}: {said}");
        assert!(said.contains("one.crl") && said.contains("upstream.crls") && said.contains(words), "{what}: {said}");
    }
    let config =
        Config::new().service(Service::tunnel("one", &["a.test"], 443)).set("upstream", "crls", "[\"c/*.crl\"]");
    let (dir, ..) = prepare(&config);
    let checked = run(dir.path(), &["check", "--config", "sekisho.toml"]);
    let said = text(&checked.stdout) + &text(&checked.stderr);
    assert!(said.contains("c/*.crl"), "a glob that finds nothing is said: {said}");
}

#[tokio::test]
async fn i07_i08_a_verdict_is_not_kept_beyond_its_crl() {
    let root = Signer::new("CRL root");
    let short = case(&root, "short", "", vec![Crl::of(&[]).set(|crl| crl.next_update = utc_in(4))]);
    let origin = Origin::https(&[]).showing(copy(&short.row.leaf)).start().await;
    let config = Config::new().tunnel(HOST, &origin).set("upstream", "crls", "[\"one.crl\"]");
    let config = config.set("upstream", "verify_cache", "\"1h\"");
    let mut sekisho = Sekisho::start_with(&config, |dir| {
        fs::write(dir.join("origins.pem"), pem("CERTIFICATE", &[root.root()])).expect("origins.pem");
        fs::write(dir.join("one.crl"), &short.crls[0]).expect("one.crl");
    })
    .await;
    drop(sekisho.tunnel(&origin.at(HOST)).await);
    let first = sekisho.next_connection().await;
    let record = within("the CRL's end", async {
        loop {
            let (_, answer) = sekisho.connect(&origin.at(HOST)).await;
            let record = sekisho.next_connection().await;
            if answer.status != 200 {
                answer.details("certificate_invalid");
                return record;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    first.with("sekisho.upstream_verdict", "probed");
    record.says("failed", "certificate_invalid").with("sekisho.certificate_error", "crl_stale");
    sekisho.finish().await;
}

#[tokio::test]
async fn i07_i08_a_new_crl_in_the_same_file_is_heeded_after_a_reload() {
    let root = Signer::new("CRL root");
    let one = case(&root, "reloaded", "", vec![Crl::of(&[])]);
    let (first, second) = (
        Origin::https(&[]).showing(copy(&one.row.leaf)).start().await,
        Origin::https(&[]).showing(copy(&one.row.leaf)).start().await,
    );
    let config = Config::new()
        .service(Service::tunnel("tunnel", &[HOST], first.port()))
        .service(Service::inspect("inspect", &[HOST], second.port()))
        .hosts(&[HOST])
        .set("upstream", "crls", "[\"*.crl\"]");
    let mut sekisho = Sekisho::start_with(&config, |dir| {
        fs::write(dir.join("origins.pem"), pem("CERTIFICATE", &[root.root()])).expect("origins.pem");
        fs::write(dir.join("one.crl"), &one.crls[0]).expect("one.crl");
    })
    .await;
    for verdict in ["probed", "kept"] {
        let _ = Tls::named(HOST).try_over(sekisho.tunnel(&first.at(HOST)).await).await;
        sekisho.next_connection().await.says("allowed", "").with("sekisho.upstream_verdict", verdict);
    }
    for _ in 0..2 {
        assert_eq!(inspect(&sekisho, HOST, &second).await.1.expect("an answer").status, 200);
        sekisho.next_connection().await.says("allowed", "");
        sekisho.next_request().await;
    }
    let newer = Crl::of(&[&SERIAL]).set(|crl| crl.this_update = utc(0)).signed_by(&one.cast.intermediate);
    fs::write(sekisho.path("one.crl"), newer).expect("one.crl");
    sekisho.reload(&config).await;
    let record = sekisho.refused(&first.at(HOST), 502, "certificate_invalid").await;
    record.with("sekisho.certificate_error", "revoked");
    inspect(&sekisho, HOST, &second).await.1.expect("a page").page(502, "certificate_invalid");
    sekisho.next_connection().await.with("sekisho.certificate_error", "revoked");
    assert_eq!(second.requests().len(), 2);
}
