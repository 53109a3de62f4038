//! Heads of HTTP/2 messages: what a request says, what of it goes to the upstream, what of an answer goes to the client.
//!
//! Pure functions, no I/O. Which field passes is decided in `fields`; whether the request may is decided by the [`Exchange`].

use std::iter;

use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, TE};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, request, response};

use super::h2_settings::{FIELDS, HEAD};
use super::scope::Facts;
use crate::exchange::fields::{request_field_passes, response_field_passes};
use crate::exchange::{After, Exchange, Refusal};
use crate::reason::Reason;
use crate::reply::Page;

/// What decides how a message is framed, beside the fields themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Plain,
    /// The answer to HEAD has no content.
    Head,
    /// An extended CONNECT (RFC 8441): DATA both ways, each way ended by itself.
    Tunnel,
}

/// Whether the client waits for our `100 (Continue)` before it sends the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    Continue,
    Nothing,
}

/// A request head as the client sent it.
pub struct RequestHead<'a> {
    parts: &'a request::Parts,
    host: Option<&'a HeaderValue>,
    path: &'a str,
    octets: usize,
    form: Form,
}

impl<'a> RequestHead<'a> {
    pub fn read(parts: &'a request::Parts) -> Self {
        let websocket = parts.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket");
        let form = match parts.method {
            Method::HEAD => Form::Head,
            Method::CONNECT if websocket => Form::Tunnel,
            _ => Form::Plain,
        };
        let path = parts.uri.path_and_query().map_or("*", |path| path.as_str());
        let fields: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let authority = parts.uri.authority().map_or(0, |authority| "host: \r\n".len() + authority.as_str().len());
        let line = parts.method.as_str().len() + path.len() + "  HTTP/1.1\r\n\r\n".len();
        Self { parts, host: parts.headers.get(HOST), path, octets: line + authority + fields, form }
    }

    pub fn form(&self) -> Form {
        self.form
    }

    pub fn expectation(&self) -> Expectation {
        match self.parts.headers.get(EXPECT).is_some_and(continues) {
            true => Expectation::Continue,
            false => Expectation::Nothing,
        }
    }

    pub fn facts(&self) -> Facts<'_> {
        Facts {
            method: self.parts.method.as_str(),
            authorities: [
                self.parts.uri.authority().map(|authority| authority.as_str().as_bytes()),
                self.host.map(HeaderValue::as_bytes),
            ],
            path: self.path.as_bytes(),
            // Of extended CONNECT only WebSocket is relayed; another `:protocol` is a method we do not take.
            extended_connect: self.form == Form::Tunnel,
        }
    }

    /// The request to send upstream, or why there is none: what is wrong with the head by itself comes before the verdict.
    ///
    /// # Errors
    /// The [`Refusal`] to answer with.
    pub fn judge(&self, exchange: &Exchange) -> Result<Request<()>, Refusal> {
        let refused = |reason| Refusal { reason, after: After::Continue };
        let length = self.check().map_err(refused)?;
        exchange.verdict()?;
        self.to_upstream(exchange, length).map_err(refused)
    }

    /// Whether this is an unambiguous request for an `https` URI; its content length where it names one.
    fn check(&self) -> Result<Option<u64>, Reason> {
        let fields = &self.parts.headers;
        // Without `:authority` the crate does not tell the scheme; we send `https` in any case.
        let scheme_is_ours = self.parts.uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTPS);
        let plain_connect = self.parts.method == Method::CONNECT && self.parts.uri.path_and_query().is_none();
        let path_is_one =
            self.path.starts_with('/') || plain_connect || (self.path == "*" && self.parts.method == Method::OPTIONS);
        // As HTTP/1 has it: a URI is ASCII (RFC 3986), and there is one expectation (RFC 9110 section 10.1.1).
        let mut expectations = fields.get_all(EXPECT).iter();
        let expects_else = expectations.next().is_some_and(|value| !continues(value)) || expectations.next().is_some();
        if !self.path.is_ascii() || expects_else {
            return Err(Reason::MalformedRequest);
        }
        if !scheme_is_ours || !path_is_one || fields.get_all(HOST).iter().count() > 1 {
            return Err(Reason::MalformedRequest);
        }
        // RFC 9113 section 8.2.1; and what HTTP/1 takes for a method.
        let padded = fields.values().any(|value| value.as_bytes().trim_ascii().len() != value.len());
        if padded || self.parts.method.as_str().bytes().any(|octet| octet.is_ascii_lowercase()) {
            return Err(Reason::MalformedRequest);
        }
        if fields.len() > FIELDS {
            return Err(Reason::HeadTooLarge);
        }
        content_length(fields).map_err(|NotALength| Reason::MalformedRequest)
    }

    fn to_upstream(&self, exchange: &Exchange, length: Option<u64>) -> Result<Request<()>, Reason> {
        let restrictions = exchange.restrictions();
        if self.octets.saturating_add(restrictions.octets()) > HEAD {
            return Err(Reason::HeadTooLarge);
        }
        let mut fields = HeaderMap::with_capacity(self.parts.headers.len());
        for (name, value) in &self.parts.headers {
            if request_field_passes(name.as_str().as_bytes(), restrictions, iter::empty()) {
                fields.append(name.clone(), value.clone());
            }
        }
        // gRPC asks for trailers so; the crate has refused any other value (RFC 9113 section 8.2.2).
        if self.parts.headers.get(TE).is_some_and(|te| te == "trailers") {
            fields.insert(TE, HeaderValue::from_static("trailers"));
        }
        // A CONNECT has no content (RFC 9110 section 9.3.6).
        if let Some(length) = length.filter(|_| self.form != Form::Tunnel) {
            fields.insert(CONTENT_LENGTH, length.into());
        }
        // Last, so that nothing of the client's can come after ours (G03).
        for field in restrictions.iter() {
            fields.insert(field.name.clone(), field.value.clone());
        }
        let uri = Uri::builder().scheme(Scheme::HTTPS).authority(exchange.host()).path_and_query(self.path);
        let mut request = Request::new(());
        *request.uri_mut() = uri.build().map_err(|_| Reason::InternalError)?;
        *request.method_mut() = self.parts.method.clone();
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = fields;
        if self.form == Form::Tunnel {
            request.extensions_mut().insert(Protocol::from_static("websocket"));
        }
        Ok(request)
    }
}

