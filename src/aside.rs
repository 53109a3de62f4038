//! What waits for a disk, or computes for long, runs on a thread of its own and is waited for.
//!
//! Not in the runtime's pool: where the system has no thread for that (`TasksMax=`, RLIMIT_NPROC, no memory for a stack), it panics, or
//! leaves the work to a thread that never comes. Here it is an error, and nothing else ends.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// Why a thread could not be started, for the end of a sentence that ends in the system's words.
pub const NO_THREAD: &str =
    "the process may have reached its number of tasks (TasksMax= or LimitNPROC= of its unit), or its memory";

/// What `work` returns, which runs to its end, whoever waits for it no more.
///
/// # Errors
/// The system has no thread left, or `work` panicked.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    thread::Builder::new().name("aside".to_owned()).spawn(move || {
        // Whoever waited may have gone.
        let _ = tell.send(work());
    })?;
    told.await.map_err(|_| io::Error::other("it ended by a defect"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_runs_elsewhere_and_a_panic_there_is_an_error_here() {
        let here = thread::current().id();
        assert!(aside(move || thread::current().id() != here).await.expect("it ran"));
        let error = aside(|| panic!("as the test wants it")).await.expect_err("it panicked").to_string();
        assert_eq!(error, "it ended by a defect");
    }
}
