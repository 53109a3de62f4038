//! Values with a grammar of their own: durations, sizes, networks, addresses with a port. Text in, value or what is wrong out.
//!
//! What may not be here: keys, problems, defaults.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

/// Why a text is no duration, or no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("the unit is missing")]
    NoUnit(u64),
    #[error("not a whole number with a unit")]
    Form,
    #[error("too much")]
    TooMuch,
}

/// The number, and the unit as it stands there.
fn quantity(text: &str) -> Result<(u64, &str), QuantityError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    match number.parse() {
        Ok(number) if unit.is_empty() => Err(QuantityError::NoUnit(number)),
        Ok(number) => Ok((number, unit)),
        Err(_) if number.is_empty() => Err(QuantityError::Form),
        Err(_) => Err(QuantityError::TooMuch),
    }
}

/// Reads `500ms`, `30s`, `10m`, `1h`: one whole number, one unit.
///
/// # Errors
/// [`QuantityError`].
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    let (number, unit) = quantity(text)?;
    let scale = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(QuantityError::Form),
    };
    number.checked_mul(scale).map(Duration::from_secs).ok_or(QuantityError::TooMuch)
}

/// `span` as the configuration would write it, with the largest unit that leaves no rest.
pub fn show_duration(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    match seconds {
        _ if millis != 0 => format!("{}ms", span.as_millis()),
        0 => "0s".to_owned(),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// Units of octets, the larger first; those that are powers of ten are written as disks and lines are sold.
const SIZES: [(&str, u64); 6] =
    [("GiB", 1 << 30), ("GB", 1_000_000_000), ("MiB", 1 << 20), ("MB", 1_000_000), ("KiB", 1 << 10), ("KB", 1_000)];

/// Reads `500KB`, `20MB`, `2GiB`: one whole number, one unit. In octets.
///
/// # Errors
/// [`QuantityError`].
pub fn size(text: &str) -> Result<u64, QuantityError> {
    let (number, unit) = quantity(text)?;
    let (_, octets) = SIZES.iter().find(|(name, _)| *name == unit).ok_or(QuantityError::Form)?;
    number.checked_mul(*octets).ok_or(QuantityError::TooMuch)
}

/// `octets` as the configuration would write it, with the largest unit that leaves no rest.
pub fn show_size(octets: u64) -> String {
    let whole = SIZES.iter().find(|(_, unit)| octets != 0 && octets.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{octets}B"), |(name, unit)| format!("{}{name}", octets / unit))
}

/// Why a text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("not an address with a prefix length")]
    Form,
    #[error("an address without its prefix length")]
    NoPrefix(IpNet),
    #[error("an address inside the network instead of its first one")]
    HostBits(IpNet),
}

/// Reads a CIDR block. An IPv4-mapped IPv6 block (`::ffff:10.0.0.0/104`) becomes the IPv4 block it is.
///
/// # Errors
/// [`NetworkError`], with the corrected form where there is one.
pub fn network(text: &str) -> Result<IpNet, NetworkError> {
    let Ok(net) = text.parse::<IpNet>() else {
        let address: IpAddr = text.parse().map_err(|_| NetworkError::Form)?;
        return Err(NetworkError::NoPrefix(address.to_canonical().into()));
    };
    let exact = net.trunc();
    if exact == net { Ok(canonical(exact)) } else { Err(NetworkError::HostBits(canonical(exact))) }
}

/// Where the networks hold more than a 64th of a family's addresses, whatever they are put together from, they are everybody's: no
/// private network is as large (10.0.0.0/8 is a 256th, fc00::/7 a 128th). What was found, with the place of the largest.
pub fn everybody<At>(networks: &[(IpNet, At)]) -> Vec<(String, &At)> {
    const MOST: f64 = 1.0 / 64.0;
    let of_family = |family: &str| {
        let ours = networks.iter().filter(|(network, _)| network.addr().is_ipv4() == (family == "IPv4"));
        let apart = IpNet::aggregate(&ours.clone().map(|(network, _)| *network).collect());
        let share: f64 = apart.iter().map(|network| 0.5_f64.powi(network.prefix_len().into())).sum();
        let alone = ours.clone().count() == 1;
        let (network, at) = ours.filter(|_| share > MOST).min_by_key(|(network, _)| network.prefix_len())?;
        let what = match (network.prefix_len(), alone) {
            (0, _) => "every address there is".to_owned(),
            (_, true) => format!("more than 1/64 of all {family} addresses"),
            (_, false) => format!("with the others of its list more than 1/64 of all {family} addresses"),
        };
        Some((format!("\"{network}\", {what}"), at))
    };
    ["IPv4", "IPv6"].into_iter().filter_map(of_family).collect()
}

fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(addr, prefix)| Ipv4Net::new(addr, prefix).ok()).map_or(net, IpNet::V4)
}

