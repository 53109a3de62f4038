use std::collections::HashMap;
use std::sync::Mutex;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use tokio::time::Instant;

use super::standing::{Course, Due};
use super::*;
use crate::policy::{GroupSource, HeaderHosts, HostPattern, Mode, Policy, PolicySource, ServiceSource, SetHeader};
use crate::tls;

const TENANTS: &str = "Restrict-Access-To-Tenants";
const CONSUMERS: &str = "sec-Restrict-Tenant-Access-Policy";

fn header(name: &str, value: &str, hosts: &[&str]) -> SetHeader {
    let patterns = hosts.iter().map(|host| HostPattern::parse(host).expect(host)).collect();
    SetHeader { name: name.to_owned(), value: value.to_owned(), hosts: HeaderHosts::Only(patterns) }
}

fn service(name: &str, hosts: &[&str], mode: Mode, headers: Vec<SetHeader>) -> ServiceSource {
    ServiceSource {
        name: name.to_owned(),
        line: 7,
        hosts: hosts.iter().map(|host| (HostPattern::parse(host).expect(host), 8)).collect(),
        ports: vec![443],
        mode,
        clients: None,
        plain_http: false,
        headers,
    }
}

/// Two hosts with a field each, and one with none.
fn policy() -> Policy {
    let office =
        GroupSource { name: "office".to_owned(), networks: vec!["10.20.0.0/16".parse().expect("a net")], line: 1 };
    let fields =
        vec![header(TENANTS, "city.example", &["login.example"]), header(CONSUMERS, "restrict-msa", &["live.example"])];
    let services = vec![
        service("sign-in", &["login.example", "live.example"], Mode::Inspect, fields),
        service("looked at", &["*.seen.example"], Mode::Inspect, Vec::new()),
        service("tunnelled", &["closed.example"], Mode::Tunnel, Vec::new()),
    ];
    Policy::compile(PolicySource { groups: vec![office], services }).expect("no conflict").closing([TENANTS, CONSUMERS])
}

#[test]
fn a_plan_has_every_inspected_pattern_and_what_is_due_there() {
    let plan::Plan { cases, unproven } = plan::plan(&policy());
    let told: Vec<_> = cases
        .iter()
        .map(|case| {
            let due: Vec<_> = case.due.iter().map(|due| due.name.as_str()).collect();
            (case.host.as_str(), case.client.ip().to_string(), due, case.foreign.clone())
        })
        .collect();
    let [tenants, consumers] = [TENANTS, CONSUMERS].map(str::to_ascii_lowercase);
    assert_eq!(
        told,
        [
            ("login.example", "10.20.0.1".to_owned(), vec![TENANTS], vec![consumers.clone()]),
            ("live.example", "10.20.0.1".to_owned(), vec![CONSUMERS], vec![tenants.clone()]),
            ("sekisho-proof.seen.example", "10.20.0.1".to_owned(), vec![], vec![tenants, consumers]),
        ]
    );
    assert_eq!(unproven, Vec::<String>::new());
}

#[test]
fn what_cannot_be_tried_is_not_proven() {
    let group = |name: &str, network: &str| GroupSource {
        name: name.to_owned(),
        networks: vec![network.parse().expect("a net")],
        line: 1,
    };
    let mut hidden = service("hidden", &["*.a.example"], Mode::Inspect, Vec::new());
    hidden.clients = Some(vec!["whole".to_owned()]);
    let samples =
        ["sekisho-proof", "tenant-proof-of-sekisho", "x7q2v9", "q7", "z"].map(|label| format!("{label}.b.example"));
    let others = service("others", &samples.each_ref().map(String::as_str), Mode::Tunnel, Vec::new());
    let wide = service("wide", &["*.b.example"], Mode::Inspect, Vec::new());
    let groups = vec![group("whole", "10.0.0.0/31"), group("one", "10.0.0.0/32"), group("two", "10.0.0.1/32")];
    let policy = Policy::compile(PolicySource { groups, services: vec![hidden, others, wide] }).expect("no conflict");
    let plan::Plan { cases, unproven } = plan::plan(&policy);
    assert!(cases.is_empty());
    assert_eq!(
        unproven,
        [
            "service \"hidden\" (line 7): no address is in its [[clients]], nobody reaches it",
            "*.b.example of service \"wide\": no name was found that it answers for",
        ]
    );
}

