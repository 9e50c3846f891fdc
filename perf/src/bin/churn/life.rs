//! The ways in which a pod's life goes on or ends.
use crate::Failure;
use crate::fleet::{Fleet, Pod};
use crate::ways::Step;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    /// It is deleted, terminates, and goes on publishing for a while.
    Deleted,
    /// Its engine dies without a word; after some seconds it is evicted.
    Crashed,
    /// Its container dies and begins anew in the same place.
    Restarted,
    /// Another pod of its name comes at once, with another uid, on other ports.
    Replaced,
    /// It serves another model from now on.
    Relabelled,
    /// It is not ready for some seconds.
    Unready,
    /// Its sandbox is made anew: the same pod at another address.
    Moved,
    /// The machine that it was on is lost, with all others there.
    Lost,
}

impl Turn {
    /// In a hundred.
    const CHANCES: [(Self, usize); 7] = [
        (Self::Deleted, 30),
        (Self::Crashed, 15),
        (Self::Restarted, 20),
        (Self::Replaced, 15),
        (Self::Relabelled, 8),
        (Self::Unready, 6),
        (Self::Moved, 6),
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Crashed => "crashed",
            Self::Restarted => "restarted",
            Self::Replaced => "replaced",
            Self::Relabelled => "relabelled",
            Self::Unready => "unready",
            Self::Moved => "moved",
            Self::Lost => "lost",
        }
    }

    fn by_chance(fleet: &mut Fleet) -> Self {
        let mut at = fleet.random.below(100);
        for (turn, chance) in Self::CHANCES {
            match at.checked_sub(chance) {
                None => return turn,
                Some(rest) => at = rest,
            }
        }
        Self::Deleted
    }
}

/// What follows a turn after a while.
#[derive(Debug)]
enum Later {
    /// It is evicted.
    Evict(String),
    /// Its container is there again.
    Restarted(String),
    Ready(String),
    /// Its engine and its object are gone.
    Vanish(Box<Pod>),
}

/// What is to follow, and what has been.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    later: Vec<(Instant, Later)>,
    pub(crate) turns: BTreeMap<&'static str, u64>,
}

impl Lives {
    /// Whether nobody is in the middle of something.
    pub(crate) fn is_quiet(&self) -> bool {
        self.later.is_empty()
    }

    /// One pod comes to a turn of its life; `false` if it is in the middle of one.
    pub(crate) fn turn(&mut self, fleet: &mut Fleet, name: &str) -> Result<bool, Failure> {
        let turn = Turn::by_chance(fleet);
        let Some(pod) = fleet.pods.get(name).filter(|pod| !pod.busy) else {
            return Ok(false);
        };
        let mut pod = pod.clone();
        match turn {
            Turn::Deleted => {
                self.delete(fleet, name)?;
                return Ok(true);
            }
            Turn::Crashed => {
                fleet.stop_engine(&pod)?;
                pod.busy = true;
                self.after(fleet, (1_000, 4_000), Later::Evict(name.to_owned()));
            }
            Turn::Restarted => {
                let line = format!("restart {}", pod.engine);
                fleet.processes[pod.process].say(&line)?;
                fleet.tell(&mut pod, Step::Crashing)?;
                pod.busy = true;
                self.after(fleet, (300, 2_000), Later::Restarted(name.to_owned()));
            }
            Turn::Replaced => {
                fleet.stop_engine(&pod)?;
                fleet.settle_beside(&mut pod)?;
                fleet.tell(&mut pod, Step::Replaced)?;
            }
            Turn::Relabelled => {
                pod.model = fleet.other_model(&pod.model);
                fleet.tell(&mut pod, Step::Relabelled)?;
            }
            Turn::Unready => {
                fleet.tell(&mut pod, Step::Unready)?;
                pod.busy = true;
                self.after(fleet, (1_000, 4_000), Later::Ready(name.to_owned()));
            }
            Turn::Moved => {
                fleet.stop_engine(&pod)?;
                let uid = pod.uid.clone();
                fleet.settle(&mut pod)?;
                pod.uid = uid;
                fleet.tell(&mut pod, Step::Moved)?;
            }
            Turn::Lost => {}
        }
        self.count(turn);
        fleet.pods.insert(pod.name.clone(), pod);
        Ok(true)
    }

    /// A pod is deleted.
    pub(crate) fn delete(&mut self, fleet: &mut Fleet, name: &str) -> Result<(), Failure> {
        if let Some(mut pod) = fleet.pods.remove(name) {
            fleet.tell(&mut pod, Step::Terminating)?;
            self.after(fleet, (500, 3_000), Later::Vanish(Box::new(pod)));
            self.count(Turn::Deleted);
        }
        Ok(())
    }

    /// A machine is lost with all its pods.
    pub(crate) fn lose(&mut self, fleet: &mut Fleet) -> Result<(), Failure> {
        for name in fleet.lose_process()? {
            if let Some(pod) = fleet.pods.get_mut(&name) {
                pod.busy = true;
            }
            self.after(fleet, (1_000, 4_000), Later::Evict(name));
            self.count(Turn::Lost);
        }
        Ok(())
    }

    /// What is due by now follows.
    pub(crate) fn follow(&mut self, fleet: &mut Fleet) -> Result<(), Failure> {
        let now = Instant::now();
        let mut due: Vec<_> = self.later.extract_if(.., |(at, _)| *at <= now).collect();
        due.sort_by_key(|(at, _)| *at);
        for (_, later) in due {
            match later {
                Later::Evict(name) => {
                    if let Some(mut pod) = fleet.pods.remove(&name) {
                        fleet.tell(&mut pod, Step::Evicted)?;
                        self.after(fleet, (200, 1_000), Later::Vanish(Box::new(pod)));
                    }
                }
                Later::Restarted(name) => Self::again(fleet, &name, Step::Restarted)?,
                Later::Ready(name) => Self::again(fleet, &name, Step::Ready)?,
                Later::Vanish(mut pod) => {
                    fleet.stop_engine(&pod)?;
                    fleet.way.tell(&mut pod, Step::Gone)?;
                }
            }
        }
        Ok(())
    }

    fn again(fleet: &mut Fleet, name: &str, step: Step) -> Result<(), Failure> {
        // It may have been lost meanwhile.
        if let Some(mut pod) = fleet.pods.remove(name) {
            fleet.tell(&mut pod, step)?;
            pod.busy = false;
            fleet.pods.insert(name.to_owned(), pod);
        }
        Ok(())
    }

    fn after(&mut self, fleet: &mut Fleet, (least, most): (usize, usize), later: Later) {
        let pause = least + fleet.random.below(most - least);
        let at = Instant::now() + Duration::from_millis(pause as u64);
        self.later.push((at, later));
    }

    fn count(&mut self, turn: Turn) {
        *self.turns.entry(turn.as_str()).or_default() += 1;
    }
}
