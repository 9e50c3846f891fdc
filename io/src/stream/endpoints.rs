//! Where one worker's engine is, by addresses that libzmq need not resolve.
use super::pinned::Context;
use super::resolve::{Answered, has_name};
use crate::limits::{BACKOFF_MAX, BACKOFF_MIN, RESOLVE_AGAIN_TIME};
use kvroute_engine::types::WorkerId;
use std::time::{Duration, Instant};

/// The endpoints of one worker. Those without names are known from the beginning.
#[derive(Debug)]
pub(super) struct Endpoints {
    /// As they were given, if they have names.
    named: Option<Vec<String>>,
    /// What to connect to; empty while it is not known.
    pub(super) events: String,
    /// Where to ask for replays; empty if there are none, or it is not known.
    pub(super) replay: String,
    /// The ticket of the question that is on its way.
    asked: Option<u64>,
    /// Which of a name's addresses is taken: the next one each time that it did not come to a connection.
    tries: usize,
    /// The one that was taken last.
    taken: usize,
    /// When to ask again.
    again_at: Option<Instant>,
    pause: Duration,
}

impl Endpoints {
    pub(super) fn new(events: String, replay: Option<String>) -> Self {
        let given: Vec<String> = [events].into_iter().chain(replay).collect();
        let named = given.iter().any(|endpoint| has_name(endpoint));
        let mut this = Self {
            named: named.then(|| given.clone()),
            events: String::new(),
            replay: String::new(),
            asked: None,
            tries: 0,
            taken: 0,
            again_at: None,
            pause: BACKOFF_MIN,
        };
        if !named {
            this.set(given.into_iter());
        }
        this
    }

    pub(super) fn are_known(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether it is time to ask for the addresses again.
    pub(super) fn are_old(&self, now: Instant) -> bool {
        self.asked.is_none() && self.again_at.is_some_and(|at| at <= now)
    }

    /// Has the names resolved, unless that was asked for already or is to wait.
    pub(super) fn ask(&mut self, worker: WorkerId, context: &Context<'_>) {
        if self.asked.is_some() || self.again_at.is_some_and(|at| at > context.now) {
            return;
        }
        let Some(named) = &self.named else {
            return;
        };
        self.asked = context.resolver.ask(named.clone(), worker, context.inbox);
        self.again_at = match self.asked {
            Some(_) => None,
            None => Some(context.now + BACKOFF_MAX),
        };
    }

    /// The answer came; whether there is something new in it.
    pub(super) fn resolved(
        &mut self,
        answer: Answered,
        connected: bool,
        now: Instant,
    ) -> Result<bool, String> {
        let (ticket, resolved) = answer;
        if self.asked != Some(ticket) {
            return Ok(false);
        }
        self.asked = None;
        if connected {
            // It came too late: what it is connected to is better than what a name stands for.
            return Ok(false);
        }
        let before = (self.events.clone(), self.replay.clone());
        match resolved {
            Ok(all) => {
                let tries = self.tries;
                let one = |mut of: Vec<String>| of.swap_remove(tries % of.len().max(1));
                self.set(all.into_iter().filter(|of| !of.is_empty()).map(one));
                self.taken = tries;
                self.tries = tries.wrapping_add(1);
                self.pause = BACKOFF_MIN;
                // Until it is connected: what a name stands for may change before that.
                self.again_at = Some(now + RESOLVE_AGAIN_TIME);
                Ok(before != (self.events.clone(), self.replay.clone()))
            }
            Err(error) => {
                self.again_at = Some(now + self.pause);
                self.pause = (self.pause * 2).min(BACKOFF_MAX);
                Err(error)
            }
        }
    }

    pub(super) fn connected(&mut self) {
        // The address that it is connected to comes first again.
        self.tries = self.taken;
        self.again_at = None;
    }

    pub(super) fn disconnected(&mut self, now: Instant) {
        if self.named.is_some() && self.asked.is_none() {
            self.again_at = Some(now + RESOLVE_AGAIN_TIME);
        }
    }

    /// When it is time to ask again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.again_at
    }

    fn set(&mut self, mut all: impl Iterator<Item = String>) {
        self.events = all.next().unwrap_or_default();
        self.replay = all.next().unwrap_or_default();
    }
}
