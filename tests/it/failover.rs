//! Only scenes with two boxes belong here, one of which fails: who is served by the other, and how soon. They measure, so `tests/run` runs
//! them alone, one after the other.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::real_clients::stage;
use super::support::client::{Tls, Wire};
use super::support::netns::{GATE4, Namespace, ORIGIN4, have};
use super::support::pair::{BALANCER4, Daemon, Pair, SELF4, TERMINAL4, keepalived, shipped};
use super::support::{Config, Origin, PATIENCE, Reply, Sekisho, Service, until, within};

/// The longest that clients may be without a box.
const BAR: Duration = Duration::from_secs(3);
/// A connection that is not answered within this is given up, and another tried.
const CONNECT: Duration = Duration::from_millis(250);
const ANSWER: Duration = Duration::from_millis(500);

/// Nobody is there; what gets past a box on its way there comes to the internet's side.
const FORGED4: &str = "192.0.2.99:443";
const FORGED6: &str = "[2001:db8:51::99]:443";

/// What a client does to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It is steered, by IPv4 or IPv6.
    Steered4,
    Steered6,
    /// It names the proxy by the address that one of the boxes has.
    Explicit,
}

/// The header that this box sets tells who has served.
const BOXES: [&str; 2] = ["a", "b"];

fn config(number: usize, doors: &str) -> Config {
    let mut config = Config::new()
        .service(Service::inspect("Inspected", &["inspected.test"], 443).header("X-Box", BOXES[number]))
        .host("inspected.test", ORIGIN4)
        .set("upstream", "allow_addresses", "[\"198.51.100.0/24\"]")
        .clients("[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\", \"fd00:20::/48\"]\n")
        .tail(doors);
    config.listeners.clear();
    config
}

fn origin(pair: &Pair) -> Origin {
    let at: SocketAddr = format!("{ORIGIN4}:443").parse().expect("an address");
    let origin = Origin::https(&["inspected.test"]).alpn(&["http/1.1"]).expecting(&["x-box"]);
    origin.answering(|seen| Reply::ok(seen.values("x-box").join(","))).start_on(pair.internet.listen(at))
}

/// Both boxes, with one issuing CA.
async fn boxes(pair: &Pair, config: impl Fn(usize) -> Config) -> [Sekisho; 2] {
    let first = Sekisho::start_inside(&config(0), &pair.boxes[0]).await;
    let copied = |dir: &std::path::Path| {
        for file in ["ca.pem", "ca.key", "ca-root.pem"] {
            std::fs::copy(first.path(file), dir.join(file)).expect("copied");
        }
    };
    let second = Sekisho::start_inside_with(&config(1), &pair.boxes[1], copied).await;
    [first, second]
}

type Inside = Wire<tokio_rustls::client::TlsStream<TcpStream>>;

/// A connection of the client's inside which requests are answered; `None` where it does not come about in time.
async fn opens(client: &Namespace, way: Way, root: &str, proxy: &str) -> Option<Inside> {
    let to = match way {
        Way::Steered4 => FORGED4.to_owned(),
        Way::Steered6 => FORGED6.to_owned(),
        Way::Explicit => format!("{proxy}:8080"),
    };
    let (client, to) = (client.clone(), to.parse::<SocketAddr>().expect("an address"));
    let connecting = tokio::task::spawn_blocking(move || client.connect_within(to, CONNECT));
    let mut wire = Wire::new(connecting.await.expect("it ran").ok()?);
    if way == Way::Explicit {
        wire.try_send("CONNECT inspected.test:443 HTTP/1.1\r\nHost: inspected.test:443\r\n\r\n").await.ok()?;
        let answer = wire.maybe_response("CONNECT").await?;
        (answer.status == 200).then_some(())?;
    }
    Tls::named("inspected.test").trusting(root).alpn(&["http/1.1"]).try_over(wire).await.ok()
}

