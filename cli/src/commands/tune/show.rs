//! What is shown of figures: for each product its candidates, the fastest first.
//!
//! In: figures. Out: groups of them, JSON rows, a table of at most 120 columns.

use serde::Serialize;
use tern_compiler::schedule::variant::Variant;
use tern_compiler::tuning::{Figure, Key, LARGE_MB, Sheet, Work};

use crate::output::harmless;

/// The candidates of one product, the fastest first.
pub(super) type Group = Vec<Figure>;

/// The figures of each product together.
pub(super) fn groups(mut figures: Vec<Figure>) -> Vec<Group> {
    let product = |f: &Figure| {
        let Key { level, emitter, work, threads, zeros_percent, model_mb, .. } = f.key;
        (level, emitter, model_mb, threads, work, zeros_percent)
    };
    figures.sort_by(|a, b| product(a).cmp(&product(b)).then(a.ns.total_cmp(&b.ns)));
    figures.chunk_by(|a, b| product(a) == product(b)).map(<[Figure]>::to_vec).collect()
}

/// A figure. `ratio` compares with the fastest of the product.
#[derive(Serialize)]
pub(super) struct Row {
    level: &'static str,
    emitter: &'static str,
    threads: u32,
    tokens: u32,
    cols: u32,
    rows: u32,
    pair: bool,
    group: u32,
    zeros_percent: u8,
    model_mb: u32,
    strategy: &'static str,
    variant: String,
    ns: f64,
    ratio: f64,
    spread: f64,
    repeats: u32,
    gmacs: f64,
    fastest: bool,
}

/// All figures, product by product.
pub(super) fn rows(groups: &[Group]) -> Vec<Row> {
    groups.iter().flat_map(|group| group.iter().map(|figure| row(group, figure))).collect()
}

fn row(all: &Group, figure: &Figure) -> Row {
    let Key { level, emitter, strategy, work, threads, zeros_percent, model_mb } = figure.key;
    let Work { tokens, cols, rows, pair, group } = work;
    let best = all.first().map_or(figure.ns, |best| best.ns);
    let macs = f64::from(tokens) * f64::from(cols) * f64::from(rows) * if pair { 2.0 } else { 1.0 };
    Row {
        level: level.name(),
        emitter: emitter.name(),
        threads,
        tokens,
        cols,
        rows,
        pair,
        group,
        zeros_percent,
        model_mb,
        strategy: strategy.name(),
        variant: figure.variant.to_string(),
        ns: figure.ns,
        ratio: figure.ns / best,
        spread: figure.spread,
        repeats: figure.repeats,
        gmacs: macs / figure.ns,
        fastest: all.first() == Some(figure),
    }
}

/// A product in words.
pub(super) fn title(key: &Key) -> String {
    let Key { level, emitter, work, threads, zeros_percent, model_mb, .. } = *key;
    let Work { tokens, cols, rows, pair, group } = work;
    let pair = if pair { " (gated unit)".to_owned() } else { in_groups(group) };
    let zeros = if zeros_percent > 0 { format!(", {zeros_percent} % zeros") } else { String::new() };
    let (level, emitter) = (level.name(), emitter.name());
    let tokens = if tokens == 1 { "1 token".to_owned() } else { format!("{tokens} tokens") };
    let model = if model_mb == LARGE_MB { String::new() } else { format!(", in a model of {model_mb} MB") };
    format!("{tokens}, {cols} columns, {rows} rows{pair}; threads: {threads}; {level}, emitter {emitter}{zeros}{model}")
}

/// What a product with scales per group is called behind its numbers.
fn in_groups(group: u32) -> String {
    if group > 0 { format!(" in groups of {group}") } else { String::new() }
}

/// All figures as text.
pub(super) fn table(sheet: &Sheet, groups: &[Group]) -> String {
    let mut text = harmless(&format!("{}; tern {}\n", sheet.cpu, sheet.tern));
    if groups.is_empty() {
        return text + "\nno figures: `tern tune` measures them\n";
    }
    for group in groups {
        let Some(best) = group.first() else { continue };
        text += &format!("\n{}\n", title(&best.key));
        text += &format!(
            "  {:<8} {:<16} {:>12} {:>7} {:>9} {:>8} {:>8}\n",
            "strategy", "variant", "us", "ratio", "spread", "repeats", "Gmac/s"
        );
        for figure in group {
            let row = row(group, figure);
            text += &format!(
                "{} {:<8} {:<16} {:>12.2} {:>7.2} {:>7.1} % {:>8} {:>8.1}\n",
                if row.fastest { '*' } else { ' ' },
                row.strategy,
                row.variant,
                row.ns / 1e3,
                row.ratio,
                100.0 * row.spread,
                row.repeats,
                row.gmacs
            );
        }
    }
    text + "\n" + &summary(groups)
}

/// Who won how often.
fn summary(groups: &[Group]) -> String {
    let mut wins: std::collections::BTreeMap<&str, (usize, usize)> = std::collections::BTreeMap::new();
    for best in groups.iter().filter_map(|group| group.first()) {
        let count = wins.entry(best.key.strategy.name()).or_default();
        count.0 += 1;
        count.1 += usize::from(best.variant != Variant::default());
    }
    let wins =
        wins.iter().map(|(name, (all, varied))| format!("{name} wins {all} ({varied} not by its default variant)"));
    format!("of {} products {}\n", groups.len(), wins.collect::<Vec<_>>().join(", "))
}
