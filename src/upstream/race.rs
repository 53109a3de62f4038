//! Attempts started one after another, a little apart; the first success wins. Nothing here knows what is attempted.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// Starts the next of `attempts` whenever the one before has failed or `stagger` has passed (RFC 8305 section 5). The first
/// success is returned and the attempts still running are dropped; where none succeeds, every error in the order it came.
pub(super) async fn staggered<T, E, F>(attempts: impl Iterator<Item = F>, stagger: Duration) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = attempts.fuse();
    let Some(first) = waiting.next() else { return Err(Vec::new()) };
    let Some(second) = waiting.next() else {
        // Nothing to race against.
        return first.await.map_err(|error| vec![error]);
    };
    let mut next = Some(second);
    let mut running = FuturesUnordered::from_iter([first]);
    let mut errors = Vec::new();
    loop {
        tokio::select! {
            biased;
            ended = running.next(), if !running.is_empty() => match ended {
                Some(Ok(success)) => return Ok(success),
                Some(Err(error)) => errors.push(error),
                None => {}
            },
            () = tokio::time::sleep(stagger), if next.is_some() => {}
            else => return Err(errors),
        }
        running.extend(next.take());
        next = waiting.next();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use tokio::time::{Instant, sleep};

    use super::*;

    type Attempt = Pin<Box<dyn Future<Output = Result<&'static str, &'static str>>>>;

    fn after(milliseconds: u64, result: Result<&'static str, &'static str>) -> Attempt {
        Box::pin(async move {
            sleep(Duration::from_millis(milliseconds)).await;
            result
        })
    }

    async fn race(attempts: Vec<Attempt>) -> (Result<&'static str, Vec<&'static str>>, u128) {
        let start = Instant::now();
        let result = staggered(attempts.into_iter(), Duration::from_millis(250)).await;
        (result, start.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn the_order_of_starts_and_the_first_success() {
        assert_eq!(race(vec![]).await, (Err(vec![]), 0));
        assert_eq!(race(vec![after(100, Ok("a")), after(0, Ok("b"))]).await, (Ok("a"), 100));
        // The second starts at 250 ms and is quicker.
        assert_eq!(race(vec![after(1_000, Ok("a")), after(100, Ok("b"))]).await, (Ok("b"), 350));
        // A failure starts the next at once.
        assert_eq!(race(vec![after(10, Err("a")), after(100, Ok("b"))]).await, (Ok("b"), 110));
        // The slow first one may still win.
        assert_eq!(race(vec![after(300, Ok("a")), after(10, Err("b"))]).await, (Ok("a"), 300));
        assert_eq!(race(vec![after(300, Err("a")), after(10, Err("b"))]).await, (Err(vec!["b", "a"]), 300));
    }
}
