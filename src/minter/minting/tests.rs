use std::fs;
use std::os::fd::OwnedFd;
use std::thread;

use rcgen::KeyPair;
use rustix::net::{AddressFamily, SocketFlags, socketpair};
use tempfile::TempDir;
use tokio::sync::watch;

use super::super::{Line, Minter, take_up, way};
use super::*;
use crate::inspect::authority::{self, InitRequest};
use crate::inspect::issuer::Which;
use crate::names::DnsName;

const POLICY: &str = r#"
[[listener]]
mode = "explicit"
address = "127.0.0.1:0"
[[clients]]
name = "office"
networks = ["127.0.0.0/8"]
[issuing_ca]
certificate = "ca.pem"
key = "ca.key"
[[service]]
name = "inspected"
hosts = ["*.example.com", "allowed.test"]
mode = "inspect"
[[service]]
name = "tunnelled"
hosts = ["plain.example.com", "other.test"]
"#;

fn name(text: &str) -> DnsName {
    DnsName::parse(text.as_bytes()).expect("a name")
}

/// A directory with a CA that may sign more than the policy inspects, and the policy.
fn site() -> (TempDir, Minting) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let permitted = ["example.com", "allowed.test", "other.test", "later.test"].map(str::to_owned).to_vec();
    let request = InitRequest {
        certificate: path("ca.pem"),
        key: path("ca.key"),
        site: "Example City".to_owned(),
        permitted,
        days: 100,
        now: SystemTime::now(),
    };
    authority::init(&request).expect("a CA");
    fs::write(path("sekisho.toml"), POLICY).expect("written");
    let minting = Minting::new(path("sekisho.toml"), None);
    (directory, minting)
}

fn point() -> [u8; 65] {
    KeyPair::generate().expect("a key").public_key_raw().try_into().expect("an uncompressed point")
}

fn ask(minting: &mut Minting, question: &Question) -> Answer {
    minting.answer(question, Instant::now(), SystemTime::now())
}

fn taken_up(minting: &mut Minting, source: Source) -> u32 {
    match ask(minting, &Question::TakeUp { source, point: point() }) {
        Answer::TakenUp { generation, .. } => generation,
        other => panic!("{other:?}"),
    }
}

