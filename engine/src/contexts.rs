//! (model, adapter, block size) -> tree: made on the first store, gone with the last writer.
use crate::limits::CONTEXTS_MAX;
use crate::sync::Rcu;
use crate::tree::Tree;
use crate::types::Context;
use ahash::AHashMap;
use crossbeam_epoch::Guard;
use std::sync::Arc;

/// The index has [`CONTEXTS_MAX`] contexts already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the index has room for no more than {CONTEXTS_MAX} contexts")]
pub struct TooManyContexts;

/// By model, then by adapter ("" for none), then a tree for each block size.
type Map = AHashMap<String, AHashMap<String, Vec<Arc<Tree>>>>;

/// All contexts: replaced whole when one comes or goes, read without waiting.
#[derive(Debug)]
pub(crate) struct Contexts {
    map: Rcu<Map>,
}

/// A writer's use of a context's tree. Give it back with [`Contexts::end_use`].
#[derive(Debug)]
pub(crate) struct TreeUse {
    model: String,
    adapter: String,
    tree: Arc<Tree>,
}

impl TreeUse {
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) fn is(&self, adapter: Option<&str>, block_size: u32) -> bool {
        self.tree.block_size == block_size && self.adapter == adapter.unwrap_or_default()
    }
}

impl Contexts {
    pub(crate) fn new() -> Self {
        Self {
            map: Rcu::new(Map::default()),
        }
    }

    /// The trees of (model, adapter), one for each block size. No allocation.
    pub(crate) fn trees<'g>(
        &self,
        model: &str,
        adapter: Option<&str>,
        guard: &'g Guard,
    ) -> &'g [Arc<Tree>] {
        let by_adapter = self.map.load(guard).get(model);
        by_adapter
            .and_then(|adapters| adapters.get(adapter.unwrap_or_default()))
            .map_or(&[], Vec::as_slice)
    }

    /// The context's tree, made if needed. O(contexts) when it is made.
    pub(crate) fn begin_use(
        &self,
        context: Context<'_>,
        guard: &Guard,
    ) -> Result<TreeUse, TooManyContexts> {
        let adapter = context.adapter.unwrap_or_default();
        let mut found = Err(TooManyContexts);
        self.map.update(guard, |map| {
            // A former round's tree was not published.
            found = Err(TooManyContexts);
            let trees = map.get(context.model).and_then(|m| m.get(adapter));
            let there = trees
                .into_iter()
                .flatten()
                .find(|tree| tree.block_size == context.block_size);
            if let Some(tree) = there
                && tree.try_use()
            {
                found = Ok(Arc::clone(tree));
                return None;
            }
            let adapters = map.values().flat_map(|adapters| adapters.values());
            if there.is_none() && adapters.map(Vec::len).sum::<usize>() >= CONTEXTS_MAX {
                return None;
            }
            let new = Arc::new(Tree::new(context.block_size));
            found = Ok(Arc::clone(&new));
            let mut map = map.clone();
            let trees = map
                .entry(context.model.to_owned())
                .or_default()
                .entry(adapter.to_owned())
                .or_default();
            // A tree of this block size that is still there is dead.
            trees.retain(|tree| tree.block_size != context.block_size);
            trees.push(new);
            Some(map)
        });
        found.map(|tree| TreeUse {
            model: context.model.to_owned(),
            adapter: adapter.to_owned(),
            tree,
        })
    }

    /// Ends uses; the last one of a context removes it. O(contexts) then, once for all.
    pub(crate) fn end_uses<'a>(
        &self,
        uses: impl Iterator<Item = &'a TreeUse>,
        guard: &Guard,
    ) {
        let dead: Vec<_> = uses.filter(|used| used.tree.end_use()).collect();
        if dead.is_empty() {
            return;
        }
        self.map.update(guard, |map| {
            let mut map = map.clone();
            for used in &dead {
                remove(&mut map, used);
            }
            Some(map)
        });
    }
}

/// Takes a tree out of the map, if it is (still) there.
fn remove(map: &mut Map, used: &TreeUse) {
    let Some(adapters) = map.get_mut(&used.model) else {
        return;
    };
    if let Some(trees) = adapters.get_mut(&used.adapter) {
        trees.retain(|tree| !Arc::ptr_eq(tree, &used.tree));
        if trees.is_empty() {
            adapters.remove(&used.adapter);
        }
    }
    if adapters.is_empty() {
        map.remove(&used.model);
    }
}
