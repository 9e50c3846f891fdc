//! One watch: lists the pods of a namespace (or of all), follows what changes, and lists again when something may have been
//! missed. Every step has an end in time.
use super::book::TooMany;
use super::follower::Follower;
use super::object::Pod;
use super::problem::{Verb, of_status, say};
use crate::limits::{
    LIST_PAGE, SERVER_ANSWER_TIME, SERVER_RETRY_MAX, SERVER_RETRY_MIN, SERVER_RETRY_RESET,
    WATCH_FAILURES_MAX, WATCH_GRACE, WATCH_TIME, WATCH_TIME_MIN,
};
use futures_util::TryStreamExt;
use kube::api::{ListParams, Request, WatchEvent, WatchParams};
use kube::core::{ListMeta, Status};
use kube::{Client, Error};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Where pods are asked for, and which.
#[derive(Debug)]
pub(super) struct Where {
    /// Its number among all watches.
    pub(super) at: usize,
    /// `None` for all.
    pub(super) namespace: Option<String>,
    /// The labels that pods have.
    pub(super) selector: String,
}

/// A watch.
pub(super) struct Watch<'w> {
    client: &'w Client,
    follower: &'w Follower<'w>,
    place: &'w Where,
    retry: Retry,
}

/// One page of a list.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    metadata: ListMeta,
    items: Option<Vec<Pod>>,
}

/// How a watch has ended.
#[derive(Debug)]
enum End {
    /// Nothing was missed: it goes on from the version that was seen last.
    Whole,
    /// The server does not answer, or not as it should; nothing is known to be missed.
    Failed(String),
    /// Something may have been missed: all pods are to be listed again.
    Missed(String),
    /// The same, as it happens where nothing is wrong: the server has forgotten what came after that version.
    Gone(String),
}

impl<'w> Watch<'w> {
    /// Begins with nothing.
    pub(super) fn new(client: &'w Client, follower: &'w Follower<'w>, place: &'w Where) -> Self {
        Self {
            client,
            follower,
            place,
            retry: Retry::default(),
        }
    }

    /// Follows the pods until it is dropped.
    pub(super) async fn run(mut self) -> Infallible {
        loop {
            match self.list().await {
                Ok(version) => self.follow(version).await,
                Err(problem) => self.failed(problem).await,
            }
        }
    }

    /// Follows what changes after a list, until something may have been missed.
    async fn follow(&mut self, mut version: String) {
        let mut failures = 0;
        loop {
            match self.watch(&mut version).await {
                End::Whole => failures = 0,
                // As if by a server that never had that version: it was set back, or is another one.
                End::Failed(problem) if failures == WATCH_FAILURES_MAX => {
                    return self.failed(problem).await;
                }
                End::Failed(problem) => {
                    failures += 1;
                    self.failed(problem).await;
                }
                End::Missed(problem) => return self.failed(problem).await,
                End::Gone(problem) if self.retry.is_first(Instant::now()) => {
                    tracing::debug!("Kubernetes: {problem}");
                    return sleep(self.retry.pause(Instant::now())).await;
                }
                // As if by a server that never remembers anything.
                End::Gone(problem) => return self.failed(problem).await,
            }
        }
    }

    async fn failed(&mut self, problem: String) {
        self.follower.failed(self.place.at, problem);
        sleep(self.retry.pause(Instant::now())).await;
    }

    /// All pods, and the version that they are of.
    async fn list(&self) -> Result<String, String> {
        let mut pods = BTreeMap::new();
        let mut next = None;
        loop {
            let page = self.page(next).await?;
            for pod in page.items.iter().flatten() {
                pods.insert(pod.full_name(), self.follower.read(pod));
            }
            let metadata = page.metadata;
            next = metadata.continue_.filter(|token| !token.is_empty());
            if next.is_none() {
                let version = metadata.resource_version.filter(|it| !it.is_empty());
                let version = version.ok_or_else(|| self.no_version(Verb::List))?;
                let listed = self.follower.listed(self.place.at, pods);
                listed.map_err(|error| self.too_many(&error))?;
                self.follower.heard(self.place.at);
                return Ok(version);
            }
        }
    }

