//! A world of a seed: workers on one index, and the order of what happens to them in virtual time.
use crate::check::{self, Failure};
use crate::faults::{Kind, Tally};
use crate::site::{SECOND, Site};
use crate::truth::Probe;
use kvroute::fake::chance::{Chance, mix};
use kvroute::limits::HELD_BACK_BYTES_MAX;
use kvroute::status::SkipReason;
use kvroute::wire::Scratch;
use kvroute_engine::{Index, IndexConfig, Matches, Participant};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Microseconds of calm that heal everything: back-off, cool-down and a whole replay all end within
/// a minute, a few times over.
const CALM: u64 = 400 * SECOND;

/// Happenings of one world, far more than any needs.
const HAPPENINGS_MAX: u64 = 400_000;

/// What happens to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// The IO thread looks at it.
    Turn,
    /// The same, because the time has come.
    Due,
    /// The engine makes a step.
    Step,
    /// Something goes wrong.
    Fault,
    /// The event connection is made.
    Up,
    /// The engine's process is back, with so many batches.
    Back(u64),
    /// The engine looks at a request.
    Serve(u64),
    /// It says the next message of the answer.
    Answer(u64),
    /// The wish for a replay has its turn.
    Granted,
}

/// What happens when; what happens at the same time in the order of its coming in.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, usize, Event)>>,
    pushed: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, site: usize, event: Event) {
        self.pushed += 1;
        self.heap.push(Reverse((at, self.pushed, site, event)));
    }
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) base: Instant,
    pub(crate) index: Arc<Index>,
    pub(crate) participant: Participant,
    pub(crate) scratch: Scratch,
    pub(crate) matches: Matches,
    /// Also what the node is known to be unable to tell apart.
    pub(crate) hard: bool,
}

impl Shared {
    pub(crate) fn instant(&self, now: u64) -> Instant {
        self.base + Duration::from_micros(now)
    }
}

pub(crate) struct World {
    sites: Vec<Site>,
    shared: Shared,
    queue: Queue,
    now: u64,
    chance: Chance,
    happened: u64,
    /// Nothing goes wrong any more.
    calm: bool,
    /// What happened, if somebody is to read it.
    script: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, hard: bool, told: bool) -> Self {
        let mut chance = Chance::new(mix(seed));
        let index = Index::new(IndexConfig::default());
        let fleet = chance.next();
        let workers = [1, 1, 2, 4][chance.place(4)];
        let draw = |_| Site::draw(&mut chance, &index, fleet);
        let sites: Vec<_> = (0..workers).map(draw).collect();
        Self {
            sites,
            shared: Shared {
                base: Instant::now(),
                participant: index.participant(),
                index,
                scratch: Scratch::default(),
                matches: Matches::new(),
                hard,
            },
            queue: Queue::default(),
            now: 0,
            chance,
            happened: 0,
            calm: false,
            script: told.then(Vec::new),
        }
    }

    /// Runs the seed to its end.
    pub(crate) fn run(&mut self, tally: &mut Tally) -> Result<(), Failure> {
        for (id, site) in self.sites.iter_mut().enumerate() {
            site.begin(id, &mut self.queue, &self.shared);
        }
        while self.sites.iter().any(|site| site.steps > 0) && self.next(tally)? {}
        self.calm = true;
        for (id, site) in self.sites.iter_mut().enumerate() {
            site.calm(self.now, id, &mut self.queue);
        }
        self.run_until(self.now + CALM, tally)?;
        for (id, site) in self.sites.iter_mut().enumerate() {
            site.publish(self.now, id, &mut self.queue);
        }
        self.run_until(self.now + CALM, tally)?;
        for id in 0..self.sites.len() {
            check::at_the_end(id, &self.sites, &mut self.shared)?;
        }
        tally.seeds += 1;
        for site in &mut self.sites {
            let skipped =
                |reason: SkipReason| site.node.status.skipped().any(|(of, _)| of == reason);
            if skipped(SkipReason::HeldBackFull) {
                site.note(Kind::Overflow);
            }
            if site.engine.lives.iter().any(|life| life.rotated) {
                site.note(Kind::Rotated);
            }
            tally.batches += site
                .engine
                .lives
                .iter()
                .map(|life| life.newest().map_or(0, |n| n + 1))
                .sum::<u64>();
            tally.inject(&site.injected, site.node.follower.trust());
        }
        Ok(())
    }

    /// What happened, one thing a line.
    pub(crate) fn script(&self) -> String {
        self.script.as_deref().unwrap_or_default().join("\n")
    }

    fn run_until(&mut self, end: u64, tally: &mut Tally) -> Result<(), Failure> {
        while self
            .queue
            .heap
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= end)
        {
            self.next(tally)?;
        }
        self.now = end;
        Ok(())
    }

    /// Lets the next thing happen; whether there was one.
    fn next(&mut self, tally: &mut Tally) -> Result<bool, Failure> {
        let Some(Reverse((at, _, id, event))) = self.queue.heap.pop() else {
            return Ok(false);
        };
        self.now = self.now.max(at);
        if self.calm && matches!(event, Event::Fault | Event::Step) {
            return Ok(true);
        }
        self.happened += 1;
        if self.happened > HAPPENINGS_MAX {
            return Err(Failure::new(id, "it never comes to rest"));
        }
        self.sites[id].handle(self.now, id, event, &mut self.queue, &mut self.shared);
        self.tell(id, event);
        if matches!(event, Event::Turn | Event::Due) {
            let alive = self.sites[id].node.alive.get();
            let weight = self.sites[id].node.weight.max(1 << 16);
            if alive > HELD_BACK_BYTES_MAX + 2 * weight {
                return Err(Failure::new(id, &format!("{alive} bytes are held back")));
            }
            if self.chance.per_mille(300) {
                let probes = self.draw_probes();
                let site = &self.sites[id];
                check::at_any_time(id, site, &probes, &mut self.shared, tally)?;
            }
        }
        Ok(true)
    }

    /// Some prefixes that any of the engines holds or has held.
    fn draw_probes(&mut self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for _ in 0..4 {
            let engine = &self.sites[self.chance.place(self.sites.len())].engine;
            // Half of them of what was held lately.
            let len = engine.probes.len();
            let from = if self.chance.per_mille(500) {
                len.saturating_sub(12)
            } else {
                0
            };
            let at = from + self.chance.place(len - from);
            probes.extend(engine.probes.get(at).cloned());
        }
        probes
    }

    fn tell(&mut self, id: usize, event: Event) {
        let Some(script) = &mut self.script else {
            return;
        };
        let site = &self.sites[id];
        let (engine, node) = (&site.engine, &site.node);
        let status = &node.status;
        let skipped: Vec<_> = status
            .skipped()
            .map(|(reason, n)| format!("{} {n}", reason.as_str()))
            .collect();
        script.push(format!(
            "{:>12} #{id} {event:?}: life {} next {} ring from {:?} | {} | {} last {:?} waits {} blocks {} gaps {} restarts {} replays {} open {:?} {}",
            self.now,
            engine.life(),
            engine.rank.next(),
            engine.ring.first(),
            if site.live.up { "up" } else { "down" },
            node.follower.trust().as_str(),
            status.last_sequence(),
            node.follower.waiting(),
            status.blocks(),
            status.gaps(),
            status.restarts(),
            status.replays(),
            node.replay.as_ref().map(|replay| replay.from),
            skipped.join(", "),
        ));
    }
}
