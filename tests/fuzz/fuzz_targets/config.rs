//! Arbitrary text as a configuration: problems or none, never a panic. Seeds: `tests/configs/{valid,invalid}/*.toml`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for problem in sekisho::config::problems_of("fuzz.toml", text) {
        // The message itself is made of the text, too.
        assert!(!problem.to_string().is_empty());
    }
});
