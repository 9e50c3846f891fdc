//! The tokenizer's thread: takes prompts, lets equal ones share a call, and hands out what comes of it.
use super::key::Key;
use super::remote::{Made, Remote};
use super::{Ask, Failure, Job, Outcome, Room, Shared};
use crate::limits::TOKENIZER_ASKS_MAX;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::timeout_at;

#[derive(Debug)]
pub(super) struct Side {
    remote: Remote,
    /// Who waits for each prompt that is under way.
    flights: RefCell<HashMap<Key, Vec<Waiter>>>,
    /// All who wait.
    waiting: Cell<usize>,
}

/// Somebody who waits.
#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Outcome>,
    deadline: Instant,
    /// What their prompt takes.
    _room: Room,
}

/// Until told to stop, or nobody is left who could ask.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut jobs: mpsc::Receiver<Job>,
    mut stopped: oneshot::Receiver<()>,
) {
    let side = Rc::new(Side {
        remote: Remote::new(shared),
        flights: RefCell::default(),
        waiting: Cell::new(0),
    });
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => return,
            job = jobs.recv() => match job {
                Some(job) => side.take(job),
                None => return,
            },
        }
    }
}

impl Side {
    fn take(self: &Rc<Self>, job: Job) {
        if self.waiting.get() >= TOKENIZER_ASKS_MAX {
            // Whoever asked may have gone.
            let _ = job.answer.send(Err(Failure::Busy));
            return;
        }
        self.waiting.set(self.waiting.get() + 1);
        let Job {
            ask,
            deadline,
            answer,
            room,
        } = job;
        let waiter = Waiter {
            answer,
            deadline,
            _room: room,
        };
        if ask.is_afresh() {
            spawn_local(Rc::clone(self).alone(ask, deadline, waiter));
            return;
        }
        let mut flights = self.flights.borrow_mut();
        if let Some(waiters) = flights.get_mut(&ask.key()) {
            self.remote.shared.counts.add_shared();
            waiters.push(waiter);
            return;
        }
        flights.insert(ask.key(), vec![waiter]);
        spawn_local(Rc::clone(self).fly(ask, deadline));
    }

    /// For one who wants an engine's own answer.
    async fn alone(self: Rc<Self>, ask: Ask, deadline: Instant, waiter: Waiter) {
        let made = self.remote_tokens(&ask, deadline).await;
        self.hand_out(vec![waiter], &made.map(|made| made.tokens));
    }

    async fn fly(self: Rc<Self>, ask: Ask, deadline: Instant) {
        let cache = &self.remote.shared.cache;
        let generation = cache.generation();
        let mut since = Instant::now();
        let mut until = deadline;
        let mut made = self.remote_tokens(&ask, deadline).await;
        // Whoever came later has time left.
        while let Err(Failure::Timeout) = made
            && Instant::now() >= until
            && let Some(deadline) = self.give_up(&ask)
        {
            until = deadline;
            since = Instant::now();
            made = self.remote_tokens(&ask, deadline).await;
        }
        let insert = |made: &Made| {
            let life = made.by.life;
            // Not if they are another one meanwhile, of whom nothing was asked.
            if self.remote.goes_on(life) {
                cache.insert(ask.key(), Arc::clone(&made.tokens), life, generation, since);
            }
        };
        let known = made.as_ref().ok();
        let known = known.filter(|made| self.remote.version(&made.by).is_some());
        if let Some(made) = known {
            insert(made);
        }
        let is_in = known.is_some();
        let waiters = self.flights.borrow_mut().remove(&ask.key());
        let tokens = made.as_ref().map(|made| Arc::clone(&made.tokens));
        self.hand_out(waiters.unwrap_or_default(), &tokens.map_err(Clone::clone));
        if let Ok(made) = made
            && !is_in
            && self.remote.learn_version(&made.by).await.is_some()
        {
            insert(&made);
        }
    }

    /// Tells those who have no time left; the latest deadline of the others, if there are any.
    fn give_up(&self, ask: &Ask) -> Option<Instant> {
        let now = Instant::now();
        let mut flights = self.flights.borrow_mut();
        let waiters = flights.get_mut(&ask.key())?;
        let late: Vec<_> = waiters
            .extract_if(.., |waiter| waiter.deadline <= now)
            .collect();
        let left = waiters.iter().map(|waiter| waiter.deadline).max();
        self.hand_out(late, &Err(Failure::Timeout));
        left
    }

    async fn remote_tokens(&self, ask: &Ask, deadline: Instant) -> Result<Made, Failure> {
        let made = self.remote.tokens(ask, deadline);
        let made = timeout_at(deadline.into(), made).await;
        made.unwrap_or(Err(Failure::Timeout))
    }

    fn hand_out(&self, waiters: Vec<Waiter>, outcome: &Outcome) {
        self.waiting.set(self.waiting.get() - waiters.len());
        for waiter in waiters {
            // Whoever asked may have gone.
            let _ = waiter.answer.send(outcome.clone());
        }
    }
}
