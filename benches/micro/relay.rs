//! The tunnel's relay between two TCP connections of this process over loopback. The far ends are in the figures too.

use std::sync::Arc;
use std::time::Duration;

use sekisho::admit::Subjects;
use sekisho::pressure::Memory;
use sekisho::tunnel::{Counters, Half, Settings, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::Work;
use crate::ruling::runtime;

/// Far beyond any measurement.
const IDLE: Duration = Duration::from_secs(3600);

/// A relay under way, and the two ends that speak over it.
struct Ends {
    runtime: Runtime,
    client: TcpStream,
    upstream: TcpStream,
}

fn ends() -> Ends {
    let runtime = runtime();
    let ((near_client, client), (near_upstream, upstream)) = runtime.block_on(async { (pair().await, pair().await) });
    runtime.spawn(async move {
        let settings = Settings { idle: IDLE, half_closed: IDLE };
        let (counters, subjects) = (Counters::default(), Subjects::unlimited());
        let memory = Arc::new(Memory::new(0));
        let halves = (Half::default(), Half::default());
        Tunnel::new((&near_client, &near_upstream), halves, &counters, &subjects, &memory).copy(&settings).await
    });
    Ends { runtime, client, upstream }
}

/// Two ends of one TCP connection.
#[expect(clippy::disallowed_methods, reason = "the bench is client and destination")]
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("addr");
    let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(addr));
    let (ours, theirs) = (ours.expect("accept").0, theirs.expect("connect"));
    ours.set_nodelay(true).expect("nodelay");
    theirs.set_nodelay(true).expect("nodelay");
    (ours, theirs)
}

/// A small request, and an answer of its size.
pub fn kibibyte_and_back() -> Work {
    let Ends { runtime, mut client, mut upstream } = ends();
    Box::new(move |times| {
        let mut message = [7; 1024];
        runtime.block_on(async {
            for _ in 0..times {
                client.write_all(&message).await.expect("write");
                upstream.read_exact(&mut message).await.expect("read");
                upstream.write_all(&message).await.expect("write");
                client.read_exact(&mut message).await.expect("read");
            }
        });
    })
}

/// Downwards.
pub fn mebibyte() -> Work {
    let Ends { runtime, mut client, mut upstream } = ends();
    Box::new(move |times| {
        let content = vec![7; 1 << 20];
        let mut got = vec![0; 1 << 20];
        runtime.block_on(async {
            for _ in 0..times {
                let (written, read) = tokio::join!(upstream.write_all(&content), client.read_exact(&mut got));
                written.and(read.map(|_| ())).expect("the relay carries it");
            }
        });
    })
}
