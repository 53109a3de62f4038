//! Only the printing of the scorecard belongs here.

use std::io::Write;
use std::time::Duration;

use super::good::Figures;
use super::machines;
use super::survival::{self, How};
use super::{Card, Row};

pub fn print(card: &Card) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}{}\n{}", attacks(&card.rows), faults(&card.faults), summary(card));
}

fn attacks(rows: &[Row]) -> String {
    let mut text =
        "\n| attack | tried | arrived | tunnel p99, µs: alone, elsewhere, beside | inspected p99, µs: alone, elsewhere, beside \
                    | processor, %: alone, elsewhere, beside | peak MiB | descriptors back | memory back |\n|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    text.extend(rows.iter().map(attack));
    text
}

/// One line of the table.
pub fn attack(row: &Row) -> String {
    let back = |time: Option<Duration>| time.map_or("no".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        row.what,
        row.tried,
        row.arrived,
        three(row, |figures| figures.tunnel_p99),
        three(row, |figures| figures.inspected_p99),
        row.good().map(|figures| figures.processor.to_string()).collect::<Vec<_>>().join(", "),
        row.peak_kib / 1024,
        back(row.descriptors_back),
        back(row.memory_back),
    )
}

/// With what being attacked costs, and what of it sharing the process does: the third by the first, and by the second.
fn three(row: &Row, of: fn(&Figures) -> u64) -> String {
    let [alone, elsewhere, beside] = [&row.alone, &row.elsewhere, &row.beside].map(of);
    format!("{alone}, {elsewhere}, {beside} ({:.1}×, {:.1}×)", times(beside, alone), times(beside, elsewhere))
}

#[expect(clippy::cast_precision_loss, reason = "microseconds")]
fn times(one: u64, other: u64) -> f64 {
    one as f64 / other.max(1) as f64
}

/// Beside by alone: the median of all attacks, and the worst. A single row's figure is a few seconds of a machine that does other things
/// too.
fn disturbed(rows: &[Row], of: fn(&Figures) -> u64) -> String {
    let mut all: Vec<f64> = rows.iter().map(|row| times(of(&row.beside), of(&row.alone))).collect();
    all.sort_by(f64::total_cmp);
    let [median, worst] = [all.get(all.len() / 2), all.last()].map(|times| times.copied().unwrap_or_default());
    format!("{median:.1}×, at most {worst:.1}×")
}

fn faults(rows: &[survival::Row]) -> String {
    let mut text =
        "\n| fault | rounds | survived | slowest recovery | attempts minus records |\n|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        text += &match &row.how {
            How::Survived(fault) => format!(
                "| {} | {} | yes | {:.2} s | {} |\n",
                row.what,
                fault.rounds,
                fault.recovery.as_secs_f64(),
                fault.unrecorded
            ),
            How::NotRun(why) => format!("| {} | 0 | not run: {why} | | |\n", row.what),
            How::Failed(why) => format!("| {} | | no: {why} | | |\n", row.what),
        };
    }
    text
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn summary(card: &Card) -> String {
    let Card { rows, elsewhere, held, inputs, faults, records } = card;
    let good: u64 = rows.iter().flat_map(Row::good).map(|figures| figures.requests).sum();
    let failed = rows.iter().flat_map(Row::good).map(|figures| figures.failed).sum::<u64>() + held.failed;
    let tried: u64 = rows.iter().map(|row| row.tried).sum();
    let survived: Vec<_> = faults.iter().filter(|row| matches!(row.how, How::Survived(_))).collect();
    let not_run = faults.iter().filter(|row| matches!(row.how, How::NotRun(_))).count();
    let recoveries = survived.iter().filter_map(|row| match &row.how {
        How::Survived(fault) => Some(fault.recovery),
        _ => None,
    });
    let [proxys, decoys] = records;
    format!(
        "connections held: {} for {} s under {} reloads, half of them broken; unexpected ends: {}\n\
         faults survived: {} of {}, the slowest recovery {:.2} s; not run: {not_run}\n\
         attacks ridden out: {}, of {tried} connections, requests and frames; {elsewhere} more at the decoy\n\
         clients and their origin before all others, attackers and theirs behind them: {}; behind the packet filter's rules: {}\n\
         beside by alone, the median and the worst: tunnel p99 {}; inspected p99 {}\n\
         good requests: {good} alone and beside the attacks, {} beside the reloads, failed: {failed}\n\
         bad inputs tried: {}, of {} seeds\n\
         records: {} expected, {} found; of the decoy {} and {}",
        held.tunnels,
        held.seconds,
        held.reloads,
        held.ended_early,
        survived.len(),
        faults.len() - not_run,
        recoveries.max().unwrap_or_default().as_secs_f64(),
        rows.len(),
        yes(machines::are_apart()),
        yes(machines::are_filtered()),
        disturbed(rows, |figures| figures.tunnel_p99),
        disturbed(rows, |figures| figures.inspected_p99),
        held.requests,
        inputs.tried,
        inputs.seeds,
        proxys.0,
        proxys.1,
        decoys.0,
        decoys.1,
    )
}
