//! `HostPattern::parse` takes any text without a panic, and its normal form is read back as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sekisho::policy::HostPattern;

fuzz_target!(|text: &str| {
    let Ok(pattern) = HostPattern::parse(text) else { return };
    let again = HostPattern::parse(pattern.as_str()).expect("a normal form is a pattern");
    assert_eq!(pattern, again);
    assert!(pattern.as_str().ends_with(pattern.fixed_suffix()));
    assert_ne!(pattern.is_exact(), pattern.is_wildcard());
    let _ = pattern.breadth();
});
