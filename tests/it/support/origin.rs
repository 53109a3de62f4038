//! Only upstream servers belong here: they see exactly what arrives, log all of it, and fail the test on any header field they
//! did not expect.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::client::{Wire, fields};
use super::pki::{self, Defect, Leaf};

/// One request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// `GET`, `POST`, …
    pub method: String,
    /// The request target as written (`:path` in HTTP/2).
    pub target: String,
    /// `Host` or `:authority`.
    pub authority: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The head as it stood on the wire; empty in HTTP/2.
    pub head: String,
    pub h2: bool,
}

impl Seen {
    /// Every value of `name`, in whatever case it came.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

/// What an origin does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// 200 with this body, by whatever framing.
    Ok(Vec<u8>),
    /// These octets, then the next request. HTTP/1 only.
    Raw(Vec<u8>),
    /// These octets, then the end of the connection. HTTP/1 only.
    RawThenClose(Vec<u8>),
    /// These octets, then whatever the client sends comes back as it is. HTTP/1 only.
    RawThenEcho(Vec<u8>),
    /// A whole answer. HTTP/2 only.
    H2 { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>, trailers: Vec<(&'static str, String)> },
    /// Nothing, ever.
    Stall,
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Ok(body.into())
    }
}

type Handler = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// What an origin does with an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tcp {
    Serve,
    /// Reads, and never says anything.
    Silent,
    /// Ends the connection at the first octets.
    CloseAtOnce,
    /// Answers the first octets with a sentence that is no TLS.
    Garbage,
}

#[derive(Default)]
struct Log {
    connects: usize,
    snis: Vec<String>,
    requests: Vec<Seen>,
    unexpected: Vec<String>,
    /// Octets received inside TLS, on connections that echo.
    echoed: Vec<u8>,
}

/// A running origin.
pub struct Origin {
    addr: SocketAddr,
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

/// An origin under construction.
pub struct Building {
    names: Vec<String>,
    leaf: Option<Leaf>,
    alpn: Vec<Vec<u8>>,
    handler: Handler,
    expected: BTreeSet<String>,
    tls: bool,
    tcp: Tcp,
    echo: bool,
    reset: bool,
    extended_connect: bool,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
    wants_client_certificate: bool,
    address: String,
}

/// Fields that a proxy may pass on from the clients of these scenes, or must make itself.
const EXPECTED: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "content-type",
    "accept",
    "user-agent",
    "x-marker",
    "te",
    "connection",
];

struct Plan {
    handler: Handler,
    expected: BTreeSet<String>,
    acceptor: Option<TlsAcceptor>,
    tcp: Tcp,
    echo: bool,
    extended_connect: bool,
    log: Arc<Mutex<Log>>,
}

impl Origin {
    /// TLS with a good leaf for `names`; HTTP/1.1 and HTTP/2, every request answered 200 with its own target.
    pub fn https(names: &[&str]) -> Building {
        Building {
            names: names.iter().map(ToString::to_string).collect(),
            leaf: None,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            handler: Arc::new(|seen| Reply::ok(format!("origin saw {} {}", seen.method, seen.target))),
            expected: EXPECTED.iter().map(ToString::to_string).collect(),
            tls: true,
            tcp: Tcp::Serve,
            echo: false,
            reset: false,
            extended_connect: false,
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
            wants_client_certificate: false,
            address: "127.0.0.1:0".to_owned(),
        }
    }

    /// HTTP without TLS.
    pub fn http() -> Building {
        let mut building = Self::https(&[]);
        building.tls = false;
        building.expected.insert("via".to_owned());
        building
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// `host:port` of this origin.
    pub fn at(&self, host: &str) -> String {
        format!("{host}:{}", self.port())
    }

    fn log<T>(&self, read: impl FnOnce(&Log) -> T) -> T {
        read(&self.log.lock().expect("log"))
    }

    /// Connections accepted so far.
    pub fn connects(&self) -> usize {
        self.log(|log| log.connects)
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.log(|log| log.requests.clone())
    }

    pub fn snis(&self) -> Vec<String> {
        self.log(|log| log.snis.clone())
    }

    pub fn echoed(&self) -> Vec<u8> {
        self.log(|log| log.echoed.clone())
    }

    /// The oracle of a refusal: nobody connected.
    #[track_caller]
    pub fn untouched(&self) {
        assert_eq!(self.connects(), 0, "a refused destination was connected to");
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
        let unexpected = self.log(|log| log.unexpected.clone());
        assert!(std::thread::panicking() || unexpected.is_empty(), "header fields nobody expected: {unexpected:?}");
    }
}

impl Building {
    pub fn defect(mut self, defect: Defect) -> Self {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        self.leaf = Some(pki::leaf(&names, defect));
        self
    }

