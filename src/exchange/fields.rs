//! Which header fields pass between a client and an upstream, and which of ours are set: pure functions over names.
//!
//! The order is fixed and is the defence (`threats.md` G03): hop-by-hop fields go first, then every spelling of a field of ours,
//! then ours are set last, on every request of every stream. HTTP/1 and HTTP/2 both ask here and nowhere else.

use http::{HeaderName, HeaderValue};

use crate::record::Names;

/// One field sekisho sets on every request to a host.
#[derive(Clone)]
pub struct Restriction {
    pub name: HeaderName,
    /// Marked sensitive, so that no `Debug` prints it.
    pub value: HeaderValue,
}

/// What is set for one destination, and what a client may not send there.
#[derive(Clone, Default)]
pub struct Restrictions {
    fields: Vec<Restriction>,
    /// Their names and the closed ones, as [`folds_to`] wants them.
    folded: Vec<Vec<u8>>,
    /// A bit for each length that one of them has, the highest for all longer ones: most fields are none of them.
    lengths: u64,
    /// As they stand in the record of each request they are set on.
    names: Names,
    /// Sum of name and value octets, with the separator and line end of HTTP/1.
    octets: usize,
}

impl Restrictions {
    /// `closed`: further names that do not pass, whatever is set here.
    pub fn new(fields: Vec<Restriction>, closed: &[String]) -> Self {
        let octets = fields.iter().map(|field| field.name.as_str().len() + field.value.len() + 4).sum();
        let names = fields.iter().map(|field| field.name.as_str()).collect();
        let all = fields.iter().map(|field| field.name.as_str()).chain(closed.iter().map(String::as_str));
        let mut folded: Vec<Vec<u8>> = all.map(|name| name.bytes().map(fold).collect()).collect();
        folded.sort_unstable();
        folded.dedup();
        let lengths = folded.iter().fold(0, |lengths, name| lengths | length_bit(name));
        Self { fields, folded, lengths, names, octets }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Restriction> {
        self.fields.iter()
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Octets these fields add to a head. A head that has no room for them is refused, never sent without (G07).
    pub fn octets(&self) -> usize {
        self.octets
    }

    fn spells(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name) != 0 && self.folded.iter().any(|ours| folds_to(name, ours))
    }
}

fn length_bit(name: &[u8]) -> u64 {
    1 << name.len().min(63)
}

/// Whether a request field of the client goes on to the upstream.
///
/// `connection_options` are the tokens of the client's `Connection` fields. Framing (`Content-Length`,
/// `Transfer-Encoding`), `Host` and `Upgrade` are never passed on from here: the writer makes its own.
pub fn request_field_passes<'a>(
    name: &[u8],
    restrictions: &Restrictions,
    mut connection_options: impl Iterator<Item = &'a [u8]>,
) -> bool {
    let hop =
        is_hop_by_hop(name) || is_routing(name) || connection_options.any(|option| option.eq_ignore_ascii_case(name));
    !hop && !restrictions.spells(name)
}

/// Whether a response field of the upstream goes on to the client.
///
/// `Alt-Svc` would lead the client to QUIC, past the proxy (A16); a forged `Proxy-Status` would speak in our name.
pub fn response_field_passes<'a>(name: &[u8], mut connection_options: impl Iterator<Item = &'a [u8]>) -> bool {
    let hop = is_hop_by_hop(name) || connection_options.any(|option| option.eq_ignore_ascii_case(name));
    !hop && !name.eq_ignore_ascii_case(b"alt-svc")
}

