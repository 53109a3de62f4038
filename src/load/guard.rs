//! Which targets are loaded without being asked twice: those that are certainly on networks of one's own.
//!
//! The proxy's address is given, and is judged as it is. The target's name is resolved by the proxy, which this tool cannot
//! watch. So a name passes in two cases: it lies under a top-level name that nobody on the Internet has, or this machine's own
//! resolver gives it addresses, and every one of them would pass as the proxy's address does.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::addrs::AddressClass;

use super::{Plan, Target};

/// Nobody's on the Internet (RFC 6761, RFC 6762, RFC 8375, and ICANN's resolution of 2024-07-29 for `internal`).
const NOBODYS: [&str; 6] = ["test", "localhost", "invalid", "local", "home.arpa", "internal"];

/// # Errors
/// Which part of `plan` is not certainly on a network of one's own, and why, in a sentence.
pub fn check(plan: &Plan) -> Result<(), String> {
    own(plan.proxy.ip()).map_err(|class| format!("--proxy {} is a {class} address", plan.proxy))?;
    name(&plan.target, addresses)
}

fn own(ip: IpAddr) -> Result<(), &'static str> {
    match AddressClass::of(ip.to_canonical()) {
        AddressClass::Loopback | AddressClass::Private | AddressClass::UniqueLocal | AddressClass::LinkLocal => Ok(()),
        class => Err(class.as_str()),
    }
}

fn name(target: &Target, resolve: impl Fn(&Target) -> Vec<IpAddr>) -> Result<(), String> {
    let Target { name, .. } = target;
    if NOBODYS.iter().any(|suffix| name.is_within(suffix)) {
        return Ok(());
    }
    let found = resolve(target);
    if found.is_empty() {
        return Err(format!(
            "--target {name}: this machine cannot resolve it, so nobody here knows where the proxy would send the load"
        ));
    }
    let foreign = found.iter().find_map(|ip| own(*ip).err().map(|class| (ip, class)));
    foreign.map_or(Ok(()), |(ip, class)| Err(format!("--target {name} has the address {ip}, which is {class}")))
}

/// As the programs of this machine see it, hosts file included.
fn addresses(target: &Target) -> Vec<IpAddr> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the tool asks as its user's other programs do; no permission hangs on a name"
    )]
    let found = (target.name.as_str(), target.port).to_socket_addrs();
    found.map(|all| all.map(|socket: SocketAddr| socket.ip()).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(host: &str, found: &[&str]) -> Result<(), String> {
        let target = Target::parse(&format!("https://{host}:8443")).expect("a target");
        name(&target, |_| found.iter().map(|ip| ip.parse().expect("an address")).collect())
    }

    #[test]
    fn addresses_of_ones_own_and_their_neighbours() {
        for ip in ["127.0.0.1", "127.9.9.9", "10.0.0.0", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.1.1"] {
            assert_eq!(own(ip.parse().expect(ip)), Ok(()), "{ip}");
        }
        for ip in ["::1", "fd00::1", "fc00::1", "fe80::1", "::ffff:10.0.0.1"] {
            assert_eq!(own(ip.parse().expect(ip)), Ok(()), "{ip}");
        }
        for ip in
            ["126.255.255.255", "128.0.0.1", "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "8.8.8.8"]
        {
            assert!(own(ip.parse().expect(ip)).is_err(), "{ip}");
        }
        for ip in ["100.64.0.1", "0.0.0.0", "169.254.169.254", "::", "2001:4860::1", "::ffff:8.8.8.8", "64:ff9b::a00:1"]
        {
            assert!(own(ip.parse().expect(ip)).is_err(), "{ip}");
        }
    }

    #[test]
    fn a_name_nobody_has_needs_no_address() {
        for host in ["load.test", "a.localhost", "x.internal", "printer.local", "nas.home.arpa"] {
            assert_eq!(judged(host, &[]), Ok(()), "{host}");
        }
        for host in ["latest", "test.example.com", "notest", "www.example.com"] {
            assert!(judged(host, &[]).expect_err(host).contains("cannot resolve"), "{host}");
        }
    }

    #[test]
    fn every_address_of_a_name_has_to_be_ones_own() {
        assert_eq!(judged("load.city.example", &["10.1.2.3", "fd00::1"]), Ok(()));
        let refused = judged("load.city.example", &["10.1.2.3", "93.184.215.14"]).expect_err("one is public");
        assert!(refused.contains("93.184.215.14") && refused.contains("global"), "{refused}");
    }
}
