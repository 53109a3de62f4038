//! The page of a run: one HTML file that needs nothing else, to be read on a screen or printed and handed in.
//!
//! Words of the run that this program did not choose (names, addresses, sentences of failures) pass [`escape`].

use std::fmt::Write;

use time::OffsetDateTime;

use super::capacity::{Machine, hints};
use super::plot::{Axis, Series, Shape, chart};
use super::summary::Summary;
use super::tally::Second;
use super::{Plan, Scenario, Until, office};

const STYLE: &str = include_str!("report.css");
/// A last second that was shorter than this says little per second, and is left out of the plots.
const SHORTEST: f64 = 0.25;

/// The whole page. `now` is when the run ended.
pub fn page(plan: &Plan, summary: &Summary, machine: Machine, now: OffsetDateTime) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Load test: {} via {}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        summary.scenario, summary.via
    );
    heading(&mut page, plan, summary, now);
    tiles(&mut page, summary);
    plots(&mut page, summary);
    errors(&mut page, summary);
    conditions(&mut page, plan, summary);
    capacity(&mut page, plan, summary, machine);
    page += "</body>\n</html>\n";
    page
}

/// `text` where HTML may not be.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            // A page shows them as nothing, and some are not allowed in HTML at all.
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

fn heading(page: &mut String, plan: &Plan, summary: &Summary, now: OffsetDateTime) {
    let (class, verdict) = match (&summary.invalid, summary.errors.is_empty(), summary.requests) {
        (Some(why), ..) => ("bad", format!("Not valid: {}", escape(why))),
        (None, _, 0) => ("bad", "Nothing succeeded".to_owned()),
        (None, true, _) => ("good", "Ended without errors (エラーなし)".to_owned()),
        (None, false, _) => ("bad", "Ended with errors (エラーあり)".to_owned()),
    };
    let when = now.replace_nanosecond(0).unwrap_or(now);
    let when = when.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
    let _ = write!(
        page,
        "<header>\n<h1>Load test <span lang=\"ja\">負荷試験の結果</span></h1>\n\
         <p class=\"of\">scenario <b>{}</b> via <b>{}</b> · {} → {} · {when} · sekisho {}</p>\n\
         <p class=\"verdict {class}\">{verdict}</p>\n</header>\n",
        summary.scenario,
        summary.via,
        escape(&plan.proxy.to_string()),
        escape(&plan.target.authority()),
        env!("CARGO_PKG_VERSION"),
    );
}

fn tiles(page: &mut String, summary: &Summary) {
    let latency = summary.latency_us;
    let failed: u64 = summary.errors.values().sum();
    let megabits = (summary.bytes_received + summary.bytes_sent) as f64 * 8.0 / 1e6 / summary.seconds.max(1e-9);
    let all = [
        ("Requests per second", "毎秒の要求数", grouped(summary.requests_per_second())),
        ("Median latency", "応答時間 中央値", time_of(latency.p50 as f64)),
        ("99th percentile", "応答時間 99%点", time_of(latency.p99 as f64)),
        ("Longest", "応答時間 最大", time_of(latency.max as f64)),
        ("Content, Mbit/s", "転送量", grouped(megabits)),
        ("Errors", "エラー数", grouped(failed as f64)),
    ];
    *page += "<section class=\"tiles\">\n";
    for (name, japanese, figure) in all {
        let class = if name == "Errors" && failed > 0 { " class=\"bad\"" } else { "" };
        let _ =
            writeln!(page, "<div><b{class}>{figure}</b><span>{name}</span><span lang=\"ja\">{japanese}</span></div>");
    }
    *page += "</section>\n";
}

fn plots(page: &mut String, summary: &Summary) {
    if summary.curve.len() > 1 {
        section(page, "Latency by percentile", "応答時間の分布", &latency(summary));
    }
    let seconds: Vec<&Second> = match summary.per_second.as_slice() {
        [all @ .., last] if last.seconds < SHORTEST && !all.is_empty() => all.iter().collect(),
        all => all.iter().collect(),
    };
    if seconds.is_empty() {
        return;
    }
    let x = || Axis::time(seconds.last().map_or(1.0, |second| second.at), "seconds from the start (経過秒)");
    let each = |value: &dyn Fn(&Second) -> f64| -> Vec<(f64, f64)> {
        seconds.iter().map(|second| (second.at, value(second))).collect()
    };
    let most = |points: &[(f64, f64)]| points.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let requests = each(&|second| second.requests as f64 / second.seconds.max(1e-9));
    let y = Axis::linear(most(&requests), "requests per second", grouped);
    let series = Series { name: "", class: "a", shape: Shape::Line, points: requests };
    section(page, "Throughput over time", "スループットの推移", &chart("Throughput over time", &x(), &y, &[series]));
    let (p50, p99) = (each(&|second| second.p50_us as f64), each(&|second| second.p99_us as f64));
    let least = p50.iter().map(|(_, value)| *value).filter(|value| *value > 0.0).fold(f64::MAX, f64::min);
    if least < f64::MAX {
        let y = Axis::logarithmic(least, most(&p99), "latency", time_of);
        let series = [
            Series { name: "p50", class: "a", shape: Shape::Line, points: p50 },
            Series { name: "p99", class: "b", shape: Shape::Line, points: p99 },
        ];
        section(page, "Latency over time", "応答時間の推移", &chart("Latency over time", &x(), &y, &series));
    }
    let failed = each(&|second| second.errors as f64);
    if failed.iter().any(|(_, count)| *count > 0.0) {
        let y = Axis::linear(most(&failed), "errors", grouped);
        let series = Series { name: "", class: "c", shape: Shape::Bars, points: failed };
        section(page, "Errors over time", "エラーの推移", &chart("Errors over time", &x(), &y, &[series]));
    }
}

