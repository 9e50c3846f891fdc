//! The threads that tokenize locally, and the one that compares with the engines.
//!
//! A prompt that an HTTP thread wants goes through a bounded queue; when that is full the engine is asked. Answers to be
//! compared go through another one to a thread that waits for the engine's, and which also looks after the probes: nothing waits for it.
use super::model::{Model, Models};
use super::standing::Verdict;
use super::{OpenError, probes};
use crate::limits::{
    LOCAL_COMPARISONS_MAX, LOCAL_LOOK_TIME, LOCAL_QUEUE_MAX, LOCAL_STACK_BYTES, LOCAL_THREADS,
};
use crate::tokenize::cache::Life;
use crate::tokenize::endpoints::candidates;
use crate::tokenize::{Ask, Asker, Failure, Outcome, Room, Shared, Tokenizer, Tokens, Wanted};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

/// The way to the threads.
#[derive(Debug)]
pub(in crate::tokenize) struct Locals {
    models: Models,
    work: Sender<Work>,
    compare: Sender<Comparison>,
    /// Until the threads take them.
    ends: (Receiver<Work>, Receiver<Comparison>),
}

/// A prompt to be tokenized.
#[derive(Debug)]
struct Work {
    model: Arc<Model>,
    ask: Ask,
    answer: oneshot::Sender<Option<Tokens>>,
    room: Room,
}

/// An answer to be compared.
#[derive(Debug)]
struct Comparison {
    model: Arc<Model>,
    ask: Ask,
    shape: u64,
    tokens: Tokens,
    _room: Room,
}

/// The running threads; they end when this is dropped.
#[derive(Debug)]
pub(in crate::tokenize) struct Crew {
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Locals {
    /// Reads the folders, by model. The threads are started apart. O(bytes).
    pub(in crate::tokenize) fn open(
        folders: &[(String, PathBuf)],
    ) -> Result<Self, (String, OpenError)> {
        let (work, works) = bounded(LOCAL_QUEUE_MAX);
        let (compare, comparisons) = bounded(LOCAL_COMPARISONS_MAX);
        Ok(Self {
            models: Models::open(folders)?,
            work,
            compare,
            ends: (works, comparisons),
        })
    }

    pub(in crate::tokenize) fn models(&self) -> &Models {
        &self.models
    }

    /// The tokens of a prompt, if they can be known here. None costs nothing but the question, if there is no tokenizer for the model, or it may
    /// not answer.
    pub(in crate::tokenize) async fn tokens(
        &self,
        shared: &Arc<Shared>,
        ask: &Ask,
        deadline: Instant,
    ) -> Option<Tokens> {
        let model = self.models.get(ask.model())?;
        let plain = ask.lora().is_none() && !ask.is_afresh() && !ask.wants_items();
        if !plain || !model.may_answer() {
            return None;
        }
        let room = Room::take(shared, ask.body().len())?;
        let (answer, answered) = oneshot::channel();
        let work = Work {
            model: Arc::clone(model),
            ask: ask.clone(),
            answer,
            room,
        };
        if self.work.try_send(work).is_err() {
            model.counts.add_busy();
            return None;
        }
        // Half of what is left is for the engine.
        let now = Instant::now();
        let until = now + deadline.saturating_duration_since(now) / 2;
        timeout_at(until.into(), answered).await.ok()?.ok()?
    }

    /// Tokenizes one prompt.
    fn tokenize(&self, work: Work) {
        let Work {
            model,
            ask,
            answer,
            room,
        } = work;
        // Nobody waits for it any more.
        if answer.is_closed() {
            return;
        }
        let (tokens, shape) = match model.local.answer(ask.body()) {
            Ok((tokens, shape)) => (Tokens::from(tokens), shape),
            Err(why) => {
                model.counts.add_not_understood(why);
                let _ = answer.send(None);
                return;
            }
        };
        // It may have been turned off meanwhile.
        let answers = model.standing().answers(shape);
        if answers == Some(true) {
            let comparison = Comparison {
                model: Arc::clone(&model),
                ask,
                shape,
                tokens: Arc::clone(&tokens),
                _room: room,
            };
            if self.compare.try_send(comparison).is_err() {
                model.counts.add_skipped();
                model.standing().forget(shape);
            }
        }
        if answers.is_some() {
            model.counts.add_answered();
        }
        // Whoever asked may have gone.
        let _ = answer.send(answers.map(|_| tokens));
    }
}

impl Crew {
    /// Starts the threads; none if there are no models. Fails if the system gives none.
    pub(in crate::tokenize) fn start(tokenizer: &Tokenizer) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let mut crew = Self {
            stop: Some(stop),
            threads: Vec::new(),
        };
        if tokenizer.shared.locals.models.is_empty() {
            return Ok(crew);
        }
        for n in 0..LOCAL_THREADS {
            let (shared, stopped) = (Arc::clone(&tokenizer.shared), stopped.clone());
            crew.spawn(format!("kvroute-local-{n}"), move || {
                work(&shared, &stopped)
            })?;
        }
        let tokenizer = tokenizer.clone();
        crew.spawn("kvroute-local-check".into(), move || {
            watch(&tokenizer, &stopped)
        })?;
        Ok(crew)
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(name);
        self.threads
            .push(thread.stack_size(LOCAL_STACK_BYTES).spawn(run)?);
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of local tokenizers has panicked");
            }
        }
    }
}

