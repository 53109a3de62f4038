//! What is wrong with a configuration, in an administrator's words: [`Problem`], and the list they are gathered in.
//!
//! A problem never shows a secret (a header's value, a tenant's id), nor a line of the file: `found` is written by code that
//! knows whether the value may be shown. What may not be here: rules.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Whether the configuration is refused for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One thing wrong, or worth knowing, at one place of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// The file as it was named on the command line.
    pub file: Arc<str>,
    /// From 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// From 1, in characters; 0 where the file as a whole is meant.
    pub column: usize,
    /// The dotted path, such as `service[2].hosts[1]` (counted from 0); empty where no key is meant.
    pub key: String,
    pub found: String,
    /// Empty where `found` is a whole message.
    pub expected: String,
    /// What to do, one line or several.
    pub hint: Option<String>,
}

impl Problem {
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// An error about the file as a whole.
    pub(super) fn of_file(file: &str, found: &str, expected: &str, hint: &str) -> Self {
        let (found, expected, hint) = (found.to_owned(), expected.to_owned(), Some(hint.to_owned()));
        Self {
            severity: Severity::Error,
            file: file.into(),
            line: 0,
            column: 0,
            key: String::new(),
            found,
            expected,
            hint,
        }
    }

    /// A warning about a file of the system's.
    pub fn warning_of(file: &str, found: &str, hint: &str) -> Self {
        Self { severity: Severity::Warning, ..Self::of_file(file, found, "", hint) }
    }

    /// Adds what to do about it.
    pub(super) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(match self.severity {
            Severity::Error => ": error: ",
            Severity::Warning => ": warning: ",
        })?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        if self.expected.is_empty() {
            f.write_str(&self.found)?;
        } else {
            write!(f, "found {}, expected {}", self.found, self.expected)?;
        }
        for (n, line) in self.hint.iter().flat_map(|hint| hint.lines()).enumerate() {
            write!(f, "\n    {}{line}", if n == 0 { "hint: " } else { "      " })?;
        }
        Ok(())
    }
}

/// Why a configuration was not taken: at least one of `problems` is an error, the warnings are with them, in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    pub file: PathBuf,
    pub problems: Vec<Problem>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

/// A place in the file: where to point, and the key's dotted path.
#[derive(Debug, Clone)]
pub(super) struct At {
    /// Byte offset into the text.
    pub offset: usize,
    pub key: String,
}

impl At {
    /// The place of the key `name` inside this table, pointing at `offset`.
    pub fn key(&self, name: &str, offset: usize) -> Self {
        let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let name = if bare { name.to_owned() } else { quoted(name) };
        let key = if self.key.is_empty() { name } else { format!("{}.{name}", self.key) };
        Self { offset, key }
    }

    /// The place of an item of this array.
    pub fn item(&self, index: usize, offset: usize) -> Self {
        Self { offset, key: format!("{}[{index}]", self.key) }
    }
}

/// Gathers problems, and turns byte offsets into lines and columns.
pub(super) struct Problems<'t> {
    file: Arc<str>,
    text: &'t str,
    /// Offset of the first byte of each line.
    lines: Vec<usize>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    /// How many are told by their number only.
    untold: usize,
    /// Takes the words of an untold one.
    spare: Problem,
}

/// Errors, and likewise warnings, that are told one by one: nobody reads more, and a hostile file may have a million.
pub(super) const MOST: usize = 1000;

