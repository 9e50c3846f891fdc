//! From the lines of results to one picture: a column by entries, a column by workers.
use crate::chart::{Chart, HEIGHT, Line, WIDTH};
use crate::{ENTRIES, Fallible, WORKERS};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

const GAP: f64 = 36.0;
const HEAD: f64 = 74.0;

/// A row of charts: what, in which unit, and its lines (name, field).
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const ROWS: [Row; 4] = [
    (
        "Lookup, 256 blocks held",
        "ns",
        &[
            ("from tokens", "tokens_256_ns"),
            ("from keys", "keys_256_ns"),
        ],
    ),
    (
        "Lookup, first of 260 blocks unknown",
        "ns",
        &[("from tokens", "miss_ns")],
    ),
    (
        "Store and remove",
        "ns per block",
        &[
            ("store from empty on, mean", "fill_ns"),
            ("store at this size", "store_ns"),
            ("remove", "remove_ns"),
        ],
    ),
    (
        "Memory",
        "bytes per (block, worker) entry",
        &[
            ("resident growth", "resident_bytes_per_entry"),
            ("Index::bytes()", "counted_bytes_per_entry"),
        ],
    ),
];

/// The picture.
pub(crate) fn draw(lines: &str) -> Fallible<String> {
    let lines: Vec<Value> = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let (width, height) = (
        2.0 * WIDTH + 3.0 * GAP,
        HEAD + ROWS.len() as f64 * (HEIGHT + GAP),
    );
    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="system-ui, 'DejaVu Sans', sans-serif">"#
    )?;
    writeln!(
        svg,
        r##"<rect width="{width}" height="{height}" fill="#ffffff"/>"##
    )?;
    head(&mut svg, &lines)?;
    let mut y = HEAD;
    for row in &ROWS {
        let charts = [
            chart(
                row,
                &lines,
                "entries (64 workers)",
                "asked_entries",
                |line| line["workers"] == WORKERS,
            ),
            chart(row, &lines, "workers (5 M entries)", "workers", |line| {
                line["asked_entries"] == ENTRIES
            }),
        ];
        for (chart, x) in charts.iter().zip([GAP, 2.0 * GAP + WIDTH]) {
            writeln!(svg, r#"<g transform="translate({x} {y})">"#)?;
            svg.push_str(&chart.draw()?);
            writeln!(svg, "</g>")?;
        }
        y += HEIGHT + GAP;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn head(svg: &mut String, lines: &[Value]) -> Fallible<()> {
    let text = |name: &str| {
        let value = lines.iter().find_map(|line| line[name].as_str());
        value.unwrap_or("unknown").replace('&', "&amp;")
    };
    writeln!(
        svg,
        r##"<text x="{GAP}" y="30" font-size="18" font-weight="600" fill="#1f2328">How the index grows</text>"##
    )?;
    let repeats = lines.iter().find_map(|line| line["repeats"].as_u64());
    writeln!(
        svg,
        r##"<text x="{GAP}" y="50" font-size="12" fill="#57606a">{}, {}, load at the beginning {}; each point a fresh process, the lowest of {} runs</text>"##,
        text("machine"),
        text("allocator"),
        text("load"),
        repeats.unwrap_or(1)
    )?;
    Ok(())
}

fn chart(
    (title, unit, series): &Row,
    lines: &[Value],
    x: &'static str,
    field: &str,
    counts: impl Fn(&Value) -> bool,
) -> Chart {
    let of = |&(name, y): &(&'static str, &str)| {
        let mut by_x: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for line in lines.iter().filter(|line| counts(line)) {
            if let (Some(x), Some(y)) = (line[field].as_u64(), line[y].as_f64()) {
                by_x.entry(x).or_default().push(y);
            }
        }
        // The lowest: what else runs on the machine can only add to a time.
        let lowest = |ys: Vec<f64>| ys.into_iter().fold(f64::INFINITY, f64::min);
        let points = by_x.into_iter().map(|(x, ys)| (x as f64, lowest(ys)));
        Line {
            name,
            points: points.collect(),
        }
    };
    Chart {
        title,
        x,
        y: unit,
        lines: series.iter().map(of).collect(),
    }
}
