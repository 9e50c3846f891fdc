//! (model, adapter, block size) -> tree: made on the first store, gone with the last writer.
use crate::limits::CONTEXTS_MAX;
use crate::sync::Rcu;
use crate::tree::Tree;
use crate::types::Context;
use ahash::AHashMap;
use crossbeam_epoch::Guard;
use std::cell::Cell;
use std::sync::Arc;

/// The index has as many contexts as it has room for: [`CONTEXTS_MAX`], unless it was made with less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the index has no room for another context")]
pub struct TooManyContexts;

/// The trees of one model and adapter ("" for none): one for each block size.
#[derive(Clone, Debug)]
struct Served {
    model: Arc<str>,
    adapter: Arc<str>,
    trees: Vec<Arc<Tree>>,
}

impl Served {
    #[inline]
    fn is(&self, model: &str, adapter: &str) -> bool {
        *self.model == *model && *self.adapter == *adapter
    }
}

/// One version of all contexts.
#[derive(Clone, Debug, Default)]
struct Map {
    served: Vec<Served>,
    /// Model, then adapter -> place in `served`.
    places: AHashMap<Arc<str>, AHashMap<Arc<str>, usize>>,
}

impl Map {
    fn place(&self, model: &str, adapter: &str) -> Option<usize> {
        self.places.get(model)?.get(adapter).copied()
    }

    /// The contexts without those trees, and with a new one.
    fn changed(
        &self,
        gone: impl Fn(&Arc<Tree>) -> bool,
        new: Option<(Context<'_>, Arc<Tree>)>,
    ) -> Self {
        let mut served = self.served.clone();
        if let Some((context, tree)) = new {
            let adapter = context.adapter.unwrap_or_default();
            let at = self.place(context.model, adapter).unwrap_or_else(|| {
                served.push(Served {
                    model: context.model.into(),
                    adapter: adapter.into(),
                    trees: Vec::new(),
                });
                served.len() - 1
            });
            served[at].trees.push(tree);
        }
        for one in &mut served {
            one.trees.retain(|tree| !gone(tree));
        }
        served.retain(|one| !one.trees.is_empty());
        let mut places: AHashMap<Arc<str>, AHashMap<Arc<str>, usize>> = AHashMap::default();
        for (at, one) in served.iter().enumerate() {
            let adapters = places.entry(Arc::clone(&one.model)).or_default();
            adapters.insert(Arc::clone(&one.adapter), at);
        }
        Self { served, places }
    }
}

/// All contexts: replaced whole when one comes or goes, read without waiting.
#[derive(Debug)]
pub(crate) struct Contexts {
    map: Rcu<Map>,
    room: usize,
}

/// A writer's use of a context's tree. Give it back with [`Contexts::end_use`].
#[derive(Debug)]
pub(crate) struct TreeUse {
    adapter: String,
    tree: Arc<Tree>,
}

impl TreeUse {
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The adapter's name, empty for none.
    pub(crate) fn adapter(&self) -> &str {
        &self.adapter
    }

    pub(crate) fn is(&self, adapter: Option<&str>, block_size: u32) -> bool {
        self.tree.block_size == block_size && self.adapter == adapter.unwrap_or_default()
    }
}

impl Contexts {
    /// With room for so many, up to [`CONTEXTS_MAX`].
    pub(crate) fn new(room: usize) -> Self {
        Self {
            map: Rcu::new(Map::default()),
            room: room.min(CONTEXTS_MAX),
        }
    }

    /// The trees of (model, adapter), one for each block size. `hint` is where they may stand, and is
    /// told where they do. No allocation.
    #[inline]
    pub(crate) fn trees<'g>(
        &self,
        model: &str,
        adapter: Option<&str>,
        hint: &Cell<usize>,
        guard: &'g Guard,
    ) -> &'g [Arc<Tree>] {
        let map = self.map.load(guard);
        let adapter = adapter.unwrap_or_default();
        match map.served.get(hint.get()) {
            Some(served) if served.is(model, adapter) => &served.trees,
            _ => map.place(model, adapter).map_or(&[], |at| {
                hint.set(at);
                &map.served[at].trees
            }),
        }
    }

    /// Calls `each` with model, adapter and block size of every context.
    pub(crate) fn each(&self, guard: &Guard, mut each: impl FnMut(&str, &str, u32)) {
        for served in &self.map.load(guard).served {
            for tree in &served.trees {
                each(&served.model, &served.adapter, tree.block_size);
            }
        }
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
            let served = map.place(context.model, adapter).map(|at| &map.served[at]);
            let there = served.and_then(|served| {
                served
                    .trees
                    .iter()
                    .find(|t| t.block_size == context.block_size)
            });
            if let Some(tree) = there
                && tree.try_use()
            {
                found = Ok(Arc::clone(tree));
                return None;
            }
            let count = map.served.iter().map(|served| served.trees.len());
            if there.is_none() && count.sum::<usize>() >= self.room {
                return None;
            }
            let new = Arc::new(Tree::new(context.block_size));
            found = Ok(Arc::clone(&new));
            // A tree of this block size that is still there is dead.
            let dead = |tree: &Arc<Tree>| there.is_some_and(|there| Arc::ptr_eq(there, tree));
            Some(map.changed(dead, Some((context, new))))
        });
        found.map(|tree| TreeUse {
            adapter: adapter.to_owned(),
            tree,
        })
    }

    /// Ends uses; the last one of a context removes it. O(contexts) then, once for all.
    pub(crate) fn end_uses<'a>(&self, uses: impl Iterator<Item = &'a TreeUse>, guard: &Guard) {
        let dead: Vec<_> = uses.filter(|used| used.tree.end_use()).collect();
        if dead.is_empty() {
            return;
        }
        let gone = |tree: &Arc<Tree>| dead.iter().any(|used| Arc::ptr_eq(&used.tree, tree));
        self.map.update(guard, |map| Some(map.changed(gone, None)));
    }
}

#[cfg(all(test, crossbeam_loom))]
mod models {
    use super::*;
    use crossbeam_epoch::Collector;
    use loom::sync::Arc;

    const CONTEXT: Context<'_> = Context {
        model: "m",
        adapter: None,
        block_size: 1,
    };

    /// The only tree of the context that lookups find.
    fn found(contexts: &Contexts, guard: &Guard) -> Option<*const Tree> {
        let trees = contexts.trees("m", None, &Cell::new(0), guard);
        assert!(trees.len() <= 1);
        trees.first().map(std::sync::Arc::as_ptr)
    }

    #[test]
    fn a_dying_context_is_refused_or_lives_on() {
        loom::model(|| {
            let collector = Collector::new();
            let contexts = Arc::new(Contexts::new(CONTEXTS_MAX));
            let guard = collector.register().pin();
            let own = contexts.begin_use(CONTEXT, &guard).unwrap();
            drop(guard);
            let (other, theirs) = (Arc::clone(&contexts), collector.clone());
            let rival = loom::thread::spawn(move || {
                let guard = theirs.register().pin();
                let used = other.begin_use(CONTEXT, &guard).unwrap();
                assert_eq!(found(&other, &guard), Some(std::ptr::from_ref(used.tree())));
                used
            });
            let guard = collector.register().pin();
            contexts.end_uses([&own].into_iter(), &guard);
            let used = rival.join().unwrap();
            assert_eq!(
                found(&contexts, &guard),
                Some(std::ptr::from_ref(used.tree()))
            );
            contexts.end_uses([&used].into_iter(), &guard);
            assert_eq!(found(&contexts, &guard), None);
        });
    }
}
