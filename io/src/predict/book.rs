//! What all workers are expected to hold, and until when. Time is the caller's, in milliseconds.
use super::LearnConfig;
use super::record::Record;
use super::status::{LearnStatus, Unlearnt};
use super::subject::Subject;
use crate::limits::{PREDICT_EXPIRE_MAX, PREDICT_IDLE, PREDICT_NUMBERS_RESERVED};
use ahash::AHashMap;
use kvroute_engine::limits::WORKERS_MAX;
use kvroute_engine::{Index, Participant, PredictConfig, Predictions, Prompt, Writer};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// All that was learnt. Of one thread.
#[derive(Debug)]
pub struct Book {
    at: Participant,
    config: LearnConfig,
    status: Arc<LearnStatus>,
    /// By subject.
    entries: AHashMap<u64, Entry>,
    /// (deadline, subject): one for each entry that holds something.
    due: BTreeSet<(u64, u64)>,
    /// Numbers of the index that may be taken, workers of the fleet included.
    numbers_max: usize,
}

/// What one worker is expected to hold.
#[derive(Debug)]
struct Entry {
    subject: Arc<Subject>,
    predictions: Predictions,
    /// In the engine's life after so many restarts.
    restarts: u64,
    /// As it stands in `due`.
    deadline: Option<u64>,
    /// Blocks, as the status counts them.
    blocks: usize,
    /// When it was last learnt from.
    learnt_at: u64,
}

impl Book {
    /// An empty one, for the calling thread.
    #[must_use]
    pub fn new(index: &Arc<Index>, config: LearnConfig, status: Arc<LearnStatus>) -> Self {
        Self {
            at: index.participant(),
            config,
            status,
            entries: AHashMap::default(),
            due: BTreeSet::new(),
            numbers_max: WORKERS_MAX as usize - PREDICT_NUMBERS_RESERVED,
        }
    }

    /// The same with another bound of the numbers that may be taken.
    #[cfg(test)]
    pub(super) fn within(self, numbers_max: usize) -> Self {
        Self {
            numbers_max,
            ..self
        }
    }

