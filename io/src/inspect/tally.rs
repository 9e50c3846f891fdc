//! What one engine's messages come to: counts, shapes, names, numbers. Pure: messages in, [`Tally`] out.
use super::sequence::Numbers;
use super::words::Words;
use crate::limits::LATENCIES_KEPT_MAX;
use crate::stream::replay::read_live;
use crate::wire::parts::{self, EventHead, Part, Place, Scalar, Shape, TAG, Visitor};
use crate::wire::{Batch, Event, Scratch, Step};
use serde::Serialize;
use std::ops::Range;

/// What only grows, for rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Messages of any kind.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Messages that are batches, whole or broken.
    pub batches: u64,
    /// Events that were understood.
    pub events: u64,
    /// Events that were not.
    pub skipped: u64,
    /// Stored events.
    pub stored: u64,
    /// Removed events.
    pub removed: u64,
    /// Clears.
    pub cleared: u64,
    /// Blocks of stored events.
    pub blocks_stored: u64,
    /// Blocks of removed events.
    pub blocks_removed: u64,
    /// Token ids of stored events.
    pub tokens: u64,
}

/// All that was seen of one engine.
#[derive(Debug, Default)]
pub struct Tally {
    /// What only grows.
    pub counts: Counts,
    /// The batches' numbers.
    pub numbers: Numbers,
    /// Topics of messages.
    pub topics: Words,
    /// What is wrong with messages and batches, in words.
    pub broken: Words,
    /// Why events were not understood.
    pub skipped: Words,
    /// How batches are written.
    pub batch_shapes: Words,
    /// How events are written.
    pub event_shapes: Words,
    /// Tag and fields of events, as written.
    pub field_sets: Words,
    /// Tags that are not known.
    pub unknown_tags: Words,
    /// Fields that are not known, by tag.
    pub unknown_fields: Words,
    /// How hashes are written.
    pub hash_kinds: Words,
    /// The hash that was stored last, in hexadecimal.
    pub hash_sample: Option<String>,
    /// Tokens per block.
    pub block_sizes: Words,
    /// Cache groups with their kind and window.
    pub groups: Words,
    /// Where blocks lie.
    pub media: Words,
    /// Adapters by name or number.
    pub adapters: Words,
    /// Data-parallel ranks that batches name.
    pub ranks: Words,
    /// Stored events with anything in their extra keys.
    pub with_extra_keys: u64,
    /// The oldest and the newest version whose events look like these, see [`super::engine`].
    pub version: super::engine::Seen,
    /// From the batches' own time to their arrival, in seconds, of the latest batches since it was last emptied.
    pub lags: Vec<f64>,
    lag_at: usize,
    scratch: Scratch,
}

