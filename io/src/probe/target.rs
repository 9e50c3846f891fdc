//! What is remembered of one engine, and what follows from its answers.
use super::ProbeConfig;
use super::ask::{Answer, Failed, Question};
use super::log;
use super::schedule::Again;
use super::silence::{Sample, Silence};
use super::sources::{self, Sources};
use super::text::{EngineMetrics, RankMetrics};
use crate::fleet::{AddError, Fleet, PodSpec, ProbeFailure, WorkerInfo};
use crate::limits::{BLOCK_SIZE_ASSUMED, PROBE_BACKOFF_MAX};
use crate::load::{Marks, Moment, Scrape};
use std::sync::Arc;
use std::time::Duration;

/// One engine: the ranks that share a pod's description.
#[derive(Debug)]
pub(super) struct Target {
    pod: Arc<PodSpec>,
    workers: Vec<Watched>,
    /// Its one worker is the only one at its endpoint.
    alone: bool,
    /// When the engine's process began, as it was last seen.
    start_time: Option<f64>,
    /// Probes that failed since the last one that did not.
    failures: u32,
    /// Probes until it is asked for its sources.
    sources_in: u32,
    /// What is wrong with its sources, as it was last logged.
    problem: Option<String>,
}

/// One rank of it.
#[derive(Debug)]
struct Watched {
    info: Arc<WorkerInfo>,
    silence: Silence,
    /// What was booked when the engine was asked; `None` before the first question.
    marks: Option<Marks>,
}

impl Target {
    pub(super) fn new(pod: Arc<PodSpec>) -> Self {
        Self {
            pod,
            workers: Vec::new(),
            alone: false,
            start_time: None,
            failures: 0,
            sources_in: 0,
            problem: None,
        }
    }

    /// Takes over the fleet's workers; those that stay keep what is remembered of them.
    pub(super) fn follow(&mut self, workers: &[&Arc<WorkerInfo>], alone: bool) {
        self.alone = alone;
        self.workers
            .retain(|known| workers.iter().any(|info| Arc::ptr_eq(info, &known.info)));
        for &info in workers {
            if self.workers.iter().any(|w| Arc::ptr_eq(&w.info, info)) {
                continue;
            }
            info.set_problem(self.problem.as_deref());
            self.workers.push(Watched {
                info: Arc::clone(info),
                silence: Silence::default(),
                marks: None,
            });
        }
    }

    /// What it is asked this time, which is now.
    pub(super) fn question(&mut self, now: Moment) -> Question {
        for worker in &mut self.workers {
            worker.marks = Some(worker.info.load().marks(now));
        }
        Question {
            pod: Arc::clone(&self.pod),
            sources: self.sources_in == 0,
        }
    }

    /// Acts upon an answer, and says when to ask again.
    pub(super) fn judge(&mut self, answer: &Answer, config: &ProbeConfig, fleet: &Fleet) -> Again {
        let asked_sources = self.sources_in == 0;
        self.sources_in = match asked_sources {
            true => config.probes_per_sources,
            false => self.sources_in - 1,
        };
        let again = match &answer.metrics {
            Ok(metrics) => self.take_metrics(metrics, answer.at_ms, config, fleet),
            Err(failed) => {
                fleet.probes().add_failure(failed.why);
                self.fail(failed)
            }
        };
        match &answer.sources {
            None => {}
            Some(Ok(sources)) => self.take_sources(sources, fleet),
            Some(Err(failed)) => {
                fleet.probes().add_failure(failed.why);
                self.sources_in = 0;
            }
        }
        match again {
            // What was asked now is as new as the engine.
            Again::Now if asked_sources => Again::After(1),
            again => again,
        }
    }

    /// Acts upon what the engine says of itself.
    fn take_metrics(
        &mut self,
        metrics: &EngineMetrics,
        at_ms: u64,
        config: &ProbeConfig,
        fleet: &Fleet,
    ) -> Again {
        let back = std::mem::take(&mut self.failures) != 0;
        if back {
            log::info(&self.pod.pod, format_args!("the engine answers again"));
        }
        if config.loads {
            self.take_loads(metrics);
        }
        let mut restarted = false;
        if let Some(silence_time) = config.silence_time {
            restarted = self.verify(metrics, fleet);
            self.listen(metrics, at_ms, silence_time, fleet);
        }
        if back || restarted {
            self.sources_in = 0;
            return Again::Now;
        }
        Again::After(1)
    }

