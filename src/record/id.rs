//! The identifier of an attempt: what a refusal page shows, what staff read out on the telephone, what the help desk searches for.
//!
//! 80 bits as four groups of four base32 digits in Crockford's alphabet, which has no I, L, O or U: `7ZK3-0Q9M-V2XD-TB61`.
//! They are the beginning of SHA-256 over a seed of this run and a counter: nobody without the seed can guess another
//! attempt's, two are alike once in about 2^40, and the only call that can fail (the random seed) is made at start. No time
//! stands in it: the record has one beside it, and every bit is needed for uniqueness.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;

use crate::record::values::Value;

/// The identifier of one attempt (`event.id`). [`fmt::Display`] is the form of the record, the pages and `Proxy-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; 10]);

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl EventId {
    /// A number that is as likely as any other, for who spreads them.
    pub fn spread(self) -> usize {
        self.0[9].into()
    }

    /// From the form of the record.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bits = 0_u128;
        for byte in text.bytes().filter(|byte| *byte != b'-') {
            bits = (bits << 5) | DIGITS.iter().position(|digit| *digit == byte)? as u128;
        }
        let id = Self(*bits.to_be_bytes().last_chunk()?);
        // The groups are where they are due.
        (id.text() == text.as_bytes()).then_some(id)
    }

    /// The groups with their hyphens, all of it ASCII.
    fn text(self) -> [u8; 19] {
        let bits = self.0.iter().fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
        let mut text = [b'-'; 19];
        let places = text.chunks_mut(5).flat_map(|group| group.iter_mut().take(4));
        for (place, digit) in places.enumerate() {
            *digit = DIGITS[((bits >> (75 - 5 * place)) & 31) as usize];
        }
        text
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl Value for EventId {
    const KIND: &'static str = "keyword";

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(&self.text());
        out.push(b'"');
    }
}

/// Where identifiers come from; one per run.
pub(super) struct EventIds {
    seed: [u8; 32],
    next: AtomicU64,
}

impl EventIds {
    /// # Errors
    /// [`Unspecified`] where the system gives no random bytes.
    pub(super) fn new() -> Result<Self, Unspecified> {
        let mut seed = [0; 32];
        rand::fill(&mut seed)?;
        Ok(Self { seed, next: AtomicU64::new(0) })
    }

    pub(super) fn next(&self) -> EventId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut hash = Context::new(&SHA256);
        hash.update(&self.seed);
        hash.update(&number.to_be_bytes());
        let mut id = [0; 10];
        for (to, from) in id.iter_mut().zip(hash.finish().as_ref()) {
            *to = *from;
        }
        EventId(id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn identifiers_have_one_shape_and_do_not_repeat() {
        let ids = EventIds::new().expect("random bytes");
        let other_run = EventIds::new().expect("random bytes");
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            assert!(seen.insert(ids.next().to_string()));
            assert!(seen.insert(other_run.next().to_string()));
        }
        for id in seen {
            assert_eq!(EventId::parse(&id).expect("its own form").to_string(), id);
            assert_eq!(id.len(), 19);
            assert!(id.split('-').all(|group| group.len() == 4), "{id}");
            assert!(id.bytes().all(|b| b == b'-' || b.is_ascii_digit() || b.is_ascii_uppercase()), "{id}");
        }
    }

    #[test]
    fn only_its_own_form_is_read() {
        for text in [
            "",
            "0000-0000-0000-000",
            "0000-0000-0000-00000",
            "00000000-0000-0000",
            "0000-0000-0000-000l",
            "1-0000-0000-0000-0000",
        ] {
            assert_eq!(EventId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_bit_has_its_place() {
        assert_eq!(EventId([0; 10]).to_string(), "0000-0000-0000-0000");
        assert_eq!(EventId([0xff; 10]).to_string(), "ZZZZ-ZZZZ-ZZZZ-ZZZZ");
        assert_eq!(EventId([0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).to_string(), "0000-0000-0000-0001");
        assert_eq!(EventId([0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]).to_string(), "G000-0000-0000-0000");
    }
}
