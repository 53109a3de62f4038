//! Only the judging of certificates belongs here, in the spirit of x509-limbo and BetterTLS: tables of chains, each shown by an
//! origin of its own to both modes, with the word the record must have for it.
//!
//! Every chain hangs from one root of the scene. A row that passes says so with an empty word. Where a library is laxer or stricter
//! than RFC 5280 and that is taken as it is, the row's comment says why.

mod crls;
mod issuing_ca;
mod names;
mod paths;
mod profile;

use std::fs;
use std::path::Path;

use futures_util::future::join_all;

use super::support::client::Tls;
use super::support::pki::Leaf;
use super::support::x509::{Signer, Tbs, pem, shown};
use super::support::{Config, Origin, Record, Response, Sekisho, Service};

/// One chain.
struct Row {
    what: String,
    host: String,
    leaf: Leaf,
    /// `sekisho.certificate_error`; empty where the origin must be reached.
    fault: &'static str,
}

impl Row {
    fn new(what: impl Into<String>, host: &str, leaf: Leaf, fault: &'static str) -> Self {
        Self { what: what.into(), host: host.to_owned(), leaf, fault }
    }
}

/// A root, an intermediate below it, and the key of every leaf.
struct Cast {
    root: Signer,
    intermediate: Signer,
    /// The intermediate's certificate.
    middle: Vec<u8>,
    key: Signer,
}

const HOST: &str = "a.case.test";

impl Cast {
    fn new() -> Self {
        Self::below(Signer::new("case root"), "case intermediate")
    }

    /// With an intermediate of this name below a root that may have others.
    fn below(root: Signer, name: &str) -> Self {
        let intermediate = Signer::new(name);
        let middle = intermediate.ca().signed_by(&root);
        Self { root, intermediate, middle, key: Signer::new("a leaf") }
    }

    /// A good leaf for [`HOST`], changed.
    fn leaf(&self, change: impl FnOnce(&mut Tbs)) -> Tbs {
        self.key.leaf(HOST).set(change)
    }

    /// A row whose leaf alone is changed.
    fn changed(&self, what: &str, fault: &'static str, change: impl FnOnce(&mut Tbs)) -> Row {
        let leaf = self.leaf(change).signed_by(&self.intermediate);
        Row::new(what, HOST, shown(&[&leaf, &self.middle], &self.key.key), fault)
    }

    /// A row whose intermediate alone is changed.
    fn above(&self, what: &str, fault: &'static str, change: impl FnOnce(&mut Tbs)) -> Row {
        let middle = self.intermediate.ca().set(change).signed_by(&self.root);
        let leaf = self.leaf(|_| {}).signed_by(&self.intermediate);
        Row::new(what, HOST, shown(&[&leaf, &middle], &self.key.key), fault)
    }

    /// A row of these certificates, the leaf first.
    fn chain(&self, what: &str, fault: &'static str, chain: &[&[u8]]) -> Row {
        Row::new(what, HOST, shown(chain, &self.key.key), fault)
    }
}

/// What came of one row in one mode.
struct Seen {
    answer: Response,
    /// The answer inside, where there is one.
    inside: Option<Response>,
    record: Record,
}

/// Shows every row to one proxy that trusts `roots`, in both modes at once.
async fn judge(roots: &[Vec<u8>], rows: Vec<Row>) {
    judge_with(roots, rows, |config| config, |_| {}).await;
}

