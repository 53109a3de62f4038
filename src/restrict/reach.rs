//! What a configuration needs of the system.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use crate::config::{Config, ListenerMode, Steering};
use crate::sockets;
use crate::upstream::resolve::{NamedIn, RESOLV_CONF};
use crate::upstream::trust::Roots;

/// What is read while running whatever the configuration: this process's own state, memory and its limits, the length of queues.
const ALWAYS: [&str; 4] = ["/proc/self", "/proc/meminfo", "/proc/sys/net/core/somaxconn", "/sys/fs/cgroup"];
/// Where `roots = "system"` looks.
const SYSTEM_ROOTS: [&str; 6] = [
    "/etc/ssl/certs",
    "/usr/lib/ssl/certs",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
];
/// As `roots = "system"` is told of others.
const SYSTEM_ROOTS_NAMED: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// Folders whose other files are nobody's business: of these only the very file is granted.
const SHARED: [&str; 3] = ["/", "/etc", "/root"];
/// Where the machine's users and groups are.
const ACCOUNTS: &str = "/etc";
const DNS: u16 = 53;
/// What a reload may add services on without a restart.
const WEB: [u16; 2] = [80, 443];
/// Ports below it take a capability to listen on (ip(7)).
const UNPRIVILEGED: u16 = 1024;

/// Folders and files with everything below them, TCP ports, capabilities. Paths are without links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub read: BTreeSet<PathBuf>,
    pub write: BTreeSet<PathBuf>,
    /// Of the service's own: files and sockets are made, renamed and removed there.
    pub own: BTreeSet<PathBuf>,
    pub listen: BTreeSet<u16>,
    pub connect: BTreeSet<u16>,
    pub capabilities: CapabilitySet,
    /// What is in reach at most because of where it lies.
    pub secret: Option<PathBuf>,
}

impl Reach {
    /// Of the process that serves this configuration, and keeps its state in `state_directory`.
    pub fn of_service(config: &Config, state_directory: Option<&Path>) -> Self {
        let own = config.own_addresses();
        let mut listen: BTreeSet<u16> = own.iter().map(|address| address.port()).collect();
        listen.extend(sockets::own_ports());
        // A port that the system chooses, as for a connection from `upstream.bind`.
        listen.insert(0);
        let mut connect: BTreeSet<u16> = config.policy.services().flat_map(|service| service.ports.to_vec()).collect();
        connect.extend(WEB);
        connect.extend(config.resolver.servers.iter().map(|server| server.port()));
        if config.resolver.named_in == NamedIn::ResolvConf {
            connect.insert(DNS);
        }
        connect.extend(sockets::own_ports());
        let tproxy = ListenerMode::Transparent(Steering::Tproxy);
        let mut capabilities = CapabilitySet::empty();
        capabilities.set(CapabilitySet::NET_ADMIN, config.listeners.iter().any(|listener| listener.mode == tproxy));
        let low = own.iter().any(|address| (1..UNPRIVILEGED).contains(&address.port()));
        capabilities.set(CapabilitySet::NET_BIND_SERVICE, low);
        let secret = config.issuing_files.as_ref().map(|files| files.key.clone());
        let socket = config.control.as_ref().and_then(|control| folder_of(&control.socket));
        let own = socket.into_iter().chain(state_directory.and_then(|folder| folder.canonicalize().ok())).collect();
        Self { read: read(config), write: around(&config.record.path), own, listen, connect, capabilities, secret }
    }

    /// Of the process that mints for it: the same files and the keys, and nothing else.
    pub fn of_minting(config: &Config) -> Self {
        let mut read = read(config);
        if let Some(files) = &config.issuing_files {
            let next = files.next.as_ref().map(|next| &next.key);
            read.extend([&files.key].into_iter().chain(next).flat_map(|key| around(key)));
        }
        let (write, own, listen, connect) = Default::default();
        Self { read, write, own, listen, connect, capabilities: CapabilitySet::empty(), secret: None }
    }
}

fn read(config: &Config) -> BTreeSet<PathBuf> {
    let mut read: BTreeSet<PathBuf> = ALWAYS.iter().filter_map(|path| Path::new(path).canonicalize().ok()).collect();
    read.extend(around(&config.file));
    if let Some(files) = &config.issuing_files {
        let next = files.next.as_ref().map(|next| &next.certificate);
        read.extend([&files.certificate].into_iter().chain(next).flat_map(|file| around(file)));
    }
    let trust = &config.trust;
    read.extend(trust.extra_roots.iter().chain(&trust.crls).flat_map(|file| around(file)));
    read.extend(config.crl_folders.iter().chain(&config.catalog.folder).filter_map(|path| path.canonicalize().ok()));
    match &trust.roots {
        Roots::Bundled => {}
        Roots::File(file) => read.extend(around(file)),
        Roots::System => {
            let named = SYSTEM_ROOTS_NAMED.into_iter().filter_map(std::env::var_os).map(PathBuf::from);
            let places = SYSTEM_ROOTS.iter().map(PathBuf::from).chain(named);
            read.extend(places.filter_map(|path| path.canonicalize().ok()));
        }
    }
    if config.control.is_some() {
        // The lists of users and groups are read with each request, and whoever changes one puts another in its place.
        read.insert(ACCOUNTS.into());
    }
    if config.resolver.named_in == NamedIn::ResolvConf {
        read.extend(around(Path::new(RESOLV_CONF)));
    }
    read
}

/// Where it lies; a name alone lies here.
fn folder_of(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    if folder.as_os_str().is_empty() { Path::new(".").canonicalize().ok() } else { folder.canonicalize().ok() }
}

/// The folder of a file, and the one that the file is in where it is a link: whoever changes a file puts another in its place.
fn around(file: &Path) -> BTreeSet<PathBuf> {
    let link = file.canonicalize().ok();
    let folders = [folder_of(file), link.as_deref().and_then(Path::parent).map(Path::to_owned)];
    let shared = |folder: &PathBuf| SHARED.iter().any(|shared| folder == Path::new(shared));
    let mut around: BTreeSet<PathBuf> = folders.into_iter().flatten().filter(|folder| !shared(folder)).collect();
    around.extend(link);
    around
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_reached_with_its_folder_and_what_it_links_to() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().canonicalize().expect("a path");
        for folder in ["one", "other"] {
            fs::create_dir(root.join(folder)).expect("a folder");
        }
        fs::write(root.join("other/real"), "x").expect("written");
        symlink(root.join("other/real"), root.join("one/link")).expect("a link");
        let expected = [root.join("one"), root.join("other"), root.join("other/real")];
        assert_eq!(around(&root.join("one/link")), expected.into_iter().collect());
        assert_eq!(around(&root.join("one/not yet")), [root.join("one")].into_iter().collect());
        assert_eq!(around(&root.join("nowhere/file")), BTreeSet::new());
        assert_eq!(around(Path::new("/etc/passwd")), [PathBuf::from("/etc/passwd")].into_iter().collect());
    }
}
