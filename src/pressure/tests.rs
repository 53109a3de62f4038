use super::*;

fn outside() -> Outside<'static> {
    Outside { open: 0, slots: 100, listeners: &[], queue: 4096 }
}

#[test]
fn octets_are_shown_as_a_person_reads_them() {
    for (octets, text) in [
        (0, "0 octets"),
        (999_999, "999999 octets"),
        (1_000_000, "1 MB"),
        (1_550_000, "1.5 MB"),
        (999_999_999, "999.9 MB"),
        (1_000_000_000, "1 GB"),
        (18_950_000_000, "18.9 GB"),
    ] {
        assert_eq!(shown(octets), text);
    }
}

/// An accept that fails is answered by a state in which newcomers make room, and that state ends by itself.
#[tokio::test]
async fn h05_an_accept_that_failed_makes_room_and_is_over_by_itself() {
    let pressure = Pressure::new(&Settings { memory: Ceiling::OfMachine });
    let all: Vec<_> = (0..9).map(|_| pressure.newcomer().expect("room")).collect();
    assert!(pressure.sample(&outside()).is_none());
    assert_eq!(pressure.state(), State::Normal);
    pressure.accept_failed();
    let change = pressure.sample(&outside()).expect("a change");
    assert_eq!((change.to, change.cause), (State::Refusing, Some(Cause::Descriptors)));
    assert_eq!(pressure.shed().find(|(shed, _)| *shed == Shed::Newcomers), Some((Shed::Newcomers, 5)));
    drop(all);
    let back = (0..20).find_map(|_| pressure.sample(&outside())).expect("a change");
    assert_eq!((back.to, back.cause), (State::Normal, None));
    assert_eq!(pressure.entered().map(|(_, count)| count).collect::<Vec<_>>(), [1, 0, 1]);
}

#[tokio::test]
async fn slots_held_by_who_never_comes_through_are_taken_from_the_oldest() {
    let pressure = Pressure::new(&Settings { memory: Ceiling::OfMachine });
    let _all: Vec<_> = (0..95).map(|_| pressure.newcomer().expect("room")).collect();
    let change = pressure.sample(&Outside { open: 95, ..outside() }).expect("a change");
    assert_eq!((change.to, change.cause), (State::Shedding, Some(Cause::HalfOpen)));
}