fn latency(summary: &Summary) -> String {
    let points: Vec<(f64, f64)> =
        summary.curve.iter().map(|(share, latency)| (1.0 / (1.0 - share), (*latency).max(1) as f64)).collect();
    let least = points.first().map_or(1.0, |(_, latency)| *latency);
    let most = points.last().map_or(1.0, |(_, latency)| *latency);
    let x = Axis::percentiles(
        summary.curve.last().map_or(0.9, |(share, _)| *share),
        "share of the requests that took no longer",
    );
    let y = Axis::logarithmic(least, most, "latency", time_of);
    let series = Series { name: "", class: "a", shape: Shape::Line, points };
    chart("Latency by percentile", &x, &y, &[series])
}

fn section(page: &mut String, title: &str, japanese: &str, inside: &str) {
    let _ = write!(page, "<section>\n<h2>{title} <span lang=\"ja\">{japanese}</span></h2>\n{inside}</section>\n");
}

fn errors(page: &mut String, summary: &Summary) {
    let inside = if summary.errors.is_empty() {
        "<p>None.</p>\n".to_owned()
    } else {
        let mut table = "<table>\n<tr><th>kind</th><th>count</th><th>the first of them</th></tr>\n".to_owned();
        for (kind, count) in &summary.errors {
            let first = summary.firsts.get(kind).map_or("", String::as_str);
            let _ = writeln!(
                table,
                "<tr><td><code>{}</code></td><td class=\"figure\">{count}</td><td>{}</td></tr>",
                escape(kind),
                escape(first)
            );
        }
        table + "</table>\n"
    };
    section(page, "Errors", "エラーの種類", &inside);
}

fn conditions(page: &mut String, plan: &Plan, summary: &Summary) {
    let mut table = "<table>\n".to_owned();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(table, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value));
    };
    row("proxy", format!("{} ({})", plan.proxy, summary.via));
    row("target", format!("https://{}", plan.target.authority()));
    row("connections", format!("{} at a time, {} opened", plan.connections, summary.connections));
    row(
        "loop",
        match plan.rate {
            Some(rate) => format!(
                "open: {rate} requests per second are meant to begin, at random moments fixed beforehand; latency counts from these"
            ),
            None if plan.scenario == Scenario::Office => "open: each client by its own clock".to_owned(),
            None => "closed: a connection asks again as soon as it was answered".to_owned(),
        },
    );
    match plan.scenario {
        Scenario::H2 => row("streams", format!("{} on each connection", plan.streams)),
        Scenario::Bulk => row("size", format!("{} octets", plan.size)),
        Scenario::Idle => row("held", format!("{:?}, then one request on each connection", plan.hold)),
        Scenario::Office => {
            for role in &office::ROLES {
                row(
                    role.name,
                    format!(
                        "{} % of the clients, every {} s on average: {} ({})",
                        role.percent, role.every, role.act, role.why
                    ),
                );
            }
        }
        Scenario::New | Scenario::H1 | Scenario::Refused => {}
    }
    row(
        "end",
        match plan.until {
            Until::Requests(requests) => format!("after {requests} requests"),
            Until::Elapsed(elapsed) => format!("after {elapsed:?}"),
        },
    );
    row(
        "time",
        format!("{:.2} s, and {:.2} s to open connections beforehand", summary.seconds, summary.opening_seconds),
    );
    row("content", format!("{} octets received, {} sent", summary.bytes_received, summary.bytes_sent));
    row("TLS", "1.3, X25519, no resumption".to_owned());
    row(
        "generator",
        format!("{} threads, {:.1} s of CPU time", summary.generator_threads, summary.generator_cpu_seconds),
    );
    if let Some(lag) = summary.generator_lag_us {
        row("generator late by", format!("p50 {} µs, p99 {} µs, at most {} µs", lag.p50, lag.p99, lag.max));
    }
    table += "</table>\n";
    section(page, "Conditions", "試験条件", &table);
}

