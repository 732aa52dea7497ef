//! A plot of candidates: for each product a line of points, by how much slower than the fastest each is.
//!
//! In: figures by product. Out: SVG. The axis is logarithmic, colours are strategies; hollow points are variants that are not
//! the default.

use tern_compiler::graph::Strategy;
use tern_compiler::schedule::variant::Variant;
use tern_compiler::tuning::Sheet;

use super::show::{Group, title};
use crate::svg::{COLOURS, escape, text};

const WIDTH: f64 = 980.0;
const LEFT: f64 = 430.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 70.0;
const LINE: f64 = 20.0;
/// Slower than so many times the fastest is at the end of the line.
const MOST: f64 = 4.0;

/// The colour of a strategy, the same in every plot.
pub(super) fn colour(strategy: Strategy) -> &'static str {
    let place = Strategy::ALL.iter().position(|one| *one == strategy).unwrap_or(0);
    COLOURS[place % COLOURS.len()]
}

/// The strategies that appear, in order.
pub(super) fn strategies(groups: &[Group]) -> Vec<Strategy> {
    let seen = |s: &Strategy| groups.iter().flatten().any(|figure| figure.key.strategy == *s);
    Strategy::ALL.into_iter().filter(seen).collect()
}

/// Names beside their colours, from `x` on.
pub(super) fn legend(svg: &mut String, strategies: &[Strategy], mut x: f64, y: f64) {
    for strategy in strategies {
        *svg += &format!(
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{}\"/>\n",
            y - 9.0,
            colour(*strategy)
        );
        *svg += &text(x + 14.0, y, "start", strategy.name(), "#222222");
        x += 75.0;
    }
}

/// The start of a page.
pub(super) fn page(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    )
}

/// The plot.
pub(super) fn svg(sheet: &Sheet, groups: &[Group]) -> String {
    let height = TOP + LINE * groups.len() as f64 + 45.0;
    let mut svg = page(WIDTH, height);
    svg += &text(14.0, 22.0, "start", &escape(&format!("{}; tern {}", sheet.cpu, sheet.tern)), "#222222");
    legend(&mut svg, &strategies(groups), 14.0, 46.0);
    let place = |ratio: f64| LEFT + ratio.clamp(1.0, MOST).log2() / MOST.log2() * (WIDTH - LEFT - RIGHT);
    let bottom = TOP + LINE * groups.len() as f64;
    for ratio in [1.0, 1.1, 1.25, 1.5, 2.0, 3.0, MOST] {
        let x = place(ratio);
        svg += &format!("<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"#dddddd\"/>\n");
        svg += &text(x, bottom + 18.0, "middle", &ratio.to_string(), "#555555");
    }
    for (i, group) in groups.iter().enumerate() {
        let Some(best) = group.first() else { continue };
        let y = TOP + LINE * (i as f64 + 0.5);
        let label = title(&best.key);
        // The level is the same in nearly all: it stands in the table.
        let label = label.rsplit_once("; ").map_or(label.as_str(), |(product, _)| product);
        svg += &text(LEFT - 12.0, y + 4.0, "end", &escape(label), "#222222");
        // The fastest last: on top.
        for figure in group.iter().rev() {
            let colour = colour(figure.key.strategy);
            let fill = if figure.variant == Variant::default() { colour } else { "none" };
            let x = place(figure.ns / best.ns);
            svg += &format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{colour}\"><title>{} {}, {:.2} us</title></circle>\n",
                figure.key.strategy.name(),
                figure.variant,
                figure.ns / 1e3
            );
        }
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    svg + &text(
        middle,
        bottom + 36.0,
        "middle",
        "times as long as the fastest; hollow: not the default variant",
        "#222222",
    ) + "</svg>\n"
}
