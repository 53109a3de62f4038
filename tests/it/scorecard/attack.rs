//! Only attacks belong here: each a task that goes on until it is stopped, from one address of the loopback, on a thread of its own.
//! They count what they try; that it fails is what they are for.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::support::Sekisho;
use super::super::support::client::{Tls, Wire};
use super::super::support::h2c::{frame, headers, preface};
use super::super::support::load_origin::LoadOrigin;
use super::{Length, machines};

/// Whom attacks are relayed to: an origin of their own, so that what it has to do for them keeps nobody else waiting.
pub const INSPECTED: &str = "inspected.attacked.test";
pub const TUNNELLED: &str = "tunnelled.attacked.test";
/// Where every attack but one comes from.
const ABUSER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// Where the flood of addresses comes from: all of the loopback but the first 65,536, of which the others are.
pub const MANY: [&str; 8] = [
    "127.1.0.0/16",
    "127.2.0.0/15",
    "127.4.0.0/14",
    "127.8.0.0/13",
    "127.16.0.0/12",
    "127.32.0.0/11",
    "127.64.0.0/10",
    "127.128.0.0/9",
];
/// So many are these.
const ADDRESSES: u64 = 0x00ff_0000;
/// Between two octets of those that are slow.
const SLOW: Duration = Duration::from_millis(500);
/// A connection that the packet filter drops is given up before this system tries it again, as a machine of the attacker's own would: the
/// retries of thousands at once come before everybody's work here.
const UNANSWERED: Duration = Duration::from_millis(50);
/// No attempt of an attacker waits longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the attackers know.
pub struct Field {
    proxy: SocketAddr,
    issuing: String,
    port: u16,
    connections: usize,
    /// Connections, and of HTTP/2 floods turns of up to 200 frames.
    pub tried: AtomicU64,
    /// What is different each time: a name, an address, a head.
    turn: AtomicU64,
}

/// The row of the attack that is a number of addresses.
const KEYS: &str = "H04";

type Run = fn(Arc<Field>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Attack {
    pub name: &'static str,
    /// Of the catalogue of attacks.
    pub rows: &'static str,
    run: Run,
}

pub const ATTACKS: &[Attack] = &[
    // A literal table.
    Attack { name: "connection flood", rows: "H03", run: |field| Box::pin(each(field, 16, connect_and_leave)) },
    Attack { name: "silent connections", rows: "H03, H05", run: |field| Box::pin(held(field, silent)) },
    Attack { name: "hello dribble", rows: "D05", run: |field| Box::pin(held(field, dribbled_hello)) },
    Attack { name: "handshake flood", rows: "D16", run: |field| Box::pin(each(field, 16, handshake)) },
    Attack { name: "slow heads", rows: "H02", run: |field| Box::pin(held(field, slow_head)) },
    Attack { name: "slow bodies", rows: "H02", run: |field| Box::pin(each(field, 100, slow_body)) },
    Attack { name: "slow readers", rows: "H02, H07", run: |field| Box::pin(each(field, 60, slow_read)) },
    Attack { name: "refused flood", rows: "H10", run: |field| Box::pin(each(field, 16, refused)) },
    Attack { name: "malformed heads", rows: "E01 to E11", run: |field| Box::pin(each(field, 8, malformed)) },
    Attack { name: "heads too large", rows: "H01", run: |field| Box::pin(each(field, 4, large_head)) },
    Attack { name: "rapid reset", rows: "F01", run: |field| Box::pin(each(field, 4, rapid_reset)) },
    Attack { name: "provoked resets", rows: "F02", run: |field| Box::pin(each(field, 4, made_you_reset)) },
    Attack { name: "CONTINUATION flood", rows: "F03", run: |field| Box::pin(each(field, 4, continuations)) },
    Attack { name: "PING and SETTINGS flood", rows: "F04", run: |field| Box::pin(each(field, 4, pings)) },
    Attack { name: "empty DATA flood", rows: "F05", run: |field| Box::pin(each(field, 4, empty_data)) },
    Attack { name: "HPACK bomb", rows: "F06", run: |field| Box::pin(each(field, 10, hpack_bomb)) },
    Attack { name: "window stall", rows: "F07, F10", run: |field| Box::pin(each(field, 20, zero_window)) },
    Attack { name: "mint flood", rows: "H06", run: |field| Box::pin(each(field, 8, mint)) },
    Attack { name: "limiter keys", rows: KEYS, run: |field| Box::pin(each(field, 8, another_address)) },
];

/// An attack under way.
pub struct Attacking {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Attack {
    /// How often it has to come, however long that takes; 0 where nobody asks for a number.
    pub fn times(&self, length: Length) -> u64 {
        if self.rows == KEYS { length.keys } else { 0 }
    }

    pub fn start(&self, field: &Arc<Field>) -> Attacking {
        let (stop, stopped) = oneshot::channel();
        let attack = (self.run)(Arc::clone(field));
        let thread = thread::spawn(move || {
            machines::give_way();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = attack => unreachable!("an attack goes on"),
                    _ = stopped => {}
                }
            });
        });
        Attacking { stop, thread }
    }
}

