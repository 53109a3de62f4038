//! The closed list of reasons: the same word in the record, the metrics, the replies, the manual and the configuration's help.
//!
//! What the client sees for each (status, RFC 9209 error type, TLS alert, page) is decided in `reply`, nowhere else.

use std::fmt;

/// How an attempt ended, as the record counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It was permitted, and bytes or an answer passed.
    Allowed,
    /// We refused it.
    Denied,
    /// It was permitted (or not yet judged) and did not come about.
    Failed,
}

impl Outcome {
    pub const ALL: [Self; 3] = [Self::Allowed, Self::Denied, Self::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }

    /// `None`: it is no word of ours.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// Whose doing an ending was (`sekisho.side`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Upstream,
    Sekisho,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Sekisho => "sekisho",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $outcome:ident;)+) => {
        /// Why an attempt ended as it did.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word of the record, the metrics and `Proxy-Status`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// `None`: it is no word of this version's.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }

            /// The outcome of an attempt that ended for this reason before anything was passed.
            pub fn outcome(self) -> Outcome {
                match self { $(Self::$variant => Outcome::$outcome,)+ }
            }
        }
    };
}

reasons! {
    /// The head is not unambiguous HTTP.
    MalformedRequest = "malformed_request", Denied;
    /// The authority, `Host` or `:authority` holds no name in its normal form.
    MalformedName = "malformed_name", Denied;
    /// The client's address is in no group, or in none the service is for.
    ClientNotPermitted = "client_not_permitted", Denied;
    /// No pattern of any service matches the name.
    NotAllowlisted = "not_allowlisted", Denied;
    /// The name is listed, the port is not.
    PortNotPermitted = "port_not_permitted", Denied;
    /// The service's registration (ISMAP) is over, and nobody has decided in time.
    ServiceNotApproved = "service_not_approved", Denied;
    /// An IP address stood where a name is due.
    IpLiteral = "ip_literal", Denied;
    /// `http://` for a service without `plain_http`.
    PlainHttpNotPermitted = "plain_http_not_permitted", Denied;
    /// Every address of the name lies in a special-purpose block.
    AddressDenied = "address_denied", Denied;
    /// The destination is this proxy.
    SelfConnection = "self_connection", Denied;
    /// A method the service does not take, CONNECT inside inspection included.
    MethodNotPermitted = "method_not_permitted", Denied;
    /// The request head did not arrive in time.
    RequestHeadTimeout = "request_head_timeout", Failed;
    /// The request head is larger than its limit, or would be with our headers added.
    HeadTooLarge = "head_too_large", Denied;
    /// The SNI, the `Host` or the `:authority` is not the name the connection is for.
    NameMismatch = "name_mismatch", Denied;
    /// Too many in too short a time from one client.
    RateLimited = "rate_limited", Denied;
    /// One client holds as many connections as it may.
    TooManyConnectionsOfClient = "too_many_connections", Denied;
    /// All clients together hold as many connections as they may.
    TooManyConnections = "too_many_connections", Denied;
    /// The name has no address, or the resolver refused.
    DnsFailed = "dns_failed", Failed;
    /// No address of the destination accepted a connection.
    ConnectFailed = "connect_failed", Failed;
    /// The destination's certificate did not pass verification.
    CertificateInvalid = "certificate_invalid", Failed;
    /// A TLS handshake failed for another reason than a certificate.
    TlsFailed = "tls_failed", Failed;
    /// The destination asks for a client certificate, which an inspected connection cannot give.
    ClientCertificateRequired = "client_certificate_required", Failed;
    /// The destination closed before it answered.
    UpstreamClosed = "upstream_closed", Failed;
    /// The destination closed in the middle of an answer.
    UpstreamTruncated = "upstream_truncated", Failed;
    /// The destination's answer is not unambiguous HTTP.
    UpstreamMalformed = "upstream_malformed", Failed;
    /// No common application protocol (ALPN) that is inspected.
    NoApplicationProtocol = "no_application_protocol", Denied;
    /// No room for new work.
    Overloaded = "overloaded", Denied;
    /// The record cannot be written and `when_unwritable` is `deny`.
    RecordUnavailable = "record_unavailable", Denied;
    /// The service is stopping.
    ShuttingDown = "shutting_down", Denied;
    /// No leaf certificate could be issued.
    IssuingFailed = "issuing_failed", Failed;
    /// A defect of sekisho's own.
    InternalError = "internal_error", Failed;
    /// No address accepted a connection in time.
    ConnectTimeout = "connect_timeout", Failed;
    /// No answer from the resolver in time.
    DnsTimeout = "dns_timeout", Failed;
    /// The destination did not answer in time.
    UpstreamTimeout = "upstream_timeout", Failed;
    /// The ClientHello carries no server_name where one is due.
    NoSni = "no_sni", Denied;
    /// The ClientHello is not one.
    MalformedClientHello = "malformed_client_hello", Denied;
    /// The ClientHello is larger than its limit.
    ClientHelloTooLarge = "client_hello_too_large", Denied;
    /// The client offers no TLS version that is taken.
    TlsVersion = "tls_version", Denied;
    /// What follows CONNECT is not TLS.
    NotTls = "not_tls", Denied;
    /// The ClientHello did not arrive in time.
    ClientHelloTimeout = "client_hello_timeout", Failed;
    /// The client went away.
    ClientClosed = "client_closed", Failed;
    /// Nothing moved for the idle limit.
    IdleTimeout = "idle_timeout", Failed;
    /// The connection has been open for as long as it may.
    ConnectionExpired = "connection_expired", Failed;
    /// The client sent or took its content more slowly than the least rate.
    TooSlow = "too_slow", Failed;
    /// The client does not trust the issuing CA, or pins another certificate.
    ClientRejectedCertificate = "client_rejected_certificate", Failed;
    /// A reload took away the permission this was running on.
    PolicyWithdrawn = "policy_withdrawn", Denied;
    /// An operator ended it by the control socket.
    CutByOperator = "cut_by_operator", Denied;
}

