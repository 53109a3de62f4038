//! The loop of one listening socket: it takes connections up, or leaves them with a record, and never stops doing one or the other.

use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::addrs::{ClientAddr, ListenAddr, OriginalAddr};
use crate::config::{Listener, ListenerMode};
use crate::connection::{Gate, PassedOver, pass_over, serve, serve_balanced, serve_steered};
use crate::pressure::State;
use crate::sockets::{Failures, is_beyond};

/// Pause after an accept that failed for want of a descriptor or memory: the next one would fail as well.
const PAUSE_FAILED: Duration = Duration::from_millis(50);
/// Pause after a connection that was not taken up, in which the rest waits in the kernel's queue: that many refusals a second are
/// quick enough for who would try elsewhere, and cost a flooded thread nearly nothing.
const PAUSE_REFUSED: Duration = Duration::from_millis(1);

/// Connections taken up before those that are served get their turn again. Each is a task, and what a served connection does goes through
/// some six turns until it is a tunnel: in a flood each of them waits for this many others.
const AT_ONCE: u64 = 4;

pub(super) async fn accept(socket: TcpListener, listener: Listener, gate: Arc<Gate>) {
    let address = listener.address;
    let mut failures = Failures::default();
    for taken in 1_u64.. {
        if taken.is_multiple_of(AT_ONCE) {
            yield_now().await;
        }
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if failures.are_new() {
                    tracing::warn!(%address, %error, "accept failed, and is tried again 20 times a second");
                }
                gate.pressure().accept_failed();
                sleep(PAUSE_FAILED).await;
                continue;
            }
        };
        // Counted before it is spawned: a drain that begins now waits for it.
        let (present, client) = (gate.enter(), ClientAddr::new(peer));
        let original = match listener.mode {
            ListenerMode::Explicit => None,
            ListenerMode::Transparent(_) => Some(original(&stream, address)),
        };
        let balancer = gate.balancer(address, client);
        if gate.pressure().state() == State::Refusing || is_beyond(&stream) {
            drop(stream);
            // Waited for: while the record's queue is full, nobody is accepted. In a task: a drain that begins now leaves the record.
            let passed = PassedOver { client, listener: address, original, balancer };
            let _ = tokio::spawn(pass_over(present, passed)).await;
            sleep(PAUSE_REFUSED).await;
        } else {
            // Boxed: a task that is made, run and finished is moved as a whole each time.
            match (balancer, original) {
                (Some(by), _) => tokio::spawn(Box::pin(serve_balanced(present, stream, by, address, original))),
                (None, None) => tokio::spawn(Box::pin(serve(present, stream, client, address))),
                (None, Some(original)) => {
                    tokio::spawn(Box::pin(serve_steered(present, stream, client, address, original)))
                }
            };
        }
    }
}

/// What the client meant to connect to: what the kernel rewrote, or else what stands in the connection, as it does behind `tproxy`. Of
/// who connected to the listener itself that is the listener's address.
fn original(stream: &TcpStream, listener: ListenAddr) -> OriginalAddr {
    let socket = SockRef::from(stream);
    let rewritten = if listener.ip().is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let rewritten = rewritten.ok().and_then(|address| address.as_socket());
    OriginalAddr::new(rewritten.or_else(|| stream.local_addr().ok()).unwrap_or(listener.socket()))
}