impl Attacking {
    /// Every connection of it is closed.
    pub fn stop(self) {
        let _ = self.stop.send(());
        self.thread.join().expect("the attack ran to its end");
    }
}

impl Field {
    pub fn new(sekisho: &Sekisho, origin: &LoadOrigin, connections: usize) -> Self {
        Self {
            proxy: sekisho.addr(),
            issuing: sekisho.ca(),
            port: origin.port,
            connections,
            tried: AtomicU64::new(0),
            turn: AtomicU64::new(0),
        }
    }

    fn tries(&self) {
        self.tried.fetch_add(1, Ordering::Relaxed);
    }

    fn next(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    #[expect(clippy::disallowed_methods, reason = "an attacker's destination is the proxy")]
    async fn connect(&self, from: Ipv4Addr) -> Option<TcpStream> {
        let socket = TcpSocket::new_v4().ok()?;
        // Small, so that what is not read soon stops who writes it.
        socket.set_recv_buffer_size(8 * 1024).ok()?;
        socket.bind(SocketAddr::new(from.into(), 0)).ok()?;
        timeout(UNANSWERED, socket.connect(self.proxy)).await.ok()?.ok()
    }

    async fn tunnel(&self, host: &str) -> Option<Wire<TcpStream>> {
        let mut wire = Wire::new(self.connect(ABUSER).await?);
        let head = format!("CONNECT {host}:{0} HTTP/1.1\r\nHost: {host}:{0}\r\n\r\n", self.port);
        timeout(PATIENCE, wire.try_send(head)).await.ok()?.ok()?;
        let answer = timeout(PATIENCE, wire.maybe_response("CONNECT")).await.ok()??;
        (answer.status == 200).then_some(wire)
    }

    async fn inspected(&self, alpn: &[&str]) -> Option<tokio_rustls::client::TlsStream<TcpStream>> {
        let wire = self.tunnel(INSPECTED).await?;
        let tls = Tls::named(INSPECTED).trusting(&self.issuing).alpn(alpn);
        Some(timeout(PATIENCE, tls.try_over(wire)).await.ok()?.ok()?.io)
    }
}

/// `attempt` again and again, so many at a time. One that was turned away does not spin on this machine's two processors.
async fn each<F>(field: Arc<Field>, at_a_time: usize, attempt: fn(Arc<Field>) -> F)
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    again_and_again(field, at_a_time, Duration::from_millis(1), attempt).await;
}

/// As many as an attacker holds, each begun anew when it was ended: a thousand attempts a second.
async fn held<F>(field: Arc<Field>, attempt: fn(Arc<Field>) -> F)
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    let at_a_time = field.connections;
    let pause = Duration::from_millis(at_a_time.try_into().expect("few"));
    again_and_again(field, at_a_time, pause, attempt).await;
}