/// Whether a trailer field of a request goes on. Trailers can smuggle what heads may not carry (G04), and no origin of this
/// trade needs others than integrity fields (RFC 9530), so these alone pass.
pub fn request_trailer_passes(name: &[u8]) -> bool {
    [&b"content-digest"[..], b"repr-digest", b"digest"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a trailer field of a response goes on: what a response head may carry, less what frames or routes a message.
pub fn response_trailer_passes(name: &[u8]) -> bool {
    let framing = [&b"host"[..], b"content-length", b"content-type", b"content-encoding", b"set-cookie", b"location"];
    response_field_passes(name, std::iter::empty()) && !framing.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// RFC 9110 section 7.6.1, with the fields HTTP/1 framing and its extensions use, as a gateway may spell them that speaks HTTP/1 to what is
/// behind it: `content_length` is a field like any other in HTTP/2.
fn is_hop_by_hop(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 9] = [
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"content-length",
        b"upgrade",
        b"http2-settings",
        b"host",
    ];
    NAMES.iter().any(|known| folds_to(name, known)) || has_folded_prefix(name, b"proxy-")
}

/// What tells an upstream where a request came from, and what this hop answers itself.
fn is_routing(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 3] = [b"forwarded", b"x-real-ip", b"expect"];
    NAMES.iter().any(|known| folds_to(name, known)) || has_folded_prefix(name, b"x-forwarded-")
}

/// Equality as a gateway behind the origin may see it: without case, and with `_` and every other sign of a token read as `-`,
/// as CGI variables are made (G02). `folded` is read so already: of `a` to `z`, digits and `-`.
pub fn folds_to(name: &[u8], folded: &[u8]) -> bool {
    name.len() == folded.len() && name.iter().zip(folded).all(|(a, b)| fold(*a) == *b)
}

fn has_folded_prefix(name: &[u8], folded: &[u8]) -> bool {
    name.len() >= folded.len() && folds_to(&name[..folded.len()], folded)
}

fn fold(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => byte.to_ascii_lowercase(),
        _ => b'-',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn microsoft() -> Restrictions {
        let name = HeaderName::from_static("restrict-access-to-tenants");
        Restrictions::new(vec![Restriction { name, value: HeaderValue::from_static("city.example.lg.jp") }], &[])
    }

    #[test]
    fn g01_g02_every_spelling_of_our_field_is_removed() {
        for name in [
            "Restrict-Access-To-Tenants",
            "restrict-access-to-tenants",
            "RESTRICT_ACCESS_TO_TENANTS",
            "Restrict_Access-To_Tenants",
            "Restrict.Access.To~Tenants",
        ] {
            assert!(!request_field_passes(name.as_bytes(), &microsoft(), std::iter::empty()), "{name}");
            assert!(request_field_passes(name.as_bytes(), &Restrictions::default(), std::iter::empty()), "{name}");
        }
        for name in ["Restrict-Access-To-Tenant", "Restrict-Access-To-Tenantss", "X-Restrict-Access-To-Tenants"] {
            assert!(request_field_passes(name.as_bytes(), &microsoft(), std::iter::empty()), "{name}");
        }
    }

    #[test]
    fn g01_g02_a_closed_field_is_removed_where_nothing_is_set() {
        let long = format!("X-{}", "a".repeat(100));
        let closed = ["sec-restrict-tenant-access-policy".to_owned(), long.to_ascii_lowercase()];
        let none = Restrictions::new(Vec::new(), &closed);
        for name in ["Sec-Restrict-Tenant-Access-Policy", "sec_restrict_tenant_access_policy", &long] {
            assert!(!request_field_passes(name.as_bytes(), &none, std::iter::empty()), "{name}");
        }
        for name in ["Sec-Restrict-Tenant-Access-Polic", "Restrict-Access-To-Tenants", &long[1..], ""] {
            assert!(request_field_passes(name.as_bytes(), &none, std::iter::empty()), "{name}");
        }
        assert_eq!((none.iter().count(), none.octets()), (0, 0));
    }

    #[test]
    fn g01_g02_a_field_of_ours_with_an_underscore_is_removed_too() {
        let name = HeaderName::from_static("x_allowed.org");
        let ours = Restrictions::new(vec![Restriction { name, value: HeaderValue::from_static("city") }], &[]);
        for name in ["x_allowed.org", "X_Allowed.Org", "X-Allowed-Org", "X_Allowed_Org"] {
            assert!(!request_field_passes(name.as_bytes(), &ours, std::iter::empty()), "{name}");
        }
    }

    #[test]
    fn g03_what_connection_names_goes_and_ours_is_not_asked() {
        let options = || [&b"x-one"[..], b"Restrict-Access-To-Tenants"].into_iter();
        assert!(!request_field_passes(b"X-One", &microsoft(), options()));
        assert!(request_field_passes(b"X-Two", &microsoft(), options()));
        assert_eq!(microsoft().iter().count(), 1);
    }

    #[test]
    fn b09_hop_by_hop_and_routing_fields_never_pass() {
        for name in [
            "Connection",
            "Keep-Alive",
            "Proxy-Authorization",
            "proxy_authorization",
            "Proxy-Connection",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "transfer_encoding",
            "Content-Length",
            "content_length",
            "Upgrade",
            "HTTP2-Settings",
            "Host",
            "Forwarded",
            "X-Forwarded-For",
            "X_Forwarded_For",
            "X-Forwarded-Anything",
            "X-Real-IP",
            "x_real_ip",
            "Expect",
        ] {
            assert!(!request_field_passes(name.as_bytes(), &Restrictions::default(), std::iter::empty()), "{name}");
        }
        for name in ["Accept", "Cookie", "Authorization", "X-Forward", "Proxy", "X-Requested-With", "Via"] {
            assert!(request_field_passes(name.as_bytes(), &Restrictions::default(), std::iter::empty()), "{name}");
        }
    }

    #[test]
    fn a16_responses_lose_alt_svc_and_proxy_fields() {
        for name in ["Alt-Svc", "ALT-SVC", "Proxy-Status", "Proxy-Authenticate", "Connection", "Transfer-Encoding"] {
            assert!(!response_field_passes(name.as_bytes(), std::iter::empty()), "{name}");
        }
        for name in ["Set-Cookie", "Content-Type", "Strict-Transport-Security", "WWW-Authenticate"] {
            assert!(response_field_passes(name.as_bytes(), std::iter::empty()), "{name}");
        }
    }

    #[test]
    fn g04_request_trailers_are_an_allowlist() {
        assert!(request_trailer_passes(b"Content-Digest"));
        for name in ["Restrict-Access-To-Tenants", "X-Anything", "Host", "Authorization"] {
            assert!(!request_trailer_passes(name.as_bytes()), "{name}");
        }
        assert!(response_trailer_passes(b"grpc-status"));
        for name in ["Content-Length", "Alt-Svc", "Transfer-Encoding", "Set-Cookie"] {
            assert!(!response_trailer_passes(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn g07_the_octets_added_are_counted_as_http1_writes_them() {
        assert_eq!(microsoft().octets(), "restrict-access-to-tenants: city.example.lg.jp\r\n".len());
    }
}
