use std::sync::Mutex;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    name: String,
    family: RecordType,
    tcp: bool,
}

/// What the stub does with a question.
enum Act {
    Silence,
    Code(ResponseCode),
    Records(Vec<Record>),
    /// An empty answer with the TC bit.
    Truncate,
    /// First a forgery with a wrong id, then these.
    ForgeFirst(Vec<Record>),
}

type Script = fn(&Question) -> Act;

/// A DNS server on loopback, UDP and TCP on one port, which writes down what it was asked.
struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Question>>>,
}

impl Stub {
    async fn start(script: Script) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.expect("tcp");
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("address")).await {
                break (udp, tcp);
            }
        };
        let address = tcp.local_addr().expect("address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                for answer in answers(buffer.get(..length).expect("received"), false, script, &log) {
                    udp.send_to(&answer, from).await.expect("send");
                }
            }
        });
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut query = vec![0; length.into()];
                        stream.read_exact(&mut query).await.expect("query");
                        for answer in answers(&query, true, script, &log) {
                            stream.write_u16(answer.len().try_into().expect("length")).await.expect("length");
                            stream.write_all(&answer).await.expect("answer");
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<Question> {
        self.asked.lock().expect("log").clone()
    }
}

fn answers(query: &[u8], tcp: bool, script: Script, log: &Mutex<Vec<Question>>) -> Vec<Vec<u8>> {
    let mut message = Message::from_vec(query).expect("query");
    let query = message.queries.first().expect("question").clone();
    let question = Question { name: query.name().to_ascii(), family: query.query_type(), tcp };
    let act = script(&question);
    log.lock().expect("log").push(question);
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_available = true;
    message.additionals.clear();
    match act {
        Act::Silence => return vec![],
        Act::Code(code) => message.metadata.response_code = code,
        Act::Records(records) => message.answers = records,
        Act::Truncate => message.metadata.truncation = true,
        Act::ForgeFirst(records) => {
            let mut forged = message.clone();
            forged.metadata.id = !message.metadata.id;
            forged.answers = vec![a("allowed.test.", "198.18.0.66")];
            message.answers = records;
            return vec![forged.to_vec().expect("forged"), message.to_vec().expect("answer")];
        }
    }
    vec![message.to_vec().expect("answer")]
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect(text)
}

fn a(owner: &str, address: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::A(A(address.parse().expect(address))))
}

fn aaaa(owner: &str, address: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::AAAA(AAAA(address.parse().expect(address))))
}

fn cname(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
}

fn dns(text: &str) -> DnsName {
    DnsName::parse(text.as_bytes()).expect(text)
}

fn resolver(servers: Vec<SocketAddr>) -> Resolver {
    Resolver::new(&Settings {
        servers,
        named_in: NamedIn::Configuration,
        hosts: HashMap::new(),
        timeout: Duration::from_secs(5),
    })
}

fn ips(texts: &[&str]) -> Arc<[IpAddr]> {
    texts.iter().map(|text| text.parse::<IpAddr>().expect(text)).collect()
}

/// IPv4 only: `records` for A, an empty NOERROR for AAAA.
fn only_v4(question: &Question, records: Vec<Record>) -> Act {
    Act::Records(if question.family == RecordType::A { records } else { vec![] })
}

async fn one(script: Script) -> (Answer, Vec<Question>) {
    let stub = Stub::start(script).await;
    let answer = resolver(vec![stub.address]).resolve(&dns("allowed.test")).await;
    (answer, stub.asked())
}

#[tokio::test]
async fn b06_the_name_is_asked_with_the_root_behind_it_and_nothing_else_is() {
    let stub = Stub::start(|_| Act::Code(ResponseCode::NXDomain)).await;
    let resolver = resolver(vec![stub.address]);
    for text in ["internal", "allowed.test", "a_b.allowed.test", "_x.allowed.test", "xn--bcher-kva.test"] {
        let error = resolver.resolve(&dns(text)).await.expect_err(text);
        assert_eq!(error.reason(), Reason::DnsFailed);
        assert_eq!(error.to_string(), format!("{text} has no address: the name does not exist (NXDOMAIN)"));
    }
    let mut names: Vec<_> = stub.asked().into_iter().map(|question| question.name).collect();
    names.dedup();
    assert_eq!(names, ["internal.", "allowed.test.", "a_b.allowed.test.", "_x.allowed.test.", "xn--bcher-kva.test."]);
}

#[tokio::test]
async fn b06_hosts_come_first_and_the_hosts_file_never() {
    let stub = Stub::start(|_| Act::Code(ResponseCode::NXDomain)).await;
    let hosts =
        HashMap::from([(dns("allowed.test"), vec!["127.0.0.1".parse().expect("ip")]), (dns("empty.test"), vec![])]);
    let settings = Settings {
        servers: vec![stub.address],
        named_in: NamedIn::Configuration,
        hosts,
        timeout: Duration::from_secs(5),
    };
    let resolver = Resolver::new(&settings);
    assert_eq!(resolver.resolve(&dns("allowed.test")).await, Ok(ips(&["127.0.0.1"])));
    assert!(resolver.resolve(&dns("empty.test")).await.is_err());
    assert_eq!(stub.asked(), []);
    let own = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    if let Ok(own) = DnsName::parse(own.trim().as_bytes()) {
        assert!(resolver.resolve(&own).await.is_err(), "{own} is in /etc/hosts, which must not be read");
    }
}