#[test]
fn a_client_is_found_between_narrower_networks_of_other_groups() {
    for (own, others, expected) in [
        ("10.20.0.0/16", vec!["10.20.0.0/23", "10.20.2.0/24"], Some("10.20.3.0")),
        ("10.20.0.0/16", vec!["10.20.0.0/17", "10.20.128.0/17"], None),
        ("10.20.0.0/16", vec!["10.20.0.0/17", "10.20.128.0/18"], Some("10.20.192.0")),
        ("fd00:20::/48", vec!["fd00:20::/64"], Some("fd00:20:0:1::")),
        ("10.20.0.0/30", vec!["10.20.0.1/32"], Some("10.20.0.0")),
        ("10.20.0.7/32", vec![], Some("10.20.0.7")),
        ("255.255.255.0/24", vec!["255.255.255.0/25", "255.255.255.128/25"], None),
    ] {
        let group = |name: String, network: &str| GroupSource {
            name,
            networks: vec![network.parse().expect("a net")],
            line: 1,
        };
        let mut groups = vec![group("own".to_owned(), own)];
        groups.extend(others.iter().enumerate().map(|(number, net)| group(format!("other {number}"), net)));
        let mut only = service("A", &["a.example"], Mode::Inspect, Vec::new());
        only.clients = Some(vec!["own".to_owned()]);
        let policy = Policy::compile(PolicySource { groups, services: vec![only] }).expect("no conflict");
        let plan::Plan { cases, unproven } = plan::plan(&policy);
        let client = cases.first().map(|case| case.client.ip().to_string());
        assert_eq!(client.as_deref(), expected, "{own} {others:?}");
        assert_eq!(unproven.is_empty(), expected.is_some());
    }
}

/// How a proxy of the test treats what is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Missing,
    /// Over HTTP/2 alone.
    MissingOverHttp2,
    Duplicated,
    /// The client's copy arrives in the place of ours.
    ClientCopy,
    /// The client's copy arrives beside ours, spelt with underscores.
    Underscored,
    Trailer,
    /// The client's copy of what is for another host arrives.
    ForeignCopy,
    WrongHost,
    AnotherValue,
    /// On the first request of a connection only.
    FirstOnly,
    Twice,
    Refuses,
}

/// A proxy that shares no code with ours: hyper between two TLS connections.
#[derive(Clone)]
struct Faulty {
    fault: Fault,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    origin: u16,
}

