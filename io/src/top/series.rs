//! The series of a node's metrics that a screen shows, from the text format of Prometheus; pure.
use crate::limits::TOP_SERIES_MAX;
use std::collections::BTreeMap;

/// Names that are read.
const NAMES: &[&str] = &[
    "kvroute_batches_total",
    "kvroute_blocks_total",
    "kvroute_events_total",
    "kvroute_index_budget_bytes",
    "kvroute_index_bytes",
    "kvroute_lookup_duration_seconds_bucket",
    "kvroute_lookup_matches_total",
    "kvroute_lookup_tokens_total",
    "kvroute_worker_cache_usage",
    "kvroute_worker_lag_seconds",
    "kvroute_worker_running",
    "kvroute_worker_waiting",
];

type Labels = BTreeMap<String, String>;

/// What was read: samples by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series(BTreeMap<&'static str, Vec<(Labels, f64)>>);

impl Series {
    /// Reads a text; lines that are not understood are passed over. O(bytes).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut series = Self::default();
        let mut room = TOP_SERIES_MAX;
        for line in text.lines() {
            let end = line.find(['{', ' ']).unwrap_or(line.len());
            let Ok(at) = NAMES.binary_search(&&line[..end]) else {
                continue;
            };
            if let (Some(sample), 1..) = (sample(&line[end..]), room) {
                series.0.entry(NAMES[at]).or_default().push(sample);
                room -= 1;
            }
        }
        series
    }

    /// The sum of a name's samples, with this label if one is given; `None` if there is none.
    #[must_use]
    pub fn sum(&self, name: &str, label: Option<(&str, &str)>) -> Option<f64> {
        let with = |labels: &Labels| {
            label.is_none_or(|(name, value)| labels.get(name).is_some_and(|is| is == value))
        };
        let samples = self.0.get(name)?.iter();
        let values = samples
            .filter(|(labels, _)| with(labels))
            .map(|(_, value)| value);
        values.copied().reduce(|sum, value| sum + value)
    }

    /// A name's samples by pod and rank.
    #[must_use]
    pub fn by_worker(&self, name: &str) -> BTreeMap<(&str, &str), f64> {
        let samples = self.0.get(name).into_iter().flatten();
        let keyed = samples.filter_map(|(labels, value)| {
            let (pod, rank) = (labels.get("pod")?, labels.get("rank")?);
            Some(((pod.as_str(), rank.as_str()), *value))
        });
        keyed.collect()
    }

    /// The cumulative counts of a histogram's buckets by their upper bounds, summed over all other labels.
    fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let mut sums: Vec<(f64, f64)> = Vec::new();
        for (labels, count) in self.0.get(name).into_iter().flatten() {
            let bound = labels.get("le").and_then(|le| le.parse::<f64>().ok());
            let Some(bound) = bound else {
                continue;
            };
            match sums
                .iter_mut()
                .find(|(known, _)| known.total_cmp(&bound).is_eq())
            {
                Some((_, sum)) => *sum += count,
                None => sums.push((bound, *count)),
            }
        }
        sums.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        sums
    }

    /// A quantile of what a histogram counted since `before`, as Prometheus computes it; `None` of nothing.
    #[must_use]
    pub fn quantile(&self, name: &str, before: &Self, share: f64) -> Option<f64> {
        let earlier = before.buckets(name);
        let of = |bound: f64| {
            earlier
                .iter()
                .find(|(known, _)| known.total_cmp(&bound).is_eq())
        };
        let since = self.buckets(name).into_iter();
        let since =
            since.map(|(bound, count)| (bound, count - of(bound).map_or(0.0, |found| found.1)));
        let since: Vec<_> = since.collect();
        let (_, whole) = *since.last()?;
        if whole <= 0.0 {
            return None;
        }
        let wanted = whole * share;
        let (mut below, mut counted) = (0.0, 0.0);
        for (bound, count) in since {
            if count >= wanted {
                let within = (wanted - counted) / (count - counted).max(f64::MIN_POSITIVE);
                return Some(match bound.is_finite() {
                    true => below + (bound - below) * within,
                    false => below,
                });
            }
            (below, counted) = (bound, count);
        }
        Some(below)
    }
}

/// Labels and value of a sample, from what follows its name.
fn sample(rest: &str) -> Option<(Labels, f64)> {
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Labels::new(), rest),
    };
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((labels, value))
}

fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        text = text.trim_start_matches([' ', ',']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        text = &rest[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_can_be_searched() {
        assert!(NAMES.is_sorted());
    }

    #[test]
    fn samples_are_summed_and_told_apart() {
        let series = Series::parse(
            "# TYPE kvroute_events_total counter\n\
             kvroute_events_total{pod=\"a\",rank=\"0\",type=\"stored\"} 3\n\
             kvroute_events_total{pod=\"b\\\"\\\\c\",rank=\"1\",type=\"stored\"} 4 1700000000\n\
             kvroute_events_total{pod=\"b\",rank=\"1\",type=\"removed\"} 5 # {trace_id=\"x\"} 1\n\
             kvroute_events_total{pod=\"b\n\
             kvroute_events_totals 9\nother 1\nkvroute_index_bytes 12\nkvroute_index_bytes x\n",
        );
        assert_eq!(series.sum("kvroute_events_total", None), Some(12.0));
        let stored = series.sum("kvroute_events_total", Some(("type", "stored")));
        assert_eq!(stored, Some(7.0));
        assert_eq!(series.sum("kvroute_index_bytes", None), Some(12.0));
        assert_eq!(series.sum("kvroute_batches_total", None), None);
        let by = series.by_worker("kvroute_events_total");
        assert_eq!((by[&("a", "0")], by[&("b\"\\c", "1")]), (3.0, 4.0));
    }

    #[test]
    fn quantiles_are_of_what_was_counted_since() {
        const NAME: &str = "kvroute_lookup_duration_seconds_bucket";
        let text = |counts: [u32; 3], kind: &str| {
            let bounds = ["1", "2", "+Inf"];
            let lines = bounds.iter().zip(counts).map(|(bound, count)| {
                format!("{NAME}{{kind=\"{kind}\",le=\"{bound}\"}} {count}\n")
            });
            lines.collect::<String>()
        };
        let before = Series::parse(&text([100, 100, 100], "tokens"));
        let after = text([102, 106, 106], "tokens") + &text([2, 4, 4], "hashes");
        let after = Series::parse(&after);
        // Four up to 1, six up to 2: the fifth of ten is a sixth of the way from 1 to 2.
        let half = after.quantile(NAME, &before, 0.5).unwrap();
        assert!((half - (1.0 + 1.0 / 6.0)).abs() < 1e-9, "{half}");
        assert_eq!(after.quantile(NAME, &before, 1.0), Some(2.0));
        assert_eq!(after.quantile(NAME, &after, 0.5), None);
        let beyond = Series::parse(&text([0, 0, 8], "tokens"));
        assert_eq!(beyond.quantile(NAME, &Series::default(), 0.5), Some(2.0));
    }
}
