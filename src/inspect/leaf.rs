//! One `rustls::ServerConfig` per name and application protocol, made when first asked for and kept while it is asked for.
//!
//! Everything here is per name, so that nothing of one name can be resumed under another (D14): the leaf, and the key that
//! seals session tickets. Bounded (H06): [`CAPACITY`] names that were asked for more than once, and [`NEWCOMERS`] that were not, the
//! least recently used of each goes first. So a flood of names that nobody asks for again pushes out none of those in use, and takes
//! less than 3 MiB. Measured, a name takes 4.5 KiB with one protocol and 5.5 KiB with all three.
//!
//! A leaf is made under the lock of its name: others who want the same name wait those 50 µs (or for the minting process's answer)
//! instead of making it again, others who want another name do not wait.
//!
//! What is kept outlives reloads. Each leaf says which CA it is of, and none but that of the CA in use at the moment is served: with
//! another CA, after a reload or on the day that one takes over, every leaf and every ticket key is made anew when it is next asked for.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use lru::LruCache;
use rustls::compress::CompressionCache;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig};
use rustls::sign::SingleCertAndKey;

use super::issuer::{Issuer, Leaf, MintError};
use crate::admit::Refused;
use crate::locks::Mutex;
use crate::names::DnsName;
use crate::tls;

/// How many names are kept that were asked for more than once.
pub const CAPACITY: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not zero");
/// How many are kept that were asked for once.
pub const NEWCOMERS: NonZeroUsize = NonZeroUsize::new(512).expect("512 is not zero");

/// The application protocol to be agreed with the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    H2,
    Http11,
}

impl Alpn {
    /// The protocol's identifier (RFC 7301 section 6, RFC 9113 section 3.2).
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::H2 => b"h2",
            Self::Http11 => b"http/1.1",
        }
    }
}

/// Why there is nothing to answer a client with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    #[error(transparent)]
    Mint(#[from] MintError),
    /// Nobody has asked for the name lately, and making a leaf for it was not permitted.
    #[error("no leaf was made for the name: {0}")]
    Limited(Refused),
}

/// Leave that was asked for before anything was done for a connection. It holds once.
#[derive(Debug)]
pub struct Leave(AtomicBool);

impl Leave {
    /// Whether there is leave for a leaf; where not, it is to be asked for.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// What is kept, and the CA that makes what is not.
pub struct LeafCache {
    issuer: Arc<Issuer>,
    provider: Arc<CryptoProvider>,
    names: Arc<Mutex<Names>>,
}

struct Names {
    newcomers: LruCache<DnsName, Entry>,
    known: LruCache<DnsName, Entry>,
}

type Entry = Arc<tokio::sync::Mutex<Option<Served>>>;

/// Whether it was asked for leave to make a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Already,
    NotYet,
}

/// What is kept for a name.
struct Served {
    leaf: Leaf,
    ticketer: Arc<dyn ProducesTickets>,
    h2: Option<Arc<ServerConfig>>,
    http11: Option<Arc<ServerConfig>>,
    no_alpn: Option<Arc<ServerConfig>>,
}

impl LeafCache {
    /// An empty cache of `capacity` names that are asked for again, and of `newcomers`.
    pub fn new(issuer: Arc<Issuer>, capacity: NonZeroUsize, newcomers: NonZeroUsize) -> Self {
        let provider = tls::provider();
        let names = Names { newcomers: LruCache::new(newcomers), known: LruCache::sparse(capacity) };
        Self { issuer, provider, names: Arc::new(Mutex::new(names)) }
    }

    /// What is kept here, with another issuer.
    #[must_use]
    pub fn with(&self, issuer: Arc<Issuer>) -> Self {
        Self { issuer, provider: Arc::clone(&self.provider), names: Arc::clone(&self.names) }
    }

    /// How many names are kept at the moment.
    pub fn len(&self) -> usize {
        let names = self.names.lock();
        names.newcomers.len() + names.known.len()
    }

    /// Whether no name is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Leave to make a leaf for `name`, if one has to be made; nothing is made or kept yet.
    ///
    /// # Errors
    /// Whatever `may_mint` says.
    pub fn leave(&self, name: &DnsName, may_mint: impl Fn() -> Result<(), Refused>) -> Result<Leave, Refused> {
        let names = self.names.lock();
        if names.newcomers.contains(name) || names.known.contains(name) {
            return Ok(Leave(false.into()));
        }
        drop(names);
        may_mint().map(|()| Leave(true.into()))
    }

