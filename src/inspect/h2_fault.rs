//! Why an exchange of HTTP/2 did not run to its end, and how that is told from the errors of the `h2` crate.

use std::task::{Context, Poll, Waker};

use h2::{Reason as Code, RecvStream};

use super::h2_frames::FLOOD;
use super::h2_pump::Awaited;
use crate::reason::Reason;

/// Why an exchange did not run to its end.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    ClientGone,
    /// The client's content is not what its head announced (E15); the crate has reset the stream.
    ClientMalformed,
    /// The request's trailers are more than is taken.
    ClientTrailers,
    /// The upstream has certainly not acted on the request. This code tells the client that it may try again.
    Unprocessed(Code),
    /// The upstream failed. The code is for a client that has the head already.
    Upstream(Reason, Code),
    Stalled(Awaited),
    /// The client sends or takes less than it owes.
    ClientSlow,
    /// No memory for what the far side does not take.
    NoRoom,
    /// A reload took away the permission of a WebSocket, which has no further request to be judged by.
    Withdrawn,
    Internal,
}

/// Why the client's stream is no more. The crate resets it with these where the content is not as long as announced (E15) or
/// more than the window; a client that leaves says CANCEL.
pub fn reset_by(reset: &Result<Code, h2::Error>) -> Fault {
    match reset {
        Ok(Code::PROTOCOL_ERROR | Code::FLOW_CONTROL_ERROR) => Fault::ClientMalformed,
        Ok(_) | Err(_) => Fault::ClientGone,
    }
}

/// Whether it was this stream that the crate found malformed. A reset's code looks the same where another stream brought down the
/// whole connection, or where the client chose it.
pub fn is_malformed(body: &mut RecvStream) -> bool {
    match body.poll_data(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Err(error))) => error.is_library() && error.is_reset(),
        // Content came in whole before it turned out malformed.
        Poll::Ready(Some(Ok(_))) | Poll::Pending => true,
        Poll::Ready(None) => false,
    }
}

/// The client's leg broke while its content was read.
pub fn client_fault(error: &h2::Error) -> Fault {
    if error.is_library() && error.is_reset() { Fault::ClientMalformed } else { Fault::ClientGone }
}

/// Whether an upstream was left for the frames it sent.
pub fn is_flood(error: &h2::Error) -> bool {
    error.get_io().is_some_and(|error| error.kind() == FLOOD)
}

/// What an error of an upstream's stream means. The crate reports a GOAWAY only to streams behind its last stream identifier,
/// which the upstream has not processed (RFC 9113 section 6.8).
pub fn upstream_fault(error: &h2::Error) -> Fault {
    let code = error.reason().unwrap_or(Code::INTERNAL_ERROR);
    match code {
        _ if error.is_library() || is_flood(error) => Fault::Upstream(Reason::UpstreamMalformed, Code::INTERNAL_ERROR),
        _ if error.is_go_away() => Fault::Unprocessed(Code::REFUSED_STREAM),
        // After HTTP_1_1_REQUIRED a browser comes back with HTTP/1.1, which ALPN then mirrors to the upstream.
        Code::REFUSED_STREAM | Code::HTTP_1_1_REQUIRED => Fault::Unprocessed(code),
        Code::CANCEL => Fault::Upstream(Reason::UpstreamClosed, code),
        // Other codes speak of the upstream's leg; NO_ERROR would even pass for a complete answer.
        _ => Fault::Upstream(Reason::UpstreamClosed, Code::INTERNAL_ERROR),
    }
}
