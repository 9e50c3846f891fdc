//! A worker's dump as the stored events of an indexer that knows chains of named blocks (Dynamo's).
//!
//! An event there has one worker, one tier, the name of the block before, and consecutive blocks with their names and
//! local hashes, which are our block keys. What such an indexer could not place is left out and counted: whatever stands
//! beyond a hole, which on the GPU is a block that is not there, and in other tiers one that is nowhere.
use kvroute_engine::types::{BlockKey, EngineHash, TIERS, Tier};
use kvroute_engine::{Dumped, DumpedName, DumpedParent};
use serde::{Serialize, Serializer};

#[derive(Serialize)]
struct RoutedEvent<'e> {
    worker_id: Instance<'e>,
    storage_tier: &'static str,
    event: Event<'e>,
}

/// A worker's name. Those of Dynamo are numbers.
#[derive(Clone, Copy, Debug)]
struct Instance<'e>(&'e str);

impl Serialize for Instance<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parse::<u64>() {
            Ok(number) if number.to_string() == self.0 => serializer.serialize_u64(number),
            _ => serializer.serialize_str(self.0),
        }
    }
}

#[derive(Serialize)]
struct Event<'e> {
    event_id: u64,
    data: Data<'e>,
    dp_rank: u32,
}

#[derive(Serialize)]
struct Data<'e> {
    stored: Stored<'e>,
}

#[derive(Serialize)]
struct Stored<'e> {
    parent_hash: Option<u64>,
    start_position: Option<u32>,
    blocks: &'e [Block],
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Block {
    block_hash: u64,
    tokens_hash: u64,
    /// Never said: what makes a block multimodal is in its hash.
    mm_extra_info: Option<()>,
}

/// What could not be said in events, in names of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct LeftOut {
    beyond_a_hole: u64,
    waiting: u64,
    window_groups: u64,
}

/// The events of one entry of the answer.
#[derive(Debug, Default)]
pub(super) struct Events {
    next_id: u64,
    pub(super) left_out: LeftOut,
}

/// One worker's blocks of one context on their way into events.
#[derive(Debug)]
pub(super) struct Worker<'d> {
    pub(super) dumped: &'d Dumped<'d>,
    pub(super) context: usize,
    pub(super) name: &'d str,
    pub(super) rank: u32,
    /// By run so far: how many leading blocks are held, as is all before them.
    reach: Vec<Reach>,
    keys: Vec<BlockKey>,
    /// By block of the run at hand: its name on the GPU, and any name.
    gpu: Vec<Option<EngineHash>>,
    any: Vec<Option<EngineHash>>,
    blocks: Vec<Block>,
}

/// How many leading blocks of a run are held on the GPU, and anywhere.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    gpu: usize,
    any: usize,
}

/// The block that a run follows: its names on the GPU and anywhere, and whether it is held there as is all before it.
#[derive(Clone, Copy, Debug)]
struct Before {
    gpu: Option<EngineHash>,
    any: Option<EngineHash>,
    is_on_gpu: bool,
    is_held: bool,
}

