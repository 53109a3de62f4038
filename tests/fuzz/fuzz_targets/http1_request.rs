//! Any octets as a request: no panic; in pieces as in one; and what is taken, written anew, reads back as the same message
//! with nothing behind it (`threats.md` group E). The first octet chooses the size of the pieces.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sekisho::http1::{
    Connection, Framing, HeadError, Limits, RequestHead, RequestReader, Target, Version, write_request,
};

fuzz_target!(|data: &[u8]| {
    let Some((piece, bytes)) = data.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(summary(&whole), summary(&read(bytes, usize::from(*piece).max(1))));
    let Ok(Some(head)) = whole else { return };
    assert!(head.version() == Version::Http10 || head.host().is_some());
    let path = match head.target() {
        Target::Origin(path) => path,
        Target::Absolute { path_and_query, .. } => path_and_query,
        Target::Asterisk => b"*",
        Target::Authority(_) => return,
    };
    let mut out = BytesMut::new();
    write_request(&mut out, head.method(), path, "h.test", head.fields(), head.framing(), Connection::Persist)
        .expect("what was read can be written");
    let again =
        RequestReader::default().read(&mut out, &Limits { head: usize::MAX, fields: usize::MAX, target: usize::MAX });
    let again = again.expect("what is written is unambiguous").expect("and complete");
    assert!(out.is_empty());
    assert_eq!((again.method(), again.framing()), (head.method(), head.framing()));
    assert_eq!(passed_on(&again), passed_on(&head));
});

fn read(bytes: &[u8], piece: usize) -> Result<Option<RequestHead>, HeadError> {
    let (mut reader, mut buf) = (RequestReader::default(), BytesMut::new());
    for part in bytes.chunks(piece) {
        buf.extend_from_slice(part);
        if let Some(head) = reader.read(&mut buf, &Limits::default())? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

type Summary = (Vec<Vec<u8>>, Framing);

fn summary(read: &Result<Option<RequestHead>, HeadError>) -> Result<Option<Summary>, HeadError> {
    match read {
        Ok(Some(head)) => Ok(Some((passed_on(head), head.framing()))),
        Ok(None) => Ok(None),
        Err(error) => Err(*error),
    }
}

/// Names and values of all fields the writer does not own.
fn passed_on(head: &RequestHead) -> Vec<Vec<u8>> {
    const OWN: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "upgrade"];
    let own = |name: &[u8]| OWN.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
    head.fields().filter(|(name, _)| !own(name)).flat_map(|(name, value)| [name.to_vec(), value.to_vec()]).collect()
}
