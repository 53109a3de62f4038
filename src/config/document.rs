//! The text as TOML: its syntax errors and duplicate keys as problems, and the tree of values the reader walks.
//!
//! What may not be here: knowledge of any key.

use toml::de::{DeTable, DeValue, Error};

use super::problem::{At, Problems};

/// The tree of `text`, with every syntax error and duplicate key added to `problems`.
///
/// `None` where the syntax is broken: what could still be read of such a file would only add follow-up errors. A duplicate
/// key leaves the tree whole (the first one holds), so the rest is still judged.
pub(super) fn parse<'t>(problems: &mut Problems<'t>) -> Option<DeTable<'t>> {
    let (root, errors) = DeTable::parse_recoverable(problems.text());
    let root = root.into_inner();
    let (duplicates, broken): (Vec<_>, Vec<_>) = errors.into_iter().partition(|e| e.message() == "duplicate key");
    for error in &duplicates {
        duplicate(&root, error, problems);
    }
    let mut last_line = 0;
    for error in &broken {
        // Recovery stumbles several times over one mistake: the first of a line is the one to repair.
        let offset = offset(error);
        let line = problems.line(offset);
        if line != last_line {
            last_line = line;
            let at = At { offset, key: String::new() };
            problems
                .error(&at, format!("broken TOML ({})", error.message()), String::new())
                .hint(advice(error.message()));
        }
    }
    broken.is_empty().then_some(root)
}

fn offset(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

fn advice(message: &str) -> &'static str {
    match message {
        "string values must be quoted" => "texts stand in quotes: key = \"value\"; durations too: \"30s\"",
        "unclosed array" => "the list that begins here has no closing ]",
        "missing comma between array elements" => "a comma is missing between two items of a list",
        "invalid unquoted key" => "a key with dots or other characters stands in quotes: \"allowed.test\" = […]",
        _ if message.starts_with("invalid date") => "a day of the calendar is written 2027-03-31, without quotes",
        _ => "the file may be cut short, or a quote, bracket or comma is missing on this line or before it",
    }
}

fn duplicate(root: &DeTable<'_>, error: &Error, problems: &mut Problems<'_>) {
    let span = error.span().unwrap_or(0..0);
    let text = problems.text();
    let name = text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\'']);
    let nowhere = At { offset: span.start, key: String::new() };
    let mut home = (0, nowhere.clone());
    innermost(root, &nowhere, span.start, text, &mut home);
    let (header, home) = home;
    // In a repeated `[table]` header the innermost table is the repeated one itself.
    let is_header = header < span.start && text.get(header..span.start).is_some_and(|head| !head.contains(['\n', '{']));
    let at = if is_header && header > 0 { home } else { home.key(name, span.start) };
    let at = At { offset: span.start, ..at };
    problems.error(&at, "the same key a second time", "each key once in its table");
}

/// Finds the table whose header is the last before `offset`, or whose braces enclose it.
fn innermost(table: &DeTable<'_>, at: &At, offset: usize, text: &str, home: &mut (usize, At)) {
    let mut visit = |value: &DeValue<'_>, span: std::ops::Range<usize>, at: At| {
        let DeValue::Table(inner) = value else { return };
        let holds = match text.as_bytes().get(span.start) {
            Some(b'[') => true,
            Some(b'{') => span.contains(&offset),
            _ => false,
        };
        if holds && span.start <= offset && span.start >= home.0 {
            *home = (span.start, At { offset, key: at.key.clone() });
        }
        innermost(inner, &at, offset, text, home);
    };
    for (name, value) in table {
        let at = at.key(name.get_ref(), offset);
        match value.get_ref() {
            DeValue::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    visit(item.get_ref(), item.span(), at.item(n, offset));
                }
            }
            other => visit(other, value.span(), at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let mut problems = Problems::new("f", text);
        let _tree = parse(&mut problems);
        problems.into_sorted().into_iter().map(|p| format!("{}:{} {}", p.line, p.column, p.key)).collect()
    }

    #[test]
    fn l05_a_duplicate_key_is_named_with_its_table() {
        for (text, expected) in [
            ("a = 1\na = 2\n", "2:1 a"),
            ("[t]\na = 1\na = 2\n", "3:1 t.a"),
            ("[[s]]\n[[s]]\n[s.t]\nb = 1\nb = 2\n", "5:1 s[1].t.b"),
            ("[t]\n[u]\n[t]\n", "3:2 t"),
            ("[t]\nx = { a = 1, a = 2 }\n", "2:14 t.x.a"),
            ("[t]\nx = { a = 1 }\nx = 1\n", "3:1 t.x"),
            ("[t]\n\"a b\" = 1\n\"a b\" = 2\n", "3:1 t.\"a b\""),
        ] {
            assert_eq!(shown(text), [expected], "{text}");
        }
    }

    #[test]
    fn one_syntax_error_a_line() {
        assert_eq!(shown("a = \nb = [1,, 2]\nc = \"x\n"), ["1:5 ", "2:8 ", "3:7 "]);
    }
}
