//! The threads that serve connections: one runtime each, so that a connection lives on one thread from its accept to its end.
//!
//! Measured against one runtime over all threads (`manual/performance`): nothing is handed from thread to thread, so nothing
//! wakes another thread for it. What is shared (policy, caches, record, limits) is shared through `Arc`, not through tasks.

use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Tasks that run between two questions to the sockets, where there are always some that are ready. The runtime's own 61 are
/// milliseconds when each does what it may in one turn.
const ROUND: u32 = 16;

/// Ends its threads when dropped, and with them every task that is left there.
pub struct Workers {
    threads: Vec<Worker>,
}

struct Worker {
    handle: Handle,
    /// Dropped, it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// One thread for each processor this process may use.
    ///
    /// # Errors
    /// The system has no thread or descriptor left.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = (0..count).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { threads })
    }

    pub fn handles(&self) -> impl Iterator<Item = &Handle> + Clone {
        self.threads.iter().map(|worker| &worker.handle)
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let (begun, began) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        // The runtime is made there: where there is no thread, there is none to drop, which no runtime may be inside another.
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            match Builder::new_current_thread().event_interval(ROUND).enable_all().build() {
                Ok(runtime) => {
                    let _ = begun.send(Ok(runtime.handle().clone()));
                    // An error is the sender's end, which is what is waited for.
                    let _ = runtime.block_on(stopped);
                }
                Err(error) => drop(begun.send(Err(error))),
            }
        })?;
        let handle = began.recv().map_err(io::Error::other)??;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics only where a task's own drop did, which has been reported there.
            let _ = thread.join();
        }
    }
}