impl<'d> Worker<'d> {
    pub(super) fn new(dumped: &'d Dumped<'d>, context: usize, name: &'d str, rank: u32) -> Self {
        Self {
            dumped,
            context,
            name,
            rank,
            reach: Vec::new(),
            keys: Vec::new(),
            gpu: Vec::new(),
            any: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// Appends the events of the next run; false if there is none.
    pub(super) fn next_run(
        &mut self,
        events: &mut Events,
        out: &mut Vec<u8>,
    ) -> Result<bool, serde_json::Error> {
        let at = self.reach.len();
        let Some(run) = self.dumped.runs().get(at) else {
            if self.context == 0 {
                events.left_out.waiting += self.dumped.waiting();
                events.left_out.window_groups += self.dumped.members();
            }
            return Ok(false);
        };
        if run.context() != self.context {
            self.reach.push(Reach::default());
            return Ok(true);
        }
        let others = self.dumped.names(at);
        self.keys.clear();
        self.keys.extend(run.keys());
        self.gpu.clear();
        self.gpu.resize(self.keys.len(), None);
        for (offset, hash) in run.ordinary() {
            self.gpu[usize::from(offset)] = Some(hash);
        }
        for name in others.iter().filter(|name| is_in(name, Tier::Gpu)) {
            self.gpu[usize::from(name.offset)].get_or_insert(name.hash);
        }
        self.any.clone_from(&self.gpu);
        for name in others {
            self.any[usize::from(name.offset)].get_or_insert(name.hash);
        }
        let before = self.before(run.parent());
        let leading = |names: &[Option<EngineHash>], follows: bool| match follows {
            true => names.iter().take_while(|name| name.is_some()).count(),
            false => 0,
        };
        let reach = Reach {
            gpu: leading(&self.gpu, before.is_on_gpu),
            any: leading(&self.any, before.is_held),
        };
        self.reach.push(reach);
        self.chain(reach, before, events, out)?;
        for tier in [Tier::Gpu, Tier::Cpu, Tier::Disk] {
            self.others(tier, others, (reach, before), events, out)?;
        }
        Ok(true)
    }

    fn before(&self, parent: DumpedParent) -> Before {
        let DumpedParent::Block { run, at } = parent else {
            return Before {
                gpu: None,
                any: None,
                is_on_gpu: true,
                is_held: true,
            };
        };
        let (ordinary, others) = self.dumped.names_of(run, at);
        let on_gpu = others.iter().find(|name| is_in(name, Tier::Gpu));
        let gpu = ordinary.or(on_gpu.map(|name| name.hash));
        let any = gpu.or(others.first().map(|name| name.hash));
        Before {
            gpu,
            any,
            is_on_gpu: self.reach[run].gpu > usize::from(at),
            is_held: self.reach[run].any > usize::from(at),
        }
    }

    /// The leading blocks that are on the GPU.
    fn chain(
        &mut self,
        reach: Reach,
        before: Before,
        events: &mut Events,
        out: &mut Vec<u8>,
    ) -> Result<(), serde_json::Error> {
        let (said, beyond) = self.gpu.split_at(reach.gpu);
        events.left_out.beyond_a_hole += beyond.iter().flatten().count() as u64;
        let said = said.iter().flatten().zip(&self.keys);
        self.blocks
            .extend(said.map(|(&name, &key)| block(name, key)));
        self.flush(Tier::Gpu, before.gpu, events, out)
    }

    /// The names of one tier that are not in that chain.
    fn others(
        &mut self,
        tier: Tier,
        names: &[DumpedName],
        (reach, before): (Reach, Before),
        events: &mut Events,
        out: &mut Vec<u8>,
    ) -> Result<(), serde_json::Error> {
        let gpu = tier == Tier::Gpu;
        // The event at hand: the name before it, and the place behind it.
        let (mut parent, mut next) = (None, None);
        for name in names.iter().filter(|name| is_in(name, tier)) {
            let at = usize::from(name.offset);
            if gpu && self.gpu[at] == Some(name.hash) {
                continue;
            }
            let (reach, follows) = match gpu {
                true => (reach.gpu, before.is_on_gpu),
                false => (reach.any, before.is_held),
            };
            let follows = if at == 0 { follows } else { reach >= at };
            if !follows {
                events.left_out.beyond_a_hole += 1;
                continue;
            }
            if next != Some(at) {
                self.flush(tier, parent, events, out)?;
                parent = match (at.checked_sub(1), gpu) {
                    (None, true) => before.gpu,
                    (None, false) => before.any,
                    (Some(at), true) => self.gpu[at],
                    (Some(at), false) => self.any[at],
                };
            }
            next = Some(at + 1);
            self.blocks.push(block(name.hash, self.keys[at]));
        }
        self.flush(tier, parent, events, out)
    }

    /// Appends the event of the blocks at hand.
    fn flush(
        &mut self,
        tier: Tier,
        parent: Option<EngineHash>,
        events: &mut Events,
        out: &mut Vec<u8>,
    ) -> Result<(), serde_json::Error> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        if events.next_id > 0 {
            out.push(b',');
        }
        let event = RoutedEvent {
            worker_id: Instance(self.name),
            storage_tier: tier_name(tier),
            event: Event {
                event_id: events.next_id,
                data: Data {
                    stored: Stored {
                        parent_hash: parent.map(|parent| parent.0),
                        start_position: None,
                        blocks: &self.blocks,
                    },
                },
                dp_rank: self.rank,
            },
        };
        serde_json::to_writer(out, &event)?;
        events.next_id += 1;
        self.blocks.clear();
        Ok(())
    }
}

fn is_in(name: &DumpedName, tier: Tier) -> bool {
    let copies: &[u32; TIERS] = &name.copies;
    copies[tier.index()] > 0
}

fn block(name: EngineHash, key: BlockKey) -> Block {
    Block {
        block_hash: name.0,
        tokens_hash: key.get(),
        mm_extra_info: None,
    }
}

fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Gpu => "device",
        Tier::Cpu => "host_pinned",
        Tier::Disk => "disk",
    }
}
