//! Only the name server under the test's control belongs here: UDP and TCP on one port, every query logged.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What the server says to one name.
#[derive(Debug, Clone)]
pub enum Says {
    /// Those of the family that was asked for.
    Addresses(Vec<&'static str>),
    /// An alias, with nothing behind it.
    Alias(&'static str),
    /// NOERROR without an answer.
    Nothing,
    NxDomain,
    ServFail,
    /// No answer at all.
    Silence,
    /// The addresses, so much later. UDP only.
    Later(Duration, Vec<&'static str>),
    /// Over UDP only "truncated"; over TCP the addresses.
    OverTcp(Vec<&'static str>),
    /// An answer with another transaction id.
    WrongId(Vec<&'static str>),
}

pub struct Dns {
    addr: SocketAddr,
    queries: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

type Script = Arc<dyn Fn(&str) -> Says + Send + Sync>;

const A: u16 = 1;
const AAAA: u16 = 28;
const CNAME: u16 = 5;

impl Dns {
    pub async fn answering(script: impl Fn(&str) -> Says + Send + Sync + 'static) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("bound")).await {
                break (udp, tcp);
            }
        };
        Self::on(udp, tcp, script)
    }

    /// At this address.
    pub async fn at(addr: SocketAddr, script: impl Fn(&str) -> Says + Send + Sync + 'static) -> Self {
        let tcp = TcpListener::bind(addr).await.expect("nobody else's");
        Self::on(UdpSocket::bind(addr).await.expect("nobody else's"), tcp, script)
    }

    fn on(udp: UdpSocket, tcp: TcpListener, script: impl Fn(&str) -> Says + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        let addr = udp.local_addr().expect("bound");
        let queries = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&script), Arc::clone(&queries)));
        tasks.spawn(serve_tcp(tcp, script, Arc::clone(&queries)));
        Self { addr, queries, _tasks: tasks }
    }

    /// As `resolver.servers` has it.
    pub fn servers(&self) -> String {
        format!("[\"{}\"]", self.addr)
    }

    /// Every name that was asked for, in order, once for each question.
    pub fn queries(&self) -> Vec<String> {
        self.queries.lock().expect("queries").clone()
    }
}

async fn serve_udp(socket: UdpSocket, script: Script, queries: Arc<Mutex<Vec<String>>>) {
    let socket = Arc::new(socket);
    let mut later = JoinSet::new();
    let mut buffer = [0; 4096];
    loop {
        let Ok((n, peer)) = socket.recv_from(&mut buffer).await else { return };
        let Some((answer, delay)) = answer(&buffer[..n], &script, &queries, true) else { continue };
        if delay.is_zero() {
            let _ = socket.send_to(&answer, peer).await;
            continue;
        }
        let socket = Arc::clone(&socket);
        later.spawn(async move {
            sleep(delay).await;
            let _ = socket.send_to(&answer, peer).await;
        });
    }
}

async fn serve_tcp(listener: TcpListener, script: Script, queries: Arc<Mutex<Vec<String>>>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let (script, queries) = (Arc::clone(&script), Arc::clone(&queries));
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut query = vec![0; usize::from(length)];
                if stream.read_exact(&mut query).await.is_err() {
                    return;
                }
                if let Some((answer, _)) = answer(&query, &script, &queries, false) {
                    let length = u16::try_from(answer.len()).expect("short").to_be_bytes();
                    let _ = stream.write_all(&[&length[..], &answer].concat()).await;
                }
            }
        });
    }
}

/// The answer to one query message (RFC 1035 section 4), and how long it takes.
fn answer(query: &[u8], script: &Script, queries: &Mutex<Vec<String>>, udp: bool) -> Option<(Vec<u8>, Duration)> {
    let mut at = 12;
    let mut labels = Vec::new();
    while *query.get(at)? != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let question = query.get(12..at + 5)?;
    let name = labels.join(".");
    queries.lock().expect("queries").push(name.clone());
    let said = script(&name);
    let mut id = [query[0], query[1]];
    let (mut rcode, mut truncated, mut answers): (u8, bool, Vec<Vec<u8>>) = (0, false, Vec::new());
    let mut delay = Duration::ZERO;
    match said {
        Says::Addresses(list) => answers = addresses(&list, kind),
        Says::Alias(target) => answers = vec![resource(CNAME, &encoded(target))],
        Says::Nothing => {}
        Says::NxDomain => rcode = 3,
        Says::ServFail => rcode = 2,
        Says::Silence => return None,
        Says::Later(long, list) => {
            delay = long;
            answers = addresses(&list, kind);
        }
        Says::OverTcp(_) if udp => truncated = true,
        Says::OverTcp(list) => answers = addresses(&list, kind),
        Says::WrongId(list) => {
            id[0] ^= 0x55;
            answers = addresses(&list, kind);
        }
    }
    let flags = [0x81 | if truncated { 2 } else { 0 }, 0x80 | rcode];
    let count = u16::try_from(answers.len()).expect("few").to_be_bytes();
    let header = [id[0], id[1], flags[0], flags[1], 0, 1, count[0], count[1], 0, 0, 0, 0];
    Some(([&header[..], question, &answers.concat()].concat(), delay))
}

fn addresses(list: &[&str], kind: u16) -> Vec<Vec<u8>> {
    list.iter()
        .filter_map(|text| match (kind, text.parse::<IpAddr>().expect("an address")) {
            (A, IpAddr::V4(ip)) => Some(resource(A, &ip.octets())),
            (AAAA, IpAddr::V6(ip)) => Some(resource(AAAA, &ip.octets())),
            _ => None,
        })
        .collect()
}

/// One resource record for the question's name, with a TTL of 0.
fn resource(kind: u16, data: &[u8]) -> Vec<u8> {
    let (kind, length) = (kind.to_be_bytes(), u16::try_from(data.len()).expect("short").to_be_bytes());
    [&[0xc0, 12][..], &kind, &[0, 1, 0, 0, 0, 0], &length, data].concat()
}

fn encoded(name: &str) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).expect("short"));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}
