//! The names that are in one sliding-window group, with their copies on the GPU.
use super::super::table::{Name, Table};
use crate::types::EngineHash;

/// A table in which an entry's `holding` is how many copies there are.
#[derive(Debug, Default)]
pub(in crate::writer) struct Members(Table);

impl Members {
    /// Names.
    pub(in crate::writer) fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes allocated.
    pub(in crate::writer) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    pub(in crate::writer) fn contains(&self, hash: EngineHash) -> bool {
        self.0.find(hash).is_some()
    }

    /// A name that is not there, with at least one copy.
    pub(in crate::writer) fn insert(&mut self, hash: EngineHash, copies: u32) {
        let entry = Name {
            holding: copies,
            offset: 0,
            copies: 1,
        };
        self.0.insert(hash, entry);
    }

    /// One more copy, if the name is there; whether it is.
    pub(in crate::writer) fn add(&mut self, hash: EngineHash) -> bool {
        let at = self.0.find(hash);
        let Some(entry) = at.and_then(|at| self.0.get_mut(at)) else {
            return false;
        };
        entry.holding = entry.holding.saturating_add(1);
        true
    }

    /// One copy less; how many are left, `None` if the name was not there.
    pub(in crate::writer) fn take(&mut self, hash: EngineHash) -> Option<u32> {
        let at = self.0.find(hash)?;
        let entry = self.0.get_mut(at)?;
        entry.holding = entry.holding.saturating_sub(1);
        let left = entry.holding;
        if left == 0 {
            self.0.remove(at);
        }
        Some(left)
    }

    /// Removes the names that are not to stay. O(names).
    pub(in crate::writer) fn retain(&mut self, mut stays: impl FnMut(EngineHash) -> bool) {
        let unmixed = self.0.unmixer();
        self.0.retain(|mixed, _| stays(unmixed(mixed)));
    }

    /// See [`Table::portions`].
    pub(in crate::writer) fn portions(&self) -> usize {
        self.0.portions()
    }

    /// Names with their copies, see [`Table::portion`].
    pub(in crate::writer) fn portion(
        &self,
        at: usize,
    ) -> impl Iterator<Item = (EngineHash, u32)> + '_ {
        let entries = self.0.portion(at);
        entries.map(|(hash, entry)| (hash, entry.holding))
    }
}
