//! Tests of the floods alone: what stands whole, what one line says of the rest, what is bounded.

use std::time::UNIX_EPOCH;

use super::*;
use crate::addrs::ListenAddr;
use crate::reason::Outcome;
use crate::record::Text;

fn refusal(client: &str, reason: Reason, authority: &str) -> Fields {
    Fields {
        at: Some(UNIX_EPOCH),
        action: Some("connection"),
        outcome: Some(Outcome::Denied),
        reason: Some(reason),
        duration: Some(Duration::from_millis(2)),
        source_ip: Some(client.parse().expect(client)),
        listener: Some(ListenAddr::new(([0, 0, 0, 0], 8080).into())),
        authority: Some(authority.into()),
        ..Fields::default()
    }
}

/// Hands in `times` refusals at `now`; how many of them were gathered.
fn flood(floods: &mut Floods, fields: &Fields, times: u64, now: Instant) -> u64 {
    (0..times).map(|_| u64::from(floods.gathers(Action::Connection, fields, now))).sum()
}

fn turned(floods: &mut Floods, now: Instant) -> Vec<Fields> {
    let mut lines = Vec::new();
    floods.turn(now, |fields, count| {
        assert_eq!(fields.rare.count.unwrap_or(1), count);
        lines.push(fields.clone());
    });
    assert_eq!(floods.pending(), 0);
    lines
}

#[test]
fn h10_fifty_stand_whole_the_next_too_and_only_more_are_counted() {
    let fields = refusal("10.0.0.1", Reason::NotAllowlisted, "denied.test:443");
    let now = Instant::now();
    for (times, counts) in [(1, vec![]), (WHOLE, vec![]), (WHOLE + 1, vec![None]), (WHOLE + 2, vec![Some(2)])] {
        let mut floods = Floods::default();
        assert_eq!(flood(&mut floods, &fields, times, now), times.saturating_sub(WHOLE), "{times}");
        let lines = turned(&mut floods, now);
        assert_eq!(lines.iter().map(|line| line.rare.count).collect::<Vec<_>>(), counts, "{times}");
        if let [line] = lines.as_slice() {
            assert_eq!((line.reason, line.outcome), (fields.reason, fields.outcome));
            assert_eq!((line.source_ip, line.rare.authorities.clone()), (fields.source_ip, None));
        }
    }
}

#[test]
fn h10_a_line_says_what_all_had_in_common_and_when_the_first_and_the_last_were() {
    let (mut floods, now) = (Floods::default(), Instant::now());
    let mut fields = refusal("10.0.0.1", Reason::NotAllowlisted, "first.test:443");
    flood(&mut floods, &fields, WHOLE, now);
    for n in 0..40 {
        fields = refusal("10.0.0.1", Reason::NotAllowlisted, &format!("h{}.test:443", n / 2));
        fields.source_port = Some(40_000 + n);
        fields.at = Some(UNIX_EPOCH + Duration::from_secs(u64::from(n) + 1));
        assert!(floods.gathers(Action::Connection, &fields, now + Duration::from_millis(u64::from(n))));
    }
    let lines = turned(&mut floods, now);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((line.rare.count, line.at), (Some(40), Some(UNIX_EPOCH + Duration::from_secs(1))));
    assert_eq!(line.duration, Some(Duration::from_millis(39 + 2)));
    assert_eq!((line.source_ip, line.source_port), (fields.source_ip, None));
    assert_eq!((line.listener, line.authority.clone()), (fields.listener, None));
    let first_sixteen = (0..16).map(|n| format!("h{n}.test:443"));
    assert_eq!(line.rare.authorities, Some(first_sixteen.map(Text::from).collect()));
    assert_eq!(
        line.detail.as_ref().map(Text::as_str),
        Some("Counted together: more of these came of this client than are written one by one.")
    );
}

#[test]
fn h10_the_sample_of_authorities_is_bounded_in_octets() {
    let (mut floods, now) = (Floods::default(), Instant::now());
    for n in 0..WHOLE + 20 {
        let long = format!("{}{n}.test:443", "a".repeat(700));
        floods.gathers(Action::Connection, &refusal("10.0.0.1", Reason::MalformedName, &long), now);
    }
    let lines = turned(&mut floods, now);
    assert_eq!(lines.len(), 1);
    let line = lines[0].line(1).len();
    assert!((1400..MAX_AUTHORITY_BYTES + 1024).contains(&line), "{line}");
}

