//! One prompt's way to the engines: whom to ask, again, or beside another.
use super::answer;
use super::cache::{Life, Tokens};
use super::client::Client;
use super::endpoints::{Candidate, Endpoints, candidates};
use super::retry::Retries;
use super::{Ask, Failure, Shared};
use serde::Deserialize;
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

/// Tokens, and who has told them.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) tokens: Tokens,
    pub(super) by: Candidate,
}

/// What the tokenizer's thread asks engines with.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) shared: Arc<Shared>,
    client: Client,
    endpoints: RefCell<Endpoints>,
    permits: Semaphore,
}

/// The first version that says the extra keys of blocks: before it, blocks with images look like plain ones.
const SAYS_ITEMS: (u32, u32) = (0, 17);

impl Remote {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let permits = Semaphore::new(shared.config.concurrency);
        Self {
            client: Client::new(),
            endpoints: RefCell::default(),
            permits,
            shared,
        }
    }

    /// Asks until somebody has answered well, there is no time for another try, or there have been enough.
    pub(super) async fn tokens(&self, ask: &Ask, deadline: Instant) -> Result<Made, Failure> {
        let candidates = self.candidates(ask);
        let mut retries = Retries::new(self.shared.config.retries);
        let mut tried = Vec::new();
        let mut failed = None;
        loop {
            let failure = match self.hedged(ask, &candidates, &mut tried).await {
                Ok(made) => return self.checked(ask, made).await,
                // What went wrong before is why nobody is left.
                Err(Failure::BreakerOpen) => return Err(failed.unwrap_or(Failure::BreakerOpen)),
                Err(failure) if !failure.is_passing() => return Err(failure),
                Err(failure) => failure,
            };
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            let after = self.endpoints.borrow().pause(&candidates, now);
            let after = Some(after.unwrap_or(Duration::MAX));
            let Some(pause) = retries.next(after, left, fastrand::f64()) else {
                return Err(failure);
            };
            failed = Some(failure);
            self.shared.counts.add_retry();
            sleep(pause).await;
        }
    }

    fn candidates(&self, ask: &Ask) -> Vec<Candidate> {
        let view = self.shared.fleet.view();
        self.endpoints.borrow_mut().tidy(&view);
        match &self.shared.endpoint {
            Some(endpoint) => vec![Candidate {
                endpoint: Arc::clone(endpoint),
                life: None,
            }],
            None => candidates(&view, ask),
        }
    }

    /// Asks one, and, if that takes long, another one too; whoever answers well first.
    async fn hedged(
        &self,
        ask: &Ask,
        candidates: &[Candidate],
        tried: &mut Vec<Arc<str>>,
    ) -> Result<Made, Failure> {
        // It is closed never.
        let permit = self.permits.acquire().await.map_err(|_| Failure::Stopped)?;
        let first = self.choose(candidates, tried)?;
        let beaten = Cell::new(false);
        let mut first = pin!(self.call(ask, first, permit, &beaten));
        let Some(delay) = self.shared.config.hedge else {
            return first.await;
        };
        tokio::select! {
            biased;
            made = first.as_mut() => return made,
            () = sleep(delay) => {}
        }
        let others = candidates.iter().any(|c| !tried.contains(&c.endpoint));
        let permit = self.permits.try_acquire().ok().filter(|_| others);
        let second = permit.and_then(|permit| Some((self.choose(candidates, tried).ok()?, permit)));
        let Some((second, permit)) = second else {
            return first.await;
        };
        self.shared.counts.add_hedge();
        let in_time = Cell::new(false);
        let mut second = pin!(self.call(ask, second, permit, &in_time));
        tokio::select! {
            biased;
            made = first.as_mut() => match made {
                Ok(made) => Ok(made),
                Err(failure) => second.await.map_err(|_| failure),
            },
            made = second.as_mut() => match made {
                Ok(made) => {
                    // One that swallows everything would never be found out, as nobody waits for it to the end.
                    beaten.set(true);
                    Ok(made)
                }
                Err(_) => first.await,
            },
        }
    }

    fn choose<'c>(
        &self,
        candidates: &'c [Candidate],
        tried: &mut Vec<Arc<str>>,
    ) -> Result<&'c Candidate, Failure> {
        let mut endpoints = self.endpoints.borrow_mut();
        let chosen = endpoints.choose(candidates, tried, Instant::now())?;
        tried.push(Arc::clone(&chosen.endpoint));
        Ok(chosen)
    }

    /// One call, within its time.
    async fn call(
        &self,
        ask: &Ask,
        to: &Candidate,
        _permit: SemaphorePermit<'_>,
        beaten: &Cell<bool>,
    ) -> Result<Made, Failure> {
        let call = Call::begin(self, &to.endpoint, beaten);
        let exchange = self
            .client
            .post(&to.endpoint, "/tokenize", ask.body(), ask.passed());
        let (outcome, after) = match timeout(self.shared.config.timeout, exchange).await {
            Err(_) => (Err(Failure::Timeout), None),
            Ok(Err(failure)) => (Err(failure), None),
            Ok(Ok(reply)) if reply.status == 200 => (answer::tokens(&reply.body), None),
            Ok(Ok(reply)) => {
                let failure = answer::failure(reply.status, &reply.body);
                (Err(failure), reply.after)
            }
        };
        call.end(&outcome, after);
        outcome.map(|tokens| Made {
            tokens,
            by: to.clone(),
        })
    }

    /// Images and the like are known by what stands beside their placeholders in engines' events: an engine that does not
    /// say it would make one image look like another.
    async fn checked(&self, ask: &Ask, made: Made) -> Result<Made, Failure> {
        if !ask.wants_items() {
            return Ok(made);
        }
        let version = match self.version(&made.by) {
            Some(version) => Some(version),
            None => self.learn_version(&made.by).await,
        };
        // Not known now is no word about the prompt.
        let version = version.ok_or(Failure::Timeout)?;
        if number(&version) >= Some(SAYS_ITEMS) {
            return Ok(made);
        }
        Err(Failure::Unsupported(
            "the engine does not say which images its blocks hold",
        ))
    }

    /// The version that an endpoint has said lately.
    pub(super) fn version(&self, of: &Candidate) -> Option<Arc<str>> {
        self.endpoints.borrow().version(of, Instant::now())
    }

    /// Asks an endpoint for its version, unless it was asked a moment ago. One that does not know has an empty one.
    pub(super) async fn learn_version(&self, of: &Candidate) -> Option<Arc<str>> {
        if !self
            .endpoints
            .borrow_mut()
            .may_ask_version(of, Instant::now())
        {
            return None;
        }
        #[derive(Deserialize)]
        struct Said {
            version: String,
        }
        let asked = self.client.get(&of.endpoint, "/version");
        let reply = timeout(self.shared.config.timeout, asked)
            .await
            .ok()?
            .ok()?;
        if !matches!(reply.status, 200 | 404 | 405 | 501) {
            return None;
        }
        let said = serde_json::from_slice::<Said>(&reply.body).ok();
        let said = said.filter(|_| reply.status == 200);
        let version: Arc<str> = said.map_or("".into(), |said| said.version.into());
        let mut endpoints = self.endpoints.borrow_mut();
        if !endpoints.note_version(of, Arc::clone(&version), Instant::now()) {
            self.shared.cache.begin_generation();
        }
        Some(version)
    }

    /// Whether whoever has told something still is who they were.
    pub(super) fn goes_on(&self, life: Option<Life>) -> bool {
        let view = self.shared.fleet.view();
        life.is_none_or(|life| life.goes_on(&view))
    }
}