impl Reason {
    /// Whose doing an ending for this reason is, where no stage of the journey knows better.
    pub fn side(self) -> Side {
        // A literal table.
        match self {
            Self::AddressDenied | Self::DnsFailed | Self::DnsTimeout | Self::ConnectFailed | Self::ConnectTimeout => {
                Side::Upstream
            }
            Self::CertificateInvalid | Self::TlsFailed | Self::ClientCertificateRequired => Side::Upstream,
            Self::UpstreamClosed | Self::UpstreamTruncated | Self::UpstreamMalformed | Self::UpstreamTimeout => {
                Side::Upstream
            }
            Self::Overloaded | Self::RecordUnavailable | Self::ShuttingDown | Self::IssuingFailed => Side::Sekisho,
            Self::InternalError | Self::IdleTimeout | Self::PolicyWithdrawn | Self::ConnectionExpired => Side::Sekisho,
            Self::CutByOperator => Side::Sekisho,
            Self::MalformedRequest | Self::MalformedName | Self::ClientNotPermitted | Self::NotAllowlisted => {
                Side::Client
            }
            Self::PortNotPermitted | Self::IpLiteral | Self::PlainHttpNotPermitted | Self::SelfConnection => {
                Side::Client
            }
            Self::MethodNotPermitted | Self::RequestHeadTimeout | Self::HeadTooLarge | Self::NameMismatch => {
                Side::Client
            }
            Self::RateLimited | Self::TooManyConnectionsOfClient | Self::TooManyConnections => Side::Client,
            Self::ServiceNotApproved => Side::Client,
            Self::NoApplicationProtocol | Self::NoSni | Self::MalformedClientHello | Self::ClientHelloTooLarge => {
                Side::Client
            }
            Self::TlsVersion | Self::NotTls | Self::ClientHelloTimeout | Self::ClientClosed => Side::Client,
            Self::ClientRejectedCertificate | Self::TooSlow => Side::Client,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
