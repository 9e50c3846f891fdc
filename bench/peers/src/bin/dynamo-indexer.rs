//! Dynamo's standalone indexer as a process: what `perf` measures kvroute's service beside.
//!
//! `dynamo-indexer PORT [HTTP_THREADS [INDEX_THREADS]]`: no access log, no metrics, no peers, an empty fleet that takes
//! registrations. One thread answers HTTP unless told otherwise, as kvroute is measured with one; four apply events,
//! the default of Dynamo's own command.
use dynamo_kv_router::services::indexer::{IndexerConfig, run_server};
use http::HeaderName;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("dynamo-indexer: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().ok_or("which port?")?.parse()?;
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse());
    let (http_threads, index_threads) = (number(1)?, number(4)?);
    let config = IndexerConfig {
        block_size: None,
        port,
        threads: index_threads,
        workers: None,
        model_name: "default".to_owned(),
        routing_group: "default".to_owned(),
        peers: None,
        access_log: None,
        trace_id_header: HeaderName::from_static("x-request-id"),
        access_log_local_time: false,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(http_threads)
        .enable_all()
        .build()?;
    Ok(runtime.block_on(run_server(config))?)
}
