//! Reconcile: the hello's server_name must be the name the connection is permitted for, byte for byte (A01, A02).
//!
//! A difference is a denial, never an update: the destination stays what was decided. An absent server_name agrees only where
//! TLS ends here (D07): there the CONNECT authority is the name, and the origin is verified for it.
//! With Encrypted ClientHello what is compared is the outer name, the only one there is to see (D10).

use std::fmt;
use std::sync::Arc;

use super::decision::{Destination, Inspect, Permit, Tunnel};
use super::rule::Rule;
use crate::names::{DnsName, Sni};
use crate::reason::Reason;

/// The proof that claim and hello are for one name. Made only here; the relay asks for it.
#[derive(Debug)]
pub struct Agreed<M> {
    permit: Permit<M>,
}

impl<M> Agreed<M> {
    pub fn permit(&self) -> &Permit<M> {
        &self.permit
    }

    pub fn destination(&self) -> &Destination {
        self.permit.destination()
    }
}

/// What the hello named in place of the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Presented {
    Another(DnsName),
    Nothing,
}

/// A hello that is not for the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    presented: Presented,
    destination: Destination,
    rule: Rule,
    group: Arc<str>,
}

impl Disagreement {
    /// `name_mismatch` or `no_sni`.
    pub fn reason(&self) -> Reason {
        match self.presented {
            Presented::Another(_) => Reason::NameMismatch,
            Presented::Nothing => Reason::NoSni,
        }
    }

    /// The name that was claimed and decided on.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The name in the hello, where there is one.
    pub fn presented(&self) -> Option<&DnsName> {
        match &self.presented {
            Presented::Another(name) => Some(name),
            Presented::Nothing => None,
        }
    }

    /// The rule that permitted the destination.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The name of the client's group.
    pub fn group(&self) -> &Arc<str> {
        &self.group
    }

    fn new<M>(permit: &Permit<M>, presented: Presented) -> Self {
        Self {
            presented,
            destination: permit.destination().clone(),
            rule: permit.rule().clone(),
            group: Arc::clone(permit.group()),
        }
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { destination, .. } = self;
        match &self.presented {
            Presented::Another(name) => write!(f, "the hello names {name}, the connection is for {destination}"),
            Presented::Nothing => write!(f, "the hello names no server, the connection is for {destination}"),
        }
    }
}

impl std::error::Error for Disagreement {}

/// Compares the hello of a tunnel with what was permitted; here the hello must name a server.
///
/// # Errors
/// [`Disagreement`]: not one payload byte may move.
pub fn reconcile_tunnel(permit: Permit<Tunnel>, sni: &Sni) -> Result<Agreed<Tunnel>, Disagreement> {
    match sni {
        Sni::Name(name) => same_name(permit, name),
        Sni::Absent(_) => Err(Disagreement::new(&permit, Presented::Nothing)),
    }
}

/// Compares the hello of an inspected connection with what was permitted; a hello without server_name agrees.
///
/// # Errors
/// [`Disagreement`]: not one payload byte may move.
pub fn reconcile_inspect(permit: Permit<Inspect>, sni: &Sni) -> Result<Agreed<Inspect>, Disagreement> {
    match sni {
        Sni::Name(name) => same_name(permit, name),
        Sni::Absent(_) => Ok(Agreed { permit }),
    }
}

fn same_name<M>(permit: Permit<M>, name: &DnsName) -> Result<Agreed<M>, Disagreement> {
    if name == permit.destination().name() {
        return Ok(Agreed { permit });
    }
    Err(Disagreement::new(&permit, Presented::Another(name.clone())))
}