/// The same, as soon as it does.
async fn opened(client: &Namespace, way: Way, root: &str, proxy: &str) -> Inside {
    within("a connection that is served", async {
        loop {
            if let Ok(Some(inside)) = timeout(ANSWER, opens(client, way, root, proxy)).await {
                return inside;
            }
        }
    })
    .await
}

/// Who has served one new connection of the client's.
async fn served_by(client: &Namespace, way: Way, root: &str) -> Option<String> {
    let asking = async {
        let mut inside = opens(client, way, root, GATE4).await?;
        let answer = inside.get("inspected.test", "/").await?;
        (answer.status == 200).then(|| answer.text())
    };
    timeout(ANSWER, asking).await.ok().flatten()
}

/// How long from `began` until the client is served by this box.
async fn until_served(client: &Namespace, way: Way, root: &str, by: usize, began: Instant) -> Duration {
    while served_by(client, way, root).await.as_deref() != Some(BOXES[by]) {
        assert!(began.elapsed() < PATIENCE, "{way:?}: never served by {}", BOXES[by]);
        sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

/// What can become of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Killed,
    /// It is told to end, and lets a session finish.
    Draining,
    Stopped,
    /// On the clients' side.
    CableCut,
    LineCut,
    /// The switch passes nothing on, and no interface says so.
    Silent,
    KeepalivedKilled,
    /// All its processes at once: nobody is left to take the address off.
    KeepalivedWipedOut,
}

struct Cast {
    pair: Pair,
    _origin: Origin,
    sekisho: [Sekisho; 2],
    keepalived: [Daemon; 2],
    root: String,
}

impl Cast {
    async fn new() -> Self {
        let pair = Pair::new();
        for each in &pair.boxes {
            each.filters("sekisho.nft");
        }
        let doors = "[[listener]]\naddress = \"0.0.0.0:8080\"\n\
                     [[listener]]\nmode = \"transparent\"\naddress = \"0.0.0.0:8443\"\n\
                     [[listener]]\nmode = \"transparent\"\naddress = \"[::]:8443\"\n";
        let origin = origin(&pair);
        let sekisho = boxes(&pair, |number| config(number, doors)).await;
        let keepalived = [0, 1].map(|number| keepalived(&pair, number, sekisho[number].admin));
        let root = sekisho[0].ca();
        Self { pair, _origin: origin, sekisho, keepalived, root }
    }

    /// How often this box has become the one that stands by.
    fn stood_by(&self, number: usize) -> usize {
        self.keepalived[number].log().matches("(sekisho4) Entering BACKUP STATE").count()
    }

    fn fail(&mut self, number: usize, failure: Failure) {
        match failure {
            Failure::Killed => self.sekisho[number].signal(Signal::KILL),
            Failure::Draining => self.sekisho[number].signal(Signal::TERM),
            Failure::Stopped => self.sekisho[number].signal(Signal::STOP),
            Failure::CableCut => self.pair.cable(number, "down"),
            Failure::LineCut => self.pair.line(number, "down"),
            Failure::Silent => self.pair.silence(number, true),
            Failure::KeepalivedKilled => self.keepalived[number].kill(),
            Failure::KeepalivedWipedOut => self.keepalived[number].kill_all(),
        }
    }

    /// The box is well again, and stands by.
    async fn mend(&mut self, number: usize, failure: Failure) {
        let mut before = self.stood_by(number);
        match failure {
            Failure::Killed => {
                self.sekisho[number].kill_was_seen().await;
                self.sekisho[number].start_again().await;
            }
            Failure::Draining => {
                self.sekisho[number].exit().await;
                self.sekisho[number].start_again().await;
            }
            Failure::Stopped => self.sekisho[number].signal(Signal::CONT),
            Failure::CableCut => self.pair.cable(number, "up"),
            Failure::LineCut => self.pair.line(number, "up"),
            Failure::Silent => {
                self.pair.silence(number, false);
                // Either of two that both were master gives way.
                self.pair.holder().await;
                return;
            }
            Failure::KeepalivedKilled | Failure::KeepalivedWipedOut => {
                self.keepalived[number] = keepalived(&self.pair, number, self.sekisho[number].admin);
                before = 0;
            }
        }
        until("the box stands by", || (self.stood_by(number) > before).then_some(())).await;
    }

    /// One box fails and the other serves; it comes back and takes nothing away.
    async fn suffer(&mut self, failure: Failure) {
        let failing = self.pair.holder().await;
        let other = 1 - failing;
        let client = self.pair.client.clone();
        let root = self.root.clone();
        // A session that the box has, by its own address, and one of the box that goes on.
        let _finishing = opened(&client, Way::Explicit, &root, SELF4[failing]).await;
        let mut unconcerned = opened(&client, Way::Explicit, &root, SELF4[other]).await;
        until_served(&client, Way::Explicit, &root, failing, Instant::now()).await;

        let began = Instant::now();
        self.fail(failing, failure);
        let served = |way| until_served(&client, way, &root, other, began);
        let took = tokio::join!(served(Way::Steered4), served(Way::Steered6), served(Way::Explicit));
        let took = [took.0, took.1, took.2].map(|each| each.as_millis());
        let line = format!("{failure:?} on {}: {took:?} ms", BOXES[failing]);
        let _ = writeln!(std::io::stderr().lock(), "{line}");
        assert!(took.iter().all(|each| *each <= BAR.as_millis()), "{line}");
        let answer = unconcerned.get("inspected.test", "/").await.expect("its session goes on");
        assert_eq!(answer.text(), BOXES[other]);

        let mut kept = opened(&client, Way::Steered4, &root, GATE4).await;
        self.mend(failing, failure).await;
        if failure != Failure::Silent {
            assert!(self.pair.is_held_by(other), "who comes back takes nothing away: {:?}", self.pair.holders());
            assert_eq!(kept.get("inspected.test", "/").await.expect("the session goes on").text(), BOXES[other]);
        }
        assert_eq!(self.pair.internet.packets_of_clients(), 0, "packets of the clients on the internet's side");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures: tests/run runs it alone"]
async fn o06_one_box_of_a_pair_fails_and_the_other_serves_within_three_seconds() {
    if !have("a pair of boxes") || !stage::have("a pair of boxes", &["keepalived", "curl"]) {
        return;
    }
    let mut cast = Cast::new().await;
    for failure in [
        Failure::Killed,
        Failure::Draining,
        Failure::Stopped,
        Failure::CableCut,
        Failure::LineCut,
        Failure::Silent,
        Failure::KeepalivedKilled,
        Failure::KeepalivedWipedOut,
    ] {
        cast.suffer(failure).await;
        // On the other box, which has the address now.
        cast.suffer(failure).await;
    }
}

/// Nobody attracts what nobody can serve, and nothing gets past.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures: tests/run runs it alone"]
async fn o06_where_both_boxes_are_dead_nobody_has_the_address() {
    if !have("two dead boxes") || !stage::have("two dead boxes", &["keepalived", "curl"]) {
        return;
    }
    let mut cast = Cast::new().await;
    let holder = cast.pair.holder().await;
    for number in [1 - holder, holder] {
        cast.sekisho[number].kill().await;
    }
    until("nobody has the address", || (cast.pair.holders() == [[false; 2]; 2]).then_some(())).await;
    for way in [Way::Steered4, Way::Steered6, Way::Explicit] {
        assert_eq!(served_by(&cast.pair.client, way, &cast.root).await, None, "{way:?}");
    }
    assert_eq!(cast.pair.internet.packets_of_clients(), 0, "packets of the clients on the internet's side");
    // One is enough.
    cast.sekisho[1].start_again().await;
    assert_eq!(cast.pair.holder().await, 1);
    until_served(&cast.pair.client, Way::Steered4, &cast.root, 1, Instant::now()).await;
    assert_eq!(cast.pair.internet.packets_of_clients(), 0, "packets of the clients on the internet's side");
    // Without the rules they would be seen.
    cast.pair.boxes[1].run("nft", &["flush", "ruleset"]);
    for to in [FORGED4, FORGED6] {
        let before = cast.pair.internet.packets_of_clients();
        let _ = cast.pair.client.connect_within(to.parse().expect("an address"), CONNECT);
        assert!(cast.pair.internet.packets_of_clients() > before, "packets to {to} are counted");
    }
}

/// A balancer in front, as it is shipped: clients that name it, and clients that its packet filter steers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures: tests/run runs it alone"]
async fn o06_a_balancer_takes_clients_to_the_box_that_is_ready() {
    if !have("a balancer and two boxes") || !stage::have("a balancer and two boxes", &["haproxy"]) {
        return;
    }
    let pair = Pair::new();
    let _origin = origin(&pair);
    let mut sekisho = boxes(&pair, |number| {
        let own = SELF4[number];
        let mut config = config(
            number,
            &format!(
                "[[listener]]\naddress = \"{own}:8080\"\nproxy_protocol = [\"{BALANCER4}/32\"]\n\
                 [[listener]]\nmode = \"transparent\"\naddress = \"{own}:8443\"\nproxy_protocol = [\"{BALANCER4}/32\"]\n"
            ),
        );
        config.admin = Some(format!("{own}:9090").parse().expect("an address"));
        config
    })
    .await;
    pair.balancer.ip(&["addr", "add", &format!("{GATE4}/16"), "dev", "lan0"]);
    pair.balancer.forwards();
    pair.balancer.filters("sekisho.nft");
    // As many descriptors as a test may have.
    let configuration = shipped("haproxy/haproxy.cfg").replace("maxconn 20000", "maxconn 1000");
    let haproxy = Daemon::start(&pair.balancer, "haproxy", &["-db", "-f", "FILE"], &configuration);
    let root = sekisho[0].ca();
    let client = pair.client.clone();
    let ways = [Way::Steered4, Way::Explicit];
    for failure in [Failure::Killed, Failure::Stopped] {
        for _ in 0..2 {
            // A client stays with its box.
            let by = within("both boxes are ready", async {
                loop {
                    let by = [served_by(&client, ways[0], &root).await, served_by(&client, ways[1], &root).await];
                    if let [Some(one), Some(other)] = by
                        && one == other
                    {
                        return one;
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
            let failing = BOXES.iter().position(|each| *each == by).expect("a box");
            let other = 1 - failing;
            let began = Instant::now();
            sekisho[failing].signal(if failure == Failure::Killed { Signal::KILL } else { Signal::STOP });
            let served = |way| until_served(&client, way, &root, other, began);
            let took = tokio::join!(served(ways[0]), served(ways[1]));
            let took = [took.0, took.1].map(|each| each.as_millis());
            let line = format!("behind a balancer, {failure:?} on {by}: {took:?} ms");
            let _ = writeln!(std::io::stderr().lock(), "{line}");
            assert!(took.iter().all(|each| *each <= BAR.as_millis()), "{line}\n{}", haproxy.log());
            let steered = until("its record", || {
                let records = sekisho[other].records().into_iter();
                let mut steered = records.filter(|record| record.has("sekisho.original_destination"));
                steered.find(|record| record.is_terminal() && record.action() == "connection")
            })
            .await;
            steered.with("source.ip", TERMINAL4).with("sekisho.original_destination", FORGED4);
            assert!(steered.text("sekisho.balancer").starts_with(&format!("{BALANCER4}:")), "{steered:?}");
            if failure == Failure::Killed {
                sekisho[failing].kill_was_seen().await;
                sekisho[failing].start_again().await;
            } else {
                sekisho[failing].signal(Signal::CONT);
            }
        }
    }
}
