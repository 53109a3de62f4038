//! The scripts of the configuration in force, each made once, whoever waits for it or leaves.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::MOST;
use crate::addrs::ClientAddr;
use crate::aside::aside;
use crate::connection::{Gate, Live};
use crate::flight::{Ageing, Flight, Keep};
use crate::locks::Mutex;
use crate::pac;
use crate::policy::Policy;

/// Scripts made at a time; others wait for their turn.
const MAKERS: usize = 2;
/// Longer than a configuration is in force. One that is not is made anew.
const KEPT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A script, ready to send.
pub(super) struct Page {
    pub(super) text: Bytes,
    pub(super) zipped: Bytes,
    /// Of the text as it is; as it is sent in gzip.
    pub(super) tags: [HeaderValue; 2],
}

impl Page {
    pub(super) fn new(script: String) -> io::Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(script.as_bytes())?;
        let hash: String =
            digest(&SHA256, script.as_bytes()).as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect();
        // Of representations that differ in a single octet the strong tags must differ (RFC 9110 section 8.8.1).
        let tag = |text: String| HeaderValue::try_from(text).map_err(io::Error::other);
        let tags = [tag(format!("\"{hash}\""))?, tag(format!("\"{hash}-gzip\""))?];
        Ok(Self { text: script.into(), zipped: encoder.finish()?.into(), tags })
    }
}

/// The group's name, and the `[[pac.network]]`.
type Key = (Arc<str>, Option<usize>);

/// `None` where there is none to be had.
type Made = Option<Arc<Page>>;

/// All scripts.
pub(super) struct Shelf {
    in_force: Mutex<Scripts>,
    makers: Arc<Semaphore>,
}

/// Those of one policy: no more than it has groups and networks, so that none has to go.
struct Scripts {
    policy: Weak<Policy>,
    pages: Flight<Key, Made>,
}

impl Scripts {
    fn of(policy: Weak<Policy>) -> Self {
        Self { policy, pages: Flight::new(NonZeroUsize::MAX, NonZeroUsize::MAX, Ageing::Expire) }
    }
}

impl Default for Shelf {
    fn default() -> Self {
        Self { in_force: Mutex::new(Scripts::of(Weak::new())), makers: Arc::new(Semaphore::new(MAKERS)) }
    }
}

impl Shelf {
    /// The client's script: `None` where it is too large, or the client in no group.
    pub(super) async fn page(&self, gate: &Gate, client: ClientAddr) -> Made {
        let (live, pages) = self.in_force(gate);
        let network = live.config.pac.as_ref()?.network_of(client);
        let key: Key = (live.config.policy.group_of(client)?.into(), network);
        self.made(&pages, key, move || make(&live, client, network)).await
    }

    /// The configuration is asked for under the lock: who was slow to come must not bring back one that was replaced.
    fn in_force(&self, gate: &Gate) -> (Arc<Live>, Flight<Key, Made>) {
        let mut scripts = self.in_force.lock();
        let live = gate.live();
        if !std::ptr::eq(scripts.policy.as_ptr(), Arc::as_ptr(&live.config.policy)) {
            *scripts = Scripts::of(Arc::downgrade(&live.config.policy));
        }
        (live, scripts.pages.clone())
    }

    /// What is kept, or what `make` returns, which runs once for all who ask and to its end, whoever leaves.
    async fn made(&self, pages: &Flight<Key, Made>, key: Key, make: impl FnOnce() -> Made + Send + 'static) -> Made {
        let makers = Arc::clone(&self.makers);
        let work = || async move {
            let turn = makers.acquire_owned().await;
            // Not on a thread that others wait for: of a million names it takes a second.
            let making = aside(move || {
                let _turn = turn;
                make()
            });
            match making.await {
                Ok(made) => (made, Keep::Until(Instant::now() + KEPT)),
                Err(error) => {
                    tracing::error!(%error, "a PAC script could not be made");
                    (None, Keep::Not)
                }
            }
        };
        pages.get(key, work).await.ok().flatten()
    }
}

fn make(live: &Live, client: ClientAddr, network: Option<usize>) -> Made {
    let policy = &live.config.policy;
    let script = pac::script(policy, client, live.config.pac.as_ref()?)?;
    if script.len() > MOST {
        tracing::error!(
            group = policy.group_of(client),
            network,
            octets = script.len(),
            most = MOST,
            "the PAC script is larger than browsers take and is not served: with otherwise = \"proxy\" it lists nothing"
        );
        return None;
    }
    Page::new(script).ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;

    fn key(number: usize) -> Key {
        ("group".into(), Some(number))
    }

    fn page() -> Made {
        Some(Arc::new(Page::new("var A = 1;\n".to_owned()).expect("a page")))
    }

    #[tokio::test]
    async fn h11_one_job_of_a_key_runs_to_its_end_whoever_leaves() {
        let shelf = Shelf::default();
        let pages = Scripts::of(Weak::new()).pages;
        let jobs = Arc::new(AtomicUsize::new(0));
        let (done, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let job = || {
            let (jobs, wait) = (Arc::clone(&jobs), Arc::clone(&wait));
            move || {
                jobs.fetch_add(1, Ordering::SeqCst);
                wait.lock().recv().expect("told");
                page()
            }
        };
        for _ in 0..100 {
            let leaver = shelf.made(&pages, key(1), job());
            assert!(leaver.now_or_never().is_none(), "it waits, and leaves");
        }
        done.send(()).expect("somebody waits");
        let first = shelf.made(&pages, key(1), job()).await.expect("a page");
        let again = shelf.made(&pages, key(1), job()).await.expect("a page");
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(jobs.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn h11_few_scripts_are_made_at_a_time_and_all_in_the_end() {
        let shelf = Shelf::default();
        let pages = Scripts::of(Weak::new()).pages;
        let at_work = Arc::new(AtomicUsize::new(0));
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let (done, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        for number in 0..10 {
            let (at_work, begun, wait) = (Arc::clone(&at_work), begun.clone(), Arc::clone(&wait));
            let job = move || {
                begun.send(at_work.fetch_add(1, Ordering::SeqCst) + 1).expect("heard");
                wait.lock().recv().expect("told");
                at_work.fetch_sub(1, Ordering::SeqCst);
                page()
            };
            assert!(shelf.made(&pages, key(number), job).now_or_never().is_none());
        }
        let mut most = 0;
        for n in 0..10 {
            most = most.max(begins.recv().await.expect("a job begins"));
            if n >= MAKERS - 1 {
                done.send(()).expect("somebody waits");
            }
        }
        assert_eq!(most, MAKERS);
        (1..MAKERS).for_each(|_| done.send(()).expect("somebody waits"));
        for number in 0..10 {
            assert!(shelf.made(&pages, key(number), || panic!("it is kept")).await.is_some());
        }
    }

    /// Its turn is given back, and the next who asks has it made.
    #[tokio::test]
    async fn a_job_that_panics_is_not_kept() {
        let shelf = Shelf::default();
        let pages = Scripts::of(Weak::new()).pages;
        for _ in 0..=MAKERS {
            assert!(shelf.made(&pages, key(1), || panic!("defect")).await.is_none());
        }
        assert!(shelf.made(&pages, key(1), page).await.is_some());
    }
}
