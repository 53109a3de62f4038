//! Only X.509 written octet by octet belongs here: certificates and CRLs with every field in the scene's hand, for what `pki` and
//! the library behind it refuse to make.

use std::sync::Arc;

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use super::pki::Leaf;

/// One DER element; lengths below 2^24.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let n = content.len();
    let octets = u32::try_from(n).expect("short").to_be_bytes();
    let length = match n {
        0..=127 => vec![octets[3]],
        128..=255 => vec![0x81, octets[3]],
        256..=65_535 => vec![0x82, octets[2], octets[3]],
        _ => vec![0x83, octets[1], octets[2], octets[3]],
    };
    [&[tag][..], &length, content].concat()
}

pub fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// A distinguished name of one common name.
pub fn name(common: &str) -> Vec<u8> {
    let attribute = seq(&[&tlv(6, &[0x55, 4, 3]), &tlv(0x0c, common.as_bytes())]);
    seq(&[&tlv(0x31, &attribute)])
}

/// An extension 2.5.29.`id`.
pub fn ext(id: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    extension(&[0x55, 0x1d, id], critical, value)
}

pub fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(1, &[0xff]) } else { vec![] };
    seq(&[&tlv(6, oid), &critical, &tlv(4, value)])
}

/// basicConstraints; `None` leaves the boolean out, which is false.
pub fn basic(ca: Option<bool>, path_length: Option<&[u8]>) -> Vec<u8> {
    let ca = ca.map(|ca| tlv(1, &[if ca { 0xff } else { 0 }])).unwrap_or_default();
    ext(19, true, &seq(&[&ca, &path_length.map(|octets| tlv(2, octets)).unwrap_or_default()]))
}

/// keyUsage by its first octet: 0x80 digitalSignature, 0x20 keyEncipherment, 0x04 keyCertSign, 0x02 cRLSign.
pub fn usage(bits: u8) -> Vec<u8> {
    let unused = u8::try_from(bits.trailing_zeros().min(7)).expect("small");
    ext(15, true, &tlv(3, &[unused, bits]))
}

/// extendedKeyUsage of id-kp-`n`; 0 is anyExtendedKeyUsage.
pub fn purposes(numbers: &[u8]) -> Vec<u8> {
    let oids = numbers.iter().map(|n| match n {
        0 => tlv(6, &[0x55, 0x1d, 0x25, 0]),
        n => tlv(6, &[0x2b, 6, 1, 5, 5, 7, 3, *n]),
    });
    ext(37, false, &tlv(0x30, &oids.collect::<Vec<_>>().concat()))
}

/// A dNSName of these octets, whatever they are.
pub fn dns(octets: impl AsRef<[u8]>) -> Vec<u8> {
    tlv(0x82, octets.as_ref())
}

pub fn ip(octets: &[u8]) -> Vec<u8> {
    tlv(0x87, octets)
}

pub fn san(names: &[Vec<u8>]) -> Vec<u8> {
    ext(17, false, &tlv(0x30, &names.concat()))
}

/// nameConstraints: permitted and excluded subtrees, each a GeneralName.
pub fn constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let trees = |tag, names: &[Vec<u8>]| match names {
        [] => vec![],
        names => tlv(tag, &names.iter().map(|base| seq(&[base])).collect::<Vec<_>>().concat()),
    };
    ext(30, true, &seq(&[&trees(0xa0, permitted), &trees(0xa1, excluded)]))
}

/// UTCTime, so many days from now.
pub fn utc(days: i64) -> Vec<u8> {
    let t = OffsetDateTime::now_utc() + Duration::days(days);
    tlv(0x17, stamp(t, t.year() % 100).as_bytes())
}

/// As [`utc`] in seconds.
pub fn utc_in(seconds: i64) -> Vec<u8> {
    let t = OffsetDateTime::now_utc() + Duration::seconds(seconds);
    tlv(0x17, stamp(t, t.year() % 100).as_bytes())
}

fn stamp(t: OffsetDateTime, year: i32) -> String {
    format!("{year:02}{:02}{:02}{:02}{:02}{:02}Z", u8::from(t.month()), t.day(), t.hour(), t.minute(), t.second())
}

/// AlgorithmIdentifiers.
pub mod algorithm {
    use super::{seq, tlv};

    pub fn ecdsa(hash: u8) -> Vec<u8> {
        seq(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, hash])])
    }

    /// 4 md5, 5 sha1, 11 sha256, 12 sha384, 13 sha512.
    pub fn rsa(number: u8) -> Vec<u8> {
        seq(&[&tlv(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, number]), &tlv(5, &[])])
    }

    pub fn ed25519() -> Vec<u8> {
        seq(&[&tlv(6, &[0x2b, 0x65, 0x70])])
    }
}

/// A key that signs certificates, under the name it signs as.
#[derive(Clone)]
pub struct Signer {
    pub subject: Vec<u8>,
    pub key: Arc<KeyPair>,
    pub algorithm: Vec<u8>,
}

impl Signer {
    pub fn new(common: &str) -> Self {
        Self::with(common, KeyPair::generate().expect("key"))
    }

    pub fn with(common: &str, key: KeyPair) -> Self {
        let algorithm = match format!("{:?}", key.algorithm()).as_str() {
            "PKCS_ECDSA_P256_SHA256" => algorithm::ecdsa(2),
            "PKCS_ECDSA_P384_SHA384" => algorithm::ecdsa(3),
            "PKCS_ECDSA_P521_SHA512" => algorithm::ecdsa(4),
            "PKCS_ED25519" => algorithm::ed25519(),
            "PKCS_RSA_SHA256" => algorithm::rsa(11),
            other => panic!("no AlgorithmIdentifier for {other}"),
        };
        Self { subject: name(common), key: Arc::new(key), algorithm }
    }

