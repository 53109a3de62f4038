//! The vocabulary of addresses: who is who in a flow, and which special-purpose block an address lies in.
//!
//! No signature takes a bare `SocketAddr`: [`ClientAddr`] is who connected, [`BalancerAddr`] who passed that on, [`ListenAddr`] where we accepted,
//! [`UpstreamAddr`] where we connected. IPv4-mapped IPv6 addresses become IPv4 here, once, for policy, limits and record alike.
//! [`AddressClass`] names the block; whether a class may be dialled is `upstream::vet`'s decision.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv6Net};

macro_rules! endpoint {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(SocketAddr);

        impl $name {
            /// `socket` with an IPv4-mapped address written as the IPv4 address it is.
            pub fn new(socket: SocketAddr) -> Self {
                Self(SocketAddr::new(socket.ip().to_canonical(), socket.port()))
            }

            pub fn ip(self) -> IpAddr {
                self.0.ip()
            }

            pub fn port(self) -> u16 {
                self.0.port()
            }

            pub fn socket(self) -> SocketAddr {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

endpoint!(
    /// The peer of an accepted connection, or of a [`BalancerAddr`]'s the client that it names. Nothing a client sends (`X-Forwarded-For`,
    /// `Forwarded`, a PROXY header) can change it.
    ClientAddr
);
endpoint!(
    /// The peer of an accepted connection that `proxy_protocol` names: it says whose connection it is, and is believed.
    BalancerAddr
);
endpoint!(
    /// A local address we accept on.
    ListenAddr
);
endpoint!(
    /// Where a client meant to go that was steered here by the network. Evidence: it says which port was meant, and is never dialled.
    OriginalAddr
);
endpoint!(
    /// The address at the far end of an upstream connection.
    UpstreamAddr
);

/// What an address is for, by the IANA special-purpose registries and a few addresses that clouds answer on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// Ordinary unicast: the only class that is dialled without an exception.
    Global,
    Unspecified,
    Loopback,
    Private,
    CarrierGradeNat,
    LinkLocal,
    ProtocolAssignment,
    Documentation,
    Benchmarking,
    RelayAnycast,
    Multicast,
    Reserved,
    Discard,
    UniqueLocal,
    SiteLocal,
    SegmentRouting,
    /// An address on which a cloud answers its own machines (metadata, wire server).
    CloudHost,
    /// An IPv6 address that carries an IPv4 one: mapped, compatible, translated, NAT64, 6to4.
    EmbedsIpv4,
}

impl AddressClass {
    /// The class of `ip`. The most specific block of the table wins.
    pub fn of(ip: IpAddr) -> Self {
        let found = TABLE.iter().filter(|(net, _)| net.contains(&ip)).max_by_key(|(net, _)| net.prefix_len());
        found.map_or(Self::Global, |(_, class)| *class)
    }

    /// One or two words for the record and for `explain`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::CarrierGradeNat => "carrier-grade NAT",
            Self::LinkLocal => "link-local",
            Self::ProtocolAssignment => "protocol assignment",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::RelayAnycast => "6to4 relay anycast",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Discard => "discard-only",
            Self::UniqueLocal => "unique local",
            Self::SiteLocal => "site-local",
            Self::SegmentRouting => "segment routing",
            Self::CloudHost => "cloud host",
            Self::EmbedsIpv4 => "IPv4 embedded in IPv6",
        }
    }
}

/// The IPv4 address inside `ip`, where one of the well-known forms or a NAT64 prefix of the site (`/96`) carries one.
pub fn embedded_ipv4(ip: Ipv6Addr, nat64: &[Ipv6Net]) -> Option<Ipv4Addr> {
    let segments = ip.segments();
    let octets = ip.octets();
    let tail = || Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Some(tail()),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => Some(tail()),
        [0x2002, ..] => Some(Ipv4Addr::new(octets[2], octets[3], octets[4], octets[5])),
        // Teredo: the client's address, every bit inverted (RFC 4380 section 4).
        [0x2001, 0, ..] => Some(Ipv4Addr::new(!octets[12], !octets[13], !octets[14], !octets[15])),
        _ => nat64.iter().any(|net| net.contains(&ip)).then(tail),
    }
}

