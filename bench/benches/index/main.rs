//! The index: lookups by depth and by size of the fleet, stores, appends, removals, clears, dumps, a reader
//! beside a writer, and the stalls that a large clear may cause.
//!
//! Every answer is checked against one that is worked out from the workload before anything is timed.
//! `cargo bench -p kvroute-bench -- --test` runs each once on a tiny workload.
mod clear;
mod dump;
mod fleet;
mod longest;
mod lookup;
mod race;
mod settle;
mod write;

use criterion::Criterion;
use kvroute_bench::{Conversation, Filled, Size, conversations, deep, fresh, machine};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEED: u64 = 42;

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Effort {
    size: Size,
    /// (conversations, blocks of each) beyond the depth of the regular ones.
    deep: [(usize, usize); 2],
    /// Conversations that writers store and lose again.
    fresh: usize,
    /// System prompts in the fleets of different sizes.
    fleet_systems: usize,
    /// Blocks of the large worker that is cleared, and how often it is.
    settle: (usize, usize),
}

impl Effort {
    const FULL: Self = Self {
        size: Size::FULL,
        deep: [(32, 1_100), (4, 8_200)],
        fresh: 64,
        fleet_systems: 50,
        settle: (1_000_000, 5),
    };
    /// The cleared worker is just large enough to be cleared in slices.
    const TINY: Self = Self {
        size: Size::TINY,
        deep: [(4, 1_100), (1, 8_200)],
        fresh: 4,
        fleet_systems: 2,
        settle: (20_000, 1),
    };
}

/// The conversations: regular ones first, then deep ones; and what only writers know.
#[derive(Debug)]
struct Workload {
    size: Size,
    stored: Vec<Conversation>,
    regular: usize,
    fresh: Vec<Conversation>,
}

impl Workload {
    fn new(effort: &Effort) -> Self {
        let mut stored = conversations(effort.size, SEED);
        let regular = stored.len();
        for (count, blocks) in effort.deep {
            let deep = deep(effort.size, &stored[..regular], count, blocks, SEED);
            stored.extend(deep);
        }
        Self {
            size: effort.size,
            fresh: fresh(effort.size, &stored[..regular], effort.fresh, SEED),
            regular,
            stored,
        }
    }
}

fn main() {
    // Without `--bench`, cargo runs this as a test.
    let has = |wanted: &str| std::env::args().any(|arg| arg == wanted);
    let effort = if has("--test") || !has("--bench") {
        Effort::TINY
    } else {
        Effort::FULL
    };
    let workload = Workload::new(&effort);
    let mut filled = Filled::new(effort.size, &workload.stored, SEED);
    println!("{}, allocator mimalloc", machine::processor());
    println!("load {}", machine::load());
    println!(
        "{} workers, {} entries",
        filled.writers.len(),
        filled.entries
    );
    let mut criterion = Criterion::default().configure_from_args();
    lookup::run(&mut criterion, &filled, &workload);
    dump::run(&mut criterion, &filled, &workload);
    write::run(&mut criterion, &mut filled, &workload);
    clear::run(&mut criterion, &mut filled, &workload);
    race::run(&mut criterion, &mut filled, &workload);
    drop(filled);
    fleet::run(&mut criterion, &effort);
    settle::run(&effort);
    criterion.final_summary();
}
