//! What a configuration needs of the system.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use crate::config::{Config, ListenerMode, Steering};
use crate::sockets;
use crate::upstream::resolve::{NamedIn, RESOLV_CONF};
use crate::upstream::system::Places;
use crate::upstream::trust::Roots;

/// What is read while running whatever the configuration: this process's own state, memory and its limits, the length of queues.
const ALWAYS: [&str; 4] = ["/proc/self", "/proc/meminfo", "/proc/sys/net/core/somaxconn", "/sys/fs/cgroup"];
/// Where the files of `roots = "system"` lead that are links.
const SYSTEM_ROOTS: [&str; 4] = [
    "/usr/lib/ssl/certs",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/etc/pki/ca-trust/extracted",
];
/// Folders whose other files are nobody's business: of these only the very file is granted.
const SHARED: [&str; 3] = ["/", "/etc", "/root"];
/// Where the machine's users and groups are.
const ETC: &str = "/etc";
const ACCOUNTS: [&str; 2] = ["/etc/passwd", "/etc/group"];
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
    pub secrets: BTreeSet<PathBuf>,
    /// Where the configuration is read from: whoever writes there decides what is served and inspected.
    pub obeyed: BTreeSet<PathBuf>,
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
        let socket = config.control.as_ref().and_then(|control| folder_of(&control.socket));
        let own = socket.into_iter().chain(state_directory.and_then(|folder| folder.canonicalize().ok())).collect();
        let (secrets, obeyed) = (keys(config).map(Path::to_owned).collect(), obeyed(config));
        let (read, write) = (read(config), around(&config.record.path));
        Self { read, write, own, listen, connect, capabilities, secrets, obeyed }
    }

    /// Of the process that mints for it: the same files and the keys, and nothing else.
    pub fn of_minting(config: &Config) -> Self {
        let mut read = read(config);
        read.extend(keys(config).flat_map(around));
        let (write, own, listen, connect, secrets) = Default::default();
        let (capabilities, obeyed) = (CapabilitySet::empty(), obeyed(config));
        Self { read, write, own, listen, connect, capabilities, secrets, obeyed }
    }
}

/// Of the issuing CA and of the one that follows it.
fn keys(config: &Config) -> impl Iterator<Item = &Path> {
    let files = config.issuing_files.iter();
    files
        .flat_map(|files| [&files.key].into_iter().chain(files.next.as_ref().map(|next| &next.key)))
        .map(PathBuf::as_path)
}

fn certificates(config: &Config) -> impl Iterator<Item = &Path> {
    let files = config.issuing_files.iter();
    let each = files
        .flat_map(|files| [&files.certificate].into_iter().chain(files.next.as_ref().map(|next| &next.certificate)));
    each.map(PathBuf::as_path)
}

/// The file, what lies beside it (a trial), and the catalogue of the site's own.
fn obeyed(config: &Config) -> BTreeSet<PathBuf> {
    let mut obeyed = around(&config.file);
    obeyed.extend(config.catalog.folder.iter().filter_map(|path| path.canonicalize().ok()));
    obeyed
}

fn read(config: &Config) -> BTreeSet<PathBuf> {
    let mut read: BTreeSet<PathBuf> = ALWAYS.iter().filter_map(|path| Path::new(path).canonicalize().ok()).collect();
    read.extend(around(&config.file));
    read.extend(certificates(config).flat_map(around));
    let trust = &config.trust;
    read.extend(trust.extra_roots.iter().chain(&trust.crls).flat_map(|file| around(file)));
    read.extend(config.crl_folders.iter().chain(&config.catalog.folder).filter_map(|path| path.canonicalize().ok()));
    match &trust.roots {
        Roots::Bundled => {}
        Roots::File(file) => read.extend(around(file)),
        Roots::System => {
            let places = Places::of_this_machine();
            let folders = SYSTEM_ROOTS.iter().map(PathBuf::from).chain(places.folders);
            read.extend(folders.filter_map(|path| path.canonicalize().ok()));
            read.extend(places.file.iter().flat_map(|file| around(file)));
        }
    }
    match &config.control {
        None => {}
        // Who is in which group is read again and again, and whoever changes one of these files puts another in its place, to which a rule
        // for the file before would not lead.
        Some(control) if control.viewers.is_some() || control.operators.is_some() => {
            read.insert(ETC.into());
        }
        // Only what somebody is called.
        Some(_) => read.extend(ACCOUNTS.map(PathBuf::from)),
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
    use std::time::SystemTime;

    use super::*;
    use crate::config::{Scope, load};

    /// Only who asks for groups has all of /etc read: the files there are replaced when somebody joins one.
    #[test]
    fn etc_is_read_where_groups_have_a_role_and_nowhere_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let of_etc = |control: &str| -> Vec<PathBuf> {
            let text = format!(
                "[[listener]]\naddress = \"127.0.0.1:8080\"\n[resolver]\nservers = [\"192.0.2.1:53\"]\n{control}"
            );
            let file = directory.path().join("sekisho.toml");
            fs::write(&file, text).expect("written");
            let config = load(&file, Scope::Full, SystemTime::now()).unwrap_or_else(|error| panic!("{error}"));
            let reach = Reach::of_service(&config, None);
            reach.read.into_iter().filter(|path| path.starts_with("/etc")).collect()
        };
        assert!(of_etc("").is_empty());
        let alone = of_etc("[control]\nsocket = \"control.sock\"\n");
        assert_eq!(alone, ["/etc/group", "/etc/passwd"].map(PathBuf::from));
        let groups = of_etc("[control]\nsocket = \"control.sock\"\noperators = \"0\"\n");
        assert_eq!(groups, [PathBuf::from("/etc")]);
    }

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
