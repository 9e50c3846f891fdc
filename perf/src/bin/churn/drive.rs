//! The run: pods come, go and change, and every now and then all is compared.
use crate::fleet::Fleet;
use crate::life::Lives;
use crate::look::{Look, Observer};
use crate::process::Process;
use crate::ways::Way;
use crate::{Failure, Size, table};
use std::time::{Duration, Instant};

/// Between two steps.
const STEP: Duration = Duration::from_millis(200);

/// Of a hundred pods, how many come to a turn in a second: from, and up to.
const PERCENT: (usize, usize) = (5, 10);

/// Pods that come in a step at most: a tenth of the fleet, as a large deployment starts.
const BIRTHS: usize = 10;

/// Of each [`PERIOD`], the seconds in which there are half the pods only.
const SMALL: (u64, u64) = (75, 105);

const PERIOD: u64 = 120;

/// Between two faults of what tells the node.
const FAULT_INTERVAL: Duration = Duration::from_secs(7);

/// Between two machines that are lost.
const LOSS_INTERVAL: Duration = Duration::from_secs(53);

/// Time after the first pod until the node takes what it takes without any.
const FIRST_TIME: Duration = Duration::from_secs(3);

/// Time for all to come to an end of what they are in.
const QUIET_TIME: Duration = Duration::from_secs(60);

/// Looks of a third of a run from which its resident memory can be told.
const RESIDENT_LOOKS: usize = 3;

/// By how much resident memory may be more in the last third than in the middle one: allocators give little back, and what they
/// keep grows ever more slowly.
const RESIDENT_GROWTH: f64 = 1.12;

struct Churn {
    size: Size,
    fleet: Fleet,
    lives: Lives,
    observer: Observer,
    begun: Instant,
    looks: Vec<Look>,
}

