//! The outcomes of a simulation as one SVG: the times to the first token, and what was reused.
use super::Outcome;
use std::fmt::{self, Write as _};

const WIDTH: f64 = 960.0;
const LEFT: Area = Area {
    x: 70.0,
    y: 60.0,
    width: 480.0,
    height: 320.0,
};
const RIGHT: Area = Area {
    x: 690.0,
    y: 60.0,
    width: 220.0,
    height: 320.0,
};

/// One colour a line, told apart by most eyes on white and on black (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#888888", "#CC79A7", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2",
];

/// Times that the axis may begin and end with, in seconds.
const DECADES: [f64; 7] = [0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0];

/// Points of a line.
const POINTS: usize = 200;

#[derive(Clone, Copy)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// Draws them; `caption` is what was simulated.
///
/// # Errors
/// None: writing to a string does not fail.
pub fn draw(caption: &[String], outcomes: &[Outcome]) -> Result<String, fmt::Error> {
    let mut svg = String::new();
    let height = LEFT.y + LEFT.height + 60.0 + 16.0 * caption.len() as f64;
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="12">"#
    )?;
    svg.push_str(
        "<style>text{fill:#222}.axis{stroke:#888}.grid{stroke:#8884}.page{fill:#fff}\n\
         @media (prefers-color-scheme: dark){text{fill:#ddd}.page{fill:#16181d}}</style>\n",
    );
    writeln!(
        svg,
        r#"<rect class="page" width="{WIDTH}" height="{height}"/>"#
    )?;
    times(&mut svg, outcomes)?;
    reuse(&mut svg, outcomes)?;
    for (line, text) in caption.iter().enumerate() {
        let y = LEFT.y + LEFT.height + 62.0 + 16.0 * line as f64;
        writeln!(
            svg,
            r#"<text x="20" y="{y}" font-size="11">{}</text>"#,
            escaped(text)
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// The share of requests whose first token came within a time.
fn times(svg: &mut String, outcomes: &[Outcome]) -> fmt::Result {
    let all = || outcomes.iter().flat_map(|o| o.ttfts.iter().copied());
    let (least, most) = (
        all().fold(f64::MAX, f64::min),
        all().fold(f64::MIN_POSITIVE, f64::max),
    );
    let below = DECADES.iter().rev().find(|&&at| at <= least);
    let above = DECADES.iter().find(|&&at| at >= most);
    let first = below.copied().unwrap_or(DECADES[0]);
    let last = above.copied().unwrap_or(DECADES[DECADES.len() - 1]);
    let x = |time: f64| {
        let share = (time.max(first) / first).log10() / (last / first).log10().max(1e-9);
        LEFT.x + LEFT.width * share.min(1.0)
    };
    let y = |share: f64| LEFT.y + LEFT.height * (1.0 - share);
    title(svg, LEFT, "Time to the first token")?;
    for share in [0.0, 0.25, 0.5, 0.75, 0.9, 1.0] {
        let (y, x) = (y(share), LEFT.x);
        let (end, label) = (x + LEFT.width, x - 6.0);
        writeln!(
            svg,
            r#"<line class="grid" x1="{x}" y1="{y}" x2="{end}" y2="{y}"/><text x="{label}" y="{:.1}" text-anchor="end">{:.0} %</text>"#,
            y + 4.0,
            100.0 * share
        )?;
    }
    for time in DECADES.into_iter().filter(|&at| first <= at && at <= last) {
        let (x, top, bottom) = (x(time), LEFT.y, LEFT.y + LEFT.height);
        writeln!(
            svg,
            r#"<line class="grid" x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{bottom}"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{time}</text>"#,
            bottom + 16.0
        )?;
    }
    let (middle, below) = (LEFT.x + LEFT.width / 2.0, LEFT.y + LEFT.height + 34.0);
    writeln!(
        svg,
        r#"<text x="{middle}" y="{below}" text-anchor="middle">seconds from arrival (log) / share of requests within</text>"#
    )?;
    for (outcome, colour) in outcomes.iter().zip(COLOURS.iter().cycle()) {
        let values = &outcome.ttfts;
        let mut points = String::new();
        for point in 0..=POINTS {
            let share = point as f64 / POINTS as f64;
            let at = (values.len() * point / POINTS).min(values.len().saturating_sub(1));
            let time = values.get(at).copied().unwrap_or(first);
            write!(points, "{:.1},{:.1} ", x(time), y(share))?;
        }
        writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            points.trim_end()
        )?;
    }
    legend(svg, outcomes)
}

fn legend(svg: &mut String, outcomes: &[Outcome]) -> fmt::Result {
    for (line, (outcome, colour)) in outcomes.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let y = LEFT.y + 18.0 + 17.0 * line as f64;
        let x = LEFT.x + 12.0;
        writeln!(
            svg,
            r#"<line x1="{x}" y1="{:.1}" x2="{}" y2="{:.1}" stroke="{colour}" stroke-width="3"/><text x="{}" y="{y:.1}">{}</text>"#,
            y - 4.0,
            x + 18.0,
            y - 4.0,
            x + 24.0,
            outcome.strategy.as_str()
        )?;
    }
    Ok(())
}

/// The share of the prompts' tokens that were reused.
fn reuse(svg: &mut String, outcomes: &[Outcome]) -> fmt::Result {
    title(svg, RIGHT, "Prompt tokens reused")?;
    let most = outcomes.iter().map(Outcome::hit_ratio).fold(0.01, f64::max);
    let row = RIGHT.height / outcomes.len().max(1) as f64;
    for (at, (outcome, colour)) in outcomes.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let y = RIGHT.y + row * at as f64;
        let ratio = outcome.hit_ratio();
        let width = (RIGHT.width - 50.0) * ratio / most;
        let middle = y + row / 2.0 + 4.0;
        writeln!(
            svg,
            r#"<rect x="{}" y="{:.1}" width="{width:.1}" height="{:.1}" fill="{colour}"/><text x="{}" y="{middle:.1}" text-anchor="end">{}</text><text x="{:.1}" y="{middle:.1}">{:.1} %</text>"#,
            RIGHT.x,
            y + row * 0.15,
            row * 0.7,
            RIGHT.x - 6.0,
            outcome.strategy.as_str(),
            RIGHT.x + width + 5.0,
            100.0 * ratio
        )?;
    }
    let (x, y) = (RIGHT.x, RIGHT.y + RIGHT.height);
    writeln!(
        svg,
        r#"<line class="axis" x1="{x}" y1="{}" x2="{x}" y2="{y}"/>"#,
        RIGHT.y
    )
}

fn title(svg: &mut String, area: Area, text: &str) -> fmt::Result {
    let (x, y) = (area.x + area.width / 2.0, area.y - 22.0);
    writeln!(
        svg,
        r#"<text x="{x}" y="{y}" font-size="15" font-weight="600" text-anchor="middle">{text}</text>"#
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