impl Tally {
    /// Takes a message of the event socket that arrived at `now`, in seconds since 1970; `each` is shown its events.
    pub fn message(
        &mut self,
        frames: &[&[u8]],
        is_too_long: bool,
        now: f64,
        each: &mut dyn FnMut(&Whose, &Step<'_>),
    ) {
        self.counts.messages += 1;
        if let Some(topic) = frames.first() {
            self.topics.add_bytes(topic);
        }
        let batch = match read_live(frames) {
            Ok(batch) if !is_too_long => batch,
            _ => {
                let frames = if is_too_long { "too many" } else { "wrong" };
                self.broken.add(&format!("{frames} frames"));
                return;
            }
        };
        self.counts.batches += 1;
        self.counts.bytes += batch.payload.len() as u64;
        self.numbers.take(batch.sequence);
        let mut seen = Written {
            tally: self,
            event: None,
        };
        let sound = parts::walk(batch.payload, &mut seen);
        seen.end_event();
        if let Err(error) = sound {
            self.broken.add(&error.kind.to_string());
        }
        let whose = Whose {
            sequence: batch.sequence,
            received: now,
        };
        self.read(batch.payload, &whose, each);
    }

    /// Reads what the batch means.
    fn read(&mut self, payload: &[u8], whose: &Whose, each: &mut dyn FnMut(&Whose, &Step<'_>)) {
        let Ok(mut batch) = Batch::open(payload) else {
            return;
        };
        self.lag(whose.received - batch.timestamp());
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Ok(Some(step)) = batch.next(&mut scratch) {
            self.step(&step);
            each(whose, &step);
        }
        self.scratch = scratch;
        let rank = batch.rank();
        self.ranks
            .add(&rank.map_or("none".to_owned(), |rank| rank.to_string()));
    }

    fn step(&mut self, step: &Step<'_>) {
        let counts = &mut self.counts;
        let event = match step {
            Step::Event(event) => event,
            Step::Skipped(why) => {
                counts.skipped += 1;
                self.skipped.add(why.as_str());
                return;
            }
        };
        counts.events += 1;
        match event {
            Event::Stored(stored) => {
                counts.stored += 1;
                counts.blocks_stored += stored.hashes.len() as u64;
                counts.tokens += stored.tokens.len() as u64;
                self.block_sizes.add(&stored.block_size.to_string());
                self.with_extra_keys += u64::from(!stored.extra.is_empty());
                if let Some(name) = stored.lora_name {
                    self.adapters.add_bytes(name.as_bytes());
                } else if let Some(id) = stored.lora_id {
                    self.adapters.add(&format!("number {id}"));
                }
                if let Some(group) = stored.group {
                    let kind = stored.kind.unwrap_or("kind unknown");
                    let window = stored.window.map(|window| format!(" of {window} tokens"));
                    let window = window.unwrap_or_default();
                    self.groups
                        .add_bytes(format!("{group}: {kind}{window}").as_bytes());
                }
                self.medium(stored.medium);
            }
            Event::Removed(removed) => {
                counts.removed += 1;
                counts.blocks_removed += removed.hashes.len() as u64;
                self.medium(removed.medium);
            }
            Event::Cleared => counts.cleared += 1,
        }
    }

    fn medium(&mut self, medium: Option<&str>) {
        self.media
            .add_bytes(medium.map_or(b"none", |medium| medium.as_bytes()));
    }

    fn lag(&mut self, lag: f64) {
        if self.lags.len() < LATENCIES_KEPT_MAX {
            self.lags.push(lag);
        } else {
            self.lag_at = (self.lag_at + 1) % self.lags.len();
            self.lags[self.lag_at] = lag;
        }
    }
}

/// Which batch an event is of.
#[derive(Clone, Copy, Debug)]
pub struct Whose {
    /// The batch's number.
    pub sequence: u64,
    /// When it arrived, in seconds since 1970.
    pub received: f64,
}

/// Takes note of how a batch is written.
struct Written<'t> {
    tally: &'t mut Tally,
    /// The event at hand: its tag and its fields.
    event: Option<Fields>,
}

struct Fields {
    tag: String,
    stored: bool,
    shape: Shape,
    names: Vec<String>,
}

impl Written<'_> {
    fn end_event(&mut self) {
        let Some(event) = self.event.take() else {
            return;
        };
        if event.stored {
            let names = event.names.iter().map(String::as_str);
            self.tally.version.stored(event.shape, names);
        }
        let fields = event.names.join(", ");
        let shape = event.shape.as_str();
        let set = format!("{} ({shape}): {fields}", event.tag);
        self.tally.field_sets.add(&set);
    }
}

/// Fields of one event whose names are kept.
const FIELDS_NOTED: usize = 32;

impl<'a> Visitor<'a> for Written<'_> {
    fn batch(&mut self, shape: Shape) {
        self.tally.batch_shapes.add(shape.as_str());
        self.tally.version.batch(shape);
    }

    fn event(&mut self, event: &EventHead<'a>) {
        self.end_event();
        self.tally.event_shapes.add(event.shape.as_str());
        let tag = event.tag.unwrap_or(b"(no tag)");
        let known = matches!(tag, b"BlockStored" | b"BlockRemoved" | b"AllBlocksCleared");
        if !known {
            self.tally.unknown_tags.add_bytes(tag);
        }
        self.event = Some(Fields {
            tag: crate::printable::word(tag, 32),
            stored: tag == b"BlockStored",
            shape: event.shape,
            names: Vec::new(),
        });
    }

    fn field(&mut self, part: Part<'a>) {
        let Some(event) = &mut self.event else {
            return;
        };
        let (name, known) = match part {
            Part::Known(name) => (name.to_owned(), true),
            Part::Named(name) => (crate::printable::word(name, 32), false),
            Part::At(at) => (format!("#{at}"), false),
        };
        if !known {
            let named = format!("{}.{name}", event.tag);
            self.tally.unknown_fields.add(&named);
        }
        match event.names.len() {
            0..FIELDS_NOTED => event.names.push(name),
            FIELDS_NOTED => event.names.push("…".to_owned()),
            _ => {}
        }
    }

    fn scalar(&mut self, place: &Place<'a>, value: Scalar<'a>, _: Range<usize>) {
        if place.part == TAG || place.is_key || place.part != Part::Known("block_hashes") {
            return;
        }
        let (kind, sample) = match value {
            Scalar::Unsigned(hash) => ("integer".to_owned(), format!("{hash:#018x}")),
            Scalar::Signed(hash) => ("signed integer".to_owned(), format!("{hash:#018x}")),
            Scalar::Bytes(bytes) => {
                let shown = bytes.iter().take(32).map(|byte| format!("{byte:02x}"));
                (format!("{} bytes", bytes.len()), shown.collect())
            }
            _ => ("no hash".to_owned(), String::new()),
        };
        self.tally.hash_kinds.add(&kind);
        self.tally.hash_sample = Some(sample);
    }
}
