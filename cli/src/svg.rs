//! What the plots share: axes, texts, colours.
//!
//! In: numbers and names. Out: pieces of SVG. Names are escaped here.

/// Of what is told apart by colour, in turn.
pub(crate) const COLOURS: [&str; 9] =
    ["#1f6fb2", "#c2571a", "#2e8540", "#7a4fa3", "#8a6d1d", "#b3386b", "#4c6a78", "#7a9a01", "#555555"];

/// A logarithmic axis: powers of ten at both ends.
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Axis {
    /// An axis on `from..to` of the page that shows all `values`.
    pub(crate) fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let seen = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::log10);
        let (low, high) = seen.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return Self { low: 0.0, high: 1.0, from, to };
        }
        let (low, high) = ((low - 0.1).floor(), (high + 0.1).ceil());
        Self { low, high: high.max(low + 1.0), from, to }
    }

    pub(crate) fn place(&self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE).log10() - self.low) / (self.high - self.low);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    pub(crate) fn powers(&self) -> impl Iterator<Item = f64> {
        (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power))
    }
}

/// Lines and numbers at the powers of ten.
pub(crate) fn grid(svg: &mut String, x: &Axis, y: &Axis) {
    let mut line = |x1: f64, y1: f64, x2: f64, y2: f64| {
        *svg += &format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#dddddd\"/>\n");
    };
    x.powers().for_each(|v| line(x.place(v), y.from, x.place(v), y.to));
    y.powers().for_each(|v| line(x.from, y.place(v), x.to, y.place(v)));
    x.powers().for_each(|v| *svg += &text(x.place(v), y.from + 18.0, "middle", &v.to_string(), "#555555"));
    y.powers().for_each(|v| *svg += &text(x.from - 8.0, y.place(v) + 4.0, "end", &v.to_string(), "#555555"));
}

/// A text at a place.
pub(crate) fn text(x: f64, y: f64, anchor: &str, content: &str, colour: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{content}</text>\n")
}

/// Any text as SVG takes it.
pub(crate) fn escape(text: &str) -> String {
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