    /// The same name with another key.
    pub fn rekeyed(&self) -> Self {
        Self { subject: self.subject.clone(), ..Self::new("") }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).expect("signed")
    }

    pub fn spki(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    /// The body of a good leaf for `host` with this key.
    pub fn leaf(&self, host: &str) -> Tbs {
        Tbs {
            version: tlv(0xa0, &tlv(2, &[2])),
            serial: vec![0x4a; 12],
            subject: name(host),
            not_before: utc(-2),
            not_after: utc(20),
            spki: self.spki(),
            san: san(&[dns(host)]),
            basic: basic(None, None),
            usage: usage(0x80),
            eku: purposes(&[1]),
            more: vec![],
            inner: None,
            outer: None,
            spoils_signature: false,
        }
    }

    /// The body of a good CA certificate for this name and key.
    pub fn ca(&self) -> Tbs {
        Tbs {
            subject: self.subject.clone(),
            san: vec![],
            basic: basic(Some(true), None),
            usage: usage(0x06),
            eku: vec![],
            not_before: utc(-30),
            not_after: utc(300),
            ..self.leaf("")
        }
    }

    /// The self-signed certificate.
    pub fn root(&self) -> Vec<u8> {
        self.ca().signed_by(self)
    }
}

/// A tbsCertificate by its fields, each as DER; an empty one is left out.
#[derive(Clone)]
pub struct Tbs {
    pub version: Vec<u8>,
    /// The content octets.
    pub serial: Vec<u8>,
    pub subject: Vec<u8>,
    pub not_before: Vec<u8>,
    pub not_after: Vec<u8>,
    pub spki: Vec<u8>,
    pub san: Vec<u8>,
    pub basic: Vec<u8>,
    pub usage: Vec<u8>,
    pub eku: Vec<u8>,
    pub more: Vec<Vec<u8>>,
    /// Another AlgorithmIdentifier than the signer's inside, outside.
    pub inner: Option<Vec<u8>>,
    pub outer: Option<Vec<u8>>,
    pub spoils_signature: bool,
}

impl Tbs {
    #[must_use]
    pub fn set(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn signed_by(&self, signer: &Signer) -> Vec<u8> {
        let more = self.more.concat();
        let extensions = [&self.basic[..], &self.usage, &self.eku, &self.san, &more].concat();
        let extensions = if extensions.is_empty() { vec![] } else { tlv(0xa3, &tlv(0x30, &extensions)) };
        let tbs = seq(&[
            &self.version,
            &tlv(2, &self.serial),
            self.inner.as_ref().unwrap_or(&signer.algorithm),
            &signer.subject,
            &seq(&[&self.not_before, &self.not_after]),
            &self.subject,
            &self.spki,
            &extensions,
        ]);
        wrapped(&tbs, self.outer.as_ref(), signer, self.spoils_signature)
    }
}

fn wrapped(tbs: &[u8], outer: Option<&Vec<u8>>, signer: &Signer, spoils: bool) -> Vec<u8> {
    let mut signature = signer.sign(tbs);
    if spoils {
        *signature.last_mut().expect("a signature") ^= 1;
    }
    seq(&[tbs, outer.unwrap_or(&signer.algorithm), &tlv(3, &[&[0][..], &signature].concat())])
}

/// A tbsCertList by its parts.
#[derive(Clone)]
pub struct Crl {
    pub this_update: Vec<u8>,
    pub next_update: Vec<u8>,
    /// Serial numbers by their content octets, with entry extensions.
    pub revoked: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
    pub extensions: Vec<Vec<u8>>,
}

impl Crl {
    /// CRL number 1, due in five days, with these serial numbers.
    pub fn of(serials: &[&[u8]]) -> Self {
        Self {
            this_update: utc(-1),
            next_update: utc(5),
            revoked: serials.iter().map(|serial| (serial.to_vec(), vec![])).collect(),
            extensions: vec![ext(20, false, &tlv(2, &[1]))],
        }
    }

    #[must_use]
    pub fn set(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn signed_by(&self, signer: &Signer) -> Vec<u8> {
        let entries = self.revoked.iter().map(|(serial, extensions)| {
            let extensions = if extensions.is_empty() { vec![] } else { tlv(0x30, &extensions.concat()) };
            seq(&[&tlv(2, serial), &utc(-3), &extensions])
        });
        let entries: Vec<u8> = entries.collect::<Vec<_>>().concat();
        let entries = if entries.is_empty() { vec![] } else { tlv(0x30, &entries) };
        let tbs = seq(&[
            &tlv(2, &[1]),
            &signer.algorithm,
            &signer.subject,
            &self.this_update,
            &self.next_update,
            &entries,
            &tlv(0xa0, &tlv(0x30, &self.extensions.concat())),
        ]);
        wrapped(&tbs, None, signer, false)
    }
}

/// What an origin shows: `chain` as it is, signing with `key`.
pub fn shown(chain: &[&[u8]], key: &KeyPair) -> Leaf {
    Leaf {
        chain: chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect(),
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
    }
}

/// PEM sections of `label`.
pub fn pem(label: &str, ders: &[Vec<u8>]) -> String {
    let section = |der: &Vec<u8>| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64(der));
    ders.iter().map(section).collect()
}

/// In lines of 64 characters.
fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let quad = |three: &[u8]| -> String {
        let word = three.iter().chain(&[0, 0]).take(3).fold(0_usize, |word, octet| word << 8 | usize::from(*octet));
        let digit = |at: usize| if at > three.len() { '=' } else { char::from(ALPHABET[word >> (18 - 6 * at) & 63]) };
        (0..4).map(digit).collect()
    };
    octets.chunks(48).map(|line| line.chunks(3).map(quad).collect::<String>()).collect::<Vec<_>>().join("\n")
}
