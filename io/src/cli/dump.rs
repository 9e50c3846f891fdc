//! `kvroute dump`: what a running node says that its pods hold.
use super::ask::Node;
use super::{Exit, complain};
use kvroute::client::ClientError;
use kvroute::dump::rows::Rows;
use kvroute::dump::{Context, DumpError, Filter, Held, Prefix, Take, read};
use kvroute::limits::PROMPT_FILE_BYTES_MAX;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Stdout, Write};
use std::path::Path;

const EXAMPLES: &str = "\
Examples:
  kvroute dump http://127.0.0.1:8080
  kvroute dump http://127.0.0.1:8080 --pod default/vllm-0 --model llama-8b --json | head
  kvroute dump https://kvroute.example.org --token-file /run/token --prefix prompt.json

A prompt is a file of token ids, as a JSON list or parted by blanks, without adapter, salt or images; or block hashes as engines
name them, parted by commas: these blocks, and all that follow them. LONGEST is the longest chain of blocks, PREFIX how many blocks
of the prompt are held. As JSON, a line has consecutive blocks of one worker. A dump is no picture of one moment.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    node: Node,
    /// Only of this model or adapter
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only of this pod, or of this rank of it
    #[arg(long, value_name = "POD[#RANK]")]
    pod: Option<String>,
    /// Only blocks of this prompt, and those that follow it
    #[arg(long, value_name = "TOKENS_FILE|HASH,…")]
    prefix: Option<String>,
    /// The node's --hash-seed
    #[arg(long, value_name = "SEED", default_value_t = kvroute_engine::hash::SEED_DEFAULT)]
    hash_seed: u64,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Asks, filters, prints.
pub(crate) fn run(args: &Args) -> Exit {
    match dump(args) {
        Ok(()) => Exit::Done,
        Err(Failure::Usage(error)) => {
            complain(&error);
            Exit::Usage
        }
        // Whoever read it has seen enough.
        Err(Failure::Dump(DumpError::Take(error))) if error.kind() == ErrorKind::BrokenPipe => {
            Exit::Done
        }
        Err(Failure::Dump(error)) => {
            complain(&error);
            Exit::Unavailable
        }
        Err(Failure::Client(error)) => {
            complain(&error);
            Exit::Unavailable
        }
    }
}

enum Failure {
    Usage(String),
    Client(ClientError),
    Dump(DumpError),
}

impl From<DumpError> for Failure {
    fn from(error: DumpError) -> Self {
        Self::Dump(error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Dump(DumpError::Take(error))
    }
}

fn dump(args: &Args) -> Result<(), Failure> {
    let filter = filter(args).map_err(Failure::Usage)?;
    let mut client = args.node.client().map_err(Failure::Usage)?;
    let mut out = BufWriter::new(io::stdout());
    if args.json {
        let body = client.open("/dump")?;
        read(body, &filter, &mut Lines(&mut out))?;
    } else {
        let workers: Value = client.get("/v1/workers")?;
        let states = states(&workers);
        let mut rows = Rows::new(filter.prefix.is_some());
        read(client.open("/dump")?, &filter, &mut rows)?;
        let state = |pod: &str, rank| states.get(&(pod.to_owned(), rank)).cloned();
        let table = rows.table(|pod, rank| state(pod, rank).unwrap_or_else(|| "gone".to_owned()));
        out.write_all(table.as_bytes())?;
    }
    Ok(out.flush()?)
}

fn filter(args: &Args) -> Result<Filter, String> {
    let (pod, rank) = match args.pod.as_deref().map(|pod| (pod, pod.rsplit_once('#'))) {
        Some((_, Some((pod, rank)))) => {
            let number = rank.parse();
            let number = number.map_err(|_| format!("--pod: {rank:?} is no rank"))?;
            (Some(pod.to_owned()), Some(number))
        }
        Some((pod, None)) => (Some(pod.to_owned()), None),
        None => (None, None),
    };
    let prefix = args
        .prefix
        .as_deref()
        .map(|text| prefix(text, args.hash_seed));
    Ok(Filter {
        model: args.model.clone(),
        pod,
        rank,
        prefix: prefix.transpose()?,
    })
}

/// Hashes, or else a file of tokens.
fn prefix(text: &str, seed: u64) -> Result<Prefix, String> {
    let hash = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let hashes: Option<BTreeSet<u64>> = text.split(',').map(|part| hash(part.trim())).collect();
    if let Some(hashes) = hashes {
        return Ok(Prefix::Names(hashes));
    }
    let wrong = |what: String| format!("--prefix: {text}: {what}");
    let tokens = tokens(Path::new(text)).map_err(|error| wrong(error.to_string()))?;
    match tokens.is_empty() {
        true => Err(wrong("there is no token in it".to_owned())),
        false => Ok(Prefix::Tokens(tokens, seed)),
    }
}

fn tokens(path: &Path) -> io::Result<Vec<u32>> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(PROMPT_FILE_BYTES_MAX).read_to_string(&mut text)?;
    if text.trim_start().starts_with('[') {
        return Ok(serde_json::from_str(&text)?);
    }
    let ids = text.split_ascii_whitespace().map(|id| {
        let wrong = |_| io::Error::new(ErrorKind::InvalidData, format!("{id:?} is no token id"));
        id.parse().map_err(wrong)
    });
    ids.collect()
}

/// The state of each rank of each pod.
fn states(workers: &Value) -> BTreeMap<(String, u32), String> {
    let workers = workers.as_array().into_iter().flatten();
    let state = |worker: &Value| {
        let rank = u32::try_from(worker["rank"].as_u64()?).ok()?;
        let pod = worker["pod"].as_str()?.to_owned();
        Some(((pod, rank), worker["state"].as_str()?.to_owned()))
    };
    workers.filter_map(state).collect()
}

/// A line of JSON for each run of blocks.
struct Lines<'o>(&'o mut BufWriter<Stdout>);

impl Take for Lines<'_> {
    fn held(&mut self, held: &Held<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut *self.0, held)?;
        self.0.write_all(b"\n")
    }

    fn left_out(&mut self, context: &Context, what: &Value) -> io::Result<()> {
        let line = json!({
            "model": context.model, "adapter": context.adapter, "block_size": context.block_size, "left_out": what,
        });
        writeln!(self.0, "{line}")
    }
}
