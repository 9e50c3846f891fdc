//! Small workers, and the bytes of their dumps put together by hand.
use kvroute_engine::hash::{ExtraDigest, SEED_DEFAULT, block_key};
use kvroute_engine::types::{EngineHash, Tier};
use kvroute_engine::{Budget, Index, IndexConfig, Matches, Participant, Store, TokenKeys, Writer};
use std::sync::Arc;

pub(crate) fn index(bytes: Option<u64>) -> (Arc<Index>, Participant) {
    let budget = Budget {
        bytes,
        ..Budget::default()
    };
    let index = Index::new(IndexConfig {
        budget,
        ..IndexConfig::default()
    });
    let at = index.participant();
    (index, at)
}

/// Stores blocks of one token after a parent. A block's name is its number.
pub(crate) fn store(
    writer: &mut Writer,
    at: &Participant,
    parent: Option<u64>,
    blocks: &[(u64, u32)],
) {
    store_in(writer, at, None, parent, blocks);
}

pub(crate) fn store_in(
    writer: &mut Writer,
    at: &Participant,
    adapter: Option<&str>,
    parent: Option<u64>,
    blocks: &[(u64, u32)],
) {
    let event = Store {
        adapter,
        block_size: 1,
        tier: Tier::Gpu,
        parent: parent.map(EngineHash),
        hashes: &names(blocks.iter().map(|block| block.0)),
        tokens: &blocks.iter().map(|block| block.1).collect::<Vec<_>>(),
        extra: &[],
        says_extra: true,
    };
    writer.store(at, &event).unwrap();
}

/// A further copy, by name only.
pub(crate) fn offload(writer: &mut Writer, at: &Participant, name: u64) {
    let event = Store {
        adapter: None,
        block_size: 0,
        tier: Tier::Cpu,
        parent: None,
        hashes: &[EngineHash(name)],
        tokens: &[],
        extra: &[],
        says_extra: true,
    };
    writer.store(at, &event).unwrap();
}

pub(crate) fn names(numbers: impl IntoIterator<Item = u64>) -> Vec<EngineHash> {
    numbers.into_iter().map(EngineHash).collect()
}

/// Leading blocks of a prompt by tier, for the only worker.
pub(crate) fn score(at: &Participant, tokens: &[u32]) -> [u32; 3] {
    let mut out = Matches::new();
    for context in at.pin().contexts("m", None) {
        let mut keys = TokenKeys::new(SEED_DEFAULT, 1, tokens, &[]);
        context.lookup(&mut keys, &mut out);
    }
    out.hits().first().map_or([0; 3], |hit| hit.blocks)
}

/// Bytes put together one after the other.
#[derive(Clone, Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn header(incomplete: u8, names: u64) -> Self {
        let bytes = Self::default().raw(b"kvd\x01").u64(SEED_DEFAULT);
        bytes.u8(incomplete).u64(names)
    }

    /// The header of that many names, and the context of blocks of one token.
    pub(crate) fn plain(names: u64) -> Self {
        Self::header(0, names).u8(1).u32(1).u16(0)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(self, number: u8) -> Self {
        self.raw(&[number])
    }

    pub(crate) fn u16(self, number: u16) -> Self {
        self.raw(&number.to_le_bytes())
    }

    pub(crate) fn u32(self, number: u32) -> Self {
        self.raw(&number.to_le_bytes())
    }

    pub(crate) fn u64(self, number: u64) -> Self {
        self.raw(&number.to_le_bytes())
    }

    /// The key of a block of one token.
    pub(crate) fn key(self, token: u32) -> Self {
        self.u64(block_key(SEED_DEFAULT, &[token], ExtraDigest::NONE).get())
    }

    pub(crate) fn run(
        self,
        blocks: u16,
        stretches: &[(u16, u16)],
        parent: u32,
        at: u32,
        age: u32,
    ) -> Self {
        let run = self.u8(4).u16(blocks).u16(stretches.len() as u16);
        let run = run.u32(parent).u32(at).u32(age);
        let stretches = stretches.iter();
        stretches.fold(run, |run, &(skipped, held)| run.u16(skipped).u16(held))
    }

    pub(crate) fn name(self, run: u32, offset: u16, hash: u64) -> Self {
        self.u8(5).u32(run).u16(offset).u64(hash)
    }

    pub(crate) fn end(self) -> Self {
        self.u8(7)
    }
}