    /// One page of a list that begins anew, or goes on where a token says.
    async fn page(&self, token: Option<String>) -> Result<Page, String> {
        let mut params = ListParams::default()
            .labels(&self.place.selector)
            .limit(LIST_PAGE);
        params.continue_token = token;
        let request = self.request().list(&params);
        let request = request.map_err(|error| error.to_string())?;
        match timeout(SERVER_ANSWER_TIME, self.client.request(request)).await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(error)) => Err(say(&error, Verb::List, &self.name())),
            Err(_) => Err(self.silent(Verb::List)),
        }
    }

    /// What happens after `version`, which moves with it.
    async fn watch(&mut self, version: &mut String) -> End {
        let begun = Instant::now();
        let lasts = WATCH_TIME.mul_f64(1.0 + fastrand::f64());
        let seconds = u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX);
        let params = WatchParams::default()
            .labels(&self.place.selector)
            .timeout(seconds);
        let request = match self.request().watch(&params, version) {
            Ok(request) => request,
            Err(error) => return End::Failed(error.to_string()),
        };
        let asked = timeout(
            SERVER_ANSWER_TIME,
            self.client.request_events::<Pod>(request),
        );
        let events = match asked.await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return self.broken(&error),
            Err(_) => return End::Failed(self.silent(Verb::Watch)),
        };
        self.follower.heard(self.place.at);
        let mut events = pin!(events);
        let mut any = false;
        loop {
            let left = (lasts + WATCH_GRACE).saturating_sub(begun.elapsed());
            match timeout(left, events.try_next()).await {
                Ok(Ok(Some(event))) => match self.apply(event, version) {
                    Ok(()) => any = true,
                    Err(end) => return end,
                },
                Ok(Err(error)) => return self.broken(&error),
                Ok(Ok(None)) if !any && begun.elapsed() < WATCH_TIME_MIN => {
                    let name = self.name();
                    return End::Failed(format!(
                        "watch pods in {name}: the server ends it at once"
                    ));
                }
                Ok(Ok(None)) => return End::Whole,
                // The server should have ended it: it is gone, or was about to.
                Err(_) => return End::Whole,
            }
        }
    }

    /// Takes one event over.
    fn apply(&mut self, event: WatchEvent<Pod>, version: &mut String) -> Result<(), End> {
        let at = self.place.at;
        let seen = match &event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) | WatchEvent::Deleted(pod) => {
                pod.metadata.resource_version.clone()
            }
            WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version.clone()),
            WatchEvent::Error(status) => return Err(self.told(status)),
        };
        let seen = seen.filter(|it| !it.is_empty());
        *version = seen.ok_or_else(|| End::Missed(self.no_version(Verb::Watch)))?;
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                let set = self.follower.set(at, &pod);
                set.map_err(|error| End::Missed(self.too_many(&error)))?;
            }
            WatchEvent::Deleted(pod) => self.follower.forget(at, &pod),
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => self.follower.heard(at),
        }
        Ok(())
    }

    /// A watch that is refused or breaks.
    fn broken(&self, error: &Error) -> End {
        match error {
            Error::Api(status) => self.told(status),
            // An event that cannot be read is one that is missed.
            Error::SerdeError(_) | Error::ReadEvents(_) => {
                End::Missed(say(error, Verb::Watch, &self.name()))
            }
            other => End::Failed(say(other, Verb::Watch, &self.name())),
        }
    }

    /// What the server says instead of events.
    fn told(&self, status: &Status) -> End {
        let text = of_status(status, Verb::Watch, &self.name());
        if status.code == 410 || ["Expired", "Gone"].contains(&status.reason.as_str()) {
            End::Gone(text)
        } else {
            End::Failed(text)
        }
    }

    fn request(&self) -> Request {
        Request::new(match &self.place.namespace {
            Some(namespace) => format!("/api/v1/namespaces/{namespace}/pods"),
            None => "/api/v1/pods".to_owned(),
        })
    }

    /// The place in errors.
    fn name(&self) -> String {
        match &self.place.namespace {
            Some(namespace) => format!("namespace {namespace}"),
            None => "all namespaces".to_owned(),
        }
    }

    fn silent(&self, verb: Verb) -> String {
        let seconds = SERVER_ANSWER_TIME.as_secs();
        let doing = verb.as_str();
        format!(
            "{doing} pods in {}: no answer within {seconds} s",
            self.name()
        )
    }

    fn no_version(&self, verb: Verb) -> String {
        let doing = verb.as_str();
        format!(
            "{doing} pods in {}: no resourceVersion in the answer; is this the API server of Kubernetes?",
            self.name()
        )
    }

    fn too_many(&self, error: &TooMany) -> String {
        format!("list pods in {}: {error}", self.name())
    }
}

/// Pauses between attempts: twice as long after each failure, and by chance, so that nodes do not come back together.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    last: Option<Instant>,
}

impl Retry {
    /// Whether nothing has failed lately.
    fn is_first(&self, now: Instant) -> bool {
        let recent = |last: Instant| now.saturating_duration_since(last) < SERVER_RETRY_RESET;
        !self.last.is_some_and(recent)
    }

    fn pause(&mut self, now: Instant) -> Duration {
        if self.is_first(now) {
            self.failures = 0;
        }
        let most = SERVER_RETRY_MIN.saturating_mul(1 << self.failures.min(16));
        let pause = most
            .min(SERVER_RETRY_MAX)
            .mul_f64(0.5 + fastrand::f64() / 2.0);
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now + pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_again_after_a_quiet_time() {
        let mut now = Instant::now();
        let mut retry = Retry::default();
        assert!(retry.is_first(now));
        let most = [
            200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000,
        ];
        for most in most.map(Duration::from_millis) {
            let pause = retry.pause(now);
            assert!(most / 2 <= pause && pause <= most, "{pause:?} of {most:?}");
            now += pause;
            assert!(!retry.is_first(now));
        }
        now += SERVER_RETRY_RESET;
        assert!(retry.is_first(now));
        assert!(retry.pause(now) <= Duration::from_millis(200));
    }
}
