//! What the limits of a machine mean for how many clients a proxy on it can have: estimates, each with its formula.

use rustix::process::{Resource, getrlimit};

use super::Plan;
use super::summary::Summary;

/// How long Linux keeps a port after whoever used it has closed first (TCP_TIMEWAIT_LEN; not a setting).
const TIME_WAIT_SECONDS: u64 = 60;
/// As `sekisho run` reckons: descriptors that are not for connections, and those of one connection (client's, upstream's, and
/// while a verdict is made the verifying one's).
const RESERVED: u64 = 256;
const PER_CONNECTION: u64 = 3;
/// Connections of one client to one destination that the estimate is made for.
const PER_CLIENT: [u64; 3] = [2, 6, 12];

/// The limits that count here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Ports of `net.ipv4.ip_local_port_range`.
    pub ports: u64,
    /// The hard limit of descriptors of a process.
    pub descriptors: u64,
}

/// One estimate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    pub what: String,
    pub japanese: &'static str,
    pub figure: String,
    pub formula: String,
}

impl Machine {
    /// This machine; where the kernel does not tell, what Linux has by default.
    pub fn this() -> Self {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        Self {
            ports: ports(&range).unwrap_or(28_232),
            descriptors: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        }
    }
}

fn ports(range: &str) -> Option<u64> {
    let mut ends = range.split_whitespace().map(|end| end.parse::<u64>().ok());
    let (first, last) = (ends.next()??, ends.next()??);
    (last.checked_sub(first)?).checked_add(1)
}

/// Estimates from the limits of `machine` and from a run.
pub fn hints(machine: Machine, plan: &Plan, summary: &Summary) -> Vec<Hint> {
    let Machine { ports, descriptors } = machine;
    let addresses = plan.client_addresses.len().max(1) as u64;
    let opened = summary.connections as f64 / (summary.seconds + summary.opening_seconds).max(1e-9);
    let mut hints = vec![
        Hint {
            what: "Source ports of this generator that the run used at a time".to_owned(),
            japanese: "試験端末の送信元ポート使用率",
            figure: format!("{:.1} %", plan.connections as f64 * 100.0 / (ports * addresses) as f64),
            formula: format!("{} connections ÷ ({ports} ports × {addresses} client addresses)", plan.connections),
        },
        Hint {
            what: "New connections from one address to one destination, lasting".to_owned(),
            japanese: "新規接続の持続上限(1送信元・1宛先)",
            figure: format!("{} / s (this run opened {opened:.0} / s)", ports / TIME_WAIT_SECONDS),
            formula: format!(
                "{ports} ports ÷ {TIME_WAIT_SECONDS} s in TIME_WAIT, where the side that connects closes first"
            ),
        },
        Hint {
            what: "Connections at a time from one egress address of the proxy to one destination (address and port)"
                .to_owned(),
            japanese: "出口アドレス1個・宛先1個あたりの同時接続",
            figure: ports.to_string(),
            formula: "ports of net.ipv4.ip_local_port_range; each destination address has its own".to_owned(),
        },
    ];
    hints.extend(PER_CLIENT.map(|connections| Hint {
        what: format!(
            "Clients per egress address, each with {connections} connections to one and the same destination"
        ),
        japanese: "出口アドレス1個あたりの端末数",
        figure: (ports / connections).to_string(),
        formula: format!("{ports} ports ÷ {connections}"),
    }));
    hints.push(Hint {
        what: "Connections of clients that one sekisho process carries".to_owned(),
        japanese: "sekisho 1プロセスの同時接続",
        figure: (descriptors.saturating_sub(RESERVED) / PER_CONNECTION).to_string(),
        formula: format!("({descriptors} descriptors − {RESERVED}) ÷ {PER_CONNECTION}; raise LimitNOFILE for more"),
    });
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_the_range_are_ports() {
        assert_eq!(ports("32768\t60999\n"), Some(28_232));
        assert_eq!(ports("1024 1024"), Some(1));
        for range in ["", "1024", "60999 32768", "a b"] {
            assert_eq!(ports(range), None, "{range}");
        }
    }
}
