//! One chart as SVG: lines over a logarithmic axis, from zero up.
use std::fmt::Write;

/// The area of a chart with its labels, and the margins of its lines.
pub(crate) const WIDTH: f64 = 560.0;
pub(crate) const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 48.0;

/// Distinct for most kinds of colour vision, dark enough on white.
const COLOURS: [&str; 3] = ["#0b62c4", "#d1570a", "#0f7a4d"];
const INK: &str = "#1f2328";
const FAINT: &str = "#57606a";
const GRID: &str = "#e3e6ea";

/// A line: its name and its points.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) lines: Vec<Line>,
}

impl Chart {
    /// Its elements, with its upper left corner at (0, 0).
    pub(crate) fn draw(&self) -> Result<String, std::fmt::Error> {
        let mut svg = String::new();
        let points = self.lines.iter().flat_map(|line| &line.points);
        let mut xs: Vec<f64> = points.clone().map(|point| point.0).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let most = points.map(|point| point.1).fold(0.0, f64::max);
        let scale = Scale::new(&xs, most);
        self.text(&mut svg)?;
        scale.draw(&mut svg, &xs)?;
        for (at, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            // The last line's figures are below it, so that they stay apart.
            let below = at > 0 && at + 1 == self.lines.len();
            line.draw(&mut svg, &scale, colour, below)?;
        }
        Ok(svg)
    }

    fn text(&self, svg: &mut String) -> std::fmt::Result {
        writeln!(
            svg,
            r#"<text x="0" y="16" font-size="14" font-weight="600" fill="{INK}">{}</text>"#,
            self.title
        )?;
        writeln!(
            svg,
            r#"<text x="{}" y="16" font-size="12" text-anchor="end" fill="{FAINT}">{}</text>"#,
            WIDTH - RIGHT,
            self.y
        )?;
        writeln!(
            svg,
            r#"<text x="{}" y="{}" font-size="12" text-anchor="middle" fill="{FAINT}">{}</text>"#,
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 6.0,
            self.x
        )?;
        let mut x = 0.0;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            writeln!(
                svg,
                r#"<line x1="{x}" y1="33" x2="{}" y2="33" stroke="{colour}" stroke-width="3"/><text x="{}" y="37" font-size="12" fill="{INK}">{}</text>"#,
                x + 18.0,
                x + 24.0,
                line.name
            )?;
            x += 44.0 + 6.6 * line.name.len() as f64;
        }
        Ok(())
    }
}

/// From values to places.
#[derive(Debug)]
struct Scale {
    low: f64,
    high: f64,
    step: f64,
    top: f64,
}

impl Scale {
    fn new(xs: &[f64], most: f64) -> Self {
        let end = |x: Option<&f64>| x.copied().unwrap_or(1.0).ln();
        let step = step(most);
        Self {
            low: end(xs.first()),
            high: end(xs.last()),
            step,
            top: (most * 1.1 / step).ceil() * step,
        }
    }

    fn x(&self, value: f64) -> f64 {
        let part = (value.ln() - self.low) / (self.high - self.low).max(f64::MIN_POSITIVE);
        // The first and the last points' figures need some room beside them.
        let inner = WIDTH - LEFT - RIGHT - 36.0;
        LEFT + 18.0 + part * inner
    }

    fn y(&self, value: f64) -> f64 {
        let part = value / self.top.max(f64::MIN_POSITIVE);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }

    fn draw(&self, svg: &mut String, xs: &[f64]) -> std::fmt::Result {
        let mut value = 0.0;
        while value <= self.top * 1.001 {
            let y = self.y(value);
            writeln!(
                svg,
                r#"<line x1="{LEFT}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}" stroke="{GRID}"/><text x="{}" y="{:.1}" font-size="11" text-anchor="end" fill="{FAINT}">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                number(value)
            )?;
            value += self.step;
        }
        for &value in xs {
            let x = self.x(value);
            writeln!(
                svg,
                r#"<text x="{x:.1}" y="{:.1}" font-size="11" text-anchor="middle" fill="{FAINT}">{}</text>"#,
                HEIGHT - BOTTOM + 23.0,
                short(value)
            )?;
        }
        Ok(())
    }
}

impl Line {
    fn draw(&self, svg: &mut String, scale: &Scale, colour: &str, below: bool) -> std::fmt::Result {
        let place = |point: &(f64, f64)| (scale.x(point.0), scale.y(point.1));
        let places: Vec<_> = self.points.iter().map(place).collect();
        let path: Vec<_> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            path.join(" ")
        )?;
        for ((x, y), (_, value)) in places.iter().zip(&self.points) {
            let label = if below { y + 15.0 } else { y - 7.0 };
            writeln!(
                svg,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#
            )?;
            // Twice, first as a white edge that keeps it readable upon lines.
            let figure = number(*value);
            for style in [r#"stroke="white" stroke-width="3""#, ""] {
                writeln!(
                    svg,
                    r#"<text x="{x:.1}" y="{label:.1}" font-size="10" text-anchor="middle" fill="{colour}" {style}>{figure}</text>"#
                )?;
            }
        }
        Ok(())
    }
}

/// 1, 2 or 5 times a power of ten: three to six of them up to `most`.
fn step(most: f64) -> f64 {
    let rough = (most / 4.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let fits = [1.0, 2.0, 5.0].into_iter().find(|n| n * power >= rough);
    fits.unwrap_or(10.0) * power
}

fn number(value: f64) -> String {
    let digits = usize::from(value > 0.0 && value < 100.0 && value.fract() > 0.01);
    let plain = format!("{value:.digits$}");
    match plain.len() {
        4.. if digits == 0 => format!(
            "{},{}",
            &plain[..plain.len() - 3],
            &plain[plain.len() - 3..]
        ),
        _ => plain,
    }
}

/// A number of entries or workers.
fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{} M", value / 1e6)
    } else {
        number(value)
    }
}
