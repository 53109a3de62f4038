//! What a refused client sees: (reason × how far its conversation got) → an HTTP status, a TLS alert, a close, or nothing.
//!
//! One table ([`http_answer`], [`manner`]). No other file chooses an error for a client. Pages never show tenant values, rules or
//! addresses: only the reason in plain words, the host that was asked for, the time, and the record's reference.

mod page;

pub use page::Page;

use crate::reason::Reason;

/// Status code and RFC 9209 error type of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpAnswer {
    pub status: u16,
    /// The `error` parameter of `Proxy-Status` (RFC 9209 section 2.3).
    pub error: &'static str,
}

/// What goes out at the level of TLS, once the 200 of CONNECT has been sent and no handshake has been completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// A fatal alert (RFC 8446 section 6), then close.
    Alert(u8),
    /// Close without a word: the peer does not speak TLS, or is gone.
    Close,
}

const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;
const UNRECOGNIZED_NAME: u8 = 112;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// The HTTP answer for `reason`; every reason has one, so that a refusal is never silent where a status can still be sent.
pub fn http_answer(reason: Reason) -> HttpAnswer {
    // A literal table.
    use Reason as R;
    let (status, error) = match reason {
        R::MalformedRequest | R::MalformedName => (400, "http_request_error"),
        R::ClientNotPermitted | R::NotAllowlisted | R::PortNotPermitted | R::IpLiteral | R::PlainHttpNotPermitted => {
            (403, "http_request_denied")
        }
        R::ServiceNotApproved => (403, "http_request_denied"),
        R::NoSni | R::NotTls | R::MalformedClientHello | R::ClientHelloTooLarge => (403, "http_request_denied"),
        R::TlsVersion | R::NoApplicationProtocol | R::PolicyWithdrawn | R::CutByOperator => {
            (403, "http_request_denied")
        }
        R::AddressDenied => (403, "destination_ip_prohibited"),
        R::SelfConnection => (403, "proxy_loop_detected"),
        R::MethodNotPermitted => (405, "http_request_denied"),
        R::RequestHeadTimeout | R::ClientHelloTimeout | R::TooSlow => (408, "http_request_error"),
        R::NameMismatch => (421, "http_request_denied"),
        R::RateLimited | R::TooManyConnectionsOfClient => (429, "connection_limit_reached"),
        R::HeadTooLarge => (431, "http_request_error"),
        R::DnsFailed => (502, "dns_error"),
        R::ConnectFailed => (502, "connection_refused"),
        R::CertificateInvalid => (502, "tls_certificate_error"),
        R::TlsFailed => (502, "tls_protocol_error"),
        R::ClientCertificateRequired => (502, "tls_alert_received"),
        R::UpstreamClosed => (502, "connection_terminated"),
        R::UpstreamTruncated => (502, "http_response_incomplete"),
        R::UpstreamMalformed => (502, "http_protocol_error"),
        R::TooManyConnections => (503, "connection_limit_reached"),
        R::Overloaded | R::RecordUnavailable | R::ShuttingDown | R::IssuingFailed | R::InternalError => {
            (503, "proxy_internal_error")
        }
        R::ConnectionExpired => (503, "connection_terminated"),
        R::ConnectTimeout => (504, "connection_timeout"),
        R::DnsTimeout => (504, "dns_timeout"),
        R::UpstreamTimeout | R::IdleTimeout => (504, "http_response_timeout"),
        R::ClientClosed | R::ClientRejectedCertificate => (499, "connection_terminated"),
    };
    HttpAnswer { status, error }
}

/// The manner of a refusal between the 200 of CONNECT and the end of a handshake.
pub fn manner(reason: Reason) -> Manner {
    // A literal table.
    use Reason as R;
    match reason {
        R::NameMismatch | R::NoSni => Manner::Alert(UNRECOGNIZED_NAME),
        R::MalformedClientHello | R::ClientHelloTooLarge => Manner::Alert(DECODE_ERROR),
        R::TlsVersion => Manner::Alert(PROTOCOL_VERSION),
        R::NoApplicationProtocol => Manner::Alert(NO_APPLICATION_PROTOCOL),
        R::NotTls | R::ClientHelloTimeout | R::ClientClosed | R::IdleTimeout | R::ClientRejectedCertificate => {
            Manner::Close
        }
        R::ConnectionExpired | R::TooSlow => Manner::Close,
        R::MalformedRequest | R::MalformedName | R::ClientNotPermitted | R::NotAllowlisted | R::PortNotPermitted => {
            Manner::Alert(ACCESS_DENIED)
        }
        R::ServiceNotApproved | R::CutByOperator => Manner::Alert(ACCESS_DENIED),
        R::IpLiteral | R::PlainHttpNotPermitted | R::AddressDenied | R::SelfConnection | R::MethodNotPermitted => {
            Manner::Alert(ACCESS_DENIED)
        }
        R::RequestHeadTimeout | R::HeadTooLarge | R::RateLimited | R::TooManyConnectionsOfClient => {
            Manner::Alert(ACCESS_DENIED)
        }
        R::TooManyConnections | R::DnsFailed | R::ConnectFailed | R::CertificateInvalid | R::TlsFailed => {
            Manner::Alert(ACCESS_DENIED)
        }
        R::ClientCertificateRequired | R::UpstreamClosed | R::UpstreamTruncated | R::UpstreamMalformed => {
            Manner::Alert(ACCESS_DENIED)
        }
        R::Overloaded | R::RecordUnavailable | R::ShuttingDown | R::IssuingFailed | R::InternalError => {
            Manner::Alert(ACCESS_DENIED)
        }
        R::ConnectTimeout | R::DnsTimeout | R::UpstreamTimeout | R::PolicyWithdrawn => Manner::Alert(ACCESS_DENIED),
    }
}

