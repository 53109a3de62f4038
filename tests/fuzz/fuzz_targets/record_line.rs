//! Whatever bytes a client sends into every text field, a line of the record is one line and one JSON object, and a value that
//! was not cut reads back as the bytes decoded (attacks K01, K02).

#![no_main]

use libfuzzer_sys::fuzz_target;
use sekisho::record::{Fields, LONGEST_TEXT};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let mut fields = Fields::default();
    fields.rare.message = Some(data.into());
    fields.config_revision = Some(data.into());
    fields.client = Some(data.into());
    fields.rule_id = Some(data.into());
    fields.rule_name = Some(data.into());
    fields.authority = Some(data.into());
    fields.server_name = Some(data.into());
    fields.domain = Some(data.into());
    fields.method = Some(data.into());
    fields.path = Some(data.into());
    fields.headers_set = Some([data, data].into_iter().collect());
    fields.tls_version = Some(data.into());
    fields.tls_cipher = Some(data.into());
    fields.server_subject = Some(data.into());
    fields.detail = Some(data.into());
    let line = fields.line(1);
    let body = line.strip_suffix(b"\n").expect("a line ends in a newline");
    assert!(body.iter().all(|byte| *byte >= b' ' && *byte != 0x7f));
    let object: Value = serde_json::from_slice(body).expect("a line is JSON");
    assert_eq!(object.as_object().map(serde_json::Map::len), Some(16));
    if data.len() <= LONGEST_TEXT {
        assert_eq!(object["tls.client.server_name"], String::from_utf8_lossy(data).as_ref());
    }
    assert!(object["url.path"].as_str().is_some_and(|path| !path.contains('?')));
});
