//! A view as lines of a screen; pure.
use super::view::{Row, Sort, View};
use crate::printable::{Printable, cut};
use std::fmt::Write;

/// How a view is to be shown.
#[derive(Clone, Debug)]
pub struct Form {
    /// Columns of the screen; `None` for as many as it takes.
    pub width: Option<usize>,
    /// Lines of the screen.
    pub height: Option<usize>,
    /// By what rows are sorted, to be told.
    pub sort: Sort,
    /// What rows must have in them, to be told.
    pub filter: String,
}

const COLUMNS: [&str; 13] = [
    "POD", "RANK", "MODEL", "STATE", "AGE", "SEQ", "BLOCKS", "GAPS", "REPLAYS", "RESTARTS",
    "SKIPPED", "LOAD", "LAG",
];

/// The lines: what is true of the node, then a table of its workers.
#[must_use]
pub fn frame(view: &View, form: &Form) -> Vec<String> {
    let mut lines = header(view, form);
    let table: Vec<_> = std::iter::once(COLUMNS.map(str::to_owned).to_vec())
        .chain(view.workers.iter().map(cells))
        .collect();
    lines.extend(aligned(&table));
    if let Some(height) = form.height
        && lines.len() > height
    {
        let more = lines.len() - height + 1;
        lines.truncate(height.saturating_sub(1));
        lines.push(format!("… {more} more"));
    }
    match form.width {
        Some(width) => lines.iter().map(|line| cut(line, width)).collect(),
        None => lines,
    }
}

fn header(view: &View, form: &Form) -> Vec<String> {
    let ready = match view.ready {
        true => "ready".to_owned(),
        false => format!("NOT READY: {}", Printable(&view.reason)),
    };
    let workers: u64 = view.states.values().sum();
    let mut states = format!("{workers} workers");
    for (state, count) in &view.states {
        let _ = write!(states, "  {count} {}", Printable(state));
    }
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1}/s"));
    let events = format!(
        "events {}  batches {}",
        rate(view.events_per_second),
        rate(view.batches_per_second)
    );
    let hits = view
        .hit_ratio
        .map_or("-".to_owned(), |ratio| format!("{:.1} %", 100.0 * ratio));
    let lookups = format!(
        "lookups {}  p50 {}  p99 {}  hit ratio {hits}",
        rate(view.lookups_per_second),
        view.lookup_p50.map_or("-".to_owned(), time),
        view.lookup_p99.map_or("-".to_owned(), time),
    );
    let budget = view
        .index_budget_bytes
        .map(|most| format!(" of {}", bytes(most)));
    let index = view.index_bytes.map_or("-".to_owned(), bytes);
    let mut sorted = format!("sorted by {}", form.sort.as_str());
    if !form.filter.is_empty() {
        let _ = write!(sorted, ", only {:?}", Printable(&form.filter).to_string());
    }
    vec![
        format!("{ready}  |  {states}"),
        format!(
            "{events}  |  {lookups}  |  index {index}{}",
            budget.unwrap_or_default()
        ),
        sorted,
        String::new(),
    ]
}

fn cells(row: &Row) -> Vec<String> {
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let age = row
        .age_ms
        .map_or("-".to_owned(), |ms| time(ms as f64 / 1e3));
    let mut cells = vec![
        Printable(&row.pod).to_string(),
        row.rank.to_string(),
        Printable(&row.model).to_string(),
        Printable(&row.state).to_string(),
        age,
        number(row.last_sequence),
        row.blocks.to_string(),
        row.gaps.to_string(),
        row.replays.to_string(),
        row.restarts.to_string(),
        row.skipped.to_string(),
        row.load.map_or("-".to_owned(), |load| format!("{load:.0}")),
        row.lag.map_or("-".to_owned(), time),
    ];
    cells.extend(
        row.problem
            .as_deref()
            .map(|problem| Printable(problem).to_string()),
    );
    cells
}

/// Columns as wide as they must be; the last one, of problems, is no column.
fn aligned(table: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = table.iter().filter_map(|line| line.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let mut line = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let width = widths.get(at).copied().unwrap_or_default();
            let _ = write!(line, "{cell:<width$}  ");
        }
        line.trim_end().to_owned()
    };
    table.iter().map(line).collect()
}

