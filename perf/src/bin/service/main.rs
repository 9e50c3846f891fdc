//! The node as a service, beside a bare hyper server and Dynamo's standalone indexer: requests a second, latencies, and
//! the server's processor time per request, from prompts of 16, 256 and 1,024 cached blocks, as JSON, binary
//! and by hash, over 1 and 8 connections, TCP and Unix sockets, in a closed and an open loop.
//!
//! `service --dynamo PATH` starts the servers, lets them follow the same 64 engines over real ZeroMQ until both answer
//! every conversation of the workload of `kvroute-bench` rightly, and measures them in turns. See the README.
mod bare;
mod check;
mod client;
mod fill;
mod grid;
mod load;
mod measure;
mod options;
mod report;
mod requests;
mod servers;
mod workload;

use grid::{Available, Row, Series, Skipped};
use kvroute_bench::machine;
use measure::{Book, Effort, Servers};
use options::Options;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use workload::Workload;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The argument that makes this program the bare server; the next one is its socket.
const BARE: &str = "bare";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let ended = match args.as_slice() {
        [role, socket] if role == BARE => bare::run(Path::new(socket)),
        [help] if help == "--help" => {
            println!("{}", options::USAGE);
            Ok(())
        }
        _ => Options::read(args.into_iter()).and_then(|options| run(&options)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("service: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    // As it is before this process is kept on one core.
    let machine = json!({"processor": machine::processor(), "load_before": machine::load()});
    let workload = Workload::new(options.tiny, options.pool);
    let mut book = Book::new(&workload, options.tiny);
    let folder = tempfile::tempdir()?;
    let (servers, mut skipped) = start(options, folder.path())?;
    let engines = fill::fill(&workload, &servers.kvroute, servers.dynamo.as_ref())?;
    let there = Available {
        dynamo: servers.dynamo.is_some(),
        unix: servers.kvroute.has_unix(),
        hashes: measure::answers_hashes(&servers.kvroute, &book)?,
    };
    if !there.hashes {
        skipped.push(Skipped {
            what: "kvroute by hash",
            why: "it answers /query_by_hash with 404".to_owned(),
        });
    }
    let rows = wanted(grid::rows(there), &options.only);
    let effort = Effort {
        rounds: options.rounds,
        window: options.window,
    };
    let all = measure::measure(&servers, &mut book, &rows, effort)?;
    drop(engines);
    let about = about(options, machine, &workload, &skipped);
    let table = introduction(&about, &skipped) + &report::table(&rows, &all);
    print!("{table}");
    if let Some(path) = &options.out {
        let cells = report::json(&rows, &all);
        write(path, &about, &cells, &table)?;
    }
    Ok(())
}

/// The lines of JSON, and the table beside them.
fn write(path: &Path, about: &Value, cells: &[Value], table: &str) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::File::create(path)?;
    for line in std::iter::once(about).chain(cells) {
        writeln!(file, "{line}")?;
    }
    std::fs::write(path.with_extension("txt"), table)?;
    Ok(())
}

/// The rows and who answers them, as far as they are asked for.
fn wanted(mut rows: Vec<(Row, Vec<Series>)>, only: &[String]) -> Vec<(Row, Vec<Series>)> {
    for (row, series) in &mut rows {
        let is_wanted = |series: &Series| {
            let name = format!("{row}, {}", series.text());
            only.is_empty() || only.iter().any(|only| name.contains(only))
        };
        series.retain(is_wanted);
    }
    rows.retain(|(_, series)| !series.is_empty());
    rows
}

/// Starts the servers on one core and keeps this process on another.
fn start(options: &Options, folder: &Path) -> Result<(Servers, Vec<Skipped>), Failure> {
    let mut skipped = Vec::new();
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let apart = match cores[..] {
        [first, .., last] if options.pin => Some((first, last)),
        _ => None,
    };
    // Processes and threads begin on the cores of who starts them.
    let pinned = apart.is_some_and(|(_, last)| core_affinity::set_for_current(last));
    if !pinned {
        skipped.push(Skipped {
            what: "keeping servers and clients on cores of their own",
            why: if options.pin {
                "there are none"
            } else {
                "--no-pin"
            }
            .to_owned(),
        });
    }
    let (kvroute, no_unix) = servers::kvroute(&options.kvroute, folder)?;
    skipped.extend(no_unix);
    let bare = servers::bare(folder)?;
    let dynamo = match &options.dynamo {
        Some(program) => Some(servers::dynamo(program)?),
        None => {
            skipped.push(Skipped {
                what: "dynamo",
                why: "no --dynamo PATH is given".to_owned(),
            });
            None
        }
    };
    if let Some((first, _)) = apart {
        core_affinity::set_for_current(first);
    }
    let servers = Servers {
        kvroute,
        bare,
        dynamo,
    };
    Ok((servers, skipped))
}

fn about(options: &Options, machine: Value, workload: &Workload, skipped: &[Skipped]) -> Value {
    let left_out = skipped.iter().map(|part| (part.what, part.why.as_str()));
    json!({
        "processor": machine["processor"], "load_before": machine["load_before"], "load_after": machine::load(), "allocator": "mimalloc",
        "workers": workload.workers, "entries": workload.entries(), "pool": options.pool,
        "rounds": options.rounds, "window_ms": options.window.as_millis() as u64,
        "left_out": left_out.collect::<std::collections::BTreeMap<_, _>>(),
    })
}

fn introduction(about: &Value, skipped: &[Skipped]) -> String {
    let mut text = format!(
        "{} rounds of {} ms, medians; {} workers, {} (block, worker) entries\n{}; load {} before, {} after\n",
        about["rounds"],
        about["window_ms"],
        about["workers"],
        about["entries"],
        about["processor"].as_str().unwrap_or_default(),
        about["load_before"].as_str().unwrap_or_default(),
        about["load_after"].as_str().unwrap_or_default(),
    );
    for part in skipped {
        text += &format!("left out: {}: {}\n", part.what, part.why);
    }
    text + "\n"
}
