//! What was seen of an engine, to be shown: as one JSON object, as a line, or as a screen.
use super::sequence::Numbers;
use super::tally::{Counts, Tally};
use super::words::Words;
use crate::printable::Printable;
use serde::Serialize;
use std::fmt::Write;

/// All that was seen until a moment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Since the beginning.
    pub seconds: f64,
    /// The endpoint.
    pub events: String,
    /// Whether the connection stands.
    pub connected: bool,
    /// How often it was made.
    pub connections: u64,
    /// A guess of the engine's version.
    pub engine: String,
    /// By second, since the report before.
    pub rates: Rates,
    /// Since the beginning.
    pub totals: Counts,
    /// The batches' numbers.
    pub sequence: Numbers,
    /// From the batches' own time to their arrival here, since the report before; clocks that differ show in it.
    pub lag_ms: Option<Lag>,
    /// How batches are written.
    pub batch_shapes: Words,
    /// How events are written.
    pub event_shapes: Words,
    /// Tag and fields of events.
    pub field_sets: Words,
    /// Tags that are not known.
    pub unknown_tags: Words,
    /// Fields that are not known.
    pub unknown_fields: Words,
    /// Why events were not understood.
    pub skipped: Words,
    /// What is wrong with messages and batches.
    pub broken: Words,
    /// How hashes are written.
    pub hash_kinds: Words,
    /// One of them, in hexadecimal.
    pub hash_sample: Option<String>,
    /// Tokens per block.
    pub block_sizes: Words,
    /// Cache groups.
    pub groups: Words,
    /// Where blocks lie.
    pub media: Words,
    /// Adapters.
    pub adapters: Words,
    /// Ranks that batches name.
    pub ranks: Words,
    /// Topics.
    pub topics: Words,
    /// Messages of other topics than was asked for.
    pub other_topics: u64,
    /// Stored events with something in their extra keys: salts, images.
    pub with_extra_keys: u64,
    /// What the ring has, if it was asked.
    pub ring: Option<RingReport>,
}

/// Per second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Rates {
    /// Batches.
    pub batches: f64,
    /// Events.
    pub events: f64,
    /// Blocks of stored events.
    pub blocks_stored: f64,
    /// Blocks of removed events.
    pub blocks_removed: f64,
    /// Bytes of payloads.
    pub bytes: f64,
}

/// Lags in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lag {
    /// Half are below.
    pub p50: f64,
    /// One in a hundred is above.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// What an engine's ring has.
#[derive(Clone, Debug, Serialize)]
pub struct RingReport {
    /// The endpoint.
    pub replay: String,
    /// How it went: `asked`, `complete` or `silent`.
    pub outcome: &'static str,
    /// Batches.
    pub batches: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Their numbers.
    pub sequence: Numbers,
    /// How many frames an answer has: 3 up to vLLM 0.25, then 4.
    pub frames: Option<usize>,
    /// A guess of the engine's version, from the ring alone.
    pub engine: String,
}

impl Lag {
    /// Of lags in seconds; `None` of none. O(n log n).
    pub(super) fn of(mut seconds: Vec<f64>) -> Option<Self> {
        seconds.retain(|lag| lag.is_finite());
        seconds.sort_unstable_by(f64::total_cmp);
        let max = *seconds.last()?;
        let at = |share: f64| seconds[((seconds.len() - 1) as f64 * share) as usize] * 1e3;
        Some(Self {
            p50: at(0.5),
            p99: at(0.99),
            max: max * 1e3,
        })
    }
}

impl Rates {
    /// Of what was counted in so many seconds.
    pub(super) fn of(before: &Counts, after: &Counts, seconds: f64) -> Self {
        let rate = |count: fn(&Counts) -> u64| {
            (count(after) - count(before)) as f64 / seconds.max(f64::EPSILON)
        };
        Self {
            batches: rate(|counts| counts.batches),
            events: rate(|counts| counts.events),
            blocks_stored: rate(|counts| counts.blocks_stored),
            blocks_removed: rate(|counts| counts.blocks_removed),
            bytes: rate(|counts| counts.bytes),
        }
    }
}

impl Report {
    /// Takes over what was counted.
    pub(super) fn of(tally: &Tally) -> Self {
        Self {
            seconds: 0.0,
            events: String::new(),
            connected: false,
            connections: 0,
            engine: tally.version.guess(),
            rates: Rates::default(),
            totals: tally.counts,
            sequence: tally.numbers.clone(),
            lag_ms: None,
            batch_shapes: tally.batch_shapes.clone(),
            event_shapes: tally.event_shapes.clone(),
            field_sets: tally.field_sets.clone(),
            unknown_tags: tally.unknown_tags.clone(),
            unknown_fields: tally.unknown_fields.clone(),
            skipped: tally.skipped.clone(),
            broken: tally.broken.clone(),
            hash_kinds: tally.hash_kinds.clone(),
            hash_sample: tally.hash_sample.clone(),
            block_sizes: tally.block_sizes.clone(),
            groups: tally.groups.clone(),
            media: tally.media.clone(),
            adapters: tally.adapters.clone(),
            ranks: tally.ranks.clone(),
            topics: tally.topics.clone(),
            other_topics: 0,
            with_extra_keys: tally.with_extra_keys,
            ring: None,
        }
    }

