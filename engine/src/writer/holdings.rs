//! All holdings of one worker: by number for names, by run for chains that arrive again.
use super::names::Place;
use super::table::{Name, Table};
use crate::sync::prefetch;
use crate::tree::Pin;
use crate::tree::holding::{Holding, Tiers};
use crate::tree::run::Hold;
use crate::types::{EngineHash, WorkerId};

/// Holdings allocated at once: growth never moves them.
const CHUNK: usize = 64;

/// The holdings. Changes to one are published when another one is changed, or by [`Holdings::publish`]:
/// an event on consecutive blocks then stores one word for each run.
#[derive(Debug)]
pub(super) struct Holdings {
    worker: WorkerId,
    chunks: Vec<Box<[Option<Holding>]>>,
    free: Vec<u32>,
    len: usize,
    /// Run address -> number.
    by_run: Table,
    /// The one whose last changes are not published.
    changed: Option<u32>,
}

impl Holdings {
    pub(super) fn new(worker: WorkerId) -> Self {
        Self {
            worker,
            chunks: Vec::new(),
            free: Vec::new(),
            len: 0,
            by_run: Table::default(),
            changed: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All numbers are below.
    pub(super) fn bound(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Bytes allocated, exceptions aside.
    pub(super) fn bytes(&self) -> usize {
        self.by_run.bytes() + self.chunks.len() * CHUNK * size_of::<Option<Holding>>()
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&Holding> {
        let at = at as usize;
        self.chunks.get(at / CHUNK)?[at % CHUNK].as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Holding> {
        let at = at as usize;
        self.chunks.get_mut(at / CHUNK)?[at % CHUNK].as_mut()
    }

    /// Asks for a holding.
    #[inline]
    pub(super) fn prefetch_one(&self, at: u32) {
        let at = at as usize;
        if let Some(chunk) = self.chunks.get(at / CHUNK) {
            prefetch(&chunk[at % CHUNK]);
        }
    }

    /// Asks for what is read and written of a run after this place.
    #[inline]
    pub(super) fn prefetch(&self, place: Place) {
        if let Some(holding) = self.get(place.holding) {
            holding.prefetch(u32::from(place.offset) + 1);
        }
    }

    /// The holding to change next; the one changed before is published.
    #[inline]
    pub(super) fn change(&mut self, at: u32) -> Option<&mut Holding> {
        if self.changed != Some(at) {
            self.publish();
            self.changed = Some(at);
            if let Some(holding) = self.get(at) {
                holding.run().prefetch_state();
            }
        }
        self.get_mut(at)
    }

    /// Lets lookups see all changes.
    #[inline]
    pub(super) fn publish(&mut self) {
        if let Some(changed) = self.changed.take()
            && let Some(holding) = self.get(changed)
        {
            holding.publish(self.worker);
        }
    }

    /// The number of the holding in a run that is referred to by its address.
    pub(super) fn by_address(&self, run: usize) -> Option<u32> {
        let at = self.by_run.find(EngineHash(run as u64))?;
        Some(self.by_run.get(at)?.holding)
    }

    /// The worker's holding in a run, made if needed; and whether it was.
    pub(super) fn enter(&mut self, run: Hold, context: u32, pin: &Pin) -> (u32, bool) {
        let address = run.address();
        if let Some(there) = self.by_address(address) {
            run.release(pin);
            return (there, false);
        }
        let at = self.free.pop().unwrap_or_else(|| self.room());
        let chunk = &mut self.chunks[at as usize / CHUNK];
        chunk[at as usize % CHUNK] = Some(Holding::enter(run, self.worker, context, pin));
        self.len += 1;
        let entry = Name {
            holding: at,
            offset: 0,
            copies: 1,
        };
        self.by_run.insert(EngineHash(address as u64), entry);
        (at, true)
    }

    /// Sets in which tiers a block has copies.
    pub(super) fn set(&mut self, place: Place, tiers: Tiers) {
        if let Some(holding) = self.change(place.holding) {
            holding.set(u32::from(place.offset), tiers);
        }
    }

    /// Takes the worker out of a run; the context that it belonged to.
    pub(super) fn leave(&mut self, at: u32, pin: &Pin) -> Option<u32> {
        if self.changed == Some(at) {
            self.changed = None;
        }
        let chunk = self.chunks.get_mut(at as usize / CHUNK)?;
        let holding = chunk[at as usize % CHUNK].take()?;
        let address = holding.hold().address();
        if let Some(there) = self.by_run.find(EngineHash(address as u64)) {
            self.by_run.remove(there);
        }
        self.free.push(at);
        self.len -= 1;
        let context = holding.context;
        holding.leave(pin);
        if self.len == 0 {
            self.chunks = Vec::new();
            self.free = Vec::new();
        }
        Some(context)
    }

    /// All holdings with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Holding)> {
        let slots = self.chunks.iter().flat_map(|chunk| chunk.iter());
        let numbered = (0..).zip(slots);
        numbered.filter_map(|(at, slot)| Some((at, slot.as_ref()?)))
    }

    /// Takes the worker out of at most `count` runs, the last ones first. Whether that was all: then
    /// only the freeing of its table is left. For holdings whose names are forgotten already.
    pub(super) fn leave_some(&mut self, count: usize, pin: &Pin) -> bool {
        self.changed = None;
        let mut left = count;
        while let Some(chunk) = self.chunks.last_mut() {
            for slot in chunk.iter_mut().rev() {
                if left == 0 {
                    return false;
                }
                if let Some(holding) = slot.take() {
                    holding.leave(pin);
                    left -= 1;
                }
            }
            self.chunks.pop();
        }
        self.len = 0;
        self.by_run.free_some(count)
    }

    fn room(&mut self) -> u32 {
        let first = (self.chunks.len() * CHUNK) as u32;
        self.chunks.push((0..CHUNK).map(|_| None).collect());
        self.free.extend((first + 1..first + CHUNK as u32).rev());
        first
    }
}
