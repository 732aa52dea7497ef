//! A map of winners: for each number of tokens and threads a square of shapes, coloured by the fastest strategy.
//!
//! In: figures by product. Out: SVG. The number in a cell is how many times as long the next strategy takes.

use std::collections::BTreeSet;

use tern_compiler::tuning::{Figure, Sheet};

use super::plot::{colour, legend, page, strategies};
use super::show::Group;
use crate::svg::{escape, text};

const CELL: f64 = 44.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 70.0;
/// Between two squares.
const GAP: f64 = 70.0;

/// The map.
pub(super) fn svg(sheet: &Sheet, groups: &[Group]) -> String {
    // With zeros among the activations only those were measured that skip them.
    let dense = groups.iter().filter(|group| group.first().is_some_and(|figure| figure.key.zeros_percent == 0));
    let bests: Vec<(Figure, Option<f64>)> = dense.filter_map(best).collect();
    let all = |of: fn(&Figure) -> u32| bests.iter().map(|(f, _)| of(f)).collect::<BTreeSet<u32>>();
    let (cols, rows) = (all(|f| f.key.work.cols), all(|f| f.key.work.rows));
    let (tokens, threads) = (all(|f| f.key.work.tokens), all(|f| f.key.threads));
    let (width, height) = (CELL * rows.len() as f64, CELL * cols.len() as f64);
    let page_width = (LEFT + (width + GAP) * tokens.len() as f64).max(700.0);
    let mut svg = page(page_width, TOP + (height + GAP) * threads.len() as f64);
    svg += &text(14.0, 22.0, "start", &escape(&format!("{}; tern {}", sheet.cpu, sheet.tern)), "#222222");
    legend(&mut svg, &strategies(groups), 14.0, 46.0);
    let place = |set: &BTreeSet<u32>, value: u32| set.iter().position(|v| *v == value).unwrap_or(0) as f64;
    for (i, threads) in threads.iter().enumerate() {
        for (j, tokens) in tokens.iter().enumerate() {
            let (x, y) = (LEFT + (width + GAP) * j as f64, TOP + 22.0 + (height + GAP) * i as f64);
            let title = format!("{tokens} {}, threads: {threads}", if *tokens == 1 { "token" } else { "tokens" });
            svg += &text(x + width / 2.0, y - 8.0, "middle", &title, "#222222");
            for value in &rows {
                let at = x + CELL * (place(&rows, *value) + 0.5);
                svg += &text(at, y + height + 15.0, "middle", &value.to_string(), "#555555");
            }
            for value in &cols {
                let at = y + CELL * (place(&cols, *value) + 0.5) + 4.0;
                svg += &text(x - 6.0, at, "end", &value.to_string(), "#555555");
            }
            svg += &text(x + width / 2.0, y + height + 32.0, "middle", "rows (N); columns (K) downwards", "#555555");
            let here = bests.iter().filter(|(f, _)| f.key.threads == *threads && f.key.work.tokens == *tokens);
            for (best, ratio) in here {
                let (cx, cy) =
                    (x + CELL * place(&rows, best.key.work.rows), y + CELL * place(&cols, best.key.work.cols));
                svg += &format!(
                    "<rect x=\"{cx:.1}\" y=\"{cy:.1}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"{}\" stroke=\"#ffffff\"/>\n",
                    colour(best.key.strategy)
                );
                let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
                svg += &text(cx + CELL / 2.0, cy + CELL / 2.0 + 4.0, "middle", &ratio, "#ffffff");
            }
        }
    }
    svg + "</svg>\n"
}

/// The fastest, and how many times as long the fastest of the other strategies takes.
fn best(group: &Group) -> Option<(Figure, Option<f64>)> {
    let best = *group.first()?;
    let next = group.iter().find(|figure| figure.key.strategy != best.key.strategy);
    Some((best, next.map(|next| next.ns / best.ns)))
}
