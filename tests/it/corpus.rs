//! Only what is fed to the fuzz targets themselves belongs here: the fuzzers' seeds, and what a generator makes that a fuzzer would
//! have to come upon. The one module of this binary that uses the library.
//!
//! A target begins with `use libfuzzer_sys::fuzz_target`; `main.rs` calls this crate by that name too, so that here the line
//! finds the macro below, which makes a plain function of the target's body.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

mod shim {
    #[macro_export]
    macro_rules! fuzz_target {
        (|$data:ident: &[u8]| $body:block) => {
            pub fn run($data: &[u8]) $body
        };
        (|$text:ident: &str| $body:block) => {
            pub fn run(data: &[u8]) {
                if let Ok($text) = std::str::from_utf8(data) $body
            }
        };
    }
}

macro_rules! targets {
    ($($name:ident: $file:literal, $seeds:literal;)+) => {
        $(
            #[expect(unused_attributes, reason = "no_main is for the fuzzer's binary")]
            #[path = $file]
            mod $name;

            #[test]
            fn $name() {
                replay(stringify!($name), $seeds, $name::run);
            }
        )+

        const TARGETS: &[&str] = &[$(stringify!($name)),+];
    };
}

targets! {
    chunked: "../fuzz/fuzz_targets/chunked.rs", 15;
    client_hello: "../fuzz/fuzz_targets/client_hello.rs", 15;
    config: "../fuzz/fuzz_targets/config.rs", 16;
    connect_head: "../fuzz/fuzz_targets/connect_head.rs", 19;
    http1_request: "../fuzz/fuzz_targets/http1_request.rs", 16;
    http1_response: "../fuzz/fuzz_targets/http1_response.rs", 15;
    inspect_h1: "../fuzz/fuzz_targets/inspect_h1.rs", 23;
    inspect_h2: "../fuzz/fuzz_targets/inspect_h2.rs", 18;
    names: "../fuzz/fuzz_targets/names.rs", 27;
    policy_decision: "../fuzz/fuzz_targets/policy_decision.rs", 12;
    policy_pattern: "../fuzz/fuzz_targets/policy_pattern.rs", 16;
    proxy_protocol: "../fuzz/fuzz_targets/proxy_protocol.rs", 25;
    record_line: "../fuzz/fuzz_targets/record_line.rs", 15;
}

fn entries(dir: &str) -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(dir);
    let files = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut names: Vec<String> =
        files.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

/// Every seed by itself, so that a failure names its file; `expected` of them, so that none is lost unnoticed.
fn replay(target: &str, expected: usize, run: fn(&[u8])) {
    let seeds = seeds(target);
    let names: Vec<_> = seeds.iter().map(|(name, _)| name).collect();
    assert_eq!(seeds.len(), expected, "seeds of {target}: {names:?}");
    for (name, data) in seeds {
        let outcome = std::panic::catch_unwind(|| run(&data));
        assert!(outcome.is_ok(), "{name} makes the target fail, see above");
    }
}

/// The seeds of a target by their names, `target/seed`.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let named = |seed: String| format!("{target}/{seed}");
    let names = entries(&format!("corpus/{target}")).into_iter().map(named);
    names.map(|name| (name.clone(), fs::read(corpus.join(&name)).expect("a seed"))).collect()
}

#[test]
fn every_target_is_built_and_replayed() {
    let files: Vec<String> = TARGETS.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(entries("fuzz_targets"), files);
    assert_eq!(entries("corpus"), TARGETS);
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/Cargo.toml")).expect("Cargo.toml");
    for name in TARGETS {
        assert!(
            manifest.contains(&format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n")),
            "{name}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn c01_c02_c14_the_six_doors_of_a_name_agree(
        text in "([a-zA-Z0-9_-]{1,9}|xn--[a-z0-9-]{1,9}|[ -~]{0,4}|[ぁ-ん]{1,3}|[é。．ß\u{200d}\u{202e}]|[0-9]{1,3}|0x[0-9a-f]{0,3})(\\.([a-zA-Z0-9-]{1,4}|[0-9]{1,3}|[ -~]{0,2}|[a-z]{60,66})){0,5}\\.{0,2}"
    ) {
        names::run(text.as_bytes());
    }

    #[test]
    fn b09_a_proxy_header_names_whom_a_naive_reader_finds(
        octets in prop_oneof![
            "PROXY (TCP4 ([0-9]{1,3}\\.){3}[0-9]{1,3} 10\\.20\\.0\\.1|TCP6 [0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7} fd00::1) [0-9]{1,5} [0-9]{1,5}\r\n[ -~]{0,4}"
                .prop_map(String::into_bytes),
            (any::<[u8; 2]>(), prop_oneof![Just(0x11_u8), Just(0x21), any::<u8>()], prop::collection::vec(any::<u8>(), 0..64)).prop_map(
                |([command, short], family, block)| {
                    let length = block.len().saturating_sub(usize::from(short & 0x0f));
                    let head = [0x20 | (command & 1), family, 0, u8::try_from(length).expect("short")];
                    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &head, &block].concat()
                }
            ),
        ]
    ) {
        proxy_protocol::run(&octets);
    }

    #[test]
    fn a18_c14_a_policy_decides_as_the_manual_reads(
        text in "(s[@-\\x7f](([ab]|\\*|[ab]?\\*[ab]?)(\\.([ab]|\\*|a\\*|\\*b)){0,3} ?){1,4}\n){1,6}(\\?[@-\\x7f][ab]{1,2}(\\.[ab]{1,2}){0,4}\n){1,8}"
    ) {
        policy_decision::run(text.as_bytes());
    }
}
