//! One window of load: a server is asked over some connections, one thread each, as fast as it answers or at a fixed
//! rate.
//!
//! At a fixed rate each connection has its deadlines, and a request's latency counts from its deadline, whether
//! it could be sent then or not: a server that stalls is charged for every request that had to wait.
use crate::Failure;
use crate::client::{Client, Target};
use crate::servers::Process;
use kvroute_bench::Random;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Of so many answers one is kept to be compared afterwards, while there is room.
const SAMPLED: u64 = 61;
const SAMPLES_MAX: usize = 4;

/// Requests on each connection before the clock starts, so that caches and buffers are as they will be.
const WARM_UP: u64 = 20;

/// Sleeping ends late by about this much; the rest is waited for awake.
const AWAKE: Duration = Duration::from_micros(60);

/// A fixed rate that cannot be kept is given up after so many times the window; what is due by then
/// counts as answered then.
const OVERDUE: u32 = 5;

/// How requests follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// The next one as soon as the last one is answered.
    Closed,
    /// So many a second, over all connections.
    Open(f64),
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'l> {
    pub(crate) server: &'l Process,
    pub(crate) target: &'l Target,
    pub(crate) connections: usize,
    /// One of these each time, by chance.
    pub(crate) requests: &'l [Vec<u8>],
    pub(crate) pace: Pace,
    pub(crate) time: Duration,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Nanoseconds of each request.
    pub(crate) latencies: Vec<u32>,
    pub(crate) seconds: f64,
    /// Nanoseconds that the server ran.
    pub(crate) processor: u64,
    /// Some answers, with the number of the request.
    pub(crate) samples: Vec<(usize, Vec<u8>)>,
}

/// Runs one window.
pub(crate) fn run(load: Load<'_>) -> Result<Window, Failure> {
    let connect = |n| Connection::new(load, n);
    let connections = (0..load.connections).map(connect);
    let mut connections = connections.collect::<Result<Vec<_>, _>>()?;
    for connection in &mut connections {
        connection.warm_up()?;
    }
    // Everybody is ready; the server's time is read; they go; they are done.
    let barrier = Barrier::new(load.connections + 1);
    let (before, seconds, after, ended) = thread::scope(|scope| {
        let run = |connection| {
            let barrier = &barrier;
            scope.spawn(move || Connection::run(connection, barrier))
        };
        let threads: Vec<_> = connections.iter_mut().map(run).collect();
        barrier.wait();
        let before = load.server.processor_time();
        let begun = Instant::now();
        barrier.wait();
        barrier.wait();
        let seconds = begun.elapsed().as_secs_f64();
        let after = load.server.processor_time();
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        (before, seconds, after, ended)
    });
    for ended in ended {
        ended.map_err(|_| "a client has panicked")??;
    }
    let mut window = Window {
        seconds,
        processor: after?.saturating_sub(before?),
        ..Window::default()
    };
    for connection in connections {
        window.latencies.extend(connection.latencies);
        window.samples.extend(connection.samples);
    }
    Ok(window)
}

/// Nanoseconds that a server runs in a second without a request.
pub(crate) fn idle(server: &Process, time: Duration) -> Result<f64, Failure> {
    let (begun, before) = (Instant::now(), server.processor_time()?);
    thread::sleep(time);
    let ran = server.processor_time()?.saturating_sub(before);
    Ok(ran as f64 / begun.elapsed().as_secs_f64())
}

/// One connection and what it has seen.
struct Connection<'l> {
    load: Load<'l>,
    number: usize,
    client: Client,
    random: Random,
    latencies: Vec<u32>,
    samples: Vec<(usize, Vec<u8>)>,
}

impl<'l> Connection<'l> {
    fn new(load: Load<'l>, number: usize) -> Result<Self, Failure> {
        Ok(Self {
            load,
            number,
            client: Client::connect(load.target)?,
            random: Random(load.seed ^ number as u64),
            latencies: Vec::with_capacity(1 << 16),
            samples: Vec::new(),
        })
    }

    fn warm_up(&mut self) -> Result<(), Failure> {
        for _ in 0..WARM_UP {
            let request = self.random.below(self.load.requests.len());
            self.client.exchange(&self.load.requests[request])?.good()?;
        }
        Ok(())
    }

    fn run(&mut self, barrier: &Barrier) -> Result<(), Failure> {
        barrier.wait();
        barrier.wait();
        let ended = match self.load.pace {
            Pace::Closed => self.closed(),
            Pace::Open(rate) => self.open(rate),
        };
        barrier.wait();
        ended
    }

    fn closed(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut sent = begun;
        while sent - begun < self.load.time {
            self.ask()?;
            let answered = Instant::now();
            self.latencies.push(nanoseconds(answered - sent));
            sent = answered;
        }
        Ok(())
    }

    fn open(&mut self, rate: f64) -> Result<(), Failure> {
        let begun = Instant::now();
        let period = self.load.connections as f64 / rate;
        let give_up = begun + OVERDUE * self.load.time;
        // The connections take turns.
        let first = period * self.number as f64 / self.load.connections as f64;
        for n in 0_u32.. {
            let due = Duration::from_secs_f64(first + period * f64::from(n));
            if due >= self.load.time {
                break;
            }
            let due = begun + due;
            if Instant::now() < give_up {
                wait_until(due);
                self.ask()?;
            }
            let latency = nanoseconds(Instant::now().saturating_duration_since(due));
            self.latencies.push(latency);
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<(), Failure> {
        let request = self.random.below(self.load.requests.len());
        let answer = self.client.exchange(&self.load.requests[request])?;
        let body = answer.good()?;
        let sampled = (self.latencies.len() as u64).is_multiple_of(SAMPLED);
        if sampled && self.samples.len() < SAMPLES_MAX {
            self.samples.push((request, body.to_vec()));
        }
        Ok(())
    }
}

fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > 2 * AWAKE {
            thread::sleep(left - AWAKE);
        } else {
            // Another connection's thread may want the core.
            thread::yield_now();
        }
    }
}

fn nanoseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}