impl Faulty {
    fn new(fault: Fault, hosts: &[&str], origin: &Origin) -> (Self, CertificateDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let mut root = CertificateParams::new(Vec::new()).expect("a root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = root.self_signed(&key).expect("signed").der().clone();
        let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let leaf_key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(names).expect("a leaf");
        let leaf = leaf.signed_by(&leaf_key, &Issuer::from_params(&root, &key)).expect("signed").der().clone();
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let mut server = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf], secret)
            .expect("a certificate");
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut roots = RootCertStore::empty();
        roots.add(origin.root()).expect("the origin's root");
        let client = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (acceptor, connector) = (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)));
        (Self { fault, acceptor, connector, origin: origin.port() }, certificate)
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a CONNECT"));
        }
        let answer: &[u8] = match self.fault {
            Fault::Refuses => b"HTTP/1.1 403 Forbidden\r\nProxy-Status: sekisho; details=\"not_allowlisted\"\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\n\r\n",
        };
        stream.write_all(answer).await.expect("written");
        let Ok(stream) = self.acceptor.accept(stream).await else { return };
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let number = Arc::new(Mutex::new(0));
        let service = service_fn(move |request: Request<Incoming>| {
            let (proxy, number) = (self.clone(), Arc::clone(&number));
            async move {
                let first = {
                    let mut number = number.lock().expect("a number");
                    *number += 1;
                    *number == 1
                };
                proxy.forward(request, first).await
            }
        });
        let io = TokioIo::new(stream);
        // Its end is the client's to judge.
        let _ = match http2 {
            true => hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await,
            false => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
        };
    }

    async fn forward(&self, request: Request<Incoming>, first: bool) -> hyper::Result<Response<Full<Bytes>>> {
        let (head, content) = request.into_parts();
        let by_host = head.headers.get("host").map(|host| host.to_str().expect("text").to_owned());
        let authority = head.uri.authority().map(ToString::to_string).or(by_host).expect("a host");
        let host = authority.split(':').next().expect("a host").to_owned();
        let trailers = content.collect().await?.trailers().cloned().unwrap_or_default();
        let mut answer = None;
        for _ in 0..if self.fault == Fault::Twice { 2 } else { 1 } {
            let fields = self.fields(&head.headers, &host, head.version, first);
            answer = Some(self.send(&head.method, &head.uri, &authority, fields, &trailers).await?);
        }
        Ok(answer.expect("sent once or twice"))
    }

    /// What a right proxy would send, but for the fault.
    fn fields(&self, sent: &HeaderMap, host: &str, version: Version, first: bool) -> HeaderMap {
        let (due, other) = match host {
            "login.example" => (Some((TENANTS, "city.example")), Some((CONSUMERS, "restrict-msa"))),
            "live.example" => (Some((CONSUMERS, "restrict-msa")), Some((TENANTS, "city.example"))),
            _ => (None, Some((TENANTS, "city.example"))),
        };
        let mut fields = HeaderMap::new();
        for (name, value) in sent.iter().filter(|(name, _)| name.as_str() == client::MARK) {
            fields.insert(name.clone(), value.clone());
        }
        let mut set = |(name, value): (&str, &str)| {
            fields.append(HeaderName::try_from(name).expect(name), HeaderValue::from_str(value).expect(value));
        };
        if let Some((name, value)) = due {
            match self.fault {
                Fault::Missing => {}
                Fault::MissingOverHttp2 if version == Version::HTTP_2 => {}
                Fault::FirstOnly if !first => {}
                Fault::Duplicated => [(name, value), (name, value)].into_iter().for_each(&mut set),
                Fault::ClientCopy if first => set((name, client::HOSTILE)),
                Fault::AnotherValue => set((name, "town.example")),
                Fault::Underscored if first => {
                    set((name, value));
                    set((&name.replace('-', "_"), client::HOSTILE));
                }
                _ => set((name, value)),
            }
        }
        match self.fault {
            Fault::WrongHost => other.into_iter().for_each(set),
            Fault::ForeignCopy if first => other.into_iter().for_each(|(name, _)| set((name, client::HOSTILE))),
            _ => {}
        }
        fields
    }

    async fn send(
        &self,
        method: &http::Method,
        uri: &http::Uri,
        authority: &str,
        fields: HeaderMap,
        trailers: &HeaderMap,
    ) -> hyper::Result<Response<Full<Bytes>>> {
        #[expect(clippy::disallowed_methods, reason = "a proxy of the test, whose destination is the proof's origin")]
        let stream = TcpStream::connect(("127.0.0.1", self.origin)).await.expect("the origin");
        let name = authority.split(':').next().expect("a host").to_owned();
        let stream = self.connector.connect(ServerName::try_from(name).expect("a name"), stream).await.expect("TLS");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut frames = vec![Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"proof")))];
        if self.fault == Fault::Trailer && !trailers.is_empty() {
            frames.push(Ok(Frame::trailers(trailers.clone())));
        }
        let mut request = Request::builder().method(method).uri(uri.path()).header("host", authority);
        request.headers_mut().expect("sound").extend(fields);
        if self.fault == Fault::Trailer {
            let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
            request = request.header("trailer", names.join(", "));
        }
        let request = request.body(StreamBody::new(futures_util::stream::iter(frames))).expect("a request");
        let (head, content) = sender.send_request(request).await?.into_parts();
        let content = content.collect().await?.to_bytes();
        Ok(Response::from_parts(head, Full::new(content)))
    }
}

/// What a proof of the policy above finds at a proxy with this fault: by host and protocol.
async fn found(fault: Fault) -> HashMap<(String, &'static str), Vec<String>> {
    let plan::Plan { cases, .. } = plan::plan(&policy());
    let origin = Origin::open(cases.iter().map(|case| &case.host)).expect("an origin");
    let hosts: Vec<&str> = cases.iter().map(|case| case.host.as_str()).collect();
    let (faulty, root) = Faulty::new(fault, &hosts, &origin);
    let serving: Arc<Serving> = Arc::new(move |stream, _, _| Box::pin(faulty.clone().serve(stream)));
    let trust = Trust::in_cas([&root].into_iter()).expect("a root");
    let (rows, untried) = visit_all(&cases, &origin, &trust, &serving).await.expect("random octets");
    assert_eq!((rows.len(), untried), (6, 0));
    let word = |protocol| if protocol == Protocol::Http1 { "h1" } else { "h2" };
    let findings =
        |row: Row| ((row.host.to_string(), word(row.protocol)), row.findings.iter().map(ToString::to_string).collect());
    rows.into_iter().map(findings).collect()
}