fn continues(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// The head of an answer as the client is to see it.
///
/// # Errors
/// [`Reason::UpstreamMalformed`] where its `Content-Length` is not one number, or its status not one of RFC 9110 section 15.
pub fn to_client(parts: response::Parts, form: Form) -> Result<Response<()>, Reason> {
    let length = content_length(&parts.headers).map_err(|NotALength| Reason::UpstreamMalformed)?;
    if parts.status.as_u16() > 599 {
        return Err(Reason::UpstreamMalformed);
    }
    // RFC 9110 section 8.6: neither 204 nor a successful CONNECT has a length.
    let lengthless = parts.status == StatusCode::NO_CONTENT || (form == Form::Tunnel && parts.status.is_success());
    let mut fields = passing(parts.headers, |name| response_field_passes(name, iter::empty()));
    if let Some(length) = length.filter(|_| !lengthless) {
        fields.insert(CONTENT_LENGTH, length.into());
    }
    Ok(bare(parts.status, fields))
}

/// An informational response to pass on: `103 (Early Hints)` and no other. `100` is ours to send, and the rest mean nothing here.
pub fn early_hints(response: Response<()>) -> Option<Response<()>> {
    let (parts, ()) = response.into_parts();
    (parts.status == StatusCode::EARLY_HINTS)
        .then(|| bare(parts.status, passing(parts.headers, |name| response_field_passes(name, iter::empty()))))
}

pub fn please_continue() -> Response<()> {
    bare(StatusCode::CONTINUE, HeaderMap::new())
}

/// The head of an answer of our own.
///
/// # Errors
/// A field of the page is not one.
pub fn of_page(page: &Page) -> Result<Response<()>, http::Error> {
    let start = Response::builder().status(page.status).header(CONTENT_LENGTH, page.body.len());
    page.fields.iter().fold(start, |head, (name, value)| head.header(*name, value)).body(())
}

/// Whether an answer ends with its head, whatever the upstream sends behind it (RFC 9110 section 6.4.1).
pub fn is_contentless(status: StatusCode, form: Form) -> bool {
    form == Form::Head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The fields whose names pass, without blanks at the ends of their values, as over HTTP/1: with them they would be malformed (RFC 9113
/// section 8.2.1).
pub fn passing(fields: HeaderMap, passes: impl Fn(&[u8]) -> bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(fields.len());
    for (name, value) in &fields {
        if passes(name.as_str().as_bytes()) {
            kept.append(name.clone(), trimmed(value));
        }
    }
    kept
}

fn trimmed(value: &HeaderValue) -> HeaderValue {
    let octets = value.as_bytes().trim_ascii();
    // Part of what is a value is one.
    let part = (octets.len() != value.len()).then(|| HeaderValue::from_bytes(octets).ok()).flatten();
    part.unwrap_or_else(|| value.clone())
}

fn bare(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

struct NotALength;

/// The one length all `Content-Length` fields name. The crate takes an empty value for zero; we do not.
fn content_length(fields: &HeaderMap) -> Result<Option<u64>, NotALength> {
    let mut length = None;
    for value in fields.get_all(CONTENT_LENGTH) {
        let text = value.to_str().map_err(|_| NotALength)?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|_| digits).ok_or(NotALength)?;
        if length.is_some_and(|known| known != number) {
            return Err(NotALength);
        }
        length = Some(number);
    }
    Ok(length)
}
