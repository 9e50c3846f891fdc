//! What is asked for on the command line.
use crate::Failure;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: service [--dynamo PATH] [--kvroute PATH] [--rounds N] [--window-ms N] [--pool N] [--only TEXT]
               [--out FILE] [--tiny] [--no-pin]
  --dynamo     the binary of bench/peers, dynamo-indexer; without it its rows are left out
  --kvroute    the node's binary (beside this program)
  --rounds     how often all is measured (5)
  --window-ms  how long each measurement takes (200)
  --pool       how many workers share the conversations of one system prompt (18)
  --only       cells whose names contain this, as `binary, unix` or `8, kvroute match`; may be repeated
  --out        a file of one JSON object a line, and the table beside it (perf/results/service.jsonl;
               nothing is written if --tiny or --only)
  --tiny       a small workload, for some seconds: does it work, are all answers right
  --no-pin     the servers and the clients are not kept on cores of their own";

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) kvroute: PathBuf,
    pub(crate) dynamo: Option<PathBuf>,
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
    pub(crate) pool: usize,
    pub(crate) only: Vec<String>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) tiny: bool,
    pub(crate) pin: bool,
}

impl Options {
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let beside = std::env::current_exe()?.with_file_name("kvroute");
        let mut options = Self {
            kvroute: beside,
            dynamo: None,
            rounds: 0,
            window: Duration::ZERO,
            pool: 18,
            only: Vec::new(),
            out: None,
            tiny: false,
            pin: true,
        };
        let (mut rounds, mut window) = (None, None);
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| format!("{arg} needs more after it"))
            };
            match arg.as_str() {
                "--kvroute" => options.kvroute = value()?.into(),
                "--dynamo" => options.dynamo = Some(value()?.into()),
                "--rounds" => rounds = Some(value()?.parse()?),
                "--window-ms" => window = Some(value()?.parse()?),
                "--pool" => options.pool = value()?.parse()?,
                "--only" => options.only.push(value()?),
                "--out" => options.out = Some(value()?.into()),
                "--tiny" => options.tiny = true,
                "--no-pin" => options.pin = false,
                _ => return Err(format!("what is {arg}?\n{USAGE}").into()),
            }
        }
        let (default_rounds, default_window) = if options.tiny { (1, 5) } else { (5, 200) };
        options.rounds = rounds.unwrap_or(default_rounds).max(1);
        options.window = Duration::from_millis(window.unwrap_or(default_window).max(1));
        options.pool = options.pool.max(1);
        if options.out.is_none() && !options.tiny && options.only.is_empty() {
            options.out = Some("perf/results/service.jsonl".into());
        }
        Ok(options)
    }
}