fn mint(minting: &mut Minting, generation: u32, host: &str) -> Result<Vec<u8>, String> {
    match ask(minting, &Question::Mint { generation, which: Which::First, name: name(host) }) {
        Answer::Leaf(der) => Ok(der),
        Answer::Refused(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn j07_only_what_its_own_policy_inspects_is_signed() {
    let (_directory, mut minting) = site();
    let generation = taken_up(&mut minting, Source::File);
    for host in ["allowed.test", "a.example.com", "a.b.example.com"] {
        mint(&mut minting, generation, host).expect(host);
    }
    // Within the CA's constraints, tunnelled or not listed at all; and beyond both.
    for host in ["plain.example.com", "other.test", "later.test", "example.com", "example.org", "lgwan.jp"] {
        assert_eq!(mint(&mut minting, generation, host), Err(format!("{host} is not inspected")));
    }
    for unknown in [0, generation + 1, u32::MAX] {
        let why = "it was asked by a configuration that is no longer in force";
        assert_eq!(mint(&mut minting, unknown, "allowed.test"), Err(why.to_owned()));
    }
}

#[test]
fn j07_the_leaf_is_for_the_key_that_was_given() {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_directory, mut minting) = site();
    let point = point();
    let answer = ask(&mut minting, &Question::TakeUp { source: Source::File, point });
    let Answer::TakenUp { generation, .. } = answer else { panic!("{answer:?}") };
    let der = mint(&mut minting, generation, "allowed.test").expect("a leaf");
    let (_, leaf) = X509Certificate::from_der(&der).expect("a certificate");
    assert_eq!(&*leaf.public_key().subject_public_key.data, point);
    assert_eq!(
        leaf.public_key().algorithm.parameters.as_ref().expect("a curve").as_oid().expect("an OID").to_id_string(),
        "1.2.840.10045.3.1.7"
    );
}

/// What the process that serves could write is its own word: it may take names away by that, and add none.
#[test]
fn j07_a_configuration_that_the_serving_process_may_write_inspects_nothing_new() {
    let (directory, mut minting) = site();
    let file = directory.path().join("sekisho.toml");
    taken_up(&mut minting, Source::File);
    let (_, serving) = minting.reach.take().expect("the first one's");
    // This process has restricted nothing, as where the kernel cannot.
    minting.guard = Some(Guard { restriction: Restriction::default(), serving });
    fs::write(&file, POLICY.replace("allowed.test", "later.test")).expect("written");
    let answer = ask(&mut minting, &Question::TakeUp { source: Source::File, point: point() });
    let folder = directory.path().canonicalize().expect("a path");
    let why = format!(
        "restart needed: \"later.test\" was not inspected when the service began, and the process that serves could write {}, from where \
         its configuration is read: have the record, the control socket and the state directory in folders of their own, and the \
         configuration owned by another user",
        folder.display()
    );
    assert_eq!(answer, Answer::Refused(why));
    // A name that another service had, and that falls to a pattern which is inspected.
    fs::write(&file, POLICY.replace("\"plain.example.com\", ", "")).expect("written");
    let fewer = taken_up(&mut minting, Source::File);
    mint(&mut minting, fewer, "allowed.test").expect("as before");
    let why = "restart needed: plain.example.com was not inspected when the service began";
    assert_eq!(mint(&mut minting, fewer, "plain.example.com"), Err(why.to_owned()));
}

#[test]
fn j07_the_serving_process_is_to_read_neither_key() {
    let (directory, _minting) = site();
    let path = |name: &str| directory.path().join(name);
    let text = POLICY.replace(
        "key = \"ca.key\"",
        "key = \"ca.key\"\n[issuing_ca.next]\ncertificate = \"next.pem\"\nkey = \"next.key\"\nfrom = 2099-01-01",
    );
    fs::copy(path("ca.pem"), path("next.pem")).expect("copied");
    fs::write(path("sekisho.toml"), text).expect("written");
    // Whether the days fit is another's to judge.
    let config = config::load(&path("sekisho.toml"), Scope::WithoutIssuingCa, SystemTime::now());
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let secrets = Reach::of_service(&config, None).secrets;
    assert_eq!(secrets.iter().filter_map(|key| key.file_name()).collect::<Vec<_>>(), ["ca.key", "next.key"]);
}

#[test]
fn j07_both_read_the_same_configuration_or_it_is_not_taken_up() {
    let (directory, mut minting) = site();
    let file = directory.path().join("sekisho.toml");
    let config = config::load(&file, Scope::WithoutIssuingKey, SystemTime::now()).expect("loads");
    let answer = ask(&mut minting, &Question::TakeUp { source: Source::File, point: point() });
    assert_eq!(answer, Answer::TakenUp { generation: 1, revision: config.as_loaded.to_string() });
    fs::write(&file, POLICY.replace("allowed.test", "later.test")).expect("written");
    let answer = ask(&mut minting, &Question::TakeUp { source: Source::File, point: point() });
    let Answer::TakenUp { generation: 2, revision } = answer else { panic!("{answer:?}") };
    assert_ne!(revision, *config.as_loaded);
    fs::write(&file, "broken").expect("written");
    let answer = ask(&mut minting, &Question::TakeUp { source: Source::File, point: point() });
    let Answer::Refused(why) = answer else { panic!("{answer:?}") };
    assert!(why.contains("sekisho.toml:1"), "{why}");
}

#[test]
fn j07_a_trial_lies_beside_the_configuration() {
    let (directory, mut minting) = site();
    let trial = directory.path().join("sekisho.toml.trial");
    let refused = ask(&mut minting, &Question::TakeUp { source: Source::Trial, point: point() });
    assert!(matches!(&refused, Answer::Refused(why) if why.contains("sekisho.toml.trial")), "{refused:?}");
    fs::write(trial, POLICY.replace("allowed.test", "later.test")).expect("written");
    let generation = taken_up(&mut minting, Source::Trial);
    mint(&mut minting, generation, "later.test").expect("by the trial");
    mint(&mut minting, generation, "allowed.test").expect_err("not by the trial");
}

#[test]
fn j07_a_configuration_goes_a_minute_after_another_is_in_force() {
    let (directory, mut minting) = site();
    let begin = Instant::now();
    let first = taken_up(&mut minting, Source::File);
    assert_eq!(ask(&mut minting, &Question::Keep { generation: first }), Answer::Kept);
    fs::write(directory.path().join("sekisho.toml"), POLICY.replace("allowed.test", "later.test")).expect("written");
    fs::write(directory.path().join("sekisho.toml.trial"), POLICY.replace("allowed.test", "later.test"))
        .expect("written");
    // A trial, and what ends it: nothing is kept meanwhile, and each is answered for.
    let trial = taken_up(&mut minting, Source::Trial);
    let second = taken_up(&mut minting, Source::File);
    mint(&mut minting, trial, "later.test").expect("on trial");
    mint(&mut minting, first, "allowed.test").expect("in force");
    mint(&mut minting, second, "later.test").expect("to come");
    let at = |minting: &mut Minting, question: &Question, seconds: u64| {
        minting.answer(question, begin + Duration::from_secs(seconds), SystemTime::now())
    };
    assert_eq!(at(&mut minting, &Question::Keep { generation: second }, 100), Answer::Kept);
    let old = Question::Mint { generation: first, which: Which::First, name: name("allowed.test") };
    let new = Question::Mint { generation: second, which: Which::First, name: name("later.test") };
    assert!(matches!(at(&mut minting, &old, 159), Answer::Leaf(_)));
    for past_or_unknown in [first, 77] {
        let answer = at(&mut minting, &Question::Keep { generation: past_or_unknown }, 120);
        assert_eq!(answer, Answer::Refused("there is no such generation to keep".to_owned()));
    }
    assert!(matches!(at(&mut minting, &new, 159), Answer::Leaf(_)));
    assert!(matches!(at(&mut minting, &old, 160), Answer::Refused(_)));
    assert!(matches!(at(&mut minting, &new, 160), Answer::Leaf(_)));
    assert_eq!(at(&mut minting, &Question::Keep { generation: 0 }, 160), Answer::Kept);
    assert!(matches!(at(&mut minting, &new, 160), Answer::Refused(_)), "nothing is inspected any more");
}

#[test]
fn j07_so_many_configurations_are_held_and_no_more() {
    let (_directory, mut minting) = site();
    let first = taken_up(&mut minting, Source::File);
    assert_eq!(ask(&mut minting, &Question::Keep { generation: first }), Answer::Kept);
    // Of those that did not come into force, the last.
    let later: Vec<u32> = (0..7).map(|_| taken_up(&mut minting, Source::File)).collect();
    assert_eq!(minting.generations.len(), 2);
    mint(&mut minting, first, "allowed.test").expect("in force");
    for (at, generation) in later.iter().enumerate() {
        assert_eq!(mint(&mut minting, *generation, "allowed.test").is_ok(), at == later.len() - 1, "{at}");
    }
    // Of those that were in force, the last ones.
    let later: Vec<u32> = (0..7)
        .map(|_| {
            let generation = taken_up(&mut minting, Source::File);
            assert_eq!(ask(&mut minting, &Question::Keep { generation }), Answer::Kept);
            generation
        })
        .collect();
    assert_eq!(minting.generations.len(), BESIDE + 1);
    for (at, generation) in later.iter().enumerate() {
        assert_eq!(mint(&mut minting, *generation, "allowed.test").is_ok(), at >= later.len() - BESIDE - 1, "{at}");
    }
}

/// A way back that is barred again and again.
#[test]
fn j07_what_is_on_trial_is_signed_for_however_often_the_file_is_read_meanwhile() {
    let (directory, mut minting) = site();
    let first = taken_up(&mut minting, Source::File);
    assert_eq!(ask(&mut minting, &Question::Keep { generation: first }), Answer::Kept);
    fs::write(directory.path().join("sekisho.toml.trial"), POLICY).expect("written");
    let trial = taken_up(&mut minting, Source::Trial);
    for _ in 0..9 {
        let back = taken_up(&mut minting, Source::File);
        for generation in [first, trial, back] {
            mint(&mut minting, generation, "allowed.test").expect("a leaf");
        }
        assert!(minting.generations.len() <= BESIDE + 1);
    }
}

/// The process, as the one that serves sees it, and the line to it, which nobody carries yet.
fn beside(mut minting: Minting) -> (Minter, Line) {
    let (ours, theirs): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair");
    let mut theirs = UnixStream::from(theirs);
    thread::spawn(move || {
        let mut buffer = [0; MAX_QUESTION];
        while let Ok(octets @ 1..) = theirs.read(&mut buffer) {
            let (number, question) = Question::decode(&buffer[..octets]).expect("a question");
            theirs.write_all(&ask(&mut minting, &question).encode(number)).expect("sent");
        }
    });
    let (link, line) = way::open(ours.into());
    let (_tell, ended) = watch::channel(None);
    (Minter { link: Arc::new(link), ended, untold: Arc::default(), reading: Arc::default() }, line)
}

/// A word that came to nothing because the process was stopped for a while, and then a reload that fails in the one that serves.
#[tokio::test]
async fn j07_what_is_in_force_is_told_again_before_anything_else_is_taken_up() {
    const LONG: Duration = Duration::from_secs(60);
    let (directory, minting) = site();
    let file = directory.path().join("sekisho.toml");
    let config = config::load(&file, Scope::WithoutIssuingKey, SystemTime::now()).expect("loads");
    let (minter, mut line) = beside(minting);
    let taken_up = |line: &mut Line| {
        let (issuer, question) = take_up(&config, Source::File).expect("a point").expect("an issuer");
        let answer = line.ask(&question, LONG).expect("an answer");
        minter.taken_up(&config, issuer, answer).expect("taken up").expect("an issuer")
    };
    let before = taken_up(&mut line);
    line.ask(&Question::Keep { generation: before.generation }, LONG).expect("kept");
    let in_force = taken_up(&mut line);
    tokio::time::pause();
    minter.keep(Some(&in_force)).await;
    tokio::time::resume();
    assert_eq!(*minter.untold(), Some(in_force.generation), "nobody answered in time");
    line.start().expect("a thread");
    let fails = minter.take_up(&config, config::Source::File).await.expect("taken up").expect("an issuer");
    assert_eq!(*minter.untold(), None);
    for generation in [before.generation, in_force.generation, fails.generation] {
        let question = Question::Mint { generation, which: Which::First, name: name("allowed.test") };
        let answer = minter.link.ask(question, LONG).await.expect("an answer");
        assert!(matches!(answer, Answer::Leaf(_)), "{generation}: {answer:?}");
    }
    // Nothing is inspected any more, and that is not known either.
    *minter.untold() = Some(NONE);
    minter.answers().await.expect("an answer");
    assert_eq!(*minter.untold(), None);
    let question = Question::Mint { generation: in_force.generation, which: Which::First, name: name("allowed.test") };
    assert!(matches!(minter.link.ask(question, LONG).await, Ok(Answer::Refused(_))));
}

#[test]
fn j07_the_last_good_configuration_is_read_where_there_is_a_place_for_it() {
    let (directory, mut minting) = site();
    let file = directory.path().join("sekisho.toml");
    let refused = ask(&mut minting, &Question::TakeUp { source: Source::LastGood, point: point() });
    assert_eq!(refused, Answer::Refused("there is no state directory".to_owned()));
    let last_good = LastGood::new(directory.path());
    let config = config::load(&file, Scope::Full, SystemTime::now()).expect("loads");
    assert!(last_good.keep(&config, SystemTime::now()).expect("kept"));
    fs::write(&file, "broken").expect("written");
    let mut minting = Minting::new(file, Some(last_good));
    let generation = taken_up(&mut minting, Source::LastGood);
    mint(&mut minting, generation, "allowed.test").expect("a leaf");
}