    /// A good leaf for other names than those it is reached by.
    pub fn leaf_for(mut self, names: &[&str]) -> Self {
        self.leaf = Some(pki::leaf(names, Defect::None));
        self
    }

    /// Exactly this chain, whatever is wrong with it.
    pub fn showing(mut self, leaf: Leaf) -> Self {
        self.leaf = Some(leaf);
        self
    }

    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    pub fn answering(mut self, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        self.handler = Arc::new(handler);
        self
    }

    /// Header fields that may come beside the usual ones.
    pub fn expecting(mut self, names: &[&str]) -> Self {
        self.expected.extend(names.iter().map(|name| name.to_ascii_lowercase()));
        self
    }

    pub fn tcp(mut self, tcp: Tcp) -> Self {
        self.tcp = tcp;
        self
    }

    /// No HTTP: what comes goes back.
    pub fn echoing(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Connections end with a reset.
    pub fn resetting(mut self) -> Self {
        self.reset = true;
        self
    }

    pub fn extended_connect(mut self) -> Self {
        self.extended_connect = true;
        self
    }

    pub fn versions(mut self, versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        self.versions = versions.to_vec();
        self
    }

    pub fn wanting_client_certificate(mut self) -> Self {
        self.wants_client_certificate = true;
        self
    }

    /// Where it listens, in place of any port of 127.0.0.1.
    pub fn listening(mut self, address: &str) -> Self {
        self.address = address.to_owned();
        self
    }

    pub async fn start(self) -> Origin {
        let listener = TcpListener::bind(&self.address).await.expect("a port");
        self.start_on(listener)
    }

    pub fn start_on(self, listener: TcpListener) -> Origin {
        let addr = listener.local_addr().expect("bound");
        let log = Arc::new(Mutex::new(Log::default()));
        let acceptor = self.tls.then(|| TlsAcceptor::from(Arc::new(self.server_config(Arc::clone(&log)))));
        let reset = self.reset;
        let plan = Arc::new(Plan {
            handler: self.handler,
            expected: self.expected,
            acceptor,
            tcp: self.tcp,
            echo: self.echo,
            extended_connect: self.extended_connect,
            log: Arc::clone(&log),
        });
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                plan.log.lock().expect("log").connects += 1;
                let _ = stream.set_nodelay(true);
                if reset {
                    let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
                }
                tokio::spawn(connection(Arc::clone(&plan), stream));
            }
        });
        Origin { addr, log, task }
    }

    fn server_config(&self, log: Arc<Mutex<Log>>) -> ServerConfig {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let made;
        let leaf = match &self.leaf {
            Some(leaf) => leaf,
            None => {
                made = pki::leaf(&names, Defect::None);
                &made
            }
        };
        let provider = pki::provider();
        let key = provider.key_provider.load_private_key(leaf.key.clone_key()).expect("a key");
        let certified = Arc::new(CertifiedKey::new(leaf.chain.clone(), key));
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions)
            .expect("versions");
        let builder = if self.wants_client_certificate {
            let roots = Arc::new(pki::store(&pki::root_pem()));
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(Arc::new(Certificates { certified, log }));
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }
}

struct Certificates {
    certified: Arc<CertifiedKey>,
    log: Arc<Mutex<Log>>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.log.lock().expect("log").snis.push(hello.server_name().unwrap_or_default().to_owned());
        Some(Arc::clone(&self.certified))
    }
}

async fn connection(plan: Arc<Plan>, mut stream: TcpStream) {
    match plan.tcp {
        Tcp::Serve => {}
        Tcp::Silent => {
            let mut sink = [0; 1024];
            while matches!(stream.read(&mut sink).await, Ok(1..)) {}
            return;
        }
        Tcp::CloseAtOnce => {
            let _ = stream.read(&mut [0; 1024]).await;
            return;
        }
        Tcp::Garbage => {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"220 ready, but not for TLS\r\n").await;
            let _ = stream.shutdown().await;
            return;
        }
    }
    let Some(acceptor) = &plan.acceptor else {
        return http1(&plan, Wire::new(stream)).await;
    };
    let Ok(tls) = acceptor.accept(stream).await else { return };
    if plan.echo {
        return echo(&plan, tls).await;
    }
    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
        return http2(&plan, tls).await;
    }
    http1(&plan, Wire::new(tls)).await;
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(plan: &Plan, mut io: S) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = io.read(&mut buffer).await {
        plan.log.lock().expect("log").echoed.extend_from_slice(&buffer[..n]);
        if io.write_all(&buffer[..n]).await.is_err() || io.flush().await.is_err() {
            return;
        }
    }
    let _ = io.shutdown().await;
}

