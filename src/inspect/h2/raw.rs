//! A peer that speaks HTTP/2 by hand: frames and HPACK as the RFCs write them, sharing no code with the relay under test.
//!
//! What it sends is exactly what a test wrote; what it reads is decoded from RFC 7541 alone.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// END_STREAM of DATA and HEADERS, ACK of SETTINGS and PING.
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;
pub const HTTP_1_1_REQUIRED: u32 = 13;

pub type Fields = Vec<(String, String)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    Head {
        stream: u32,
        fields: Fields,
        end: bool,
    },
    Data {
        stream: u32,
        octets: Vec<u8>,
        end: bool,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    GoAway {
        last: u32,
        code: u32,
    },
    Settings(Vec<(u16, u32)>),
    SettingsAck,
    Pong,
    Window {
        stream: u32,
        octets: u32,
    },
    /// The connection is closed.
    End,
}

/// A frame header and its payload (RFC 9113 section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).expect("payload").to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload = pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, &payload.collect::<Vec<_>>())
}

pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &literal(fields))
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub fn window(stream: u32, octets: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &octets.to_be_bytes())
}

/// A head of any length, in as many frames as it takes.
pub fn long_headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let block = literal(fields);
    let parts: Vec<_> = block.chunks(16 * 1024).collect();
    let frames = parts.iter().enumerate().map(|(at, part)| {
        let last = if at + 1 == parts.len() { END_HEADERS } else { 0 };
        let (kind, flags) = if at == 0 { (HEADERS, flags | last) } else { (CONTINUATION, last) };
        frame(kind, flags, stream, part)
    });
    frames.collect::<Vec<_>>().concat()
}

/// A header block of literals without indexing, new name (RFC 7541 section 6.2.2), nothing Huffman coded.
pub fn literal(fields: &[(&str, &str)]) -> Vec<u8> {
    let bytes: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    literal_bytes(&bytes)
}

pub fn literal_bytes(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(&mut out, 7, text.len());
            out.extend(*text);
        }
    }
    out
}

fn integer(out: &mut Vec<u8>, prefix: u32, mut value: usize) {
    let full = (1usize << prefix) - 1;
    if value < full {
        return out.push(value as u8);
    }
    out.push(full as u8);
    value -= full;
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

pub struct Raw {
    pub io: DuplexStream,
    /// Whether SETTINGS are acknowledged, as RFC 9113 section 6.5.3 wants it.
    pub acknowledges: bool,
    dynamic: Vec<(String, String)>,
}

impl Raw {
    pub fn new(io: DuplexStream) -> Self {
        Self { io, acknowledges: true, dynamic: Vec::new() }
    }

    /// The client's preface, with SETTINGS.
    pub async fn preface(&mut self, pairs: &[(u16, u32)]) {
        self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        self.send(&settings(pairs)).await;
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("the relay reads");
    }

    /// The next frame, whatever it is. SETTINGS and PING are acknowledged on the way.
    pub async fn any(&mut self) -> Got {
        let Some((kind, mut flags, stream, mut payload)) = self.read().await else {
            return Got::End;
        };
        let end = flags & END_STREAM != 0;
        while matches!(kind, HEADERS) && flags & END_HEADERS == 0 {
            let (next, more, of, block) = self.read().await.expect("the rest of a head");
            assert_eq!((next, of), (CONTINUATION, stream));
            payload.extend(block);
            flags = more;
        }
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four octets"));
        match kind {
            DATA => Got::Data { stream, octets: payload, end },
            HEADERS => Got::Head { stream, fields: self.decode(&payload), end },
            RST_STREAM => Got::Reset { stream, code: number(0) },
            GOAWAY => Got::GoAway { last: number(0), code: number(4) },
            SETTINGS if flags & ACK != 0 => Got::SettingsAck,
            SETTINGS => {
                let pairs = payload.chunks(6).map(|pair| {
                    let value = u32::from_be_bytes(pair[2..6].try_into().expect("four octets"));
                    (u16::from_be_bytes([pair[0], pair[1]]), value)
                });
                let pairs = pairs.collect();
                if self.acknowledges {
                    let _ = self.io.write_all(&frame(SETTINGS, ACK, 0, &[])).await;
                }
                Got::Settings(pairs)
            }
            PING if flags & ACK != 0 => Got::Pong,
            PING => {
                let _ = self.io.write_all(&frame(PING, ACK, 0, &payload)).await;
                Box::pin(self.any()).await
            }
            WINDOW_UPDATE => Got::Window { stream, octets: number(0) },
            other => panic!("a frame of type {other} that we never send"),
        }
    }

    /// A whole frame: type, flags, stream, payload.
    async fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.io.read_exact(&mut payload).await.expect("a whole frame");
        Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// The next frame that is about a message or the end.
    pub async fn next(&mut self) -> Got {
        loop {
            match self.any().await {
                Got::Settings(_) | Got::SettingsAck | Got::Pong | Got::Window { .. } => {}
                got => return got,
            }
        }
    }

    /// The next head: its stream and fields.
    pub async fn head(&mut self) -> (u32, Fields, bool) {
        match self.next().await {
            Got::Head { stream, fields, end } => (stream, fields, end),
            other => panic!("a head was due: {other:?}"),
        }
    }

    /// The stream and status of the next head; content and resets before it are passed over.
    pub async fn answered(&mut self) -> (u32, String) {
        loop {
            match self.next().await {
                Got::Head { stream, fields, .. } => return (stream, get(&fields, ":status").to_owned()),
                Got::Data { .. } | Got::Reset { .. } => {}
                other => panic!("a head was due: {other:?}"),
            }
        }
    }

    /// What comes until nothing has for as long as `quiet`.
    pub async fn frames_within(&mut self, quiet: std::time::Duration) -> Vec<Got> {
        let mut all = Vec::new();
        loop {
            match tokio::time::timeout(quiet, self.next()).await {
                Ok(Got::End) | Err(_) => return all,
                Ok(got) => all.push(got),
            }
        }
    }

    /// The status of the next head and its stream; the content behind it is read to its end.
    pub async fn answer(&mut self) -> (u32, String, Vec<u8>) {
        let (stream, fields, mut ended) = self.head().await;
        let mut body = Vec::new();
        while !ended {
            match self.next().await {
                Got::Data { stream: of, octets, end } if of == stream => {
                    body.extend(octets);
                    ended = end;
                }
                other => panic!("content of stream {stream} was due: {other:?}"),
            }
        }
        (stream, get(&fields, ":status").to_owned(), body)
    }

    /// The stream and status of the next answer.
    pub async fn status(&mut self) -> (u32, String) {
        let (stream, status, _) = self.answer().await;
        (stream, status)
    }

    /// Everything until the connection is closed.
    pub async fn rest(&mut self) -> Vec<Got> {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Got::End => return all,
                got => all.push(got),
            }
        }
    }

    /// RFC 7541 sections 3 and 6, for blocks that are well-formed.
    fn decode(&mut self, mut block: &[u8]) -> Fields {
        let mut fields = Vec::new();
        while let Some(&first) = block.first() {
            let prefix = match first {
                0x80.. => 7,
                0x40.. => 6,
                0x20.. => 5,
                _ => 4,
            };
            let index = take_integer(&mut block, prefix);
            if prefix == 5 {
                continue;
            }
            let field = if prefix == 7 {
                self.entry(index)
            } else {
                let name = if index == 0 { take_string(&mut block) } else { self.entry(index).0 };
                (name, take_string(&mut block))
            };
            if prefix == 6 {
                self.dynamic.insert(0, field.clone());
                self.evict();
            }
            fields.push(field);
        }
        fields
    }

    fn entry(&self, index: usize) -> (String, String) {
        match STATIC.get(index - 1) {
            Some((name, value)) => ((*name).to_owned(), (*value).to_owned()),
            None => self.dynamic[index - 1 - STATIC.len()].clone(),
        }
    }

    fn evict(&mut self) {
        let mut size = 0;
        let fits = |field: &&(String, String)| {
            size += field.0.len() + field.1.len() + 32;
            size <= 4096
        };
        let kept = self.dynamic.iter().take_while(fits).count();
        self.dynamic.truncate(kept);
    }
}

