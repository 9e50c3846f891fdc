//! The rows of the table, and how far ahead of the better peer we want to be in each.
use crate::trial::DEPTHS;

/// What a row wants of us.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    /// Low is good: at most this many times the better peer's figure.
    AtMost(f64),
    /// High is good: at least this many times the better peer's figure.
    AtLeast(f64),
    /// Low is good, and the figure itself is at most this.
    Itself(f64),
    /// Low is good; for information.
    Shown,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The name in a trial's answer.
    pub(crate) id: String,
    /// For readers.
    pub(crate) title: String,
    /// Of the figures.
    pub(crate) unit: &'static str,
    /// What we want.
    pub(crate) bar: Bar,
}

impl Row {
    fn new(id: &str, title: &str, unit: &'static str, bar: Bar) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            unit,
            bar,
        }
    }

    /// Ours in relation to the better peer's, or our figure itself where the bar is about that.
    pub(crate) fn ratio(&self, ours: f64, peers: &[f64]) -> f64 {
        let best = |better: fn(f64, f64) -> f64| peers.iter().copied().fold(f64::NAN, better);
        match self.bar {
            Bar::AtMost(_) | Bar::Shown => ours / best(f64::min),
            Bar::AtLeast(_) => ours / best(f64::max),
            Bar::Itself(_) => ours,
        }
    }

    /// Whether a ratio is good enough.
    pub(crate) fn met(&self, ratio: f64) -> Option<bool> {
        match self.bar {
            Bar::AtMost(most) | Bar::Itself(most) => Some(ratio <= most),
            Bar::AtLeast(least) => Some(ratio >= least),
            Bar::Shown => None,
        }
    }

    /// The bar in words.
    pub(crate) fn wanted(&self) -> String {
        match self.bar {
            Bar::AtMost(most) => format!("<= {most}"),
            Bar::AtLeast(least) => format!(">= {least}"),
            Bar::Itself(most) => format!("itself <= {most}"),
            Bar::Shown => String::new(),
        }
    }
}

/// All rows, in order.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (how, title) in [("hashes", "from hashes"), ("tokens", "from tokens")] {
        for (depth, _) in DEPTHS {
            for percentile in ["p50", "p99", "mean"] {
                let bar = match (how, depth, percentile) {
                    ("hashes", ..=1_024, "p50" | "p99") => Bar::AtMost(0.8),
                    ("tokens", 64..=1_024, "p50") => Bar::AtMost(0.5),
                    _ => Bar::Shown,
                };
                let id = format!("{how}/{depth}/{percentile}");
                let title = format!("hit {title}, depth {depth}, {percentile}");
                rows.push(Row::new(&id, &title, "ns", bar));
            }
        }
    }
    rows.extend(other_lookups());
    rows.extend(the_rest());
    rows
}

fn other_lookups() -> [Row; 9] {
    let row = |id, title, bar| Row::new(id, title, "ns", bar);
    [
        row(
            "tokens/miss/p50",
            "miss at the first of 260 blocks, from tokens, p50",
            Bar::AtMost(0.2),
        ),
        row("tokens/miss/p99", "the same, p99", Bar::Shown),
        row("tokens/miss/mean", "the same, mean", Bar::Shown),
        row(
            "hashes/mixed/p50",
            "mixed depths 65..256, from hashes, p50",
            Bar::AtMost(0.8),
        ),
        row("hashes/mixed/p99", "the same, p99", Bar::Shown),
        row("hashes/mixed/mean", "the same, mean", Bar::Shown),
        row(
            "tokens/mixed/p50",
            "mixed depths 65..256, from tokens, p50",
            Bar::AtMost(0.5),
        ),
        row("tokens/mixed/p99", "the same, p99", Bar::Shown),
        row("tokens/mixed/mean", "the same, mean", Bar::Shown),
    ]
}

fn the_rest() -> [Row; 9] {
    let row = Row::new;
    [
        row("store", "store", "M blocks/s", Bar::AtLeast(1.5)),
        row("remove", "remove", "M blocks/s", Bar::AtLeast(1.5)),
        row(
            "memory",
            "resident memory per (block, worker)",
            "bytes",
            Bar::AtMost(0.5),
        ),
        row(
            "race/writer",
            "writer beside a reader",
            "M blocks/s",
            Bar::AtLeast(1.3),
        ),
        row(
            "race/reader",
            "reader beside a writer",
            "K lookups/s",
            Bar::AtLeast(1.3),
        ),
        row(
            "race/p99",
            "reader beside a writer, p99",
            "ns",
            Bar::AtMost(1.0),
        ),
        row("clear", "clear one worker", "ms", Bar::AtMost(1.0)),
        row(
            "fleet/p50",
            "4,096 workers over the small fleet, p50",
            "times",
            Bar::Itself(2.0),
        ),
        row("fleet/p99", "the same, p99", "times", Bar::Shown),
    ]
}
