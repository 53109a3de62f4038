//! Only what goes wrong between the proxy and an origin belongs here: a relay on loopback whose fault a scene chooses and changes.

use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::Origin;
use super::client::{Wire, connect};
use super::sekisho::free_port;

/// What becomes of the connections that come while it is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nobody listens.
    Refused,
    /// Nothing answers a SYN.
    BlackHole,
    /// Accepted and read, and never answered.
    Silent,
    Cut(At, End),
    /// Everything the origin says comes so much later.
    Late(Duration),
    /// What the origin says comes octet for octet, each so much later than the one before.
    Dribbled(Duration),
    /// The origin's octet of this number, from 0, is another.
    Corrupt(u64),
}

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Accept,
    /// When the ClientHello, or the beginning of it, is there.
    Hello,
    /// Behind so many octets of the origin's.
    Octets(u64),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// FIN.
    Close,
    /// RST.
    Reset,
}

/// The relay, on a port of its own for as long as it lives.
pub struct Faulty {
    addr: SocketAddr,
    line: Arc<Line>,
    listening: Listening,
}

struct Line {
    origin: SocketAddr,
    fault: Mutex<Fault>,
    /// Told to every open connection.
    cut: watch::Sender<Option<End>>,
}

enum Listening {
    Nobody,
    Serving(JoinHandle<()>),
    /// A queue with no room, and what fills it.
    Full(
        #[expect(dead_code, reason = "held")] Listener<Socket>,
        #[expect(dead_code, reason = "held")] Vec<Wire<TcpStream>>,
    ),
}

impl Faulty {
    /// A line to `origin` on which nothing is wrong yet.
    pub async fn before(origin: &Origin) -> Self {
        let addr = SocketAddr::new("127.0.0.1".parse().expect("an address"), free_port("127.0.0.1"));
        let origin = SocketAddr::new(addr.ip(), origin.port());
        let line = Line { origin, fault: Mutex::new(Fault::None), cut: watch::Sender::new(None) };
        let mut faulty = Self { addr, line: Arc::new(line), listening: Listening::Nobody };
        faulty.now(Fault::None).await;
        faulty
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    pub fn at(&self, host: &str) -> String {
        format!("{host}:{}", self.port())
    }

    /// From here on new connections meet this. Those that are open go on as they began.
    pub async fn now(&mut self, fault: Fault) {
        if let Listening::Serving(task) = std::mem::replace(&mut self.listening, Listening::Nobody) {
            task.abort();
            let _ = task.await;
        }
        *self.line.fault.lock().expect("fault") = fault;
        self.listening = match fault {
            Fault::Refused => Listening::Nobody,
            Fault::BlackHole => full(self.addr).await,
            _ => {
                let listener = Listener(TcpListener::bind(self.addr).await.expect("the port is ours"));
                Listening::Serving(tokio::spawn(accept(listener, Arc::clone(&self.line))))
            }
        };
    }

    /// Ends every connection that is open.
    pub fn cut(&self, end: End) {
        self.line.cut.send_replace(Some(end));
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if let Listening::Serving(task) = &self.listening {
            task.abort();
        }
    }
}

/// Two connections fill a backlog of none; a SYN past them gets no answer.
async fn full(addr: SocketAddr) -> Listening {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.bind(&addr.into()).expect("the port is ours");
    socket.listen(0).expect("listening");
    let mut held = Vec::new();
    while let Ok(Ok(wire)) = timeout(Duration::from_millis(300), connect(addr)).await {
        held.push(wire);
    }
    Listening::Full(Listener(socket), held)
}

/// Listens no longer once it is dropped, even where a process that is just begun in another scene has it too until it runs its program.
struct Listener<S: AsFd>(S);

impl<S: AsFd> Drop for Listener<S> {
    fn drop(&mut self) {
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

async fn accept(listener: Listener<TcpListener>, line: Arc<Line>) {
    loop {
        let Ok((stream, _)) = listener.0.accept().await else { return };
        let fault = *line.fault.lock().expect("fault");
        tokio::spawn(connection(stream, fault, Arc::clone(&line)));
    }
}

async fn connection(mut near: TcpStream, fault: Fault, line: Arc<Line>) {
    let _ = near.set_nodelay(true);
    let mut cut = line.cut.subscribe();
    let end = tokio::select! {
        end = relayed(&mut near, fault, line.origin) => end,
        _ = cut.changed() => cut.borrow().unwrap_or(End::Close),
    };
    if end == End::Reset {
        let _ = SockRef::from(&near).set_linger(Some(Duration::ZERO));
    }
}

/// How the client's end is to end.
async fn relayed(near: &mut TcpStream, fault: Fault, origin: SocketAddr) -> End {
    if let Fault::Cut(At::Accept, end) = fault {
        return end;
    }
    let mut first = vec![0; 16 * 1024];
    let Ok(read @ 1..) = near.read(&mut first).await else { return End::Close };
    match fault {
        Fault::Cut(At::Hello, end) => return end,
        Fault::Silent => {
            while matches!(near.read(&mut first).await, Ok(1..)) {}
            return End::Close;
        }
        _ => {}
    }
    let Ok(far) = connect(origin).await else { return End::Close };
    let mut far = far.io;
    if far.write_all(&first[..read]).await.is_err() {
        return End::Close;
    }
    let ((from_near, to_near), (from_far, to_far)) = (near.split(), far.split());
    let mut up = std::pin::pin!(up(from_near, to_far));
    let mut down = std::pin::pin!(down(from_far, to_near, fault));
    tokio::select! {
        // A client that has said all may still be told something.
        () = &mut up => down.await,
        end = &mut down => end,
    }
}

async fn up(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

async fn down(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, fault: Fault) -> End {
    let mut buffer = vec![0; 16 * 1024];
    let mut passed = 0_u64;
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return End::Close };
        let chunk = &mut buffer[..read];
        let sent = match fault {
            Fault::Cut(At::Octets(last), end) if passed + read as u64 >= last => {
                let left = usize::try_from(last - passed).expect("less than a buffer");
                let _ = to.write_all(&chunk[..left]).await;
                return end;
            }
            Fault::Late(pause) => {
                sleep(pause).await;
                to.write_all(chunk).await
            }
            Fault::Dribbled(pause) => dribbled(&mut to, chunk, pause).await,
            Fault::Corrupt(at) if (passed..passed + read as u64).contains(&at) => {
                chunk[usize::try_from(at - passed).expect("less than a buffer")] ^= 0x55;
                to.write_all(chunk).await
            }
            _ => to.write_all(chunk).await,
        };
        if sent.is_err() {
            return End::Close;
        }
        passed += read as u64;
    }
}

async fn dribbled(to: &mut WriteHalf<'_>, octets: &[u8], pause: Duration) -> std::io::Result<()> {
    for octet in octets {
        sleep(pause).await;
        to.write_all(&[*octet]).await?;
    }
    Ok(())
}
