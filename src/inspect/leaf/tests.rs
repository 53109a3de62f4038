use std::cell::Cell;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Error, HandshakeKind, NamedGroup, RootCertStore,
    ServerConnection, SupportedProtocolVersion, version,
};

use super::*;
use crate::admit::{Limit, Whose};
use crate::inspect::authority::{InitRequest, RootFiles, init_under};
use crate::inspect::scene::{DAY, Site, name, now};

fn cache(site: &Site, capacity: usize) -> LeafCache {
    let capacity = NonZeroUsize::new(capacity).expect("not zero");
    LeafCache::new(Arc::new(site.issuer()), capacity, capacity)
}

/// What comes of it, on a runtime of this thread's own.
fn done<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn anything() -> Result<(), Refused> {
    Ok(())
}

/// A client that trusts the site's root, remembers sessions, and lives at [`now`].
fn client(site: &Site, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    #[derive(Debug)]
    struct Fixed;
    impl rustls::time_provider::TimeProvider for Fixed {
        fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
            let since = now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(rustls::pki_types::UnixTime::since_unix_epoch(since))
        }
    }
    let mut roots = RootCertStore::empty();
    roots.add(site.root()).expect("root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(Fixed))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(32);
    config
}

/// A whole handshake over memory, with what the server sends after it (tickets).
fn handshake(
    client: &Arc<ClientConfig>,
    host: &str,
    server: Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let host = ServerName::try_from(host.to_owned()).expect("host");
    let mut client = ClientConnection::new(Arc::clone(client), host)?;
    let mut server = ServerConnection::new(server)?;
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("memory");
        server.read_tls(&mut wire.as_slice()).expect("memory");
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).expect("memory");
        client.read_tls(&mut wire.as_slice()).expect("memory");
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

#[test]
fn the_client_gets_its_leaf_its_protocol_and_a_post_quantum_key_exchange() {
    let site = Site::with_ca(&["example.com"]);
    let cache = cache(&site, 8);
    for (alpn, expected) in [(Some(Alpn::H2), Some(&b"h2"[..])), (Some(Alpn::Http11), Some(b"http/1.1")), (None, None)]
    {
        let mut config = client(&site, rustls::ALL_VERSIONS);
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let server = done(cache.server_config(&name("a.example.com"), alpn, now(), anything)).expect("config");
        assert_eq!((server.max_early_data_size, server.send_half_rtt_data), (0, false));
        let (client, server) = handshake(&Arc::new(config), "a.example.com", server).expect("handshake");
        assert_eq!(client.alpn_protocol(), expected);
        let group = server.negotiated_key_exchange_group().expect("group").name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
        assert_eq!(client.peer_certificates().expect("chain").len(), 2);
    }
}

#[test]
fn both_versions_are_taken_with_and_without_a_server_name() {
    let site = Site::with_ca(&["example.com"]);
    let cache = cache(&site, 8);
    for version in [&version::TLS12, &version::TLS13] {
        for enable_sni in [true, false] {
            let mut config = client(&site, &[version]);
            config.enable_sni = enable_sni;
            let server = done(cache.server_config(&name("a.example.com"), None, now(), anything)).expect("config");
            let (client, server) = handshake(&Arc::new(config), "a.example.com", server).expect("handshake");
            assert_eq!(client.protocol_version(), Some(version.version));
            assert_eq!(server.server_name().is_some(), enable_sni);
        }
    }
}

#[test]
fn d14_a_ticket_of_one_name_is_worth_nothing_under_another() {
    let site = Site::with_ca(&["example.com"]);
    let cache = cache(&site, 8);
    let server = |host| done(cache.server_config(&name(host), None, now(), anything)).expect("config");
    for version in [&version::TLS12, &version::TLS13] {
        for enable_sni in [true, false] {
            let mut config = client(&site, &[version]);
            config.enable_sni = enable_sni;
            let client = Arc::new(config);
            let kind = |(client, _): (ClientConnection, ServerConnection)| client.handshake_kind();
            let first = handshake(&client, "a.example.com", server("a.example.com")).expect("first");
            assert!(matches!(kind(first), Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)));
            let again = handshake(&client, "a.example.com", server("a.example.com")).expect("again");
            assert_eq!(kind(again), Some(HandshakeKind::Resumed), "the same name resumes");
            // Were a's ticket taken here, no certificate would be shown, and the client would see nothing wrong.
            let crossed = handshake(&client, "a.example.com", server("b.example.com")).expect_err("full handshake");
            let mismatch = |error: &CertificateError| {
                matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
            };
            assert!(matches!(&crossed, Error::InvalidCertificate(error) if mismatch(error)), "{crossed}");
        }
    }
}