/// A time in seconds as people say it.
fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds >= 3_600.0 => format!("{:.1} h", seconds / 3_600.0),
        seconds if seconds >= 60.0 => format!("{:.1} min", seconds / 60.0),
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{:.1} us", seconds * 1e6),
    }
}

fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1_000.0 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::series::Series;
    use crate::top::view::{Look, Worker};
    use serde_json::{Value, json};

    fn worker(pod: &str, state: &str, more: &Value) -> Worker {
        let mut worker = json!({
            "pod": pod, "rank": 0, "model": "m", "state": state, "last_sequence": 5, "last_event_ms": 8_500,
            "blocks": 10, "gaps": 0, "replays": 1, "restarts": 0, "events_skipped": {}, "problem": null,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            worker[name] = value.clone();
        }
        serde_json::from_value(worker).unwrap()
    }

    fn looks() -> [Look; 2] {
        let before = Look {
            at: 10.0,
            series: Some(Series::parse(
                "kvroute_events_total{pod=\"a\",rank=\"0\"} 100\nkvroute_lookup_tokens_total{result=\"asked\"} 100\nkvroute_lookup_tokens_total{result=\"matched\"} 100\n",
            )),
            ..Look::default()
        };
        let now = Look {
            at: 12.0,
            clock_ms: 10_000,
            workers: vec![
                worker("good", "exact", &Value::Null),
                worker(
                    "skips",
                    "exact",
                    &json!({"events_skipped": {"shape": 2}, "blocks": 99}),
                ),
                worker(
                    "wrong\u{1b}[2J",
                    "stale",
                    &json!({"problem": "no way there", "last_event_ms": null}),
                ),
                worker("lags", "partial", &Value::Null),
            ],
            series: Some(Series::parse(
                "kvroute_events_total{pod=\"a\",rank=\"0\"} 150\n\
                 kvroute_lookup_tokens_total{result=\"asked\"} 300\nkvroute_lookup_tokens_total{result=\"matched\"} 150\n\
                 kvroute_worker_lag_seconds{pod=\"lags\",rank=\"0\"} 0.25\n\
                 kvroute_worker_running{pod=\"good\",rank=\"0\"} 2\nkvroute_worker_waiting{pod=\"good\",rank=\"0\"} 1\n\
                 kvroute_index_bytes 2500000\n",
            )),
            ready: (false, "half of the workers".to_owned()),
        };
        [before, now]
    }

    fn shown(sort: Sort, filter: &str, height: Option<usize>) -> Vec<String> {
        let [before, now] = looks();
        let view = View::new(&now, Some(&before), sort, filter);
        let form = Form {
            width: None,
            height,
            sort,
            filter: filter.to_owned(),
        };
        frame(&view, &form)
    }

    #[test]
    fn the_worst_comes_first() {
        let lines = shown(Sort::Problem, "", None);
        let expected = [
            "NOT READY: half of the workers  |  4 workers  2 exact  1 partial  1 stale",
            "events 25.0/s  batches -  |  lookups -  p50 -  p99 -  hit ratio 25.0 %  |  index 2.5 MB",
            "sorted by problem",
            "",
        ];
        assert_eq!(lines[..4], expected);
        let pods: Vec<_> = lines[5..]
            .iter()
            .map(|line| line.split_whitespace().next().unwrap())
            .collect();
        assert_eq!(pods, [r"wrong\u{1b}[2J", "lags", "skips", "good"]);
        assert!(lines[5].ends_with("no way there"), "{}", lines[5]);
        assert!(lines[6].ends_with("250.0 ms"), "{}", lines[6]);
        assert!(
            lines[8].contains("  3     -") && lines[8].contains("1.5 s"),
            "{}",
            lines[8]
        );
    }

    #[test]
    fn rows_are_sorted_filtered_and_cut() {
        let first = |sort, filter| {
            shown(sort, filter, None)[5]
                .split_whitespace()
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(first(Sort::Pod, ""), "good");
        assert_eq!(first(Sort::Blocks, ""), "skips");
        assert_eq!(first(Sort::Lag, ""), "lags");
        assert_eq!(first(Sort::Load, ""), "good");
        assert_eq!(shown(Sort::Pod, "partial", None).len(), 6);
        let short = shown(Sort::Pod, "", Some(7));
        assert_eq!((short.len(), short[6].as_str()), (7, "… 3 more"));
    }
}
