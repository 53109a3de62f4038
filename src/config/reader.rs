//! A small typed reader over the TOML tree: every wrong type, unknown key and missing key becomes a problem, and reading
//! goes on with what is there.
//!
//! What may not be here: rules about what a value may be, beyond its type.

use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

use super::problem::{At, Problems, quoted};
use super::schema::Keys;

/// Whether a value may be shown in a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrecy {
    Shown,
    /// Tenant ids and header values: only their length is told.
    Masked,
}

impl Secrecy {
    pub fn show(self, text: &str) -> String {
        match self {
            Self::Shown => quoted(text),
            Self::Masked => match text.chars().count() {
                1 => "a value of 1 character".to_owned(),
                n => format!("a value of {n} characters"),
            },
        }
    }
}

/// A text and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Text<'t> {
    pub text: &'t str,
    pub at: At,
}

/// What a list is to hold.
#[derive(Clone, Copy)]
enum ListOf {
    Texts,
    Numbers,
}

/// A value and where it stands.
pub(super) struct Value<'t> {
    pub node: &'t DeValue<'t>,
    pub at: At,
}

/// A table of the file, or the empty one that stands for an absent table.
#[derive(Debug)]
pub(super) struct Table<'t> {
    entries: Option<&'t DeTable<'t>>,
    pub at: At,
    keys: Option<&'static Keys>,
    secrecy: Secrecy,
}

impl<'t> Table<'t> {
    pub fn root(entries: &'t DeTable<'t>, keys: &'static Keys, problems: &mut Problems<'_>) -> Self {
        let at = At { offset: 0, key: String::new() };
        let table = Self { entries: Some(entries), at, keys: Some(keys), secrecy: Secrecy::Shown };
        table.refuse_unknown(problems);
        table
    }

    pub fn is_present(&self) -> bool {
        self.entries.is_some()
    }

    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Where the key's value stands, or where its table begins.
    pub fn place(&self, name: &str) -> At {
        self.value(name).map_or_else(|| self.at.key(name, self.at.offset), |value| value.at)
    }

