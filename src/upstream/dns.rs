//! One DNS server asked for one name's A and AAAA records, through hickory. What is kept and which server is asked next is
//! decided in `resolve`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::select;
use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioRuntimeProvider};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::timeout;

use crate::sockets::is_beyond;

/// Addresses taken of each family; a name with more is served by any of them.
const MAX_ADDRESSES: usize = 8;
const MAX_CNAMES: usize = 16;
/// How long the slower of A and AAAA is waited for once the other has brought addresses (the idea of RFC 8305 section 3; longer
/// than its 50 ms, because here the answer is kept and shared).
const RESOLUTION_DELAY: Duration = Duration::from_millis(250);

const TTL: RangeInclusive<u32> = 1..=3_600;
const NEGATIVE_TTL: RangeInclusive<u32> = 5..=30;
/// An answer of one family, the other having failed, is asked for again soon.
const PARTIAL_TTL: u32 = 30;

/// What a server says about a name; `ttl` in seconds, within the bounds above.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Never empty; IPv6 before IPv4, each in the server's order.
    Addresses {
        addresses: Vec<IpAddr>,
        ttl: u32,
    },
    NoName {
        ttl: u32,
    },
    NoAddress {
        ttl: u32,
    },
}

/// A server and the hickory resolver that asks it and only it. One for each server: hickory takes a SERVFAIL or REFUSED of any
/// server for the final answer, and an administrator who names two means the second to be asked then, as glibc does.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    hickory: Resolver<Sockets>,
}

impl Server {
    pub(super) fn new(address: SocketAddr, timeout: Duration) -> Result<Self, NetError> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        let server = NameServerConfig::new(address.ip(), true, connections.into());
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut options = ResolverOpts::default();
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        // The look-up as a whole is cut by `resolve`; hickory's own limit must not come first and look like a failure.
        options.timeout = timeout.saturating_mul(2);
        options.attempts = 0;
        options.num_concurrent_reqs = 1;
        // Needed to tell the addresses of this name from whatever else an answer carries.
        options.preserve_intermediates = true;
        let builder = Resolver::builder_with_config(config, Sockets::default());
        Ok(Self { address, hickory: builder.with_options(options).build()? })
    }

    /// Asks for both families at once.
    ///
    /// # Errors
    /// What went wrong, for an administrator: another server may know more.
    pub(super) async fn ask(&self, name: &Name) -> Result<Found, String> {
        let v4 = std::pin::pin!(self.half(name, RecordType::A));
        let v6 = std::pin::pin!(self.half(name, RecordType::AAAA));
        let (first, slower) = select(v4, v6).await.factor_first();
        let second = match &first {
            Half::Addresses(..) => timeout(RESOLUTION_DELAY, slower).await.unwrap_or(Half::Failed("no answer".into())),
            // NXDOMAIN speaks of both families, but some load balancers say it of AAAA alone (RFC 4074 section 4.2).
            Half::NoName(_) | Half::Nothing(_) | Half::Failed(_) => slower.await,
        };
        first.with(second).map_err(|failure| format!("{}: {failure}", self.address))
    }

    async fn half(&self, name: &Name, family: RecordType) -> Half {
        match self.hickory.lookup(name.clone(), family).await {
            Ok(lookup) => Half::read(name, &lookup),
            Err(NetError::Dns(DnsError::NoRecordsFound(negative))) => {
                let ttl = clamp(negative.negative_ttl.unwrap_or(0), &NEGATIVE_TTL);
                let no_name = negative.response_code == ResponseCode::NXDomain;
                if no_name { Half::NoName(ttl) } else { Half::Nothing(ttl) }
            }
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Half::Failed(format!("it answered \"{code}\"")),
            Err(NetError::Timeout) => Half::Failed("no answer".into()),
            Err(other) => Half::Failed(other.to_string()),
        }
    }
}

