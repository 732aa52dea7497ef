//! What is reported: rows, and the table of them.
//!
//! In: repetitions with their limits. Out: [`Row`]s that serialise to one JSON object each, and text of at most 120
//! columns. Every ratio is the median of the repetitions' own ratios.

use std::collections::BTreeMap;

use serde::Serialize;
use tern_compiler::schedule::Schedule;
use tern_compiler::schedule::traffic::{Class, Traffic};
use tern_runtime::limits::dot::Dot;
use tern_runtime::limits::{Meter, Sample};

use super::breakdown::Breakdown;
use super::measure::{Measured, Test, median};
use super::paging::Paged;

pub(super) const GIGA: f64 = 1e9;

/// A spread of the read limit beyond which the table says that it moved.
const UNSTEADY: f64 = 0.3;

/// A row of the report.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Row {
    /// A test.
    Test(Box<TestRow>),
    /// The machine.
    Limits(LimitRow),
}

/// What is known of a test before it runs.
pub(super) struct Known<'a> {
    pub(super) model: &'a str,
    pub(super) isa: &'static str,
    pub(super) emitter: &'static str,
    pub(super) kv: &'static str,
    pub(super) huge_pages: bool,
    pub(super) bytes_per_tok: f64,
    pub(super) traffic: &'a Traffic,
    /// Of calls that skip columns, the share of these, in order.
    pub(super) zeros: Vec<f64>,
    pub(super) peak_rss_bytes: Option<u64>,
    pub(super) load_seconds: f64,
    pub(super) compile_seconds: f64,
}

/// A test. `gmacs` are 10^9 products of trits, added up, per second, end to end; `gmacs_matmul` counts only the time of the
/// phases that multiply. `of_peak` compares with the instructions in force, `of_peak_widest` with the CPU's widest.
#[derive(Serialize)]
pub(super) struct TestRow {
    pub(super) test: String,
    pub(super) threads: usize,
    pub(super) toks_per_s: f64,
    toks_per_s_min: f64,
    toks_per_s_max: f64,
    /// (max - min) / median.
    pub(super) spread: f64,
    repeats: usize,
    pub(super) bytes_per_tok: f64,
    pub(super) gb_per_s: f64,
    pub(super) of_bandwidth: f64,
    pub(super) macs_per_tok: f64,
    pub(super) gmacs: f64,
    pub(super) of_peak: Option<f64>,
    of_peak_widest: Option<f64>,
    gmacs_matmul: Option<f64>,
    pub(super) of_peak_matmul: Option<f64>,
    of_peak_matmul_widest: Option<f64>,
    pub(super) toks_per_s_per_gb_per_s: f64,
    pub(super) toks_per_s_per_gmacs: Option<f64>,
    /// Of each product that skips columns of zero activations, the share of these, layer by layer.
    zeros: Vec<f64>,
    /// What the experts of a model read, if it has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    experts: Option<ExpertRow>,
    /// What of them had to be paged in, if they are mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    paging: Option<Paged>,
    pub(super) bits_per_weight_body: f64,
    pub(super) bits_per_weight_head: f64,
    pub(super) peak_rss_bytes: Option<u64>,
    pub(super) load_seconds: f64,
    pub(super) compile_seconds: f64,
    pub(super) model: String,
    pub(super) isa: &'static str,
    pub(super) emitter: &'static str,
    pub(super) kv: &'static str,
    huge_pages: bool,
    pub(super) us_per_tok: Option<BTreeMap<&'static str, f64>>,
}

