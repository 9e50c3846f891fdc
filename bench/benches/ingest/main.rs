//! From an engine's socket to the index: processor time per block, with a loop that only receives as the floor,
//! and the time until an event shows in answers.
//!
//! Another process publishes; this one follows it with one IO thread, over TCP. Processor time is what the
//! kernel counted for the threads that receive: ours and libzmq's. Every run checks that each block arrived
//! and can be looked up. `cargo bench -p kvroute-bench --bench ingest`; with `--test` it runs tiny.
mod publisher;
mod threads;

use kvroute::fake::{FakeEngine, Options};
use kvroute::status::{Trust, WorkerStatus};
use kvroute::stream::socket::{Message, Sockets};
use kvroute::stream::{NewWorker, Streams, StreamsConfig};
use kvroute_bench::frames::{payload, stored};
use kvroute_bench::{BLOCK_SIZE, Random};
use kvroute_engine::types::EngineHash;
use kvroute_engine::{Index, IndexConfig, Matches, TokenKeys};
use publisher::{Kind, Publisher};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// A run that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<(), Failure> {
    if publisher::is_asked() {
        return publisher::publish();
    }
    let tiny = std::env::args().any(|arg| arg == "--test");
    let (rounds, blocks) = if tiny { (1, 2_000) } else { (5, 400_000) };
    println!(
        "{blocks} stored blocks of {BLOCK_SIZE} tokens a run, median of {rounds}; \
         ns of processor time per stored block"
    );
    println!(
        "{:<40} {:>8} {:>8} {:>8}",
        "frames", "kvroute", "floor", "ratio"
    );
    for kind in Kind::ALL {
        let mut ours = Vec::new();
        let mut floors = Vec::new();
        for _ in 0..rounds {
            ours.push(follow(kind, blocks)?);
            floors.push(receive(kind, blocks)?);
        }
        let (ours, floor) = (median(ours), median(floors));
        let ratio = ours / floor;
        println!("{:<40} {ours:>8.0} {floor:>8.0} {ratio:>8.2}", kind.text());
    }
    visible(if tiny { 20 } else { 5_000 })
}

/// The whole way into the index: nanoseconds of processor time per stored block, of the IO thread and libzmq's.
fn follow(kind: Kind, blocks: u64) -> Result<f64, Failure> {
    let mut publisher = Publisher::start(kind, blocks)?;
    let index = Index::new(IndexConfig::default());
    let streams = Streams::start(&index, &StreamsConfig::default())?;
    let status = Arc::<WorkerStatus>::default();
    let writer = index.writer("m")?;
    let id = writer.id();
    streams.add(NewWorker {
        writer,
        events: publisher.endpoint.clone(),
        replay: None,
        status: Arc::clone(&status),
        name: "bench#0".to_owned(),
        kept: None,
    })?;
    publisher.wait_until_subscribed()?;
    let before = threads::times()?;
    publisher.go()?;
    let said = &publisher.said;
    await_until("all frames", nap, || status.batches() == said.frames)?;
    let after = threads::times()?;
    assert_eq!(
        status.blocks(),
        said.stored - said.removed,
        "every block is there"
    );
    assert_eq!(status.trust(), Trust::Exact);
    assert_eq!(status.skipped().count(), 0);
    let mut matches = Matches::new();
    for context in index.participant().pin().contexts("m", None) {
        let tokens = &said.last.tokens;
        context.lookup(
            &mut TokenKeys::new(index.hash_seed(), BLOCK_SIZE, tokens, &[]),
            &mut matches,
        );
    }
    let found = matches.hits().iter().find(|hit| hit.worker == id);
    assert_eq!(
        found.map(|hit| hit.blocks[0] as usize),
        Some(said.last.blocks()),
        "the last conversation"
    );
    Ok((after.others - before.others) as f64 / said.stored as f64)
}

/// The floor: the same frames, received and dropped. Nanoseconds as above.
fn receive(kind: Kind, blocks: u64) -> Result<f64, Failure> {
    let mut publisher = Publisher::start(kind, blocks)?;
    let sockets = Sockets::new(1)?;
    let subscriber = sockets.subscriber(&publisher.endpoint)?;
    publisher.wait_until_subscribed()?;
    let before = threads::times()?;
    publisher.go()?;
    let said = &publisher.said;
    let begun = Instant::now();
    let mut message = Message::default();
    let mut frames = 0;
    while frames < said.frames {
        match subscriber.socket().receive(&mut message)? {
            true => frames += 1,
            false => drop(subscriber.socket().wait(Duration::from_millis(100))?),
        }
        if begun.elapsed() > PATIENCE {
            return Err("frames are missing".into());
        }
    }
    let after = threads::times()?;
    let spent = after.own + after.others - before.own - before.others;
    Ok(spent as f64 / said.stored as f64)
}

/// From the publisher's `send` until a lookup finds the block, one event at a time.
fn visible(events: usize) -> Result<(), Failure> {
    let index = Index::new(IndexConfig::default());
    let streams = Streams::start(&index, &StreamsConfig::default())?;
    let engine = FakeEngine::bind(Options::default())?;
    streams.add(NewWorker {
        writer: index.writer("m")?,
        events: engine.events_endpoint().to_owned(),
        replay: engine.replay_endpoint().map(str::to_owned),
        status: Arc::default(),
        name: "bench#0".to_owned(),
        kept: None,
    })?;
    engine.wait_for_subscriber(PATIENCE)?;
    let participant = index.participant();
    let mut random = Random(7);
    let mut matches = Matches::new();
    let mut times = Vec::with_capacity(events);
    for n in 0..events as u64 {
        let tokens: Vec<u32> = random.tokens(1).collect();
        let batch = payload(vec![stored(None, &[EngineHash(n + 1)], &tokens)]);
        let begun = Instant::now();
        engine.publish(n, &batch)?;
        await_until("the event", std::thread::yield_now, || {
            let pinned = participant.pin();
            pinned.contexts("m", None).any(|context| {
                let mut keys = TokenKeys::new(index.hash_seed(), BLOCK_SIZE, &tokens, &[]);
                context.lookup(&mut keys, &mut matches);
                !matches.hits().is_empty()
            })
        })?;
        times.push(begun.elapsed());
        std::thread::sleep(Duration::from_micros(200));
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
    println!(
        "an event shows in answers after: p50 {} us, p99 {} us, worst {} us",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

fn nap() {
    std::thread::sleep(Duration::from_millis(1));
}

/// `pause` between two looks: a thread that only spins would take a core from those that are measured.
fn await_until(what: &str, pause: fn(), mut holds: impl FnMut() -> bool) -> Result<(), Failure> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > PATIENCE {
            return Err(format!("waited in vain for {what}").into());
        }
        pause();
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
