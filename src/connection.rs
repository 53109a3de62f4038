//! THE SPINE: one connection's journey, phase by phase, in the order they run.
//!
//! [`serve`] holds the client's connection: admit, then one attempt after the other. Of a balancer's connection it is first read whose it is. `drive` is one attempt. It forks once, on
//! the type of the permit; each phase takes what only the phase before can make, so that none can be left out. No phase calls
//! another: only this file knows them all.

mod announce;
mod ending;
mod front;
mod gate;
mod moving;
mod observance;
mod plain;
mod protocols;
mod relay;
mod relaying;
mod sessions;
mod trip;
mod tunnelling;

use tokio::net::TcpStream;

use self::ending::{Ended, Next};
use self::front::Waiting;
pub use self::front::{PassedOver, pass_over};
pub use self::gate::{Gate, Live, Present};
pub use self::moving::{Handed, Mover, ON_THE_WAY, Parcel, ParcelError, Resumed, serve_moved};
pub use self::observance::Observance;
pub use self::sessions::{Session, Wanted, Whom};
use self::trip::{Claimed, Ready, Trip, Way};
use crate::addrs::{BalancerAddr, ClientAddr, ListenAddr, OriginalAddr};
use crate::admit::Admission;
use crate::client::{Client, Unannounced};
use crate::policy::{reconcile_inspect, reconcile_tunnel};

/// Serves one accepted connection to its end. Everything it holds is given back when this returns or is dropped.
///
/// What it is given is made one value before the future begins, which would keep the parts beside it.
pub fn serve(present: Present, stream: TcpStream, addr: ClientAddr, listener: ListenAddr) -> impl Future<Output = ()> {
    serve_client(present, Client::new(stream, addr, listener))
}

/// The same for a connection that the network steered here, on its way to `original`.
pub fn serve_steered(
    present: Present,
    stream: TcpStream,
    addr: ClientAddr,
    listener: ListenAddr,
    original: OriginalAddr,
) -> impl Future<Output = ()> {
    serve_client(present, Client::steered(stream, addr, listener, original))
}

/// The same for a connection that a balancer passes on: its first octets say whose it is, and only then there is a client. `original` is
/// present on a transparent listener.
pub fn serve_balanced(
    present: Present,
    stream: TcpStream,
    by: BalancerAddr,
    listener: ListenAddr,
    original: Option<OriginalAddr>,
) -> impl Future<Output = ()> {
    let unannounced = Unannounced::new(stream, by, listener, original);
    async move {
        let announced = Box::pin(announce::announce(present.gate(), unannounced)).await;
        if let Some(client) = announced {
            Box::pin(serve_client(present, client)).await;
        }
    }
}

fn serve_client(present: Present, client: Client) -> impl Future<Output = ()> {
    let mut client = client;
    async move {
        let gate = present.gate();
        let (admission, newcomer) = match gate.admit(&client) {
            Ok(admitted) => admitted,
            Err(why) => return Box::pin(front::turn_away(gate, client, why)).await,
        };
        let mut waiting = Waiting::new(gate, newcomer);
        loop {
            let claim = Box::pin(Trip::claim(gate, &mut client, &admission, &mut waiting));
            let Some((mut trip, claimed)) = claim.await else { break };
            let ending = trip.relaying().ended_before_it(gate.drain());
            let driven = tokio::select! {
                biased;
                driven = drive(&mut trip, claimed, &mut client, &admission) => driven,
                reason = ending => Err(trip.cut(reason)),
            };
            let next = match driven {
                Ok(next) => next,
                Err(ended) => Box::pin(trip.refuse(ended, &mut client)).await,
            };
            match next {
                Next::Request if gate.drain().is_leaving() || waiting.is_over() => break,
                Next::Request => {}
                Next::Close => break,
                Next::Abort => return client.abort(),
                Next::Moved => return,
            }
        }
        client.close().await;
    }
}

/// One attempt, from what was claimed to the end of the relay. What does not last a tunnel's life is boxed, as the connection's task holds
/// room for the largest of it.
async fn drive(
    trip: &mut Trip,
    claimed: Box<Claimed>,
    client: &mut Client,
    admitted: &Admission,
) -> Result<Next, Ended> {
    let arrived = Box::pin(journey(trip, *claimed, client, admitted)).await?;
    let ready = match arrived {
        Arrived::Tunnel(ready) => ready,
        Arrived::Over(next) => return Ok(next),
    };
    trip.tunnel(ready, client).await
}