/// A fatal alert as one plaintext TLS record.
pub fn alert_record(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// The value of `Proxy-Status` (RFC 9209).
pub fn proxy_status(reason: Reason) -> String {
    ["sekisho; error=", http_answer(reason).error, "; details=\"", reason.as_str(), "\""].concat()
}

/// The head of a refused CONNECT: no body, and the connection stays open for the next request where `keep_alive` says so.
pub fn connect_refusal(reason: Reason, keep_alive: KeepAlive) -> String {
    let status = http_answer(reason).status;
    let [name, colon, value, end] =
        extra_fields(reason, PLAIN_METHODS).map_or([""; 4], |(name, value)| [name, ": ", value, "\r\n"]);
    let connection = match keep_alive {
        KeepAlive::Yes => "keep-alive\r\n\r\n",
        KeepAlive::No => "close\r\n\r\n",
    };
    // Put together, not formatted: in a flood of refusals this is made each time.
    [
        ["HTTP/1.1 ", &status.to_string(), " ", reason_phrase(status), "\r\n"].concat(),
        ["Proxy-Status: ", &proxy_status(reason), "\r\n", name, colon, value, end].concat(),
        ["Content-Length: 0\r\nCache-Control: no-store\r\nConnection: ", connection].concat(),
    ]
    .concat()
}

/// Whether the connection may carry a further request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    Yes,
    No,
}

/// What plain HTTP is taken with.
pub const PLAIN_METHODS: &str = "GET, HEAD, POST";
/// Of the registered methods (RFC 9110 section 16.1.1 and RFC 5789), those that pass in an inspected connection.
pub const INSPECTED_METHODS: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

/// Fields RFC 9110 asks for beside the status: `Allow` with 405, which is `methods`, `Retry-After` with what passes by itself.
pub fn extra_fields(reason: Reason, methods: &'static str) -> Option<(&'static str, &'static str)> {
    match http_answer(reason).status {
        405 => Some(("Allow", methods)),
        429 | 503 => Some(("Retry-After", "5")),
        _ => None,
    }
}

/// The phrase of a status this proxy sends itself (RFC 9110 section 15).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_status_an_error_type_and_a_manner() {
        for reason in Reason::ALL {
            let answer = http_answer(*reason);
            assert!((400..=504).contains(&answer.status), "{reason}");
            assert!(!answer.error.is_empty(), "{reason}");
            let _ = manner(*reason);
            assert!(!reason_phrase(answer.status).is_empty());
        }
    }

    #[test]
    fn the_statuses_are_those_of_the_contract() {
        for (word, status) in [
            ("malformed_request", 400),
            ("malformed_name", 400),
            ("client_not_permitted", 403),
            ("not_allowlisted", 403),
            ("port_not_permitted", 403),
            ("service_not_approved", 403),
            ("ip_literal", 403),
            ("plain_http_not_permitted", 403),
            ("address_denied", 403),
            ("self_connection", 403),
            ("method_not_permitted", 405),
            ("request_head_timeout", 408),
            ("head_too_large", 431),
            ("name_mismatch", 421),
            ("rate_limited", 429),
            ("dns_failed", 502),
            ("connect_failed", 502),
            ("certificate_invalid", 502),
            ("tls_failed", 502),
            ("client_certificate_required", 502),
            ("upstream_closed", 502),
            ("upstream_truncated", 502),
            ("overloaded", 503),
            ("record_unavailable", 503),
            ("shutting_down", 503),
            ("issuing_failed", 503),
            ("internal_error", 503),
            ("connect_timeout", 504),
            ("dns_timeout", 504),
            ("upstream_timeout", 504),
        ] {
            let reason = Reason::ALL.iter().find(|reason| reason.as_str() == word).expect(word);
            assert_eq!(http_answer(*reason).status, status, "{word}");
        }
        assert_eq!(http_answer(Reason::TooManyConnectionsOfClient).status, 429);
        assert_eq!(http_answer(Reason::TooManyConnections).status, 503);
        assert_eq!(http_answer(Reason::CertificateInvalid).error, "tls_certificate_error");
        assert_eq!(http_answer(Reason::SelfConnection).error, "proxy_loop_detected");
        assert_eq!(http_answer(Reason::AddressDenied).error, "destination_ip_prohibited");
    }

    #[test]
    fn the_alerts_are_those_of_the_contract() {
        assert_eq!(manner(Reason::NameMismatch), Manner::Alert(112));
        assert_eq!(manner(Reason::NoSni), Manner::Alert(112));
        assert_eq!(manner(Reason::MalformedClientHello), Manner::Alert(50));
        assert_eq!(manner(Reason::TlsVersion), Manner::Alert(70));
        assert_eq!(manner(Reason::PolicyWithdrawn), Manner::Alert(49));
        assert_eq!(manner(Reason::NotTls), Manner::Close);
        assert_eq!(alert_record(112), [0x15, 3, 3, 0, 2, 2, 112]);
    }

    #[test]
    fn a_refused_connect_carries_status_and_proxy_status() {
        let head = connect_refusal(Reason::NotAllowlisted, KeepAlive::Yes);
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
        assert!(
            head.contains("Proxy-Status: sekisho; error=http_request_denied; details=\"not_allowlisted\"\r\n"),
            "{head}"
        );
        assert!(head.ends_with("Connection: keep-alive\r\n\r\n"), "{head}");
    }
}
