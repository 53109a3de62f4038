//! The way to a destination: its name is resolved, every address is vetted, one is connected to, its certificate is verified.
//!
//! | file | makes |
//! |---|---|
//! | [`resolve`] (with `dns`) | addresses, from static hosts and DNS servers |
//! | [`vet`] | [`vet::VettedAddr`]: this very address may be dialled |
//! | [`connect`] (with `race`) | [`connect::Connection`]: the only dialling in the program |
//! | [`trust`] (with `revocation`, [`system`]) | [`trust::Trust`]: roots, CRLs, versions, sessions to be resumed |
//! | [`verify`] (with `handshake`, `verifier`, `profile`, [`certificate`]) | [`verify::VerifiedUpstream`]: the certificate fits the destination's name |
//!
//! No decision of policy is made here, and the destination never changes: [`dial`] takes what policy permitted.

pub mod certificate;
pub mod connect;
mod dns;
mod handshake;
mod judged;
mod profile;
mod race;
pub mod resolve;
mod revocation;
pub mod system;
#[cfg(test)]
mod testing;
pub mod trust;
mod verifier;
pub mod verify;
pub mod vet;

use crate::addrs::UpstreamAddr;
use crate::admit::{Refused, Slots};
use crate::policy::Destination;
use crate::reason::Reason;

/// Why a destination was not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    #[error("the name was not looked up: {0}")]
    Limited(Refused),
    #[error(transparent)]
    Resolve(#[from] resolve::ResolveError),
    #[error(transparent)]
    Vet(#[from] vet::VetError),
    #[error(transparent)]
    Connect(#[from] connect::ConnectError),
}

impl DialError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Limited(refused) => refused.reason(),
            Self::Resolve(error) => error.reason(),
            Self::Vet(error) => error.reason(),
            Self::Connect(error) => error.reason(),
        }
    }
}

impl DialError {
    /// The address that was tried last, where any was.
    pub fn tried(&self) -> Option<UpstreamAddr> {
        match self {
            Self::Limited(_) | Self::Resolve(_) | Self::Vet(_) => None,
            Self::Connect(error) => error.tried(),
        }
    }
}

/// One look-up, one judgement, one race: what was vetted is what is dialled (threats.md B02). A name whose addresses are not at
/// hand is looked up with the leave of `look_up`, whose slots are held meanwhile (H11).
///
/// # Errors
/// [`DialError`], at the latest when the times for DNS and for connecting are over.
pub async fn dial(
    destination: &Destination,
    resolver: &resolve::Resolver,
    look_up: impl FnOnce() -> Result<Slots, Refused>,
    guard: &vet::Settings,
    dialling: &connect::Settings,
    selves: &vet::SelfAddrs,
) -> Result<connect::Connection, DialError> {
    let name = destination.name();
    let slots = if resolver.knows(name) { None } else { Some(look_up().map_err(DialError::Limited)?) };
    let answers = resolver.resolve(name).await?;
    drop(slots);
    let vetted = vet::vet(name, &answers, destination.port(), guard, selves)?;
    Ok(connect::connect(name, vetted, dialling, selves).await?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::addrs::ListenAddr;
    use testing::{dialling, name, serve};

    /// A resolver that knows one name.
    fn knowing(addresses: &[&str]) -> resolve::Resolver {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().expect(text)).collect();
        let hosts = HashMap::from([(name("allowed.test"), addresses)]);
        resolve::Resolver::new(&resolve::Settings {
            servers: vec![],
            named_in: resolve::NamedIn::Configuration,
            hosts,
            timeout: Duration::from_secs(5),
        })
    }

    /// A static answer is no look-up.
    fn at_hand() -> Result<Slots, Refused> {
        panic!("nothing has to be looked up")
    }

    fn guard(allow: &[&str]) -> vet::Settings {
        vet::Settings {
            allow: allow.iter().map(|net| net.parse().expect(net)).collect(),
            nat64: vec![],
            stand_in: None,
        }
    }

    #[tokio::test]
    async fn b01_static_hosts_pass_the_guard_like_any_answer() {
        let port = serve(|_| async {}).await.port();
        let destination = Destination::new(name("allowed.test"), port);
        let (resolver, selves) = (knowing(&["127.0.0.1"]), vet::SelfAddrs::default());
        let refused =
            dial(&destination, &resolver, at_hand, &guard(&[]), &dialling(), &selves).await.expect_err("refused");
        assert_eq!(refused.reason(), Reason::AddressDenied);
        let allowed = dial(&destination, &resolver, at_hand, &guard(&["127.0.0.0/8"]), &dialling(), &selves).await;
        assert_eq!(allowed.expect("connected").address().port(), port);
        let own = vet::SelfAddrs::new(vec![ListenAddr::new(([0, 0, 0, 0], port).into())]);
        let refused = dial(&destination, &resolver, at_hand, &guard(&["127.0.0.0/8"]), &dialling(), &own).await.err();
        assert_eq!(refused.expect("self").reason(), Reason::SelfConnection);
    }

    #[tokio::test]
    async fn b03_b04_the_dropped_address_is_not_tried_though_it_would_answer() {
        let open = serve(|_| async {}).await;
        // 127.0.0.2 is allowed and refuses; 127.0.0.1 would accept and is not allowed.
        let destination = Destination::new(name("allowed.test"), open.port());
        let resolver = knowing(&["127.0.0.1", "127.0.0.2"]);
        let selves = vet::SelfAddrs::default();
        let error = dial(&destination, &resolver, at_hand, &guard(&["127.0.0.2/32"]), &dialling(), &selves).await.err();
        let error = error.expect("refused");
        assert_eq!(error.reason(), Reason::ConnectFailed);
        assert!(!error.to_string().contains("127.0.0.1:"), "{error}");
    }
}