impl TestRow {
    pub(super) fn new(
        test: &Test,
        threads: usize,
        measured: &Measured,
        known: &Known<'_>,
        schedule: &Schedule,
    ) -> Self {
        let reps = &measured.repetitions;
        let rates = || reps.iter().map(|r| r.toks_per_s);
        let of = |ratio: &dyn Fn(f64, &Sample) -> Option<f64>| {
            median(reps.iter().filter_map(|r| ratio(r.toks_per_s, &r.limit)))
        };
        let toks_per_s = median(rates()).unwrap_or(0.0);
        let (min, max) = rates().fold((f64::INFINITY, 0.0f64), |(min, max), r| (min.min(r), max.max(r)));
        let (bytes, macs) = (known.bytes_per_tok, known.traffic.body_weights as f64);
        let per_gb = of(&|rate, limit| Some(rate * GIGA / limit.read_bytes_per_s)).unwrap_or(0.0);
        let per_gmacs = of(&|rate, limit| Some(rate * GIGA / limit.dot_macs_per_s_widest?));
        // Products per second of the phases that multiply, with the limit of each run.
        let matmuls: Vec<(f64, &Sample)> = measured
            .profiles
            .iter()
            .filter_map(|(limit, steps)| {
                let breakdown = Breakdown::of(schedule, steps)?;
                let seconds = breakdown.of_class(Class::Matmul).as_secs_f64();
                (seconds > 0.0).then(|| (macs * breakdown.tokens as f64 / seconds, limit))
            })
            .collect();
        let of_matmul = |peak: &dyn Fn(&Sample) -> Option<f64>| {
            median(matmuls.iter().filter_map(|(rate, l)| Some(rate / peak(l)?)))
        };
        let last = measured.profiles.last().and_then(|(_, steps)| Breakdown::of(schedule, steps));
        Self {
            test: test.name(),
            threads,
            toks_per_s,
            toks_per_s_min: min,
            toks_per_s_max: max,
            spread: (max - min) / toks_per_s,
            repeats: reps.len(),
            bytes_per_tok: bytes,
            gb_per_s: bytes * toks_per_s / GIGA,
            of_bandwidth: per_gb * bytes / GIGA,
            macs_per_tok: macs,
            gmacs: macs * toks_per_s / GIGA,
            of_peak: of(&|rate, limit| Some(rate * macs / limit.dot_macs_per_s?)),
            of_peak_widest: of(&|rate, limit| Some(rate * macs / limit.dot_macs_per_s_widest?)),
            gmacs_matmul: median(matmuls.iter().map(|(rate, _)| rate / GIGA)),
            of_peak_matmul: of_matmul(&|limit| limit.dot_macs_per_s),
            of_peak_matmul_widest: of_matmul(&|limit| limit.dot_macs_per_s_widest),
            toks_per_s_per_gb_per_s: per_gb,
            toks_per_s_per_gmacs: per_gmacs,
            zeros: known.zeros.clone(),
            experts: ExpertRow::of(known.traffic),
            paging: measured.paged,
            bits_per_weight_body: known.traffic.bits_per_weight_body(),
            bits_per_weight_head: known.traffic.bits_per_weight_head(),
            peak_rss_bytes: known.peak_rss_bytes,
            load_seconds: known.load_seconds,
            compile_seconds: known.compile_seconds,
            model: known.model.to_owned(),
            isa: known.isa,
            emitter: known.emitter,
            kv: known.kv,
            huge_pages: known.huge_pages,
            us_per_tok: last.map(|breakdown| breakdown.us_per_tok()),
        }
    }
}

/// Experts: those of a layer, how many of them a token has, and the bytes of their packed weights in all layers: of a token, which
/// decoding reads, and of all.
#[derive(Serialize)]
struct ExpertRow {
    count: u32,
    per_tok: u32,
    bytes_per_tok: u64,
    bytes: u64,
}

impl ExpertRow {
    fn of(traffic: &Traffic) -> Option<Self> {
        let Traffic { experts: count, experts_per_tok: per_tok, expert_bytes, all_expert_bytes, .. } = *traffic;
        (count > 0).then_some(Self { count, per_tok, bytes_per_tok: expert_bytes, bytes: all_expert_bytes })
    }
}

/// The machine, while tests ran on so many threads: medians of all samples.
#[derive(Serialize)]
pub(super) struct LimitRow {
    test: &'static str,
    pub(super) threads: usize,
    pub(super) read_gb_per_s: f64,
    /// (max - min) / median of the samples.
    read_spread: f64,
    read_loop: &'static str,
    pub(super) dot_gmacs: Option<f64>,
    dot_loop: Option<&'static str>,
    pub(super) dot_gmacs_widest: Option<f64>,
    dot_loop_widest: Option<&'static str>,
}

impl LimitRow {
    pub(super) fn new(threads: usize, samples: &[Sample], meter: &Meter, dot: Option<&'static Dot>) -> Self {
        let rates = || samples.iter().map(|s| s.read_bytes_per_s / GIGA);
        let read_gb_per_s = median(rates()).unwrap_or(0.0);
        let (min, max) = rates().fold((f64::INFINITY, 0.0f64), |(min, max), r| (min.min(r), max.max(r)));
        Self {
            test: "limits",
            threads,
            read_gb_per_s,
            read_spread: if read_gb_per_s > 0.0 { (max - min) / read_gb_per_s } else { 0.0 },
            read_loop: meter.read_name(),
            dot_gmacs: median(samples.iter().filter_map(|s| Some(s.dot_macs_per_s? / GIGA))),
            dot_loop: dot.map(|dot| dot.name),
            dot_gmacs_widest: median(samples.iter().filter_map(|s| Some(s.dot_macs_per_s_widest? / GIGA))),
            dot_loop_widest: Dot::widest().map(|dot| dot.name),
        }
    }
}

#[cfg(test)]
impl LimitRow {
    /// Of a machine that reads at such a rate.
    pub(super) fn of_rates(threads: usize, read_gb_per_s: f64) -> Self {
        let (dot_gmacs, dot_loop) = (Some(100.0), Some("a loop"));
        Self {
            test: "limits",
            threads,
            read_gb_per_s,
            read_spread: 0.0,
            read_loop: "another",
            dot_gmacs,
            dot_loop,
            dot_gmacs_widest: dot_gmacs,
            dot_loop_widest: dot_loop,
        }
    }
}

