//! The client's HTTP/1.1: one answer read off a stream, its content counted and thrown away.
//!
//! Written apart from `http1` on purpose. It takes what a measuring client has to take: a status, a Content-Length, or none where
//! none can be. An answer of another shape is a failure of its own kind, never a guess.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::Failure;

/// Octets of one read. A TLS record holds 16 KiB.
pub const SCRATCH: usize = 32 * 1024;
const MAX_HEAD: usize = 16 * 1024;

/// The head of an answer, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// Octets of the content that follows; `None`: up to the end of the connection (RFC 9112 section 6.3).
    pub length: Option<u64>,
    /// Whether the connection cannot be used again.
    pub closes: bool,
}

/// Reads a head at the beginning of `octets`; `None` while it is not whole. With it, how many octets it took.
///
/// # Errors
/// `not_http` where it is no head, `framing` where it is chunked: the tool's origin and a proxy's refusal are not.
pub fn parse(octets: &[u8]) -> Result<Option<(Head, usize)>, Failure> {
    let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if octets.len() < MAX_HEAD { Ok(None) } else { Err(not_http()) };
    };
    let text = std::str::from_utf8(&octets[..end]).map_err(|_| not_http())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status: u16 = status.ok_or_else(not_http)?;
    let (mut length, mut closes) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Failure::new("framing", format!("an answer with status {status} and Transfer-Encoding")));
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    let length = match (length, status) {
        (Some(length), _) => Some(length),
        (None, 100..200 | 204 | 304) => Some(0),
        (None, _) => None,
    };
    Ok(Some((Head { status, length, closes }, end + 4)))
}

fn not_http() -> Failure {
    Failure::new("not_http", "what was answered is no HTTP/1.1 response")
}

/// The answer to a CONNECT that opened the tunnel has no content, whatever it says (RFC 9110 section 9.3.6).
///
/// # Errors
/// As [`parse`], and as a stream fails.
pub async fn read_connect(stream: &mut (impl AsyncRead + Unpin)) -> Result<Head, Failure> {
    let mut scratch = [0; 4096];
    let mut filled = 0;
    loop {
        let octets = stream.read(&mut scratch[filled..]).await;
        let octets = octets.map_err(|error| Failure::of_io("reading the answer to CONNECT", &error))?;
        if octets == 0 {
            return Err(Failure::new("closed", "the proxy closed before it answered the CONNECT"));
        }
        filled += octets;
        if scratch[..filled].starts_with(b"HTTP/1.1 200") || scratch[..filled].starts_with(b"HTTP/1.0 200") {
            if scratch[..filled].ends_with(b"\r\n\r\n") {
                return Ok(Head { status: 200, length: Some(0), closes: false });
            }
        } else if let Some((head, used)) = parse(&scratch[..filled])? {
            match head.length {
                Some(length) => skip(stream, length.saturating_sub((filled - used) as u64)).await?,
                None => _ = skip_to_end(stream).await?,
            }
            return Ok(head);
        }
        if filled == scratch.len() {
            return Err(not_http());
        }
    }
}

async fn skip_to_end(stream: &mut (impl AsyncRead + Unpin)) -> Result<u64, Failure> {
    let copied = tokio::io::copy(stream, &mut tokio::io::sink()).await;
    copied.map_err(|error| Failure::of_io("reading the refusal", &error))
}

async fn skip(stream: &mut (impl AsyncRead + Unpin), octets: u64) -> Result<(), Failure> {
    let copied = skip_to_end(&mut stream.take(octets)).await?;
    if copied < octets { Err(Failure::new("closed", "the refusal was cut short")) } else { Ok(()) }
}