/// Where a journey ends.
enum Arrived {
    Tunnel(Box<Ready>),
    Over(Next),
}

/// All of an attempt but a tunnel's relay. Each way is one future, of which a connection holds its own alone.
async fn journey(
    trip: &mut Trip,
    claimed: Claimed,
    client: &mut Client,
    admitted: &Admission,
) -> Result<Arrived, Ended> {
    let asked = claimed?;
    let way = trip.decide(asked)?;
    let visit = trip.visit(&way, admitted)?;
    match way {
        Way::Tunnel(permit) => {
            let agreeing = Box::pin(async {
                let connection = trip.dial(permit.destination(), &visit).await?;
                let upstream = trip.verify(permit.destination(), connection).await?;
                let hello = trip.hello(client).await?;
                let agreed = reconcile_tunnel(permit, &hello.sni)?;
                Ok(Arrived::Tunnel(Box::new(Ready::new(agreed, upstream, visit))))
            });
            agreeing.await
        }
        Way::Inspect(permit) => {
            let inspecting = Box::pin(async {
                let _room = trip.room()?;
                let hello = trip.hello(client).await?;
                let agreed = reconcile_inspect(permit, &hello.sni)?;
                let leave = trip.leave_to_mint(agreed.destination(), &visit)?;
                let upstream = match Box::pin(trip.dial(agreed.destination(), &visit)).await {
                    Ok(connection) => Box::pin(trip.handshake(agreed.destination(), connection, &hello)).await,
                    Err(ended) => Err(ended),
                };
                match upstream {
                    Ok(upstream) => trip.inspect(agreed, client, &hello, upstream, (&visit, &leave)).await,
                    Err(ended) => Box::pin(trip.page(agreed, client, &hello, ended, (&visit, &leave))).await,
                }
            });
            inspecting.await.map(Arrived::Over)
        }
        Way::Plain(permit, head) => {
            let forwarding = Box::pin(async {
                let connection = trip.dial(permit.destination(), &visit).await?;
                trip.plain(permit, &head, client, connection, &visit).await
            });
            forwarding.await.map(Arrived::Over)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::admit::Visit;
    use crate::client::Prefixed;
    use crate::forward::Leg;
    use crate::identify::client_hello::ClientHello;
    use crate::inspect::leaf::Leave;
    use crate::inspect::scope::Scope;
    use crate::inspect::{h1, h2};
    use crate::policy::{Agreed, Inspect};
    use crate::upstream::verify::VerifiedUpstream;

    /// A connection's task holds its future for as long as a tunnel is idle; what is large and does not last is boxed. Both bounds are size
    /// classes of jemalloc.
    #[test]
    fn the_future_of_a_connection_is_small() {
        fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(serve) <= 1024, "{}", size(serve));
        assert!(size_of::<Trip>() <= 768, "{}", size_of::<Trip>());
    }

    /// What an inspected connection holds beside its two TLS sessions while nothing is asked.
    #[test]
    fn the_futures_of_an_inspected_connection_are_small() {
        type Near = Box<tokio_rustls::server::TlsStream<Prefixed>>;
        type Far = Box<tokio_rustls::client::TlsStream<TcpStream>>;
        fn of_inspect<T, C, H, V, F>(_: fn(T, Agreed<Inspect>, C, H, VerifiedUpstream<Inspect>, V) -> F) -> usize {
            size_of::<F>()
        }
        fn of_h1<S, F>(_: fn(S, Leg<Near>, Leg<Far>, Duration) -> F) -> usize {
            size_of::<F>()
        }
        fn of_h2<F>(_: fn(Arc<Scope>, Near, h2::Upstream, Duration) -> F) -> usize {
            size_of::<F>()
        }
        let inspect = of_inspect::<
            &'static mut Trip,
            &'static mut Client,
            &'static ClientHello,
            (&'static Visit, &'static Leave),
            _,
        >(Trip::inspect);
        assert!(inspect <= 1024, "{inspect}");
        let of_h1 = of_h1::<&'static Scope, _>(h1::run);
        assert!(of_h1 <= 3328, "{of_h1}");
        let of_h2 = of_h2(h2::run);
        assert!(of_h2 <= 2560, "{of_h2}");
    }
}
