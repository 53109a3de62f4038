use std::fmt::Write as _;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::SystemTime;

use crate::admit::{Quotas, Rate};
use crate::config::{self, Scope, show_duration};
use crate::load::office::ROLES;
use crate::pressure::Ceiling;
use crate::reason::Reason;
use crate::record::TABLE;
use crate::reply::{Manner, http_answer, manner};

const OPERATIONS: &str = include_str!("operations.rs");
const LOAD: &str = include_str!("load.rs");
const RECORD: &str = include_str!("record.rs");

/// The cells of the rows of the one table of `page` whose head is `head`.
fn rows<'a>(page: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let below = page.split_once(&format!("//! {head}\n")).expect(head).1;
    let table = below.lines().skip(1).map_while(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"));
    table.map(|row| row.split(" | ").collect()).collect()
}

#[test]
fn the_page_of_the_record_is_the_table_of_its_fields() {
    let mut table = String::from("//! | field | type | meaning |\n//! |---|---|---|\n");
    for field in TABLE {
        writeln!(table, "//! | `{}` | {} | {} |", field.key, field.kind, field.meaning).expect("a String");
    }
    assert!(RECORD.contains(&table), "src/manual/record.rs should hold this table:\n{table}");
}

#[test]
fn the_page_of_operations_has_every_reason_with_its_answers() {
    let rows = rows(OPERATIONS, "| reason | status | TLS | meaning | what to do |");
    assert_eq!(rows.len(), Reason::ALL.len());
    for (row, reason) in rows.iter().zip(Reason::ALL) {
        let answer = http_answer(*reason);
        let tls = match manner(*reason) {
            Manner::Alert(description) => format!("alert {description}"),
            Manner::Close => "close".to_owned(),
        };
        let expected = [format!("`{reason}`"), format!("{} {}", answer.status, answer.error), tls];
        assert_eq!(row.get(..3).expect("three cells"), expected, "{reason}");
        assert_eq!(row.len(), 5, "{reason}");
    }
}

#[test]
fn the_page_of_operations_has_the_defaults_of_the_configuration() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("sekisho.toml");
    std::fs::write(&file, "[[listener]]\naddress = \"127.0.0.1:8080\"\n").expect("written");
    let config = config::load(&file, Scope::WithoutIssuingCa, SystemTime::now()).expect("loads");
    // Of all, and of each client: a limit without a default is one there is none of.
    let sections = [("limits", &config.limits.all), ("limits.per_client", &config.limits.per_client)];
    let mut limits = Vec::new();
    for (section, quotas) in sections {
        let shown = config::quotas_shown(quotas);
        for key in config::quotas_shown(&every_quota()).into_iter().map(|(key, _)| key) {
            let default = shown.iter().find(|(shown, _)| *shown == key).map(|(_, value)| value.clone());
            limits.push((format!("{section}.{key}"), default.unwrap_or_else(|| "none".to_owned())));
        }
    }
    limits.push(("limits.ipv6_prefix".to_owned(), config.limits.ipv6_prefix.to_string()));
    let memory = if config.pressure.memory == Ceiling::OfMachine { "3/4" } else { "another" };
    limits.insert(1, ("limits.memory".to_owned(), memory.to_owned()));
    let expected = [
        ("timeouts.request_head", show_duration(config.identify.request_head)),
        ("timeouts.client_hello", show_duration(config.identify.client_hello)),
        ("timeouts.client_handshake", show_duration(config.inspect.client_handshake)),
        ("timeouts.upstream_handshake", show_duration(config.verify.handshake)),
        ("timeouts.dns", show_duration(config.resolver.timeout)),
        ("timeouts.upstream_response", show_duration(config.inspect.deadlines.response)),
        ("timeouts.body_progress", show_duration(config.inspect.deadlines.progress)),
        ("timeouts.tunnel_idle", show_duration(config.tunnel.idle)),
        ("timeouts.tunnel_half_closed", show_duration(config.tunnel.half_closed)),
        ("timeouts.inspected_idle", show_duration(config.inspect.deadlines.idle)),
        ("timeouts.connection_life", show_duration(config.connection_life.unwrap_or_default())),
        ("timeouts.drain", show_duration(config.drain)),
        ("upstream.connect_timeout", show_duration(config.dial.timeout)),
        ("upstream.verify_cache", show_duration(config.verify.cache)),
    ];
    let expected = limits.into_iter().chain(expected.map(|(key, default)| (key.to_owned(), default)));
    let rows = rows(OPERATIONS, "| key | default | bounds |");
    let rows: Vec<_> = rows.iter().map(|row| row.get(..2).expect("two cells").join(" | ")).collect();
    let expected: Vec<_> = expected.map(|(key, default)| format!("`{key}` | {default}")).collect();
    assert_eq!(rows, expected);
}

fn every_quota() -> Quotas {
    let rate = Some(Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::MIN });
    Quotas {
        connections: Some(1),
        new_connections: rate,
        requests: rate,
        upload: Some(NonZeroU64::MIN),
        download: Some(NonZeroU64::MIN),
        handshakes: Some(1),
        leaf_mints: rate,
        dns_lookups: Some(1),
    }
}

#[test]
fn the_page_of_the_load_tool_has_the_office_day_of_the_code() {
    let rows = rows(LOAD, "| role | share | every | what | stands for |");
    assert_eq!(rows.len(), ROLES.len());
    for (row, role) in rows.iter().zip(&ROLES) {
        let (share, every) = (format!("{} %", role.percent), format!("{} s", role.every));
        assert_eq!(row.as_slice(), [role.name, &share, &every, &role.act.to_string(), role.why]);
    }
}

/// `const NAME: type = 8_192;` somewhere in the file: the text behind the first number of the definition is the bound.
#[test]
fn the_page_of_operations_has_the_bounds_of_the_code() {
    let rows = rows(OPERATIONS, "| what | bound | constant |");
    assert!(rows.len() > 20, "{}", rows.len());
    for row in rows {
        let [what, bound, place] = row.as_slice() else { panic!("{row:?}") };
        let (file, name) = place.strip_prefix('`').and_then(|rest| rest.split_once("` ")).expect(what);
        let text = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).expect(file);
        let start = format!("const {name}: ");
        let line = text.lines().find_map(|line| line.split_once(&start)).map(|(_, definition)| definition);
        let value = line.and_then(|line| line.split_once(" = ")).expect(place).1;
        let value = value.strip_prefix("NonZeroUsize::new(").unwrap_or(value).replace('_', "");
        let value = value.split([')', ';']).next().expect("a piece");
        assert_eq!(value, *bound, "{what}: {place}");
    }
}

/// README: its TOML is a configuration that loads, and both languages show the same one.
#[test]
fn the_configuration_of_the_readme_loads() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<_> = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```")).collect();
    assert_eq!(blocks.len(), 1, "one block, to which both languages refer");
    for (block, _) in blocks {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("sekisho.toml");
        std::fs::write(&file, block).expect("written");
        let config = config::load(&file, Scope::WithoutIssuingCa, SystemTime::now());
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        assert!(config.inspected().count() > 0, "an inspected service is shown");
    }
}
