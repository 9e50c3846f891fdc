//! The contexts that one writer uses, by number.
use crate::contexts::{TooManyContexts, TreeUse};
use crate::index::Index;
use crate::types::Context;
use crossbeam_epoch::Guard;

/// A context is used as long as the writer has holdings in it.
#[derive(Debug, Default)]
pub(super) struct Used {
    uses: Vec<Option<Use>>,
    /// The one asked for last: events come in bursts of one context.
    last: usize,
    /// Whether some use has no holdings left.
    idle: bool,
}

#[derive(Debug)]
struct Use {
    tree: TreeUse,
    holdings: u32,
}

impl Used {
    pub(super) fn get(&self, context: u32) -> Option<&TreeUse> {
        Some(&self.uses.get(context as usize)?.as_ref()?.tree)
    }

    /// All contexts in use, with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &TreeUse)> {
        let numbered = (0..).zip(&self.uses);
        numbered.filter_map(|(at, slot)| Some((at, &slot.as_ref()?.tree)))
    }

    /// The number of a context, used from now on. O(contexts of the writer) if it is not the last one.
    pub(super) fn number(
        &mut self,
        index: &Index,
        context: Context<'_>,
        guard: &Guard,
    ) -> Result<u32, TooManyContexts> {
        let is = |slot: &Option<Use>| {
            let same = |used: &Use| used.tree.is(context.adapter, context.block_size);
            slot.as_ref().is_some_and(same)
        };
        if !self.uses.get(self.last).is_some_and(is) {
            self.last = match self.uses.iter().position(is) {
                Some(there) => there,
                None => self.begin(index.begin_use(context, guard)?),
            };
        }
        // Bounded by the contexts of an index.
        Ok(u32::try_from(self.last).unwrap_or(u32::MAX))
    }

    fn begin(&mut self, tree: TreeUse) -> usize {
        self.idle = true;
        let fresh = Some(Use { tree, holdings: 0 });
        if let Some(free) = self.uses.iter().position(Option::is_none) {
            self.uses[free] = fresh;
            return free;
        }
        self.uses.push(fresh);
        self.uses.len() - 1
    }

    /// A holding more in a context.
    pub(super) fn entered(&mut self, context: u32) {
        if let Some(Some(used)) = self.uses.get_mut(context as usize) {
            used.holdings += 1;
        }
    }

    /// A holding less.
    pub(super) fn left(&mut self, context: u32) {
        if let Some(Some(used)) = self.uses.get_mut(context as usize) {
            used.holdings -= 1;
            self.idle |= used.holdings == 0;
        }
    }

    /// Ends the use of contexts without holdings. Not to be called while a block waits that names its
    /// context by number.
    pub(super) fn end_idle(&mut self, index: &Index, guard: &Guard) {
        if !std::mem::take(&mut self.idle) {
            return;
        }
        let idle = |slot: &mut Option<Use>| slot.take_if(|used| used.holdings == 0);
        let ended: Vec<_> = self.uses.iter_mut().filter_map(idle).collect();
        index.end_uses(ended.iter().map(|used| &used.tree), guard);
        while self.uses.pop_if(|slot| slot.is_none()).is_some() {}
    }

    /// Ends all uses.
    pub(super) fn end_all(&mut self, index: &Index, guard: &Guard) {
        let ended = std::mem::take(self).uses;
        index.end_uses(ended.iter().flatten().map(|used| &used.tree), guard);
    }

    /// Moves all uses out, to be ended later.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}