    /// The configuration to answer a client with that wants `name`: TLS 1.2 and 1.3, `alpn` and no other protocol (none:
    /// no ALPN at all), no early data, no client certificates, and the one leaf whatever the client's server_name says.
    ///
    /// `now` is the wall clock. A leaf is renewed when half of its life is over; connections with the old one go on. `may_mint`
    /// is asked once where a leaf has to be made, and before a name that is kept makes room for it (H06).
    ///
    /// # Errors
    /// [`LeafError`].
    pub async fn server_config(
        &self,
        name: &DnsName,
        alpn: Option<Alpn>,
        now: SystemTime,
        may_mint: impl Fn() -> Result<(), Refused>,
    ) -> Result<Arc<ServerConfig>, LeafError> {
        let (entry, asked) = self.entry(name, &may_mint).map_err(LeafError::Limited)?;
        let mut slot = entry.lock().await;
        let served = match slot.take().filter(|served| self.is_fresh(&served.leaf, now)) {
            Some(served) => slot.insert(served),
            None => {
                if asked == Asked::NotYet {
                    may_mint().map_err(LeafError::Limited)?;
                }
                slot.insert(self.serve(name, now).await?)
            }
        };
        let place = match alpn {
            Some(Alpn::H2) => &mut served.h2,
            Some(Alpn::Http11) => &mut served.http11,
            None => &mut served.no_alpn,
        };
        if let Some(config) = place {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(configure(&self.provider, &served.leaf, &served.ticketer, alpn)?);
        *place = Some(Arc::clone(&config));
        Ok(config)
    }

    /// The place of `name`, made under the lock, so that only the first who wants it has to ask.
    fn entry(&self, name: &DnsName, may_mint: impl Fn() -> Result<(), Refused>) -> Result<(Entry, Asked), Refused> {
        let mut names = self.names.lock();
        if let Some(entry) = names.get(name) {
            return Ok((entry, Asked::NotYet));
        }
        may_mint()?;
        Ok((Arc::clone(names.newcomers.get_or_insert_ref(name, Arc::default)), Asked::Already))
    }

    async fn serve(&self, name: &DnsName, now: SystemTime) -> Result<Served, MintError> {
        let leaf = self.issuer.issue(name, now).await?;
        let ticketer = Ticketer::new().map_err(|error| MintError::Signing(error.to_string()))?;
        Ok(Served { leaf, ticketer, h2: None, http11: None, no_alpn: None })
    }

    /// Of the CA in use, and in the first half of its life; not before it either, where the clock was set back.
    fn is_fresh(&self, leaf: &Leaf, now: SystemTime) -> bool {
        let ca = self.issuer.in_use(now);
        let life = leaf.not_after.duration_since(leaf.not_before).unwrap_or_default();
        (Arc::ptr_eq(ca, &leaf.ca) || ca.der == leaf.ca.der)
            && now.duration_since(leaf.not_before).is_ok_and(|age| age < life / 2)
    }
}

impl Names {
    /// One that was asked for before; from now on it is no newcomer.
    fn get(&mut self, name: &DnsName) -> Option<Entry> {
        if let Some((name, entry)) = self.newcomers.pop_entry(name) {
            self.known.put(name, entry);
        }
        self.known.get(name).map(Arc::clone)
    }
}

fn configure(
    provider: &Arc<CryptoProvider>,
    leaf: &Leaf,
    ticketer: &Arc<dyn ProducesTickets>,
    alpn: Option<Alpn>,
) -> Result<ServerConfig, MintError> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| MintError::Signing(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&leaf.certified_key))));
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
    // Tickets are kept by the client: the default store would reserve room for 256 sessions a name.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::clone(ticketer);
    // Each costs a sealing and a record, and one is enough to come back with: that connection brings the next.
    config.send_tls13_tickets = 1;
    // Ours, as the list of the client is not about what costs us.
    config.ignore_client_order = true;
    config.max_early_data_size = 0;
    config.cert_compression_cache = Arc::new(CompressionCache::Disabled);
    Ok(config)
}

#[cfg(test)]
mod tests;
