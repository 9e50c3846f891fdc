//! One window of load: a server is asked over some connections, as fast as it answers or at a fixed rate.
//!
//! One thread asks, and never sleeps: it goes round its connections and looks. A client that sleeps must be woken by
//! the server, which on a virtual machine costs the server more than a small request does, and which no server
//! pays whose clients are on other machines.
//!
//! At a fixed rate each connection has its deadlines, and a request's latency counts from its deadline, whether
//! it could be sent then or not: a server that stalls is charged for every request that had to wait.
use crate::Failure;
use crate::client::{Client, Target};
use crate::servers::processor_time;
use kvroute_bench::Random;
use std::thread;
use std::time::{Duration, Instant};

/// Of so many answers one is kept to be compared afterwards, while there is room.
const SAMPLED: usize = 61;
const SAMPLES_MAX: usize = 8;

/// Requests on each connection before the clock starts, so that caches and buffers are as they will be.
const WARM_UP: usize = 20;

/// A fixed rate that cannot be kept is given up after so many times the window; what is due by then
/// counts as answered then.
const OVERDUE: u32 = 5;

/// A server that takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(20);

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
    /// The server's process.
    pub(crate) pid: u32,
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
    let mut random = Random(load.seed);
    let connect = |number| Connection::new(load, number, &mut random);
    let connections = (0..load.connections).map(connect);
    let mut connections = connections.collect::<Result<Vec<_>, _>>()?;
    // Room for more than a window has, so that it does not grow meanwhile.
    let mut window = Window {
        latencies: Vec::with_capacity(1 << 18),
        ..Window::default()
    };
    let before = settled(load.pid)?;
    let clock = Clock {
        load,
        begun: Instant::now(),
    };
    while !connections.iter().all(Connection::is_done) {
        for connection in &mut connections {
            connection.look(&clock, &mut random, &mut window)?;
        }
    }
    window.seconds = clock.begun.elapsed().as_secs_f64();
    window.processor = settled(load.pid)?.saturating_sub(before);
    Ok(window)
}

/// The server's processor time once it has gone to sleep after its last answer.
fn settled(pid: u32) -> Result<u64, Failure> {
    thread::sleep(Duration::from_millis(1));
    processor_time(pid)
}

/// Nanoseconds that a server runs in a second without a request.
pub(crate) fn idle(pid: u32, time: Duration) -> Result<f64, Failure> {
    let (begun, before) = (Instant::now(), processor_time(pid)?);
    thread::sleep(time);
    let ran = processor_time(pid)?.saturating_sub(before);
    Ok(ran as f64 / begun.elapsed().as_secs_f64())
}

/// When what is due.
struct Clock<'l> {
    load: Load<'l>,
    begun: Instant,
}

impl Clock<'_> {
    /// When a connection may send its next request; `None` if it has sent its last one.
    fn due(&self, number: usize, sent: u32, now: Instant) -> Option<Instant> {
        match self.load.pace {
            Pace::Closed => (now - self.begun < self.load.time).then_some(now),
            Pace::Open(rate) => {
                // The connections take turns.
                let turns = f64::from(sent) * self.load.connections as f64 + number as f64;
                let due = Duration::from_secs_f64(turns / rate);
                (due < self.load.time).then(|| self.begun + due)
            }
        }
    }

    fn is_overdue(&self, now: Instant) -> bool {
        now - self.begun > OVERDUE * self.load.time
    }
}

/// One connection.
struct Connection {
    number: usize,
    client: Client,
    /// Requests so far.
    sent: u32,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// Until the next request is due.
    Waiting,
    /// Under way: the request, and from when its latency counts.
    Asking(usize, Instant),
    Done,
}

impl Connection {
    fn new(load: Load<'_>, number: usize, random: &mut Random) -> Result<Self, Failure> {
        let mut client = Client::connect(load.target)?;
        for _ in 0..WARM_UP {
            let request = random.below(load.requests.len());
            client.exchange(&load.requests[request])?.good()?;
        }
        client.polled()?;
        Ok(Self {
            number,
            client,
            sent: 0,
            state: State::Waiting,
        })
    }

    fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Does what can be done now.
    fn look(
        &mut self,
        clock: &Clock<'_>,
        random: &mut Random,
        window: &mut Window,
    ) -> Result<(), Failure> {
        let load = clock.load;
        if let State::Waiting = self.state {
            let now = Instant::now();
            match clock.due(self.number, self.sent, now) {
                None => self.state = State::Done,
                Some(due) if clock.is_overdue(now) => {
                    self.sent += 1;
                    window.latencies.push(nanoseconds(now - due));
                }
                Some(due) if due <= now => {
                    self.sent += 1;
                    self.client.begin();
                    self.state = State::Asking(random.below(load.requests.len()), due);
                }
                Some(_) => {}
            }
        }
        let State::Asking(request, since) = self.state else {
            return Ok(());
        };
        let Some(answer) = self.client.advance(&load.requests[request])? else {
            return match since.elapsed() > PATIENCE {
                true => Err("a request is not answered".into()),
                false => Ok(()),
            };
        };
        let body = answer.good()?;
        window.latencies.push(nanoseconds(since.elapsed()));
        if window.latencies.len() % SAMPLED == 1 && window.samples.len() < SAMPLES_MAX {
            window.samples.push((request, body.to_vec()));
        }
        self.state = State::Waiting;
        Ok(())
    }
}

fn nanoseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    const STALL: Duration = Duration::from_millis(200);

    /// Answers on one connection, and stalls once, before the first request after those for warming up.
    fn stalling() -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; REQUEST.len()];
            let mut answered = 0;
            while stream.read_exact(&mut request).is_ok() {
                if answered == WARM_UP {
                    thread::sleep(STALL);
                }
                answered += 1;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).unwrap();
            }
        });
        Target::Tcp(address)
    }

    fn window(pace: Pace) -> Window {
        run(Load {
            pid: std::process::id(),
            target: &stalling(),
            connections: 1,
            requests: &[REQUEST.to_vec()],
            pace,
            time: Duration::from_millis(100),
            seed: 1,
        })
        .unwrap()
    }

    #[test]
    fn a_stall_counts_for_every_request_that_was_due_meanwhile() {
        let window = window(Pace::Open(1_000.0));
        assert_eq!(window.latencies.len(), 100, "one each millisecond");
        for (n, &latency) in window.latencies.iter().enumerate() {
            let waited = STALL - Duration::from_millis(n as u64);
            assert!(
                u128::from(latency) >= waited.as_nanos(),
                "{n}: {latency} ns"
            );
        }
    }

    #[test]
    fn a_closed_loop_waits_for_the_answer() {
        let window = window(Pace::Closed);
        assert_eq!(window.latencies.len(), 1);
        assert!(u128::from(window.latencies[0]) >= STALL.as_nanos());
        assert_eq!(window.samples, [(0, b"ok".to_vec())]);
        assert!(window.processor > 0);
    }
}
