//! How a value is written into a line of the record: the JSON escaper, numbers and times.
//!
//! Every function appends to a buffer the caller reuses and none can fail or panic, because they run in a guard's `Drop`.
//! What is cut or masked is decided in `values`, which fields there are in `fields`.
//!
//! The escaper writes more escapes than JSON asks for: a control, bidirectional or invisible character that reached the file
//! as itself would rewrite the terminal or the pager of whoever reads it (attack K01). The escaping loses nothing: a JSON
//! parser gives back the same string.

use std::fmt::Display;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use time::UtcDateTime;

/// 9999-12-31T23:59:59Z: RFC 3339 has four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;

/// What every line, and so every file of the record, begins with: `file` knows a record by it.
pub(super) const HEAD: &str = "{\"event.sequence\":";

/// Appends the beginning of a line. The rest of it is `Fields::write_body`.
pub(super) fn head(out: &mut Vec<u8>, sequence: u64) {
    out.extend_from_slice(HEAD.as_bytes());
    number(out, sequence);
}

/// Appends `value` in decimal.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    let digits = value.checked_ilog10().map_or(1, |log| log as usize + 1);
    // u64::MAX has 20.
    let mut text = [0; 20];
    fill(&mut text[..digits], value);
    out.extend_from_slice(&text[..digits]);
}

/// Writes the last digits of `value`, as many as there is room for.
fn fill(room: &mut [u8], mut value: u64) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Appends the textual form of something whose form needs no escape: an address.
pub(super) fn plain(out: &mut Vec<u8>, value: impl Display) {
    // Writing into a Vec cannot fail; a Result comes with the trait.
    let _ = write!(out, "{value}");
}

/// Appends `text` as a JSON string with its quotes.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Most texts need no escape, which is told without decoding them.
    if is_plain(text) {
        out.extend_from_slice(text.as_bytes());
    } else {
        escape(out, text);
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, mut rest: &str) {
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_escaped(*c)) {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before.as_bytes());
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            _ => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
        }
        rest = from.get(c.len_utf8()..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Whether all of `text` is printable ASCII without `"` and `\`, of which [`is_escaped`] holds for none. Sixteen octets
/// at a time, the last ones too: most texts are short.
fn is_plain(text: &str) -> bool {
    let is_plain = |b: u8| matches!(b, b' '..=b'~') & (b != b'"') & (b != b'\\');
    let all_plain = |block: &[u8; 16]| block.iter().fold(true, |all, &b| all & is_plain(b));
    let (blocks, rest) = text.as_bytes().as_chunks();
    let mut last = [b' '; 16];
    last[..rest.len()].copy_from_slice(rest);
    blocks.iter().all(all_plain) && all_plain(&last)
}

/// Whether `c` is written as an escape. All of these lie in the basic plane, so one `\uXXXX` is enough.
fn is_escaped(c: char) -> bool {
    match c {
        '"' | '\\' => true,
        // C0, DEL and C1.
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => true,
        // Invisible, line-breaking and bidirectional format characters.
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => true,
        // Interlinear annotation, and the replacement character that stands for bytes that were not UTF-8.
        '\u{fff9}'..='\u{fffd}' => true,
        _ => false,
    }
}

/// Appends `at` as an RFC 3339 string in UTC with milliseconds. A clock outside 1970 to 9999 is written as the nearest of both.
pub(super) fn timestamp(out: &mut Vec<u8>, at: SystemTime) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs().min(LAST_SECOND)).unwrap_or_default();
    let whole = UtcDateTime::from_unix_timestamp(seconds).unwrap_or(UtcDateTime::UNIX_EPOCH);
    let mut text = *b"\"0000-00-00T00:00:00.000Z\"";
    // The year is 1970 to 9999.
    fill(&mut text[1..5], u64::from(whole.year().unsigned_abs()));
    fill(&mut text[6..8], u64::from(u8::from(whole.month())));
    fill(&mut text[9..11], u64::from(whole.day()));
    fill(&mut text[12..14], u64::from(whole.hour()));
    fill(&mut text[15..17], u64::from(whole.minute()));
    fill(&mut text[18..20], u64::from(whole.second()));
    fill(&mut text[21..24], u64::from(since.subsec_millis()));
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        string(&mut out, text);
        String::from_utf8(out).expect("a line is UTF-8")
    }

    #[test]
    fn k01_what_a_terminal_would_obey_is_escaped() {
        let rows = [
            ("plain.example", r#""plain.example""#),
            ("", r#""""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("a\r\nb\tc\0", r#""a\u000d\u000ab\u0009c\u0000""#),
            ("\x1b[31m", r#""\u001b[31m""#),
            ("\x1f \x7e\x7f", "\"\\u001f ~\\u007f\""),
            ("\u{80}\u{9f}\u{a0}", "\"\\u0080\\u009f\u{a0}\""),
            ("\u{2027}\u{2028}\u{2029}\u{202a}\u{202e}\u{202f}", "\"\u{2027}\\u2028\\u2029\\u202a\\u202e\u{202f}\""),
            ("\u{2066}\u{2069}\u{2070}", "\"\\u2066\\u2069\u{2070}\""),
            ("\u{fffd}\u{feff}", r#""\ufffd\ufeff""#),
            ("関所 🚧", "\"関所 🚧\""),
        ];
        for (text, line) in rows {
            assert_eq!(escaped(text), line, "{text:?}");
        }
    }

    /// Texts are looked at in blocks of sixteen: what must be escaped is found wherever it stands.
    #[test]
    fn k01_what_is_escaped_is_found_at_every_place() {
        for length in 0..40 {
            for place in 0..length {
                let (before, after) = ("a".repeat(place), "b".repeat(length - place - 1));
                for (c, shown) in [("\"", "\\\""), ("\n", "\\u000a"), ("\x7f", "\\u007f"), ("\u{202e}", "\\u202e")] {
                    assert_eq!(escaped(&format!("{before}{c}{after}")), format!("\"{before}{shown}{after}\""));
                }
            }
        }
    }

    #[test]
    fn numbers_are_decimal() {
        for value in [0, 1, 9, 10, 99, 100, 65_535, 1_000_000_007, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(String::from_utf8_lossy(&out), value.to_string());
        }
    }

    #[test]
    fn o01_times_are_utc_milliseconds_whatever_the_clock_says() {
        let rows = [
            (UNIX_EPOCH, "\"1970-01-01T00:00:00.000Z\""),
            (UNIX_EPOCH - Duration::from_secs(1), "\"1970-01-01T00:00:00.000Z\""),
            (UNIX_EPOCH + Duration::from_millis(1_763_845_200_007), "\"2025-11-22T21:00:00.007Z\""),
            (UNIX_EPOCH + Duration::new(1, 999_999_999), "\"1970-01-01T00:00:01.999Z\""),
            (UNIX_EPOCH + Duration::from_secs(LAST_SECOND), "\"9999-12-31T23:59:59.000Z\""),
            (UNIX_EPOCH + Duration::from_secs(LAST_SECOND + 1), "\"9999-12-31T23:59:59.000Z\""),
        ];
        for (at, written) in rows {
            let mut out = Vec::new();
            timestamp(&mut out, at);
            assert_eq!(String::from_utf8_lossy(&out), written);
        }
    }

    proptest! {
        #[test]
        fn k01_a_parser_gives_back_what_was_written(text in any::<String>()) {
            let line = escaped(&text);
            prop_assert_eq!(serde_json::from_str::<String>(&line).expect("JSON"), text);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
