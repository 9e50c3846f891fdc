//! What all watches share: what they found, what is wrong with them, and telling the fleet of both.
use super::book::{Book, Noted, TooMany};
use super::object::Pod;
use super::pods::{Reading, read};
use crate::config::KubernetesConfig;
use crate::fleet::{Described, Fleet, Source};
use crate::limits::TELL_PAUSE;
use crate::quiet::Throttle;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::time::sleep;

/// One, for all watches. They run on one thread, so nothing here waits for anybody.
#[derive(Debug)]
pub(super) struct Follower<'f> {
    fleet: &'f Arc<Fleet>,
    config: &'f KubernetesConfig,
    book: RefCell<Book>,
    /// What is wrong with each watch.
    problems: RefCell<Vec<Option<String>>>,
    /// Whether the fleet was told of all: before that, nothing is known to be complete.
    told: Cell<bool>,
    changed: Notify,
}

impl<'f> Follower<'f> {
    /// Of so many watches.
    pub(super) fn new(fleet: &'f Arc<Fleet>, config: &'f KubernetesConfig, watches: usize) -> Self {
        Self {
            fleet,
            config,
            book: RefCell::new(Book::new(watches, config.not_ready)),
            problems: RefCell::new(vec![None; watches]),
            told: Cell::new(false),
            changed: Notify::new(),
        }
    }

    /// What a pod is to the fleet.
    pub(super) fn read(&self, pod: &Pod) -> Reading {
        read(pod, self.config.preset)
    }

    /// All pods that a watch finds.
    pub(super) fn listed(&self, at: usize, pods: BTreeMap<String, Reading>) -> Result<(), TooMany> {
        let noted = self.book.borrow_mut().list(at, pods)?;
        self.take(noted);
        Ok(())
    }

    /// A pod has come, or is another than it was.
    pub(super) fn set(&self, at: usize, pod: &Pod) -> Result<(), TooMany> {
        let reading = self.read(pod);
        let noted = self.book.borrow_mut().set(at, pod.full_name(), reading)?;
        self.take(noted);
        Ok(())
    }

    /// A pod is gone.
    pub(super) fn forget(&self, at: usize, pod: &Pod) {
        let noted = self.book.borrow_mut().forget(at, &pod.full_name());
        self.take(noted);
    }

    /// A watch is heard.
    pub(super) fn heard(&self, at: usize) {
        let mut problems = self.problems.borrow_mut();
        if let Some(problem) = problems.get_mut(at)
            && problem.take().is_some()
        {
            tracing::info!(watch = at, "Kubernetes is heard again");
        }
        if !self.told.get() {
            return;
        }
        match problems.iter().flatten().next() {
            None => self.fleet.sources().recovered(Source::Kubernetes),
            Some(other) => self.fleet.sources().fails_still(Source::Kubernetes, other),
        }
    }

    /// A watch cannot be heard: what it found last holds.
    pub(super) fn failed(&self, at: usize, problem: String) {
        static LINES: Throttle = Throttle::new();
        if let Some(kept) = LINES.pass() {
            tracing::warn!(kept, "Kubernetes: {problem}");
        }
        self.fleet.sources().failed(Source::Kubernetes, &problem);
        if let Some(known) = self.problems.borrow_mut().get_mut(at) {
            *known = Some(problem);
        }
        if !self.told.get() {
            // The others need not wait for this one.
            self.changed.notify_one();
        }
    }

    /// Tells the fleet of changes, some at a time, until it is dropped.
    pub(super) async fn tell(&self) -> Infallible {
        loop {
            self.changed.notified().await;
            let begun = Instant::now();
            self.tell_once();
            // At most a tenth of the time goes to it, however many pods there are.
            sleep(TELL_PAUSE.max(begun.elapsed() * 9)).await;
        }
    }

    fn tell_once(&self) {
        let unlisted: Vec<_> = self.book.borrow().unlisted().collect();
        let (described, refused) = self.book.borrow().told();
        if !unlisted.is_empty() {
            return self.tell_in_part(described, &unlisted);
        }
        let (pods, bad) = (described.len(), refused.len());
        self.fleet.follow(Source::Kubernetes, described, refused);
        if !self.told.replace(true) {
            tracing::info!(pods, refused = bad, "pods of Kubernetes are known");
        }
        // A watch that fails does so although another one had something to tell.
        if let Some(problem) = self.problems.borrow().iter().flatten().next() {
            self.fleet
                .sources()
                .fails_still(Source::Kubernetes, problem);
        }
    }

    /// Tells what some watches know, unless the others may know theirs any moment.
    fn tell_in_part(&self, described: Vec<Described>, unlisted: &[usize]) {
        let problems = self.problems.borrow();
        if unlisted.len() == problems.len() {
            return;
        }
        let problem = |at: &usize| problems.get(*at)?.as_deref();
        let why: Option<Vec<_>> = unlisted.iter().map(problem).collect();
        if let Some(first) = why.as_deref().and_then(<[_]>::first) {
            let fleet = self.fleet;
            fleet.follow_in_part(Source::Kubernetes, described, first);
        }
    }

    fn take(&self, noted: Noted) {
        for (pod, uid) in noted.restarted {
            self.restarted(&pod, uid.as_deref());
        }
        if noted.changed {
            self.changed.notify_one();
        }
    }

    /// A container of a pod was started anew: what the engine held before is gone, if it was the engine's.
    fn restarted(&self, pod: &str, uid: Option<&str>) {
        tracing::debug!(pod, "a container was started anew");
        let view = self.fleet.view();
        let known = view.pod(pod).iter();
        let same = known.filter(|info| info.pod().uid.as_deref().is_none_or(|it| Some(it) == uid));
        same.for_each(|info| self.fleet.restarted(info.id()));
    }
}
