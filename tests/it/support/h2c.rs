//! Only a client's half of HTTP/2 belongs here, over the `h2` crate and, for frames it would not write, by hand.

use bytes::Bytes;
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use super::client::Wire;
use super::within;

/// A client connection; requests go out on streams of their own.
pub struct H2 {
    pub send: h2::client::SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn value(&self, name: &str) -> String {
        let values: Vec<String> = self
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        values.join("|")
    }

    /// This is sekisho's page for `reason`.
    #[track_caller]
    pub fn page(&self, status: u16, reason: &str) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.value("proxy-status").ends_with(&format!("; details=\"{reason}\"")), "wanted {reason}: {self:?}");
        assert_eq!(self.value("cache-control"), "no-store");
        assert!(self.text().contains(reason), "{}", self.text());
        self
    }
}

impl H2 {
    pub async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(wire: Wire<S>) -> Self {
        let (send, connection) = within("HTTP/2's preface", h2::client::handshake(wire.io)).await.expect("HTTP/2");
        Self { send, driver: tokio::spawn(connection) }
    }

    /// # Errors
    /// What reset the stream or ended the connection.
    pub async fn request(
        &mut self,
        request: Request<()>,
        body: &[u8],
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, h2::Error> {
        within("an HTTP/2 answer", async {
            self.send = self.send.clone().ready().await?;
            let ends = body.is_empty() && trailers.is_none();
            let (response, mut stream) = self.send.send_request(request, ends)?;
            if !ends {
                stream.send_data(Bytes::copy_from_slice(body), trailers.is_none())?;
                if let Some(trailers) = trailers {
                    stream.send_trailers(trailers)?;
                }
            }
            collect(response.await?).await
        })
        .await
    }

    pub async fn get(&mut self, uri: &str) -> Result<Answer, h2::Error> {
        self.request(Request::get(uri).body(()).expect("a request"), b"", None).await
    }

    /// Waits for the peer to end the connection.
    pub async fn ended(self) -> Result<(), h2::Error> {
        drop(self.send);
        within("the connection's end", self.driver).await.expect("joined")
    }
}

pub async fn collect(response: http::Response<h2::RecvStream>) -> Result<Answer, h2::Error> {
    let (parts, mut content) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = content.data().await {
        let data = data?;
        let _ = content.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    let trailers = content.trailers().await?.unwrap_or_default();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, trailers })
}

/// The client's preface with empty SETTINGS.
pub fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat()
}

/// One frame (RFC 9113 section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// A HEADERS frame that ends its stream where `ends`, every field a literal without indexing (RFC 7541 section 6.2.2).
pub fn headers(stream: u32, ends: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).expect("short");
            assert!(length < 127, "one octet of length");
            block.push(length);
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(1, 4 | u8::from(ends), stream, &block)
}

/// What a hand-written client sees of one frame.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == 7 { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four octets"))
    }
}

/// The next frame; `None` at the end of the connection.
pub async fn next<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) -> Option<Frame> {
    let head = wire.exactly(9).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    let payload = wire.exactly(usize::try_from(length).expect("fits")).await?;
    Some(Frame { kind: head[3], flags: head[4], stream, payload })
}

/// The frame that ends `stream`: RST_STREAM, GOAWAY, or one with END_STREAM; `None` at the end of the connection.
pub async fn end_of<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, stream: u32) -> Option<Frame> {
    loop {
        let frame = next(wire).await?;
        let ends_stream = frame.stream == stream && (frame.kind == 3 || (frame.kind <= 1 && frame.flags & 1 == 1));
        if ends_stream || frame.kind == 7 {
            return Some(frame);
        }
    }
}
