//! Only the finding of a path belongs here: what is missing, too much, out of order, crossed, looped or endless.

use super::super::support::x509::{Signer, basic, ext, name, shown, tlv, utc};
use super::{Cast, HOST, Row, judge};

#[tokio::test]
async fn i01_i04_order_and_completeness() {
    let cast = Cast::new();
    let leaf = cast.leaf(|_| {}).signed_by(&cast.intermediate);
    let (root, second) = (cast.root.root(), Signer::new("a second intermediate"));
    let between = second.ca().signed_by(&cast.intermediate);
    let long = cast.leaf(|_| {}).signed_by(&second);
    let stranger = Signer::new("a stranger");
    let strange = stranger.root();
    let own = cast.key.leaf(HOST).set(|leaf| leaf.subject = name("own"));
    let myself = Signer { subject: name("own"), ..cast.key.clone() };
    let others: Vec<Vec<u8>> = (0..99).map(|n| Signer::with(&format!("{n}"), rcgen_key()).root()).collect();
    let crowd: Vec<&[u8]> = [&leaf, &cast.middle].into_iter().chain(&others).map(Vec::as_slice).collect();
    let rows = vec![
        cast.chain("in order", "", &[&leaf, &cast.middle]),
        cast.chain("with the root", "", &[&leaf, &cast.middle, &root]),
        cast.chain("the root before the intermediate", "", &[&leaf, &root, &cast.middle]),
        cast.chain("two intermediates", "", &[&long, &between, &cast.middle]),
        cast.chain("two intermediates out of order", "", &[&long, &cast.middle, &between]),
        cast.chain("the intermediate twice", "", &[&leaf, &cast.middle, &cast.middle]),
        cast.chain("a stranger among them", "", &[&leaf, &strange, &cast.middle]),
        cast.chain("99 strangers behind", "", &crowd),
        cast.chain("garbage behind", "", &[&leaf, &cast.middle, b"\x30\x03abc"]),
        cast.chain("the leaf twice", "", &[&leaf, &leaf, &cast.middle]),
        cast.chain("no intermediate", "unknown_issuer", &[&leaf]),
        cast.chain("one intermediate of two", "unknown_issuer", &[&long, &between]),
        cast.chain("the intermediate first", "ca_used_as_end_entity", &[&cast.middle, &leaf]),
        cast.chain("a stranger's", "unknown_issuer", &[&cast.leaf(|_| {}).signed_by(&stranger), &strange]),
        cast.chain("signed by itself", "self_signed", &[&own.signed_by(&myself)]),
        cast.chain("no certificate", "bad_encoding", &[b"\x30\x03abc"]),
        cast.chain("octets behind the certificate", "bad_encoding", &[&[&leaf[..], &[0]].concat(), &cast.middle]),
        cast.chain("directly below the root", "", &[&cast.leaf(|_| {}).signed_by(&cast.root)]),
    ];
    judge(&[root], rows).await;
}

fn rcgen_key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate().expect("key")
}

#[tokio::test]
async fn i01_path_length_and_leaves_that_sign() {
    let cast = Cast::new();
    let second = Signer::new("a second intermediate");
    let chain = |what: &str, fault, upper: Option<&[u8]>, lower: Option<&[u8]>| {
        let above = cast.intermediate.ca().set(|ca| ca.basic = basic(Some(true), upper)).signed_by(&cast.root);
        let between = second.ca().set(|ca| ca.basic = basic(Some(true), lower)).signed_by(&cast.intermediate);
        cast.chain(what, fault, &[&cast.leaf(|_| {}).signed_by(&second), &between, &above])
    };
    // A good leaf that signs another certificate (the Internet Explorer mistake of 2002).
    let signing = Signer::new("a leaf that signs");
    let good = signing.leaf("b.case.test").set(|leaf| leaf.subject.clone_from(&signing.subject));
    let below = cast.leaf(|_| {}).signed_by(&signing);
    // Self-issued certificates do not count against pathLenConstraint (RFC 5280 section 6.1.4 (l)); webpki counts them: stricter.
    let fresh = cast.intermediate.rekeyed();
    let zero = cast.intermediate.ca().set(|ca| ca.basic = basic(Some(true), Some(&[0]))).signed_by(&cast.root);
    let rollover = fresh.ca().signed_by(&cast.intermediate);
    let rows = vec![
        chain("1 above 0", "", Some(&[1]), Some(&[0])),
        chain("0 above one more", "path_length", Some(&[0]), None),
        chain("0 above a wider one", "path_length", Some(&[0]), Some(&[5])),
        cast.chain(
            "a leaf as the issuer",
            "end_entity_used_as_ca",
            &[&below, &good.signed_by(&cast.intermediate), &cast.middle],
        ),
        cast.chain("self-issued below 0", "bad_signature", &[&cast.leaf(|_| {}).signed_by(&fresh), &rollover, &zero]),
    ];
    judge(&[cast.root.root()], rows).await;
}

