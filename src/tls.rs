//! What the TLS of both legs has in common: the cryptography, and the order in which it is preferred.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// rustls's suites and groups, X25519MLKEM768 first among the groups, with AES-128-GCM before AES-256-GCM as browsers have it: the
/// key schedule of a handshake is then SHA-256, which processors have instructions for, and bulk costs less (`manual/performance`).
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    // Stable: what is alike stays in rustls's order.
    provider.cipher_suites.sort_by_key(|suite| (suite.tls13().is_none(), !is_aes_128(suite)));
    Arc::new(provider)
}

fn is_aes_128(suite: &SupportedCipherSuite) -> bool {
    suite.suite().as_str().is_some_and(|name| name.contains("AES_128"))
}

#[cfg(test)]
mod tests {
    use rustls::CipherSuite;

    use super::*;

    #[test]
    fn aes_128_comes_first_within_each_version_and_nothing_is_lost() {
        let suites: Vec<_> = provider().cipher_suites.iter().map(SupportedCipherSuite::suite).collect();
        assert_eq!(suites.len(), aws_lc_rs::DEFAULT_CIPHER_SUITES.len());
        assert_eq!(
            suites[..4],
            [
                CipherSuite::TLS13_AES_128_GCM_SHA256,
                CipherSuite::TLS13_AES_256_GCM_SHA384,
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ]
        );
    }
}
