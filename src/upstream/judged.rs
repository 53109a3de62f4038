//! Chains that were found good for a name, remembered for as long as that finding cannot change.
//!
//! A verdict follows from the chain, the name, the trust and the time. The trust is fixed in a verifier; of the time only ends
//! matter, of a certificate or a CRL, and up to the next of them the same chain is good again. So a server whose chain has been
//! verified costs a hash instead of the signatures above it, in every handshake and for every session resumed; that the server
//! holds the key is proven in its handshake all the same.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use lru::LruCache;
use rustls_pki_types::{CertificateDer, ServerName};

use super::certificate::Certificate;
use crate::locks::Mutex;

/// Chains remembered, some 300 octets each.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(2_048).expect("not zero");

/// A chain and a name, by their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Asked([u8; SHA256_OUTPUT_LEN]);

impl Asked {
    pub(super) fn of<'a>(chain: impl Iterator<Item = &'a CertificateDer<'a>>, name: &ServerName<'_>) -> Self {
        let mut context = Context::new(&SHA256);
        let mut part = |octets: &[u8]| {
            context.update(&octets.len().to_be_bytes());
            context.update(octets);
        };
        part(name.to_str().as_bytes());
        chain.for_each(|der| part(der));
        let mut digest = [0; SHA256_OUTPUT_LEN];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }
}

#[derive(Debug)]
struct Good {
    certificate: Arc<Certificate>,
    found: SystemTime,
    until: SystemTime,
}

#[derive(Debug)]
pub(super) struct Judged(Mutex<LruCache<Asked, Good>>);

impl Default for Judged {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(CAPACITY)))
    }
}

impl Judged {
    /// What was found, if it holds at `now`. A clock that was set back makes it ask again.
    pub(super) fn recall(&self, asked: &Asked, now: SystemTime) -> Option<Arc<Certificate>> {
        let mut kept = self.0.lock();
        let good = kept.get(asked)?;
        (good.found <= now && now < good.until).then(|| Arc::clone(&good.certificate))
    }

    /// That the chain is good from `now` up to `until`.
    pub(super) fn remember(&self, asked: Asked, certificate: &Arc<Certificate>, now: SystemTime, until: SystemTime) {
        let good = Good { certificate: Arc::clone(certificate), found: now, until };
        self.0.lock().put(asked, good);
    }
}
