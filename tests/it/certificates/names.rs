//! Only names belong here: what stands in subjectAltName, which of it fits (RFC 9525, RFC 6125), and name constraints.

use super::super::support::pki::Leaf;
use super::super::support::x509::{Signer, constraints, dns, ext, ip, name, san, seq, shown, tlv};
use super::{Cast, HOST, Row, judge};

#[tokio::test]
async fn i01_i05_presented_names() {
    let cast = Cast::new();
    let row = |host: &str, names: &[Vec<u8>], fault| {
        let leaf = cast.key.leaf(host).set(|leaf| leaf.san = san(names)).signed_by(&cast.intermediate);
        Row::new(format!("{host} by {names:02x?}"), host, shown(&[&leaf, &cast.middle], &cast.key.key), fault)
    };
    let many: Vec<_> = (0..1_500).map(|n| dns(format!("n{n}.other.test"))).collect();
    let rows = vec![
        row(HOST, &[dns(HOST)], ""),
        row(HOST, &[dns("A.CASE.TEST")], ""),
        row(HOST, &[dns("other.test"), dns(HOST)], ""),
        row(HOST, &[dns("*.case.test")], ""),
        row(HOST, &[dns("*.CASE.test")], ""),
        row(HOST, &[dns("case.test")], "name"),
        row(HOST, &[dns("b.a.case.test")], "name"),
        row(HOST, &[dns("*.a.case.test")], "name"),
        row("b.a.case.test", &[dns("*.case.test")], "name"),
        row("case.test", &[dns("*.case.test")], "name"),
        row(HOST, &[dns("a.*.test")], "name"),
        row(HOST, &[dns("a.case.*")], "name"),
        row(HOST, &[dns("*.*.test")], "name"),
        row(HOST, &[dns("*a.case.test")], "name"),
        row(HOST, &[dns("a*.case.test")], "name"),
        row(HOST, &[dns("**.case.test")], "name"),
        row(HOST, &[dns("*.test")], "name"),
        row("case.test", &[dns("*.test")], "name"),
        row(HOST, &[dns("*")], "name"),
        row(HOST, &[dns("*.")], "name"),
        row("city.co.jp", &[dns("*.co.jp")], "name"),
        row("city.co.jp", &[dns("*.co.jp"), dns("city.co.jp")], ""),
        row("a.city.co.jp", &[dns("*.city.co.jp")], ""),
        row("city.github.io", &[dns("*.github.io")], ""),
        row("xn--bcher-kva.case.test", &[dns("xn--bcher-kva.case.test")], ""),
        row("xn--bcher-kva.case.test", &[dns("*.case.test")], ""),
        row("xn--bcher-kva.case.test", &[dns("xn--*.case.test")], "name"),
        row("xn--bcher-kva.case.test", &[dns("b\u{fc}cher.case.test")], "name"),
        // RFC 9525 knows no trailing dot in a presented name; CA/B BR 7.1.4.2.1 forbids it.
        row(HOST, &[dns("a.case.test.")], "name"),
        row(HOST, &[dns(".a.case.test")], "name"),
        row(HOST, &[dns(".case.test")], "name"),
        row(HOST, &[dns("a..case.test")], "name"),
        row(HOST, &[dns(" a.case.test")], "name"),
        row(HOST, &[dns("a.case.test\0")], "name"),
        row(HOST, &[dns("a.case.test\0.evil.test")], "name"),
        row(HOST, &[dns("a.case.test\n")], "name"),
        row(HOST, &[dns([0xff, 0xfe])], "name"),
        row(HOST, &[dns("")], "name"),
        row(HOST, &[dns([0xff]), dns(HOST)], "bad_encoding"),
        row(HOST, &[dns("evil.test, DNS:a.case.test")], "name"),
        row(HOST, &[tlv(0x81, b"root@a.case.test")], "name"),
        row(HOST, &[tlv(0x86, b"https://a.case.test/")], "name"),
        // An address or a name under the wrong tag is neither (I05).
        row(HOST, &[ip(b"a.case.test")], "name"),
        row(HOST, &[ip(&[127, 0, 0, 1])], "name"),
        row(HOST, &[tlv(0x81, HOST.as_bytes())], "name"),
        row(HOST, &[tlv(0xa4, &name(HOST))], "name"),
        row(HOST, &[], "name"),
        row(HOST, &many, "name"),
        row(HOST, &[&many[..], &[dns(HOST)]].concat(), ""),
    ];
    judge(&[cast.root.root()], rows).await;
}

