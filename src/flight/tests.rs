use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::advance;

use super::*;

fn flight(ageing: Ageing) -> Flight<u32, u32> {
    Flight::new(NonZeroUsize::new(2).expect("two"), NonZeroUsize::new(2).expect("two"), ageing)
}

fn for_seconds(seconds: u64) -> Keep {
    Keep::Until(Instant::now() + Duration::from_secs(seconds))
}

/// Work that returns `value` at once.
fn ready(value: u32, keep: Keep) -> impl FnOnce() -> std::future::Ready<(u32, Keep)> {
    move || std::future::ready((value, keep))
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn askers_of_one_key_share_one_run() {
    let flight = flight(Ageing::Expire);
    let runs = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Notify::new());
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let (flight, runs, gate) = (flight.clone(), Arc::clone(&runs), Arc::clone(&gate));
            tokio::spawn(async move {
                let work = || async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                    gate.notified().await;
                    (7, Keep::Not)
                };
                flight.get(1, work).await
            })
        })
        .collect();
    settle().await;
    gate.notify_one();
    for asker in askers {
        assert_eq!(asker.await.expect("asker"), Ok(7));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn kept_until_the_end_and_not_a_moment_longer() {
    let flight = flight(Ageing::Expire);
    assert_eq!(flight.get(1, ready(1, for_seconds(10))).await, Ok(1));
    advance(Duration::from_millis(9_999)).await;
    assert_eq!(flight.get(1, ready(2, Keep::Not)).await, Ok(1));
    advance(Duration::from_millis(1)).await;
    assert_eq!(flight.get(1, ready(3, Keep::Not)).await, Ok(3));
    assert_eq!(flight.get(1, ready(4, Keep::Not)).await, Ok(4));
}

#[tokio::test(start_paused = true)]
async fn a_leaving_leader_neither_cancels_nor_spoils() {
    let flight = flight(Ageing::Expire);
    let (finish, finished) = oneshot::channel::<()>();
    let leader = {
        let flight = flight.clone();
        tokio::spawn(async move {
            let work = || async move {
                let _ = finished.await;
                (5, for_seconds(60))
            };
            flight.get(1, work).await
        })
    };
    settle().await;
    let follower = {
        let flight = flight.clone();
        tokio::spawn(async move { flight.get(1, ready(99, Keep::Not)).await })
    };
    settle().await;
    leader.abort();
    settle().await;
    finish.send(()).expect("the work lives on");
    assert_eq!(follower.await.expect("follower"), Ok(5));
    assert_eq!(flight.get(1, ready(99, Keep::Not)).await, Ok(5));
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_the_askers_and_leaves_the_key_usable() {
    let flight = flight(Ageing::Expire);
    let answer = flight.get(1, || async { panic!("defect") }).await;
    assert_eq!(answer, Err(FlightError::Lost));
    assert_eq!(flight.get(1, ready(2, Keep::Not)).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn h11_runs_are_bounded_and_room_returns() {
    let flight = flight(Ageing::Expire);
    let gate = Arc::new(Notify::new());
    let blocked: Vec<_> = (0..2)
        .map(|key| {
            let (flight, gate) = (flight.clone(), Arc::clone(&gate));
            tokio::spawn(async move {
                let work = || async move {
                    gate.notified().await;
                    (key, Keep::Not)
                };
                flight.get(key, work).await
            })
        })
        .collect();
    settle().await;
    assert_eq!(flight.get(9, ready(9, Keep::Not)).await, Err(FlightError::Busy));
    gate.notify_waiters();
    for task in blocked {
        assert!(task.await.expect("task").is_ok());
    }
    settle().await;
    assert_eq!(flight.get(9, ready(9, Keep::Not)).await, Ok(9));
}

#[tokio::test(start_paused = true)]
async fn h06_values_are_bounded_and_the_least_used_goes() {
    let flight = flight(Ageing::Expire);
    for key in [1, 2] {
        assert_eq!(flight.get(key, ready(key, for_seconds(60))).await, Ok(key));
    }
    assert_eq!(flight.get(1, ready(99, Keep::Not)).await, Ok(1));
    assert_eq!(flight.get(3, ready(3, for_seconds(60))).await, Ok(3));
    assert_eq!(flight.get(1, ready(99, Keep::Not)).await, Ok(1));
    assert_eq!(flight.get(2, ready(99, Keep::Not)).await, Ok(99));
}

#[tokio::test(start_paused = true)]
async fn clear_forgets_and_a_run_from_before_is_not_kept() {
    let flight = flight(Ageing::Expire);
    assert_eq!(flight.get(1, ready(1, for_seconds(60))).await, Ok(1));
    let (finish, finished) = oneshot::channel::<()>();
    let old = {
        let flight = flight.clone();
        tokio::spawn(async move {
            let work = || async move {
                let _ = finished.await;
                (20, for_seconds(60))
            };
            flight.get(2, work).await
        })
    };
    settle().await;
    flight.clear();
    assert_eq!(flight.get(1, ready(11, Keep::Not)).await, Ok(11), "kept before the clear");
    assert_eq!(flight.get(2, ready(21, Keep::Not)).await, Ok(21), "must not join the run from before");
    finish.send(()).expect("the old run still answers");
    assert_eq!(old.await.expect("old asker"), Ok(20));
    assert_eq!(flight.get(2, ready(22, Keep::Not)).await, Ok(22), "must not have been kept");
}

#[tokio::test(start_paused = true)]
async fn an_ageing_value_is_answered_and_made_anew_behind() {
    let flight = flight(Ageing::Refresh);
    assert_eq!(flight.get(1, ready(1, for_seconds(100))).await, Ok(1));
    advance(Duration::from_secs(79)).await;
    assert_eq!(flight.get(1, ready(2, for_seconds(100))).await, Ok(1));
    settle().await;
    assert_eq!(flight.get(1, ready(99, Keep::Not)).await, Ok(1), "too early for a refresh");
    advance(Duration::from_secs(2)).await;
    assert_eq!(flight.get(1, ready(3, for_seconds(100))).await, Ok(1));
    settle().await;
    advance(Duration::from_secs(50)).await;
    assert_eq!(flight.get(1, ready(99, Keep::Not)).await, Ok(3), "the refreshed value lives its own life");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_by_accident_spoils_nothing_and_a_real_change_replaces() {
    let flight = flight(Ageing::Refresh);
    assert_eq!(flight.get(1, ready(1, for_seconds(100))).await, Ok(1));
    advance(Duration::from_secs(90)).await;
    let five = Instant::now() + Duration::from_secs(5);
    assert_eq!(flight.get(1, ready(2, Keep::IfNoneHeld(five))).await, Ok(1));
    settle().await;
    assert_eq!(flight.get(1, ready(3, Keep::Until(five))).await, Ok(1));
    settle().await;
    assert_eq!(flight.get(1, ready(99, Keep::Not)).await, Ok(3));
    advance(Duration::from_secs(6)).await;
    let later = Instant::now() + Duration::from_secs(5);
    assert_eq!(flight.get(1, ready(4, Keep::IfNoneHeld(later))).await, Ok(4), "nothing held: it is kept");
    assert_eq!(flight.get(1, ready(99, Keep::Not)).await, Ok(4));
}
