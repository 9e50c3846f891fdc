//! What small lookups wait for while another connection of the same HTTP thread sends a million token ids, again and
//! again: open loop, each delay counted from the moment at which the lookup was due. Every answer is checked.
//!
//! `cargo run --release -p kvroute-perf --bin large [-- --seconds N]`
use kvroute::config::Config;
use kvroute::fleet::PodSpec;
use kvroute::node::Node;
use rustix::process::nice;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn Error + Send + Sync>;

/// Between two small lookups.
const PAUSE: Duration = Duration::from_millis(1);
/// Token ids of a large lookup.
const MANY: u32 = 1_000_000;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => 10.0,
        ["--seconds", n] => n.parse()?,
        _ => return Err("usage: large [--seconds N]".into()),
    };
    let node = Node::start(&Config {
        http_threads: 1,
        ..Config::default()
    })?;
    let pod = r#"{"pod":"a","model":"m","events":"tcp://127.0.0.1:1"}"#;
    node.fleet().add(serde_json::from_str::<PodSpec>(pod)?)?;
    let at = node.http_addr();
    let list = |count: u32| {
        let ids: Vec<String> = (0..count).map(|n| (n * 7 % 128_000).to_string()).collect();
        ids.join(",")
    };
    let json = |list: &str| format!(r#"{{"model":"m","token_ids":[{list}]}}"#).into_bytes();
    let usual = json(&list(MANY));
    let unusual = json(&list(MANY).replacen(',', ",\n", 1));
    let binary: Vec<u8> = (0..MANY).flat_map(u32::to_le_bytes).collect();
    let small = post("application/json", &json(&list(256)));
    println!(
        "small lookups of 256 token ids, one a millisecond; microseconds from when they were due, and from when"
    );
    println!("the client, which waits for a core as well, has come to send them");
    for (name, large) in [
        ("alone", None),
        (
            "beside a million ids, binary",
            Some(post("application/octet-stream", &binary)),
        ),
        (
            "beside a million ids, JSON",
            Some(post("application/json", &usual)),
        ),
        (
            "beside a million ids, JSON for a general parser",
            Some(post("application/json", &unusual)),
        ),
    ] {
        let (delays, answered) = run(at, &small, large.as_deref(), seconds)?;
        println!(
            "{name}, {:.0} of them a second",
            f64::from(answered) / seconds
        );
        let (due, sent): (Vec<_>, Vec<_>) = delays.into_iter().unzip();
        for (from, mut delays) in [("due", due), ("sent", sent)] {
            delays.sort_unstable();
            let last = (delays.len() - 1) as f64;
            let at = |q: f64| delays[(last * q) as usize].as_micros();
            let [p50, p99, p999, most] = [0.5, 0.99, 0.999, 1.0].map(at);
            println!("  {from:6} p50 {p50:6}  p99 {p99:6}  p99.9 {p999:6}  largest {most:6}");
        }
    }
    node.stop();
    Ok(())
}

fn post(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/match?model=m HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// What a lookup took, from when it was due and from when it was sent.
type Delay = (Duration, Duration);

/// The delays of the small lookups, and how many large ones were answered meanwhile.
fn run(
    at: SocketAddr,
    small: &[u8],
    large: Option<&[u8]>,
    seconds: f64,
) -> Result<(Vec<Delay>, u32), Failure> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = large.map(|large| {
            scope.spawn(|| -> Result<u32, Failure> {
                // It stands for another machine: it must not take the node's cores.
                nice(19)?;
                let mut stream = connect(at)?;
                let mut answered = 0;
                while !over.load(Relaxed) {
                    ask(&mut stream, large, MANY)?;
                    answered += 1;
                }
                Ok(answered)
            })
        });
        let delays = small_ones(at, small, seconds);
        over.store(true, Relaxed);
        let answered = sender.map(|sender| sender.join().map_err(|_| "the sender has panicked")?);
        Ok((delays?, answered.transpose()?.unwrap_or(0)))
    })
}

fn small_ones(at: SocketAddr, request: &[u8], seconds: f64) -> Result<Vec<Delay>, Failure> {
    let mut stream = connect(at)?;
    let begin = Instant::now();
    let count = (seconds / PAUSE.as_secs_f64()) as u32;
    let mut delays = Vec::with_capacity(count as usize);
    for n in 0..count {
        let due = begin + PAUSE * n;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        ask(&mut stream, request, 256)?;
        delays.push((due.elapsed(), sent.elapsed()));
    }
    Ok(delays)
}

fn connect(at: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// One request, and its answer: it must say how many token ids there were.
fn ask(stream: &mut TcpStream, request: &[u8], tokens: u32) -> Result<(), Failure> {
    stream.write_all(request)?;
    let mut buffer = [0; 4_096];
    let mut filled = 0;
    let end = format!("\"tokens\":{tokens},\"candidates\":[]}}");
    loop {
        match stream.read(&mut buffer[filled..])? {
            0 => return Err("the connection has ended".into()),
            count => filled += count,
        }
        let answer = &buffer[..filled];
        if answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(end.as_bytes()) {
            return Ok(());
        }
        if filled == buffer.len() || answer.starts_with(b"HTTP/1.1 4") {
            return Err(String::from_utf8_lossy(answer).into());
        }
    }
}