/// At both hosts with a field, over both protocols, and nowhere else.
fn at_both(found: &HashMap<(String, &'static str), Vec<String>>, finding: &[&str], protocols: &[&str]) {
    for ((host, protocol), findings) in found {
        let name = if host == "login.example" { TENANTS } else { CONSUMERS };
        let expected: Vec<_> = finding.iter().map(|finding| finding.replace("NAME", name)).collect();
        let due = host != "sekisho-proof.seen.example" && protocols.contains(protocol);
        let expected = if due { expected } else { Vec::new() };
        assert_eq!(*findings, expected, "{host} over {protocol}");
    }
}

#[tokio::test]
async fn a_proxy_without_fault_passes() {
    at_both(&found(Fault::None).await, &[], &[]);
}

#[tokio::test]
async fn a_missing_field_is_found() {
    at_both(&found(Fault::Missing).await, &["NAME is missing"], &["h1", "h2"]);
}

#[tokio::test]
async fn g06_a_field_missing_over_http2_only_is_found() {
    at_both(&found(Fault::MissingOverHttp2).await, &["NAME is missing"], &["h2"]);
}

#[tokio::test]
async fn g06_a_field_missing_on_later_requests_is_found() {
    at_both(&found(Fault::FirstOnly).await, &["NAME is missing"], &["h1", "h2"]);
}

#[tokio::test]
async fn g01_a_repeated_field_is_found() {
    at_both(&found(Fault::Duplicated).await, &["NAME arrived 2 times"], &["h1", "h2"]);
}

#[tokio::test]
async fn g01_a_client_copy_that_survives_is_found() {
    let expected = ["NAME has another value than the configuration's", "the client's own NAME arrived"];
    at_both(&found(Fault::ClientCopy).await, &expected, &["h1", "h2"]);
}

#[tokio::test]
async fn g02_a_client_copy_in_another_spelling_is_found() {
    at_both(&found(Fault::Underscored).await, &["the client's own NAME arrived"], &["h1", "h2"]);
}

#[tokio::test]
async fn g04_a_client_copy_in_the_trailer_is_found() {
    for ((host, protocol), findings) in found(Fault::Trailer).await {
        let foreign = |name: &str| format!("{} arrived, which is for other hosts", name.to_ascii_lowercase());
        let own = |name: &str| format!("the client's own {name} arrived");
        let expected = match host.as_str() {
            "login.example" => [own(TENANTS), foreign(CONSUMERS)],
            "live.example" => [own(CONSUMERS), foreign(TENANTS)],
            _ => [foreign(TENANTS), foreign(CONSUMERS)],
        };
        assert_eq!(findings, expected, "{host} over {protocol}");
    }
}

#[tokio::test]
async fn another_value_is_found() {
    at_both(&found(Fault::AnotherValue).await, &["NAME has another value than the configuration's"], &["h1", "h2"]);
}

#[tokio::test]
async fn g11_a_field_at_the_wrong_host_is_found() {
    for ((host, protocol), findings) in found(Fault::WrongHost).await {
        let name = if host == "login.example" { CONSUMERS } else { TENANTS };
        let expected = format!("{} arrived, which is for other hosts", name.to_ascii_lowercase());
        assert_eq!(findings, [expected], "{host} over {protocol}");
    }
}

#[tokio::test]
async fn g01_a_client_copy_of_a_field_for_other_hosts_is_found() {
    for ((host, protocol), findings) in found(Fault::ForeignCopy).await {
        let name = if host == "login.example" { CONSUMERS } else { TENANTS };
        let expected = format!("{} arrived, which is for other hosts", name.to_ascii_lowercase());
        assert_eq!(findings, [expected], "{host} over {protocol}");
    }
}

#[tokio::test]
async fn a_request_that_arrives_twice_is_found() {
    for (place, findings) in found(Fault::Twice).await {
        assert_eq!(findings, ["a request arrived twice"], "{place:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_proves_nothing() {
    for (place, findings) in found(Fault::Refuses).await {
        let expected = "no answer (CONNECT was answered \"HTTP/1.1 403 Forbidden, Proxy-Status: sekisho; details=\\\"not_allowlisted\\\"\")";
        assert_eq!(findings, [expected], "{place:?}");
    }
}

fn proof(findings: Vec<Finding>) -> Proof {
    let row = Row {
        service: "sign-in".to_owned(),
        line: 7,
        host: DnsName::parse(b"login.example").expect("a name"),
        port: 443,
        protocol: Protocol::Http1,
        due: vec![TENANTS.to_owned()],
        findings,
    };
    Proof { at: SystemTime::UNIX_EPOCH, revision: "r".into(), rows: vec![row], unproven: Vec::new(), untried: 0 }
}

#[test]
fn a_proof_is_no_better_than_its_worst_finding() {
    let silent = || Finding::Silent("no answer within 10 s".to_owned());
    for (proof, verdict, said) in [
        (proof(vec![]), Verdict::Holds, "every field arrived as it is due (hosts: 1, connections: 1)"),
        (
            proof(vec![silent()]),
            Verdict::Silent,
            "login.example over HTTP/1.1 (service \"sign-in\"): no answer (no answer within 10 s)",
        ),
        (
            proof(vec![
                silent(),
                Finding::ArrivedTwice,
                Finding::Missing("X".to_owned()),
                Finding::Missing("Y".to_owned()),
            ]),
            Verdict::Wrong,
            "login.example over HTTP/1.1 (service \"sign-in\"): no answer (no answer within 10 s); \
             login.example over HTTP/1.1 (service \"sign-in\"): a request arrived twice; \
             login.example over HTTP/1.1 (service \"sign-in\"): X is missing; and 1 more",
        ),
        (Proof { untried: 2, ..proof(vec![]) }, Verdict::Silent, "; 2 connections were not tried"),
        (Proof { unproven: vec!["*.b".to_owned()], ..proof(vec![]) }, Verdict::Incomplete, "not tried: *.b"),
        (
            Proof { rows: Vec::new(), ..proof(vec![]) },
            Verdict::Nothing,
            "no service sets a field: there is nothing to prove",
        ),
    ] {
        assert_eq!((proof.verdict(), proof.to_string().as_str()), (verdict, said));
    }
}

#[test]
fn one_wrong_proof_is_enough_and_three_silent_ones() {
    let start = Instant::now();
    let mut course = Course::default();
    let mut note = |verdict, seconds| {
        let due = course.note(verdict, start + Duration::from_secs(seconds));
        (due, course.failed)
    };
    assert_eq!(note(Verdict::Holds, 0), (Due::Success, false));
    assert_eq!(note(Verdict::Holds, 300), (Due::Nothing, false));
    assert_eq!(note(Verdict::Silent, 600), (Due::Warning, false));
    assert_eq!(note(Verdict::Silent, 610), (Due::Warning, false));
    assert_eq!(note(Verdict::Silent, 620), (Due::Failure, true));
    assert_eq!(note(Verdict::Silent, 630), (Due::Warning, true));
    assert_eq!(note(Verdict::Holds, 640), (Due::Success, false));
    assert_eq!(note(Verdict::Wrong, 940), (Due::Failure, true));
    // It is not known to be right again.
    assert_eq!(note(Verdict::Silent, 950), (Due::Warning, true));
    assert_eq!(note(Verdict::Holds, 960), (Due::Success, false));
    assert_eq!(note(Verdict::Holds, 960 + 3_599), (Due::Nothing, false));
    assert_eq!(note(Verdict::Holds, 960 + 3_600), (Due::Success, false));
    // What cannot be tried is no failure; it is said once.
    assert_eq!(note(Verdict::Incomplete, 8_000), (Due::Complaint, false));
    assert_eq!(note(Verdict::Incomplete, 8_300), (Due::Success, false));
    assert_eq!(note(Verdict::Incomplete, 8_600), (Due::Nothing, false));
    assert_eq!(note(Verdict::Nothing, 9_000), (Due::Nothing, false));
    assert_eq!((course.tally.held, course.tally.failed), (9, 6));
}
