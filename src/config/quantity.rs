//! Values with a unit, as the reader reads them: durations and sizes.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::problem::{Problems, quoted};
use super::reader::Table;
use super::units::{self, DurationError, SizeError, show_duration, show_size};

impl Table<'_> {
    /// A duration in `range`.
    pub fn duration(
        &self,
        name: &str,
        range: &RangeInclusive<Duration>,
        problems: &mut Problems<'_>,
    ) -> Option<Duration> {
        const EXPECTED: &str = "a duration with its unit, such as \"500ms\", \"30s\", \"10m\" or \"1h\"";
        let value = self.value(name)?;
        let (found, read) = match value.node {
            DeValue::String(text) => (quoted(text), units::duration(text)),
            DeValue::Integer(number) => match number.as_str().parse::<u64>() {
                Ok(number) => (number.to_string(), Err(DurationError::NoUnit(number))),
                Err(_) => (number.to_string(), Err(DurationError::Form)),
            },
            other => (self.found(other), Err(DurationError::Form)),
        };
        match read {
            Ok(span) if range.contains(&span) => return Some(span),
            Ok(_) | Err(DurationError::TooLong) => {
                let (low, high) = (show_duration(*range.start()), show_duration(*range.end()));
                problems.error(&value.at, found, format!("a duration from {low} to {high}"));
            }
            Err(DurationError::NoUnit(number)) => {
                problems.error(&value.at, found, EXPECTED).hint(format!("write \"{number}s\" if seconds are meant"));
            }
            Err(DurationError::Form) => {
                problems.error(&value.at, found, EXPECTED);
            }
        }
        None
    }

    /// A size in `range`, in octets.
    pub fn size(&self, name: &str, range: &RangeInclusive<u64>, problems: &mut Problems<'_>) -> Option<u64> {
        const EXPECTED: &str = "a size with its unit, such as \"500KB\", \"20MB\" or \"1GiB\"";
        let value = self.value(name)?;
        let (found, read) = match value.node {
            DeValue::String(text) => (quoted(text), units::size(text)),
            DeValue::Integer(number) => match number.as_str().parse::<u64>() {
                Ok(number) => (number.to_string(), Err(SizeError::NoUnit(number))),
                Err(_) => (number.to_string(), Err(SizeError::Form)),
            },
            other => (self.found(other), Err(SizeError::Form)),
        };
        match read {
            Ok(octets) if range.contains(&octets) => return Some(octets),
            Ok(_) | Err(SizeError::TooLarge) => {
                let (low, high) = (show_size(*range.start()), show_size(*range.end()));
                problems.error(&value.at, found, format!("a size from {low} to {high}"));
            }
            Err(SizeError::NoUnit(number)) => {
                problems.error(&value.at, found, EXPECTED).hint(format!("write \"{number}MB\" if megabytes are meant"));
            }
            Err(SizeError::Form) => {
                problems.error(&value.at, found, EXPECTED);
            }
        }
        None
    }
}
