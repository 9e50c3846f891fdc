//! Plays a recording against a running node: real publishers, real lookups.
//!
//! Each recorded publisher becomes a [`crate::fake::FakeEngine`] that the node subscribes to. A recorded message is
//! published frame by frame as it was, and the player goes on when the node says that it has applied it; a
//! recorded request is asked of the node, and what follows from the answer is compared with what the
//! recorded engine reused.
use super::engine::Engine;
use crate::client::{Client, ClientError};
use crate::limits::{APPLIED_POLL_TIME, APPLIED_TIME_MAX};
use crate::trace::judge::{Circumstances, Verdict, circumstances, predicted};
use crate::trace::{Entry, Message, Recording, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A recording on its way through a node.
#[derive(Debug)]
pub struct Player<'r> {
    recording: &'r Recording,
    circumstances: Vec<Circumstances>,
    client: Client,
    engines: Vec<Engine<'r>>,
}

/// One request, asked and compared.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Tokens that the engine should reuse: one number for each rank that may have served the request.
    pub predictions: Vec<u32>,
    /// What the comparison says.
    pub verdict: Verdict,
    /// The trust states of the workers asked for.
    pub states: Vec<String>,
    /// How long the lookup took over HTTP, as seen by the client.
    pub took: Duration,
}

/// Why a recording could not be played on.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// An engine's sockets cannot be had, or nobody subscribes to them in time.
    #[error("the engine of {pod}: {source}")]
    Engine {
        /// The pod.
        pod: String,
        /// What the system said.
        source: io::Error,
    },
    /// The node does not answer as it should.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A message names a publisher that the recording does not have.
    #[error("{0} publishes, but is not in the recording")]
    Publisher(String),
    /// The node did not apply a batch in time.
    #[error(
        "{pod}, rank {rank}: batch {number} is not applied after {APPLIED_TIME_MAX:?}; the node says {last:?}"
    )]
    Applied {
        /// The pod.
        pod: String,
        /// The rank.
        rank: u32,
        /// The batch's number.
        number: u64,
        /// The number that the node calls the last one.
        last: Option<u64>,
    },
}

/// What is read of an entry of `GET /v1/workers`.
#[derive(Debug, Deserialize)]
struct WorkerEntry {
    pod: String,
    rank: u32,
    last_sequence: Option<u64>,
}

/// What is read of the answer of `POST /v1/match`.
#[derive(Debug, Deserialize)]
struct Answer {
    candidates: Vec<Candidate>,
}

#[derive(Debug, Deserialize)]
struct Candidate {
    pod: String,
    rank: u32,
    block_size: Option<u32>,
    matched_tokens: u32,
    state: String,
}

impl<'r> Player<'r> {
    /// Starts an engine for every publisher of the recording, and registers them with the node, pods
    /// by their recorded names behind `prefix`.
    ///
    /// # Errors
    /// No sockets for an engine; a node that does not answer, refuses, or does not subscribe.
    pub fn start(
        recording: &'r Recording,
        node: SocketAddr,
        prefix: &str,
    ) -> Result<Self, PlayError> {
        Self::start_at(recording, node, prefix, None)
    }

    /// As [`Player::start`], with an endpoint that all pods have: where they would be asked and sent requests to.
    ///
    /// # Errors
    /// As there.
    pub fn start_at(
        recording: &'r Recording,
        node: SocketAddr,
        prefix: &str,
        endpoint: Option<&str>,
    ) -> Result<Self, PlayError> {
        let mut player = Self {
            recording,
            circumstances: circumstances(recording),
            client: Client::new(node),
            engines: Vec::new(),
        };
        let ranks = recording.messages.iter().any(|message| message.rank() > 0);
        let publishers = recording.publishers();
        for &publisher in &publishers {
            // Ranks of one server are one pod; its name is that of its first rank.
            let name = if ranks { publishers[0] } else { publisher };
            let pod = format!("{prefix}{name}");
            let failed = |source| PlayError::Engine {
                pod: pod.clone(),
                source,
            };
            let engine = Engine::start(recording, publisher, pod.clone()).map_err(failed)?;
            player.register(&engine, ranks, endpoint)?;
            engine.wait_for_subscriber().map_err(failed)?;
            player.engines.push(engine);
        }
        Ok(player)
    }

    fn register(
        &mut self,
        engine: &Engine<'_>,
        by_rank: bool,
        endpoint: Option<&str>,
    ) -> Result<(), PlayError> {
        let model = self.recording.base_model();
        let (pod, (events, replay)) = (&engine.pod, engine.endpoints());
        let _: Value = if by_rank {
            let body = json!({
                "instance_id": pod, "model_name": model, "endpoint": events, "dp_rank": engine.rank,
                "replay_endpoint": replay, "block_size": self.recording.block_size,
            });
            self.client.post("/register", &body)?
        } else {
            let body = json!({"pod": pod, "model": model, "events": events, "replay": replay,
                "endpoint": endpoint});
            self.client.post("/v1/workers", &body)?
        };
        Ok(())
    }