/// tokio's sockets, as far as they are none of the descriptors that are kept free: clients choose how many names are asked for.
#[derive(Clone, Default)]
struct Sockets(TokioRuntimeProvider);

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

fn none_kept(socket: &impl AsRawFd) -> io::Result<()> {
    if is_beyond(socket) { Err(rustix::io::Errno::MFILE.into()) } else { Ok(()) }
}

impl RuntimeProvider for Sockets {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = <TokioRuntimeProvider as RuntimeProvider>::Udp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        let connecting = self.0.connect_tcp(server, bind, timeout);
        Box::pin(async move {
            let stream = connecting.await?;
            none_kept(&stream.0)?;
            Ok(stream)
        })
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        let binding = self.0.bind_udp(local, server);
        Box::pin(async move {
            let socket = binding.await?;
            none_kept(&socket)?;
            Ok(socket)
        })
    }
}

/// The answer for one family.
enum Half {
    Addresses(Vec<IpAddr>, u32),
    NoName(u32),
    Nothing(u32),
    Failed(String),
}

impl Half {
    /// The addresses `name` has in the answer, by itself or by its CNAMEs; records of other owners are not for us.
    fn read(name: &Name, lookup: &Lookup) -> Self {
        let mut owners = vec![name];
        let mut ttl = *TTL.end();
        for _ in 0..MAX_CNAMES {
            let next = lookup.answers().iter().find_map(|record| match &record.data {
                RData::CNAME(target) if owners.last() == Some(&&record.name) => Some((&target.0, record.ttl)),
                _ => None,
            });
            let Some((target, cname_ttl)) = next.filter(|(target, _)| !owners.contains(target)) else { break };
            owners.push(target);
            ttl = ttl.min(cname_ttl);
        }
        let mut addresses = Vec::new();
        for record in lookup.answers().iter().filter(|record| owners.contains(&&record.name)) {
            let address = match &record.data {
                RData::A(v4) => IpAddr::V4(v4.0),
                RData::AAAA(v6) => IpAddr::V6(v6.0),
                _ => continue,
            };
            ttl = ttl.min(record.ttl);
            if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            Self::Nothing(*NEGATIVE_TTL.start())
        } else {
            Self::Addresses(addresses, clamp(ttl, &TTL))
        }
    }

    /// One family's failure does not spoil the other's addresses.
    fn with(self, other: Self) -> Result<Found, String> {
        match (self, other) {
            (Self::Addresses(mut addresses, a), Self::Addresses(more, b)) => {
                addresses.extend(more);
                addresses.sort_by_key(IpAddr::is_ipv4);
                Ok(Found::Addresses { addresses, ttl: a.min(b) })
            }
            (Self::Addresses(addresses, ttl), Self::Failed(_)) | (Self::Failed(_), Self::Addresses(addresses, ttl)) => {
                Ok(Found::Addresses { addresses, ttl: ttl.min(PARTIAL_TTL) })
            }
            (Self::Addresses(addresses, ttl), Self::Nothing(_) | Self::NoName(_))
            | (Self::Nothing(_) | Self::NoName(_), Self::Addresses(addresses, ttl)) => {
                Ok(Found::Addresses { addresses, ttl })
            }
            (Self::NoName(ttl), Self::NoName(_) | Self::Nothing(_) | Self::Failed(_))
            | (Self::Nothing(_) | Self::Failed(_), Self::NoName(ttl)) => Ok(Found::NoName { ttl }),
            (Self::Nothing(a), Self::Nothing(b)) => Ok(Found::NoAddress { ttl: a.min(b) }),
            (Self::Failed(failure), Self::Nothing(_) | Self::Failed(_)) | (Self::Nothing(_), Self::Failed(failure)) => {
                Err(failure)
            }
        }
    }
}

fn clamp(ttl: u32, bounds: &RangeInclusive<u32>) -> u32 {
    ttl.clamp(*bounds.start(), *bounds.end())
}