#[tokio::test]
async fn i01_i05_subject_alt_name_itself() {
    let cast = Cast::new();
    let rows = vec![
        cast.changed("none, and a common name (RFC 9525 6.3)", "name", |leaf| leaf.san = vec![]),
        cast.changed("critical", "", |leaf| leaf.san = ext(17, true, &tlv(0x30, &dns(HOST)))),
        cast.changed("no SEQUENCE", "bad_encoding", |leaf| leaf.san = ext(17, false, &dns(HOST))),
        cast.changed("a length beyond its end", "bad_encoding", |leaf| {
            leaf.san = ext(17, false, &tlv(0x30, &[&dns(HOST)[..], &[0x82, 0x50, b'a']].concat()));
        }),
        cast.changed("issuerAltName instead", "name", |leaf| leaf.san = ext(18, false, &tlv(0x30, &dns(HOST)))),
        cast.changed("the name in the subject's host", "name", |leaf| {
            (leaf.san, leaf.subject) = (san(&[dns("other.test")]), name(HOST));
        }),
    ];
    judge(&[cast.root.root()], rows).await;
}

/// A leaf for `host` with `names`, below an intermediate with these constraints.
fn below(cast: &Cast, extension: Vec<u8>, host: &str, names: &[Vec<u8>]) -> Leaf {
    let middle = cast.intermediate.ca().set(|ca| ca.more = vec![extension]).signed_by(&cast.root);
    let leaf = cast.key.leaf(host).set(|leaf| {
        leaf.san = san(names);
        leaf.subject = tlv(0x30, &[]);
    });
    shown(&[&leaf.signed_by(&cast.intermediate), &middle], &cast.key.key)
}

#[tokio::test]
async fn i01_i06_name_constraints_of_an_intermediate() {
    const NO: &str = "name_constraints";
    let cast = Cast::new();
    let (host, host_ip, net) = (dns(HOST), ip(&[10, 0, 0, 1]), ip(&[10, 0, 0, 0, 255, 0, 0, 0]));
    let mail = |address: &str| tlv(0x81, address.as_bytes());
    let uri = |text: &str| tlv(0x86, text.as_bytes());
    let directory = |common: &str| tlv(0xa4, &name(common));
    let wild = dns("*.case.test");
    let row = |what: &str, permitted: &[Vec<u8>], excluded: &[Vec<u8>], names: &[&Vec<u8>], fault| {
        let names: Vec<_> = names.iter().map(|name| (*name).clone()).collect();
        Row::new(what, HOST, below(&cast, constraints(permitted, excluded), HOST, &names), fault)
    };
    let rows = vec![
        row("the name", std::slice::from_ref(&host), &[], &[&host], ""),
        row("a domain above", &[dns("case.test")], &[], &[&host], ""),
        row("a domain above, in capitals", &[dns("CASE.TEST")], &[], &[&host], ""),
        row("every name", &[dns("")], &[], &[&host], ""),
        row("another domain", &[dns("other.test")], &[], &[&host], NO),
        row("only an end of a label", &[dns("ase.test")], &[], &[&host], NO),
        row("a domain below", &[dns("b.a.case.test")], &[], &[&host], NO),
        row("one of two", &[dns("other.test"), dns("test")], &[], &[&host], ""),
        row("one name of two outside", &[dns("case.test")], &[], &[&host, &dns("other.test")], NO),
        row("excluded", &[], &[dns("case.test")], &[&host], NO),
        row("excluded in capitals", &[], &[dns("CASE.TEST")], &[&host], NO),
        row("excluded beside", &[], &[dns("other.test")], &[&host], ""),
        row("permitted and excluded", &[dns("test")], std::slice::from_ref(&host), &[&host], NO),
        row("every name excluded", &[], &[dns("")], &[&host], NO),
        // A wildcard speaks for every name it could match (BetterTLS; RUSTSEC-2026-0098).
        row("a wildcard inside", &[dns("case.test")], &[], &[&wild], ""),
        row("a wildcard wider than permitted", std::slice::from_ref(&host), &[], &[&wild], NO),
        row("a wildcard over an excluded name", &[], &[dns("b.case.test")], &[&wild], NO),
        row("a wildcard over the excluded name itself", &[], std::slice::from_ref(&host), &[&wild], NO),
        // RFC 5280 section 4.2.1.10 has a leading dot for URIs only; webpki takes it as "below".
        row("a leading dot", &[dns(".case.test")], &[], &[&host], ""),
        row("an excluded leading dot", &[], &[dns(".case.test")], &[&host], NO),
        row("a constraint that is a wildcard", &[dns("*.case.test")], &[], &[&host], NO),
        row("an excluded wildcard", &[], &[dns("*.case.test")], &[&host], NO),
        row("a constraint with an octet that is no name's", &[], &[dns([0xff])], &[&host], NO),
        // Only the kinds of names that are constrained are (RFC 5280 section 4.2.1.10).
        row("only addresses constrained", std::slice::from_ref(&net), &[], &[&host], ""),
        row("an address inside", std::slice::from_ref(&net), &[], &[&host, &host_ip], ""),
        row("an address outside", &[ip(&[192, 0, 2, 0, 255, 255, 255, 0])], &[], &[&host, &host_ip], NO),
        row("an address excluded", &[], std::slice::from_ref(&net), &[&host, &host_ip], NO),
        row("a mask with a hole", &[ip(&[10, 0, 0, 0, 255, 0, 255, 0])], &[], &[&host, &host_ip], NO),
        row("a constraint of five octets", &[ip(&[10, 0, 0, 0, 255])], &[], &[&host, &host_ip], NO),
        row("a mailbox of another host", &[mail("other.test")], &[], &[&host, &mail("x@case.test")], NO),
        row("a mailbox excluded", &[], &[mail("case.test")], &[&host, &mail("x@case.test")], NO),
        row("a URI of another host", &[uri("other.test")], &[], &[&host, &uri("https://case.test/")], NO),
        row("a directory name outside", &[directory("x")], &[], &[&host, &directory("y")], NO),
        row("a directory name excluded", &[], &[directory("y")], &[&host, &directory("y")], NO),
        row("of an unknown kind", &[tlv(0x88, &[0x2a, 3])], &[], &[&host], ""),
        row("neither permitted nor excluded", &[], &[], &[&host], ""),
    ];
    judge(&[cast.root.root()], rows).await;
}