    /// Publishes a message, under `number` instead of its own if there is one, and waits until the node has
    /// applied it.
    ///
    /// # Errors
    /// A node that does not answer or does not apply the batch in time.
    pub fn publish(&mut self, message: &Message, number: Option<u64>) -> Result<(), PlayError> {
        let engine = self
            .engines
            .iter_mut()
            .find(|engine| engine.publisher == message.pod)
            .ok_or_else(|| PlayError::Publisher(message.pod.clone()))?;
        let mut message = message.clone();
        if let Some(number) = number {
            message.set_number(number);
        }
        let (pod, rank) = (engine.pod.clone(), engine.rank);
        engine
            .publish(&message)
            .map_err(|source| PlayError::Engine {
                pod: pod.clone(),
                source,
            })?;
        // A message without a number is not applied by anybody: there is nothing to wait for.
        let Some(number) = message.number() else {
            return Ok(());
        };
        let begun = Instant::now();
        loop {
            let entries: Vec<WorkerEntry> = self.client.get("/v1/workers")?;
            let mut entries = entries.into_iter();
            let entry = entries.find(|e| e.pod == pod && e.rank == rank);
            let last = entry.and_then(|entry| entry.last_sequence);
            if last == Some(number) {
                return Ok(());
            }
            if begun.elapsed() > APPLIED_TIME_MAX {
                return Err(PlayError::Applied {
                    pod,
                    rank,
                    number,
                    last,
                });
            }
            std::thread::sleep(APPLIED_POLL_TIME);
        }
    }

    /// Asks the node for the request of the entry at `at`, and compares.
    ///
    /// # Errors
    /// A node that does not answer.
    pub fn ask(
        &mut self,
        at: usize,
        entry: &Entry,
        request: &Request,
    ) -> Result<Outcome, PlayError> {
        let base = self.recording.base_model();
        let adapter = (request.model != base).then_some(request.model.as_str());
        self.ask_as(at, entry, request, base, adapter)
    }

    /// As [`Player::ask`], with the model and the adapter named as the caller wants it.
    ///
    /// # Errors
    /// A node that does not answer.
    pub fn ask_as(
        &mut self,
        at: usize,
        entry: &Entry,
        request: &Request,
        model: &str,
        adapter: Option<&str>,
    ) -> Result<Outcome, PlayError> {
        let mut body = json!({
            "model": model, "lora": adapter, "token_ids": request.tokens,
            "cache_salt": request.cache_salt,
        });
        let block_size = self.recording.block_size.unwrap_or(0);
        if let Some(keys) = request.extra_keys(block_size as usize) {
            body["extra_keys"] = Value::Array(keys);
        }
        self.ask_with(at, entry, request, body)
    }

    /// As [`Player::ask`], with a body of the caller's, to which the candidates are added.
    ///
    /// # Errors
    /// A node that does not answer.
    pub fn ask_with(
        &mut self,
        at: usize,
        entry: &Entry,
        request: &Request,
        mut body: Value,
    ) -> Result<Outcome, PlayError> {
        let circumstances = self.circumstances.get(at).cloned().unwrap_or_default();
        let block_size = self.recording.block_size.unwrap_or(0);
        let pods = self.pods_of(entry);
        body["candidates"] = json!(pods);
        let begun = Instant::now();
        let answer: Answer = self.client.post("/v1/match", &body)?;
        let took = begun.elapsed();
        let asked = |candidate: &Candidate| {
            pods.contains(&candidate.pod)
                && circumstances.rank.is_none_or(|rank| rank == candidate.rank)
        };
        let candidates: Vec<_> = answer.candidates.into_iter().filter(asked).collect();
        let mut predictions: Vec<u32> = candidates
            .iter()
            .map(|candidate| {
                let size = candidate.block_size.unwrap_or(block_size);
                predicted(candidate.matched_tokens, request.tokens.len(), size)
            })
            .collect();
        if predictions.is_empty() {
            predictions.push(0);
        }
        let verdict = circumstances.verdict(&predictions, request.cached_tokens);
        let states = candidates
            .into_iter()
            .map(|candidate| candidate.state)
            .collect();
        Ok(Outcome {
            predictions,
            verdict,
            states,
            took,
        })
    }

    /// The names under which the node knows the pod that a request was sent to.
    fn pods_of(&self, entry: &Entry) -> Vec<String> {
        let of = |publisher: &str| entry.pod.as_deref() == Some(publisher);
        // Requests go to a server; its ranks publish under names of their own.
        let served = |engine: &&Engine<'_>| {
            self.engines
                .iter()
                .any(|other| other.pod == engine.pod && of(other.publisher))
        };
        let mut pods: Vec<_> = self
            .engines
            .iter()
            .filter(served)
            .map(|e| e.pod.clone())
            .collect();
        pods.dedup();
        pods
    }
}
