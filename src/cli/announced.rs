//! What the vendor's `/changes` tells of a list, in words: beside a host of `diff`, and under what was put in force.

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use time::{Date, OffsetDateTime};

use super::fail;
use crate::catalog::Entry;
use crate::feed::change::{HostChange, Kind};
use crate::feed::changes::Announced;
use crate::feed::endpoints::{Feed, MAX_OCTETS};
use crate::files::regular;

/// An answer that was carried in as a file.
pub(super) fn carried(file: &Path) -> Result<Announced, ExitCode> {
    let shown = file.display();
    let octets = regular(file, MAX_OCTETS as u64).map_err(|error| fail(&format!("{shown}: {error}")))?;
    Announced::parse(&octets).map_err(|refusal| {
        let why = refusal.0.join("\n  ");
        fail(&format!("{shown} is refused whole, and nothing was changed:\n  {why}"))
    })
}

/// UTC, as the vendor's days are taken to be.
pub(super) fn today(now: SystemTime) -> Date {
    OffsetDateTime::from(now).date()
}

/// From which day on what comes is used, and the vendor's word for the change.
pub(super) fn notes(announced: &Announced, change: &HostChange, today: Date) -> Vec<String> {
    let (host, sets) = (change.host.as_str(), change.sets.as_slice());
    let (from, told) = match change.kind {
        Kind::Added | Kind::Widened(_) => (announced.first_use(host, sets), announced.adding(host, sets)),
        Kind::Removed | Kind::Narrowed(_) => (None, announced.removing(host, sets)),
    };
    let impact = told.and_then(|told| told.impact.as_ref()).map(|word| format!("announced as {word}"));
    from.map(|from| format!("from {}", day(from, today))).into_iter().chain(impact).collect()
}

/// Hosts of the entry that the vendor does not use yet, a line for each day.
pub(super) fn not_yet(announced: &Announced, feed: &Feed, entry: &Entry, today: Date) -> String {
    let taken = |host: &&str| entry.parts.iter().flat_map(|part| &part.hosts).any(|known| known.as_str() == *host);
    let line = |(from, hosts): (Date, Vec<&str>)| {
        let hosts: Vec<_> = hosts.into_iter().filter(taken).collect();
        (!hosts.is_empty()).then(|| format!("not in use before {}: {}\n", day(from, today), hosts.join(", ")))
    };
    announced.not_yet(feed, today).into_iter().filter_map(line).collect()
}

fn day(day: Date, today: Date) -> String {
    match (day - today).whole_days() {
        1 => format!("{day} (1 day ahead)"),
        ahead @ 2.. => format!("{day} ({ahead} days ahead)"),
        0 => format!("{day} (today)"),
        _ => day.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;
    use crate::catalog::Template;

    const TOLD: &str = r#"[
      {"id":1,"endpointSetId":12,"disposition":"Change","impact":"AddedUrl","version":"2026110100",
       "add":{"effectiveDate":"20261201","urls":["new.example.com"]}},
      {"id":2,"endpointSetId":12,"disposition":"Change","version":"2026110100","add":{"urls":["when.example.com"]}},
      {"id":3,"endpointSetId":46,"disposition":"Change","impact":"RemovedIpOrUrl","version":"2026110100",
       "remove":{"urls":["gone.example.com"]}},
      {"id":4,"endpointSetId":46,"disposition":"Change","impact":"MovedIpOrUrl","version":"2026110100",
       "remove":{"urls":["moved.example.com"]}},
      {"id":5,"endpointSetId":12,"disposition":"Change","impact":"MovedIpOrUrl","version":"2026110100",
       "add":{"effectiveDate":"20261201","urls":["moved.example.com"]}}
    ]"#;

    #[test]
    fn a_host_is_told_with_its_day_and_the_vendors_word() {
        let announced = Announced::parse(TOLD.as_bytes()).expect("sound");
        let told = |host: &str, kind: Kind, sets: &[u32], today: Date| {
            let host = Template::parse(host).expect("a pattern");
            let change = HostChange { part: "teams".to_owned(), host, kind, sets: sets.to_vec(), reached_by: None };
            notes(&announced, &change, today).join("; ")
        };
        let now = date!(2026 - 11 - 28);
        for (host, kind, sets, today, text) in [
            ("new.example.com", Kind::Added, &[12][..], now, "from 2026-12-01 (3 days ahead); announced as AddedUrl"),
            (
                "new.example.com",
                Kind::Widened(Vec::new()),
                &[12],
                date!(2026 - 11 - 30),
                "from 2026-12-01 (1 day ahead); announced as AddedUrl",
            ),
            (
                "new.example.com",
                Kind::Added,
                &[12],
                date!(2026 - 12 - 01),
                "from 2026-12-01 (today); announced as AddedUrl",
            ),
            ("new.example.com", Kind::Added, &[12], date!(2027 - 01 - 01), "from 2026-12-01; announced as AddedUrl"),
            ("new.example.com", Kind::Added, &[12, 46], now, "announced as AddedUrl"),
            ("new.example.com", Kind::Removed, &[12], now, ""),
            ("when.example.com", Kind::Added, &[12], now, ""),
            ("gone.example.com", Kind::Removed, &[46], now, "announced as RemovedIpOrUrl"),
            ("gone.example.com", Kind::Narrowed(Vec::new()), &[], now, "announced as RemovedIpOrUrl"),
            ("gone.example.com", Kind::Removed, &[12], now, ""),
            ("moved.example.com", Kind::Added, &[12], now, "announced as MovedIpOrUrl"),
        ] {
            assert_eq!(told(host, kind, sets, today), text, "{host} {sets:?} {today}");
        }
    }
}