#[test]
fn i08_a_new_cache_takes_no_ticket_of_the_old_one() {
    let site = Site::with_ca(&["example.com"]);
    let client = Arc::new(client(&site, rustls::ALL_VERSIONS));
    for _ in 0..2 {
        let cache = cache(&site, 8);
        let server = done(cache.server_config(&name("a.example.com"), None, now(), anything)).expect("config");
        let (client, _) = handshake(&client, "a.example.com", server).expect("handshake");
        assert_ne!(client.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn h06_the_cache_is_bounded_and_forgets_what_was_used_longest_ago() {
    let site = Site::with_ca(&["example.com"]);
    let cache = cache(&site, 2);
    let config = |host: &str| done(cache.server_config(&name(host), Some(Alpn::H2), now(), anything)).expect("config");
    let twice = |host: &str| [config(host), config(host)][1].clone();
    let (a, b) = (twice("a.example.com"), twice("b.example.com"));
    assert!(Arc::ptr_eq(&a, &config("a.example.com")));
    twice("c.example.com");
    assert_eq!(cache.len(), 2);
    assert!(Arc::ptr_eq(&a, &config("a.example.com")), "used last but one");
    assert!(!Arc::ptr_eq(&b, &config("b.example.com")), "forgotten");
    for number in 0..100 {
        twice(&format!("random-{number}.example.com"));
        assert!(cache.len() <= 4);
    }
    assert!(!Arc::ptr_eq(&a, &config("a.example.com")), "forgotten as well");
}

/// What is in use is not pushed out by names that nobody asks for again, which share a room of their own.
#[test]
fn h06_names_asked_for_once_push_out_each_other_alone() {
    let site = Site::with_ca(&["example.com"]);
    let cache = cache(&site, 2);
    let config = |host: &str| done(cache.server_config(&name(host), Some(Alpn::H2), now(), anything)).expect("config");
    let known = config("a.example.com");
    config("a.example.com");
    let newcomer = config("b.example.com");
    for number in 0..100 {
        config(&format!("random-{number}.example.com"));
        assert!(cache.len() <= 3, "two newcomers beside the one that is known");
    }
    assert!(Arc::ptr_eq(&known, &config("a.example.com")));
    assert!(!Arc::ptr_eq(&newcomer, &config("b.example.com")), "forgotten");
}

#[test]
fn a_name_has_one_leaf_for_all_its_protocols() {
    let site = Site::with_ca(&["example.com"]);
    let cache = cache(&site, 8);
    let client = Arc::new(client(&site, rustls::ALL_VERSIONS));
    let mut leaves = Vec::new();
    for alpn in [None, Some(Alpn::H2), Some(Alpn::Http11)] {
        let server = done(cache.server_config(&name("a.example.com"), alpn, now(), anything)).expect("config");
        let (client, _) = handshake(&client, "a.example.com", server).expect("handshake");
        leaves.push(client.peer_certificates().expect("chain")[0].clone().into_owned());
    }
    leaves.dedup();
    assert_eq!((leaves.len(), cache.len()), (1, 1));
}

#[test]
fn a_leaf_is_renewed_at_half_its_life_and_when_the_clock_is_set_back() {
    let site = Site::with_ca(&["example.com"]);
    let cache = cache(&site, 8);
    let config = |at| done(cache.server_config(&name("a.example.com"), None, at, anything)).expect("config");
    let first = config(now());
    let half = now() + 7 * DAY - DAY / 24;
    assert!(Arc::ptr_eq(&first, &config(half - DAY / 1440)));
    let second = config(half + DAY / 1440);
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&second, &config(half + 6 * DAY)));
    assert!(!Arc::ptr_eq(&second, &config(now())), "not valid yet at that time");
}

#[test]
fn those_who_ask_at_once_get_the_same() {
    let site = Site::with_ca(&["example.com"]);
    let cache = cache(&site, 8);
    let configs: Vec<Arc<ServerConfig>> = std::thread::scope(|scope| {
        let ask =
            || done(cache.server_config(&name("a.example.com"), Some(Alpn::H2), now(), anything)).expect("config");
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("thread")).collect()
    });
    assert!(configs.iter().all(|config| Arc::ptr_eq(config, &configs[0])));
}

