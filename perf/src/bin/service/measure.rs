//! The rounds: every cell in every round, the servers of a row one right after the other.
use crate::Failure;
use crate::check;
use crate::client::Target;
use crate::grid::{Cell, DEPTHS, Encoding, Row, Series, Server, Transport};
use crate::load::{self, Load, Pace, Window};
use crate::requests::render;
use crate::servers::Process;
use crate::workload::{Prompt, Workload};
use std::collections::HashMap;
use std::time::Duration;

/// The fixed rate, as a share of what the server does as fast as it can.
const SHARE: f64 = 0.5;

/// The servers that there are.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) kvroute: Process,
    pub(crate) bare: Process,
    pub(crate) dynamo: Option<Process>,
}

impl Servers {
    fn get(&self, server: Server) -> Result<&Process, Failure> {
        match server {
            Server::Kvroute => Ok(&self.kvroute),
            Server::Bare => Ok(&self.bare),
            Server::Dynamo => Ok(self.dynamo.as_ref().ok_or("there is no dynamo")?),
        }
    }
}

/// What the windows of one kind came to, over all rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Requests a second, by round.
    pub(crate) rates: Vec<f64>,
    /// Server processor time per request in microseconds, its idle time taken off; by round.
    pub(crate) processor: Vec<f64>,
    /// Nanoseconds of every request.
    pub(crate) latencies: Vec<u32>,
}

impl Figures {
    fn add(&mut self, window: Window, idle: f64) {
        let requests = window.latencies.len().max(1) as f64;
        let processor = window.processor as f64 - idle * window.seconds;
        self.rates.push(requests / window.seconds);
        self.processor.push(processor / requests / 1e3);
        self.latencies.extend(window.latencies);
    }

    /// A percentile of the latencies in microseconds.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
        sorted.get(at).map_or(f64::NAN, |&ns| f64::from(ns) / 1e3)
    }
}

/// A cell's figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) closed: Figures,
    pub(crate) open: Figures,
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// What is asked, by depth, and the requests that were written so far.
pub(crate) struct Book {
    prompts: HashMap<usize, Vec<Prompt>>,
    /// Bytes of kvroute's answers, which the bare server imitates.
    answers: HashMap<(usize, Encoding), usize>,
    written: HashMap<(usize, Encoding, Series), Vec<Vec<u8>>>,
}

impl Book {
    pub(crate) fn new(workload: &Workload, tiny: bool) -> Self {
        let prompts = DEPTHS.map(|depth| {
            let count = match depth {
                _ if tiny => 8,
                // So that no size takes much more memory than another.
                1_024.. => 64,
                _ => 256,
            };
            (depth, workload.prompts(depth, count))
        });
        Self {
            prompts: prompts.into(),
            answers: HashMap::new(),
            written: HashMap::new(),
        }
    }

    pub(crate) fn prompt(&self, blocks: usize, number: usize) -> Option<&Prompt> {
        self.prompts.get(&blocks)?.get(number)
    }

    /// Writes a cell's requests, sends each once, and checks every answer.
    fn write(&mut self, cell: Cell, server: &Process) -> Result<(), Failure> {
        let Row {
            blocks, encoding, ..
        } = cell.row;
        let size = self.answers.get(&(blocks, encoding)).copied().unwrap_or(64);
        let one = |prompt| render(cell.series, encoding, prompt, size);
        let requests: Vec<_> = match self.prompts.get(&blocks) {
            Some(prompts) => prompts.iter().map(|prompt| one(Some(prompt))).collect(),
            None => vec![one(None)],
        };
        let mut client = server.client()?;
        let mut bytes = 0;
        for (number, request) in requests.iter().enumerate() {
            let answer = client.exchange(request)?;
            let body = answer.good()?;
            bytes += body.len();
            check::answer(cell.series, encoding, self.prompt(blocks, number), body)?;
        }
        if cell.series.server() == Server::Kvroute {
            let first = self.answers.entry((blocks, encoding));
            first.or_insert(bytes / requests.len());
        }
        self.written
            .insert((blocks, encoding, cell.series), requests);
        Ok(())
    }

