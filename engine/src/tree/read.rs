//! The lookup: one walk from the root, comparing the request's keys and the holders' coverage.
//!
//! For each run on the request's path, first the key slots are compared as far as they agree (m
//! blocks, at depth b), then the holders are read. A worker that covers everything up to b and the
//! first c blocks of this run has depth b + min(c, m); it stays in the race only if that is b + m. The
//! walk ends where the request does, where no child has the next key, or where nobody stays.
//!
//! Hits are written where they are found, in the order of the first run's holders. Only if the walk
//! goes on beyond that run it is noted at which place each worker's hit stands (a sparse set: a note
//! counts if the hit there is of that worker, so the notes are never cleared).
use super::entry::{self, Entry};
use super::hit::{self, Hit};
use super::keys::{Keys, Slots};
use super::run::Run;
use super::window::{self, Stops};
use crate::sync::{AtomicU64, Ordering};
use crate::types::{TIERS, WorkerId};
use crate::worker_set::{Marks, WorkerSet};
use crossbeam_epoch::Guard;

/// A lookup's result, to be used again and again: it allocates only while the fleet grows.
#[derive(Debug, Default)]
pub struct Matches {
    /// The first `found` are the hits of the last lookup.
    hits: Vec<Hit>,
    found: usize,
    /// By worker: where its hit may stand.
    places: Vec<u32>,
    /// By hit: the deepest prefix that sliding windows allow.
    stops: Vec<Stops>,
}

/// One run's entries, as far as the request agrees with the run.
#[derive(Clone, Copy)]
struct Reach {
    base: u32,
    matched: u32,
}

impl Reach {
    /// Blocks of the run that count, cumulative by tier.
    #[inline]
    fn of(self, entry: Entry) -> [u32; TIERS] {
        entry.blocks.map(|blocks| blocks.min(self.matched))
    }
}

impl Matches {
    /// An empty result.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The workers found, in no particular order.
    #[must_use]
    pub fn hits(&self) -> &[Hit] {
        self.hits.get(..self.found).unwrap_or_default()
    }

    /// Room for workers `0..workers`, and no hits. There is room for one more hit: where that is taken,
    /// some hits are to be dropped.
    fn prepare(&mut self, workers: usize) {
        self.found = 0;
        if self.places.len() < workers {
            self.places.resize(workers, 0);
            self.hits.resize(workers + 1, hit::NOBODY);
            self.stops.resize(workers + 1, Stops::default());
        }
    }

    /// Reads the holders of the first run; how many cover all of `matched`.
    fn open(&mut self, run: &Run, matched: u32) -> usize {
        let before = run.departures();
        let mut staying = 0;
        let (first, more) = run.holder_segments();
        self.open_segment(first, matched, &mut staying);
        for segment in more.iter() {
            self.open_segment(segment.words(), matched, &mut staying);
        }
        if run.departures() != before {
            self.drop_repeated();
        }
        staying
    }

    #[inline]
    fn open_segment(&mut self, words: &[AtomicU64], matched: u32, staying: &mut usize) {
        let mut rest = words;
        while let words @ [_, ..] = std::mem::take(&mut rest)
            && let Some(room) = self.hits.get_mut(self.found..)
        {
            let mut found = 0;
            for (at, word) in words.iter().enumerate() {
                let Some(hit) = room.get_mut(found) else {
                    rest = &words[at..];
                    break;
                };
                // Acquire: pairs with the Release in `Seat::set`: the departures and marks from before
                // the entry are seen.
                let word = word.load(Ordering::Acquire);
                // Written before it is known whether it counts: no branch to predict.
                *hit = hit::first(word, matched);
                found += usize::from(entry::held(word) > 0);
                *staying += usize::from(entry::held(word) >= matched);
            }
            self.found += found;
            if !rest.is_empty() {
                // Full: of workers registered after the lookup began, or seen twice.
                self.drop_repeated();
            }
        }
    }

    /// Of hits of one worker, keeps the first, and none of a worker that is not known yet. Holders came and
    /// went while they were read.
    #[cold]
    fn drop_repeated(&mut self) {
        let mut kept = 0;
        for at in 0..self.found {
            let hit = self.hits[at];
            let Some(place) = self.places.get_mut(hit.worker.index()) else {
                continue;
            };
            let there = *place as usize;
            if there < kept && self.hits[there].worker == hit.worker {
                continue;
            }
            *place = kept as u32;
            self.hits[kept] = hit;
            kept += 1;
        }
        self.found = kept;
    }

    /// Notes where each hit stands.
    fn note_places(&mut self) {
        for (at, hit) in self.hits.iter().take(self.found).enumerate() {
            if let Some(place) = self.places.get_mut(hit.worker.index()) {
                *place = at as u32;
            }
        }
    }