impl<'t> Problems<'t> {
    pub fn new(file: &str, text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(n, _)| n + 1);
        Self {
            file: file.into(),
            text,
            lines: std::iter::once(0).chain(breaks).collect(),
            errors: Vec::new(),
            warnings: Vec::new(),
            untold: 0,
            spare: Problem::of_file(file, "", "", ""),
        }
    }

    pub fn text(&self) -> &'t str {
        self.text
    }

    pub fn error(&mut self, at: &At, found: impl Into<String>, expected: impl Into<String>) -> &mut Problem {
        self.push(Severity::Error, at, found.into(), expected.into())
    }

    pub fn warning(&mut self, at: &At, found: impl Into<String>, expected: impl Into<String>) -> &mut Problem {
        self.push(Severity::Warning, at, found.into(), expected.into())
    }

    /// A problem of the severity that something else decided.
    pub fn say(
        &mut self,
        severity: Severity,
        at: &At,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> &mut Problem {
        self.push(severity, at, found.into(), expected.into())
    }

    /// Takes problems of another file, which come before those of this one.
    pub fn adopt(&mut self, found: Vec<Problem>) {
        for problem in found {
            match problem.severity {
                Severity::Error => self.errors.push(problem),
                Severity::Warning => self.warnings.push(problem),
            }
        }
    }

    pub fn any_error(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The line `offset` stands in, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// The line and column of `offset`, from 1, in characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let start = self.line_start(line);
        (line, self.text.get(start..offset).map_or(1, |head| head.chars().count() + 1))
    }

    /// The offset at which `line` (from 1) begins.
    pub fn line_start(&self, line: usize) -> usize {
        self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// Everything, in file order.
    pub fn into_sorted(self) -> Vec<Problem> {
        let mut all = self.errors;
        all.extend(self.warnings);
        let own = self.file.clone();
        all.sort_by_key(|problem| (problem.file == own, problem.line, problem.column));
        if self.untold > 0 {
            let (file, key) = (self.file, String::new());
            let found = format!("and {} more problems that are not told one by one", self.untold);
            let severity = Severity::Warning;
            all.push(Problem { severity, file, line: 0, column: 0, key, found, expected: String::new(), hint: None });
        }
        all
    }

    fn push(&mut self, severity: Severity, at: &At, found: String, expected: String) -> &mut Problem {
        let position = self.position(at.offset);
        let list = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        if list.len() >= MOST {
            self.untold += 1;
            return &mut self.spare;
        }
        let (line, column) = position;
        let (file, key) = (self.file.clone(), at.key.clone());
        list.push_mut(Problem { severity, file, line, column, key, found, expected, hint: None })
    }
}

/// `text` in quotes, cut to what a line of a terminal carries, control characters escaped.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(SHOWN).collect();
    format!("{head:?}… ({} characters)", text.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_one_line_and_an_indented_hint() {
        let mut problems = Problems::new("sekisho.toml", "a\nポート = 70000\n");
        let at = At { offset: "a\nポート = ".len(), key: "service[2]".into() };
        problems
            .error(&at.key("ports", at.offset).item(0, at.offset), "70000", "a port from 1 to 65535")
            .hint("do\nso");
        let list = problems.into_sorted();
        assert_eq!(
            list.first().map(ToString::to_string).as_deref(),
            Some(
                "sekisho.toml:2:7: error: service[2].ports[0]: found 70000, expected a port from 1 to 65535\n    \
                 hint: do\n          so"
            )
        );
    }

    #[test]
    fn a_flood_is_told_up_to_a_number_and_hides_no_error() {
        let at = At { offset: 0, key: String::new() };
        let mut problems = Problems::new("f", "");
        for _ in 0..MOST + 5 {
            problems.warning(&at, "w", "").hint("h");
        }
        assert!(!problems.any_error());
        problems.error(&at, "e", "");
        assert!(problems.any_error());
        let list = problems.into_sorted();
        assert_eq!((list.len(), list.iter().filter(|problem| problem.is_error()).count()), (MOST + 2, 1));
        let last = list.last().map(ToString::to_string);
        assert_eq!(last.as_deref(), Some("f: warning: and 5 more problems that are not told one by one"));
    }

    #[test]
    fn keys_that_are_not_bare_and_long_texts_are_quoted_and_cut() {
        let root = At { offset: 0, key: String::new() };
        assert_eq!(root.key("resolver", 0).key("a.test", 0).key, "resolver.\"a.test\"");
        assert_eq!(quoted("\u{1b}[31m"), "\"\\u{1b}[31m\"");
        assert_eq!(quoted(&"x".repeat(61)), format!("\"{}\"… (61 characters)", "x".repeat(60)));
    }
}