/// Reads `address:port`, IPv6 in brackets. Names are not taken: nothing is resolved to read a configuration.
pub fn socket(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

/// Reads `address:port` or a bare address, whose port is `port`.
pub fn socket_or_port(text: &str, port: u16) -> Option<SocketAddr> {
    socket(text).or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_told_whatever_he_is_put_together_from() {
        let rows: [(&[&str], &[&str]); 9] = [
            (&[], &[]),
            (&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"], &[]),
            (&["64.0.0.0/6"], &[]),
            (
                &["64.0.0.0/6", "10.0.0.5/32"],
                &["\"64.0.0.0/6\", with the others of its list more than 1/64 of all IPv4 addresses"],
            ),
            (&["64.0.0.0/6", "64.0.0.0/7", "64.1.0.0/16"], &[]),
            (&["0.0.0.0/0", "::/0"], &["\"0.0.0.0/0\", every address there is", "\"::/0\", every address there is"]),
            (
                &["0.0.0.0/1", "128.0.0.0/1"],
                &["\"0.0.0.0/1\", with the others of its list more than 1/64 of all IPv4 addresses"],
            ),
            (&["10.0.0.0/8", "2000::/3"], &["\"2000::/3\", more than 1/64 of all IPv6 addresses"]),
            (
                &["0.0.0.0/7", "8.0.0.0/7", "16.0.0.0/8"],
                &["\"0.0.0.0/7\", with the others of its list more than 1/64 of all IPv4 addresses"],
            ),
        ];
        for (texts, expected) in rows {
            let networks: Vec<_> = texts.iter().map(|text| (network(text).expect("a network"), ())).collect();
            let found: Vec<_> = everybody(&networks).into_iter().map(|(found, ())| found).collect();
            assert_eq!(found, expected, "{texts:?}");
        }
    }

    #[test]
    fn durations_and_their_neighbours() {
        for (text, expected) in [
            ("500ms", Ok(Duration::from_millis(500))),
            ("0s", Ok(Duration::ZERO)),
            ("30s", Ok(Duration::from_secs(30))),
            ("10m", Ok(Duration::from_secs(600))),
            ("1h", Ok(Duration::from_secs(3600))),
            ("10", Err(QuantityError::NoUnit(10))),
            ("", Err(QuantityError::Form)),
            ("s", Err(QuantityError::Form)),
            ("-1s", Err(QuantityError::Form)),
            ("+1s", Err(QuantityError::Form)),
            ("1.5h", Err(QuantityError::Form)),
            ("1 s", Err(QuantityError::Form)),
            ("1S", Err(QuantityError::Form)),
            ("1d", Err(QuantityError::Form)),
            ("1分", Err(QuantityError::Form)),
            ("１s", Err(QuantityError::Form)),
            ("99999999999999999999s", Err(QuantityError::TooMuch)),
            ("18446744073709551615h", Err(QuantityError::TooMuch)),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["500ms", "1500ms", "0s", "59s", "1m", "90s", "1h", "25h"] {
            assert_eq!(duration(text).map(show_duration).as_deref(), Ok(text));
        }
    }

    #[test]
    fn sizes_and_their_neighbours() {
        for (text, expected) in [
            ("1KB", Ok(1_000)),
            ("1KiB", Ok(1_024)),
            ("20MB", Ok(20_000_000)),
            ("3MiB", Ok(3 << 20)),
            ("2GB", Ok(2_000_000_000)),
            ("0GB", Ok(0)),
            ("20", Err(QuantityError::NoUnit(20))),
            ("", Err(QuantityError::Form)),
            ("MB", Err(QuantityError::Form)),
            ("1.5MB", Err(QuantityError::Form)),
            ("1 MB", Err(QuantityError::Form)),
            ("1mb", Err(QuantityError::Form)),
            ("1B", Err(QuantityError::Form)),
            ("20Mbps", Err(QuantityError::Form)),
            ("99999999999999999999MB", Err(QuantityError::TooMuch)),
            ("18446744073709551615KB", Err(QuantityError::TooMuch)),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
        for text in ["1KB", "1KiB", "20MB", "1500KB", "3MiB", "2GB"] {
            assert_eq!(size(text).map(show_size).as_deref(), Ok(text));
        }
    }

    #[test]
    fn networks_and_their_neighbours() {
        let net = |text: &str| text.parse::<IpNet>().expect(text);
        for (text, expected) in [
            ("10.20.0.0/16", Ok(net("10.20.0.0/16"))),
            ("10.20.0.1/16", Err(NetworkError::HostBits(net("10.20.0.0/16")))),
            ("10.20.0.1/32", Ok(net("10.20.0.1/32"))),
            ("10.20.0.1", Err(NetworkError::NoPrefix(net("10.20.0.1/32")))),
            ("fd00:20::/48", Ok(net("fd00:20::/48"))),
            ("fd00:20::1", Err(NetworkError::NoPrefix(net("fd00:20::1/128")))),
            ("::ffff:10.0.0.0/104", Ok(net("10.0.0.0/8"))),
            ("::ffff:10.0.0.1/104", Err(NetworkError::HostBits(net("10.0.0.0/8")))),
            ("::ffff:10.0.0.1/128", Ok(net("10.0.0.1/32"))),
            ("::ffff:0:0/96", Ok(net("0.0.0.0/0"))),
            ("::ffff:0:0/95", Err(NetworkError::HostBits(net("::fffe:0:0/95")))),
            ("::ffff:10.0.0.1", Err(NetworkError::NoPrefix(net("10.0.0.1/32")))),
            ("10.20.0.0/33", Err(NetworkError::Form)),
            ("10.20/16", Err(NetworkError::Form)),
            ("office", Err(NetworkError::Form)),
            ("", Err(NetworkError::Form)),
        ] {
            assert_eq!(network(text), expected, "{text}");
        }
    }

    #[test]
    fn sockets() {
        for (text, strict, with_default) in [
            ("10.0.0.53:5353", Some("10.0.0.53:5353"), Some("10.0.0.53:5353")),
            ("10.0.0.53", None, Some("10.0.0.53:53")),
            ("[2001:db8::53]:53", Some("[2001:db8::53]:53"), Some("[2001:db8::53]:53")),
            ("2001:db8::53", None, Some("[2001:db8::53]:53")),
            ("localhost:8080", None, None),
            (":8080", None, None),
            ("10.0.0.53:65536", None, None),
        ] {
            assert_eq!(socket(text).map(|a| a.to_string()).as_deref(), strict, "{text}");
            assert_eq!(socket_or_port(text, 53).map(|a| a.to_string()).as_deref(), with_default, "{text}");
        }
    }
}