    /// Whether the key holds `[]`: legal everywhere, and never what an administrator wants.
    pub fn is_empty_list(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value.node.as_array().is_some_and(|items| items.is_empty()))
    }

    /// Values of this table are not shown in problems.
    pub fn masked(self) -> Self {
        Self { secrecy: Secrecy::Masked, ..self }
    }

    /// The table at `name`; without `keys` its keys are free, or checked later by [`Table::restrict`].
    pub fn table(&self, name: &str, keys: Option<&'static Keys>, problems: &mut Problems<'_>) -> Self {
        let value = self.value(name);
        let at = self.place(name);
        let absent = Self { entries: None, at, keys, secrecy: Secrecy::Shown };
        let Some(value) = value else { return absent };
        let Some(entries) = value.node.as_table() else {
            let found = self.found(value.node);
            problems.error(&value.at, found, format!("a table: [{}] and its keys below", plain(&value.at.key)));
            return absent;
        };
        let table = Self { entries: Some(entries), ..absent };
        table.refuse_unknown(problems);
        table
    }

    /// The tables of `[[name]]`, in file order.
    pub fn tables(&self, name: &str, keys: &'static Keys, problems: &mut Problems<'_>) -> Vec<Self> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let wanted = format!("[[{}]], with two brackets, once for each", plain(&value.at.key));
        let Some(items) = value.node.as_array() else {
            let found = match value.node {
                DeValue::Table(_) => format!("[{}] with one bracket", plain(&value.at.key)),
                other => self.found(other),
            };
            problems.error(&value.at, found, wanted);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            let at = value.at.item(n, item.span().start);
            let Some(entries) = item.get_ref().as_table() else {
                problems.error(&at, self.found(item.get_ref()), wanted.as_str());
                continue;
            };
            let table = Self { entries: Some(entries), at, keys: Some(keys), secrecy: Secrecy::Shown };
            table.refuse_unknown(problems);
            tables.push(table);
        }
        tables
    }

    /// Names the keys this table may hold, where that depends on one of its values.
    pub fn restrict(self, keys: &'static Keys, problems: &mut Problems<'_>) -> Self {
        let table = Self { keys: Some(keys), ..self };
        table.refuse_unknown(problems);
        table
    }

    pub fn text(&self, name: &str, problems: &mut Problems<'_>) -> Option<Text<'t>> {
        let value = self.value(name)?;
        self.as_text(&value, problems)
    }

    /// As [`Table::text`]; where the key is absent, a problem says that `expected` is due.
    pub fn required_text(&self, name: &str, expected: &str, problems: &mut Problems<'_>) -> Option<Text<'t>> {
        if !self.has(name) {
            self.missing(name, expected, problems);
        }
        self.text(name, problems)
    }

    /// A list of texts. `None` where the key is absent or no list; items that are no texts are left out.
    pub fn texts(&self, name: &str, problems: &mut Problems<'_>) -> Option<Vec<Text<'t>>> {
        let items = self.items(name, ListOf::Texts, problems)?;
        Some(items.iter().filter_map(|item| self.as_text(item, problems)).collect())
    }

    /// A text, or a list of texts.
    pub fn one_or_more(&self, name: &str, problems: &mut Problems<'_>) -> Vec<Text<'t>> {
        match self.value(name) {
            Some(value) if value.node.is_array() => self.texts(name, problems).unwrap_or_default(),
            Some(value) => self.as_text(&value, problems).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// As [`Table::texts`]; where the key is absent, a problem says that `expected` is due.
    pub fn required_texts(&self, name: &str, expected: &str, problems: &mut Problems<'_>) -> Vec<Text<'t>> {
        if !self.has(name) {
            self.missing(name, expected, problems);
        }
        self.texts(name, problems).unwrap_or_default()
    }

    /// A list of whole numbers in `range`, each with its place.
    pub fn integers(
        &self,
        name: &str,
        range: &RangeInclusive<u64>,
        what: &str,
        problems: &mut Problems<'_>,
    ) -> Option<Vec<(u64, At)>> {
        let items = self.items(name, ListOf::Numbers, problems)?;
        Some(
            items
                .into_iter()
                .filter_map(|item| Some((self.as_integer(&item, range, what, problems)?, item.at)))
                .collect(),
        )
    }

    pub fn integer(
        &self,
        name: &str,
        range: &RangeInclusive<u64>,
        what: &str,
        problems: &mut Problems<'_>,
    ) -> Option<(u64, At)> {
        let value = self.value(name)?;
        Some((self.as_integer(&value, range, what, problems)?, value.at))
    }

    pub fn flag(&self, name: &str, problems: &mut Problems<'_>) -> Option<bool> {
        let value = self.value(name)?;
        if let Some(flag) = value.node.as_bool() {
            return Some(flag);
        }
        let problem = problems.error(&value.at, self.found(value.node), "true or false");
        if value.node.is_str() {
            problem.hint("without quotes");
        }
        None
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, name: &str, words: &[(&str, T)], problems: &mut Problems<'_>) -> Option<T> {
        let value = self.value(name)?;
        let written = show(value.node);
        let chosen = words.iter().find(|(word, _)| *word == written);
        if let (Some((_, chosen)), true) = (chosen, value.node.is_str()) {
            return Some(*chosen);
        }
        let all: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let problem = problems.error(&value.at, self.found(value.node), all.join(" or "));
        if chosen.is_some() {
            problem.hint(format!("in quotes: \"{written}\""));
        }
        None
    }

    /// Every key with its list of texts, where the keys are free; each key's text and place come first.
    pub fn free_lists(&self, problems: &mut Problems<'_>) -> Vec<(Text<'t>, Vec<Text<'t>>)> {
        let mut lists = Vec::new();
        for (name, _) in self.entries.into_iter().flatten() {
            let text = name.get_ref().as_ref();
            let at = self.at.key(text, name.span().start);
            lists.push((Text { text, at }, self.texts(text, problems).unwrap_or_default()));
        }
        lists
    }

    pub fn missing(&self, name: &str, expected: &str, problems: &mut Problems<'_>) {
        problems.error(&self.at.key(name, self.at.offset), "nothing", expected);
    }

    pub fn value(&self, name: &str) -> Option<Value<'t>> {
        debug_assert!(self.keys.is_none_or(|keys| keys.names.contains(&name)), "{name} is not in the schema");
        let value = self.entries?.get(name)?;
        Some(Value { node: value.get_ref(), at: self.at.key(name, value.span().start) })
    }

    fn items(&self, name: &str, of: ListOf, problems: &mut Problems<'_>) -> Option<Vec<Value<'t>>> {
        let value = self.value(name)?;
        let Some(items) = value.node.as_array() else {
            let (expected, fits) = match of {
                ListOf::Texts => ("a list of texts", value.node.is_str()),
                ListOf::Numbers => ("a list of numbers", value.node.is_integer()),
            };
            let found = self.found(value.node);
            let problem = problems.error(&value.at, found.as_str(), expected);
            if fits && self.secrecy == Secrecy::Shown {
                problem.hint(format!("one item is a list too: [{found}]"));
            }
            return None;
        };
        let place = |(n, item): (usize, &'t toml::Spanned<DeValue<'t>>)| Value {
            node: item.get_ref(),
            at: value.at.item(n, item.span().start),
        };
        Some(items.iter().enumerate().map(place).collect())
    }

    fn as_text(&self, value: &Value<'t>, problems: &mut Problems<'_>) -> Option<Text<'t>> {
        if let DeValue::String(text) = value.node {
            return Some(Text { text, at: value.at.clone() });
        }
        let problem = problems.error(&value.at, self.found(value.node), "a text in quotes");
        if let (DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_), Secrecy::Shown) =
            (value.node, self.secrecy)
        {
            problem.hint(format!("write \"{}\"", show(value.node)));
        }
        None
    }

    fn as_integer(
        &self,
        value: &Value<'t>,
        range: &RangeInclusive<u64>,
        what: &str,
        problems: &mut Problems<'_>,
    ) -> Option<u64> {
        let number = value.node.as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let expected = format!("{what} from {} to {}", range.start(), range.end());
        let problem = problems.error(&value.at, self.found(value.node), expected);
        if value.node.as_str().is_some_and(|text| text.parse::<u64>().is_ok()) {
            problem.hint("without quotes");
        }
        None
    }

    fn refuse_unknown(&self, problems: &mut Problems<'_>) {
        let (Some(keys), Some(entries)) = (self.keys, self.entries) else { return };
        for (name, _) in entries {
            let text = name.get_ref().as_ref();
            if keys.names.contains(&text) {
                continue;
            }
            let at = self.at.key(text, name.span().start);
            let expected = format!("a key of {}: {}", keys.section, keys.names.join(", "));
            let problem = problems.error(&at, "an unknown key", expected);
            if let Some(suggestion) = keys.suggestion(text) {
                problem.hint(suggestion);
            }
        }
    }

    pub fn found(&self, node: &DeValue<'_>) -> String {
        match (node, self.secrecy) {
            (DeValue::String(text), secrecy) => secrecy.show(text),
            (DeValue::Array(_), _) => "a list".to_owned(),
            (DeValue::Table(_), _) => "a table".to_owned(),
            (DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_), Secrecy::Shown) => {
                show(node)
            }
            (DeValue::Integer(_), Secrecy::Masked) => "a number".to_owned(),
            (DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_), Secrecy::Masked) => {
                format!("a {}", node.type_str())
            }
        }
    }
}

/// A scalar as it may be written again.
fn show(node: &DeValue<'_>) -> String {
    match node {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) | DeValue::Table(_) => node.type_str().to_owned(),
    }
}

/// A key's path without its indices, as table headers are written.
fn plain(key: &str) -> String {
    let mut inside = false;
    key.chars()
        .filter(|c| {
            inside = (inside || *c == '[') && *c != ']';
            !inside && *c != ']'
        })
        .collect()
}
