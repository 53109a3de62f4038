//! Inspection: TLS ends here for the hosts the policy inspects; requests are judged one by one, tenant headers set on each.
//!
//! The upstream's handshake and verification come first, the client's last, so that no client ever sees a trusted leaf for an
//! origin that failed, except round a page of ours. Both legs speak the same protocol (ALPN is mirrored): nothing is
//! translated between HTTP versions, where most smuggling lives.

pub mod authority;
pub mod certificate;
pub mod constraints;
pub mod h1;
pub mod h2;
mod h2_allowance;
mod h2_boundaries;
mod h2_fault;
mod h2_frames;
mod h2_head;
mod h2_pump;
mod h2_settings;
mod h2_stream;
mod h2_upstream;
mod install;
pub mod issuer;
pub mod keyfile;
pub mod leaf;
pub mod minting;
pub mod page;
pub mod question;
#[cfg(test)]
mod scene;
pub mod scope;
pub mod show;
mod signing;
mod template;

use std::time::Duration;

use rustls::AlertDescription;

use crate::exchange::patience::Deadlines;
use crate::reason::{Reason, Side};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The client's TLS handshake with us.
    pub client_handshake: Duration,
    /// Of each exchange; an inspected connection on which nothing is asked has `idle` too.
    pub deadlines: Deadlines,
}

/// How an inspected connection ended, as distinct from its requests, each of which has its own record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub side: Side,
    /// `None`: it finished in order.
    pub reason: Option<Reason>,
}

/// Whether a client that sends `alert` finds fault with our leaf (RFC 8446 section 6.2), rather than with anything else.
pub fn rejects_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::UnsupportedCertificate
    )
}
