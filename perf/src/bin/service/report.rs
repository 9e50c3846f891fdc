//! The table for people, and a line of JSON for each cell.
use crate::grid::{Cell, Encoding, Row, Series};
use crate::measure::{Figures, Measured, median, over_tcp, ratios};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;

/// One cell, beside the others that it is compared with.
#[derive(Debug)]
struct Line<'m> {
    cell: Cell,
    measured: &'m Measured,
    over_dynamo: Option<Ratio>,
    over_bare: Option<Ratio>,
}

/// Our processor time per request over another's: in every round, sorted.
#[derive(Debug)]
struct Ratio {
    rounds: Vec<f64>,
    bar: Option<f64>,
}

impl Ratio {
    fn new(ours: &Measured, other: &Measured, bar: Option<f64>) -> Self {
        let mut rounds = ratios(&ours.closed.processor, &other.closed.processor);
        rounds.sort_by(f64::total_cmp);
        Self { rounds, bar }
    }

    fn middle(&self) -> f64 {
        median(&self.rounds)
    }

    fn ends(&self) -> [f64; 2] {
        [self.rounds.first(), self.rounds.last()].map(|end| end.copied().unwrap_or(f64::NAN))
    }

    fn met(&self) -> Option<bool> {
        self.bar.map(|bar| self.middle() <= bar)
    }

    fn json(&self) -> Value {
        let [lowest, highest] = self.ends();
        let (middle, bar, met) = (self.middle(), self.bar, self.met());
        json!({"ratio": middle, "lowest": lowest, "highest": highest, "bar": bar, "met": met})
    }

    fn text(&self) -> String {
        let [lowest, highest] = self.ends();
        let met = match self.met() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let bar = self.bar.map_or(String::new(), |bar| format!("<= {bar:.2}"));
        format!(
            "{:>6.2} {:>12} {bar:>7} {met:<3}",
            self.middle(),
            format!("{lowest:.2}..{highest:.2}")
        )
    }
}

/// The most that kvroute may take, as a share of what Dynamo takes for the same prompt as JSON.
fn dynamo_bar(row: Row) -> Option<f64> {
    match (row.encoding, row.blocks) {
        // Bars are for prompts, and this is hardly one: its request is mostly HTTP.
        (_, ..256) => None,
        (Encoding::Compact | Encoding::Spaced, _) => Some(0.15),
        (Encoding::Binary, _) => Some(0.06),
        (Encoding::Hashes, _) => Some(0.3),
        (Encoding::Health, _) => None,
    }
}

/// The most that kvroute may take, as a multiple of what a server takes that only reads the same body.
const BARE_BAR: f64 = 1.25;

/// What Dynamo is asked in place of a row that it has not.
fn dynamo_row(row: Row) -> Row {
    let encoding = match row.encoding {
        Encoding::Binary => Encoding::Compact,
        other => other,
    };
    over_tcp(Row { encoding, ..row })
}

fn lines<'m>(rows: &[(Row, Vec<Series>)], all: &'m HashMap<Cell, Measured>) -> Vec<Line<'m>> {
    let mut lines = Vec::new();
    for (row, series) in rows {
        for &series in series {
            let cell = Cell { row: *row, series };
            let Some(measured) = all.get(&cell) else {
                continue;
            };
            let ours = matches!(series, Series::Match | Series::Query);
            let of = |row, series| all.get(&Cell { row, series });
            let dynamo = of(dynamo_row(*row), Series::Dynamo).filter(|_| series != Series::Dynamo);
            let bare = of(*row, Series::Bare).filter(|_| ours);
            // What the floor itself comes to, where no bar is for it.
            let dynamo_bar = dynamo_bar(*row).filter(|_| ours);
            lines.push(Line {
                cell,
                measured,
                over_dynamo: dynamo.map(|other| Ratio::new(measured, other, dynamo_bar)),
                over_bare: bare.map(|other| Ratio::new(measured, other, Some(BARE_BAR))),
            });
        }
    }
    lines
}

