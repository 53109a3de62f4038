//! What `quickstart` tells of its three requests: each as the client saw it and as the record has it, beside what was expected.
//!
//! What may not be here: anything that is sent (`trial`).

use std::fmt::Write as _;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use super::trial::{Answer, Visit, VisitError, Visited};
use crate::files::open_regular;

/// Octets of the record that three requests cannot fill.
const MAX_SINCE: u64 = 16 << 20;

/// The header field of the inspected service in quickstart's own file, its value there, and what the client sends in its place.
pub(super) const TENANT: (&str, &str) = ("X-Demo-Allowed-Tenant", "city.example.lg.jp");
pub(super) const CLIENTS_OWN: &str = "a-tenant-of-my-own";

/// How a request comes out with quickstart's own file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Tunnelled,
    Inspected,
    Refused,
}

impl Expected {
    fn title(self) -> &'static str {
        match self {
            Self::Tunnelled => "Tunnelled: passed on unopened  (トンネル: 開かずに中継)",
            Self::Inspected => "Inspected: opened, with a tenant header set  (検査: テナントヘッダーを付加)",
            Self::Refused => "Refused: in no [[service]]  (拒否: 許可されていない宛先)",
        }
    }

    /// `event.action` of the record that tells most.
    fn action(self) -> &'static str {
        match self {
            Self::Inspected => "request",
            Self::Tunnelled | Self::Refused => "connection",
        }
    }
}

/// A terminal line of the record, as far as it is shown.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct RecordLine {
    #[serde(rename = "source.port")]
    port: Option<u16>,
    #[serde(rename = "event.action")]
    action: String,
    #[serde(rename = "event.outcome")]
    outcome: Option<String>,
    #[serde(rename = "event.reason")]
    reason: Option<String>,
    #[serde(rename = "rule.name")]
    rule: Option<String>,
    #[serde(rename = "sekisho.mode")]
    mode: Option<String>,
    #[serde(rename = "sekisho.headers_set", default)]
    headers_set: Vec<String>,
}

/// The lines of the record at `path` behind its first `from` octets. What is not a line of the record is left out.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn lines_since(path: &Path, from: u64) -> io::Result<Vec<RecordLine>> {
    let mut text = String::new();
    let mut file = open_regular(path)?;
    file.seek(SeekFrom::Start(from))?;
    file.take(MAX_SINCE).read_to_string(&mut text)?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// What is shown of one request.
pub(super) struct Outcome {
    title: &'static str,
    rows: Vec<(&'static str, String)>,
    /// What was not as expected.
    pub faults: Vec<String>,
}

impl Outcome {
    /// Puts together what the client saw and what the record says.
    pub fn of(
        expected: Expected,
        visit: &Visit<'_>,
        seen: &Result<Visited, VisitError>,
        record: &[RecordLine],
    ) -> Self {
        let mut outcome = Self { title: expected.title(), rows: Vec::new(), faults: Vec::new() };
        outcome.row("request", format!("GET {}", visit.url()));
        match seen {
            Ok(visited) => {
                outcome.answer(expected, &visited.answer);
                outcome.record(expected, visited.local_port, record);
            }
            Err(error) => {
                outcome.row("answer", "none".to_owned());
                outcome.fault(error.to_string());
            }
        }
        outcome
    }

    fn answer(&mut self, expected: Expected, answer: &Answer) {
        match answer {
            Answer::Refused { status, proxy_status } => {
                self.row("answer", format!("{status}, Proxy-Status: {proxy_status}"));
                if expected != Expected::Refused {
                    self.fault("it was refused".to_owned());
                } else if *status != 403 {
                    self.fault(format!("the refusal has status {status} and not 403"));
                }
            }
            Answer::Served { status, issuer, echo } => {
                self.row("answer", format!("{status}, certificate issued by: {issuer}"));
                if *status != 200 {
                    self.fault(format!("the demo cloud's status is {status} and not 200"));
                }
                let (name, value) = TENANT;
                let arrived = echo.headers.get(&name.to_ascii_lowercase());
                match expected {
                    Expected::Tunnelled => {
                        if arrived.is_some() {
                            self.fault(format!("{name} was set in a tunnel"));
                        }
                    }
                    Expected::Inspected => {
                        self.row("header", format!("the client sent {name}: {CLIENTS_OWN}"));
                        self.row("", format!("the cloud got   {name}: {}", arrived.map_or("nothing", String::as_str)));
                        if arrived.map(String::as_str) != Some(value) {
                            self.fault(format!("{name} did not arrive as {value}"));
                        }
                    }
                    Expected::Refused => self.fault("it was not refused".to_owned()),
                }
            }
        }
    }

    fn record(&mut self, expected: Expected, port: u16, record: &[RecordLine]) {
        let own = || record.iter().filter(|line| line.port == Some(port) && line.outcome.is_some());
        let found = own().find(|line| line.action == expected.action()).or_else(|| own().next());
        let Some(line) = found else {
            self.row("record", "nothing".to_owned());
            return self.fault("the record has no line of it".to_owned());
        };
        self.row("record", line.to_string());
        let (outcome, mode) = match expected {
            Expected::Tunnelled => ("allowed", Some("tunnel")),
            Expected::Inspected => ("allowed", Some("inspect")),
            Expected::Refused => ("denied", None),
        };
        if line.outcome.as_deref() != Some(outcome) || line.mode.as_deref() != mode {
            let mode = mode.map(|mode| format!(" in mode {mode}")).unwrap_or_default();
            self.fault(format!("the record does not say {outcome}{mode}"));
        }
        if expected == Expected::Inspected && !line.headers_set.iter().any(|name| name.eq_ignore_ascii_case(TENANT.0)) {
            self.fault(format!("the record does not say that {} was set", TENANT.0));
        }
    }

