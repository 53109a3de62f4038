//! What every TCP connection of ours has, a client's or an upstream's, a read that costs one system call, and the descriptors that
//! no connection may take. No protocol here.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// An idle connection is probed after this long at the earliest, and [`SPREAD`] later at the latest.
const KEEPALIVE: Duration = Duration::from_secs(45);
/// Seconds among which connections are spread. Thousands that fell idle in one moment (after a failover, in the morning) would
/// otherwise be probed in one, and a queue of the system takes a thousand packets at a time: of 9,000 tunnels that had
/// been opened within 4 s half were given up at the third probe (loopback, `net.core.netdev_max_backlog`).
const SPREAD: u32 = 60;
/// Between two probes. How often in vain is [`USER_TIMEOUT`]'s to say: where it is set the kernel counts no probes (tcp(7)).
const PROBES: Duration = Duration::from_secs(15);
/// RFC 5482: sent bytes that nobody acknowledges for this long end the connection, and so does a peer that has been silent for as long
/// and answers no probe; that takes five probes in vain at least.
const USER_TIMEOUT: Duration = Duration::from_secs(180);

/// Behind so long a time without one, an accept that fails is news.
const CALM: Duration = Duration::from_secs(10);

/// Descriptors at the top of the table, kept for the service itself.
const RESERVED: u64 = 64;

/// The first of them. The table is the process's, and so is this.
static RESERVED_FROM: AtomicU64 = AtomicU64::new(u64::MAX);

/// Ports on loopback that are this process's, for listeners that only itself connects to. Ports that a process may connect to have to be
/// known before it meets anybody (`restrict`), and the process has these whatever listens on them at the moment. The table of what a process
/// may do is the process's, and so is this.
static OWN_PORTS: OnceLock<Vec<u16>> = OnceLock::new();

/// Chooses so many of [`own_ports`], of which no two listeners of the moment have the same.
///
/// # Errors
/// No port, no descriptor.
pub fn choose_own_ports(count: usize) -> io::Result<()> {
    let open = |_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners: Vec<std::net::TcpListener> = (0..count).map(open).collect::<io::Result<_>>()?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<io::Result<_>>()?;
    // Whoever chose before has chosen.
    let _ = OWN_PORTS.set(ports);
    Ok(())
}

/// Empty: none were chosen, and every port will do.
pub fn own_ports() -> impl Iterator<Item = u16> {
    OWN_PORTS.get().into_iter().flatten().copied()
}

/// A listener on loopback, on one of [`own_ports`]; it belongs to no runtime yet.
///
/// # Errors
/// No port, no descriptor.
pub fn loopback_listener() -> io::Result<std::net::TcpListener> {
    let mut ports = own_ports().peekable();
    if ports.peek().is_none() {
        return std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    }
    let mut tried = Err(io::ErrorKind::AddrInUse.into());
    for port in ports {
        tried = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        if tried.is_ok() {
            break;
        }
    }
    tried
}

/// A connection from this process to itself, over loopback.
#[derive(Debug)]
pub struct LoopbackPair {
    pub client: TcpStream,
    /// Belongs to no runtime yet.
    pub accepted: std::net::TcpStream,
    /// Of the client's end.
    pub from: SocketAddr,
    /// Of the other.
    pub to: SocketAddr,
}

/// Its listener is there for no other, and for no longer than this.
///
/// # Errors
/// No port, no descriptor.
pub async fn loopback_pair() -> io::Result<LoopbackPair> {
    let listener = loopback_listener()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let to = listener.local_addr()?;
    #[expect(clippy::disallowed_methods, reason = "a client of the service's own, whose destination is this process")]
    let client = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    let from = client.local_addr()?;
    loop {
        let (accepted, peer) = listener.accept().await?;
        // Anybody on this machine may have been quicker, and is not served.
        if peer == from {
            tune(&SockRef::from(&accepted))?;
            return Ok(LoopbackPair { client, accepted: accepted.into_std()?, from, to });
        }
    }
}

/// How many descriptors are kept of `limit`.
pub fn reserved(limit: u64) -> u64 {
    RESERVED.min(limit / 8)
}

/// Keeps the top of a table of `limit` descriptors free, for the record, the admin listener and a reload.
pub fn reserve(limit: u64) {
    RESERVED_FROM.store(limit.saturating_sub(reserved(limit)), Ordering::Relaxed);
}

/// Whether this descriptor, just opened, is one of those that are kept free, and so has to be closed again. The system always
/// gives the lowest free number (POSIX.1, section 2.6 "File Descriptor Allocation"): as long as nothing that clients can make grow
/// keeps one of them, they are free, whatever is going on below, and no count can be late.
pub fn is_beyond(descriptor: &impl AsRawFd) -> bool {
    u64::try_from(descriptor.as_raw_fd()).is_ok_and(|number| number >= RESERVED_FROM.load(Ordering::Relaxed))
}

/// Sets it for a connection, or for a listener, whose connections inherit it: no delay, keep-alive probes, an end to
/// unacknowledged bytes.
///
/// # Errors
/// The system's, in practice only on a connection that is already gone.
pub fn tune(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&probes())?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Gives a connection that may be idle for long its own time for probes, where it has its listener's. That it is gone is for the next
/// read to say.
pub fn spread_probes(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_tcp_keepalive(&probes());
}

/// The next of the times in turn; neighbours lie far apart.
fn probes() -> TcpKeepalive {
    static TURN: AtomicU32 = AtomicU32::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let later = turn.wrapping_mul(37) % (SPREAD + 1);
    TcpKeepalive::new().with_time(KEEPALIVE + Duration::from_secs(later.into())).with_interval(PROBES)
}

/// Octets written and not yet sent, beyond which the system takes no more ([`bound_unsent`]).
const UNSENT: u32 = 128 * 1024;

