//! One side thread that asks every engine over HTTP what its events cannot tell: how busy it is, whether it has restarted,
//! whether it computes what nobody hears of, and where its ranks publish.
//!
//! `text`, `sources` and `silence` are pure: an answer's meaning. `ask` is one engine's questions; `target` is
//! what is remembered of an engine and what follows from an answer; `schedule` says whose turn it is. Answers
//! are judged on the one thread, one after another, so nothing here is shared. What is found goes to the fleet,
//! whose streams do the rest; nothing waits for the probe.
//!
//! All of that is in one answer but the last, so loads and lives are read from the same one, as often as the one that is wanted
//! more often; what the other needs it for is judged over times, not over answers.
//!
//! Each engine is asked once an interval, at a moment of its own within it, by a connection of its own. An
//! engine that does not answer is asked less often. If there are more engines than can be asked
//! in an interval, rounds take longer; their order stays.
mod ask;
mod log;
mod schedule;
pub mod silence;
pub mod sources;
mod target;
pub mod text;

use crate::fleet::Fleet;
use crate::http::GetLimits;
use crate::limits::{PROBES_MAX, PROBES_PER_SOURCES, SILENCE_TIME_MIN};
use schedule::Schedule;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How engines are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeConfig {
    /// Between two probes of one engine; not zero.
    pub interval: Duration,
    /// Shortest time over which silence is judged; `None` if lives, silence and sources are not looked at.
    pub silence_time: Option<Duration>,
    /// Whether loads are taken.
    pub loads: bool,
    /// Probes of one engine between two questions for its event sources, unless it may have restarted.
    pub probes_per_sources: u32,
    /// Bounds of each request.
    pub limits: GetLimits,
}

impl ProbeConfig {
    /// Loads and lives every so often, with the default bounds, and silence judged over two intervals at least.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            silence_time: Some(SILENCE_TIME_MIN.max(interval * 2)),
            loads: true,
            probes_per_sources: PROBES_PER_SOURCES,
            limits: GetLimits::default(),
        }
    }

    /// Lives and loads, each every so often or not at all; `None` if it is neither.
    #[must_use]
    pub fn of(lives: Option<Duration>, loads: Option<Duration>) -> Option<Self> {
        let interval = match (lives, loads) {
            (Some(lives), Some(loads)) => lives.min(loads),
            (one, other) => one.or(other)?,
        };
        let per_life = lives.map_or(1, |lives| lives.as_nanos() / interval.as_nanos().max(1));
        let per_life = u32::try_from(per_life).unwrap_or(u32::MAX);
        Some(Self {
            silence_time: lives.map(|lives| SILENCE_TIME_MIN.max(lives * 2)),
            loads: loads.is_some(),
            probes_per_sources: PROBES_PER_SOURCES.saturating_mul(per_life),
            ..Self::every(interval)
        })
    }
}

/// The running probe. Dropping it stops it.
#[derive(Debug)]
pub struct Probe {
    stop: Option<oneshot::Sender<()>>,
    join: Option<JoinHandle<()>>,
}

impl Probe {
    /// Starts the thread. Fails if the system gives none, or no descriptors.
    pub fn start(config: ProbeConfig, fleet: &Arc<Fleet>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            // Each probe may have a name to resolve.
            .max_blocking_threads(PROBES_MAX)
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let fleet = Arc::clone(fleet);
        let join = thread::Builder::new()
            .name("kvroute-probe".to_owned())
            .spawn(move || {
                runtime.block_on(run(&config, &fleet, stopped));
                // A resolver that hangs is not waited for.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            stop: Some(stop),
            join: Some(join),
        })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // The thread is told by the sender's end, too.
        drop(self.stop.take());
        if self.join.take().is_some_and(|join| join.join().is_err()) {
            tracing::error!("the probe's thread has panicked");
        }
    }
}

/// Longest time that a new pod is not noticed.
const LOOK_TIME_MAX: Duration = Duration::from_millis(250);

/// Asks whoever is due, and judges whatever comes, until told to stop.
async fn run(config: &ProbeConfig, fleet: &Fleet, mut stopped: oneshot::Receiver<()>) {
    let look_time = (config.interval / 4).min(LOOK_TIME_MAX);
    let mut schedule = Schedule::new(config.interval);
    let mut asked = JoinSet::new();
    let mut look = Instant::now();
    loop {
        let now = Instant::now();
        if look <= now {
            schedule.follow(&fleet.view(), now);
            look = now + look_time;
        }
        while asked.len() < PROBES_MAX
            && let Some(mut question) = schedule.next(now, fleet.clock().now())
        {
            question.sources &= config.silence_time.is_some();
            asked.spawn(ask::ask(question, config.limits.clone()));
        }
        let due = schedule.due().filter(|_| asked.len() < PROBES_MAX);
        let wake = due.map_or(look, |due| due.min(look));
        tokio::select! {
            biased;
            _ = &mut stopped => return,
            Some(answer) = asked.join_next() => match answer {
                Ok(answer) => {
                    let again = match schedule.target(&answer.pod) {
                        Some(target) => target.judge(&answer, config, fleet),
                        // The pod went meanwhile.
                        None => continue,
                    };
                    schedule.answered(&answer.pod, again, Instant::now());
                }
                Err(error) => tracing::error!(%error, "a probe has failed"),
            },
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
}
