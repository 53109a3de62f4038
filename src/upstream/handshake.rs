//! One TLS handshake with an upstream, and the one word for how it failed. What follows from it is decided in `verify`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, ClientConfig, Error as TlsError, InvalidMessage, PeerIncompatible};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::Rejection;
use super::verifier::{Seen, Sight};
use crate::names::DnsName;

/// Why a handshake failed; the strings are for an administrator.
#[derive(Debug)]
pub(super) enum Failure {
    Rejected(Box<Rejection>),
    ClientCertificate,
    ApplicationProtocol(String),
    Tls(String),
    Closed(String),
    Timeout(Duration),
}

/// Makes the handshake for `name`, which is always the SNI, and tells what was seen even where it fails.
pub(super) async fn handshake(
    config: &Arc<ClientConfig>,
    name: &DnsName,
    alpn: Vec<Vec<u8>>,
    stream: TcpStream,
    limit: Duration,
) -> (Result<TlsStream<TcpStream>, Failure>, Sight) {
    let Some(server) = server_name(name) else {
        let failure = Failure::Tls("the name cannot be sent as server_name (RFC 6066)".into());
        return (Err(failure), Sight::default());
    };
    let connector = TlsConnector::from(Arc::clone(config));
    let connecting = connector.with_alpn(alpn).connect(server, stream);
    let (result, sight) = Seen::during(timeout(limit, connecting)).await;
    let result = match result {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failure(&error, &sight)),
        Err(_) => Err(Failure::Timeout(limit)),
    };
    (result, sight)
}

pub(super) fn server_name(name: &DnsName) -> Option<ServerName<'static>> {
    ServerName::try_from(name.as_str().to_owned()).ok()
}

fn failure(error: &io::Error, sight: &Sight) -> Failure {
    if let Some(rejection) = &sight.rejection {
        return Failure::Rejected(rejection.clone());
    }
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    let ended = matches!(tls, None | Some(TlsError::AlertReceived(_)));
    if sight.client_certificate_asked && ended {
        return Failure::ClientCertificate;
    }
    match tls {
        None => Failure::Closed(error.to_string()),
        Some(TlsError::AlertReceived(AlertDescription::NoApplicationProtocol)) => Failure::ApplicationProtocol(
            "it answered the protocols offered with a no_application_protocol alert".into(),
        ),
        Some(TlsError::AlertReceived(AlertDescription::ProtocolVersion)) => {
            Failure::Tls("it takes no TLS version of ours (protocol_version alert); see [upstream] min_tls".into())
        }
        Some(TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )) => Failure::Tls("it speaks only TLS versions below [upstream] min_tls".into()),
        Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion)) => {
            Failure::Tls(format!("what it answers is not TLS ({error})"))
        }
        Some(TlsError::InvalidMessage(
            InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::CertificatePayloadTooLarge,
        )) => Failure::Tls("its certificate chain, or another handshake message, is larger than 64 KiB".into()),
        Some(other) => Failure::Tls(other.to_string()),
    }
}