#[tokio::test]
async fn i01_i06_name_constraints_elsewhere_in_the_chain() {
    const NO: &str = "name_constraints";
    let cast = Cast::new();
    let (middle, leaf) = (cast.middle.clone(), cast.leaf(|_| {}).signed_by(&cast.intermediate));
    let of = |permitted: &str, excluded: &[Vec<u8>]| constraints(&[dns(permitted)], excluded);
    for (what, extension, fault) in [
        ("the root permits", of("case.test", &[]), ""),
        ("the root permits others", of("other.test", &[]), NO),
        ("the root excludes", of("test", &[dns(HOST)]), NO),
    ] {
        let root = cast.root.ca().set(|root| root.more = vec![extension]).signed_by(&cast.root);
        judge(&[root], vec![cast.chain(what, fault, &[&leaf, &middle])]).await;
    }
    let second = Signer::new("a second intermediate");
    let chain = |upper: Vec<u8>, lower: Vec<u8>| {
        let more = |extension: Vec<u8>| if extension.is_empty() { vec![] } else { vec![extension] };
        let above = cast.intermediate.ca().set(|ca| ca.more = more(upper)).signed_by(&cast.root);
        let between = second.ca().set(|ca| ca.more = more(lower)).signed_by(&cast.intermediate);
        [cast.leaf(|_| {}).signed_by(&second), between, above]
    };
    let rows = [
        ("two that agree", of("test", &[]), of("case.test", &[]), ""),
        ("the upper one alone", of("other.test", &[]), vec![], NO),
        ("the lower one wider than the upper", of("other.test", &[]), of("test", &[]), NO),
        ("excluded above, permitted below", constraints(&[], &[dns("case.test")]), of("case.test", &[]), NO),
    ];
    let rows = rows.map(|(what, upper, lower, fault)| {
        let [leaf, between, above] = chain(upper, lower);
        cast.chain(what, fault, &[&leaf, &between, &above])
    });
    judge(&[cast.root.root()], rows.into()).await;
    let directory = constraints(&[tlv(0xa4, &seq(&[]))], &[]);
    let rows = vec![
        cast.above("not critical", NO, |ca| ca.more = vec![ext(30, false, &tlv(0x30, &tlv(0xa0, &seq(&[&dns("b")]))))]),
        cast.above("with a minimum", "bad_encoding", |ca| {
            let tree = seq(&[&dns("case.test"), &tlv(0x80, &[1])]);
            ca.more = vec![ext(30, true, &tlv(0x30, &tlv(0xa0, &tree)))];
        }),
        cast.above("twice", "unknown_issuer", |ca| ca.more = vec![of("case.test", &[]), of("case.test", &[])]),
        // RFC 5280 would pass it; webpki reads no directory names and refuses every one that is constrained.
        cast.above("every directory name", NO, |ca| ca.more = vec![directory]),
        cast.changed("on the leaf itself, which is no CA", "", |leaf| leaf.more = vec![of("other.test", &[])]),
    ];
    judge(&[cast.root.root()], rows).await;
}