/// Keeps what the peer does not take with us, where it is counted, instead of in the system's buffer, which grows to megabytes: a
/// slow reader buys less, and its pace shows as it is. Without this a full buffer is writable again only when a third of it has gone.
///
/// That it is not a TCP socket, or gone, is for the next write to say.
pub fn bound_unsent(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
}

/// Reads once; 0 is the end. What fills only a part of `buffer` was all there was, so the stream counts as not ready until the
/// system says otherwise, and no second read has to find that out. What arrives meanwhile is not missed: it is a new event.
///
/// # Errors
/// The socket's; `WouldBlock` where nothing is there.
pub fn receive(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut part = None;
    let room = buffer.len();
    let whole = stream.try_io(Interest::READABLE, || match recv(stream, &mut *buffer, RecvFlags::empty())?.1 {
        octets if 0 < octets && octets < room => {
            part = Some(octets);
            Err(io::ErrorKind::WouldBlock.into())
        }
        octets => Ok(octets),
    });
    part.map_or(whole, Ok)
}

/// Accepts that fail for one reason for a while: one that succeeds in between is not the end of it.
#[derive(Default)]
pub struct Failures {
    last: Option<Instant>,
}

impl Failures {
    /// One more. Whether none was there for a while, and it is to be told.
    pub fn are_new(&mut self) -> bool {
        let now = Instant::now();
        self.last.replace(now).is_none_or(|last| now.duration_since(last) >= CALM)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn h05_so_many_descriptors_are_kept_of_a_limit() {
        for (limit, kept) in [(0, 0), (7, 0), (8, 1), (200, 25), (256, 32), (511, 63), (512, 64), (20_000, 64)] {
            assert_eq!(reserved(limit), kept, "{limit}");
        }
        assert_eq!(reserved(u64::MAX), RESERVED);
    }

    #[tokio::test(start_paused = true)]
    async fn an_accept_that_fails_is_told_once_whatever_succeeds_in_between() {
        let mut failures = Failures::default();
        let mut told = Vec::new();
        for millis in [0, 50, 9_999, 9_999, 10_000, 50] {
            tokio::time::advance(Duration::from_millis(millis)).await;
            told.push(failures.are_new());
        }
        assert_eq!(told, [true, false, false, false, true, false]);
    }

    #[expect(clippy::disallowed_methods, reason = "the test is the destination")]
    async fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let addr = listener.local_addr().expect("addr");
        let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(addr));
        (ours.expect("accept").0, theirs.expect("connect"))
    }

    #[tokio::test]
    async fn connections_inherit_what_their_listener_has() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        tune(&SockRef::from(&listener)).expect("tuned");
        let (ours, _theirs) = pair(&listener).await;
        let ours = SockRef::from(&ours);
        assert!(ours.tcp_nodelay().expect("nodelay") && ours.keepalive().expect("keepalive"));
        assert!((45..=105).contains(&ours.tcp_keepalive_time().expect("time").as_secs()));
        assert_eq!(ours.tcp_keepalive_interval().expect("interval"), PROBES);
        assert_eq!(ours.tcp_user_timeout().expect("timeout"), Some(USER_TIMEOUT));
    }

    #[tokio::test]
    async fn n05_connections_that_fall_idle_together_are_not_probed_together() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let (ours, _theirs) = pair(&listener).await;
        let mut seen = std::collections::BTreeMap::<u64, u32>::new();
        for _ in 0..610 {
            spread_probes(&ours);
            *seen.entry(SockRef::from(&ours).tcp_keepalive_time().expect("time").as_secs()).or_default() += 1;
        }
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), (45..=105).collect::<Vec<_>>());
        // Other tests take turns too.
        assert!(seen.values().all(|times| *times <= 20), "{seen:?}");
        // The last begins early enough for five in vain.
        assert!(KEEPALIVE + Duration::from_secs(SPREAD.into()) + 5 * PROBES <= USER_TIMEOUT);
    }

    /// Octets `ours` takes for a peer that reads nothing.
    fn fill(ours: &TcpStream) -> usize {
        let block = vec![0; 16 * 1024];
        std::iter::from_fn(|| ours.try_write(&block).ok()).sum()
    }

    #[tokio::test]
    async fn h07_a_peer_that_does_not_read_holds_little_in_the_system() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let (ours, theirs) = pair(&listener).await;
        SockRef::from(&theirs).set_recv_buffer_size(64 * 1024).expect("a small buffer");
        ours.writable().await.expect("writable");
        bound_unsent(&ours);
        assert_eq!(SockRef::from(&ours).tcp_notsent_lowat().expect("set"), UNSENT);
        let taken = fill(&ours);
        assert!(taken < 512 * 1024, "{taken}");
    }

    #[tokio::test]
    async fn a_part_is_followed_by_what_comes_next_and_by_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let (ours, mut theirs) = pair(&listener).await;
        let mut buffer = [0; 8];
        for text in ["part", "12345678", "x"] {
            theirs.write_all(text.as_bytes()).await.expect("sent");
            ours.readable().await.expect("readable");
            assert_eq!(receive(&ours, &mut buffer).expect("read"), text.len());
            assert_eq!(&buffer[..text.len()], text.as_bytes());
        }
        assert_eq!(receive(&ours, &mut buffer).expect_err("nothing is there").kind(), io::ErrorKind::WouldBlock);
        theirs.write_all(b"last").await.expect("sent");
        drop(theirs);
        let mut rest = Vec::new();
        loop {
            ours.readable().await.expect("readable");
            match receive(&ours, &mut buffer) {
                Ok(0) => break,
                Ok(octets) => rest.extend_from_slice(&buffer[..octets]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(rest, b"last");
    }
}
