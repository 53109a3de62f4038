//! A balancer's connection until it is known whose it is: before any limit, as there is nobody yet to count it with.
//!
//! No client can hold it there: a balancer sends its header as soon as it is connected, before a word of the client. So what comes from one
//! is bounded in number and time alone, and neither is spent by who has to be admitted.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::ending::{Ended, Stage};
use super::front::note_route;
use super::gate::Gate;
use super::trip::Trip;
use crate::client::{Client, Unannounced};
use crate::identify::proxy_protocol::Behind;
use crate::identify::{self, ProxyHeaderError};
use crate::pressure::{Newcomer, Shed};
use crate::reason::{Reason, Side};
use crate::record::Action;

/// Connections that wait for their header at a time: they hold descriptors outside of every limit (H05).
const UNANNOUNCED: usize = 256;

static WAITING: Semaphore = Semaphore::const_new(UNANNOUNCED);

/// The client, once its balancer has named it. `None`: the connection is over, and recorded where it was more than a check.
pub async fn announce(gate: &Arc<Gate>, mut connection: Unannounced) -> Option<Client> {
    let Ok(_place) = WAITING.try_acquire() else {
        return turn_away(gate, connection, "too many connections wait for the PROXY header of a balancer").await;
    };
    let Some(newcomer) = gate.pressure().newcomer() else {
        return turn_away(gate, connection, "there is no memory for one more connection of a balancer").await;
    };
    match header(gate, &mut connection, &newcomer).await {
        Ok((Behind::Client { source, destination }, octets)) => Some(connection.announce(octets, source, destination)),
        Ok((Behind::Nobody, 0)) => {
            gate.balancer_checked();
            None
        }
        Ok((Behind::Nobody, octets)) => Some(connection.own(octets)),
        Err(ended) => {
            let client = connection.own(0);
            record(gate, &client, &ended).await;
            client.close().await;
            None
        }
    }
}

async fn turn_away(gate: &Arc<Gate>, connection: Unannounced, why: &str) -> Option<Client> {
    gate.pressure().count(Shed::Connections);
    record(gate, &connection.own(0), &Ended::cut(Stage::Admit, Reason::Overloaded).because(why)).await;
    None
}

async fn header(gate: &Gate, connection: &mut Unannounced, newcomer: &Newcomer) -> Result<(Behind, usize), Ended> {
    tokio::select! {
        // What is there already is read first.
        biased;
        read = identify::proxy_header(connection) => read.map_err(|error| unreadable(&error)),
        () = gate.drain().draining() => Err(Ended::cut(Stage::Claim, Reason::ShuttingDown)),
        () = newcomer.ended() => Err(Ended::cut(Stage::Claim, Reason::Overloaded)),
    }
}

/// The balancer's doing, which is on the clients' side.
fn unreadable(error: &ProxyHeaderError) -> Ended {
    Ended::new(Side::Client, Stage::Claim, error.reason()).because(error).last()
}

/// Nobody is told: who would have been is not known.
async fn record(gate: &Arc<Gate>, client: &Client, ended: &Ended) {
    let mut trip = Trip::begin(gate, (client.addr(), client.listener()), None, Action::Connection).await;
    note_route(&mut trip.attempt.fields, client);
    trip.record_only(ended);
}
