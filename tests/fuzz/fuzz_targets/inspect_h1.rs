//! Any octets as the requests of an inspected HTTP/1.1 connection, relayed to an upstream in memory: what arrives there is read
//! again by a strict and naive reader of its own, which must find whole requests with one framing and one `Host`, our tenant field
//! once and as we set it, and as many requests as the record says were allowed: none smuggled in, none doubled (`threats.md`
//! groups E and G). The first octet chooses the size of the pieces.
#![no_main]

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sekisho::forward::Leg;
use sekisho::inspect::h1;
use sekisho::inspect::scope::Scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use self::stage::{HOST, OURS, Stage, TENANT};

#[expect(clippy::duplicate_mod, reason = "a program of its own, but for the replay")]
#[path = "../stage.rs"]
mod stage;

/// Octets a pipe holds: what stands for the sockets.
const PIPE: usize = 16 * 1024;

static STAGE: OnceLock<Mutex<Stage>> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let Some((piece, wire)) = data.split_first() else { return };
    let stage = STAGE.get_or_init(stage);
    // One input that failed must not make all others fail.
    let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
    let (scope, before) = (stage.scope(), stage.requests());
    let sent = stage.runtime.block_on(play(&scope, wire, usize::from(*piece).max(1)));
    let after = stage.requests();
    let (allowed, failed) = (after.allowed - before.allowed, after.failed - before.failed);
    let recorded = after.started - before.started;

    let (mut whole, mut rest) = (0, sent.as_slice());
    let begun = loop {
        match read(rest) {
            Read::Whole(octets) => {
                rest = &rest[octets..];
                whole += 1;
            }
            Read::Begun => break whole + 1,
            Read::Nothing => {
                assert!(rest.is_empty(), "a head is written whole or not at all: {}", rest.escape_ascii());
                break whole;
            }
        }
    };
    assert!(allowed <= whole, "{allowed} allowed, {whole} went upstream: {}", sent.escape_ascii());
    // One whose content turns out malformed is denied when it has begun, and never becomes whole.
    assert!(whole <= allowed + failed, "{whole} went upstream of {allowed} + {failed}: {}", sent.escape_ascii());
    assert!(begun <= recorded, "{begun} went upstream of {recorded}: {}", sent.escape_ascii());
});

/// An oracle that sees nothing would find nothing.
fn stage() -> Mutex<Stage> {
    let mut stage = Stage::new("inspect_h1");
    let scope = stage.scope();
    let sent = stage.runtime.block_on(play(&scope, b"GET / HTTP/1.1\r\nHost: login.example.jp\r\n\r\n", 8));
    assert!(matches!(read(&sent), Read::Whole(octets) if octets == sent.len()), "{}", sent.escape_ascii());
    assert_eq!(stage.requests().allowed, 1);
    Mutex::new(stage)
}