fn capacity(page: &mut String, plan: &Plan, summary: &Summary, machine: Machine) {
    let mut inside = "<p>Reckoned from the limits of the machine this tool ran on, and from the run. These are estimates, not \
        measurements; the proxy's machine may have other limits. <span lang=\"ja\">以下は試験端末の設定値と本試験から算出した\
        推定値であり、実測値ではありません。</span></p>\n<table>\n\
        <tr><th>estimate (推定)</th><th>figure</th><th>formula</th></tr>\n"
        .to_owned();
    for hint in hints(machine, plan, summary) {
        let _ = writeln!(
            inside,
            "<tr><td>{}<br><span lang=\"ja\">{}</span></td><td class=\"figure\">{}</td><td>{}</td></tr>",
            escape(&hint.what),
            hint.japanese,
            escape(&hint.figure),
            escape(&hint.formula)
        );
    }
    inside += "</table>\n";
    section(page, "Capacity, estimated", "容量の目安(推定)", &inside);
}

/// Three significant figures above one, with commas.
fn grouped(value: f64) -> String {
    if value > 0.0 && value < 10.0 {
        let text = format!("{value:.2}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn time_of(microseconds: f64) -> String {
    let (value, unit) = match microseconds {
        us if us < 1_000.0 => (us, "µs"),
        us if us < 1_000_000.0 => (us / 1_000.0, "ms"),
        us => (us / 1_000_000.0, "s"),
    };
    let text = if value < 10.0 {
        format!("{value:.2}")
    } else if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::load::tally::Percentiles;
    use crate::load::{Target, Via};

    fn plan() -> Plan {
        Plan {
            proxy: "127.0.0.1:8080".parse().expect("an address"),
            target: Target::parse("https://load.test:8443").expect("a target"),
            via: Via::Connect,
            scenario: Scenario::H1,
            until: Until::Elapsed(Duration::from_secs(2)),
            rate: Some(500.0),
            connections: 8,
            streams: 10,
            size: 1,
            hold: Duration::ZERO,
            client_addresses: Vec::new(),
            roots: Vec::new(),
        }
    }

    fn summary() -> Summary {
        let second = |at: f64, seconds: f64, requests: u64| Second {
            at,
            seconds,
            requests,
            errors: requests / 100,
            bytes_received: 1_300,
            bytes_sent: 0,
            p50_us: 150,
            p99_us: 900,
        };
        let latency_us = Percentiles { p50: 150, p90: 400, p99: 900, p999: 1_200, max: 1_500 };
        Summary {
            scenario: "h1",
            via: "connect",
            requests: 1_000,
            errors: BTreeMap::from([("status_503".into(), 9)]),
            seconds: 2.001,
            bytes_received: 13_000,
            bytes_sent: 0,
            latency_us,
            connections: 8,
            per_second: vec![second(1.0, 1.0, 500), second(2.0, 1.0, 500), second(2.001, 0.001, 77)],
            opening_seconds: 0.1,
            rate: Some(500.0),
            generator_lag_us: Some(latency_us),
            generator_threads: 1,
            generator_cpu_seconds: 0.3,
            invalid: None,
            firsts: BTreeMap::from([("status_503".into(), "<script>alert('&\"')</script>\u{7}".to_owned())]),
            curve: vec![(0.0, 90), (0.5, 150), (0.99, 900)],
        }
    }

    fn made() -> String {
        page(&plan(), &summary(), Machine { ports: 28_232, descriptors: 20_000 }, OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn nothing_of_a_failure_is_markup() {
        let page = made();
        assert!(page.contains("&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt; </td>"), "{page}");
        assert!(!page.contains("<script"), "no script of its own either");
        assert_eq!(escape("a\r\n\u{0}b\u{85}"), "a   b ");
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let page = made();
        for outside in ["src=", "href=", "url(", "@import", "<link", "<iframe"] {
            assert!(!page.contains(outside), "{outside}");
        }
        let addresses: Vec<_> = page.matches("http://").collect();
        assert_eq!(addresses.len(), page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
        for (open, close) in [("<section", "</section>"), ("<svg", "</svg>"), ("<table", "</table>"), ("<tr", "</tr>")]
        {
            assert_eq!(page.matches(open).count(), page.matches(close).count(), "{open}");
        }
    }

    #[test]
    fn every_part_is_there() {
        let page = made();
        for part in
            ["負荷試験の結果", "Latency by percentile", "スループットの推移", "エラーの推移", "試験条件", "推定値"]
        {
            assert!(page.contains(part), "{part}");
        }
        for figure in ["150 µs", "900 µs", "28232", "6581", "4705", "status_503"] {
            assert!(page.contains(figure), "{figure}");
        }
        assert!(!page.contains("77,000"), "a second of a millisecond says nothing of requests per second");
    }

    #[test]
    fn figures_are_short() {
        for (value, text) in
            [(0.0, "0"), (1.0, "1"), (2.456, "2.46"), (12.4, "12"), (1_234.5, "1,234"), (1_234_567.0, "1,234,567")]
        {
            assert_eq!(grouped(value), text);
        }
        for (value, text) in
            [(1.0, "1 µs"), (999.0, "999 µs"), (1_500.0, "1.5 ms"), (99_900.0, "99.9 ms"), (2_000_000.0, "2 s")]
        {
            assert_eq!(time_of(value), text);
        }
    }
}
