//! Any octets as a response: no panic; in pieces as in one; and what is taken, written anew, reads back as the same message
//! (`threats.md` E17). The first octet chooses the size of the pieces and the method that is answered.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sekisho::http1::{
    Connection, Framing, Limits, Method, ResponseError, ResponseHead, ResponseReader, write_response,
};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let request = [Method::Get, Method::Head, Method::Connect, Method::Post][usize::from(choice & 3)].clone();
    let whole = read(bytes, &request, bytes.len().max(1));
    assert_eq!(summary(&whole), summary(&read(bytes, &request, usize::from(choice >> 2).max(1))));
    let Ok(Some(head)) = whole else { return };
    if request == Method::Connect {
        return;
    }
    let connection = head.upgrade().map_or(Connection::Persist, Connection::Upgrade);
    let mut out = BytesMut::new();
    let declared = head.declared_framing();
    write_response(&mut out, head.status(), head.reason_phrase(), head.fields(), declared, connection)
        .expect("what was read can be written");
    let limits = Limits { head: usize::MAX, fields: usize::MAX, target: usize::MAX };
    let again = ResponseReader::default().read(&mut out, &request, &limits);
    let again = again.expect("what is written is unambiguous").expect("and complete");
    assert!(out.is_empty());
    assert_eq!((again.status(), again.framing(), again.declared_framing()), (head.status(), head.framing(), declared));
});

fn read(bytes: &[u8], request: &Method, piece: usize) -> Result<Option<ResponseHead>, ResponseError> {
    let (mut reader, mut buf) = (ResponseReader::default(), BytesMut::new());
    for part in bytes.chunks(piece) {
        buf.extend_from_slice(part);
        if let Some(head) = reader.read(&mut buf, request, &Limits::default())? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

type Summary = (u16, Framing, Vec<Vec<u8>>);

fn summary(read: &Result<Option<ResponseHead>, ResponseError>) -> Result<Option<Summary>, ResponseError> {
    match read {
        Ok(Some(head)) => {
            let fields = head.fields().flat_map(|(name, value)| [name.to_vec(), value.to_vec()]).collect();
            Ok(Some((head.status(), head.framing(), fields)))
        }
        Ok(None) => Ok(None),
        Err(error) => Err(*error),
    }
}
