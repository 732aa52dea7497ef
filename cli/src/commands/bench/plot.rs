//! A roofline plot: rows as points under the roofs of the machine.
//!
//! In: rows. Out: SVG. Both axes are logarithmic: products per byte from memory, and 10^9 products per second. A roof rises
//! with the bandwidth and ends at the peak of the dot product.

use super::rows::{LimitRow, Row, TestRow};
use crate::svg::{Axis, COLOURS, escape, grid, text};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 480.0;
/// Left, right, top, bottom.
const MARGINS: [f64; 4] = [70.0, 30.0, 30.0, 55.0];

/// The plot.
pub(super) fn svg(rows: &[Row]) -> String {
    let tests: Vec<&TestRow> =
        rows.iter().filter_map(|r| if let Row::Test(t) = r { Some(&**t) } else { None }).collect();
    let limits: Vec<&LimitRow> =
        rows.iter().filter_map(|r| if let Row::Limits(l) = r { Some(l) } else { None }).collect();
    let intensity = |t: &TestRow| t.macs_per_tok / t.bytes_per_tok;
    let ridges = limits.iter().filter_map(|l| Some(l.dot_gmacs_widest? / l.read_gb_per_s));
    let [left, right, top, bottom] = MARGINS;
    let x = Axis::new(tests.iter().map(|t| intensity(t)).chain(ridges), left, WIDTH - right);
    let peaks = limits.iter().filter_map(|l| l.dot_gmacs_widest);
    let y = Axis::new(tests.iter().map(|t| t.gmacs).chain(peaks), HEIGHT - bottom, top);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    grid(&mut svg, &x, &y);
    for (limit, colour) in limits.iter().zip(COLOURS.iter().cycle()) {
        roof(&mut svg, limit, &x, &y, colour);
        for test in tests.iter().filter(|test| test.threads == limit.threads) {
            let (px, py) = (x.place(intensity(test)), y.place(test.gmacs));
            svg += &format!("<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"4\" fill=\"{colour}\"/>\n");
            let label = escape(&format!("{}, {} threads", test.test, test.threads));
            let (anchor, dx) = if px > WIDTH - 180.0 { ("end", -8.0) } else { ("start", 8.0) };
            svg += &text(px + dx, py + 4.0, anchor, &label, colour);
        }
    }
    let title = tests.first().map_or(String::new(), |t| format!("{}, {}, emitter {}", t.model, t.isa, t.emitter));
    svg += &text(left, top - 12.0, "start", &escape(&title), "#222222");
    svg +=
        &text((left + WIDTH - right) / 2.0, HEIGHT - 14.0, "middle", "multiply-adds per byte from memory", "#222222");
    svg += &format!(
        "<text x=\"18\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#222222\" transform=\"rotate(-90 18 {:.1})\">\
         10⁹ multiply-adds per second</text>\n</svg>\n",
        HEIGHT / 2.0,
        HEIGHT / 2.0
    );
    svg
}

/// Bandwidth up to the ridge, the peak behind it; of narrower instructions a dashed line.
fn roof(svg: &mut String, limit: &LimitRow, x: &Axis, y: &Axis, colour: &str) {
    let bandwidth = limit.read_gb_per_s;
    let end = 10f64.powf(x.high);
    let peak = limit.dot_gmacs_widest.unwrap_or(end * bandwidth);
    let ridge = peak / bandwidth;
    let start = 10f64.powf(x.low).max(10f64.powf(y.low) / bandwidth);
    let points = [(start, start * bandwidth), (ridge, peak), (end, peak)];
    let points: Vec<_> = points.iter().map(|(a, b)| format!("{:.1},{:.1}", x.place(*a), y.place(*b))).collect();
    *svg += &format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n",
        points.join(" ")
    );
    if let Some(narrow) = limit.dot_gmacs.filter(|narrow| *narrow < 0.95 * peak) {
        let (x1, y1) = (x.place(narrow / bandwidth), y.place(narrow));
        *svg += &format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{:.1}\" y2=\"{y1:.1}\" stroke=\"{colour}\" stroke-dasharray=\"5 4\"/>\n",
            x.to
        );
    }
    let label = format!("{} threads: {bandwidth:.1} GB/s, {peak:.0} G multiply-adds/s", limit.threads);
    *svg += &text(x.to, y.place(peak) - 6.0, "end", &label, colour);
}
