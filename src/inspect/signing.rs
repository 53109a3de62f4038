//! Signing a certificate in the name of a CA, whoever made that CA.
//!
//! rcgen writes an issuer from a map with one value per attribute type, so that the common `DC=city,DC=local` of Active
//! Directory would lose a part, and verifiers compare issuer and subject byte by byte. So rcgen writes the certificate
//! with an empty issuer and no signature, the CA's subject is put in as it is encoded, and that is what is signed.

use rcgen::{CertificateParams, DistinguishedName, KeyIdMethod, KeyPair, PublicKeyData, SerialNumber, SigningKey};
use rustls_pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, FromDer};

use super::certificate::CaCertificate;

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// Signs `params` for `subject_key` as `ca`, whose key is `key`, with an authorityKeyIdentifier.
///
/// # Errors
/// What rcgen says; its texts hold nothing of a key.
pub fn sign(
    ca: &CaCertificate,
    key: &KeyPair,
    params: &CertificateParams,
    subject_key: &impl PublicKeyData,
) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut nameless = CertificateParams::default();
    nameless.distinguished_name = DistinguishedName::new();
    if let Some(identifier) = &ca.key_identifier {
        nameless.key_identifier_method = KeyIdMethod::PreSpecified(identifier.clone());
    }
    let draft = params.signed_by(subject_key, &rcgen::Issuer::from_params(&nameless, Unsigned(key)))?;
    let (tbs, algorithm) = name_issuer(draft.der(), &ca.subject_der).ok_or(rcgen::Error::CouldNotParseCertificate)?;
    let mut signature = vec![0]; // no unused bits
    signature.extend(key.sign(&tbs)?);
    Ok(element(SEQUENCE, &[&tbs, &algorithm, &element(BIT_STRING, &[&signature])]).into())
}

/// A random positive serial number of 16 octets, 126 bits of it random.
///
/// # Errors
/// Where the system has no randomness to give.
pub fn serial_number() -> Result<SerialNumber, rcgen::Error> {
    let mut octets = [0u8; 16];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| rcgen::Error::RingUnspecified)?;
    octets[0] = octets[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&octets))
}

/// Stands for the CA's key while rcgen writes the draft, whose signature would be of the wrong bytes.
struct Unsigned<'a>(&'a KeyPair);

impl PublicKeyData for Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Unsigned<'_> {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

/// The draft's tbsCertificate with `issuer` in its place, and its signature algorithm, each as DER.
fn name_issuer(draft: &[u8], issuer: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, certificate) = Any::from_der(draft).ok()?;
    let (_, tbs) = Any::from_der(certificate.data).ok()?;
    let (version, rest) = split_element(tbs.data)?;
    let (serial, rest) = split_element(rest)?;
    let (algorithm, rest) = split_element(rest)?;
    let (_, rest) = split_element(rest)?;
    Some((element(SEQUENCE, &[version, serial, algorithm, issuer, rest]), algorithm.to_vec()))
}

fn split_element(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, _) = Any::from_der(input).ok()?;
    input.split_at_checked(input.len().checked_sub(rest.len())?)
}

/// Tag, length and contents in DER.
fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    let octets = length.to_be_bytes();
    let octets = &octets[octets.iter().position(|&octet| octet != 0).unwrap_or(octets.len() - 1)..];
    let mut der = Vec::with_capacity(length + 10);
    der.push(tag);
    if length >= 0x80 {
        // A usize has at most 8 octets.
        der.push(0x80 | octets.len() as u8);
    }
    der.extend_from_slice(octets);
    contents.iter().for_each(|part| der.extend_from_slice(part));
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_der() {
        for (length, header) in [
            (0, &[0x30, 0][..]),
            (1, &[0x30, 1]),
            (127, &[0x30, 127]),
            (128, &[0x30, 0x81, 128]),
            (255, &[0x30, 0x81, 255]),
            (256, &[0x30, 0x82, 1, 0]),
            (65535, &[0x30, 0x82, 255, 255]),
            (65536, &[0x30, 0x83, 1, 0, 0]),
        ] {
            let der = element(SEQUENCE, &[&vec![7; length]]);
            assert_eq!(&der[..header.len()], header, "{length}");
            assert_eq!(der.len(), header.len() + length, "{length}");
        }
    }

    #[test]
    fn j04_serials_are_positive_long_and_different() {
        let serials: Vec<Vec<u8>> = (0..100).map(|_| serial_number().expect("random").to_bytes()).collect();
        for serial in &serials {
            assert!(serial.len() == 16 && serial[0] & 0x80 == 0 && serial[0] != 0);
        }
        assert_eq!(serials.iter().collect::<std::collections::HashSet<_>>().len(), serials.len());
    }
}