impl Plan {
    fn saw(&self, seen: &Seen) -> Reply {
        let mut log = self.log.lock().expect("log");
        log.requests.push(seen.clone());
        for (name, value) in seen.headers.iter().chain(&seen.trailers) {
            if !self.expected.contains(&name.to_ascii_lowercase()) {
                log.unexpected.push(format!("{name}: {value} (for {} {})", seen.authority, seen.target));
            }
        }
        drop(log);
        (self.handler)(seen)
    }
}

async fn http1<S: AsyncRead + AsyncWrite + Unpin>(plan: &Plan, mut wire: Wire<S>) {
    loop {
        let Some(head) = wire.head().await else { return };
        let Some(seen) = request(&mut wire, head).await else { return };
        match plan.saw(&seen) {
            Reply::Ok(body) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let answer = if seen.method == "HEAD" { head.into_bytes() } else { [head.as_bytes(), &body].concat() };
                if wire.try_send(answer).await.is_err() {
                    return;
                }
            }
            Reply::Raw(bytes) => {
                if wire.try_send(bytes).await.is_err() {
                    return;
                }
            }
            Reply::RawThenClose(bytes) => {
                let _ = wire.try_send(bytes).await;
                let _ = wire.io.shutdown().await;
                return;
            }
            Reply::RawThenEcho(bytes) => {
                let _ = wire.try_send(bytes).await;
                return echo(plan, wire.io).await;
            }
            Reply::H2 { .. } => panic!("an HTTP/2 answer on HTTP/1"),
            Reply::Stall => std::future::pending().await,
        }
    }
}

/// The request behind `head`, its content by the framing it declares.
async fn request<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, head: String) -> Option<Seen> {
    let mut line = head.split("\r\n").next()?.split(' ');
    let headers = fields(&head);
    let one =
        |name: &str| headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
    let mut seen = Seen {
        method: line.next()?.to_owned(),
        target: line.next()?.to_owned(),
        authority: one("host").unwrap_or_default(),
        ..Seen::default()
    };
    if one("transfer-encoding").is_some() {
        loop {
            let line = String::from_utf8(wire.until(b"\r\n").await?).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            if size == 0 {
                break;
            }
            seen.body.extend(wire.exactly(size).await?);
            wire.until(b"\r\n").await?;
        }
        loop {
            let line = String::from_utf8(wire.until(b"\r\n").await?).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            seen.trailers.push((name.to_owned(), value.trim().to_owned()));
        }
    } else if let Some(length) = one("content-length") {
        seen.body = wire.exactly(length.parse().ok()?).await?;
    }
    (seen.headers, seen.head) = (headers, head);
    Some(seen)
}

async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(plan: &Arc<Plan>, io: S) {
    let mut builder = h2::server::Builder::new();
    if plan.extended_connect {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
    while let Some(next) = connection.accept().await {
        match next {
            Ok((request, respond)) => {
                tokio::spawn(stream(Arc::clone(plan), request, respond));
            }
            Err(_) => return,
        }
    }
}

async fn stream(plan: Arc<Plan>, request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let (parts, mut content) = request.into_parts();
    let mut seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        authority: parts.uri.authority().map(ToString::to_string).unwrap_or_default(),
        headers: pairs(&parts.headers),
        h2: true,
        ..Seen::default()
    };
    let switches = parts.extensions.get::<h2::ext::Protocol>().is_some();
    if !switches {
        while let Some(data) = content.data().await {
            let Ok(data) = data else { return };
            let _ = content.flow_control().release_capacity(data.len());
            seen.body.extend_from_slice(&data);
        }
        let Ok(trailers) = content.trailers().await else { return };
        seen.trailers = trailers.as_ref().map(pairs).unwrap_or_default();
    }
    let (status, headers, body, trailers) = match plan.saw(&seen) {
        Reply::Ok(body) => (200, vec![], body, vec![]),
        Reply::H2 { status, headers, body, trailers } => (status, headers, body, trailers),
        Reply::Stall => return std::future::pending().await,
        other => panic!("{other:?} on HTTP/2"),
    };
    let mut response = http::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let response = response.body(()).expect("a response");
    let ends = body.is_empty() && trailers.is_empty() && !switches;
    let Ok(mut sending) = respond.send_response(response, ends) else { return };
    if switches {
        while let Some(Ok(data)) = content.data().await {
            let _ = content.flow_control().release_capacity(data.len());
            let _ = sending.send_data(data, false);
        }
        let _ = sending.send_data(Bytes::new(), true);
    } else if !ends {
        let _ = sending.send_data(Bytes::from(body), trailers.is_empty());
        if !trailers.is_empty() {
            let mut map = http::HeaderMap::new();
            for (name, value) in trailers {
                map.insert(name, value.parse().expect("a value"));
            }
            let _ = sending.send_trailers(map);
        }
    }
}

fn pairs(map: &http::HeaderMap) -> Vec<(String, String)> {
    map.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
}