/// The one value of a field.
pub fn get<'a>(fields: &'a Fields, name: &str) -> &'a str {
    match all(fields, name)[..] {
        [value] => value,
        ref other => panic!("one {name} was due: {other:?}"),
    }
}

pub fn all<'a>(fields: &'a Fields, name: &str) -> Vec<&'a str> {
    fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

fn take_integer(block: &mut &[u8], prefix: u32) -> usize {
    let full = (1usize << prefix) - 1;
    let mut value = take(block, 1)[0] as usize & full;
    if value < full {
        return value;
    }
    for shift in (0..).step_by(7) {
        let byte = take(block, 1)[0] as usize;
        value += (byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    value
}

fn take_string(block: &mut &[u8]) -> String {
    let coded = block[0] & 0x80 != 0;
    let length = take_integer(block, 7);
    let octets = take(block, length);
    String::from_utf8(if coded { unhuffman(octets) } else { octets.to_vec() }).expect("text")
}

fn take<'a>(block: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (front, rest) = block.split_at(count);
    *block = rest;
    front
}

/// The code of RFC 7541 appendix B is canonical: it follows from the lengths alone.
fn unhuffman(octets: &[u8]) -> Vec<u8> {
    let mut symbols: Vec<usize> = (0..256).collect();
    symbols.sort_by_key(|&symbol| (LENGTHS[symbol], symbol));
    let mut codes = std::collections::HashMap::new();
    let (mut code, mut length) = (0u32, LENGTHS[symbols[0]]);
    for symbol in symbols {
        code <<= LENGTHS[symbol] - length;
        length = LENGTHS[symbol];
        codes.insert((length, code), symbol as u8);
        code += 1;
    }
    let (mut out, mut code, mut length) = (Vec::new(), 0u32, 0u8);
    for bit in octets.iter().flat_map(|octet| (0..8).rev().map(move |at| octet >> at & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        if let Some(symbol) = codes.get(&(length, code)) {
            out.push(*symbol);
            (code, length) = (0, 0);
        }
    }
    out
}

/// Code lengths of RFC 7541 appendix B, by symbol.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// RFC 7541 appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];