    fn fail(&mut self, failed: &Failed) -> Again {
        if self.failures == 0 {
            log::warn(
                &self.pod.pod,
                format_args!(
                    "the engine at {} does not answer as it should: {}",
                    self.pod.endpoint.as_deref().unwrap_or_default(),
                    failed.text
                ),
            );
        }
        self.failures = self.failures.saturating_add(1);
        // It may come back as another one.
        self.sources_in = 0;
        Again::After(self.failures.min(PROBE_BACKOFF_MAX))
    }

    /// Has the lives of all ranks verified if the engine's process is not the one that was seen last.
    fn verify(&mut self, metrics: &EngineMetrics, fleet: &Fleet) -> bool {
        let Some(start) = metrics.start_time else {
            return false;
        };
        let last = self.start_time.replace(start);
        // To the bit: a process tells one value all its life.
        if last.is_none_or(|last| last.to_bits() == start.to_bits()) {
            return false;
        }
        for worker in &mut self.workers {
            worker.silence = Silence::default();
            fleet.verify(worker.info.id());
        }
        log::info(
            &self.pod.pod,
            format_args!("the engine's process is another one, begun at {start}"),
        );
        true
    }

    /// Tells each rank's load. One set of counts for several ranks is nobody's.
    fn take_loads(&mut self, metrics: &EngineMetrics) {
        for worker in &mut self.workers {
            let rank = of_rank(metrics, worker.info.rank(), self.alone);
            if let Some(scrape) = rank.and_then(scrape)
                && let Some(marks) = worker.marks.take()
            {
                worker.info.load().take(&scrape, &marks);
            }
        }
    }

    /// Looks for ranks that compute and are not heard.
    fn listen(&mut self, metrics: &EngineMetrics, at_ms: u64, window: Duration, fleet: &Fleet) {
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let followed = self.workers.iter_mut().filter(|w| !w.info.is_approximate());
        for worker in followed {
            let rank = of_rank(metrics, worker.info.rank(), self.alone);
            let Some((rank, sample)) = rank.and_then(|rank| Some((rank, sample(rank, at_ms)?)))
            else {
                continue;
            };
            let heard = worker.info.status().last_event_ms();
            let block_size = block_size(worker.info.block_size(), rank);
            if worker.silence.observe(sample, heard, block_size, window) {
                log::warn(
                    &worker.info.label(),
                    format_args!(
                        "the engine computes, and no events come from {}",
                        worker.info.events()
                    ),
                );
                fleet.unheard(worker.info.id());
            }
        }
    }

    /// Follows what the engine says of where it publishes, unless the pod's description says it.
    fn take_sources(&mut self, sources: &Sources, fleet: &Fleet) {
        if !self.pod.kv_events {
            return;
        }
        let mut problem = sources.problem.clone();
        if self.pod.events.is_some() {
            let own: Vec<_> = self.workers.iter().map(|w| Arc::clone(&w.info)).collect();
            let view = fleet.view();
            let all = view.pod(&self.pod.pod);
            if problem.is_none() {
                problem = sources::difference(&own, all, &sources.ranks);
            }
        } else {
            match fleet.replace_ranks(&self.pod, sources.ranks.clone()) {
                Ok(false) => {}
                Ok(true) => log::info(
                    &self.pod.pod,
                    format_args!("the engine names {}", sources::ranks(&sources.ranks)),
                ),
                Err(error) => {
                    fleet.probes().add_failure(ProbeFailure::Ranks);
                    if matches!(error, AddError::NoRoom { .. }) {
                        self.sources_in = 0;
                    }
                    problem = Some(format!("the engine's ranks cannot be taken: {error}"));
                }
            }
        }
        if problem == self.problem {
            return;
        }
        match &problem {
            Some(problem) => log::warn(&self.pod.pod, format_args!("{problem}")),
            None => log::info(
                &self.pod.pod,
                format_args!("its event sources are in order"),
            ),
        }
        for worker in &self.workers {
            worker.info.set_problem(problem.as_deref());
        }
        self.problem = problem;
    }
}

