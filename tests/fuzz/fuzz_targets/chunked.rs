//! Any octets as chunked content: no panic; in pieces as in one; and what is taken, written anew, reads back the same
//! (`threats.md` E05 to E07). The first octet chooses the size of the pieces.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sekisho::http1::{BodyError, BodyReader, Framing, Part, Trailers, write_chunk, write_last_chunk};

#[derive(Debug, Default, PartialEq)]
struct Content {
    data: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    ended: bool,
}

fuzz_target!(|data: &[u8]| {
    let Some((piece, bytes)) = data.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    let pieces = read(bytes, usize::from(*piece).max(1));
    assert_eq!(whole, pieces);
    let Ok(content) = whole else { return };
    if !content.ended {
        return;
    }
    let mut out = BytesMut::new();
    write_chunk(&mut out, &content.data);
    let trailers = content.trailers.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    write_last_chunk(&mut out, trailers).expect("what was read can be written");
    assert_eq!(read(&out, 7), Ok(content));
});

fn read(bytes: &[u8], piece: usize) -> Result<Content, BodyError> {
    let (mut reader, mut buf, mut content) = (BodyReader::new(Framing::Chunked), BytesMut::new(), Content::default());
    for part in bytes.chunks(piece) {
        buf.extend_from_slice(part);
        loop {
            match reader.advance(&mut buf)? {
                Part::Data(data) => content.data.extend_from_slice(&data),
                Part::NeedMore => break,
                Part::End(trailers) => {
                    let fields = trailers.iter().flat_map(Trailers::fields);
                    content.trailers = fields.map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
                    content.ended = true;
                    return Ok(content);
                }
            }
        }
    }
    Ok(content)
}
