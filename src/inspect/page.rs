//! A page in the origin's place, over TLS: every request of a connection whose upstream failed gets the same answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, duplex};
use tokio::time::{Instant, timeout_at};

use super::leaf::Alpn;
use super::scope::{Facts, Scope};
use super::{h1, h2_settings};
use crate::forward::Leg;
use crate::reason::Reason;

/// Pages of one HTTP/2 connection before the client is asked to make another; a browser wants the page and an icon.
const MAX_STREAMS: usize = 16;
/// A page connection, as a whole.
const LIFE: Duration = Duration::from_secs(30);

/// Serves pages until the client leaves. The scope refuses whatever is asked.
pub async fn serve<C>(scope: &Arc<Scope>, stream: C, alpn: Option<Alpn>, head_limit: Duration)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    match alpn {
        Some(Alpn::H2) => over_h2(scope, stream).await,
        Some(Alpn::Http11) | None => {
            // There is no upstream: a stream on which nothing ever comes stands in its place.
            let (nothing, _held) = duplex(1);
            let (client, upstream) = (Leg::new(stream, BytesMut::new()), Leg::new(nothing, BytesMut::new()));
            h1::run(scope, client, upstream, head_limit).await;
        }
    }
}

async fn over_h2<C: AsyncRead + AsyncWrite + Unpin>(scope: &Arc<Scope>, stream: C) {
    let end = Instant::now() + LIFE;
    let handshake = h2_settings::server(h2_settings::ExtendedConnect::Absent).handshake::<C, Bytes>(stream);
    let Ok(Ok(mut connection)) = timeout_at(end, handshake).await else { return };
    let mut answered = 0;
    // Every stream that was let in gets its page; past the first few no more are let in.
    while let Ok(Some(Ok((request, respond)))) = timeout_at(end, connection.accept()).await {
        answer(scope, &request, respond).await;
        answered += 1;
        if answered == MAX_STREAMS {
            connection.graceful_shutdown();
        }
    }
}

async fn answer(scope: &Scope, request: &Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let host = request.headers().get(http::header::HOST).map(|host| host.as_bytes());
    let path = request.uri().path().as_bytes();
    let facts =
        Facts { method: request.method().as_str(), authorities: [authority, host], path, extended_connect: false };
    let mut exchange = scope.open(&facts).await;
    let reason = exchange.verdict().err().map_or(Reason::InternalError, |refusal| refusal.reason);
    let page = exchange.refuse(reason);
    let mut response = Response::builder().status(StatusCode::from_u16(page.status).unwrap_or(StatusCode::BAD_GATEWAY));
    for (name, value) in &page.fields {
        response = response.header(*name, value);
    }
    let head_only = request.method() == http::Method::HEAD;
    let sent = response.body(()).map(|response| respond.send_response(response, head_only));
    if let (Ok(Ok(mut body)), false) = (sent, head_only) {
        let _ = body.send_data(Bytes::from(page.body), true);
    }
}
