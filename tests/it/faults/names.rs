//! Only faults of name servers belong here.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{HOST, ROUNDS, Survived, Told, Tried, passes, recovered, settled};
use crate::support::client::Tls;
use crate::support::dns::{Dns, Says};
use crate::support::{Config, Origin, Sekisho, Service, within};

#[tokio::test]
async fn b05_dns_that_is_dead_slow_or_lying_is_told_and_recovered_from() {
    passes(faulty_servers(ROUNDS)).await;
}

pub async fn faulty_servers(rounds: usize) -> Told {
    let good = || vec!["127.0.0.1"];
    let faults = [
        (Says::Silence, 504, "dns_timeout"),
        (Says::Later(Duration::from_secs(10), good()), 504, "dns_timeout"),
        (Says::WrongId(good()), 504, "dns_timeout"),
        (Says::ServFail, 502, "dns_failed"),
        (Says::NxDomain, 502, "dns_failed"),
        (Says::Nothing, 502, "dns_failed"),
        // Lies: an address that is nobody's to name, and one where nobody listens.
        (Says::Addresses(vec!["10.0.0.1"]), 403, "address_denied"),
        (Says::Addresses(vec!["127.0.0.9"]), 502, "connect_failed"),
    ];
    let names: Vec<String> = (0..faults.len()).map(|number| format!("{number}.names.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let origin = Origin::https(&names).start().await;
    let said: Arc<Vec<Mutex<Says>>> = Arc::new(names.iter().map(|_| Mutex::new(Says::Addresses(good()))).collect());
    let script = Arc::clone(&said);
    let dns = Dns::answering(move |name| {
        let number: usize = name.split('.').next().and_then(|label| label.parse().ok()).expect("a number");
        script[number].lock().expect("script").clone()
    })
    .await;
    let config = Config::new()
        .service(Service::tunnel("line", &["*.names.test"], origin.port()))
        .asking(&dns)
        .set("upstream", "allow_addresses", "[\"127.0.0.1/32\", \"127.0.0.9/32\"]")
        .set("timeouts", "dns", "\"2s\"");
    let sekisho = Sekisho::start(&config).await;
    let each = names.iter().zip(said.iter()).zip(&faults).map(async |((name, says), (fault, status, reason))| {
        let (what, authority, tls) = (format!("{fault:?}"), origin.at(name), Tls::named(name));
        let mut survived = Survived::new(&what, rounds);
        for _ in 0..rounds {
            *says.lock().expect("script") = fault.clone();
            // A good answer is kept for a moment.
            let tried = within(&what, async {
                loop {
                    let tried = Tried::now(&sekisho, &authority, &tls).await;
                    if !tried.passed() {
                        return tried;
                    }
                }
            })
            .await;
            let record = tried.failed(&what, &sekisho, *status, &[reason]).await;
            record.says(if *status == 403 { "denied" } else { "failed" }, reason);
            *says.lock().expect("script") = Says::Addresses(good());
            survived.after(recovered(&what, &sekisho, &authority, &tls).await);
        }
        // Slow is not dead.
        *says.lock().expect("script") = Says::Later(Duration::from_millis(50), good());
        recovered("slow answers", &sekisho, &authority, &tls).await;
        survived
    });
    let faults = futures_util::future::join_all(each).await;
    settled(&sekisho, faults).await
}

#[tokio::test]
async fn b05_a_name_server_that_is_gone_is_told_and_the_next_reload_can_name_another() {
    passes(gone_server(ROUNDS)).await;
}

pub async fn gone_server(rounds: usize) -> Told {
    let origin = Origin::https(&[HOST]).start().await;
    let dns = Dns::answering(|_| Says::Addresses(vec!["127.0.0.1"])).await;
    let gone = format!("[\"127.0.0.1:{}\"]", crate::support::sekisho::free_port("127.0.0.1"));
    let config = Config::new()
        .service(Service::tunnel("line", &[HOST], origin.port()))
        .set("timeouts", "dns", "\"1s\"")
        .set("resolver", "servers", &gone);
    // It may ask no port that it did not know at its start; elsewhere that is 53.
    let both = format!("{}, {}", gone.trim_end_matches(']'), dns.servers().trim_start_matches('['));
    let sekisho = Sekisho::start(&config.clone().set("resolver", "servers", &both)).await;
    let (authority, tls) = (origin.at(HOST), Tls::named(HOST));
    let mut survived = Survived::new("until the next reload", rounds);
    for _ in 0..rounds {
        sekisho.reload(&config).await;
        let tried = Tried::now(&sekisho, &authority, &tls).await;
        tried.failed("gone", &sekisho, 504, &["dns_timeout"]).await.says("failed", "dns_timeout");
        sekisho.reload(&config.clone().asking(&dns)).await;
        survived.after(recovered("another name server", &sekisho, &authority, &tls).await);
    }
    settled(&sekisho, vec![survived]).await
}