/// The blocks, from the IANA IPv4 and IPv6 special-purpose address registries, with the cloud hosts at the end. Of IPv6 only 2000::/3 is given
/// to anybody as global unicast (IANA IPv6 address space; RFC 4291 section 2.4): what else no row names is nobody's yet.
static TABLE: LazyLock<Vec<(IpNet, AddressClass)>> = LazyLock::new(|| {
    use AddressClass as C;
    let rows: [(&str, AddressClass); 42] = [
        ("0.0.0.0/8", C::Unspecified),
        ("10.0.0.0/8", C::Private),
        ("100.64.0.0/10", C::CarrierGradeNat),
        ("127.0.0.0/8", C::Loopback),
        ("169.254.0.0/16", C::LinkLocal),
        ("172.16.0.0/12", C::Private),
        ("192.0.0.0/24", C::ProtocolAssignment),
        ("192.0.2.0/24", C::Documentation),
        ("192.88.99.0/24", C::RelayAnycast),
        ("192.168.0.0/16", C::Private),
        ("198.18.0.0/15", C::Benchmarking),
        ("198.51.100.0/24", C::Documentation),
        ("203.0.113.0/24", C::Documentation),
        ("224.0.0.0/4", C::Multicast),
        ("240.0.0.0/4", C::Reserved),
        ("255.255.255.255/32", C::Reserved),
        ("::/0", C::Reserved),
        ("2000::/3", C::Global),
        ("::/128", C::Unspecified),
        ("::1/128", C::Loopback),
        ("::/96", C::EmbedsIpv4),
        ("::ffff:0:0/96", C::EmbedsIpv4),
        ("::ffff:0:0:0/96", C::EmbedsIpv4),
        ("64:ff9b::/96", C::EmbedsIpv4),
        ("64:ff9b:1::/48", C::EmbedsIpv4),
        ("100::/64", C::Discard),
        ("2001::/23", C::ProtocolAssignment),
        ("2001::/32", C::EmbedsIpv4),
        ("2001:db8::/32", C::Documentation),
        ("2002::/16", C::EmbedsIpv4),
        ("3fff::/20", C::Documentation),
        ("5f00::/16", C::SegmentRouting),
        ("fc00::/7", C::UniqueLocal),
        ("fe80::/10", C::LinkLocal),
        ("fec0::/10", C::SiteLocal),
        ("ff00::/8", C::Multicast),
        ("168.63.129.16/32", C::CloudHost),
        ("100.100.100.200/32", C::CloudHost),
        ("169.254.169.254/32", C::CloudHost),
        ("192.0.0.192/32", C::CloudHost),
        ("fd00:ec2::254/128", C::CloudHost),
        ("fd20:ce::254/128", C::CloudHost),
    ];
    rows.into_iter().filter_map(|(net, class)| Some((net.parse().ok()?, class))).collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> AddressClass {
        AddressClass::of(text.parse().expect(text))
    }

    #[test]
    fn every_row_of_the_table_parses() {
        assert_eq!(TABLE.len(), 42);
    }

    #[test]
    fn b01_first_last_and_neighbours_of_every_block() {
        use AddressClass as C;
        // (first, last, class, the neighbour below, the neighbour above); "-" where the neighbour is special too.
        let rows = [
            ("0.0.0.0", "0.255.255.255", C::Unspecified, "-", "1.0.0.0"),
            ("10.0.0.0", "10.255.255.255", C::Private, "9.255.255.255", "11.0.0.0"),
            ("100.64.0.0", "100.127.255.255", C::CarrierGradeNat, "100.63.255.255", "100.128.0.0"),
            ("127.0.0.0", "127.255.255.255", C::Loopback, "126.255.255.255", "128.0.0.0"),
            ("169.254.0.0", "169.254.255.255", C::LinkLocal, "169.253.255.255", "169.255.0.0"),
            ("172.16.0.0", "172.31.255.255", C::Private, "172.15.255.255", "172.32.0.0"),
            ("192.0.0.0", "192.0.0.255", C::ProtocolAssignment, "191.255.255.255", "192.0.1.0"),
            ("192.0.2.0", "192.0.2.255", C::Documentation, "192.0.1.255", "192.0.3.0"),
            ("192.88.99.0", "192.88.99.255", C::RelayAnycast, "192.88.98.255", "192.88.100.0"),
            ("192.168.0.0", "192.168.255.255", C::Private, "192.167.255.255", "192.169.0.0"),
            ("198.18.0.0", "198.19.255.255", C::Benchmarking, "198.17.255.255", "198.20.0.0"),
            ("198.51.100.0", "198.51.100.255", C::Documentation, "198.51.99.255", "198.51.101.0"),
            ("203.0.113.0", "203.0.113.255", C::Documentation, "203.0.112.255", "203.0.114.0"),
            ("224.0.0.0", "239.255.255.255", C::Multicast, "223.255.255.255", "-"),
            ("240.0.0.0", "255.255.255.255", C::Reserved, "-", "-"),
            ("168.63.129.16", "168.63.129.16", C::CloudHost, "168.63.129.15", "168.63.129.17"),
            ("::", "::", C::Unspecified, "-", "-"),
            ("::1", "::1", C::Loopback, "-", "-"),
            ("::2", "::ffff:ffff", C::EmbedsIpv4, "-", "::1:0:0"),
            ("::ffff:0:0", "::ffff:ffff:ffff", C::EmbedsIpv4, "::fffe:ffff:ffff", "::1:0:0:0"),
            ("::ffff:0:0:0", "::ffff:0:ffff:ffff", C::EmbedsIpv4, "::fffe:ffff:ffff:ffff", "::ffff:1:0:0"),
            ("64:ff9b::", "64:ff9b::ffff:ffff", C::EmbedsIpv4, "64:ff9a:ffff:ffff::", "64:ff9b::1:0:0"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", C::EmbedsIpv4, "64:ff9b:0:ffff::", "64:ff9b:2::"),
            ("100::", "100::ffff:ffff:ffff:ffff", C::Discard, "ff:ffff::", "100:0:0:1::"),
            ("2001:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", C::ProtocolAssignment, "-", "2001:200::"),
            ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", C::EmbedsIpv4, "2000:ffff::", "-"),
            ("2001:db8::", "2001:db8:ffff::", C::Documentation, "2001:db7:ffff::", "2001:db9::"),
            ("2002::", "2002:ffff::", C::EmbedsIpv4, "2001:ffff::", "2003::"),
            ("3fff::", "3fff:fff:ffff::", C::Documentation, "3ffe:ffff::", "3fff:1000::"),
            ("5f00::", "5f00:ffff::", C::SegmentRouting, "5eff:ffff::", "5f01::"),
            ("fc00::", "fdff:ffff::", C::UniqueLocal, "fbff:ffff::", "fe00::"),
            ("fe80::", "febf:ffff::", C::LinkLocal, "fe7f:ffff::", "-"),
            ("fec0::", "feff:ffff::", C::SiteLocal, "-", "-"),
            ("ff00::", "ffff:ffff::", C::Multicast, "-", "-"),
        ];
        for (first, last, expected, below, above) in rows {
            assert_eq!(class(first), expected, "{first}");
            assert_eq!(class(last), expected, "{last}");
            for neighbour in [below, above] {
                let Ok(address) = neighbour.parse::<IpAddr>() else { continue };
                let unicast = matches!(address, IpAddr::V4(_)) || neighbour.starts_with(['2', '3']);
                assert_eq!(AddressClass::of(address), if unicast { C::Global } else { C::Reserved }, "{neighbour}");
            }
        }
        for host in ["168.63.129.16", "100.100.100.200", "169.254.169.254", "fd00:ec2::254"] {
            assert_eq!(class(host), C::CloudHost, "{host}");
        }
    }

    #[test]
    fn b01_embedded_ipv4_is_found_in_every_form() {
        let site = ["2400:1:2:3::/96".parse().expect("prefix")];
        for (text, expected) in [
            ("::ffff:127.0.0.1", Some("127.0.0.1")),
            ("::127.0.0.1", Some("127.0.0.1")),
            ("::ffff:0:10.0.0.1", Some("10.0.0.1")),
            ("64:ff9b::169.254.169.254", Some("169.254.169.254")),
            ("64:ff9b:1::10.0.0.1", Some("10.0.0.1")),
            ("2002:7f00:1::", Some("127.0.0.1")),
            ("2001:0:1::f5ff:fffe", Some("10.0.0.1")),
            ("2400:1:2:3::10.0.0.1", Some("10.0.0.1")),
            ("2400:1:2:4::10.0.0.1", None),
            ("::1", None),
            ("2606:4700::1", None),
        ] {
            let ip: Ipv6Addr = text.parse().expect(text);
            assert_eq!(embedded_ipv4(ip, &site), expected.map(|v4| v4.parse().expect(v4)), "{text}");
        }
    }

    #[test]
    fn mapped_peers_are_ipv4() {
        let peer = ClientAddr::new("[::ffff:10.20.0.7]:4711".parse().expect("socket"));
        assert_eq!(peer.to_string(), "10.20.0.7:4711");
    }
}