/// One JSON object for each cell.
pub(crate) fn json(rows: &[(Row, Vec<Series>)], all: &HashMap<Cell, Measured>) -> Vec<Value> {
    let one = |line: &Line<'_>| {
        let row = line.cell.row;
        json!({
            "blocks": row.blocks, "encoding": row.encoding.text(), "transport": row.transport.text(),
            "connections": row.connections, "server": line.cell.series.text(),
            "closed": figures(&line.measured.closed), "open": figures(&line.measured.open),
            "processor_over_dynamo": line.over_dynamo.as_ref().map(Ratio::json),
            "processor_over_bare": line.over_bare.as_ref().map(Ratio::json),
        })
    };
    lines(rows, all).iter().map(one).collect()
}

fn figures(figures: &Figures) -> Value {
    json!({
        "requests": figures.latencies.len(), "requests_per_second": median(&figures.rates),
        "processor_us": median(&figures.processor), "p50_us": figures.percentile(0.5),
        "p99_us": figures.percentile(0.99), "p999_us": figures.percentile(0.999),
    })
}

/// For people.
pub(crate) fn table(rows: &[(Row, Vec<Series>)], all: &HashMap<Cell, Measured>) -> String {
    let mut text = String::new();
    let closed = "as fast as it answers";
    let open = "at half that rate";
    let _ = writeln!(
        text,
        "{:<16}{closed:^44}  {open:^34}  {:^32} {:^32}",
        "", "CPU over dynamo's", "CPU over the bare server's",
    );
    let _ = writeln!(
        text,
        "{:<16}{:>9} {:>8} {:>8} {:>8} {:>7}  {:>9} {:>7} {:>8} {:>7}  {:>6} {:>12} {:>7} {:<3} {:>6} {:>12} {:>7} {:<3}",
        "microseconds",
        "req/s",
        "p50",
        "p99",
        "p99.9",
        "CPU",
        "req/s",
        "p50",
        "p99",
        "p99.9",
        "ratio",
        "rounds",
        "bar",
        "met",
        "ratio",
        "rounds",
        "bar",
        "met"
    );
    let lines = lines(rows, all);
    let mut above = None;
    for line in &lines {
        if above != Some(line.cell.row) {
            above = Some(line.cell.row);
            let connections = match line.cell.row.connections {
                1 => "connection",
                _ => "connections",
            };
            let _ = writeln!(text, "{} {connections}", line.cell.row);
        }
        let _ = writeln!(text, "{}", line.text().trim_end());
    }
    let bars = lines
        .iter()
        .flat_map(|line| [&line.over_dynamo, &line.over_bare]);
    let met: Vec<_> = bars.flatten().filter_map(Ratio::met).collect();
    let good = met.iter().filter(|&&met| met).count();
    let _ = writeln!(text, "\n{good} of {} bars met", met.len());
    text
}

impl Line<'_> {
    fn text(&self) -> String {
        let (closed, open) = (&self.measured.closed, &self.measured.open);
        let percentiles = |figures: &Figures| [0.5, 0.99, 0.999].map(|p| figures.percentile(p));
        let [p50, p99, p999] = percentiles(closed);
        let mut text = format!(
            "  {:<14}{:>9.0} {p50:>8.1} {p99:>8.1} {p999:>8.1} {:>7.1}",
            self.cell.series.text(),
            median(&closed.rates),
            median(&closed.processor),
        );
        let [p50, p99, p999] = percentiles(open);
        let rate = median(&open.rates);
        let _ = write!(text, "  {rate:>9.0} {p50:>7.1} {p99:>8.1} {p999:>7.1}");
        let ratio = |ratio: &Option<Ratio>| ratio.as_ref().map_or(String::new(), Ratio::text);
        let _ = write!(
            text,
            "  {:<31} {}",
            ratio(&self.over_dynamo),
            ratio(&self.over_bare)
        );
        text
    }
}