async fn judge_with(roots: &[Vec<u8>], rows: Vec<Row>, adjust: impl Fn(Config) -> Config, arrange: impl Fn(&Path)) {
    let (mut config, mut origins) = (Config::new(), Vec::new());
    for (index, row) in rows.iter().enumerate() {
        let tunnelled = Origin::https(&[]).showing(copy(&row.leaf)).start().await;
        let inspected = Origin::https(&[]).showing(copy(&row.leaf)).start().await;
        let hosts = [row.host.as_str()];
        config = config
            .service(Service::tunnel(&format!("tunnel {index}"), &hosts, tunnelled.port()))
            .service(Service::inspect(&format!("inspect {index}"), &hosts, inspected.port()))
            .hosts(&hosts);
        origins.push((tunnelled, inspected));
    }
    let sekisho = Sekisho::start_with(&adjust(config), |dir| {
        fs::write(dir.join("origins.pem"), pem("CERTIFICATE", roots)).expect("origins.pem");
        arrange(dir);
    })
    .await;
    let both = join_all(rows.iter().zip(&origins).map(async |(row, (tunnelled, inspected))| {
        (tunnel(&sekisho, &row.host, tunnelled).await, inspect(&sekisho, &row.host, inspected).await)
    }))
    .await;
    let records = sekisho.terminals("connection", 2 * rows.len() as u64).await;
    let record = |origin: &Origin, host: &str| {
        let at = origin.at(host);
        records.iter().find(|record| record.text("sekisho.authority") == at).expect("a record").clone()
    };
    let mut wrong = Vec::new();
    for ((row, (tunnelled, inspected)), (tunnel, inspect)) in rows.iter().zip(&origins).zip(both) {
        let (answer, (first, inside)) = (tunnel, inspect);
        let tunnel = Seen { answer, inside: None, record: record(tunnelled, &row.host) };
        let inspect = Seen { answer: first, inside, record: record(inspected, &row.host) };
        for (mode, seen, origin) in [("tunnel", tunnel, tunnelled), ("inspect", inspect, inspected)] {
            if let Err(why) = verdict(row, mode, &seen, origin) {
                wrong.push(format!("{} ({mode}): {why}; {:?}", row.what, seen.record));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// CONNECT, and a hello where that is answered 200.
async fn tunnel(sekisho: &Sekisho, host: &str, origin: &Origin) -> Response {
    let (wire, answer) = sekisho.connect(&origin.at(host)).await;
    if answer.status == 200 {
        // This client knows none of the scene's roots; what counts is that its hello passed.
        let _ = Tls::named(host).try_over(wire).await;
    }
    answer
}

/// CONNECT, a handshake under the issuing root, and the answer to a request.
async fn inspect(sekisho: &Sekisho, host: &str, origin: &Origin) -> (Response, Option<Response>) {
    let (wire, answer) = sekisho.connect(&origin.at(host)).await;
    if answer.status != 200 {
        return (answer, None);
    }
    let mut inside = Tls::named(host).trusting(&sekisho.ca()).over(wire).await;
    let page = inside.get(&origin.at(host), "/secret").await;
    inside.bye().await;
    (answer, page)
}

fn verdict(row: &Row, mode: &str, seen: &Seen, origin: &Origin) -> Result<(), String> {
    let (last, reached) = (seen.inside.as_ref().unwrap_or(&seen.answer), origin.requests().len());
    let said = seen.record.text("sekisho.certificate_error");
    if mode == "inspect" && seen.answer.status != 200 {
        return Err(format!("the CONNECT of an inspected name was answered {}", seen.answer.status));
    }
    if row.fault.is_empty() {
        let passed = last.status == 200 && seen.record.outcome() == "allowed" && said.is_empty();
        return if passed { Ok(()) } else { Err(format!("wanted to pass, got {} {said:?}", last.status)) };
    }
    let named = last.value("proxy-status").ends_with("; details=\"certificate_invalid\"");
    let refused = named && last.status == 502 && seen.record.outcome() == "failed";
    let recorded = seen.record.reason() == "certificate_invalid" && said == row.fault;
    if refused && recorded && reached == 0 {
        return Ok(());
    }
    Err(format!("wanted {:?}, got {} {said:?}, {reached} requests", row.fault, last.status))
}

fn copy(leaf: &Leaf) -> Leaf {
    Leaf { chain: leaf.chain.clone(), key: leaf.key.clone_key() }
}
