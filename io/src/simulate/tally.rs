//! What is counted during one run, and what it comes to.
use super::engine::Progress;
use super::hardware::StepWork;
use super::router::Chosen;
use super::strategy::Strategy;
use super::trace::Trace;

/// What one request came to. Times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    expected: u32,
    reused: u32,
    first_token: u64,
    finished: u64,
}

/// Tokens predicted against tokens reused, over all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Requests of which both are equal.
    pub equal: u64,
    /// Tokens predicted too many.
    pub over: u64,
    /// Tokens predicted too few.
    pub under: u64,
}

impl Difference {
    fn note(&mut self, predicted: u32, real: u32) {
        self.equal += u64::from(predicted == real);
        self.over += u64::from(predicted.saturating_sub(real));
        self.under += u64::from(real.saturating_sub(predicted));
    }
}

/// What a distribution is told by. In seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How pods were chosen.
    pub strategy: Strategy,
    /// Requests served: all.
    pub requests: u64,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Of these, reused from caches: prefill that was saved.
    pub saved_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// When the last answer was complete, in seconds since the trace begins.
    pub seconds: f64,
    /// Time to the first token.
    pub ttft: Spread,
    /// Time to the last token.
    pub latency: Spread,
    /// Tokens of prompts that each pod computed.
    pub prefill_by_pod: Vec<u64>,
    /// Share of the time in which each pod computed, 0 to 1.
    pub busy_by_pod: Vec<f64>,
    /// Coefficient of variation of the requests in flight over the pods, mean over time.
    pub in_flight_variation: f64,
    /// Requests that had to give their blocks back and began again.
    pub preemptions: u64,
    /// The index at the moment of the choice against the cache at that moment, for the chosen pod: what the events' delay costs.
    pub indexed: Difference,
    /// What the chooser expected against what was reused when the request was taken in; none for one that knows nothing.
    pub expected: Option<Difference>,
    /// (Prompt, pod) pairs on which index and cache were compared in the end, all equal.
    pub compared: u64,
    /// Bytes of all events.
    pub event_bytes: u64,
    /// Times to the first token in order, in seconds.
    pub ttfts: Vec<f64>,
}

impl Outcome {
    /// Share of the prompts' tokens that were reused, 0 to 1.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        float(self.saved_tokens) / float(self.prompt_tokens).max(1.0)
    }

    /// Prefill of the busiest pod over the mean.
    #[must_use]
    pub fn prefill_imbalance(&self) -> f64 {
        let most = self.prefill_by_pod.iter().max().copied().unwrap_or(0);
        let sum: u64 = self.prefill_by_pod.iter().sum();
        float(most) * float(self.prefill_by_pod.len() as u64) / float(sum).max(1.0)
    }

    /// Mean share of the time in which pods computed, 0 to 1.
    #[must_use]
    pub fn busy(&self) -> f64 {
        mean(&self.busy_by_pod)
    }

    /// Tokens generated a second.
    #[must_use]
    pub fn output_rate(&self) -> f64 {
        float(self.generated_tokens) / self.seconds.max(1e-6)
    }
}

/// Counts one run.
#[derive(Debug)]
pub(crate) struct Tally {
    strategy: Strategy,
    served: Vec<Served>,
    prefill: Vec<u64>,
    busy_us: Vec<u64>,
    variation: f64,
    samples: u64,
    indexed: Difference,
    compared: u64,
}

impl Tally {
    pub(crate) fn new(strategy: Strategy, trace: &Trace, pods: usize) -> Self {
        Self {
            strategy,
            served: vec![Served::default(); trace.requests().len()],
            prefill: vec![0; pods],
            busy_us: vec![0; pods],
            variation: 0.0,
            samples: 0,
            indexed: Difference::default(),
            compared: 0,
        }
    }

    /// A pod was chosen; it really `held` so many tokens then.
    pub(crate) fn chosen(&mut self, request: usize, chosen: &Chosen, held: u32) {
        self.served[request].expected = chosen.expected;
        self.indexed.note(chosen.indexed, held);
    }

