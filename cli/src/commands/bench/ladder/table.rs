//! The ladder as text: at most 120 columns, marks before what was not measured on a whole model, and who leads where.
//!
//! In: rungs and limits. Out: text.

use super::super::rows::{LimitRow, limits_line, percent};
use super::energy::SOURCES;
use super::plan::Basis;
use super::rung::{CONTEXT, Rung};

/// What is compared, and how many digits its figures have behind the point.
type Figure = fn(&Rung) -> Option<f64>;

/// The table.
pub(super) fn table(rungs: &[Rung], limits: &LimitRow, name: &str) -> String {
    let mut text = format!(
        "{name}\nMemory: packed weights, and a state of {CONTEXT} positions. Energy: of the arithmetic alone, at 7 and at 45 nm.\n\n\
         size   weights   layers    memory    ms/tok    tok/s  prefill    MB/tok  of read  of int8    µJ/tok    (45 nm)\n"
    );
    for rung in rungs {
        let mark = rung.basis.mark();
        let figure = |value: Option<f64>, digits: usize| match value {
            Some(value) => format!("{mark}{value:.digits$}"),
            None => "-".to_owned(),
        };
        let (gigabytes, megabytes) = (rung.memory_bytes as f64 / 1e9, rung.bytes_per_tok / 1e6);
        let share = |value: Option<f64>| match value {
            Some(_) => format!("{mark}{}", percent(value)),
            None => "-".to_owned(),
        };
        text += &format!(
            "{:<6} {:<8} {:>7} {:>9} {:>9} {:>8} {:>8} {:>9} {:>8} {:>8} {:>9} {:>10}\n",
            rung.size,
            rung.weights,
            format!("{}/{}", rung.layers_measured, rung.layers),
            format!("{} GB", figure(Some(gigabytes), if gigabytes < 100.0 { 2 } else { 0 })),
            figure(Some(rung.ms_per_tok), digits(rung.ms_per_tok)),
            figure(Some(rung.toks_per_s), digits(rung.toks_per_s)),
            figure(rung.prefill_toks_per_s, rung.prefill_toks_per_s.map_or(0, digits)),
            figure(Some(megabytes), if megabytes < 10_000.0 { 1 } else { 0 }),
            share(Some(rung.of_read_limit)),
            share(rung.prefill_of_int8_peak),
            format!("{:.1}", rung.uj_per_tok_7nm),
            format!("{:.1}", rung.uj_per_tok_45nm),
        );
    }
    text += &limits_line(limits);
    for (basis, meaning) in [
        (
            Basis::Layers,
            "layers ran as many as are shown, and the head: the time, bytes and memory of layers are scaled to all",
        ),
        (Basis::Bytes, "too large to run here: its bytes, at the rate of the largest model of that kind that ran"),
    ] {
        if rungs.iter().any(|rung| rung.basis == basis) {
            text += &format!("{}  {meaning}\n", basis.mark());
        }
    }
    text += &format!(
        "Energy counts an 8-bit addition for a ternary weight, as the BitNet b1.58 paper does, a product and an addition\n\
         for another (8 bits for int4), and the head in 16 bits. Dot products of bytes, by which CPUs add up trits, also\n\
         multiply. Costs of operations: {SOURCES}.\n"
    );
    text + &leads(rungs)
}

fn digits(value: f64) -> usize {
    if value < 10.0 {
        2
    } else if value < 1000.0 {
        1
    } else {
        0
    }
}

/// How many times less memory and time ternary weights take than others of the same size, and where they do not lead.
pub(super) fn leads(rungs: &[Rung]) -> String {
    let ternary = |size: &str| rungs.iter().find(|rung| rung.size == size && rung.weights == "ternary");
    let figures: [(&str, Figure); 4] = [
        ("memory for weights", |rung| Some(rung.weight_bytes as f64)),
        ("memory", |rung| Some(rung.memory_bytes as f64)),
        ("time per token", |rung| Some(rung.ms_per_tok)),
        ("time for a prompt", |rung| rung.prefill_toks_per_s.map(f64::recip)),
    ];
    let mut text =
        "\nTernary takes so many times less:\nsize   than      weights  with state  time per token   prompt\n"
            .to_owned();
    let mut behind = Vec::new();
    for rung in rungs.iter().filter(|rung| rung.weights != "ternary") {
        let Some(ours) = ternary(rung.size) else { continue };
        let mark = Ord::max(rung.basis, ours.basis).mark();
        let mut cells = [const { String::new() }; 4];
        for (cell, (what, figure)) in cells.iter_mut().zip(figures) {
            let ratio = figure(rung).zip(figure(ours)).map(|(theirs, ours)| theirs / ours);
            *cell = ratio.map_or("-".to_owned(), |ratio| format!("{mark}{ratio:.2}"));
            if let Some(ratio) = ratio.filter(|ratio| *ratio < 1.0) {
                let times = ratio.recip();
                behind.push(format!("{} {} takes {times:.2} times less {what}\n", rung.size, rung.weights));
            }
        }
        let [weights, memory, time, prompt] = cells;
        text += &format!("{:<6} {:<8} {weights:>8} {memory:>11} {time:>15} {prompt:>8}\n", rung.size, rung.weights);
    }
    if !behind.is_empty() {
        text += &format!("Ternary does not lead everywhere:\n{}", behind.concat());
    }
    text
}

#[cfg(test)]
mod tests {
    use tern_compiler::synth::{Shape, Weights};

    use super::super::rung::tests::seen;
    use super::*;

    fn rungs(bits: [f64; 3]) -> Vec<Rung> {
        let [small, large] = ["700m", "70b"].map(|name| Shape::named(name).expect("a shape"));
        let kinds = [Weights::F16, Weights::Int4, Weights::Ternary];
        let of = |(kind, bits): (Weights, f64)| {
            let whole = Rung::of(&small, kind, &seen(&small, 24, bits));
            let part = Rung::of(&small, kind, &seen(&small, 3, bits));
            [whole.clone(), part, whole.of_larger(&large)]
        };
        kinds.into_iter().zip(bits).flat_map(of).collect()
    }

    fn limits() -> LimitRow {
        LimitRow::of_rates(2, 20.0)
    }

    #[test]
    fn what_did_not_run_is_marked_and_lines_fit() {
        let text = table(&rungs([16.0, 4.5, 2.0]), &limits(), "avx2");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        let marked = |mark: &str| text.lines().filter(|line| line.contains(mark) && line.contains(" GB")).count();
        assert_eq!((marked("~"), marked("≈")), (3, 3), "{text}");
        assert!(text.contains("3/24") && text.contains("0/80") && text.contains("24/24"), "{text}");
        assert!(text.contains("Horowitz") && text.contains("Jouppi"));
        assert!(!text.contains("does not lead"), "{text}");
    }

    #[test]
    fn who_leads_is_said_even_if_it_is_another() {
        let text = leads(&rungs([16.0, 4.5, 6.0]));
        assert!(text.contains("700m int4 takes") && text.contains("times less memory for weights"), "{text}");
        assert!(!text.contains("700m f16 takes"), "{text}");
    }
}
