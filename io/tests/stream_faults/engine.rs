//! One engine in its lives: what it serves, publishes and keeps in its ring, and the truth about it.
use crate::truth::{Life, Probe};
use kvroute::fake::cache::CacheOptions;
use kvroute::fake::chance::Chance;
use kvroute::fake::encode::{Dialect, Encoder};
use kvroute::fake::prompts::Habits;
use kvroute::fake::rank::{Batch, Rank, RankOptions};
use kvroute::fake::ring::Ring;
use std::collections::HashSet;

/// Prefixes remembered to ask about, beside what is held.
const PROBES_MAX: usize = 400;

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) rank: Rank,
    pub(crate) ring: Ring,
    pub(crate) lives: Vec<Life>,
    /// Every prefix that was ever held, up to a bound.
    pub(crate) probes: Vec<Probe>,
    probed: HashSet<(u64, u64)>,
    pub(crate) block_size: u32,
}

impl Engine {
    pub(crate) fn draw(chance: &mut Chance, fleet: u64) -> Self {
        let dialect = Dialect::ALL[chance.place(4)];
        let block_size = [4, 4, 8][chance.place(3)];
        let encoder = Encoder {
            dialect,
            bytes: chance.per_mille(400),
            unknown_fields: chance.per_mille(300),
            block_size,
            rank: chance.below(4) as u32,
        };
        let cache = CacheOptions {
            blocks: chance.between(8, 60) as usize,
            offloaded: [0, 0, chance.between(4, 40) as usize][chance.place(3)],
            placeholders: chance.per_mille(500),
            block_size,
            chunk: chance.between(1, 6) as usize,
            seed: chance.next(),
        };
        let habits = Habits {
            block_size,
            systems: chance.between(1, 4),
            system_blocks: 5,
            turn_blocks: 3,
            blocks_max: 24,
            adapters: chance.below(3),
            salted_per_mille: [0, 250][chance.place(2)],
        };
        let rank = Rank::new(RankOptions {
            encoder,
            cache,
            habits,
            fleet,
            seed: chance.next(),
            running_max: chance.between(1, 4) as usize,
            resets_per_mille: [0, 5, 40][chance.place(3)],
        });
        let ring = [10_000, 10_000, 10_000, chance.between(1, 12) as usize];
        Self {
            rank,
            ring: Ring::new(ring[chance.place(4)]),
            lives: vec![Life::default()],
            probes: Vec::new(),
            probed: HashSet::new(),
            block_size,
        }
    }

    pub(crate) fn life(&self) -> usize {
        self.lives.len() - 1
    }

    pub(crate) fn current(&self) -> &Life {
        let last = self.life();
        &self.lives[last]
    }

    pub(crate) fn current_mut(&mut self) -> &mut Life {
        let last = self.life();
        &mut self.lives[last]
    }

    /// The next batch; it is in the ring.
    pub(crate) fn publish(&mut self) -> Option<Batch> {
        let batch = self.rank.batch()?;
        self.ring.push(batch.sequence, &batch.payload);
        let rotated = self.ring.first() != Some(0);
        let life = self.lives.last_mut()?;
        life.publish(&batch.payload, self.rank.cache());
        life.rotated |= rotated;
        self.remember();
        Some(batch)
    }

    /// Spends a number on a batch that is never published.
    pub(crate) fn lose_number(&mut self) {
        self.rank.lose_number();
        self.current_mut().spend();
    }

    pub(crate) fn restart(&mut self, same_hashes: bool) {
        self.rank.restart(same_hashes);
        self.ring.clear();
        self.lives.push(Life::default());
    }

    fn remember(&mut self) {
        let life = self.rank.life();
        for (hash, held) in self.rank.cache().held() {
            if self.probes.len() >= PROBES_MAX {
                return;
            }
            if self.probed.insert((life, hash)) {
                self.probes.push(Probe {
                    tokens: held.link.path(),
                    scope: held.link.scope.clone(),
                });
            }
        }
    }
}