#[test]
fn b06_only_the_nameserver_lines_of_resolv_conf_count() {
    let text = "# nameserver 192.0.2.1\nsearch city.test\ndomain city.test\nnameserver 10.0.0.53\noptions ndots:9\n\
        nameserver fe80::1%eth0\n  nameserver\tfd00::53  extra\nnameserver 10.0.0.54\nnameserver 10.0.0.55\nnameserver\n";
    let expected = ["10.0.0.53:53", "[fd00::53]:53", "10.0.0.54:53"].map(|text| text.parse().expect(text));
    assert_eq!(nameservers(text), expected);
}

#[tokio::test]
async fn no_server_at_all_is_an_error_of_its_own() {
    let servers = Arc::new(Servers { list: vec![], preferred: AtomicUsize::new(0), timeout: Duration::from_secs(5) });
    let (answer, keep) = servers.ask(dns("allowed.test")).await;
    assert_eq!(answer, Err(ResolveError::NoServer { name: dns("allowed.test") }));
    assert_eq!(keep, Keep::Not);
}

#[tokio::test]
async fn both_families_ipv6_first_and_only_records_of_the_name() {
    let (answer, _) = one(|question| {
        Act::Records(match question.family {
            RecordType::A => vec![
                a("elsewhere.test.", "192.0.2.66"),
                a("allowed.test.", "192.0.2.1"),
                a("ALLOWED.test.", "192.0.2.1"),
                a("allowed.test.", "192.0.2.2"),
            ],
            _ => vec![aaaa("allowed.test.", "2001:db8::1")],
        })
    })
    .await;
    assert_eq!(answer, Ok(ips(&["2001:db8::1", "192.0.2.1", "192.0.2.2"])));
}

#[tokio::test]
async fn b05_a_huge_answer_by_tcp_gives_a_bounded_number_of_addresses() {
    let (answer, _) = one(|question| match question.tcp {
        false => Act::Truncate,
        true => only_v4(
            question,
            (0..2_000).map(|n| a("allowed.test.", &format!("192.0.{}.{}", n / 256, n % 256))).collect(),
        ),
    })
    .await;
    assert_eq!(answer.expect("addresses").len(), 8);
}

#[tokio::test]
async fn b05_cnames_are_followed_within_and_across_answers() {
    let (answer, _) = one(|question| {
        only_v4(
            question,
            vec![cname("allowed.test.", "cdn.test."), a("cdn.test.", "192.0.2.7"), a("x.test.", "192.0.2.8")],
        )
    })
    .await;
    assert_eq!(answer, Ok(ips(&["192.0.2.7"])));

    let (answer, asked) = one(|question| match question.name.as_str() {
        "allowed.test." => Act::Records(vec![cname("allowed.test.", "cdn.test.")]),
        _ => only_v4(question, vec![a("cdn.test.", "192.0.2.9")]),
    })
    .await;
    assert_eq!(answer, Ok(ips(&["192.0.2.9"])));
    assert!(asked.iter().any(|question| question.name == "cdn.test."));
}

#[tokio::test]
async fn b05_a_cname_loop_ends_in_a_bounded_number_of_questions() {
    let (answer, asked) = one(|question| match question.name.as_str() {
        "allowed.test." => Act::Records(vec![cname("allowed.test.", "loop.test.")]),
        _ => Act::Records(vec![cname("loop.test.", "allowed.test.")]),
    })
    .await;
    assert_eq!(answer.expect_err("a loop").reason(), Reason::DnsFailed);
    assert!(asked.len() <= 32, "{} questions", asked.len());
}

