//! Whatever bytes a client sends into every text field, or into some of them, a line of the record is one line and one JSON object, and
//! a value that was not cut reads back as the bytes decoded (attacks K01, K02).

#![no_main]

use libfuzzer_sys::fuzz_target;
use sekisho::record::{Fields, LONGEST_TEXT};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let object = read(&fields(data, u16::MAX), 16);
    if data.len() <= LONGEST_TEXT {
        assert_eq!(object["tls.client.server_name"], String::from_utf8_lossy(data).as_ref());
    }
    assert!(object["url.path"].as_str().is_some_and(|path| !path.contains('?')));
    // The text's last two octets say which fields there are besides.
    if let [.., one, two] = *data {
        let some = u16::from_be_bytes([one, two]) & FIELDS;
        read(&fields(data, some), 1 + some.count_ones() as usize);
    }
});

/// A bit for each field below.
const FIELDS: u16 = (1 << 15) - 1;

/// Those of the fields that have their bit in `some`, each of `data`.
fn fields(data: &[u8], some: u16) -> Fields {
    let is = |bit: u32| some & (1 << bit) != 0;
    let mut fields = Fields::default();
    fields.rare.message = is(0).then(|| data.into());
    fields.config_revision = is(1).then(|| data.into());
    fields.client = is(2).then(|| data.into());
    fields.rule_id = is(3).then(|| data.into());
    fields.rule_name = is(4).then(|| data.into());
    fields.authority = is(5).then(|| data.into());
    fields.server_name = is(6).then(|| data.into());
    fields.domain = is(7).then(|| data.into());
    fields.method = is(8).then(|| data.into());
    fields.path = is(9).then(|| data.into());
    fields.headers_set = is(10).then(|| [data, data].into_iter().collect());
    fields.tls_version = is(11).then(|| data.into());
    fields.tls_cipher = is(12).then(|| data.into());
    fields.server_subject = is(13).then(|| data.into());
    fields.detail = is(14).then(|| data.into());
    fields
}

/// The line of `fields`, which has so many.
fn read(fields: &Fields, expected: usize) -> Value {
    let line = fields.line(1);
    let body = line.strip_suffix(b"\n").expect("a line ends in a newline");
    assert!(body.iter().all(|byte| *byte >= b' ' && *byte != 0x7f));
    let object: Value = serde_json::from_slice(body).expect("a line is JSON");
    assert_eq!(object.as_object().map(serde_json::Map::len), Some(expected), "{object}");
    object
}
