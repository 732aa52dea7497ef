//! What is reported of a kernel: rows, and the table of them.
//!
//! In: a kernel's turns with their limits. Out: [`KernelRow`]s that serialise to one JSON object each, and text of at most
//! 120 columns. Every time is a median; every ratio is the median of the turns' own ratios.

use serde::Serialize;
use tern_compiler::addsub::Report;
use tern_compiler::graph::Strategy;
use tern_compiler::schedule::kernel::Regime;
use tern_compiler::trial::{Shape, Trial};
use tern_runtime::limits::Sample;

use super::kernels::Turn;
use super::measure::median;
use super::rows::{GIGA, LimitRow, limits_line, percent};

const MICRO: f64 = 1e6;

/// Where a kernel comes from.
pub(super) struct Place {
    pub(super) isa: &'static str,
    pub(super) emitter: &'static str,
    pub(super) strategy: Strategy,
}

/// A kernel. `gmacs` are 10^9 multiply-adds per second, `of_peak` compares them with the dot products of the CPU's widest
/// vectors; `gb_per_s` counts packed weights only, `of_bandwidth` compares them with the read limit.
#[derive(Serialize)]
pub(super) struct KernelRow {
    test: &'static str,
    symbol: String,
    isa: &'static str,
    emitter: &'static str,
    strategy: &'static str,
    variant: String,
    packing: &'static str,
    regime: &'static str,
    /// Additions per output of a matrix that is code: without sharing, and with it.
    adds_per_output: Option<(f64, f64)>,
    threads: usize,
    tokens: u32,
    cols: u32,
    rows: u32,
    group: u32,
    bits_per_weight: f64,
    weight_bytes: u64,
    read_bytes: u64,
    repeats: usize,
    warm_us: f64,
    warm_gmacs: f64,
    warm_of_peak: Option<f64>,
    cold_us: f64,
    cold_gb_per_s: f64,
    cold_of_bandwidth: f64,
    cold_gmacs: f64,
    cold_of_peak: Option<f64>,
    /// Whether no other one is faster cold.
    fastest_cold: bool,
    /// Whether the optimiser would choose it.
    pub(super) pick: bool,
}

impl KernelRow {
    /// `read_bytes`: of the packed weights, what a product reads.
    pub(super) fn new(
        shape: Shape,
        threads: usize,
        trial: &Trial,
        read_bytes: u64,
        place: &Place,
        turns: &[Turn],
    ) -> Self {
        let (macs, bytes) = (shape.macs() as f64, read_bytes as f64);
        let warm = median(turns.iter().map(|turn| turn.warm_seconds)).unwrap_or(0.0);
        let cold = median(turns.iter().map(|turn| turn.cold_seconds)).unwrap_or(0.0);
        let of_peak = |seconds: fn(&Turn) -> f64| {
            let peak = |limit: &Sample| limit.dot_macs_per_s_widest;
            median(turns.iter().filter_map(|turn| Some(macs / seconds(turn) / peak(&turn.limit)?)))
        };
        let of_bandwidth = turns.iter().map(|turn| bytes / turn.cold_seconds / turn.limit.read_bytes_per_s);
        Self {
            test: "kernel",
            symbol: trial.symbol().to_owned(),
            isa: place.isa,
            emitter: place.emitter,
            strategy: place.strategy.name(),
            variant: trial.variant().to_string(),
            packing: trial.packing_name(),
            regime: match trial.regime() {
                Some(Regime::Gemv) => "gemv",
                Some(Regime::Gemm) => "gemm",
                Some(Regime::Table { .. }) => "table",
                None => "addsub",
            },
            adds_per_output: trial.addsub_report().map(Report::adds_per_output),
            threads,
            tokens: shape.tokens,
            cols: shape.cols,
            rows: shape.rows,
            group: shape.group,
            bits_per_weight: 8.0 * trial.weight_bytes() as f64 / (f64::from(shape.rows) * f64::from(shape.cols)),
            weight_bytes: trial.weight_bytes(),
            read_bytes,
            repeats: turns.len(),
            warm_us: warm * MICRO,
            warm_gmacs: macs / warm / GIGA,
            warm_of_peak: of_peak(|turn| turn.warm_seconds),
            cold_us: cold * MICRO,
            cold_gb_per_s: bytes / cold / GIGA,
            cold_of_bandwidth: median(of_bandwidth).unwrap_or(0.0),
            cold_gmacs: macs / cold / GIGA,
            cold_of_peak: of_peak(|turn| turn.cold_seconds),
            fastest_cold: false,
            pick: false,
        }
    }
}

/// Marks the row with the least cold time.
pub(super) fn mark_fastest(rows: &mut [KernelRow]) {
    if let Some(row) = rows.iter_mut().min_by(|a, b| a.cold_us.total_cmp(&b.cold_us)) {
        row.fastest_cold = true;
    }
}

/// The rows of one number of threads as text, fastest cold first.
pub(super) fn table(shape: Shape, zeros: f64, rows: &[KernelRow], limits: &LimitRow) -> String {
    let zeros = if zeros > 0.0 { format!(" ({} of activations zero)", percent(Some(zeros))) } else { String::new() };
    let mut text = format!(
        "{} tokens{zeros}, {} columns{}, {} rows; threads: {}\n\n",
        shape.tokens,
        shape.cols,
        if shape.group > 0 { format!(" in groups of {}", shape.group) } else { String::new() },
        shape.rows,
        limits.threads
    );
    // The shape stands above.
    let names: Vec<&str> = rows.iter().map(|row| row.symbol.split("__").next().unwrap_or(&row.symbol)).collect();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max("kernel".len());
    text +=
        &format!("   {:<width$}   warm us   Gmac/s  of peak   cold us   GB/s of limit   Gmac/s  bits/w\n", "kernel");
    let mut sorted: Vec<_> = rows.iter().zip(names).collect();
    sorted.sort_by(|(a, _), (b, _)| a.cold_us.total_cmp(&b.cold_us));
    for (row, name) in sorted {
        text += &format!(
            "{}{} {name:<width$} {:>9.2} {:>8.1} {:>8} {:>9.2} {:>6.2} {:>8} {:>8.1} {:>7.3}\n",
            if row.fastest_cold { '*' } else { ' ' },
            if row.pick { '>' } else { ' ' },
            row.warm_us,
            row.warm_gmacs,
            percent(row.warm_of_peak),
            row.cold_us,
            row.cold_gb_per_s,
            percent(Some(row.cold_of_bandwidth)),
            row.cold_gmacs,
            row.bits_per_weight
        );
    }
    text + &limits_line(limits) + "\n"
}