#[test]
fn j05_a_name_outside_the_constraints_has_no_configuration() {
    let site = Site::with_ca(&["example.com"]);
    let cache = cache(&site, 8);
    let refused = done(cache.server_config(&name("other.test"), None, now(), anything)).expect_err("refused");
    assert!(matches!(refused, LeafError::Mint(MintError::OutsideConstraints { .. })));
}

/// A flood of names for which no leaf may be made neither pushes out those that are in use nor keeps them from being served.
#[test]
fn h06_names_without_leave_to_mint_take_no_room() {
    let site = Site::with_ca(&["example.com"]);
    let cache = cache(&site, 2);
    let refuse = || Err(Refused { limit: Limit::LeafMints, whose: Whose::Client });
    let asked = Cell::new(0);
    let once = || {
        asked.set(asked.get() + 1);
        Ok(())
    };
    let kept = done(cache.server_config(&name("a.example.com"), None, now(), once)).expect("config");
    assert_eq!(asked.get(), 1, "once for a leaf");
    for n in 0..100 {
        let flood = done(cache.server_config(&name(&format!("flood-{n}.example.com")), None, now(), refuse));
        assert!(matches!(flood, Err(LeafError::Limited(_))));
    }
    assert_eq!(cache.len(), 1);
    let again =
        done(cache.server_config(&name("a.example.com"), None, now(), refuse)).expect("what is made needs no leave");
    assert!(Arc::ptr_eq(&kept, &again));
    done(cache.server_config(&name("a.example.com"), Some(Alpn::H2), now(), refuse)).expect("the same leaf");
    let old = now() + 8 * DAY;
    assert!(done(cache.server_config(&name("a.example.com"), None, old, refuse)).is_err(), "a new leaf does");
    done(cache.server_config(&name("a.example.com"), None, old, once)).expect("config");
    assert_eq!(asked.get(), 2);
}

#[test]
fn j08_what_is_kept_is_of_the_ca_in_use() {
    let site = Site::with_ca(&["example.com"]);
    let request = InitRequest {
        certificate: site.path("next.pem"),
        key: site.path("next.key"),
        ..site.request(&["example.com"])
    };
    init_under(&request, &RootFiles::beside(&site.path("ca.pem"))).expect("the next CA");
    let next = || Issuer::load(&site.path("next.pem"), &site.path("next.key"), now()).expect("issuer");
    let both = site.issuer().followed_by(next(), now() + DAY);
    let cache = LeafCache::new(Arc::new(both), CAPACITY, NEWCOMERS);
    let served =
        |cache: &LeafCache, at| done(cache.server_config(&name("a.example.com"), None, at, anything)).expect("config");
    let before = served(&cache, now());
    assert!(Arc::ptr_eq(&before, &served(&cache, now() + DAY - Duration::from_secs(1))));
    let after = served(&cache, now() + DAY);
    assert!(!Arc::ptr_eq(&before, &after), "another leaf, and another key for tickets");
    assert!(Arc::ptr_eq(&after, &served(&cache, now() + 2 * DAY)));
    // When the section is tidied up, what is kept stays: it is the same CA.
    let tidied = cache.with(Arc::new(next()));
    assert!(Arc::ptr_eq(&after, &served(&tidied, now() + 2 * DAY)));
    // And with another CA nothing of it does.
    let other = tidied.with(Arc::new(site.issuer()));
    assert!(!Arc::ptr_eq(&after, &served(&other, now() + 2 * DAY)));
    assert_eq!(other.len(), 1);
}
