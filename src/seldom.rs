//! A future that stands beside a busy one and is polled only when it was woken itself.
//!
//! A relay's task is woken for whatever arrives, and a `select!` asks every branch each time: a timer, the reloads, the end of
//! the service. Each of those takes a lock to answer that nothing has come. Behind a [`Seldom`] they are asked when they rang.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::locks::Mutex;

pub struct Seldom<F> {
    future: F,
    /// From the first poll on.
    bell: Option<Arc<Bell>>,
    /// The bell's, as far as this end knows.
    task: Option<Waker>,
}

/// What the future is given for a waker.
struct Bell {
    rung: AtomicBool,
    /// Kept when it is woken: a waker that was taken out would have to be put back at every poll.
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }
}

impl<F: Future + Unpin> Seldom<F> {
    pub fn new(future: F) -> Self {
        Self { future, bell: None, task: None }
    }
}

impl<F: Future + Unpin> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, bell, task } = &mut *self;
        let bell = bell.get_or_insert_with(|| Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(None) }));
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
            *bell.task.lock() = Some(cx.waker().clone());
        }
        // The waker is in place before the bell is looked at: a ring from here on wakes the task.
        while bell.rung.load(Ordering::Acquire) {
            bell.rung.store(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(bell));
            if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_at_first_and_then_only_when_it_was_woken() {
        let notify = Notify::new();
        let mut polls = 0;
        let mut notified = pin!(notify.notified());
        let mut seldom = Seldom::new(poll_fn(|cx| {
            polls += 1;
            notified.as_mut().poll(cx)
        }));
        for _ in 0..10 {
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut seldom).poll(cx))).await.is_pending());
        }
        notify.notify_waiters();
        seldom.await;
        assert_eq!(polls, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_the_task_that_polled_it_last() {
        let mut sleep = pin!(tokio::time::sleep(Duration::from_secs(5)));
        let mut seldom = Seldom::new(sleep.as_mut());
        // Polled by another task's waker first.
        assert!(Pin::new(&mut seldom).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let began = tokio::time::Instant::now();
        seldom.await;
        assert_eq!(began.elapsed().as_secs(), 5);
    }

    #[tokio::test]
    async fn one_that_wakes_itself_while_it_is_polled_is_polled_again() {
        let mut left = 3;
        let counting = poll_fn(|cx| {
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        Seldom::new(counting).await;
        assert_eq!(left, 0);
    }
}