/// The rows as text.
pub(super) fn table(rows: &[Row], profile: bool) -> String {
    let mut text = String::new();
    let tests = || rows.iter().filter_map(|row| if let Row::Test(row) = row { Some(row) } else { None });
    if let Some(row) = tests().next_back() {
        let peak = row.peak_rss_bytes.map_or(String::new(), |bytes| format!(", at most {:.0} MB", bytes as f64 / 1e6));
        text += &format!(
            "{}: {}, emitter {}, kv {}; {:.2} bits per weight of the body, {:.2} of the head\n\
             loaded in {:.2} s, compiled in {:.2} s{peak} in memory\n\n",
            row.model,
            row.isa,
            row.emitter,
            row.kv,
            row.bits_per_weight_body,
            row.bits_per_weight_head,
            row.load_seconds,
            row.compile_seconds
        );
        if let Some(ExpertRow { count, per_tok, bytes_per_tok, bytes }) = row.experts {
            let (of_token, of_all) = (bytes_per_tok as f64 / 1e6, bytes as f64 / 1e6);
            text.truncate(text.trim_end().len());
            text += &format!(
                "\n{per_tok} of {count} experts for a token: {of_token:.1} of {of_all:.1} MB of their weights are read\n\n"
            );
        }
    }
    text += "test        threads    tok/s   spread   MB/tok     GB/s of limit   Gmac/s  of peak  matmuls  \
             tok/s/GB/s  tok/s/Gmac/s\n";
    for row in tests() {
        text += &format!(
            "{:<12}{:>7} {:>8.2} {:>8} {:>8.1} {:>8.2} {:>8} {:>8.1} {:>8} {:>8}  {:>10.3}  {:>12}\n",
            row.test,
            row.threads,
            row.toks_per_s,
            percent(Some(row.spread)),
            row.bytes_per_tok / 1e6,
            row.gb_per_s,
            percent(Some(row.of_bandwidth)),
            row.gmacs,
            percent(row.of_peak),
            percent(row.of_peak_matmul),
            row.toks_per_s_per_gb_per_s,
            row.toks_per_s_per_gmacs.map_or("-".to_owned(), |v| format!("{v:.3}"))
        );
    }
    for row in rows {
        if let Row::Limits(row) = row {
            text += &limits_line(row);
        }
    }
    for row in tests() {
        text += &row.paging.map_or(String::new(), |paged| paging_line(row, &paged));
    }
    let unsteady = rows.iter().any(|row| matches!(row, Row::Limits(row) if row.read_spread > UNSTEADY));
    if unsteady || tests().any(|row| row.of_bandwidth > 1.0) {
        text += "\nThe machine's limits moved while this ran: others use it. Ratios are rough; run it again when it is quiet.\n";
    }
    if profile {
        tests().for_each(|row| text += &profile_lines(row));
    }
    text
}

pub(super) fn limits_line(row: &LimitRow) -> String {
    let dot = |gmacs: Option<f64>, name: Option<&str>| match (gmacs, name) {
        (Some(gmacs), Some(name)) => format!(", {gmacs:.0} Gmac/s ({name})"),
        _ => String::new(),
    };
    let widest = if row.dot_loop == row.dot_loop_widest { None } else { row.dot_gmacs_widest };
    format!(
        "limits      {:>7} {:.1} GB/s ({}){}{}\n",
        row.threads,
        row.read_gb_per_s,
        row.read_loop,
        dot(row.dot_gmacs, row.dot_loop),
        dot(widest, row.dot_loop_widest)
    )
}

fn paging_line(row: &TestRow, paged: &Paged) -> String {
    let Paged { mapped_bytes, hit_rate, read_bytes_per_tok, paged_in_bytes_per_tok, major_faults_per_tok } = *paged;
    format!(
        "paging      {:>7} {}: {} of {:.1} MB of experts per token were in memory, {:.1} MB paged in, {:.2} major faults; \
         {:.2} GB mapped\n",
        row.threads,
        row.test,
        percent(Some(hit_rate)),
        read_bytes_per_tok / 1e6,
        paged_in_bytes_per_tok / 1e6,
        major_faults_per_tok,
        mapped_bytes as f64 / 1e9
    )
}

fn profile_lines(row: &TestRow) -> String {
    let Some(parts) = &row.us_per_tok else { return String::new() };
    let mut text = format!("\n{}, {} threads: microseconds per token\n", row.test, row.threads);
    let mut parts: Vec<_> = parts.iter().collect();
    parts.sort_by(|a, b| b.1.total_cmp(a.1));
    for (class, us) in parts {
        text += &format!("  {class:<20} {us:>10.1}\n");
    }
    text
}

pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}
