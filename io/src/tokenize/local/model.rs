//! The models that have a tokenizer in this process: where each stands, and what it has done.
use super::standing::{Standing, State, Verdict};
use super::{Local, NotUnderstood, OpenError};
use crate::tokenize::cache::Life;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One model.
#[derive(Debug)]
pub struct Model {
    pub(super) name: Box<str>,
    pub(super) local: Local,
    standing: Mutex<Standing<Option<Life>>>,
    pub(super) counts: Counts,
}

/// All of them.
#[derive(Debug)]
pub struct Models(Vec<Arc<Model>>);

/// What a model's tokenizer was asked for. Each is only a number, so Relaxed.
#[derive(Debug, Default)]
pub(super) struct Counts {
    answered: AtomicU64,
    busy: AtomicU64,
    not_understood: [AtomicU64; NotUnderstood::ALL.len()],
    /// As [`Model::COMPARISONS`].
    comparisons: [AtomicU64; 4],
}

impl Models {
    /// Reads the folders.
    pub(super) fn open(folders: &[(String, PathBuf)]) -> Result<Self, (String, OpenError)> {
        let models = folders.iter().map(|(name, folder)| {
            let local = Local::open(folder).map_err(|error| (name.clone(), error))?;
            if let Some(why) = local.chat() {
                tracing::warn!(model = %name, %why, "the chat template is not understood: engines are asked for chats");
            }
            Ok(Arc::new(Model {
                name: name.as_str().into(),
                local,
                standing: Mutex::new(Standing::new()),
                counts: Counts::default(),
            }))
        });
        models.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Model>> {
        self.0.iter().find(|model| *model.name == *name)
    }

    /// In the order in which they are configured.
    pub fn all(&self) -> impl Iterator<Item = &Model> {
        self.0.iter().map(|model| &**model)
    }
}

impl Model {
    /// What comparisons come to, as [`Model::comparisons`] counts them.
    pub const COMPARISONS: [&'static str; 4] = ["equal", "different", "unknown", "skipped"];

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it answers.
    #[must_use]
    pub fn state(&self) -> State {
        self.standing().state()
    }

    pub(super) fn may_answer(&self) -> bool {
        self.state() == State::On
    }

    /// Held for a moment only.
    pub(super) fn standing(&self) -> MutexGuard<'_, Standing<Option<Life>>> {
        // Nothing in it is half done at any time.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a comparison came to.
    pub(super) fn counted(&self, verdict: Verdict) -> Verdict {
        let n = match verdict {
            Verdict::Equal => 0,
            Verdict::Different(_) => 1,
            Verdict::Unknown => 2,
        };
        self.counts.comparisons[n].fetch_add(1, Relaxed);
        verdict
    }

    /// Says that it was turned off, and nothing of the prompt.
    pub(super) fn tell_off(&self, at: usize, by: &str) {
        tracing::error!(
            model = %self.name,
            position = at,
            by,
            "the local tokenizer is not the engine's and is off: its tokens differ from this position on"
        );
    }

    /// What prompts came to: those that were answered, those for which there was no room, those not understood, by reason.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = &self.counts;
        let plain = [("answered", &counts.answered), ("busy", &counts.busy)];
        let why = NotUnderstood::ALL.iter().map(|why| why.as_str());
        let all = plain.into_iter().chain(why.zip(&counts.not_understood));
        all.map(|(outcome, count)| (outcome, count.load(Relaxed)))
    }

    /// What comparisons with engines came to. All probes together are one.
    pub fn comparisons(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .counts
            .comparisons
            .iter()
            .map(|count| count.load(Relaxed));
        Self::COMPARISONS.into_iter().zip(counts)
    }
}

impl Counts {
    pub(super) fn add_answered(&self) {
        self.answered.fetch_add(1, Relaxed);
    }

    pub(super) fn add_busy(&self) {
        self.busy.fetch_add(1, Relaxed);
    }

    pub(super) fn add_skipped(&self) {
        self.comparisons[3].fetch_add(1, Relaxed);
    }

    pub(super) fn add_not_understood(&self, why: NotUnderstood) {
        self.not_understood[why as usize].fetch_add(1, Relaxed);
    }
}