fn work(shared: &Arc<Shared>, stopped: &Receiver<()>) {
    let locals = &shared.locals;
    loop {
        select! {
            recv(stopped) -> _ => return,
            recv(locals.ends.0) -> work => match work {
                Ok(work) => locals.tokenize(work),
                Err(_) => return,
            },
        }
    }
}

fn watch(tokenizer: &Tokenizer, stopped: &Receiver<()>) {
    let locals = &tokenizer.shared.locals;
    let mut looked: Option<Instant> = None;
    loop {
        if looked.is_none_or(|at| at.elapsed() >= LOCAL_LOOK_TIME) {
            for model in locals.models.all() {
                look(tokenizer, model, stopped);
            }
            looked = Some(Instant::now());
        }
        select! {
            recv(stopped) -> _ => return,
            recv(locals.ends.1) -> comparison => match comparison {
                Ok(comparison) => compare(tokenizer, &comparison),
                Err(_) => return,
            },
            default(LOCAL_LOOK_TIME) => {}
        }
    }
}

/// Takes note of the model's engines, and probes if they are to be compared with.
fn look(tokenizer: &Tokenizer, model: &Model, stopped: &Receiver<()>) {
    let Some(probe) = ask_of(&model.name, r#"{"prompt":""}"#) else {
        return;
    };
    let lives = lives(tokenizer, &probe);
    let due = model.standing().see(&lives, Instant::now());
    if !due {
        return;
    }
    let verdict = probe_all(tokenizer, model, stopped);
    // Another engine may have come, or taken this one's place.
    let verdict = match self::lives(tokenizer, &probe) == lives {
        true => verdict,
        false => Verdict::Unknown,
    };
    if !model.standing().verified(&lives, verdict, Instant::now()) {
        return;
    }
    match verdict {
        Verdict::Different(at) => model.tell_off(at, "a probe"),
        _ => {
            let chat = model.local.chat();
            let chats = chat.map_or_else(
                || "understood".to_owned(),
                |why| format!("not understood: {why}"),
            );
            tracing::info!(model = %model.name, %chats, "the local tokenizer agrees with the engine and answers");
        }
    }
}

/// Asks both for all probes, until they differ or the engine fails.
fn probe_all(tokenizer: &Tokenizer, model: &Model, stopped: &Receiver<()>) -> Verdict {
    let mut equal = false;
    for body in probes::probes(&model.name, model.local.special()) {
        if stopped
            .try_recv()
            .is_err_and(|error| error.is_disconnected())
        {
            return Verdict::Unknown;
        }
        let Some(ask) = ask_of(&model.name, &body) else {
            continue;
        };
        let Ok((ours, _)) = model.local.answer(ask.body()) else {
            continue;
        };
        match engine(tokenizer, ask) {
            Ok(engines) => match Verdict::of(&ours, &engines) {
                Verdict::Equal => equal = true,
                different => return model.counted(different),
            },
            // What the engine does not take says nothing.
            Err(Failure::Refused(_)) => {}
            Err(failure) => {
                tracing::debug!(model = %model.name, %failure, "the local tokenizer cannot be verified yet");
                return model.counted(Verdict::Unknown);
            }
        }
    }
    model.counted(if equal {
        Verdict::Equal
    } else {
        Verdict::Unknown
    })
}

fn compare(tokenizer: &Tokenizer, comparison: &Comparison) {
    let Comparison {
        model,
        ask,
        shape,
        tokens,
        ..
    } = comparison;
    let lives = lives(tokenizer, ask);
    let verdict = match engine(tokenizer, ask.clone()) {
        Ok(engines) => Verdict::of(tokens, &engines),
        Err(_) => Verdict::Unknown,
    };
    model.counted(verdict);
    if verdict == Verdict::Unknown {
        model.standing().forget(*shape);
    }
    if model.standing().compared(&lives, verdict)
        && let Verdict::Different(at) = verdict
    {
        model.tell_off(at, "an answer");
    }
}

fn ask_of(model: &str, body: &str) -> Option<Ask> {
    let asker = Asker {
        model,
        lora: None,
        items_known: true,
    };
    Ask::read(body.as_bytes(), Wanted::Either, &asker).ok()?
}

/// The engines that may be asked; what is asked in their place is one that never changes.
fn lives(tokenizer: &Tokenizer, ask: &Ask) -> Vec<Option<Life>> {
    let shared = &tokenizer.shared;
    if shared.endpoint.is_some() {
        return vec![None];
    }
    let candidates = candidates(&shared.fleet.view(), ask);
    candidates
        .into_iter()
        .map(|candidate| candidate.life)
        .collect()
}

/// What an engine says.
fn engine(tokenizer: &Tokenizer, ask: Ask) -> Outcome {
    let deadline = Instant::now() + tokenizer.shared.config.deadline;
    let answered = tokenizer.send(ask.afresh(), deadline)?;
    answered.blocking_recv().unwrap_or(Err(Failure::Stopped))
}
