//! Values with a unit, as the reader reads them: durations and sizes.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::problem::{Problems, quoted};
use super::reader::Table;
use super::units::{self, QuantityError, show_duration, show_size};

/// How values of one kind are read and shown.
struct Quantity<T> {
    name: &'static str,
    expected: &'static str,
    /// The unit that is meant, perhaps, where none is written, and its name.
    meant: (&'static str, &'static str),
    read: fn(&str) -> Result<T, QuantityError>,
    show: fn(T) -> String,
}

const DURATION: Quantity<Duration> = Quantity {
    name: "duration",
    expected: "a duration with its unit, such as \"500ms\", \"30s\", \"10m\" or \"1h\"",
    meant: ("s", "seconds"),
    read: units::duration,
    show: show_duration,
};

const SIZE: Quantity<u64> = Quantity {
    name: "size",
    expected: "a size with its unit, such as \"500KB\", \"20MB\" or \"1GiB\"",
    meant: ("MB", "megabytes"),
    read: units::size,
    show: show_size,
};

impl Table<'_> {
    /// A duration in `range`.
    pub fn duration(
        &self,
        name: &str,
        range: &RangeInclusive<Duration>,
        problems: &mut Problems<'_>,
    ) -> Option<Duration> {
        self.quantity(&DURATION, name, range, problems)
    }

    /// A size in `range`, in octets.
    pub fn size(&self, name: &str, range: &RangeInclusive<u64>, problems: &mut Problems<'_>) -> Option<u64> {
        self.quantity(&SIZE, name, range, problems)
    }

    fn quantity<T: PartialOrd + Copy>(
        &self,
        kind: &Quantity<T>,
        name: &str,
        range: &RangeInclusive<T>,
        problems: &mut Problems<'_>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let (found, read) = match value.node {
            DeValue::String(text) => (quoted(text), (kind.read)(text)),
            DeValue::Integer(number) => match number.as_str().parse::<u64>() {
                Ok(number) => (number.to_string(), Err(QuantityError::NoUnit(number))),
                Err(_) => (number.to_string(), Err(QuantityError::Form)),
            },
            other => (self.found(other), Err(QuantityError::Form)),
        };
        match read {
            Ok(quantity) if range.contains(&quantity) => return Some(quantity),
            Ok(_) | Err(QuantityError::TooMuch) => {
                let (low, high) = ((kind.show)(*range.start()), (kind.show)(*range.end()));
                problems.error(&value.at, found, format!("a {} from {low} to {high}", kind.name));
            }
            Err(QuantityError::NoUnit(number)) => {
                let (unit, units) = kind.meant;
                let problem = problems.error(&value.at, found, kind.expected);
                problem.hint(format!("write \"{number}{unit}\" if {units} are meant"));
            }
            Err(QuantityError::Form) => {
                problems.error(&value.at, found, kind.expected);
            }
        }
        None
    }
}