/// The counts of a rank. If the engine has one set of counts only, it may be the sum over several ranks, so it is
/// taken for a rank that is `alone` only.
fn of_rank(metrics: &EngineMetrics, rank: u32, alone: bool) -> Option<&RankMetrics> {
    match metrics.ranks.len() {
        1 if alone => metrics.ranks.values().next(),
        0 | 1 => None,
        _ => metrics.ranks.get(&Some(rank)),
    }
}

/// `None` if something is not known.
fn sample(rank: &RankMetrics, at_ms: u64) -> Option<Sample> {
    Some(Sample {
        at_ms,
        queries: rank.queries?,
        hits: rank.hits?,
        ended: rank.ended?,
        open: rank.running? + rank.waiting?,
    })
}

/// `None` if it does not say how many requests there are.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no numbers below zero are taken, and a float that is too large becomes the largest number"
)]
fn scrape(rank: &RankMetrics) -> Option<Scrape> {
    let tokens = rank.usage.zip(rank.room);
    Some(Scrape {
        running: rank.running? as u32,
        waiting: rank.waiting.unwrap_or(0.0) as u32,
        active_tokens: tokens.map_or(0, |(usage, room)| (usage.min(1.0) * room) as u64),
        usage: rank.usage,
    })
}

/// The larger of what events and the engine say: with too large a block nothing is taken for silence that is
/// none.
fn block_size(told: Option<u32>, rank: &RankMetrics) -> u32 {
    told.max(rank.block_size).unwrap_or(BLOCK_SIZE_ASSUMED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn one_set_of_counts_is_a_lone_ranks_only() {
        let of = |label| (label, RankMetrics::default());
        let metrics = |labels: &[Option<u32>]| EngineMetrics {
            ranks: labels
                .iter()
                .map(|&label| of(label))
                .collect::<BTreeMap<_, _>>(),
            ..EngineMetrics::default()
        };
        for (labels, rank, alone, expected) in [
            (&[][..], 0, true, false),
            (&[Some(0)], 0, true, true),
            (&[Some(3)], 0, true, true),
            (&[None], 0, true, true),
            (&[Some(0)], 0, false, false),
            (&[Some(0), Some(1)], 1, false, true),
            (&[Some(0), Some(1)], 2, true, false),
        ] {
            let metrics = metrics(labels);
            let found = of_rank(&metrics, rank, alone).is_some();
            assert_eq!(found, expected, "{labels:?} {rank} {alone}");
        }
    }

    #[test]
    fn loads_are_told_as_far_as_they_are_known() {
        let full = RankMetrics {
            running: Some(3.0),
            waiting: Some(2.0),
            usage: Some(0.5),
            room: Some(3_840.0),
            ..RankMetrics::default()
        };
        let expected = Scrape {
            running: 3,
            waiting: 2,
            active_tokens: 1_920,
            usage: Some(0.5),
        };
        assert_eq!(scrape(&full), Some(expected));
        let no_room = RankMetrics { room: None, ..full };
        let unknown = Scrape {
            active_tokens: 0,
            ..expected
        };
        assert_eq!(scrape(&no_room), Some(unknown));
        let none = RankMetrics {
            running: None,
            ..full
        };
        assert_eq!(scrape(&none), None);
        let absurd = RankMetrics {
            running: Some(1e300),
            ..full
        };
        assert_eq!(scrape(&absurd).unwrap().running, u32::MAX);
    }

    #[test]
    fn the_larger_block_is_taken() {
        let engine = |block_size| RankMetrics {
            block_size,
            ..RankMetrics::default()
        };
        assert_eq!(block_size(Some(16), &engine(Some(32))), 32);
        assert_eq!(block_size(Some(64), &engine(Some(32))), 64);
        assert_eq!(block_size(None, &engine(Some(32))), 32);
        assert_eq!(block_size(Some(16), &engine(None)), 16);
        assert_eq!(block_size(None, &engine(None)), BLOCK_SIZE_ASSUMED);
    }
}