    /// What matters, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            seconds,
            rates,
            totals,
            sequence,
            ..
        } = self;
        let link = if self.connected {
            ""
        } else {
            "  NOT CONNECTED"
        };
        let lag = self.lag_ms.map(|lag| format!("  lag {:.1} ms", lag.p50));
        let mut line = format!(
            "{seconds:>6.0} s  {:.1} batches/s  {:.1} events/s  +{:.0} -{:.0} blocks/s  last {}{}{link}",
            rates.batches,
            rates.events,
            rates.blocks_stored,
            rates.blocks_removed,
            sequence
                .last
                .map_or("none".to_owned(), |last| last.to_string()),
            lag.unwrap_or_default(),
        );
        let broken = self.broken.iter().map(|(_, count)| count).sum();
        for (what, count) in [
            ("missing", sequence.missing),
            ("restarts", sequence.restarts),
            ("repeated", sequence.repeated),
            ("late", sequence.late),
            ("skipped events", totals.skipped),
            ("broken batches", broken),
        ] {
            if count > 0 {
                let _ = write!(line, "  {count} {what}");
            }
        }
        line
    }

    /// All of it, a line each.
    #[must_use]
    pub fn screen(&self) -> String {
        let Self {
            totals, sequence, ..
        } = self;
        let mut out = String::new();
        let mut row = |name: &str, value: String| {
            if !value.is_empty() {
                let _ = writeln!(out, "{name:<15} {value}");
            }
        };
        let link = if self.connected {
            "connected"
        } else {
            "NOT CONNECTED"
        };
        let events = Printable(&self.events);
        row(
            "engine",
            format!("{events}  {link}, {} connections", self.connections),
        );
        row("looks like", self.engine.clone());
        row("now", self.line());
        row(
            "in all",
            format!(
                "{} batches, {} bytes, {} events (stored {}, removed {}, cleared {}), blocks stored {}, removed {}",
                totals.batches,
                totals.bytes,
                totals.events,
                totals.stored,
                totals.removed,
                totals.cleared,
                totals.blocks_stored,
                totals.blocks_removed
            ),
        );
        let number = |number: Option<u64>| number.map_or("none".to_owned(), |n| n.to_string());
        row(
            "numbers",
            format!(
                "first {}, last {}, gaps {}, missing {}, late {}, repeated {}, restarts {}",
                number(sequence.first),
                number(sequence.last),
                sequence.gaps,
                sequence.missing,
                sequence.late,
                sequence.repeated,
                sequence.restarts
            ),
        );
        if let Some(lag) = self.lag_ms {
            let Lag { p50, p99, max } = lag;
            row(
                "lag",
                format!("p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms"),
            );
        }
        row("batches as", self.batch_shapes.to_string());
        row("events as", self.event_shapes.to_string());
        let sample = self.hash_sample.as_deref().unwrap_or_default();
        row(
            "hashes",
            format!("{}  {sample}", self.hash_kinds).trim().to_owned(),
        );
        row("block sizes", self.block_sizes.to_string());
        row("groups", self.groups.to_string());
        row("media", self.media.to_string());
        row("adapters", self.adapters.to_string());
        row("ranks", self.ranks.to_string());
        row("topics", self.topics.to_string());
        for (name, count) in [
            ("extra keys", self.with_extra_keys),
            ("other topics", self.other_topics),
        ] {
            row(
                name,
                if count > 0 {
                    count.to_string()
                } else {
                    String::new()
                },
            );
        }
        for (n, (set, count)) in self.field_sets.iter().enumerate() {
            row(
                if n == 0 { "fields" } else { "" },
                format!("{set} x{count}"),
            );
        }
        row("UNKNOWN TAGS", self.unknown_tags.to_string());
        row("UNKNOWN FIELDS", self.unknown_fields.to_string());
        row("SKIPPED", self.skipped.to_string());
        row("BROKEN", self.broken.to_string());
        if let Some(ring) = &self.ring {
            let (first, last) = (number(ring.sequence.first), number(ring.sequence.last));
            row(
                "ring",
                format!(
                    "{}: {} batches ({first} to {last}, {} missing), {} bytes, looks like {}",
                    ring.outcome, ring.batches, ring.sequence.missing, ring.bytes, ring.engine
                ),
            );
        }
        out
    }
}