async fn again_and_again<F>(field: Arc<Field>, at_a_time: usize, pause: Duration, attempt: fn(Arc<Field>) -> F)
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..at_a_time {
        let field = Arc::clone(&field);
        tasks.spawn(async move {
            // Not all in one moment.
            tokio::time::sleep(pause * u32::try_from(number).expect("few") / u32::try_from(at_a_time).expect("few"))
                .await;
            loop {
                field.tries();
                if attempt(Arc::clone(&field)).await.is_none() {
                    tokio::time::sleep(pause).await;
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Nobody waits for an answer: one that was dropped on the way keeps no attacker from the next.
async fn connect_and_leave(field: Arc<Field>) -> Option<()> {
    timeout(Duration::from_millis(1), field.connect(ABUSER)).await.ok().flatten().map(drop)
}

async fn silent(field: Arc<Field>) -> Option<()> {
    let mut stream = field.connect(ABUSER).await?;
    until_ended(&mut stream).await
}

async fn until_ended(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<()> {
    let mut buffer = [0; 1024];
    loop {
        if stream.read(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// One octet after the other, for as long as it is let.
async fn dribble(stream: &mut (impl AsyncWriteExt + Unpin), octets: impl IntoIterator<Item = u8>) -> Option<()> {
    for octet in octets {
        stream.write_all(&[octet]).await.ok()?;
        stream.flush().await.ok()?;
        tokio::time::sleep(SLOW).await;
    }
    Some(())
}

async fn dribbled_hello(field: Arc<Field>) -> Option<()> {
    let mut wire = field.tunnel(TUNNELLED).await?;
    // A record of a ClientHello that announces 16 MB.
    let hello = [22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff, 3, 3];
    dribble(&mut wire.io, hello.into_iter().chain(std::iter::repeat(0))).await
}

/// A whole handshake, and nothing behind it.
async fn handshake(field: Arc<Field>) -> Option<()> {
    field.inspected(&["http/1.1"]).await.map(drop)
}

async fn slow_head(field: Arc<Field>) -> Option<()> {
    let mut stream = field.connect(ABUSER).await?;
    stream.write_all(format!("CONNECT {TUNNELLED}:443 HTTP/1.1\r\nX-Slow: ").as_bytes()).await.ok()?;
    dribble(&mut stream, std::iter::repeat(b'x')).await
}

async fn slow_body(field: Arc<Field>) -> Option<()> {
    let mut stream = field.inspected(&["http/1.1"]).await?;
    let head = format!("POST /sink HTTP/1.1\r\nHost: {INSPECTED}:{}\r\nContent-Length: 1000000\r\n\r\n", field.port);
    stream.write_all(head.as_bytes()).await.ok()?;
    dribble(&mut stream, std::iter::repeat(b'x')).await
}

async fn slow_read(field: Arc<Field>) -> Option<()> {
    let mut stream = field.inspected(&["http/1.1"]).await?;
    let head = format!("GET /bytes/50000000 HTTP/1.1\r\nHost: {INSPECTED}:{}\r\n\r\n", field.port);
    stream.write_all(head.as_bytes()).await.ok()?;
    loop {
        if stream.read(&mut [0]).await.ok()? == 0 {
            return None;
        }
        tokio::time::sleep(SLOW).await;
    }
}

async fn ask(field: &Field, from: Ipv4Addr, head: &[u8]) -> Option<()> {
    let mut stream = field.connect(from).await?;
    stream.write_all(head).await.ok()?;
    let mut buffer = [0; 1024];
    match timeout(PATIENCE, stream.read(&mut buffer)).await.ok()?.ok()? {
        0 => None,
        _ => Some(()),
    }
}

async fn refused(field: Arc<Field>) -> Option<()> {
    let head = format!("CONNECT n{}.denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n", field.next());
    ask(&field, ABUSER, head.as_bytes()).await
}

async fn another_address(field: Arc<Field>) -> Option<()> {
    let [_, a, b, c] = u32::try_from(field.next() % ADDRESSES).ok()?.to_be_bytes();
    let from = Ipv4Addr::new(127, a + 1, b, c);
    ask(&field, from, b"CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await
}

const MALFORMED: [&[u8]; 12] = [
    b"CONNECT load.test:443 HTTP/1.1\r\nHost: load.test:443\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"CONNECT load.test:443 HTTP/1.1\nHost: load.test:443\n\n",
    b"CONNECT load.test:443 HTTP/1.1\r\nHost: load.test:443\r\n folded\r\n\r\n",
    b"CONNECT  load.test:443 HTTP/1.1\r\n\r\n",
    b"CONNECT load.test\0.denied.test:443 HTTP/1.1\r\n\r\n",
    b"CONNECT load.test:65979 HTTP/1.1\r\n\r\n",
    b"CONNECT [load.test]:443 HTTP/1.1\r\n\r\n",
    b"GET http://load.test@denied.test/ HTTP/1.1\r\nHost: load.test\r\n\r\n",
    b"GET http://load.test/ HTTP/1.1\r\nHost: load.test\r\nHost: denied.test\r\n\r\n",
    b"POST http://load.test/ HTTP/1.1\r\nHost: load.test\r\nContent-Length: +5\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

async fn malformed(field: Arc<Field>) -> Option<()> {
    let turn = usize::try_from(field.next()).ok()? % MALFORMED.len();
    ask(&field, ABUSER, MALFORMED[turn]).await
}

async fn large_head(field: Arc<Field>) -> Option<()> {
    let head = [b"CONNECT load.test:443 HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 1 << 20]].concat();
    ask(&field, ABUSER, &head).await
}

/// The origin's certificate has none of these names: each visit ends with the page that says so, for which the leaf is minted.
async fn mint(field: Arc<Field>) -> Option<()> {
    let name = format!("n{}.mint.test", field.next());
    let wire = field.tunnel(&name).await?;
    let tls = Tls::named(&name).trusting(&field.issuing);
    timeout(PATIENCE, tls.try_over(wire)).await.ok()?.ok().map(drop)
}

/// Made once: what an attacker computes is no part of what the proxy meets.
type Turns = OnceLock<Vec<Vec<u8>>>;

/// Far more than any connection lives to see.
const TURNS: u32 = 200;

/// Turn by turn on one HTTP/2 connection, whose answers are read and thrown away, until it is ended.
async fn flood(field: &Field, settings: &[u8], turns: &Turns, octets: impl FnMut(u32) -> Vec<u8>) -> Option<()> {
    let turns = turns.get_or_init(|| (0..TURNS).map(octets).collect());
    let stream = field.inspected(&["h2"]).await?;
    let (mut from, mut to) = tokio::io::split(stream);
    let sending = async {
        to.write_all(&preface()).await.ok()?;
        to.write_all(settings).await.ok()?;
        for turn in turns.iter().cycle() {
            field.tries();
            to.write_all(turn).await.ok()?;
            to.flush().await.ok()?;
            // The end is noticed at once: what is written behind it would burden this machine and nobody else.
            tokio::task::yield_now().await;
        }
        Some(())
    };
    tokio::select! {
        ended = sending => ended,
        ended = until_ended(&mut from) => ended,
    }
}

fn get(field: &Field, stream: u32, path: &str, ends: bool) -> Vec<u8> {
    let authority = format!("{INSPECTED}:{}", field.port);
    let method = if ends { "GET" } else { "POST" };
    headers(stream, ends, &[(":method", method), (":scheme", "https"), (":authority", &authority), (":path", path)])
}

const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

async fn rapid_reset(field: Arc<Field>) -> Option<()> {
    static TURNS: Turns = Turns::new();
    flood(&field, &[], &TURNS, |turn| {
        let streams = (0..50).map(|n| (turn * 50 + n) * 2 + 1);
        let pair =
            |stream| [get(&field, stream, "/", true), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat();
        streams.flat_map(pair).collect()
    })
    .await
}

/// A stream's window beyond its bound makes the other side reset the stream. (One of nothing ends the connection.)
async fn made_you_reset(field: Arc<Field>) -> Option<()> {
    static TURNS: Turns = Turns::new();
    flood(&field, &[], &TURNS, |turn| {
        let streams = (0..50).map(|n| (turn * 50 + n) * 2 + 1);
        let pair = |stream| {
            [get(&field, stream, "/", false), frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()
        };
        streams.flat_map(pair).collect()
    })
    .await
}

async fn continuations(field: Arc<Field>) -> Option<()> {
    static TURNS: Turns = Turns::new();
    flood(&field, &[], &TURNS, |turn| match turn {
        0 => frame(1, 0, 1, &[0x82]),
        _ => (0..100).flat_map(|_| frame(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b'])).collect(),
    })
    .await
}

async fn pings(field: Arc<Field>) -> Option<()> {
    let both = [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])].concat();
    static TURNS: Turns = Turns::new();
    flood(&field, &[], &TURNS, |_| both.repeat(100)).await
}

async fn empty_data(field: Arc<Field>) -> Option<()> {
    static TURNS: Turns = Turns::new();
    flood(&field, &[], &TURNS, |turn| match turn {
        0 => get(&field, 1, "/sink", false),
        _ => frame(0, 0, 1, &[]).repeat(200),
    })
    .await
}

/// One field of 4000 octets goes into the table, and is named some ten thousand times by one octet.
async fn hpack_bomb(field: Arc<Field>) -> Option<()> {
    static TURNS: Turns = Turns::new();
    flood(&field, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), &TURNS, |turn| {
        let stream = turn * 2 + 1;
        let mut block = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
        block.extend_from_slice(&[b'x'; 4000]);
        block.extend_from_slice(&[0xbe; 12_000]);
        frame(1, 0x4 | 0x1, stream, &block)
    })
    .await
}

/// As many streams as are let, no window for any answer, held.
async fn zero_window(field: Arc<Field>) -> Option<()> {
    let stream = field.inspected(&["h2"]).await?;
    let (mut from, mut to) = tokio::io::split(stream);
    to.write_all(&preface()).await.ok()?;
    to.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await.ok()?;
    for n in 0..100 {
        field.tries();
        to.write_all(&get(&field, n * 2 + 1, "/bytes/10000000", true)).await.ok()?;
    }
    to.flush().await.ok()?;
    until_ended(&mut from).await
}
