//! The folder of `quickstart`: its `sekisho.toml` and certificates, and which addresses a run takes.
//!
//! A file that reads as quickstart writes it is quickstart's to rewrite when a port has been taken by another program. Once edited
//! it is the user's and never written again. A file that knows no demo cloud is foreign: nothing is done in its folder.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use toml::de::{DeTable, DeValue};

use super::demo::DOMAIN;
use crate::config::{self, Config, LoadError, MAX_FILE, Scope};
use crate::files::regular_text;
use crate::inspect::authority::{self, InitError, InitRequest};

const TEMPLATE: &str = include_str!("quickstart.toml");
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const DEMO_PORT: u16 = 8443;
/// What the admin port is above the listener's, where that is free: 8080 gives 9090.
const ADMIN_ABOVE: u16 = 1010;
/// How long the issuing certificate lasts, as with `ca init`.
const ISSUING_DAYS: u32 = 730;

/// The demo cloud's root certificate, in the folder.
pub(super) const DEMO_ROOT: &str = "demo-cloud-root.pem";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    #[error("cannot make the folder {}: {source}; choose another with --dir DIR", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error(
        "another quickstart is running in {}; stop it, or start this one in a folder of its own: \
         sekisho quickstart --dir DIR --listen 127.0.0.1:18080", .0.display()
    )]
    InUse(PathBuf),
    #[error("cannot read {}: {source}; choose another folder with --dir DIR", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}; choose another folder with --dir DIR", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "{} is not a file that quickstart made: no [[service]] in it is for a name below {DOMAIN}. Nothing was changed. \
         Choose another folder with --dir DIR, or start the service of this one with `sekisho run --config FILE`", .0.display()
    )]
    Foreign(PathBuf),
    #[error(
        "cannot listen on {address}: {source}.\n\
         If another program (or another quickstart) is there, choose another address: \
         sekisho quickstart --listen 127.0.0.1:18080"
    )]
    Listen { address: SocketAddr, source: io::Error },
    #[error(
        "cannot listen on {address} for the demo cloud: {source}.\n\
         {} has been edited and is left alone: write a free port into `ports` of its services, or move the file away", file.display()
    )]
    Demo { address: SocketAddr, source: io::Error, file: PathBuf },
    #[error("no port is free on 127.0.0.1 for {for_whom}: {source}")]
    NoPort { for_whom: &'static str, source: io::Error },
    #[error(
        "{} has been edited and is left alone: write the address {wanted} into its [[listener]], or leave --listen out",
        file.display()
    )]
    ListenEdited { wanted: SocketAddr, file: PathBuf },
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error("{0}")]
    Authority(#[from] InitError),
}

/// Who wrote the folder's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    Quickstart,
    User,
}

/// What the file says of addresses. `demo` is the port of the first service for a name of the demo cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Addresses {
    listen: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    demo: u16,
}

/// A folder with a configuration that quickstart can run.
pub(super) struct Folder {
    pub dir: PathBuf,
    pub author: Author,
    /// For the demo cloud; does not block.
    pub listener: TcpListener,
    /// The listener's port.
    pub port: u16,
    /// Locked for as long as this is open.
    _lock: Option<Lock>,
}

impl Folder {
    /// Takes the folder as it is, or makes it: addresses first, then the files, so that a port in use changes nothing.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn prepare(dir: &Path, listen: Option<SocketAddr>, demo_root: &str) -> Result<Self, FolderError> {
        let file = dir.join("sekisho.toml");
        let lock = lock(dir)?;
        let text = match regular_text(&file, MAX_FILE) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(FolderError::Read { path: file, source }),
        };
        let kept = text.as_deref().map(|text| read(&file, text)).transpose()?;
        let author = match (&text, &kept) {
            (Some(text), Some(kept)) if render(kept).as_ref() != Some(text) => Author::User,
            (_, _) => Author::Quickstart,
        };
        let (listener, rendered) = match (author, kept) {
            (Author::User, Some(kept)) => (take_edited(&file, &kept, listen)?, None),
            (Author::Quickstart, kept) | (Author::User, kept @ None) => {
                let (listener, addresses) = choose(kept, listen)?;
                (listener, render(&addresses))
            }
        };
        fs::create_dir_all(dir).map_err(|source| FolderError::Make { path: dir.to_owned(), source })?;
        let lock = if lock.is_some() { lock } else { self::lock(dir)? };
        replace(&dir.join(DEMO_ROOT), demo_root)?;
        if let Some(rendered) = rendered.filter(|rendered| text.as_ref() != Some(rendered)) {
            replace(&file, &rendered)?;
        }
        let no_port = |source| FolderError::NoPort { for_whom: "the demo cloud", source };
        listener.set_nonblocking(true).map_err(no_port)?;
        let port = listener.local_addr().map_err(no_port)?.port();
        Ok(Self { dir: dir.to_owned(), author, listener, port, _lock: lock })
    }

    pub fn file(&self) -> PathBuf {
        self.dir.join("sekisho.toml")
    }

    /// The configuration, its issuing CA made where neither of its files is there yet.
    ///
    /// # Errors
    /// [`FolderError::Load`] and [`FolderError::Authority`].
    pub fn load(&self, now: SystemTime) -> Result<Config, FolderError> {
        let config = config::load(&self.file(), Scope::WithoutIssuingCa, now)?;
        if let Some(files) = config.issuing_files.as_ref().filter(|f| !f.certificate.exists() && !f.key.exists()) {
            // All of the demo's names, so that the user may inspect what was tunnelled.
            let inspected = config.inspected().map(|pattern| pattern.fixed_suffix().to_owned());
            let permitted = inspected.chain([DOMAIN.to_owned()]).collect();
            let (certificate, key) = (files.certificate.clone(), files.key.clone());
            let site = config.site.name.clone();
            authority::init(&InitRequest { certificate, key, site, permitted, days: ISSUING_DAYS, now })?;
        }
        Ok(config::load(&self.file(), Scope::Full, now)?)
    }
}