#[test]
fn h10_a_flood_that_goes_on_is_one_line_a_window_until_it_ends() {
    let (mut floods, mut now) = (Floods::default(), Instant::now());
    let fields = refusal("10.0.0.1", Reason::RateLimited, "x.test:443");
    // (attempts, of which gathered) of one window after the other.
    for (times, gathered) in [(1000, 1000 - WHOLE), (1000, 1000), (WHOLE + 1, WHOLE + 1), (WHOLE, WHOLE), (WHOLE, 0)] {
        assert_eq!(flood(&mut floods, &fields, times, now), gathered, "{times}");
        assert!(!floods.is_over(now + WINDOW - Duration::from_nanos(1)));
        now += WINDOW;
        assert!(floods.is_over(now));
        let counted: u64 = turned(&mut floods, now).iter().filter_map(|line| line.rare.count).sum();
        assert_eq!(counted, gathered);
    }
    assert!(!floods.is_over(now + WINDOW), "nothing is kept of a flood that ended");
}

#[test]
fn h10_causes_do_not_hide_behind_one_another() {
    let (mut floods, now) = (Floods::default(), Instant::now());
    let loud = refusal("10.0.0.1", Reason::RateLimited, "x.test:443");
    flood(&mut floods, &loud, 1_000, now);
    for quiet in [
        refusal("10.0.0.1", Reason::NotAllowlisted, "x.test:443"),
        refusal("10.0.0.2", Reason::RateLimited, "x.test:443"),
    ] {
        assert_eq!(flood(&mut floods, &quiet, WHOLE, now), 0);
    }
    assert!(!floods.gathers(Action::Request, &loud, now), "another action");
}

#[test]
fn h10_an_ipv6_prefix_is_one_client_and_its_line_names_it() {
    let (mut floods, now) = (Floods::default(), Instant::now());
    let of = |n: u64| refusal(&format!("2001:db8:0:1:{n:x}::1"), Reason::RateLimited, "x.test:443");
    let gathered = (0..WHOLE + 10).filter(|n| floods.gathers(Action::Connection, &of(*n), now)).count();
    assert_eq!(gathered, 10);
    let other = refusal("2001:db8:0:2::1", Reason::RateLimited, "x.test:443");
    assert!(!floods.gathers(Action::Connection, &other, now));
    let lines = turned(&mut floods, now);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((line.rare.count, line.source_ip), (Some(10), None));
    assert!(
        line.detail.as_ref().is_some_and(|detail| detail.as_str().contains("of 2001:db8:0:1::/64 than")),
        "{line:?}"
    );
}

#[test]
fn h04_h10_the_table_is_bounded_and_counts_stay_exact_past_it() {
    let (mut floods, now) = (Floods::default(), Instant::now());
    let of = |n: usize| {
        let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(n).expect("fits"));
        refusal(&ip.to_string(), Reason::RateLimited, "x.test:443")
    };
    let (clients, mut gathered) = (MAX_CAUSES + 1_000, 0);
    for n in 0..clients {
        gathered += usize::from(floods.gathers(Action::Connection, &of(n), now));
    }
    assert_eq!(floods.rows.len(), MAX_CAUSES + 1);
    // The first of those without a row of their own stand whole like any client's.
    assert_eq!(gathered, 1_000 - usize::try_from(WHOLE).expect("fits"));
    assert!(!floods.gathers(Action::Connection, &of(0), now), "who has a row keeps it");
    let lines = turned(&mut floods, now);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((line.rare.count, line.source_ip), (Some(gathered as u64), None));
    assert!(line.detail.as_ref().is_some_and(|detail| detail.as_str().contains("of all other clients than")));
    assert_eq!(floods.rows.len(), 1, "the table is empty but for the flood that goes on");
}

#[test]
fn h10_what_has_no_client_or_no_reason_stands_whole() {
    let (mut floods, now) = (Floods::default(), Instant::now());
    let whole = refusal("10.0.0.1", Reason::RateLimited, "x.test:443");
    for fields in [Fields { source_ip: None, ..whole.clone() }, Fields { reason: None, ..whole }] {
        assert_eq!(flood(&mut floods, &fields, WHOLE + 10, now), 0);
    }
}
