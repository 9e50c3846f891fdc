//! From a decoded batch to the worker's writer, and what a fault in it means for trust.
//!
//! What the answers say must never be too high. So a fault that may have hidden a removal drops all
//! that the worker held; a fault that can only have hidden a store makes the worker partial.
//!
//! | fault | what may be lost | then |
//! |---|---|---|
//! | unknown tag | something that later engines say beside stores, removals and clears | counted, partial |
//! | stored event not understood or not fitting, no room, conflict | stores | counted, partial |
//! | event of no known shape, removed event not understood, unknown medium removed, malformed or too large batch | removals | counted, cleared, partial |
//! | removal of a block or copy that is not known | nothing | counted |
//! | stored event of a group that is not understood, or no longer means what it did | how far prefixes can be reused | counted, cleared, distrusted until the engine restarts |
//! | removal in a group of which nothing was stored yet | nothing | counted |
//!
//! Which groups are understood: [`groups`](super::groups). A group with a sliding window bounds how far prefixes
//! can be reused from its first event on, also if that names no block, or none that can be taken in.
use super::groups::{Groups, Kind};
use crate::limits::{FRAME_BYTES_MAX, RUNS_PER_SLICE};
use crate::status::{Dropped, EventKind, EventTally, Shape, SkipReason, WorkerStatus};
use crate::wire::{self, Event, Removed, Scratch, Step, Stored};
use kvroute_engine::types::Tier;
use kvroute_engine::{Participant, Store, StoreError, StoreReport, WindowGroup, Writer};
use std::collections::BTreeSet;

/// What happened in a batch beside what the writer now holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Applied {
    /// All blocks were cleared by an event.
    pub(super) cleared: bool,
    /// When the engine published it, in seconds since 1970; `None` if it is no batch.
    pub(super) timestamp: Option<f64>,
}

/// Applies one worker's batches.
#[derive(Debug)]
pub(super) struct Applier {
    writer: Writer,
    /// Something that it should hold is missing.
    partial: bool,
    /// Its events mean something that is not understood.
    distrusted: bool,
    groups: Groups,
    /// Adapters that were told to the status already.
    adapters: BTreeSet<Box<str>>,
    adapter_name: String,
    /// Of the event at hand.
    shape: Shape,
    /// Of the batch at hand.
    tally: EventTally,
}

