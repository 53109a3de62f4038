//! `sekisho prove`: one tenant proof, as a table that can be filed.

use std::io::Write;
use std::process::ExitCode;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{ConfigFile, DONE, FAILED, fail};
use crate::config::{Config, Scope};
use crate::connection::Live;
use crate::inspect::keyfile::{unit_with, unseen_credential};
use crate::proof::{self, Finding, Proof, Row, Verdict};
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

Exit code: 0 every field arrived as it is due, 1 it did not, something could not be tried, or there is nothing to prove.

Examples:
  sekisho prove --config /etc/sekisho/sekisho.toml
  sekisho prove --json > proof-$(date +%F).json
  systemd-run --quiet --pipe -p LoadCredential=ca-key:sekisho.ca-key sekisho prove --config /etc/sekisho/sekisho.toml
                                          for key = \"credential:ca-key\", with the package's place of that key";

pub(super) fn prove(arguments: &Arguments) -> ExitCode {
    telemetry::init("error");
    let config = match arguments.config.load(Scope::Full) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Some(unit) = unit_needed(&config) {
        return fail(&format!(
            "the issuing key is a systemd credential, which only a unit has: put before the command, to have it: {unit}"
        ));
    }
    let site = config.site.name.clone();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads: {error}")),
    };
    let file = config.file.display().to_string();
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    let proof = match runtime.block_on(once(config)) {
        Ok(proof) => proof,
        Err(error) => return fail(&error),
    };
    let told = Told { proof: &proof, site: &site, file: &file, warnings: &warnings };
    let text = if arguments.json { told.in_json() } else { told.in_text() };
    // Whoever files it must learn that it is not whole.
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        return fail(&format!("the proof could not be written: {error}"));
    }
    if proof.verdict() == Verdict::Holds { DONE.into() } else { FAILED.into() }
}

/// What the command needs round it, where the keys are not for this process to see.
fn unit_needed(config: &Config) -> Option<String> {
    let files = config.issuing_files.as_ref()?;
    let keys = [&files.key].into_iter().chain(files.next.as_ref().map(|next| &next.key));
    let unseen: Vec<&str> = keys.filter_map(|key| unseen_credential(key)).collect();
    (!unseen.is_empty()).then(|| unit_with(unseen))
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
        Verdict::Incomplete => "incomplete",
        Verdict::Silent => "not proven",
        Verdict::Wrong => "WRONG",
    }
}

/// What is printed of a proof.
struct Told<'a> {
    proof: &'a Proof,
    site: &'a str,
    file: &'a str,
    /// Of the configuration.
    warnings: &'a [String],
}

impl Told<'_> {
    fn in_text(&self) -> String {
        let Self { proof, site, file, warnings } = self;
        let mut lines = vec![
            "Tenant proof (テナント制御の確認)".to_owned(),
            String::new(),
            format!("site           {site}"),
            format!("configuration  {file}, revision {}", proof.revision),
            format!("program        sekisho {}", env!("CARGO_PKG_VERSION")),
            format!("at             {}", at(proof)),
        ];
        let hosts = proof.rows.iter().map(|row| host(row).len()).max().unwrap_or(0);
        let mut service = None;
        for row in &proof.rows {
            if service.replace((&row.service, row.line)) != Some((&row.service, row.line)) {
                lines.extend([String::new(), format!("{} (line {})", row.service, row.line)]);
            }
            let head = format!("  {:hosts$}  {:8}  ", host(row), row.protocol.to_string());
            let indent = " ".repeat(hosts + 14);
            for (number, result) in results(row).iter().enumerate() {
                lines.push(format!("{}{result}", if number == 0 { &head } else { &indent }));
            }
        }
        lines.push(String::new());
        lines.extend(proof.unproven.iter().map(|what| format!("NOT TRIED: {what}")));
        lines.push(format!("Result: {}: {proof}.", word(proof.verdict())));
        if !warnings.is_empty() {
            lines.extend([String::new(), "What `sekisho check` says of the configuration:".to_owned()]);
            lines.extend(warnings.iter().map(|warning| format!("  {}", warning.replace('\n', "\n  "))));
        }
        lines.extend([String::new(), EXPLANATION.to_owned()]);
        lines.join("\n")
    }

    fn in_json(&self) -> String {
        let Self { proof, site, file, warnings } = self;
        let rows = proof.rows.iter().map(|row| {
            json!({
                "service": row.service,
                "line": row.line,
                "host": row.host.as_str(),
                "port": row.port,
                "protocol": row.protocol.to_string(),
                "due": row.due,
                "findings": row.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        });
        json!({
            "site": site,
            "configuration": file,
            "revision": &*proof.revision,
            "version": env!("CARGO_PKG_VERSION"),
            "at": at(proof),
            "result": word(proof.verdict()),
            "rows": rows.collect::<Vec<_>>(),
            "not_tried": proof.unproven,
            "connections_left_out": proof.untried,
            "warnings": warnings,
        })
        .to_string()
    }
}

const EXPLANATION: &str = "\
Each connection carried two requests, the first with hostile copies of every field that restricts a tenant: in other cases and
spellings, several at once, named in Connection, and in the trailer. The origin stood in for the hosts on loopback: what the
vendor makes of the fields, and the settings of the tenant there, are to be confirmed with the vendor. Hosts that are
tunnelled, and clients for whom they are, carry no field: the warnings above name those that the vendor lists.";

fn host(row: &Row) -> String {
    if row.port == 443 { row.host.to_string() } else { format!("{}:{}", row.host, row.port) }
}

fn results(row: &Row) -> Vec<String> {
    if row.findings.is_empty() {
        return vec![match row.due.as_slice() {
            [] => "no field is due, and none arrived".to_owned(),
            due => format!("{}: once, as configured", due.join(", ")),
        }];
    }
    let word = |finding: &Finding| if finding.is_wrong() { "WRONG" } else { "NOT PROVEN" };
    row.findings.iter().map(|finding| format!("{}: {finding}", word(finding))).collect()
}