    fn row(&mut self, label: &'static str, text: String) {
        self.rows.push((label, text));
    }

    fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    /// The block for the screen. `bold` are the codes round what stands out, empty without colours.
    pub fn to_text(&self, number: usize, bold: (&str, &str)) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}{number}. {}{}", bold.0, self.title, bold.1);
        for (label, row) in &self.rows {
            let _ = writeln!(text, "   {label:<9}{row}");
        }
        for fault in &self.faults {
            let _ = writeln!(text, "   {}NOT AS EXPECTED: {fault}{}", bold.0, bold.1);
        }
        text
    }
}

impl std::fmt::Display for RecordLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.outcome.as_deref().unwrap_or("under way"))?;
        let rule = self.rule.as_deref().map(|rule| format!("rule \"{rule}\""));
        let mode = self.mode.as_deref().map(|mode| format!("mode {mode}"));
        let reason = self.reason.as_deref().map(|reason| format!("reason {reason}"));
        let set = (!self.headers_set.is_empty()).then(|| format!("set {}", self.headers_set.join(", ")));
        for part in [reason, mode, rule, set].into_iter().flatten() {
            write!(f, ", {part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::demo::Echo;

    const PORT: u16 = 40_000;

    fn served(status: u16, tenant: Option<&str>) -> Answer {
        let headers = tenant.map(|value| (TENANT.0.to_ascii_lowercase(), value.to_owned()));
        let [service, host, protocol, method, path] = Default::default();
        let headers = BTreeMap::from_iter(headers);
        Answer::Served {
            status,
            issuer: "CA".to_owned(),
            echo: Echo { service, host, protocol, method, path, headers },
        }
    }

    fn refused(status: u16) -> Answer {
        Answer::Refused { status, proxy_status: "sekisho; error=x".to_owned() }
    }

    fn line(action: &str, outcome: &str, mode: Option<&str>, headers_set: &[&str]) -> RecordLine {
        RecordLine {
            port: Some(PORT),
            action: action.to_owned(),
            outcome: Some(outcome.to_owned()),
            mode: mode.map(str::to_owned),
            headers_set: headers_set.iter().map(|name| (*name).to_owned()).collect(),
            ..RecordLine::default()
        }
    }

    fn faults(expected: Expected, answer: Answer, record: &[RecordLine]) -> usize {
        let visit =
            Visit { proxy: ([127, 0, 0, 1], 1).into(), host: "x.demo.test", port: 2, root: Path::new(""), field: None };
        Outcome::of(expected, &visit, &Ok(Visited { local_port: PORT, answer }), record).faults.len()
    }

    #[test]
    fn only_what_was_expected_passes() {
        use Expected as E;
        let tunnel = || vec![line("connection", "allowed", Some("tunnel"), &[])];
        let inspect = || vec![line("request", "allowed", Some("inspect"), &["x-demo-allowed-tenant"])];
        let denied = || vec![line("connection", "denied", None, &[])];
        let tenant = Some(TENANT.1);
        for (expected, answer, record, count) in [
            (E::Tunnelled, served(200, None), tunnel(), 0),
            (E::Tunnelled, served(503, None), tunnel(), 1),
            (E::Tunnelled, served(200, tenant), tunnel(), 1),
            (E::Tunnelled, served(200, None), vec![], 1),
            (E::Tunnelled, served(200, None), inspect(), 1),
            (E::Tunnelled, refused(403), denied(), 2),
            (E::Inspected, served(200, tenant), inspect(), 0),
            (E::Inspected, served(200, Some(CLIENTS_OWN)), inspect(), 1),
            (E::Inspected, served(200, Some("city.example.lg.jp, a-tenant-of-my-own")), inspect(), 1),
            (E::Inspected, served(200, None), inspect(), 1),
            (E::Inspected, served(200, tenant), vec![line("request", "allowed", Some("inspect"), &[])], 1),
            (E::Inspected, served(200, tenant), tunnel(), 2),
            (E::Refused, refused(403), denied(), 0),
            (E::Refused, refused(502), denied(), 1),
            (E::Refused, served(200, None), tunnel(), 2),
        ] {
            let label = format!("{expected:?} {count}");
            assert_eq!(faults(expected, answer, &record), count, "{label}");
        }
        let other_port = vec![RecordLine { port: Some(PORT + 1), ..denied().remove(0) }];
        assert_eq!(faults(E::Refused, refused(403), &other_port), 1);
    }

    #[test]
    fn lines_of_other_kinds_are_left_out() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let old = "{\"event.action\":\"connection\",\"event.outcome\":\"denied\"}\n";
        let text = format!(
            "{old}{{\"event.action\":\"request\",\"event.outcome\":\"allowed\",\"source.port\":7,\"sekisho.headers_set\":[\"a\"],\"more\":1}}\n\
             {{\"torn"
        );
        std::fs::write(file.path(), text).expect("write");
        let lines = lines_since(file.path(), old.len() as u64).expect("lines");
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].to_string(), "allowed, set a");
        assert_eq!(lines[0].port, Some(7));
    }
}
