use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, advance, timeout};

use super::clients::MAX_KEYS;
use super::meter::FLOODS;
use super::rate::Tick;
use super::*;
use crate::reason::Reason;

fn rate(per_second: u32, burst: u32) -> Option<Rate> {
    let n = |n| NonZeroU32::new(n).expect("positive");
    Some(Rate { per_second: n(per_second), burst: n(burst) })
}

fn client(text: &str) -> ClientAddr {
    ClientAddr::new(format!("{text}:1").parse().expect(text))
}

fn group(name: &str, whole: Quotas, per_client: Quotas) -> GroupQuotas {
    GroupQuotas { name: name.to_owned(), whole, per_client }
}

fn service(name: &str, whole: Quotas) -> ServiceQuotas {
    ServiceQuotas { name: name.to_owned(), whole }
}

fn connections(most: u32) -> Quotas {
    Quotas { connections: Some(most), ..Quotas::default() }
}

fn why<T>(result: Result<T, Refused>) -> Option<(Limit, Whose)> {
    result.err().map(|refused| (refused.limit, refused.whose))
}

#[test]
fn a_slot_is_given_back_when_its_admission_is_dropped() {
    let limits = Limits::new(&Settings { all: connections(3), per_client: connections(2), ..Settings::unlimited() });
    let first = limits.admit(client("10.0.0.1"), None).expect("first");
    let second = limits.admit(client("10.0.0.1"), None).expect("second");
    let refused = limits.admit(client("10.0.0.1"), None).err().expect("a third");
    assert_eq!(refused.reason(), Reason::TooManyConnectionsOfClient);
    let other = limits.admit(client("10.0.0.2"), None).expect("other");
    let refused = limits.admit(client("10.0.0.3"), None).err().expect("a fourth");
    assert_eq!(refused.reason(), Reason::TooManyConnections);
    drop(first);
    assert!(limits.admit(client("10.0.0.1"), None).is_ok());
    drop((second, other));
    assert_eq!(limits.held(Counted::Connections), 0);
    let reached: Vec<_> = limits.reached().filter(|(_, _, count)| *count > 0).collect();
    assert_eq!(reached, [(Limit::Connections, Whose::Client, 1), (Limit::Connections, Whose::All, 1)]);
}

#[test]
fn h03_a_share_is_the_mean_of_those_who_hold_any() {
    let limits = Limits::new(&Settings::unlimited());
    let hold = |who: &str, n| -> Vec<_> { (0..n).map(|_| limits.admit(client(who), None).expect("a slot")).collect() };
    let seven = hold("10.0.0.1", 7);
    assert!(!limits.has_share(client("10.0.0.1")), "few are nobody's share");
    let eight = hold("10.0.0.1", 1);
    assert!(limits.has_share(client("10.0.0.1")), "alone, all there are are its share");
    let many = hold("10.0.0.2", 9);
    assert!(!limits.has_share(client("10.0.0.1")), "8 of 17 by two");
    assert!(limits.has_share(client("10.0.0.2")));
    assert!(!limits.has_share(client("10.0.0.3")), "a newcomer");
    drop((seven, eight, many));
    assert!(!limits.has_share(client("10.0.0.2")));
    assert_eq!(limits.holders.load(Ordering::Relaxed), 0);
}