pub(crate) fn run(size: Size) -> Result<(), Failure> {
    let mut churn = Churn::start(size)?;
    let mut look = Duration::from_secs(size.look);
    let mut fault = FAULT_INTERVAL;
    let mut loss = LOSS_INTERVAL;
    let mut glance = Duration::ZERO;
    let mut next = Instant::now();
    while churn.begun.elapsed() < Duration::from_secs(size.seconds) {
        churn.step()?;
        let now = churn.begun.elapsed();
        if now >= fault {
            churn.fleet.way.disturb(&mut churn.fleet.random)?;
            fault = now + FAULT_INTERVAL;
        }
        if now >= loss {
            churn.lives.lose(&mut churn.fleet)?;
            loss = now + LOSS_INTERVAL;
        }
        if now >= glance {
            churn.observer.glance(&mut churn.fleet)?;
            glance = now + Duration::from_secs(1);
        }
        if now >= look {
            churn.look()?;
            look += Duration::from_secs(size.look);
        }
        next = (next + STEP).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    churn.end()
}

impl Churn {
    fn start(size: Size) -> Result<Self, Failure> {
        let mut way = Way::start(size.by)?;
        let mut words = vec!["node".to_owned(), size.by.as_str().to_owned()];
        words.extend(way.path()?.map(|path| path.display().to_string()));
        let mut node = Process::start(&words)?;
        let address = node.line()?.parse()?;
        way.connect(address);
        let mut churn = Self {
            size,
            fleet: Fleet::start(&size, way)?,
            lives: Lives::default(),
            observer: Observer::new(node, address),
            begun: Instant::now(),
            looks: Vec::new(),
        };
        // What the first pod brings about stays: threads of libzmq, a snapshot.
        churn.rest(1)?;
        churn.observer.wait_for(1)?;
        churn.rest(0)?;
        churn.observer.wait_for(0)?;
        std::thread::sleep(FIRST_TIME);
        let look = churn.observer.begin(&mut churn.fleet)?;
        churn.show(look);
        churn.begun = Instant::now();
        churn.lives = Lives::default();
        Ok(churn)
    }

    /// How many pods there should be now.
    fn target(&self) -> usize {
        let second = self.begun.elapsed().as_secs() % PERIOD;
        match (SMALL.0..SMALL.1).contains(&second) {
            true => self.size.pods / 2,
            false => self.size.pods,
        }
    }

    /// Some pods come to a turn, others come.
    fn step(&mut self) -> Result<(), Failure> {
        self.lives.follow(&mut self.fleet)?;
        let target = self.target();
        let pods: Vec<_> = self.fleet.pods.keys().cloned().collect();
        let random = &mut self.fleet.random;
        let percent = PERCENT.0 + random.below(PERCENT.1 - PERCENT.0 + 1);
        let steps = 1_000 / STEP.as_millis() as usize;
        // The rest decides by chance whether it is one more.
        let share = pods.len() * percent + random.below(100 * steps);
        for _ in 0..share / (100 * steps) {
            let name = &pods[self.fleet.random.below(pods.len())];
            self.lives.turn(&mut self.fleet, name)?;
        }
        let surplus = self.fleet.pods.len().saturating_sub(target);
        for _ in 0..surplus.min(2 * BIRTHS) {
            self.delete_one()?;
        }
        for _ in 0..target.saturating_sub(self.fleet.pods.len()).min(BIRTHS) {
            self.fleet.spawn()?;
        }
        self.fleet.way.flush()
    }

    fn delete_one(&mut self) -> Result<(), Failure> {
        let free = self.fleet.pods.values().find(|pod| !pod.busy);
        match free.map(|pod| pod.name.clone()) {
            Some(name) => self.lives.delete(&mut self.fleet, &name),
            None => Ok(()),
        }
    }

    /// Nobody comes to a turn any more, and all have come to the end of what they were in; then the fleet is as large as it
    /// should be.
    fn rest(&mut self, target: usize) -> Result<(), Failure> {
        let begun = Instant::now();
        while self.fleet.pods.len() > target || !self.lives.is_quiet() {
            if begun.elapsed() > QUIET_TIME {
                return Err("pods do not come to rest".into());
            }
            for _ in 0..self.fleet.pods.len().saturating_sub(target).min(BIRTHS) {
                self.delete_one()?;
            }
            self.lives.follow(&mut self.fleet)?;
            self.fleet.way.flush()?;
            std::thread::sleep(STEP / 2);
        }
        while self.fleet.pods.len() < target {
            self.fleet.spawn()?;
        }
        self.fleet.way.flush()?;
        while !self.fleet.way.is_flushed() {
            std::thread::sleep(STEP / 2);
            self.fleet.way.flush()?;
        }
        Ok(())
    }

    fn turns(&self) -> u64 {
        self.lives.turns.values().sum()
    }

    fn look(&mut self) -> Result<(), Failure> {
        let target = self.target();
        self.rest(target)?;
        let (seconds, turns) = (self.begun.elapsed().as_secs(), self.turns());
        let look = self.observer.look(&mut self.fleet, seconds, turns)?;
        self.show(look);
        Ok(())
    }

    fn show(&mut self, look: Look) {
        match self.size.json {
            true => println!("{}", serde_json::json!(look)),
            false => println!("{}", table::progress(&look)),
        }
        self.looks.push(look);
    }

    /// All pods go.
    fn end(mut self) -> Result<(), Failure> {
        self.look()?;
        self.rest(0)?;
        std::thread::sleep(Duration::from_secs(self.size.look / 2));
        let (seconds, turns) = (self.begun.elapsed().as_secs(), self.turns());
        let look = self.observer.end(&mut self.fleet, seconds, turns)?;
        self.show(look);
        if !self.size.json {
            println!(
                "{}",
                table::whole(&self.size, &self.looks, &self.lives.turns)
            );
        }
        if let Some((before, after)) = self.grown() {
            return Err(format!("memory has grown from {before:.1} to {after:.1} MB").into());
        }
        match self.observer.found.is_clean() {
            true => Ok(()),
            false => Err(format!("something was wrong: {:?}", self.observer.found).into()),
        }
    }

    /// Resident memory in the middle of the run and at its end, with all pods, if that is more than allocators explain. A short
    /// run tells nothing.
    fn grown(&self) -> Option<(f64, f64)> {
        let full = self.looks.iter().filter(|look| look.pods == self.size.pods);
        let full: Vec<_> = full.map(|look| look.resident_mb).collect();
        let third = full.len() / 3;
        if third < RESIDENT_LOOKS {
            return None;
        }
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (before, after) = (
            mean(&full[third..2 * third]),
            mean(&full[full.len() - third..]),
        );
        (after > before * RESIDENT_GROWTH).then_some((before, after))
    }
}