#[tokio::test]
async fn i04_crossed_paths() {
    let cast = Cast::new();
    let (old, unknown) = (Signer::new("an old root"), Signer::new("an unknown root"));
    let leaf = cast.leaf(|_| {}).signed_by(&cast.intermediate);
    let by = |signer: &Signer| cast.intermediate.ca().signed_by(signer);
    let expired = cast.intermediate.ca().set(|ca| ca.not_after = utc(-1)).signed_by(&old);
    let constrained = cast.intermediate.ca().set(|ca| ca.basic = basic(Some(false), None)).signed_by(&cast.root);
    let twin = cast.intermediate.rekeyed();
    let other_key = twin.ca().signed_by(&cast.root);
    let hint = |octet: u8| ext(35, false, &tlv(0x30, &tlv(0x80, &[octet; 20])));
    let odd_hint = cast.intermediate.ca().set(|ca| ca.more = vec![hint(7)]).signed_by(&cast.root);
    let spoilt = cast.intermediate.ca().set(|ca| ca.spoils_signature = true).signed_by(&cast.root);
    let rows = vec![
        cast.chain("the expired path first", "", &[&leaf, &expired, &by(&cast.root)]),
        cast.chain("the expired path last", "", &[&leaf, &by(&cast.root), &expired]),
        cast.chain("only the expired path", "expired", &[&leaf, &expired]),
        cast.chain("an unknown root first", "", &[&leaf, &by(&unknown), &unknown.root(), &by(&cast.root)]),
        cast.chain("not a CA first", "", &[&leaf, &constrained, &by(&cast.root)]),
        cast.chain("another key of the same name first", "", &[&leaf, &other_key, &by(&cast.root)]),
        cast.chain("only another key of the same name", "bad_signature", &[&leaf, &other_key]),
        cast.chain("a broken signature first", "", &[&leaf, &spoilt, &by(&cast.root)]),
        // The key identifier is a hint for finding, and no reason to refuse (RFC 5280 section 4.2.1.1).
        cast.chain("a key identifier that leads nowhere", "", &[&leaf, &odd_hint]),
    ];
    judge(&[cast.root.root(), old.root()], rows).await;
}