    /// Whether nothing is learnt, and nobody is there to be learnt of.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When [`Self::expire`] will have something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.due.first().map(|&(deadline, _)| deadline)
    }

    /// Takes over a worker without events, with its own writer.
    pub fn add(&mut self, subject: Arc<Subject>, writer: Writer, now: u64) {
        let config = self.predicts(self.config.approximate);
        let restarts = subject.restarts();
        let entry = Entry::new(subject, Predictions::new(writer, config), restarts, now);
        self.entries.insert(entry.subject.serial(), entry);
    }

    /// Learns that a prompt goes to a worker. O(blocks).
    pub fn learn(&mut self, record: &Record, now: u64) {
        match self.try_learn(record, now) {
            Ok(()) => self.status.add_learnt(),
            Err(why) => self.status.add_unlearnt(why),
        }
    }

    fn try_learn(&mut self, record: &Record, now: u64) -> Result<(), Unlearnt> {
        let subject = &record.subject;
        let serial = subject.serial();
        if subject.is_gone() {
            return Err(Unlearnt::Gone);
        }
        if record.restarts != subject.restarts() {
            return Err(Unlearnt::Restarted);
        }
        let lived_on = |entry: &Entry| entry.restarts == record.restarts;
        if !self.entries.get(&serial).is_none_or(lived_on) {
            self.forget(serial);
        }
        if !self.entries.contains_key(&serial) {
            let entry = self.expect(record, now)?;
            self.entries.insert(serial, entry);
        }
        let Some(entry) = self.entries.get_mut(&serial) else {
            return Err(Unlearnt::Gone);
        };
        let prompt = Prompt {
            adapter: record.adapter.as_deref(),
            block_size: record.block_size,
            blocks: record.blocks(),
        };
        let recorded = entry.predictions.record(&self.at, &prompt, now);
        entry.learnt_at = now;
        let report = recorded.map_err(|error| {
            tracing::debug!(model = subject.model(), %error, "a decision cannot be learnt from");
            Unlearnt::NoRoom
        })?;
        self.status.add_evicted(report.dropped + report.evicted);
        entry.show();
        if subject.is_approximate() {
            subject.status().touch();
        }
        self.settle(serial);
        Ok(())
    }

    /// Makes a place for what a worker with events is expected to hold.
    fn expect(&self, record: &Record, now: u64) -> Result<Entry, Unlearnt> {
        let subject = &record.subject;
        // Of a worker without events it was lost with its writer.
        let ttl = self
            .config
            .speculative
            .filter(|_| !subject.is_approximate());
        let ttl = ttl.ok_or(Unlearnt::Gone)?;
        let index = self.at.index();
        if index.workers() >= self.numbers_max {
            return Err(Unlearnt::NoNumber);
        }
        let writer = index.writer(subject.model());
        let writer = writer.map_err(|_| Unlearnt::NoNumber)?;
        let predictions = Predictions::new(writer, self.predicts(ttl));
        Ok(Entry::new(
            Arc::clone(subject),
            predictions,
            record.restarts,
            now,
        ))
    }

    fn predicts(&self, ttl: Duration) -> PredictConfig {
        PredictConfig {
            ttl_ms: milliseconds(ttl),
            max_blocks: self.config.max_blocks,
        }
    }

    /// Takes out what is due, a portion; whether there is more. O(log prompts) for each block.
    pub fn expire(&mut self, now: u64) -> bool {
        let Some(&(deadline, serial)) = self.due.first().filter(|due| due.0 <= now) else {
            return false;
        };
        if let Some(entry) = self.entries.get_mut(&serial) {
            entry.predictions.expire(&self.at, now, PREDICT_EXPIRE_MAX);
            self.settle(serial);
        } else {
            self.due.remove(&(deadline, serial));
        }
        self.next_deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Lets go what belongs to workers that are gone, to engines that have restarted, and the numbers of those
    /// that nothing was expected of for long. O(workers).
    pub fn sweep(&mut self, now: u64) {
        let crowded = self.at.index().workers() > self.numbers_max;
        let idle = |entry: &Entry| {
            let since = now.saturating_sub(entry.learnt_at);
            entry.blocks == 0 && since >= milliseconds(PREDICT_IDLE)
        };
        let over = |entry: &&Entry| {
            let subject = &entry.subject;
            subject.is_gone()
                || subject.restarts() != entry.restarts
                || (!subject.is_approximate() && (crowded || idle(entry)))
        };
        let over = self.entries.values().filter(over);
        let over: Vec<_> = over.map(|entry| entry.subject.serial()).collect();
        for serial in over {
            self.forget(serial);
        }
    }

    /// Forgets what was learnt of a worker. One without events stays, as long as it is in the fleet.
    fn forget(&mut self, serial: u64) {
        let Some(entry) = self.entries.get_mut(&serial) else {
            return;
        };
        let subject = &entry.subject;
        if subject.is_approximate() && !subject.is_gone() {
            entry.restarts = subject.restarts();
            // As if its time were up: a writer's own clear hides the worker until it is settled.
            entry.predictions.expire(&self.at, u64::MAX, usize::MAX);
            self.settle(serial);
            return;
        }
        // Before the number is given back, which is when the predictions are dropped: see `Subject::expected`.
        subject.set_expected(None);
        if let Some(entry) = self.entries.remove(&serial) {
            let approximate = entry.subject.is_approximate();
            self.status.count_blocks(approximate, entry.blocks, 0);
            if let Some(deadline) = entry.deadline {
                self.due.remove(&(deadline, serial));
            }
        }
    }

    /// After a change: puts the entry where its next deadline belongs, and counts its blocks.
    fn settle(&mut self, serial: u64) {
        let Some(entry) = self.entries.get_mut(&serial) else {
            return;
        };
        let deadline = entry.predictions.next_deadline();
        if deadline != entry.deadline {
            if let Some(old) = std::mem::replace(&mut entry.deadline, deadline) {
                self.due.remove(&(old, serial));
            }
            if let Some(deadline) = deadline {
                self.due.insert((deadline, serial));
            }
        }
        let blocks = entry.predictions.blocks();
        let before = std::mem::replace(&mut entry.blocks, blocks);
        let approximate = entry.subject.is_approximate();
        self.status.count_blocks(approximate, before, blocks);
        if approximate {
            entry.subject.status().set_blocks(blocks as u64);
        }
    }
}

impl Entry {
    fn new(subject: Arc<Subject>, predictions: Predictions, restarts: u64, now: u64) -> Self {
        Self {
            restarts,
            subject,
            predictions,
            deadline: None,
            blocks: 0,
            learnt_at: now,
        }
    }

    /// Lets lookups find it, unless it is under the worker's own number.
    fn show(&self) {
        if !self.subject.is_approximate() {
            let expected = (self.predictions.id(), self.restarts);
            self.subject.set_expected(Some(expected));
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
