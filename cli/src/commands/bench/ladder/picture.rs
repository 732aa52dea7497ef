//! The ladder as a picture: memory and time per token over parameters, a line per kind of weights.
//!
//! In: rungs. Out: SVG. All axes are logarithmic. What ran whole is a full point, what was extrapolated a hollow one.

use super::rung::Rung;
use crate::svg::{Axis, COLOURS, escape, grid, text};

const WIDTH: f64 = 980.0;
const HEIGHT: f64 = 470.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 400.0;
/// Left and right of the panels.
const PANELS: [[f64; 2]; 2] = [[75.0, 475.0], [560.0, 960.0]];

/// The picture.
pub(super) fn svg(rungs: &[Rung], title: &str) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for rung in rungs {
        if !kinds.contains(&rung.weights) {
            kinds.push(rung.weights);
        }
    }
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    svg += &text(PANELS[0][0], 20.0, "start", &escape(title), "#222222");
    let memory = |rung: &Rung| rung.memory_bytes as f64 / 1e9;
    let time = |rung: &Rung| rung.ms_per_tok;
    panel(&mut svg, rungs, &kinds, PANELS[0], ("memory, GB", &memory));
    panel(&mut svg, rungs, &kinds, PANELS[1], ("milliseconds per token", &time));
    let mut x = PANELS[0][0];
    for (kind, colour) in kinds.iter().zip(COLOURS.iter().cycle()) {
        svg += &format!("<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>\n", HEIGHT - 16.0);
        svg += &text(x + 9.0, HEIGHT - 12.0, "start", &escape(kind), colour);
        x += 90.0;
    }
    svg += &text(x, HEIGHT - 12.0, "start", "hollow: extrapolated, from some layers or from bytes", "#555555");
    svg + "</svg>\n"
}

/// One figure over parameters.
fn panel(
    svg: &mut String,
    rungs: &[Rung],
    kinds: &[&str],
    [left, right]: [f64; 2],
    (name, figure): (&str, &dyn Fn(&Rung) -> f64),
) {
    let billions = |rung: &Rung| rung.parameters as f64 / 1e9;
    let x = Axis::new(rungs.iter().map(billions), left, right);
    let y = Axis::new(rungs.iter().map(figure), BOTTOM, TOP);
    grid(svg, &x, &y);
    for (kind, colour) in kinds.iter().zip(COLOURS.iter().cycle()) {
        let places: Vec<(f64, f64, &Rung)> = rungs
            .iter()
            .filter(|rung| rung.weights == *kind)
            .map(|rung| (x.place(billions(rung)), y.place(figure(rung)), rung))
            .collect();
        let points: Vec<String> = places.iter().map(|(px, py, _)| format!("{px:.1},{py:.1}")).collect();
        *svg += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n",
            points.join(" ")
        );
        for (px, py, rung) in places {
            let fill = if rung.extrapolated { "#ffffff" } else { colour };
            *svg += &format!(
                "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"1.5\">\
                 <title>{}</title></circle>\n",
                escape(&format!("{} {}: {}{:.3}", rung.size, rung.weights, rung.basis.mark(), figure(rung)))
            );
        }
    }
    let middle = (left + right) / 2.0;
    *svg += &text(middle, BOTTOM + 38.0, "middle", "billions of parameters", "#222222");
    *svg += &text(middle, TOP - 10.0, "middle", name, "#222222");
}

#[cfg(test)]
mod tests {
    use tern_compiler::synth::{Shape, Weights};

    use super::super::rung::tests::seen;
    use super::*;

    #[test]
    fn extrapolated_points_are_hollow() {
        let shape = Shape::named("700m").expect("a shape");
        let larger = Shape::named("3b").expect("a shape");
        let whole = Rung::of(&shape, Weights::Ternary, &seen(&shape, 24, 2.0));
        let rungs = [whole.clone(), whole.of_larger(&larger), Rung::of(&shape, Weights::F16, &seen(&shape, 2, 16.0))];
        let svg = svg(&rungs, "a <title>");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
        assert!(svg.contains("a &lt;title&gt;"));
        // Two panels: of each, one point is full and two are hollow; two polylines.
        let count = |what: &str| svg.matches(what).count();
        assert_eq!(count("r=\"4\" fill=\"#ffffff\""), 4);
        assert_eq!((count("<title>"), count("<polyline")), (6, 4));
        assert!(svg.contains("700m f16: ~") && svg.contains("3b ternary: ≈"));
    }
}
