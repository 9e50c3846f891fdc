//! Medians over trials, and the table.
use crate::rows::{Row, rows};
use crate::trial::{NAMES, median};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A row with what the trials gave.
#[derive(Debug)]
struct Line {
    row: Row,
    /// Medians in the order of [`NAMES`]; not a number where a contender has no figure.
    figures: Vec<f64>,
    /// The ratio of every trial, sorted. Ratios are taken within a trial, where they are not
    /// moved by what the machine does from one to the next.
    ratios: Vec<f64>,
}

impl Line {
    /// `None` if no trial has the row.
    fn new(row: Row, trials: &[Value]) -> Option<Self> {
        let figures_of = |name| -> Vec<f64> {
            let of = |trial: &Value| trial["rows"][&row.id][name].as_f64();
            trials
                .iter()
                .map(|trial| of(trial).unwrap_or(f64::NAN))
                .collect()
        };
        let all: Vec<Vec<f64>> = NAMES.iter().map(|name| figures_of(*name)).collect();
        let (ours, peers) = all.split_first()?;
        let ratio = |trial: usize| {
            let peers: Vec<_> = peers.iter().map(|figures| figures[trial]).collect();
            row.ratio(ours[trial], &peers)
        };
        let mut ratios: Vec<_> = (0..trials.len()).map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let figures: Vec<_> = all.iter().map(|figures| median(figures)).collect();
        let there = !figures[0].is_nan();
        there.then_some(Self {
            row,
            figures,
            ratios,
        })
    }

    fn ratio(&self) -> f64 {
        median(&self.ratios)
    }

    fn spread(&self) -> (f64, f64) {
        let end = |at: Option<&f64>| at.copied().unwrap_or(f64::NAN);
        (end(self.ratios.first()), end(self.ratios.last()))
    }

    fn json(&self) -> Value {
        let figures = NAMES.iter().zip(&self.figures);
        let figures = figures.filter(|(_, figure)| !figure.is_nan());
        let (lowest, highest) = self.spread();
        json!({
            "id": self.row.id,
            "title": self.row.title,
            "unit": self.row.unit,
            "figures": figures.collect::<std::collections::BTreeMap<_, _>>(),
            "ratio": self.ratio(),
            "ratio_lowest": lowest,
            "ratio_highest": highest,
            "bar": self.row.wanted(),
            "met": self.row.met(self.ratio()),
        })
    }

    fn text(&self) -> String {
        let mut line = format!("{:<50}{:>12}", self.row.title, self.row.unit);
        for figure in &self.figures {
            let _ = write!(line, "{:>10}", number(*figure));
        }
        let (lowest, highest) = self.spread();
        let spread = format!("{}..{}", number(lowest), number(highest));
        let met = match self.row.met(self.ratio()) {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let (ratio, bar) = (number(self.ratio()), self.row.wanted());
        let _ = write!(line, "{ratio:>8}{spread:>14}{bar:>14}  {met}");
        line.trim_end().to_owned()
    }
}

/// Three digits or so.
fn number(figure: f64) -> String {
    match figure {
        _ if figure.is_nan() => "-".to_owned(),
        ..10.0 => format!("{figure:.2}"),
        ..100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

fn lines(trials: &[Value]) -> Vec<Line> {
    let all = rows().into_iter();
    all.filter_map(|row| Line::new(row, trials)).collect()
}

/// For programs.
pub(crate) fn json(trials: &[Value]) -> Value {
    let rows: Vec<_> = lines(trials).iter().map(Line::json).collect();
    json!({ "trials": trials.len(), "rows": rows })
}

/// For people.
pub(crate) fn table(trials: &[Value]) -> String {
    let lines = lines(trials);
    let first = trials.first().unwrap_or(&Value::Null);
    let mut text = format!(
        "{} trials, medians; {} workers, {} (block, worker) entries, mimalloc\n\n",
        trials.len(),
        first["workers"],
        first["entries"],
    );
    let _ = write!(text, "{:<50}{:>12}", "", "unit");
    for name in NAMES {
        let _ = write!(text, "{name:>10}");
    }
    let _ = writeln!(
        text,
        "{:>8}{:>14}{:>14}  met",
        "ratio", "over trials", "bar"
    );
    for line in &lines {
        let _ = writeln!(text, "{}", line.text());
    }
    let met: Vec<_> = lines.iter().filter_map(|l| l.row.met(l.ratio())).collect();
    let good = met.iter().filter(|&&met| met).count();
    let _ = writeln!(text, "\n{good} of {} bars met", met.len());
    text
}
