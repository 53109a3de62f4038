//! An upstream's HTTP/2 connection, from the handshake to its SETTINGS.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};

use super::h2_fault::is_flood;
use super::h2_frames::{Streams, Watched};
use super::h2_settings::{self as settings, BEFORE_SETTINGS, ExtendedConnect};
use crate::reason::Reason;

/// Why an upstream that agreed to `h2` cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("the upstream agreed to h2 and closed before its SETTINGS; check whether it is healthy")]
    Closed,
    #[error("the upstream agreed to h2 and broke off before its SETTINGS: {0}")]
    Broken(h2::Error),
    #[error("the upstream agreed to h2 and speaks something else: {0}")]
    Malformed(h2::Error),
}

impl UpstreamError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Closed | Self::Broken(_) => Reason::UpstreamClosed,
            Self::Malformed(_) => Reason::UpstreamMalformed,
        }
    }
}

pub type Driver = Pin<Box<dyn Future<Output = Result<(), h2::Error>> + Send>>;

/// An upstream connection whose SETTINGS have arrived.
pub struct Upstream {
    pub requests: SendRequest<Bytes>,
    pub driver: Driver,
    pub streams: Streams,
}

impl Upstream {
    /// Whether the upstream announced extended CONNECT (RFC 8441 section 3).
    pub fn extended_connect(&self) -> ExtendedConnect {
        if self.requests.is_extended_connect_protocol_enabled() {
            ExtendedConnect::Announced
        } else {
            ExtendedConnect::Absent
        }
    }
}

/// Speaks first to the upstream and waits until its SETTINGS have been applied. The caller puts a deadline round it.
///
/// # Errors
/// [`UpstreamError`].
pub async fn open_upstream<U>(io: U) -> Result<Upstream, UpstreamError>
where
    U: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: h2::Error| match error.is_io() && !is_flood(&error) {
        true => UpstreamError::Broken(error),
        false => UpstreamError::Malformed(error),
    };
    let streams = Streams::default();
    let io = Watched::upstream(io, streams.clone());
    let (requests, connection) = settings::client().handshake::<_, Bytes>(io).await.map_err(broken)?;
    let mut driver: Driver = Box::pin(connection);
    poll_fn(|cx| match driver.as_mut().poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(UpstreamError::Closed)),
        Poll::Ready(Err(error)) => Poll::Ready(Err(broken(error))),
        Poll::Pending if requests.current_max_send_streams() == BEFORE_SETTINGS => Poll::Pending,
        Poll::Pending => Poll::Ready(Ok(())),
    })
    .await?;
    Ok(Upstream { requests, driver, streams })
}