#[tokio::test]
async fn i03_loops_and_crowds_are_bounded() {
    let cast = Cast::new();
    let leaf = cast.leaf(|_| {}).signed_by(&cast.intermediate);
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let looped = cast.leaf(|_| {}).signed_by(&one);
    let (up, down) = (one.ca().signed_by(&two), two.ca().signed_by(&one));
    let twins: Vec<_> = (0..40).map(|_| cast.intermediate.rekeyed().ca().signed_by(&cast.root)).collect();
    let crowd: Vec<&[u8]> = std::iter::once(&leaf).chain(&twins).map(Vec::as_slice).collect();
    let steps: Vec<_> = (0..100).map(|n| Signer::with(&format!("step {n}"), rcgen_key())).collect();
    let mut ladder = vec![cast.leaf(|_| {}).signed_by(&steps[0])];
    ladder.extend(steps.windows(2).map(|pair| pair[0].ca().signed_by(&pair[1])));
    ladder.push(steps[99].ca().signed_by(&cast.root));
    let ladder: Vec<&[u8]> = ladder.iter().map(Vec::as_slice).collect();
    // Every one of them could stand above every other: n! orders.
    let tangle: Vec<_> = (0..12)
        .map(|_| {
            let signer = cast.intermediate.rekeyed();
            signer.ca().signed_by(&cast.intermediate)
        })
        .collect();
    let tangle: Vec<&[u8]> = std::iter::once(&leaf).chain(&tangle).map(Vec::as_slice).collect();
    let rows = vec![
        cast.chain("a loop of two", "unknown_issuer", &[&looped, &up, &down]),
        cast.chain("40 keys of one name", "chain_too_large", &crowd),
        cast.chain("a ladder of 100", "chain_too_large", &ladder),
        cast.chain("12 that cross", "chain_too_large", &tangle),
        cast.chain("six steps", "", &ladder_of(&cast, 6).iter().map(Vec::as_slice).collect::<Vec<_>>()),
    ];
    judge(&[cast.root.root()], rows).await;
}

/// A leaf and so many intermediates above it.
fn ladder_of(cast: &Cast, steps: usize) -> Vec<Vec<u8>> {
    let signers: Vec<_> = (0..steps).map(|n| Signer::new(&format!("rung {n}"))).collect();
    let mut chain = vec![cast.leaf(|_| {}).signed_by(&signers[0])];
    chain.extend(signers.windows(2).map(|pair| pair[0].ca().signed_by(&pair[1])));
    chain.push(signers[steps - 1].ca().signed_by(&cast.root));
    chain
}

#[tokio::test]
async fn i01_odd_roots() {
    let cast = Cast::new();
    let row =
        |what: &str, fault| cast.chain(what, fault, &[&cast.leaf(|_| {}).signed_by(&cast.intermediate), &cast.middle]);
    // A root is a name and a key (RFC 5280 section 6.1.1 (d)); its own end is a warning of `check`, not a verdict.
    let expired = cast.root.ca().set(|root| root.not_after = utc(-1)).signed_by(&cast.root);
    judge(&[expired], vec![row("an expired root", "")]).await;
    let spoilt = cast.root.ca().set(|root| root.spoils_signature = true).signed_by(&cast.root);
    judge(&[spoilt], vec![row("a root whose own signature is wrong", "")]).await;
    // A certificate that is no CA, trusted as a root, is trusted as itself and vouches for nobody else.
    let server = Signer { subject: name(HOST), ..cast.key.clone() };
    let own = server.leaf(HOST).signed_by(&server);
    let other = Signer::new("another key");
    let forged = other.leaf("b.case.test").signed_by(&server);
    judge(
        std::slice::from_ref(&own),
        vec![
            cast.chain("a self-signed server, trusted", "", &[&own]),
            Row::new("what it signs", "b.case.test", shown(&[&forged], &other.key), "unknown_issuer"),
            Row::new("with it", "b.case.test", shown(&[&forged, &own], &other.key), "end_entity_used_as_ca"),
        ],
    )
    .await;
    // What a CA that is trusted has issued passes by that CA, wherever else it is named.
    let issued = cast.leaf(|_| {}).signed_by(&cast.intermediate);
    judge(&[cast.root.root(), issued.clone()], vec![cast.chain("a root and its server", "", &[&issued, &cast.middle])])
        .await;
    judge(
        std::slice::from_ref(&issued),
        vec![cast.chain("another's server alone", "unknown_issuer", &[&issued, &cast.middle])],
    )
    .await;
    // What `openssl req -x509` makes: a CA that is its own server (RFC 5280 leaves it open; webpki takes no CA as a server).
    let both = server.leaf(HOST).set(|leaf| leaf.basic = basic(Some(true), None)).signed_by(&server);
    judge(std::slice::from_ref(&both), vec![cast.chain("a self-signed CA as the server", "self_signed", &[&both])])
        .await;
}