/// Plays the connection to its end; what went upstream.
async fn play(scope: &Scope, wire: &[u8], piece: usize) -> Vec<u8> {
    let ((near, client), (far, upstream)) = (duplex(PIPE), duplex(PIPE));
    let (mut answers, mut requests) = tokio::io::split(near);
    let asking = async {
        for part in wire.chunks(piece) {
            if requests.write_all(part).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        // The other side may have closed first.
        let _ = requests.shutdown().await;
    };
    let mut answered = Vec::new();
    let (client, upstream) = (Leg::new(client, BytesMut::new()), Leg::new(upstream, BytesMut::new()));
    let relaying = h1::run(scope, client, upstream, Duration::from_secs(15));
    let (_, _, _, sent) = tokio::join!(relaying, asking, answers.read_to_end(&mut answered), serve(far));
    sent
}

/// An origin that answers each request once it is whole.
async fn serve(mut io: DuplexStream) -> Vec<u8> {
    let (mut sent, mut answered) = (Vec::new(), 0);
    loop {
        while let Some(Read::Whole(octets)) = sent.get(answered..).map(read) {
            let head = sent[answered..].starts_with(b"HEAD ");
            answered += octets;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            let answer = if head { &answer[..answer.len() - 2] } else { &answer[..] };
            // A relay that has gone reads no answer; what it sent before is judged all the same.
            let _ = io.write_all(answer).await;
        }
        if let Ok(0) | Err(_) = io.read_buf(&mut sent).await {
            return sent;
        }
    }
}

enum Read {
    Whole(usize),
    /// A whole head, but not all of the content.
    Begun,
    /// Not even a whole head.
    Nothing,
}

/// Reads one request as strictly as RFC 9112 writes it. A panic is the finding.
fn read(octets: &[u8]) -> Read {
    let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Read::Nothing;
    };
    let fields = head(&octets[..end]);
    let values = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| *value).collect()
    };
    assert_eq!(values("host"), [HOST.as_bytes()]);
    assert_eq!(values(OURS), [TENANT.as_bytes()]);
    for (name, _) in &fields {
        assert!(name == OURS || !name.replace('_', "-").eq_ignore_ascii_case(OURS), "{name}");
    }
    let content = &octets[end + 4..];
    let used = match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => Some(0),
        ([length], []) => {
            assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit), "{}", length.escape_ascii());
            let length: u64 = std::str::from_utf8(length).expect("digits").parse().expect("a length");
            usize::try_from(length).ok().filter(|length| *length <= content.len())
        }
        ([], [coding]) => {
            assert_eq!(coding, b"chunked");
            chunked(content)
        }
        two => panic!("two framings: {two:?}"),
    };
    used.map_or(Read::Begun, |used| Read::Whole(end + 4 + used))
}

/// The request line and the fields of a head.
fn head(octets: &[u8]) -> Vec<(String, &[u8])> {
    let mut lines = Vec::new();
    let mut rest = octets;
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    let clean = |line: &&[u8]| !line.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0));
    assert!(lines.iter().all(clean), "{}", octets.escape_ascii());
    let first: Vec<&[u8]> = lines.remove(0).split(|octet| *octet == b' ').collect();
    let [method, target, b"HTTP/1.1"] = first[..] else { panic!("no request line: {}", octets.escape_ascii()) };
    assert!(!method.is_empty() && method.iter().all(is_token) && method != b"CONNECT" && method != b"TRACE");
    assert!(target.starts_with(b"/") || target == b"*" || target.is_empty(), "{}", target.escape_ascii());
    lines.into_iter().map(field).collect()
}

fn field(line: &[u8]) -> (String, &[u8]) {
    let colon = line.iter().position(|octet| *octet == b':').expect("a field has a colon");
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    assert!(!name.is_empty() && name.iter().all(is_token), "{}", line.escape_ascii());
    (String::from_utf8(name.to_vec()).expect("a token"), value)
}

fn is_token(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet)
}

/// How many octets the chunked content takes. `None`: it is not all there.
fn chunked(content: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = content[at..].windows(2).position(|two| two == b"\r\n")?;
        let digits = &content[at..at + line];
        assert!(
            (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit),
            "{}",
            digits.escape_ascii()
        );
        let size = usize::from_str_radix(std::str::from_utf8(digits).expect("digits"), 16).expect("a size");
        at += line + 2;
        if size == 0 {
            break;
        }
        let end = content.get(at..)?.get(size..size + 2)?;
        assert_eq!(end, b"\r\n", "behind a chunk");
        at += size + 2;
    }
    loop {
        let line = content[at..].windows(2).position(|two| two == b"\r\n")?;
        let trailer = &content[at..at + line];
        at += line + 2;
        if trailer.is_empty() {
            return Some(at);
        }
        let (name, _) = field(trailer);
        let may = ["content-digest", "repr-digest", "digest"].iter().any(|one| name.eq_ignore_ascii_case(one));
        assert!(may, "{name} as a trailer");
    }
}