    pub(crate) fn note(&mut self, now: u64, progress: Progress) {
        match progress {
            Progress::Admitted { request, reused } => self.served[request].reused = reused,
            Progress::FirstToken { request } => self.served[request].first_token = now,
            Progress::Finished { request } => self.served[request].finished = now,
        }
    }

    /// A pod computes for so long.
    pub(crate) fn computed(&mut self, pod: usize, us: u64, work: &StepWork) {
        self.busy_us[pod] += us;
        self.prefill[pod] += work.prefill;
    }

    /// Requests in flight at each pod, at one moment.
    pub(crate) fn sample(&mut self, in_flight: impl Iterator<Item = usize>) {
        let counts: Vec<f64> = in_flight.map(|count| float(count as u64)).collect();
        let mean = mean(&counts);
        if mean > 0.0 {
            let squares: f64 = counts.iter().map(|count| (count - mean).powi(2)).sum();
            self.variation += (squares / float(counts.len() as u64)).sqrt() / mean;
            self.samples += 1;
        }
    }

    /// Index and cache were compared, and are equal.
    pub(crate) const fn compared(&mut self) {
        self.compared += 1;
    }

    pub(crate) fn finish(self, trace: &Trace, end: u64, preemptions: u64, bytes: u64) -> Outcome {
        let requests = trace.requests();
        let since = |until: fn(&Served) -> u64| {
            let times = requests.iter().zip(&self.served);
            let mut times: Vec<f64> = times
                .map(|(request, served)| seconds(until(served).saturating_sub(request.at)))
                .collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let ttfts = since(|served| served.first_token);
        let latencies = since(|served| served.finished);
        let mut expected = Difference::default();
        for served in &self.served {
            expected.note(served.expected, served.reused);
        }
        let sum = |of: fn(&Served) -> u32| self.served.iter().map(|s| u64::from(of(s))).sum();
        let total =
            |of: fn(&super::Request) -> u32| requests.iter().map(|r| u64::from(of(r))).sum();
        let busy = |&us: &u64| float(us) / float(end).max(1.0);
        Outcome {
            strategy: self.strategy,
            requests: requests.len() as u64,
            prompt_tokens: total(|request| request.input),
            saved_tokens: sum(|served| served.reused),
            generated_tokens: total(|request| request.output),
            seconds: seconds(end),
            ttft: spread(&ttfts),
            latency: spread(&latencies),
            busy_by_pod: self.busy_us.iter().map(busy).collect(),
            prefill_by_pod: self.prefill,
            in_flight_variation: self.variation / float(self.samples).max(1.0),
            preemptions,
            indexed: self.indexed,
            expected: self.strategy.knows_caches().then_some(expected),
            compared: self.compared,
            event_bytes: bytes,
            ttfts,
        }
    }
}

/// Of values in order: percentiles by nearest rank.
fn spread(sorted: &[f64]) -> Spread {
    let rank = |percent: usize| {
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    };
    Spread {
        mean: mean(sorted),
        p50: rank(50),
        p90: rank(90),
        p99: rank(99),
        max: sorted.last().copied().unwrap_or_default(),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / float(values.len() as u64).max(1.0)
}

fn seconds(us: u64) -> f64 {
    float(us) / 1e6
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of tokens and microseconds are far below 2^53"
)]
const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        let spread = spread(&values);
        assert_eq!(
            [spread.mean, spread.p50, spread.p90, spread.p99, spread.max],
            [5.5, 5.0, 9.0, 10.0, 10.0]
        );
        assert_eq!(super::spread(&[]), Spread::default());
    }

    #[test]
    fn too_many_and_too_few_do_not_make_up_for_each_other() {
        let mut difference = Difference::default();
        difference.note(16, 32);
        difference.note(32, 16);
        difference.note(8, 8);
        let expected = Difference {
            equal: 1,
            over: 16,
            under: 16,
        };
        assert_eq!(difference, expected);
    }
}