/// One whole answer, whose head has to fit into `scratch`. `received` is told of its content as it comes.
///
/// # Errors
/// As [`parse`], and as a stream fails; `closed` where it ends early, `framing` where no length says where it ends: the tool's origin
/// always says.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    scratch: &mut [u8],
    mut received: impl FnMut(u64),
) -> Result<Head, Failure> {
    let mut filled = 0;
    let (head, mut got) = loop {
        if let Some((head, used)) = parse(&scratch[..filled])? {
            break (head, (filled - used) as u64);
        }
        if filled == scratch.len() {
            return Err(not_http());
        }
        filled += some(stream, &mut scratch[filled..]).await?;
    };
    received(got);
    let Some(length) = head.length else {
        return Err(Failure::new("framing", format!("an answer with status {} and no Content-Length", head.status)));
    };
    while got < length {
        let octets = some(stream, scratch).await? as u64;
        received(octets);
        got += octets;
    }
    if got > length { Err(Failure::new("framing", "more content than Content-Length says")) } else { Ok(head) }
}

async fn some(stream: &mut (impl AsyncRead + Unpin), scratch: &mut [u8]) -> Result<usize, Failure> {
    match stream.read(scratch).await {
        Ok(0) => Err(Failure::new("closed", "the connection ended before the answer did")),
        Ok(octets) => Ok(octets),
        Err(error) => Err(Failure::of_io("reading the answer", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_what_is_none() {
        let read = |text: &str| parse(text.as_bytes());
        let head = |status, length, closes| Head { status, length: Some(length), closes };
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello", head(200, 13, false)),
            ("HTTP/1.1 403 Forbidden\r\ncontent-length:0\r\nConnection: close\r\n\r\n", head(403, 0, true)),
            ("HTTP/1.1 204 No Content\r\n\r\n", head(204, 0, false)),
        ] {
            assert_eq!(read(text).map(|found| found.map(|(head, _)| head)), Ok(Some(expected)), "{text}");
        }
        for cut in 0.."HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r".len() {
            assert_eq!(read(&"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r"[..cut]), Ok(None));
        }
        for (text, kind) in [
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "framing"),
            ("SSH-2.0-OpenSSH\r\n\r\n", "not_http"),
            ("HTTP/1.1 20\r\n\r\n", "not_http"),
        ] {
            assert_eq!(read(text).expect_err(text).kind, kind);
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end_however_it_comes() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n0123456789012345678901234567890123456789";
        for piece in [1, 7, 1_000] {
            let (mut near, mut far) = tokio::io::duplex(piece);
            let mut counted = 0;
            let mut scratch = [0; 64];
            let (answer, sent) = tokio::join!(
                read(&mut near, &mut scratch, |octets| counted += octets),
                tokio::io::AsyncWriteExt::write_all(&mut far, whole)
            );
            sent.expect("sent");
            assert_eq!((answer.expect("an answer").length, counted), (Some(40), 40), "{piece}");
        }
    }

    #[tokio::test]
    async fn an_answer_cut_short_is_closed() {
        let mut cut: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n0123";
        assert_eq!(read(&mut cut, &mut [0; 64], |_| ()).await.expect_err("cut").kind, "closed");
        let mut more: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n0123";
        assert_eq!(read(&mut more, &mut [0; 64], |_| ()).await.expect_err("more").kind, "framing");
    }

    #[tokio::test]
    async fn nothing_behind_a_200_is_taken_from_the_tunnel() {
        let mut opened: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(read_connect(&mut opened).await.expect("opened").status, 200);
        let mut refused: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnever";
        assert_eq!(read_connect(&mut refused).await.expect("refused").status, 403);
        assert!(refused.is_empty());
    }

    #[tokio::test]
    async fn a_refusal_without_a_length_goes_to_the_end_and_another_answer_may_not() {
        let whole = b"HTTP/1.1 403 Filtered\r\nConnection: close\r\n\r\na page";
        let mut refusal = &whole[..];
        assert_eq!(read_connect(&mut refusal).await, Ok(Head { status: 403, length: None, closes: true }));
        assert!(refusal.is_empty());
        let failure = read(&mut &whole[..], &mut [0; 100], |_| {}).await.expect_err("no length");
        assert_eq!(failure.kind, "framing");
    }
}
