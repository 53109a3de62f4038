//! `sekisho prove`: one tenant proof, as a table that can be filed.

use std::process::ExitCode;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{ConfigFile, DONE, FAILED, fail, say};
use crate::config::{Config, Scope};
use crate::connection::Live;
use crate::proof::{self, Proof, Row, Verdict};
use crate::record::Recorder;
use crate::telemetry;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
}

pub(super) const HELP: &str = "\
Asks for every inspected host through this program's own policy, interception and headers, over HTTP/1.1 and HTTP/2, with
hostile copies of the headers, and judges what arrives at an origin on loopback that stands in for each host. It touches no
network but loopback, needs no running service and prints no values.

Exit code: 0 every field arrived as it is due, 1 it did not, or there is nothing to prove.

Examples:
  sekisho prove --config /etc/sekisho/sekisho.toml
  sekisho prove --json > proof-$(date +%F).json";

pub(super) fn prove(arguments: &Arguments) -> ExitCode {
    telemetry::init("error");
    let config = match arguments.config.load(Scope::Full) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let site = config.site.name.clone();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads: {error}")),
    };
    let file = config.file.display().to_string();
    let proof = match runtime.block_on(once(config)) {
        Ok(proof) => proof,
        Err(error) => return fail(&error),
    };
    say(&if arguments.json { in_json(&proof, &site, &file) } else { in_text(&proof, &site, &file) });
    if proof.verdict() == Verdict::Holds { DONE.into() } else { FAILED.into() }
}

async fn once(config: Config) -> Result<Proof, String> {
    let (recorder, _witness) = Recorder::nowhere().map_err(|error| error.to_string())?;
    proof::prove(&Live::new(config, None), recorder).await.map_err(|error| error.to_string())
}

fn at(proof: &Proof) -> String {
    let at = OffsetDateTime::from(proof.at).replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_default()
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Nothing => "nothing to prove",
        Verdict::Holds => "holds",
        Verdict::Silent => "not proven",
        Verdict::Wrong => "WRONG",
    }
}

fn in_text(proof: &Proof, site: &str, file: &str) -> String {
    let mut lines = vec![
        "Tenant proof (テナント制御の確認)".to_owned(),
        String::new(),
        format!("site           {site}"),
        format!("configuration  {file}, revision {}", proof.revision),
        format!("program        sekisho {}", env!("CARGO_PKG_VERSION")),
        format!("at             {}", at(proof)),
        String::new(),
    ];
    let wide = |text: fn(&Row) -> usize, least: usize| proof.rows.iter().map(text).max().unwrap_or(0).max(least);
    let (hosts, services) = (wide(|row| host(row).len(), 4), wide(|row| row.service.chars().count(), 7));
    if !proof.rows.is_empty() {
        lines.push(format!("{:services$}  {:hosts$}  protocol  result", "service", "host"));
    }
    for row in &proof.rows {
        let head = format!("{:services$}  {:hosts$}  {:8}  ", row.service, host(row), row.protocol.to_string());
        let indent = " ".repeat(services + hosts + 14);
        let results = if row.findings.is_empty() {
            vec![as_due(row)]
        } else {
            row.findings.iter().map(|finding| format!("WRONG: {finding}")).collect()
        };
        for (number, result) in results.iter().enumerate() {
            lines.push(format!("{}{result}", if number == 0 { &head } else { &indent }));
        }
    }
    lines.extend(proof.unproven.iter().map(|what| format!("NOT PROVEN: {what}")));
    if !proof.rows.is_empty() {
        lines.push(String::new());
    }
    lines.push(format!("Result: {}: {proof}.", word(proof.verdict())));
    lines.extend([
        String::new(),
        "Each connection carried two requests, the first with hostile copies of the fields: in other cases and spellings, several".to_owned(),
        "at once, named in Connection, and in the trailer. The origin stood in for the hosts on loopback: what the vendor makes of the".to_owned(),
        "fields, and the settings of the tenant there, are to be confirmed with the vendor.".to_owned(),
    ]);
    lines.join("\n")
}

fn host(row: &Row) -> String {
    if row.port == 443 { row.host.to_string() } else { format!("{}:{}", row.host, row.port) }
}

fn as_due(row: &Row) -> String {
    match row.due.as_slice() {
        [] => "no field is due, and none arrived".to_owned(),
        due => format!("{}: once, as configured", due.join(", ")),
    }
}

fn in_json(proof: &Proof, site: &str, file: &str) -> String {
    let rows: Vec<_> = proof
        .rows
        .iter()
        .map(|row| {
            json!({
                "service": row.service,
                "line": row.line,
                "host": row.host.as_str(),
                "port": row.port,
                "protocol": row.protocol.to_string(),
                "due": row.due,
                "findings": row.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "site": site,
        "configuration": file,
        "revision": &*proof.revision,
        "version": env!("CARGO_PKG_VERSION"),
        "at": at(proof),
        "result": word(proof.verdict()),
        "rows": rows,
        "unproven": proof.unproven,
        "untried": proof.untried,
    })
    .to_string()
}