    /// Where a worker's hit stands. Places are noted already.
    #[inline]
    fn place(&self, worker: WorkerId) -> Option<usize> {
        let place = *self.places.get(worker.index())? as usize;
        let there = self.hits().get(place)?;
        (there.worker == worker).then_some(place)
    }

    /// Reads the holders of a further run; whether anybody covers all of it that matched.
    fn extend(&mut self, run: &Run, reach: Reach) -> bool {
        let mut staying = false;
        for word in run.holders() {
            // Acquire: pairs with the Release in `Seat::set`: the marks from before the entry are seen.
            let Some(entry) = Entry::from_word(word.load(Ordering::Acquire)) else {
                continue;
            };
            let Some(place) = self.place(entry.worker) else {
                continue;
            };
            let hit = &mut self.hits[place];
            if hit.blocks[TIERS - 1] != reach.base {
                continue;
            }
            for (blocks, more) in hit.blocks.iter_mut().zip(reach.of(entry)) {
                if *blocks == reach.base {
                    *blocks += more;
                }
            }
            staying |= entry.blocks[TIERS - 1] >= reach.matched;
        }
        staying
    }

    /// Reads which prefixes that end in this run sliding windows allow.
    fn read_windows(&mut self, run: &Run, reach: Reach) {
        for word in run.windows() {
            // Relaxed: the word says all that it says itself.
            let Some(window) = window::Word::from_word(word.load(Ordering::Relaxed)) else {
                continue;
            };
            if let Some(place) = self.place(window.worker) {
                let held = self.hits[place].blocks;
                self.stops[place].allow(window, reach.base, reach.matched, held);
            }
        }
    }

    /// Cuts workers with sliding windows down to where their windows allow to stop.
    fn apply_windows(&mut self, windowed: &WorkerSet) {
        for at in 0..self.found {
            if windowed.contains(self.hits[at].worker) {
                self.hits[at].blocks = self.stops[at].0;
            }
        }
        self.keep(|hit| hit.blocks[TIERS - 1] > 0);
    }

    /// Drops all workers of a set.
    #[cold]
    fn drop_marked(&mut self, marked: &WorkerSet) {
        self.keep(|hit| !marked.contains(hit.worker));
    }

    fn keep(&mut self, stays: impl Fn(&Hit) -> bool) {
        let mut kept = 0;
        for at in 0..self.found {
            self.hits[kept] = self.hits[at];
            kept += usize::from(stays(&self.hits[at]));
        }
        self.found = kept;
    }
}

/// Finds every worker that holds the request's first block, and how far each goes on.
/// O(matched blocks + holders of the runs walked).
pub(crate) fn lookup(
    root: &Run,
    workers: usize,
    marks: &Marks,
    keys: &mut impl Keys,
    out: &mut Matches,
    guard: &Guard,
) {
    out.prepare(workers);
    let first = keys.key(0);
    let Some(mut run) = first.and_then(|key| root.find_child(0, key, guard)) else {
        return;
    };
    let any_windows = marks.windowed.any();
    let mut reach = Reach {
        base: 0,
        matched: matched_blocks(run, 0, keys),
    };
    let mut staying = out.open(run, reach.matched) > 0;
    if any_windows {
        out.note_places();
        let fresh = out.stops.iter_mut().take(out.found);
        fresh.for_each(|stops| *stops = Stops::default());
        out.read_windows(run, reach);
    }
    while staying
        && let next = reach.base + reach.matched
        && let Some(key) = keys.key(next as usize)
        && let Some(child) = run.find_child(reach.matched, key, guard)
    {
        if reach.base == 0 {
            out.note_places();
        }
        run = child;
        reach = Reach {
            base: next,
            matched: matched_blocks(run, next as usize, keys),
        };
        staying = out.extend(run, reach);
        if any_windows {
            out.read_windows(run, reach);
        }
    }
    if any_windows {
        out.apply_windows(&marks.windowed);
    } else if marks.windowed.any() {
        // They told of their windows after the lookup began; it did not read them.
        out.drop_marked(&marks.windowed);
    }
    if marks.leaving.any() {
        // Their old entries may have been read.
        out.drop_marked(&marks.leaving);
    }
}

/// Blocks of `run` that agree with the request from block `base` on; the first one is known to.
/// Runs have at most 65,535.
#[inline]
fn matched_blocks(run: &Run, base: usize, keys: &mut impl Keys) -> u32 {
    run.prefetch();
    let first = run.first_keys();
    let mut matched = keys.matching(base, Slots(first));
    if matched == first.len() {
        run.prefetch_keys();
        for segment in run.more_keys() {
            let more = keys.matching(base + matched, Slots(segment.words()));
            matched += more;
            if more < segment.words().len() {
                break;
            }
        }
    }
    matched as u32
}