impl Applier {
    /// For a worker that holds nothing.
    #[must_use]
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            writer,
            partial: false,
            distrusted: false,
            groups: Groups::default(),
            adapters: BTreeSet::new(),
            adapter_name: String::new(),
            shape: Shape::Array,
            tally: EventTally::default(),
        }
    }

    /// The worker's writer.
    #[must_use]
    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// What the engine's cache groups mean.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Whether stored events were skipped or dropped.
    pub(super) fn lost_some(&self) -> bool {
        self.partial
    }

    /// Its writer was restored: it goes on from there.
    pub(super) fn resume(&mut self, partial: bool, groups: Groups) {
        self.partial = partial;
        self.groups = groups;
    }

    /// The worker's writer, to restore it.
    pub(super) fn writer_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// Takes a slice of what large clears left out of the index; whether nothing is left.
    pub(super) fn settle(&mut self, at: &Participant) -> bool {
        self.writer.settle(at, RUNS_PER_SLICE)
    }

    /// The writer, when the worker goes.
    pub(super) fn into_writer(self) -> Writer {
        self.writer
    }

    /// Whether something that it should hold is missing.
    #[must_use]
    pub(super) fn is_partial(&self) -> bool {
        self.partial || self.writer.incomplete() || self.writer.orphans() > 0
    }

    /// Whether what is missing are but blocks whose parent may come yet.
    pub(super) fn only_waits(&self) -> bool {
        !self.partial && !self.writer.incomplete()
    }

    /// Whether nothing of it may be believed.
    #[must_use]
    pub(super) fn is_distrusted(&self) -> bool {
        self.distrusted
    }

    /// The engine begins anew, or its history does: nothing is held.
    pub(super) fn reset(&mut self, at: &Participant, restarted: bool) {
        self.writer.clear(at);
        self.partial = false;
        if restarted {
            self.distrusted = false;
            self.groups = Groups::default();
            self.writer.forget_windows();
        }
    }

    /// Applies a batch.
    pub(super) fn apply(
        &mut self,
        at: &Participant,
        payload: &[u8],
        scratch: &mut Scratch,
        status: &WorkerStatus,
    ) -> Applied {
        let mut applied = Applied::default();
        if payload.len() > FRAME_BYTES_MAX {
            self.lost_removals(at, SkipReason::FrameTooLarge, status);
            return applied;
        }
        let result = self.apply_events(at, payload, scratch, status, &mut applied);
        if let Err(error) = result {
            tracing::debug!(%error, "a malformed batch");
            self.lost_removals(at, SkipReason::MalformedBatch, status);
        }
        status.counts().add_events(&std::mem::take(&mut self.tally));
        status.set_blocks(self.writer.blocks());
        applied
    }

    fn apply_events(
        &mut self,
        at: &Participant,
        payload: &[u8],
        scratch: &mut Scratch,
        status: &WorkerStatus,
        applied: &mut Applied,
    ) -> Result<(), wire::BatchError> {
        let mut batch = wire::Batch::open(payload)?;
        applied.timestamp = Some(batch.timestamp());
        while let Some(step) = batch.next(scratch)? {
            self.shape = batch.shape();
            match step {
                Step::Event(Event::Stored(event)) => {
                    let taken = self.stored(at, &event, status);
                    self.count(EventKind::Stored, taken.then_some(event.hashes.len()));
                }
                Step::Event(Event::Removed(event)) => {
                    let taken = self.removed(at, &event, status);
                    self.count(EventKind::Removed, taken.then_some(event.hashes.len()));
                }
                Step::Event(Event::Cleared) => {
                    self.reset(at, false);
                    applied.cleared = true;
                    self.count(EventKind::Cleared, Some(0));
                }
                Step::Skipped(SkipReason::UnknownTag) => {
                    self.lost_stores(SkipReason::UnknownTag, 1, status);
                }
                Step::Skipped(reason) if batch.skipped_a_store() => {
                    self.lost_stores(reason, 1, status);
                }
                Step::Skipped(reason) => self.lost_removals(at, reason, status),
            }
        }
        Ok(())
    }

    /// Counts an event that was applied with so many blocks, or not.
    fn count(&mut self, kind: EventKind, blocks: Option<usize>) {
        let Some(blocks) = blocks else {
            self.tally.unapplied[kind as usize] += 1;
            return;
        };
        self.tally.applied[kind as usize][usize::from(self.shape == Shape::Map)] += 1;
        if let Some(sum) = self.tally.blocks.get_mut(kind as usize) {
            *sum += blocks as u64;
        }
    }

    /// Whether the event was applied, if perhaps not all of its blocks.
    fn stored(&mut self, at: &Participant, event: &Stored<'_>, status: &WorkerStatus) -> bool {
        let Some(kind) = self.groups.of_stored(event) else {
            self.distrust(at, status);
            return false;
        };
        if self.distrusted {
            return false;
        }
        let tier = tier(event.medium);
        if tier.is_none() {
            self.lost_stores(SkipReason::Medium, 1, status);
        }
        match (kind, tier) {
            (Kind::Full, Some(tier)) => self.store(at, event, tier, status),
            (Kind::Full, None) => false,
            (Kind::Window(group), _) => self.store_window(at, event, group, tier, status),
        }
    }

    fn store_window(
        &mut self,
        at: &Participant,
        event: &Stored<'_>,
        group: WindowGroup,
        tier: Option<Tier>,
        status: &WorkerStatus,
    ) -> bool {
        // The tokens say nothing: some of their blocks may have been left out.
        let (tier, hashes) = tier.map_or((Tier::Gpu, &[][..]), |tier| (tier, event.hashes));
        match self.writer.store_window(at, group, tier, hashes) {
            Ok(report) => {
                self.note(&report, status);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "a sliding-window group that cannot be taken in");
                self.distrust(at, status);
                false
            }
        }
    }

    /// Its events mean something that is not understood.
    fn distrust(&mut self, at: &Participant, status: &WorkerStatus) {
        self.skipped(SkipReason::Group, 1, status);
        if !std::mem::replace(&mut self.distrusted, true) {
            self.writer.clear(at);
        }
    }

    fn store(
        &mut self,
        at: &Participant,
        event: &Stored<'_>,
        tier: Tier,
        status: &WorkerStatus,
    ) -> bool {
        let adapter = self.adapter(event, status);
        let store = Store {
            adapter: adapter.then_some(self.adapter_name.as_str()),
            block_size: event.block_size,
            tier,
            parent: event.parent,
            hashes: event.hashes,
            tokens: event.tokens,
            extra: event.extra,
            says_extra: event.says_extra,
        };
        let report = match self.writer.store(at, &store) {
            Ok(report) => report,
            Err(StoreError::TooManyContexts(_)) => {
                self.lost_stores(SkipReason::Contexts, 1, status);
                return false;
            }
            Err(error) => {
                tracing::debug!(%error, "a stored event does not fit");
                self.lost_stores(SkipReason::Counts, 1, status);
                return false;
            }
        };
        if !event.tokens.is_empty() {
            status.set_block_size(event.block_size);
        }
        self.note(&report, status);
        true
    }

    fn note(&mut self, report: &StoreReport, status: &WorkerStatus) {
        let waiting = report.dropped - report.over_budget;
        if waiting > 0 {
            self.lost_stores(SkipReason::WaitingFull, waiting.into(), status);
        }
        if report.over_budget > 0 {
            self.lost_stores(SkipReason::IndexFull, report.over_budget.into(), status);
        }
        if report.conflicts > 0 {
            self.lost_stores(SkipReason::HashConflict, report.conflicts.into(), status);
        }
    }

    /// Whether the event was applied, if perhaps not all of its blocks.
    fn removed(&mut self, at: &Participant, event: &Removed<'_>, status: &WorkerStatus) -> bool {
        status.add_removals(event.hashes.len() as u64);
        if self.distrusted {
            return false;
        }
        let Some(kind) = self.groups.of_removed(event.group) else {
            // Blocks of that group were never credited.
            let blocks = event.hashes.len() as u64;
            self.skipped(SkipReason::UnknownRemoval, blocks, status);
            return false;
        };
        let Some(tier) = tier(event.medium) else {
            self.lost_removals(at, SkipReason::Medium, status);
            return false;
        };
        let unknown = match kind {
            Kind::Full => self.writer.remove(at, tier, event.hashes).unknown,
            Kind::Window(group) => {
                let number = group.number;
                self.writer.remove_window(at, number, tier, event.hashes)
            }
        };
        if unknown > 0 {
            self.skipped(SkipReason::UnknownRemoval, unknown.into(), status);
        }
        true
    }

    /// Puts the adapter's name into `adapter_name`; whether there is one. Before vLLM 0.14 engines
    /// say its number only.
    fn adapter(&mut self, event: &Stored<'_>, status: &WorkerStatus) -> bool {
        use std::fmt::Write as _;
        self.adapter_name.clear();
        match (event.lora_name, event.lora_id) {
            (Some(name), _) if !name.is_empty() => self.adapter_name.push_str(name),
            (None, Some(id)) if id != 0 => {
                // Writing to a string cannot fail.
                let _ = write!(self.adapter_name, "lora_id:{id}");
            }
            _ => return false,
        }
        if !self.adapters.contains(self.adapter_name.as_str())
            && status.learn_adapter(&self.adapter_name)
        {
            self.adapters.insert(self.adapter_name.as_str().into());
        }
        true
    }

    /// Counts what was skipped of the event at hand.
    fn skipped(&self, reason: SkipReason, count: u64, status: &WorkerStatus) {
        status.add_skipped_in(reason, self.shape, count);
    }

    fn lost_stores(&mut self, reason: SkipReason, count: u64, status: &WorkerStatus) {
        self.skipped(reason, count, status);
        self.partial = true;
    }

    fn lost_removals(&mut self, at: &Participant, reason: SkipReason, status: &WorkerStatus) {
        self.skipped(reason, 1, status);
        status.dropped(Dropped::Removals);
        self.writer.clear(at);
        self.partial = true;
    }
}

/// The tier that a medium's name stands for. Engines that say none have only the GPU (vLLM before 0.10.2).
fn tier(medium: Option<&str>) -> Option<Tier> {
    const NAMES: &[(&str, Tier)] = &[
        ("gpu", Tier::Gpu),
        ("cpu", Tier::Cpu),
        ("storage", Tier::Disk),
        ("disk", Tier::Disk),
        ("nvme", Tier::Disk),
        ("remote", Tier::Disk),
    ];
    let Some(medium) = medium else {
        return Some(Tier::Gpu);
    };
    NAMES
        .iter()
        .find(|(name, _)| medium.eq_ignore_ascii_case(name))
        .map(|&(_, tier)| tier)
}
