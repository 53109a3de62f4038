//! Only ClientHellos belong here: recorded ones, and ones written octet by octet.

use std::fs;
use std::path::Path;

/// The recorded hello of a real client.
pub fn recorded(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hellos").join(format!("{name}.bin"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of all recorded hellos.
pub fn all_recorded() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hellos");
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("fixtures")
        .filter_map(|entry| entry.expect("entry").file_name().to_str()?.strip_suffix(".bin").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// A ClientHello under construction (RFC 8446 section 4.1.2).
#[derive(Clone)]
pub struct Hello {
    pub legacy_version: u16,
    pub extensions: Vec<(u16, Vec<u8>)>,
    pub trailing: Vec<u8>,
}

const SERVER_NAME: u16 = 0;
const SUPPORTED_VERSIONS: u16 = 43;

impl Hello {
    /// TLS 1.3 and 1.2, no SNI.
    pub fn bare() -> Self {
        Self {
            legacy_version: 0x0303,
            extensions: vec![
                (SUPPORTED_VERSIONS, vec![4, 3, 4, 3, 3]),
                (10, vec![0, 2, 0, 0x1d]),
                (13, vec![0, 2, 4, 3]),
                (51, [&[0, 36, 0, 0x1d, 0, 32][..], &[9; 32]].concat()),
            ],
            trailing: Vec::new(),
        }
    }

    pub fn named(name: &str) -> Self {
        Self::bare().sni(name.as_bytes())
    }

    /// One host_name entry (RFC 6066 section 3).
    pub fn sni(self, name: &[u8]) -> Self {
        let entry = [&[0][..], &sixteen(name)].concat();
        self.extension(SERVER_NAME, sixteen(&entry))
    }

    pub fn extension(mut self, kind: u16, body: Vec<u8>) -> Self {
        self.extensions.push((kind, body));
        self
    }

    /// Without supported_versions, and this legacy_version.
    pub fn legacy(mut self, version: u16) -> Self {
        self.legacy_version = version;
        self.extensions.retain(|(kind, _)| *kind != SUPPORTED_VERSIONS);
        self
    }

    pub fn versions(mut self, versions: &[u16]) -> Self {
        self.extensions.retain(|(kind, _)| *kind != SUPPORTED_VERSIONS);
        let list: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
        let body = [&[u8::try_from(list.len()).expect("short")][..], &list].concat();
        self.extension(SUPPORTED_VERSIONS, body)
    }

    /// The handshake message.
    pub fn message(&self) -> Vec<u8> {
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(kind, body)| [&kind.to_be_bytes()[..], &sixteen(body)].concat())
            .collect();
        let ciphers = [0x13, 0x01, 0xc0, 0x2b];
        let body = [
            &self.legacy_version.to_be_bytes()[..],
            &[7; 32],
            &[32],
            &[8; 32],
            &sixteen(&ciphers),
            &[1, 0],
            &sixteen(&extensions),
            &self.trailing,
        ]
        .concat();
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        [&[1][..], &length[1..], &body].concat()
    }

    /// The message in one record.
    pub fn bytes(&self) -> Vec<u8> {
        records(&self.message(), usize::MAX)
    }
}

/// `data` behind its length in two octets.
pub fn sixteen(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).expect("short").to_be_bytes()[..], data].concat()
}

/// `message` in handshake records of at most `size` octets.
pub fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size.min(16 * 1024)).flat_map(|part| record(22, part)).collect()
}

/// One plaintext record.
pub fn record(kind: u8, fragment: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &sixteen(fragment)].concat()
}

/// The handshake messages of `bytes`, which hold nothing but whole handshake records in front; and what follows them.
pub fn message_of(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut message = Vec::new();
    let mut at = 0;
    while bytes.get(at) == Some(&22) {
        let length = usize::from(u16::from_be_bytes([bytes[at + 3], bytes[at + 4]]));
        message.extend_from_slice(&bytes[at + 5..at + 5 + length]);
        at += 5 + length;
    }
    (message, bytes[at..].to_vec())
}
