//! Which runs a worker's dump needs, parents first, and how much of each.
use super::super::holdings::Holdings;
use crate::limits::DUMP_BLOCKS_MAX;
use crate::tree::holding::Holding;
use crate::tree::run::Run;
use ahash::AHashMap;

/// `holdings` of one that is not planned yet.
const NOT_YET: u32 = u32::MAX;

/// Where a planned run's keys and names come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The worker holds blocks in it: which holding, and where the slots for its names begin.
    Held { holding: u32, first: usize },
    /// It is only on the way to such a run: which of the paths has its keys.
    Path(usize),
}

/// Before what a planned run's first block stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parent {
    /// It begins a prompt, in this context of the writer.
    Root(u32),
    /// It branches off a planned run before this block.
    Run { planned: u32, branch: u32 },
}

/// A run that the dump needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) source: Source,
    pub(super) parent: Parent,
    /// Its first blocks, as many as are held or passed through.
    pub(super) blocks: u32,
    /// Blocks with slots for their names.
    pub(super) slots: u32,
    /// The number of its first record.
    pub(super) record: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) runs: Vec<Planned>,
    /// Holding -> planned run.
    holdings: Vec<u32>,
    /// Holding -> where the slots for its names begin.
    firsts: Vec<usize>,
    /// Address of a run in which nothing is held -> planned run.
    passed: AHashMap<usize, u32>,
    /// The keys of such runs: nothing else leads to them.
    pub(super) paths: Vec<Vec<u64>>,
    /// Slots for names, of all runs.
    pub(super) slots: usize,
}

impl Plan {
    /// Plans a holding's run and what it branches off; how many runs that were new.
    pub(super) fn add(&mut self, at: u32, holdings: &Holdings) -> usize {
        let Some(holding) = holdings.get(at).filter(|_| self.of_holding(at).is_none()) else {
            return 0;
        };
        // From the run up to one that is planned, or to the root.
        let mut new: Vec<(&Run, Option<u32>)> = vec![(holding.run(), Some(at))];
        let mut above = None;
        for run in holding.hold().ancestors() {
            if run.parent_address().is_none() {
                break;
            }
            let held = holdings.by_address(run.address());
            above = self.find(run, held).map(|planned| (planned, run));
            if above.is_some() {
                break;
            }
            new.push((run, held));
        }
        let count = new.len();
        for (run, held) in new.into_iter().rev() {
            let parent = match above {
                None => Parent::Root(holding.context),
                Some((planned, above)) => {
                    let branch = run.branch();
                    self.pass_through(planned, above, branch);
                    Parent::Run { planned, branch }
                }
            };
            above = Some((self.enter(run, held, parent, holdings), run));
        }
        count
    }

    fn find(&self, run: &Run, held: Option<u32>) -> Option<u32> {
        match held {
            Some(at) => self.of_holding(at),
            None => self.passed.get(&run.address()).copied(),
        }
    }

    fn enter(&mut self, run: &Run, held: Option<u32>, parent: Parent, holdings: &Holdings) -> u32 {
        let planned = self.runs.len() as u32;
        let (source, slots) = match held {
            Some(holding) => {
                let at = holding as usize;
                if self.holdings.len() <= at {
                    self.holdings.resize(at + 1, NOT_YET);
                    self.firsts.resize(at + 1, 0);
                }
                self.holdings[at] = planned;
                self.firsts[at] = self.slots;
                let first = self.slots;
                let slots = holdings.get(holding).map_or(0, Holding::end);
                (Source::Held { holding, first }, slots)
            }
            None => {
                self.passed.insert(run.address(), planned);
                self.paths.push(Vec::new());
                (Source::Path(self.paths.len() - 1), 0)
            }
        };
        self.slots += slots as usize;
        self.runs.push(Planned {
            source,
            parent,
            blocks: slots,
            slots,
            record: 0,
        });
        planned
    }

    /// At least so many blocks of a planned run are needed.
    fn pass_through(&mut self, planned: u32, run: &Run, blocks: u32) {
        let planned = &mut self.runs[planned as usize];
        if planned.blocks >= blocks {
            return;
        }
        planned.blocks = blocks;
        if let Source::Path(path) = planned.source {
            let keys = &mut self.paths[path];
            keys.extend(run.keys(keys.len() as u32, blocks));
        }
    }

    /// The slot for a block's name.
    #[inline]
    pub(super) fn slot(&self, holding: u32, offset: u16) -> usize {
        let first = self.firsts.get(holding as usize);
        first.map_or(usize::MAX, |first| first + usize::from(offset))
    }

    pub(super) fn of_holding(&self, at: u32) -> Option<u32> {
        let planned = self.holdings.get(at as usize).copied();
        planned.filter(|&planned| planned != NOT_YET)
    }

    /// Numbers the records, when all runs are planned; false if there are too many.
    pub(super) fn number_records(&mut self) -> bool {
        let mut next = 0_u32;
        for run in &mut self.runs {
            run.record = next;
            let Some(further) = next.checked_add(run.blocks.div_ceil(DUMP_BLOCKS_MAX)) else {
                return false;
            };
            next = further;
        }
        next < u32::MAX
    }
}
