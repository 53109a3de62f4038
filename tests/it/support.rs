//! The cast of every scene: `Origin`, `Sekisho`, `Client` pieces, `Dns`, what fails between them, the test PKI, and the record's reader. No scene lives here.

pub mod by_hand;
pub mod capture;
pub mod client;
pub mod clock;
pub mod dns;
pub mod faults;
pub mod h2c;
pub mod hellos;
pub mod load_origin;
pub mod netns;
pub mod origin;
pub mod pair;
pub mod pki;
pub mod record;
pub mod sekisho;
pub mod toml;
pub mod x509;

use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, timeout};

pub use client::Response;
pub use origin::{Origin, Reply};
pub use record::Record;
pub use sekisho::Sekisho;
pub use toml::{Config, Service};

/// How long any condition of a scene may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// `work`, which must end within [`PATIENCE`].
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: nothing within {PATIENCE:?}"),
    }
}

/// Polls until `probe` gives a value, which it must within [`PATIENCE`].
pub async fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = probe() {
                return found;
            }
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}
