//! The node against what real engines really reused.
//!
//! Every recording is played frame by frame over real ZeroMQ sockets into a node of its own, and every recorded
//! request is asked over real HTTP before the engine's own later events are published. What the node
//! says must be what the engine reused, to the token; the exceptions are in the nature of the events and are
//! told by rules ([`kvroute::trace::judge`]). `KVROUTE_TRACES=<folder>` adds other recordings.
use kvroute::config::Config;
use kvroute::demo::{ClientError, Outcome, PlayError, Player};
use kvroute::node::Node;
use kvroute::trace::judge::Verdict;
use kvroute::trace::{self, Entry, Recording, Request, Step, What};
use kvroute_tests::tidy::root;
use std::fmt::Write as _;
use std::path::Path;

/// What the requests of one recording came to.
#[derive(Default)]
struct Row {
    requests: usize,
    exact: usize,
    allowed: usize,
    under: usize,
    over: usize,
    skipped: usize,
    /// Asked a second time under the adapter's name as the model.
    renamed: usize,
}

impl Row {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.exact += other.exact;
        self.allowed += other.allowed;
        self.under += other.under;
        self.over += other.over;
        self.skipped += other.skipped;
        self.renamed += other.renamed;
    }

    fn line(&self, name: &str) -> String {
        let judged = self.requests - self.skipped;
        format!(
            "{name:44} {:8} {judged:6} {:5} {:7} {:5} {:4} {:7}\n",
            self.requests, self.exact, self.allowed, self.under, self.over, self.skipped
        )
    }
}

/// The workloads that are kept in the repository: a recording that is lost would prove nothing.
const OWN_RECORDINGS: usize = 28;

#[test]
fn predictions_equal_what_engines_reused() {
    let mut stems = trace::find(&root().join("tests/traces")).expect("the recordings are there");
    assert_eq!(stems.len(), OWN_RECORDINGS, "recordings in tests/traces");
    if let Some(folder) = std::env::var_os("KVROUTE_TRACES") {
        let more =
            trace::find(Path::new(&folder)).expect("KVROUTE_TRACES is a folder of recordings");
        assert!(
            !more.is_empty(),
            "KVROUTE_TRACES: no <variant>/<workload>.requests.jsonl in {folder:?}"
        );
        stems.extend(more);
    }
    let mut table = format!(
        "{:44} {:>8} {:>6} {:>5} {:>7} {:>5} {:>4} {:>7}\n",
        "workload", "requests", "judged", "exact", "allowed", "under", "over", "skipped"
    );
    let mut total = Row::default();
    let mut wrong = Vec::new();
    for stem in &stems {
        let (name, row) = play(stem, &mut wrong);
        table += &row.line(&name);
        total.add(&row);
    }
    table += &total.line("total");
    println!(
        "{table}\n{} requests were also asked with the adapter as the model",
        total.renamed
    );
    assert!(
        wrong.is_empty(),
        "{table}\n{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // What is judged at all, so that a rule that excuses everything does not pass for truth.
    assert!(
        total.exact * 10 >= total.requests * 8,
        "{table}\nfew requests were predicted"
    );
    assert!(total.renamed > 0, "no request named an adapter");
}

/// Plays one recording into a node of its own. A line for every request that is wrong goes to `wrong`.
fn play(stem: &Path, wrong: &mut Vec<String>) -> (String, Row) {
    let recording = trace::open(stem).unwrap_or_else(|error| panic!("{error}"));
    let name = recording.name.clone();
    let mut row = Row::default();
    if let Err(error) = judge(&recording, &mut row, wrong) {
        wrong.push(format!("{name}: {error}"));
    }
    (name, row)
}

fn judge(
    recording: &Recording,
    row: &mut Row,
    wrong: &mut Vec<String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::start(&Config::default())?;
    let mut player = Player::start(recording, node.http_addr(), "")?;
    let base = recording.base_model();
    for step in recording.steps() {
        let (at, entry) = match step {
            Step::Published(message) => {
                player.publish(message, None)?;
                continue;
            }
            Step::Happened(at, entry) => (at, entry),
        };
        let What::Request(request) = &entry.what else {
            continue;
        };
        let outcome = player.ask(at, entry, request)?;
        row.requests += 1;
        count(
            &outcome,
            row,
            || describe(recording, entry, request, &outcome, ""),
            wrong,
        );
        if request.model != base {
            row.renamed += 1;
            // As engines get it: the adapter's name is the model.
            match player.ask_as(at, entry, request, &request.model, None) {
                Ok(renamed) if renamed.predictions == outcome.predictions => {}
                Ok(renamed) => {
                    let how = "asked by the adapter's name as the model: ";
                    wrong.push(describe(recording, entry, request, &renamed, how));
                }
                // Nobody has said that name yet, so nobody holds anything.
                Err(PlayError::Client(ClientError::Status { status: 404, .. }))
                    if outcome.predictions.iter().all(|&predicted| predicted == 0) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    drop(player);
    node.stop();
    Ok(())
}

fn count(outcome: &Outcome, row: &mut Row, describe: impl Fn() -> String, wrong: &mut Vec<String>) {
    // Nothing in the recordings is beyond what is understood.
    if outcome.states.iter().any(|state| state == "distrusted") {
        wrong.push(format!("distrusted: {}", describe()));
    }
    match outcome.verdict {
        Verdict::Exact => row.exact += 1,
        Verdict::Allowed(_) => row.allowed += 1,
        Verdict::Skipped(_) => row.skipped += 1,
        Verdict::Under => {
            row.under += 1;
            wrong.push(format!("under: {}", describe()));
        }
        Verdict::Over => {
            row.over += 1;
            wrong.push(format!("over: {}", describe()));
        }
    }
}

fn describe(
    recording: &Recording,
    entry: &Entry,
    request: &Request,
    outcome: &Outcome,
    how: &str,
) -> String {
    let mut text = format!(
        "{} request {} ({}): {how}",
        recording.name, entry.id, entry.label
    );
    let _ = write!(
        text,
        "{} tokens, predicted {:?}, the engine reused {}, state {:?}",
        request.tokens.len(),
        outcome.predictions,
        request.cached_tokens,
        outcome.states
    );
    text
}
