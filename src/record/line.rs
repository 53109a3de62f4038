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
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

/// RFC 3339, UTC, milliseconds.
const TIMESTAMP: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
/// 9999-12-31T23:59:59Z: RFC 3339 has four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;

/// What every line, and so every file of the record, begins with: `file` knows a record by it.
pub(super) const HEAD: &str = "{\"event.sequence\":";

/// Appends the beginning of a line. The rest of it is `Fields::write_body`.
pub(super) fn head(out: &mut Vec<u8>, sequence: u64) {
    out.extend_from_slice(HEAD.as_bytes());
    plain(out, sequence);
}

/// Appends the shortest decimal or textual form of something whose form needs no escape: a number, an address.
pub(super) fn plain(out: &mut Vec<u8>, value: impl Display) {
    // Writing into a Vec cannot fail; a Result comes with the trait.
    let _ = write!(out, "{value}");
}

/// Appends `text` as a JSON string with its quotes.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text;
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
    out.push(b'"');
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
    let moment = whole.replace_nanosecond(since.subsec_nanos()).unwrap_or(whole);
    out.push(b'"');
    let _ = moment.format_into(out, TIMESTAMP);
    out.push(b'"');
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