#[tokio::test]
async fn b05_answers_without_addresses() {
    for (script, expected) in [
        ((|_| Act::Records(vec![])) as Script, "has no address: the name exists and has neither A nor AAAA records"),
        (|_| Act::Code(ResponseCode::NXDomain), "has no address: the name does not exist (NXDOMAIN)"),
        (|_| Act::Code(ResponseCode::ServFail), "it answered \"Server Failure\""),
        (|_| Act::Code(ResponseCode::Refused), "it answered \"Query Refused\""),
        (|_| Act::Truncate, "could not be looked up"),
    ] {
        let (answer, _) = one(script).await;
        let error = answer.expect_err(expected);
        assert_eq!(error.reason(), Reason::DnsFailed);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn b05_one_family_failing_does_not_spoil_the_other() {
    let v4: Script = |question| match question.family {
        RecordType::A => Act::Records(vec![a("allowed.test.", "192.0.2.1")]),
        _ => Act::Code(ResponseCode::ServFail),
    };
    let v6: Script = |question| match question.family {
        RecordType::A => Act::Code(ResponseCode::NXDomain),
        _ => Act::Records(vec![aaaa("allowed.test.", "2001:db8::1")]),
    };
    let silent_v6: Script = |question| match question.family {
        RecordType::A => Act::Records(vec![a("allowed.test.", "192.0.2.1")]),
        _ => Act::Silence,
    };
    assert_eq!(one(v4).await.0, Ok(ips(&["192.0.2.1"])));
    assert_eq!(one(v6).await.0, Ok(ips(&["2001:db8::1"])));
    assert_eq!(one(silent_v6).await.0, Ok(ips(&["192.0.2.1"])));
}

#[tokio::test]
async fn b05_truncated_is_asked_again_by_tcp() {
    let (answer, asked) = one(|question| match question.tcp {
        false => Act::Truncate,
        true => only_v4(question, vec![a("allowed.test.", "192.0.2.3")]),
    })
    .await;
    assert_eq!(answer, Ok(ips(&["192.0.2.3"])));
    assert!(asked.iter().any(|question| question.tcp));
}

#[tokio::test]
async fn b05_a_wrong_transaction_id_is_ignored() {
    let (answer, _) = one(|question| match question.family {
        RecordType::A => Act::ForgeFirst(vec![a("allowed.test.", "192.0.2.4")]),
        _ => Act::Records(vec![]),
    })
    .await;
    assert_eq!(answer, Ok(ips(&["192.0.2.4"])));
}

#[tokio::test]
async fn b05_silence_ends_at_the_timeout() {
    let stub = Stub::start(|_| Act::Silence).await;
    let settings = Settings {
        servers: vec![stub.address],
        named_in: NamedIn::Configuration,
        hosts: HashMap::new(),
        timeout: Duration::from_millis(300),
    };
    let before = std::time::Instant::now();
    let error = Resolver::new(&settings).resolve(&dns("allowed.test")).await.expect_err("silence");
    assert_eq!(error.reason(), Reason::DnsTimeout);
    assert!(error.to_string().starts_with("no answer for allowed.test within 300ms from 127.0.0.1:"), "{error}");
    assert!(before.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_refuses_or_is_dead_and_then_first() {
    let refusing = Stub::start(|_| Act::Code(ResponseCode::Refused)).await;
    let good =
        Stub::start(|question| only_v4(question, vec![a("allowed.test.", "192.0.2.5"), a("b.test.", "192.0.2.6")]))
            .await;
    let resolver = resolver(vec![refusing.address, good.address]);
    assert_eq!(resolver.resolve(&dns("allowed.test")).await, Ok(ips(&["192.0.2.5"])));
    let before = refusing.asked().len();
    assert_eq!(resolver.resolve(&dns("b.test")).await, Ok(ips(&["192.0.2.6"])));
    assert_eq!(refusing.asked().len(), before, "the server that answered is asked first");
}

#[tokio::test]
async fn b02_an_answer_is_kept_for_its_time_and_asked_for_once() {
    let stub = Stub::start(|question| only_v4(question, vec![a("allowed.test.", "192.0.2.1")])).await;
    let resolver = Arc::new(resolver(vec![stub.address]));
    let askers: Vec<_> = (0..16)
        .map(|_| {
            let resolver = Arc::clone(&resolver);
            tokio::spawn(async move { resolver.resolve(&dns("allowed.test")).await })
        })
        .collect();
    for asker in askers {
        assert_eq!(asker.await.expect("asker"), Ok(ips(&["192.0.2.1"])));
    }
    assert_eq!(stub.asked().len(), 2, "one A and one AAAA");
}

#[tokio::test]
async fn b02_times_to_live_are_clamped() {
    let stub = Stub::start(|question| {
        let owner = question.name.as_str();
        let ttl = if owner == "zero.test." { 0 } else { 1_000_000 };
        let record = Record::from_rdata(name(owner), ttl, RData::A(A([192, 0, 2, 1].into())));
        match (owner, question.family) {
            ("none.test.", _) => Act::Code(ResponseCode::NXDomain),
            ("half.test.", RecordType::AAAA) => Act::Code(ResponseCode::ServFail),
            ("fail.test.", _) => Act::Code(ResponseCode::ServFail),
            _ => only_v4(question, vec![record]),
        }
    })
    .await;
    let resolver = resolver(vec![stub.address]);
    for (text, seconds) in
        [("zero.test", 1), ("long.test", 3_600), ("half.test", 30), ("none.test", 5), ("fail.test", 1)]
    {
        let before = Instant::now();
        let (_, keep) = resolver.servers.ask(dns(text)).await;
        let (Keep::Until(until) | Keep::IfNoneHeld(until)) = keep else { panic!("{text} is not kept") };
        let latest = Instant::now() + Duration::from_secs(seconds);
        assert!(until >= before + Duration::from_secs(seconds) && until <= latest, "{text}: {:?}", until - before);
    }
}