/// The first two numbers of a version.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit());
        part[..end.unwrap_or(part.len())].parse().ok()
    });
    Some((parts.next()??, parts.next()??))
}

/// A call under way. Dropped without an end, it has told nothing of its endpoint.
struct Call<'r> {
    remote: &'r Remote,
    endpoint: &'r Arc<str>,
    /// Another endpoint, which was asked later, has answered.
    beaten: &'r Cell<bool>,
    ended: bool,
}

impl<'r> Call<'r> {
    fn begin(remote: &'r Remote, endpoint: &'r Arc<str>, beaten: &'r Cell<bool>) -> Self {
        remote.endpoints.borrow_mut().begin(endpoint);
        remote.shared.counts.begin_call();
        Self {
            remote,
            endpoint,
            beaten,
            ended: false,
        }
    }

    fn end(mut self, outcome: &Result<Tokens, Failure>, after: Option<Duration>) {
        self.ended = true;
        let outcome = outcome
            .as_ref()
            .map(|_| ())
            .map_err(|failure| (failure, after));
        let mut endpoints = self.remote.endpoints.borrow_mut();
        endpoints.end(self.endpoint, Some(outcome), Instant::now());
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.remote.shared.counts.end_call();
        if !self.ended {
            let outcome = self.beaten.get().then_some(Err((&Failure::Timeout, None)));
            let mut endpoints = self.remote.endpoints.borrow_mut();
            endpoints.end(self.endpoint, outcome, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_by_hand() {
        for (version, expected) in [
            ("0.32.0", Some((0, 32))),
            ("0.17.0rc1", Some((0, 17))),
            ("0.9.1.dev7+g1a2b3c", Some((0, 9))),
            ("1.2", Some((1, 2))),
            ("1", None),
            ("dev", None),
            ("", None),
        ] {
            assert_eq!(number(version), expected, "{version}");
        }
        assert!(number("0.9.1") < Some(SAYS_ITEMS) && number("0.32.0") >= Some(SAYS_ITEMS));
        assert!(number("") < Some(SAYS_ITEMS));
    }
}