    fn requests(&self, cell: Cell) -> &[Vec<u8>] {
        let key = (cell.row.blocks, cell.row.encoding, cell.series);
        self.written.get(&key).map_or(&[], Vec::as_slice)
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
}

/// Measures all rows.
pub(crate) fn measure(
    servers: &Servers,
    book: &mut Book,
    rows: &[(Row, Vec<Series>)],
    effort: Effort,
) -> Result<HashMap<Cell, Measured>, Failure> {
    for cell in cells(rows) {
        let key = (cell.row.blocks, cell.row.encoding, cell.series);
        if !book.written.contains_key(&key) {
            let server = servers.get(cell.series.server())?;
            let named = |e| format!("{}, {}: {e}", cell.row, cell.series.text());
            book.write(cell, server).map_err(named)?;
        }
    }
    let mut all: HashMap<Cell, Measured> = HashMap::new();
    for round in 0..effort.rounds {
        eprintln!("round {} of {}", round + 1, effort.rounds);
        let mut idle = HashMap::new();
        for server in [Server::Kvroute, Server::Bare, Server::Dynamo] {
            if let Ok(process) = servers.get(server) {
                idle.insert(server, load::idle(process.pid(), effort.window)?);
            }
        }
        for (row, series) in rows {
            for turn in 0..series.len() {
                // Whoever comes first finds caches that another row has used: that changes, too.
                let series = series[(turn + round) % series.len()];
                let cell = Cell { row: *row, series };
                let server = series.server();
                let asked = Asked {
                    cell,
                    server: servers.get(server)?,
                    idle: idle.get(&server).copied().unwrap_or(0.0),
                    seed: (round as u64) << 32,
                };
                let measured = all.entry(cell).or_default();
                asked
                    .round(book, measured, effort.window)
                    .map_err(|e| format!("{row}, {}: {e}", series.text()))?;
            }
        }
    }
    Ok(all)
}

fn cells(rows: &[(Row, Vec<Series>)]) -> impl Iterator<Item = Cell> {
    rows.iter()
        .flat_map(|(row, series)| series.iter().map(|&series| Cell { row: *row, series }))
}

/// One cell in one round.
struct Asked<'s> {
    cell: Cell,
    server: &'s Process,
    idle: f64,
    seed: u64,
}

impl Asked<'_> {
    fn round(&self, book: &Book, measured: &mut Measured, time: Duration) -> Result<(), Failure> {
        let target = self.server.target(self.cell.row.transport)?;
        let window = self.window(book, &target, Pace::Closed, time)?;
        measured.closed.add(window, self.idle);
        let rate = SHARE * median(&measured.closed.rates);
        let window = self.window(book, &target, Pace::Open(rate), time)?;
        measured.open.add(window, self.idle);
        Ok(())
    }

    fn window(
        &self,
        book: &Book,
        target: &Target,
        pace: Pace,
        time: Duration,
    ) -> Result<Window, Failure> {
        let Cell { row, series } = self.cell;
        let window = load::run(Load {
            pid: self.server.pid(),
            target,
            connections: row.connections,
            requests: book.requests(self.cell),
            pace,
            time,
            seed: self.seed,
        })?;
        for (number, body) in &window.samples {
            let prompt = book.prompt(row.blocks, *number);
            check::answer(series, row.encoding, prompt, body)?;
        }
        Ok(window)
    }
}

/// Whether the node answers by hash: it is asked once.
pub(crate) fn answers_hashes(kvroute: &Process, book: &Book) -> Result<bool, Failure> {
    let prompt = book.prompt(DEPTHS[0], 0);
    let request = render(Series::Query, Encoding::Hashes, prompt, 0);
    let mut client = kvroute.client()?;
    let answer = client.exchange(&request)?;
    match answer.status {
        404 => Ok(false),
        _ => {
            check::answer(Series::Query, Encoding::Hashes, prompt, answer.good()?)?;
            Ok(true)
        }
    }
}

/// The ratio of two series of the same rounds, round by round.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(a, b)| a / b).collect()
}

/// The row over TCP, for who has no other transport.
pub(crate) fn over_tcp(row: Row) -> Row {
    Row {
        transport: Transport::Tcp,
        ..row
    }
}
