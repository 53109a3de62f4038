//! Only the reading of the record belongs here: strict JSON, one object a line, and the few questions scenes ask of a line.

use std::fmt;

use serde_json::{Map, Value};

/// One line of the record.
#[derive(Clone)]
pub struct Record(pub Map<String, Value>);

/// Every line of `text`; a line that is not one JSON object fails the test. An unfinished last line is left out where a writer
/// may be in the middle of it.
pub fn parse(text: &str) -> Vec<Record> {
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    whole
        .lines()
        .map(|line| match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(fields)) => Record(fields),
            Ok(other) => panic!("a record that is no object: {other}"),
            Err(error) => panic!("a record that is not JSON ({error}): {line}"),
        })
        .collect()
}

impl Record {
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn number(&self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {key} in {self:?}"))
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub fn action(&self) -> &str {
        self.text("event.action")
    }

    pub fn outcome(&self) -> &str {
        self.text("event.outcome")
    }

    pub fn reason(&self) -> &str {
        self.text("event.reason")
    }

    /// How many attempts the line stands for.
    pub fn count(&self) -> u64 {
        self.0.get("sekisho.count").map_or(1, |count| count.as_u64().expect("a count"))
    }

    pub fn is_terminal(&self) -> bool {
        self.has("event.outcome")
    }

    /// The line must say `outcome` for `reason` (empty: none).
    #[track_caller]
    pub fn says(&self, outcome: &str, reason: &str) -> &Self {
        assert_eq!((self.outcome(), self.reason()), (outcome, reason), "{self:?}");
        self
    }

    #[track_caller]
    pub fn with(&self, key: &str, value: &str) -> &Self {
        assert_eq!(self.text(key), value, "{key} of {self:?}");
        self
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).unwrap_or_default())
    }
}
