//! Stub of the public face.
#![allow(
    missing_docs,
    unused_variables,
    missing_debug_implementations,
    reason = "stub"
)]
use crate::{
    hash::ExtraDigest,
    types::{BlockKey, EngineHash, TIERS, Tier, WorkerId},
};
use std::sync::Arc;
#[derive(Debug)]
pub struct Index;
pub struct IndexConfig {
    pub hash_seed: u64,
}
impl Default for IndexConfig {
    fn default() -> Self {
        Self { hash_seed: 1337 }
    }
}
#[derive(Debug, thiserror::Error)]
#[error("the index has room for no more workers")]
pub struct TooManyWorkers;
impl Index {
    pub fn new(config: IndexConfig) -> Arc<Index> {
        Arc::new(Index)
    }
    pub fn hash_seed(&self) -> u64 {
        1337
    }
    pub fn participant(self: &Arc<Self>) -> Participant {
        Participant(self.clone())
    }
    pub fn writer(self: &Arc<Self>, model: &str) -> Result<Writer, TooManyWorkers> {
        Err(TooManyWorkers)
    }
}
pub struct Writer;
impl Writer {
    pub fn id(&self) -> WorkerId {
        WorkerId(0)
    }
    pub fn model(&self) -> &str {
        ""
    }
    pub fn blocks(&self) -> u64 {
        0
    }
    pub fn waiting(&self) -> usize {
        0
    }
    pub fn incomplete(&self) -> bool {
        false
    }
    pub fn store(
        &mut self,
        at: &Participant,
        event: &Store<'_>,
    ) -> Result<StoreReport, StoreError> {
        Ok(StoreReport::default())
    }
    pub fn remove(&mut self, at: &Participant, tier: Tier, hashes: &[EngineHash]) -> RemoveReport {
        RemoveReport::default()
    }
    pub fn clear(&mut self, at: &Participant) {}
}
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    pub adapter: Option<&'a str>,
    pub block_size: u32,
    pub tier: Tier,
    pub parent: Option<EngineHash>,
    pub hashes: &'a [EngineHash],
    pub tokens: &'a [u32],
    pub extra: &'a [ExtraDigest],
    pub says_extra: bool,
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    pub stored: u32,
    pub copies: u32,
    pub waiting: u32,
    pub dropped: u32,
    pub conflicts: u32,
    pub attached: u32,
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveReport {
    pub removed: u32,
    pub copies: u32,
    pub unknown: u32,
}
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("tokens")]
    TokenCount,
    #[error("block size")]
    BlockSize,
    #[error("extra")]
    ExtraCount,
    #[error("contexts")]
    TooManyContexts,
}
pub struct Participant(Arc<Index>);
impl Participant {
    pub fn pin(&self) -> Pinned<'_> {
        Pinned(self)
    }
    pub fn index(&self) -> &Arc<Index> {
        &self.0
    }
}
pub struct Pinned<'p>(&'p Participant);
pub struct ContextView<'g>(&'g ());
impl Pinned<'_> {
    pub fn contexts(
        &self,
        model: &str,
        adapter: Option<&str>,
    ) -> impl Iterator<Item = ContextView<'_>> {
        std::iter::empty()
    }
}
impl ContextView<'_> {
    pub fn block_size(&self) -> u32 {
        16
    }
    pub fn lookup(&self, keys: &mut impl Keys, out: &mut Matches) {}
}
pub trait Keys {
    fn key(&mut self, block: usize) -> Option<BlockKey>;
}
pub struct TokenKeys<'a>(&'a [u32]);
impl<'a> TokenKeys<'a> {
    pub fn new(seed: u64, block_size: u32, tokens: &'a [u32], extra: &'a [ExtraDigest]) -> Self {
        Self(tokens)
    }
}
impl Keys for TokenKeys<'_> {
    fn key(&mut self, block: usize) -> Option<BlockKey> {
        None
    }
}
impl Keys for &[BlockKey] {
    fn key(&mut self, block: usize) -> Option<BlockKey> {
        self.get(block).copied()
    }
}
#[derive(Default)]
pub struct Matches(Vec<Hit>);
impl Matches {
    pub fn new() -> Self {
        Self(Vec::new())
    }
    pub fn hits(&self) -> &[Hit] {
        &self.0
    }
}
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    pub worker: WorkerId,
    pub blocks: [u32; TIERS],
}
