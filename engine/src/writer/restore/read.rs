//! What a dump says, run by run, for whoever wants it in another form.
use super::super::bytes::Reader;
use super::RestoreError;
use super::record::{self, Failed, Record, Run, stretch_of, within};
use crate::types::{BlockKey, EngineHash, TIERS};

/// A dump that was read. Of each run the dump gives the keys of all blocks and the ordinary names, which are those of
/// one copy on the GPU; all other names are listed apart.
#[derive(Clone, Debug)]
pub struct Dumped<'a> {
    contexts: Vec<(&'a str, u32)>,
    runs: Vec<DumpedRun<'a>>,
    names: Vec<DumpedName>,
    waiting: u64,
    members: u64,
}

/// Consecutive blocks of a chain.
#[derive(Clone, Copy, Debug)]
pub struct DumpedRun<'a> {
    run: Run<'a>,
    context: usize,
}

/// What a run comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpedParent {
    /// Nothing: it begins a prompt.
    Root,
    /// A block of a run before it.
    Block {
        /// Which run.
        run: usize,
        /// Which of its blocks.
        at: u16,
    },
}

/// A name that is not ordinary: it has copies in other tiers or several copies, or its block has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpedName {
    /// The block's run.
    pub run: u32,
    /// The block's place in it.
    pub offset: u16,
    /// The name.
    pub hash: EngineHash,
    /// Copies by tier.
    pub copies: [u32; TIERS],
}

impl<'a> Dumped<'a> {
    /// Reads a dump, whose records must be of the right form, and complete. What they say is checked as far as to
    /// make sense of it; whether a worker could hold it is not. O(bytes) time, and memory of 80 bytes for each run and 32
    /// for each name that is not ordinary.
    pub fn read(bytes: &'a [u8]) -> Result<Self, RestoreError> {
        let whole = |failed| match failed {
            Failed::Short => RestoreError::Truncated,
            Failed::Wrong(wrong) => wrong,
        };
        let mut reader = Reader { bytes };
        record::header(&mut reader).map_err(whole)?;
        let mut dumped = Self {
            contexts: Vec::new(),
            runs: Vec::new(),
            names: Vec::new(),
            waiting: 0,
            members: 0,
        };
        loop {
            let (_, record) = record::next(&mut reader).map_err(whole)?;
            if record == Record::End {
                break;
            }
            dumped.take(record)?;
        }
        dumped
            .names
            .sort_unstable_by_key(|name| (name.run, name.offset, name.hash.0));
        Ok(dumped)
    }

    fn take(&mut self, record: Record<'a>) -> Result<(), RestoreError> {
        match record {
            Record::Context {
                block_size,
                adapter,
            } => self.contexts.push((adapter, block_size)),
            Record::Run(run) => {
                let context = self.context_of(&run)?;
                self.runs.push(DumpedRun { run, context });
            }
            Record::Name {
                run,
                offset,
                hash,
                copies,
            } => {
                self.check(run as usize, offset.into())?;
                self.names.push(DumpedName {
                    run,
                    offset,
                    hash,
                    copies,
                });
            }
            Record::Members { names, .. } => self.members += names.len() as u64,
            Record::Waiting { .. } => self.waiting += 1,
            Record::Group { .. } | Record::End => {}
        }
        Ok(())
    }

    fn context_of(&self, run: &Run<'_>) -> Result<usize, RestoreError> {
        let at = run.head.at;
        match run.head.parent.checked_sub(1) {
            Some(parent) => {
                self.check(parent as usize, at)?;
                Ok(self.runs[parent as usize].context)
            }
            None if (at as usize) < self.contexts.len() => Ok(at as usize),
            None => {
                let (field, value) = ("context", at.into());
                Err(RestoreError::Value { field, value })
            }
        }
    }

    /// Whether there is such a block.
    fn check(&self, run: usize, offset: u32) -> Result<(), RestoreError> {
        let Some(found) = self.runs.get(run) else {
            let (field, value) = ("run", run as u64);
            return Err(RestoreError::Value { field, value });
        };
        let last = u64::from(found.run.head.blocks) - 1;
        within("offset", offset, 0..=last)
    }

    /// The contexts that runs name by number: adapter, empty for none, and block size.
    #[must_use]
    pub fn contexts(&self) -> &[(&'a str, u32)] {
        &self.contexts
    }

    /// The runs. Each comes after the one that it follows.
    #[must_use]
    pub fn runs(&self) -> &[DumpedRun<'a>] {
        &self.runs
    }

    /// The names of a run's blocks that are not ordinary, in the order of the blocks. O(log names).
    #[must_use]
    pub fn names(&self, run: usize) -> &[DumpedName] {
        let from = self.names.partition_point(|name| (name.run as usize) < run);
        let names = &self.names[from..];
        &names[..names.partition_point(|name| name.run as usize == run)]
    }

    /// The names of one block: the ordinary one, and the others. None at all if the worker does not hold it.
    /// O(stretches of the run + log names).
    #[must_use]
    pub fn names_of(&self, run: usize, at: u16) -> (Option<EngineHash>, &[DumpedName]) {
        let ordinary = self.runs.get(run).and_then(|run| run.name_of(at));
        let others = self.names(run);
        let others = &others[others.partition_point(|name| name.offset < at)..];
        let end = others.partition_point(|name| name.offset == at);
        (ordinary, &others[..end])
    }

    /// Names without a place: their content or their parent is not known.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Names in sliding-window groups.
    #[must_use]
    pub fn members(&self) -> u64 {
        self.members
    }
}

impl<'a> DumpedRun<'a> {
    /// The number of its context.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context
    }

    /// What it comes after.
    #[must_use]
    pub fn parent(&self) -> DumpedParent {
        match self.run.head.parent.checked_sub(1) {
            None => DumpedParent::Root,
            Some(run) => DumpedParent::Block {
                run: run as usize,
                // Checked against the run's blocks, which are counted in 16 bits.
                at: self.run.head.at as u16,
            },
        }
    }

    /// The keys of its blocks.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = BlockKey> + use<'a> {
        let keys = self.run.keys.iter();
        keys.map(|&key| BlockKey::new(u64::from_le_bytes(key)))
    }

    /// The ordinary names, each with its block's place.
    pub fn ordinary(&self) -> impl Iterator<Item = (u16, EngineHash)> + use<'a> {
        let mut at = 0;
        let offsets = self.run.stretches.iter().flat_map(move |&stretch| {
            let (skipped, held) = stretch_of(stretch);
            // The stretches fit into the blocks.
            let from = at + skipped;
            at = from + held;
            from..at
        });
        let names = self.run.names.iter();
        let names = names.map(|&name| EngineHash(u64::from_le_bytes(name)));
        offsets.zip(names)
    }

    fn name_of(&self, at: u16) -> Option<EngineHash> {
        let (mut from, mut names) = (0, 0);
        for &stretch in self.run.stretches {
            let (skipped, held) = stretch_of(stretch);
            from += skipped;
            if at < from {
                return None;
            }
            if at < from + held {
                let name = self.run.names[names + usize::from(at - from)];
                return Some(EngineHash(u64::from_le_bytes(name)));
            }
            from += held;
            names += usize::from(held);
        }
        None
    }
}
