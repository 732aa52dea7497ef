//! A roofline plot: rows as points under the roofs of the machine.
//!
//! In: rows. Out: SVG. Both axes are logarithmic: products per byte from memory, and 10^9 products per second. A roof rises
//! with the bandwidth and ends at the peak of the dot product.

use super::rows::{LimitRow, Row, TestRow};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 480.0;
/// Left, right, top, bottom.
const MARGINS: [f64; 4] = [70.0, 30.0, 30.0, 55.0];
/// Of numbers of threads, in turn.
const COLOURS: [&str; 5] = ["#1f6fb2", "#c2571a", "#2e8540", "#7a4fa3", "#8a6d1d"];

/// A logarithmic axis: powers of ten at both ends.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis on `from..to` of the page that shows all `values`.
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let seen = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::log10);
        let (low, high) = seen.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return Self { low: 0.0, high: 1.0, from, to };
        }
        let (low, high) = ((low - 0.1).floor(), (high + 0.1).ceil());
        Self { low, high: high.max(low + 1.0), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE).log10() - self.low) / (self.high - self.low);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power))
    }
}

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

fn grid(svg: &mut String, x: &Axis, y: &Axis) {
    let mut line = |x1: f64, y1: f64, x2: f64, y2: f64| {
        *svg += &format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#dddddd\"/>\n");
    };
    x.powers().for_each(|v| line(x.place(v), y.from, x.place(v), y.to));
    y.powers().for_each(|v| line(x.from, y.place(v), x.to, y.place(v)));
    x.powers().for_each(|v| *svg += &text(x.place(v), y.from + 18.0, "middle", &v.to_string(), "#555555"));
    y.powers().for_each(|v| *svg += &text(x.from - 8.0, y.place(v) + 4.0, "end", &v.to_string(), "#555555"));
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

fn text(x: f64, y: f64, anchor: &str, content: &str, colour: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{content}</text>\n")
}

fn escape(text: &str) -> String {
    // XML has no control characters.
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_holds_all_values() {
        let axis = Axis::new([0.5, 30.0].into_iter(), 0.0, 100.0);
        assert_eq!((axis.low, axis.high), (-1.0, 2.0));
        assert_eq!((axis.place(0.1), axis.place(100.0)), (0.0, 100.0));
        assert_eq!(axis.powers().count(), 4);
        let empty = Axis::new([f64::NAN, 0.0].into_iter(), 0.0, 1.0);
        assert_eq!((empty.low, empty.high), (0.0, 1.0));
        assert_eq!(escape("a<b>&"), "a&lt;b&gt;&amp;");
    }
}
