//! One side thread that asks every engine over HTTP what its events cannot tell: whether it has restarted,
//! whether it computes what nobody hears of, and where its ranks publish.
//!
//! `text`, `sources` and `silence` are pure: an answer's meaning. `ask` is one engine's questions; `target` is
//! what is remembered of an engine and what follows from an answer; `schedule` says whose turn it is. Answers
//! are judged on the one thread, one after another, so nothing here is shared. What is found goes to the fleet,
//! whose streams do the rest; nothing waits for the probe.
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
use crate::limits::{PROBES_MAX, SILENCE_TIME_MIN};
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
    /// Shortest time over which silence is judged.
    pub silence_time: Duration,
    /// Bounds of each request.
    pub limits: GetLimits,
}

impl ProbeConfig {
    /// The default bounds, with silence judged over two intervals at least.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            silence_time: SILENCE_TIME_MIN.max(interval * 2),
            limits: GetLimits::default(),
        }
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
            && let Some(question) = schedule.next(now)
        {
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
