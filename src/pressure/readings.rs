//! What the kernel says: descriptors, resident memory, the queues of the listeners. A reading that cannot be had is nothing
//! pressing, never an error: every bound that counts is kept elsewhere.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;

use rustix::process::{Resource, getrlimit};

/// `VmRSS` of /proc/self/status, which is kept open: it is asked ten times a second.
pub(super) struct Resident(Option<File>);

impl Resident {
    pub(super) fn new() -> Self {
        Self(File::open("/proc/self/status").ok())
    }

    /// In octets.
    pub(super) fn read(&self) -> Option<u64> {
        // With room for all of it, which is some 1500 octets.
        let mut text = [0; 4096];
        let told = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        resident_in(&String::from_utf8_lossy(text.get(..told)?))
    }
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The descriptors, of which Linux tells the number since 6.2. Before, they have to be counted, which is done once a second.
#[derive(Default)]
pub(super) struct Descriptors {
    counted: u64,
    /// Samples until they are counted again.
    wait: u8,
}

impl Descriptors {
    /// Open ones, and the limit.
    pub(super) fn read(&mut self) -> (u64, u64) {
        const EVERY: u8 = 10;
        const PATH: &str = "/proc/self/fd";
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let told = fs::metadata(PATH).map_or(0, |metadata| metadata.len());
        if told > 0 {
            return (told, limit);
        }
        if self.wait == 0 {
            self.counted = fs::read_dir(PATH).map_or(0, |entries| entries.count() as u64);
            self.wait = EVERY;
        }
        self.wait -= 1;
        (self.counted, limit)
    }
}

/// The open descriptors, and the limit, now.
pub fn descriptors() -> (u64, u64) {
    Descriptors::default().read()
}

/// The queues of the listeners, which are asked for once a second: behind the sockets that listen the kernel looks through all
/// there are for one that does not, only for us to see that the list is over.
#[derive(Default)]
pub(super) struct Backlog {
    told: u64,
    /// Samples until they are asked for again.
    wait: u8,
}

impl Backlog {
    /// Connections in the longest.
    pub(super) fn read(&mut self, listeners: &[SocketAddr]) -> u64 {
        const EVERY: u8 = 10;
        if self.wait == 0 {
            self.told = backlog(listeners);
            self.wait = EVERY;
        }
        self.wait -= 1;
        self.told
    }
}

fn backlog(listeners: &[SocketAddr]) -> u64 {
    let longest = |path, ipv6: bool| {
        let ports: Vec<u16> = listeners.iter().filter(|own| own.is_ipv6() == ipv6).map(SocketAddr::port).collect();
        let Some(file) = Some(path).filter(|_| !ports.is_empty()).and_then(|path| File::open(path).ok()) else {
            return 0;
        };
        longest_queue(BufReader::with_capacity(LINES, file), &ports)
    };
    longest("/proc/self/net/tcp", false).max(longest("/proc/self/net/tcp6", true))
}

/// Octets asked for at a time, a few lines. The kernel lists sockets that listen before all others, and makes no more lines than
/// are asked for.
const LINES: usize = 1024;

/// The longest `rx_queue` of the sockets that listen on one of `ports` (proc_net_tcp.txt of the kernel's documentation).
fn longest_queue(text: impl BufRead, ports: &[u16]) -> u64 {
    const LISTEN: &str = "0A";
    let queue = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let port = u16::from_str_radix(words.next()?.rsplit_once(':')?.1, 16).ok()?;
        let state = words.nth(1)?;
        let queue = u64::from_str_radix(words.next()?.split_once(':')?.1, 16).ok()?;
        Some((state == LISTEN, port, queue))
    };
    let lines = text.lines().map_while(Result::ok).skip(1);
    let listening = lines.map_while(|line| queue(&line).filter(|(listens, ..)| *listens));
    listening.filter(|(_, port, _)| ports.contains(port)).map(|(.., queue)| queue).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1_263_616));
        assert_eq!(resident_in("VmRSS:\t1234 MB\n"), None);
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr\n\
                    0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:0\n\
                    1: 0100007F:1F90 00000000:0000 0A 00000000:0000000A 00:0\n\
                    2: 0100007F:1F91 00000000:0000 0A 00000000:000000FF 00:0\n\
                    3: 0100007F:1F90 0100007F:0001 01 00000000:000F0000 00:0\n";
        for (ports, longest) in [(&[8080][..], 10), (&[8081], 255), (&[8082], 0), (&[], 0)] {
            assert_eq!(longest_queue(text.as_bytes(), ports), longest, "{ports:?}");
        }
        assert_eq!(longest_queue(&b""[..], &[8080]), 0);
        assert_eq!(longest_queue(&b"nothing\nof the kind\n"[..], &[8080]), 0);
    }

    #[test]
    fn this_process_can_be_read() {
        assert!(Resident::new().read().expect("Linux says") > 100_000);
        let (before, limit) = Descriptors::default().read();
        assert!(before > 2 && before < limit, "{before} {limit}");
        let held: Vec<_> = (0..20).map(|_| File::open("/dev/null").expect("open")).collect();
        assert!(Descriptors::default().read().0 >= held.len() as u64);
    }

    #[test]
    fn a_queue_of_ours_is_found_among_all_sockets() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("addr");
        assert_eq!(backlog(&[address]), 0);
        #[expect(clippy::disallowed_methods, reason = "the test is the client")]
        let _clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).expect("connect")).collect();
        assert_eq!(backlog(&[address]), 3);
    }
}
