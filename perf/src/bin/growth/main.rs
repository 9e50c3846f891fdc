//! How lookups, stores, removals and memory grow with the number of entries and of workers.
//!
//! `growth` measures all points, each in a fresh process (itself), `--repeat` times over, appends one
//! JSON object a line to `growth.jsonl` in the folder `--out`, and draws `growth.svg` beside it.
//! `growth --plot` only draws. `growth --tiny` sees that everything works, and writes nothing unless
//! it is given a folder. `growth --point ENTRIES WORKERS` prints one point.
mod chart;
mod plot;
mod point;
mod workload;

use kvroute_bench::machine;
use serde_json::{Value, json};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fallible<T> = Result<T, Box<dyn Error>>;

const MILLION: u64 = 1_000_000;
/// Workers while the number of entries grows.
const WORKERS: usize = 64;
/// Entries while the number of workers grows.
const ENTRIES: u64 = 5 * MILLION;
const BY_ENTRIES: [u64; 6] = [1, 2, 5, 10, 20, 50];
const BY_WORKERS: [usize; 6] = [8, 64, 512, 1_024, 4_096, 16_384];

/// What is asked for on the command line.
#[derive(Debug)]
struct Wish {
    tiny: bool,
    plot: bool,
    point: Option<(u64, usize)>,
    repeat: usize,
    out: Option<PathBuf>,
}

impl Wish {
    fn read(args: impl Iterator<Item = String>) -> Fallible<Self> {
        let mut wish = Self {
            tiny: false,
            plot: false,
            point: None,
            repeat: 1,
            out: None,
        };
        let mut args = args.skip(1);
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| format!("{arg} needs more after it"))
            };
            match arg.as_str() {
                "--tiny" => wish.tiny = true,
                "--plot" => wish.plot = true,
                "--point" => wish.point = Some((value()?.parse()?, value()?.parse()?)),
                "--repeat" => wish.repeat = value()?.parse()?,
                "--out" => wish.out = Some(value()?.into()),
                _ => return Err(format!("what is {arg}?").into()),
            }
        }
        Ok(wish)
    }
}

fn main() -> ExitCode {
    match Wish::read(std::env::args()).and_then(|wish| run(&wish)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("growth: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(wish: &Wish) -> Fallible<()> {
    if let Some((entries, workers)) = wish.point {
        println!("{}", point::measure(entries, workers, wish.tiny)?);
        return Ok(());
    }
    let default = (!wish.tiny).then(|| PathBuf::from("perf/results"));
    let out = wish.out.clone().or(default);
    if !wish.plot {
        sweep(wish, out.as_deref())?;
    }
    if let Some(out) = out {
        let lines = std::fs::read_to_string(out.join("growth.jsonl"))?;
        std::fs::write(out.join("growth.svg"), plot::draw(&lines)?)?;
    }
    Ok(())
}

/// All points, the point that both sweeps have in common once.
fn points(tiny: bool) -> Vec<(u64, usize)> {
    if tiny {
        return vec![(20_000, 8), (40_000, 8), (20_000, 64)];
    }
    let mut points: Vec<_> = BY_ENTRIES.map(|n| (n * MILLION, WORKERS)).into();
    let more = BY_WORKERS.iter().map(|&workers| (ENTRIES, workers));
    points.extend(more.filter(|&(_, workers)| workers != WORKERS));
    points
}

fn sweep(wish: &Wish, out: Option<&Path>) -> Fallible<()> {
    let mut file = match out {
        Some(out) => {
            std::fs::create_dir_all(out)?;
            Some(std::fs::File::create(out.join("growth.jsonl"))?)
        }
        None => None,
    };
    let mut write = |line: &Value| -> Fallible<()> {
        println!("{line}");
        if let Some(file) = &mut file {
            writeln!(file, "{line}")?;
        }
        Ok(())
    };
    write(&json!({
        "machine": machine::processor(),
        "allocator": "mimalloc",
        "load": machine::load(),
        "repeats": wish.repeat,
    }))?;
    // One repetition after the other: what the machine does meanwhile does not hit one point alone.
    for _ in 0..wish.repeat {
        for (entries, workers) in points(wish.tiny) {
            write(&spawn(entries, workers, wish.tiny)?)?;
        }
    }
    Ok(())
}

/// One point in a process of its own: no memory is left from another one.
fn spawn(entries: u64, workers: usize, tiny: bool) -> Fallible<Value> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--point", &entries.to_string(), &workers.to_string()]);
    command.args(tiny.then_some("--tiny"));
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{entries} entries, {workers} workers: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