#[test]
fn what_one_of_them_refuses_is_held_with_none() {
    let groups = vec![group("office", connections(1), Quotas::default())];
    let limits = Limits::new(&Settings { groups, ..Settings::unlimited() });
    let held = limits.admit(client("10.0.0.1"), Some("office")).expect("the group's one");
    for _ in 0..3 {
        let refused = limits.admit(client("10.0.0.2"), Some("office"));
        assert_eq!(why(refused), Some((Limit::Connections, Whose::Group)));
        assert_eq!(limits.held(Counted::Connections), 1, "given back where the group refused");
    }
    assert!(limits.admit(client("10.0.0.2"), None).is_ok(), "of another group, or none");
    drop(held);
    assert!(limits.admit(client("10.0.0.2"), Some("office")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn d16_the_rate_of_new_connections_is_a_burst_then_a_stream() {
    let per_client = Quotas { new_connections: rate(1, 3), ..Quotas::default() };
    let limits = Limits::new(&Settings { per_client, ..Settings::unlimited() });
    let come = || limits.admit(client("10.0.0.1"), None);
    let slots: Vec<_> = (0..3).map(|_| come().expect("burst")).collect();
    assert_eq!(why(come()), Some((Limit::NewConnections, Whose::Client)));
    assert!(limits.admit(client("10.0.0.2"), None).is_ok());
    // A further claim on a connection that is open counts like one.
    assert!(slots.iter().all(|slot| slot.subjects().charge(Rated::NewConnections).is_err()));
    drop(slots);
    assert!(come().is_err(), "a closed connection was still new");
    advance(Duration::from_secs(1)).await;
    assert!(come().is_ok());
    assert!(come().is_err());
}

/// Who is over its own rate uses up nothing of the others'.
#[test]
fn a_clients_flood_leaves_its_group_the_groups_rate() {
    let groups = vec![group("office", Quotas { new_connections: rate(1, 5), ..Quotas::default() }, {
        Quotas { new_connections: rate(1, 2), ..Quotas::default() }
    })];
    let limits = Limits::new(&Settings { groups, ..Settings::unlimited() });
    let come = |ip: &str| why(limits.admit(client(ip), Some("office")));
    assert_eq!((0..100).filter(|_| come("10.0.0.1").is_none()).count(), 2);
    assert_eq!((0..100).filter(|_| come("10.0.0.2").is_none()).count(), 2);
    assert_eq!(come("10.0.0.3"), None);
    assert_eq!(come("10.0.0.3"), Some((Limit::NewConnections, Whose::Group)));
}

#[test]
fn ipv6_is_counted_by_its_prefix_and_mapped_addresses_as_ipv4() {
    let settings = |ipv6_prefix| Settings { per_client: connections(1), ipv6_prefix, ..Settings::unlimited() };
    let limits = Limits::new(&settings(64));
    let _held = limits.admit(client("[fd00:20::1]"), None).expect("first of the prefix");
    assert!(limits.admit(client("[fd00:20::ffff:ffff:ffff:ffff]"), None).is_err());
    assert!(limits.admit(client("[fd00:20:0:1::1]"), None).is_ok());
    let _mapped = limits.admit(client("[::ffff:10.0.0.9]"), None).expect("mapped");
    assert!(limits.admit(client("10.0.0.9"), None).is_err());
    assert!(limits.admit(client("10.0.0.8"), None).is_ok());
    for (prefix, same, other) in [
        (32, "[fd00:20:ffff::1]", "[fd00:21::1]"),
        (48, "[fd00:20:0:ffff::1]", "[fd00:20:1::1]"),
        (63, "[fd00:20:0:1::1]", "[fd00:20:0:2::1]"),
        (127, "[fd00:20::]", "[fd00:20::2]"),
        (128, "[fd00:20::1]", "[fd00:20::]"),
    ] {
        let limits = Limits::new(&settings(prefix));
        let _held = limits.admit(client("[fd00:20::1]"), None).expect("first of the prefix");
        assert!(limits.admit(client(same), None).is_err(), "/{prefix} {same}");
        assert!(limits.admit(client(other), None).is_ok(), "/{prefix} {other}");
    }
}

#[test]
fn a_service_is_counted_apart_from_the_connection() {
    let services =
        vec![service("Files", Quotas { handshakes: Some(1), ..connections(2) }), service("Mail", connections(1))];
    let limits = Limits::new(&Settings { services, ..Settings::unlimited() });
    let admission = limits.admit(client("10.0.0.1"), None).expect("admitted");
    let one = admission.visit("Files", Rated::NewConnections).expect("one");
    let _two = admission.visit("Files", Rated::NewConnections).expect("two");
    let third = admission.visit("Files", Rated::NewConnections);
    assert_eq!(why(third), Some((Limit::Connections, Whose::Service)));
    let mail = admission.visit("Mail", Rated::Requests).expect("another service");
    assert_eq!(limits.held(Counted::Connections), 1, "it is one connection all the same");
    let greeting = one.subjects().hold(Counted::Handshakes).expect("a handshake");
    assert_eq!(why(one.subjects().hold(Counted::Handshakes)), Some((Limit::Handshakes, Whose::Service)));
    assert!(mail.subjects().hold(Counted::Handshakes).is_ok());
    assert_eq!(limits.held(Counted::Handshakes), 1);
    drop(greeting);
    assert_eq!(limits.held(Counted::Handshakes), 0);
    drop(one);
    assert!(admission.visit("Files", Rated::NewConnections).is_ok());
}

/// `quotas` for one of [`Whose`], and no limit for the others; a client in the group has that one's.
fn only(whose: Whose, quotas: Quotas) -> Settings {
    let of = |other| if whose == other { quotas.clone() } else { Quotas::default() };
    Settings {
        all: of(Whose::All),
        per_client: of(Whose::Client),
        groups: vec![group("office", of(Whose::Group), of(Whose::Client))],
        services: vec![service("Files", of(Whose::Service))],
        ..Settings::unlimited()
    }
}

#[tokio::test(start_paused = true)]
async fn h03_every_limit_is_there_for_a_client_a_group_a_service_and_all() {
    let one = NonZeroU64::new(1);
    let quotas = Quotas {
        connections: Some(1),
        new_connections: rate(1, 1),
        requests: rate(1, 1),
        upload: one,
        download: one,
        handshakes: Some(1),
        leaf_mints: rate(1, 1),
        dns_lookups: Some(1),
    };
    let come = |limits: &Arc<Limits>| {
        let admission = limits.admit(client("10.0.0.1"), Some("office"))?;
        let visit = admission.visit("Files", Rated::NewConnections)?;
        Ok((admission, visit))
    };
    for whose in Whose::ALL {
        let limited = |quotas| Limits::new(&only(whose, quotas));
        let held = limited(connections(1));
        let _held = come(&held).expect("the first");
        assert_eq!(why(come(&held)), Some((Limit::Connections, whose)));
        let fast = limited(Quotas { new_connections: rate(1, 1), ..Quotas::default() });
        drop(come(&fast).expect("the first"));
        assert_eq!(why(come(&fast)), Some((Limit::NewConnections, whose)));

        let limits = limited(quotas.clone());
        let (_admission, visit) = come(&limits).expect("the first");
        let subjects = visit.subjects();
        for what in [Counted::Handshakes, Counted::DnsLookups] {
            let _slot = subjects.hold(what).expect("the first");
            assert_eq!(why(subjects.hold(what)), Some((what.limit(), whose)));
        }
        for what in [Rated::Requests, Rated::LeafMints] {
            subjects.charge(what).expect("the first");
            assert_eq!(why(subjects.charge(what)), Some((what.limit(), whose)));
        }
        for way in Way::ALL {
            let places = subjects.bill(way, 1_000_000);
            assert_eq!(subjects.wait(way, &places).map(|(_, whose)| whose), Some(whose), "{way:?}");
        }
    }
}

#[test]
fn h06_h11_mints_and_look_ups_are_limited_for_each_client() {
    let per_client = Quotas { leaf_mints: rate(1, 2), dns_lookups: Some(2), ..Quotas::default() };
    let all = Quotas { dns_lookups: Some(3), ..Quotas::default() };
    let limits = Limits::new(&Settings { per_client, all, ..Settings::unlimited() });
    let admit = |ip: &str| limits.admit(client(ip), None).expect("admitted");
    let (one, other) = (admit("10.0.0.1"), admit("10.0.0.2"));
    assert_eq!((0..10).filter(|_| one.subjects().charge(Rated::LeafMints).is_ok()).count(), 2);
    assert!(other.subjects().charge(Rated::LeafMints).is_ok());
    let look = |admission: &Admission| admission.subjects().hold(Counted::DnsLookups);
    let _two = (look(&one).expect("one"), look(&one).expect("two"));
    assert_eq!(why(look(&one)), Some((Limit::DnsLookups, Whose::Client)));
    let last = look(&other).expect("another's");
    assert_eq!(why(look(&other)), Some((Limit::DnsLookups, Whose::All)));
    drop(last);
    assert!(look(&other).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_limits_under_held_slots_and_keeps_what_is_known() {
    let settings = |most, burst| Settings {
        per_client: Quotas { new_connections: rate(1, burst), ..connections(most) },
        services: vec![service("Files", connections(most))],
        ..Settings::unlimited()
    };
    let limits = Limits::new(&settings(2, 10));
    let admit = || limits.admit(client("10.0.0.1"), None);
    let mut held = vec![admit().expect("one"), admit().expect("two")];
    let visits = [held[0].visit("Files", Rated::NewConnections), held[1].visit("Files", Rated::NewConnections)];
    assert_eq!(why(admit()), Some((Limit::Connections, Whose::Client)));
    limits.reconfigure(&settings(3, 10));
    held.push(admit().expect("three"));
    limits.reconfigure(&settings(1, 10));
    assert!(admit().is_err(), "below what is held nobody comes in");
    assert!(held[2].visit("Files", Rated::NewConnections).is_err());
    drop((visits, held));
    assert!(admit().is_ok());
    // Six have come so far.
    assert_eq!((0..20).filter(|_| why(admit()).is_none()).count(), 4, "the burst of ten is still the same burst");
    limits.reconfigure(&settings(1, 3));
    assert!(admit().is_err());
    advance(Duration::from_secs(1)).await;
    assert!(admit().is_ok(), "a shorter bucket is filled in a shorter time");
}

#[test]
fn a_group_that_is_gone_is_no_limit_to_who_was_in_it() {
    let settings = |names: &[&str]| Settings {
        groups: names.iter().map(|name| group(name, connections(1), Quotas::default())).collect(),
        ..Settings::unlimited()
    };
    let limits = Limits::new(&settings(&["office"]));
    let held = limits.admit(client("10.0.0.1"), Some("office")).expect("one");
    limits.reconfigure(&settings(&[]));
    assert!(limits.admit(client("10.0.0.2"), Some("office")).is_ok());
    drop(held);
    assert_eq!(limits.held(Counted::Connections), 0);
}

/// A flood on an HTTP/2 connection costs a handshake: who goes on with them waits before the next.
#[tokio::test(start_paused = true)]
async fn f01_h04_who_floods_again_and_again_opens_nothing_for_a_second_and_is_not_forgotten() {
    let limits = Limits::new(&Settings::unlimited());
    let come = |ip| limits.admit(client(ip), None);
    let held = come("10.0.0.1").expect("admitted");
    let meter = Arc::clone(&held.subjects().client.meter.0);
    for _ in 0..FLOODS {
        assert!(come("10.0.0.1").is_ok(), "a few are let");
        held.subjects().has_flooded();
    }
    // However many more: the wait is the same.
    for _ in 0..100 {
        held.subjects().has_flooded();
    }
    for (after, barred) in [(0, true), (999, true), (1, false)] {
        advance(Duration::from_millis(after)).await;
        let refused = barred.then_some(Refused { limit: Limit::Floods, whose: Whose::Client });
        assert_eq!(come("10.0.0.1").err(), refused);
        assert_eq!(held.visit("Files", Rated::NewConnections).err(), refused, "what is open goes no further");
        assert!(held.visit("Files", Rated::Requests).is_ok(), "and what is established goes on");
        assert!(come("10.0.0.2").is_ok());
    }
    held.subjects().has_flooded();
    assert!(come("10.0.0.1").is_err(), "one a second");
    drop(held);
    advance(Duration::from_secs(10)).await;
    assert!(!meter.is_as_new(limits.clock.tick()), "not even where nothing is held");
    advance(Duration::from_secs(1)).await;
    assert!(meter.is_as_new(limits.clock.tick()));
    // Of those who are not told apart one does not bar the others.
    let client = Subject::new(&Quotas::default(), limits.clock);
    let strangers = Subjects { limits: Arc::clone(&limits), client, group: None, service: None };
    (0..2 * FLOODS).for_each(|_| strangers.has_flooded());
    assert!(strangers.charge(Rated::NewConnections).is_ok());
}

/// Ten million clients that each used something up, within one second: the store neither grows past its bound nor forgets the
/// abuser, and those for whom there is no room are one client. Each costs one look-up.
#[test]
fn h04_ten_million_keys_are_bounded_and_an_abuser_is_not_forgotten() {
    const LATER: u64 = 3_000_000_000;
    let clients = Clients::new(Tick::at(0));
    let key = |n: u32| ClientKey::of(ClientAddr::new((std::net::Ipv4Addr::from_bits(n), 1).into()), 64);
    let uses_up = |n: u32| {
        let meter = clients.meter(key(n), Tick::at(1));
        let before = meter.0.arrival(Rated::NewConnections).swap(LATER, Ordering::Relaxed);
        (meter, before == 0)
    };
    let abuser = u32::MAX;
    let (known, _) = uses_up(abuser);
    let let_in = (0..10_000_000).filter(|n| uses_up(*n).1).count();
    assert_eq!(clients.len(), MAX_KEYS);
    assert_eq!(let_in, MAX_KEYS, "one for each that is known, and one for all the others");
    let (again, fresh) = uses_up(abuser);
    assert!(again == known && !fresh, "what it used is still on its meter");
    // Before their time is over nobody can be forgotten; behind it, when the next one comes, all but those that are held.
    clients.meter(key(abuser - 1), Tick::at(LATER - 1));
    assert_eq!(clients.len(), MAX_KEYS);
    assert_eq!(known.0.take(Counted::Connections, None), Some(0));
    drop((known, again));
    clients.meter(key(abuser - 1), Tick::at(LATER + 1_000_000_000));
    assert_eq!(clients.len(), 2, "the abuser and the new one");
}

#[test]
fn h04_a_client_without_a_slot_and_with_an_unpaid_bill_is_kept() {
    let clients = Clients::new(Tick::at(0));
    let key = |n: u32| ClientKey::of(ClientAddr::new((std::net::Ipv4Addr::from_bits(n), 1).into()), 64);
    let owing = {
        let meter = clients.meter(key(1), Tick::at(0)).0;
        meter.ledger(Way::Download).bill(key(1), 3, 1, Tick::at(0));
        Arc::downgrade(&meter)
    };
    for (seconds, kept) in [(2, true), (3, false)] {
        for n in 0..3_000 {
            clients.meter(key(1000 + n), Tick::at(seconds * 1_000_000_000));
        }
        assert_eq!(owing.upgrade().is_some(), kept, "after {seconds} s");
    }
}

/// Subjects of one client whose octets are limited, and of others.
fn paced(per_second: u64) -> (Arc<Limits>, Admission) {
    let per_client = Quotas { download: NonZeroU64::new(per_second), ..Quotas::default() };
    let limits = Limits::new(&Settings { per_client, ..Settings::unlimited() });
    let admission = limits.admit(client("10.0.0.1"), None).expect("admitted");
    (limits, admission)
}

/// Moves `octets` in portions; how long that took.
async fn moves(admission: &Admission, octets: usize) -> Duration {
    let began = Instant::now();
    let mut pace = Pace::new(admission.subjects(), Way::Download);
    let mut left = octets;
    while left > 0 {
        let portion = std::future::poll_fn(|cx| pace.poll_portion(cx, || ())).await.min(left);
        pace.moved(portion);
        left -= portion;
    }
    pace.take(0, || ()).await;
    began.elapsed()
}

/// As long as the rate says, but for the credit and the turns that are under way.
fn about(span: Duration, seconds: f64) -> bool {
    (seconds - 0.8..seconds + 0.3).contains(&span.as_secs_f64())
}

#[tokio::test(start_paused = true)]
async fn octets_go_at_their_rate_whatever_the_portions() {
    for per_second in [1_000, 100_000, 20_000_000] {
        let (limits, admission) = paced(per_second);
        let octets = usize::try_from(per_second * 10).expect("small");
        let span = moves(&admission, octets).await;
        assert!(about(span, 10.0), "{per_second}: {span:?}");
        assert!(
            limits.reached().any(|(limit, whose, n)| (limit, whose, n > 0) == (Limit::Download, Whose::Client, true))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn connections_of_one_client_share_its_rate_and_a_new_one_is_no_way_round_it() {
    let (limits, admission) = paced(1_000_000);
    let second = limits.admit(client("10.0.0.1"), None).expect("a second connection");
    let (one, two) = tokio::join!(moves(&admission, 5_000_000), moves(&second, 5_000_000));
    assert!(about(one, 10.0) && about(two, 10.0), "{one:?} {two:?}");
    let other = limits.admit(client("10.0.0.2"), None).expect("another client");
    assert!(about(moves(&other, 1_000_000).await, 1.0), "with a rate of its own");
    // Many short ones, each less than a portion.
    let began = Instant::now();
    for _ in 0..100 {
        moves(&admission, 100_000).await;
    }
    assert!(about(began.elapsed(), 10.0), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_narrowest_of_several_rates_is_the_one_that_counts_and_a_reload_takes_effect_at_once() {
    let octets = |n| Quotas { download: NonZeroU64::new(n), ..Quotas::default() };
    let services = vec![service("Files", octets(100_000))];
    let settings = Settings { per_client: octets(1_000_000), services, ..Settings::unlimited() };
    let limits = Limits::new(&settings);
    let admission = limits.admit(client("10.0.0.1"), None).expect("admitted");
    let visit = admission.visit("Files", Rated::NewConnections).expect("a visit");
    let mut pace = Pace::new(visit.subjects(), Way::Download);
    let began = Instant::now();
    for _ in 0..50 {
        pace.take(10_000, || ()).await;
    }
    assert!(about(began.elapsed(), 5.0), "{:?}", began.elapsed());
    assert!(about(moves(&admission, 1_000_000).await, 1.0), "beside the service the client's own rate counts");
    limits.reconfigure(&Settings::unlimited());
    advance(Duration::from_secs(1)).await;
    let began = Instant::now();
    for _ in 0..50 {
        pace.take(10_000_000, || ()).await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_shows_that_it_goes_on() {
    let (_limits, admission) = paced(1_000);
    let mut pace = Pace::new(admission.subjects(), Way::Download);
    pace.take(100_000, || panic!("the first does not wait")).await;
    let beats = std::cell::Cell::new(0);
    pace.take(1, || beats.set(beats.get() + 1)).await;
    assert!((396..=404).contains(&beats.get()), "{}", beats.get());
    // Nor does it hinder the other way.
    let mut up = Pace::new(admission.subjects(), Way::Upload);
    timeout(Duration::from_millis(1), up.take(1 << 30, || ())).await.expect("at once");
}

/// Keeps a connection busy until it is told that it is enough; how much it moved.
async fn greedy(admission: &Admission, enough: &std::cell::Cell<bool>) -> usize {
    let mut pace = Pace::new(admission.subjects(), Way::Download);
    let mut moved = 0;
    while !enough.get() {
        let portion = std::future::poll_fn(|cx| pace.poll_portion(cx, || ())).await;
        pace.moved(portion);
        moved += portion;
    }
    moved
}

#[tokio::test(start_paused = true)]
async fn h02_a_shared_rate_is_divided_by_client_and_not_by_connection() {
    let all = Quotas { download: NonZeroU64::new(2_000_000), ..Quotas::default() };
    let limits = Limits::new(&Settings { all, ..Settings::unlimited() });
    let greedy_ones: Vec<_> =
        (0..400).map(|_| limits.admit(client("10.0.0.1"), None).expect("a connection of the greedy")).collect();
    let enough = std::cell::Cell::new(false);
    let began = Instant::now();
    let (moved, ()) = tokio::join!(
        futures_util::future::join_all(greedy_ones.iter().map(|admission| greedy(admission, &enough))),
        async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            for octets in [1_000, 100_000, 1_000_000] {
                let other = limits.admit(client("10.0.0.2"), None).expect("another client");
                let span = moves(&other, octets).await;
                let alone = octets as f64 / 1_000_000.0;
                assert!(span.as_secs_f64() <= alone + 0.6, "{octets} octets by half of the rate: {span:?}");
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
            enough.set(true);
        }
    );
    // Nothing was lost by the turns, nor gained.
    let (moved, span) = (moved.iter().sum::<usize>() + 1_101_000, began.elapsed().as_secs_f64());
    let rate = moved as f64 / span;
    assert!((1_950_000.0..2_100_000.0).contains(&rate), "{rate}");
    let newcomer = limits.admit(client("10.0.0.1"), None).expect("one more of the greedy");
    assert!(moves(&newcomer, 1_000).await < Duration::from_secs(1), "a turn of each of its connections is short");
}

#[tokio::test(start_paused = true)]
async fn what_was_owed_under_a_slower_rate_is_paid_at_the_new_one() {
    let download =
        |n| Settings { all: Quotas { download: NonZeroU64::new(n), ..Quotas::default() }, ..Settings::unlimited() };
    let limits = Limits::new(&download(4_000));
    let admission = limits.admit(client("10.0.0.1"), None).expect("admitted");
    let mut pace = Pace::new(admission.subjects(), Way::Download);
    pace.take(400_000, || ()).await;
    let began = Instant::now();
    let again = limits.admit(client("10.0.0.1"), None).expect("admitted");
    tokio::join!(pace.take(1, || ()), async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        limits.reconfigure(&download(10_000_000));
        Pace::new(again.subjects(), Way::Download).take(1, || ()).await;
        assert_eq!(began.elapsed().as_secs(), 10, "the new one");
    });
    assert_eq!(began.elapsed().as_secs(), 10, "and the one that waited");
}