/// Not left to the last descriptor: a process that was started meanwhile may have another.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Keeps a second quickstart out of the folder, whose certificate and ports it would put in place of the first one's. `None` where
/// there is no folder yet, or its file system has no locks.
fn lock(dir: &Path) -> Result<Option<Lock>, FolderError> {
    // A FIFO is not waited for.
    let Some(opened) = dir.is_dir().then(|| File::open(dir).ok()).flatten() else { return Ok(None) };
    match opened.try_lock() {
        Ok(()) => Ok(Some(Lock(opened))),
        Err(TryLockError::WouldBlock) => Err(FolderError::InUse(dir.to_owned())),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// What a user's file says has to be free as it stands.
fn take_edited(file: &Path, kept: &Addresses, listen: Option<SocketAddr>) -> Result<TcpListener, FolderError> {
    if let Some(wanted) = listen.filter(|wanted| kept.listen != Some(*wanted)) {
        return Err(FolderError::ListenEdited { wanted, file: file.to_owned() });
    }
    let address = loopback(kept.demo);
    TcpListener::bind(address).map_err(|source| FolderError::Demo { address, source, file: file.to_owned() })
}

/// Addresses that are free now. The listener's is the user's to choose; where another's is taken, the system gives one.
fn choose(kept: Option<Addresses>, listen: Option<SocketAddr>) -> Result<(TcpListener, Addresses), FolderError> {
    let listen = listen.or(kept.and_then(|kept| kept.listen)).unwrap_or(LISTEN);
    // Held until all are chosen, so that none is given twice.
    let _held = TcpListener::bind(listen).map_err(|source| FolderError::Listen { address: listen, source })?;
    let demo = kept.map_or(DEMO_PORT, |kept| kept.demo);
    let demo = bind_near(loopback(demo), "the demo cloud")?;
    let admin = kept.and_then(|kept| kept.admin.filter(|_| kept.listen == Some(listen)));
    let admin = admin.unwrap_or_else(|| loopback(listen.port().checked_add(ADMIN_ABOVE).unwrap_or(0)));
    let admin = bind_near(admin, "[admin]")?;
    let no_port = |source| FolderError::NoPort { for_whom: "the demo cloud", source };
    let addresses = Addresses {
        listen: Some(listen),
        admin: Some(admin.local_addr().map_err(no_port)?),
        demo: demo.local_addr().map_err(no_port)?.port(),
    };
    Ok((demo, addresses))
}

fn bind_near(wanted: SocketAddr, for_whom: &'static str) -> Result<TcpListener, FolderError> {
    let bound = TcpListener::bind(wanted).or_else(|_| TcpListener::bind(loopback(0)));
    bound.map_err(|source| FolderError::NoPort { for_whom, source })
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// The file as quickstart writes it; `None` where an address is not as quickstart would have it.
fn render(addresses: &Addresses) -> Option<String> {
    let (listen, admin) = (addresses.listen?.to_string(), addresses.admin?.to_string());
    let text = TEMPLATE.replace("{listen}", &listen).replace("{admin}", &admin);
    Some(text.replace("{port}", &addresses.demo.to_string()))
}

fn read(file: &Path, text: &str) -> Result<Addresses, FolderError> {
    let Ok(root) = DeTable::parse(text) else {
        let problems = config::problems_of(&file.display().to_string(), text);
        return Err(LoadError { file: file.to_owned(), problems }.into());
    };
    let root = root.get_ref();
    let address = |table: Option<&DeTable<'_>>| table?.get("address")?.get_ref().as_str()?.parse().ok();
    let demo = tables(root, "service").find_map(demo_port);
    Ok(Addresses {
        listen: address(tables(root, "listener").next()),
        admin: address(root.get("admin").and_then(|admin| admin.get_ref().as_table())),
        demo: demo.ok_or_else(|| FolderError::Foreign(file.to_owned()))?,
    })
}

fn tables<'a, 't>(root: &'a DeTable<'t>, name: &str) -> impl Iterator<Item = &'a DeTable<'t>> {
    let items = root.get(name).and_then(|value| value.get_ref().as_array()).into_iter().flat_map(|array| array.iter());
    items.filter_map(|item| item.get_ref().as_table())
}

/// The port of a service for a name of the demo cloud.
fn demo_port(service: &DeTable<'_>) -> Option<u16> {
    let list = |name: &str| service.get(name).and_then(|value| value.get_ref().as_array());
    let is_demo = |host: &DeValue<'_>| {
        let name = host.as_str().unwrap_or_default();
        name.strip_suffix(DOMAIN).is_some_and(|head| head.ends_with('.'))
    };
    list("hosts")?.iter().find(|host| is_demo(host.get_ref()))?;
    list("ports")?.iter().next()?.get_ref().as_integer()?.as_str().parse().ok()
}

/// Writes a whole file in one step. It is the folder's owner who may write here, so nobody else can be in the way.
fn replace(path: &Path, contents: &str) -> Result<(), FolderError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::write(&temporary, contents).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        // Of no use to anyone; where even this fails, the error that led here is on its way to the user.
        let _ = fs::remove_file(&temporary);
        FolderError::Write { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default_file() -> String {
        let addresses = Addresses { listen: Some(LISTEN), admin: Some(loopback(9090)), demo: DEMO_PORT };
        render(&addresses).expect("rendered")
    }

    #[test]
    fn the_file_has_no_problem_and_reads_back_as_it_was_written() {
        let text = default_file();
        let problems = config::problems_of("sekisho.toml", &text);
        assert!(problems.is_empty(), "{problems:?}");
        let read = read(Path::new("sekisho.toml"), &text).expect("read");
        assert_eq!(read, Addresses { listen: Some(LISTEN), admin: Some(loopback(9090)), demo: DEMO_PORT });
        assert_eq!(render(&read), Some(text));
    }

    #[test]
    fn removing_four_marks_allows_the_third_name() {
        let text = default_file();
        let edited = text
            .replace("#[[service]]", "[[service]]")
            .replace("#name =", "name =")
            .replace("#hosts =", "hosts =")
            .replace("#ports =", "ports =");
        assert_eq!(text.len() - edited.len(), 4);
        assert!(config::problems_of("sekisho.toml", &edited).is_empty());
        assert!(edited.contains("\nhosts = [\"denied.demo.test\"]"));
    }

    #[test]
    fn a_file_without_the_demo_cloud_is_foreign() {
        for text in [
            "",
            "[[service]]\nname = \"x\"\nhosts = [\"example.com\"]\nports = [8443]\n",
            "[[service]]\nname = \"x\"\nhosts = [\"demo.test\", \"notdemo.test\"]\nports = [8443]\n",
            "[[service]]\nname = \"x\"\nhosts = [\"a.demo.test\"]\n",
        ] {
            let error = read(Path::new("f"), text).expect_err(text);
            assert!(matches!(error, FolderError::Foreign(_)), "{error}");
        }
        assert!(matches!(read(Path::new("f"), "[[service]"), Err(FolderError::Load(_))));
    }

    #[test]
    fn what_is_edited_is_never_written() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("sekisho.toml");
        let edited =
            format!("{}# mine\n", default_file().replace("[8443]", "[1]").replace("127.0.0.1:8080", "127.0.0.1:2"));
        fs::write(&file, &edited).expect("write");
        // Port 1 is refused to others than root, taken by root: either way the file stays.
        let _ = Folder::prepare(dir.path(), None, "root");
        let error = Folder::prepare(dir.path(), Some(LISTEN), "root").err().expect("another address");
        assert!(matches!(error, FolderError::ListenEdited { .. }), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("read"), edited);
    }

    #[test]
    fn a_listener_in_use_changes_nothing_and_another_port_in_use_is_replaced() {
        let dir = tempfile::tempdir().expect("tempdir");
        let dir = dir.path().join("new");
        let taken = TcpListener::bind(loopback(0)).expect("bind");
        let address = taken.local_addr().expect("address");
        let error = Folder::prepare(&dir, Some(address), "root").err().expect("in use");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(!dir.exists());

        let free = TcpListener::bind(loopback(0)).and_then(|listener| listener.local_addr()).expect("free");
        fs::create_dir(&dir).expect("mkdir");
        let kept = Addresses { listen: Some(free), admin: Some(address), demo: address.port() };
        fs::write(dir.join("sekisho.toml"), render(&kept).expect("rendered")).expect("write");
        let folder = Folder::prepare(&dir, None, "root").expect("prepared");
        assert_eq!(folder.author, Author::Quickstart);
        let now = fs::read_to_string(folder.file()).expect("read");
        let now = read(&folder.file(), &now).expect("read");
        assert_eq!((now.listen, now.demo), (Some(free), folder.port));
        assert!(matches!(Folder::prepare(&dir, None, "root"), Err(FolderError::InUse(_))));
        assert!(now.admin != Some(address) && now.demo != address.port() && now.admin != Some(loopback(now.demo)));
    }
}
