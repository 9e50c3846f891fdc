//! Who describes pods, and how each of them stands.
use super::{AddError, PodSpec};
use crate::limits::REFUSED_PODS_SHOWN;
use crate::status::now_ms;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who describes pods. Where two describe one pod, or two pods at one place, the one that comes first here is believed: what
/// somebody does by hand goes before what is written down, and that before what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Source {
    /// Requests: `POST /v1/workers`, `/register`.
    Registered = 0,
    /// The fleet file.
    File = 1,
    /// The labels of pods in Kubernetes.
    Kubernetes = 2,
    /// The addresses that a name has.
    Dns = 3,
}

impl Source {
    /// All of them, in order of precedence.
    pub const ALL: [Self; 4] = [Self::Registered, Self::File, Self::Kubernetes, Self::Dns];

    /// The word used in answers, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::File => "file",
            Self::Kubernetes => "kubernetes",
            Self::Dns => "dns",
        }
    }
}

/// A pod as a source describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// What it is.
    pub spec: PodSpec,
    /// Whether requests may be sent to it. One that is not ready is followed all the same, so that nothing of its cache is
    /// forgotten.
    pub serving: bool,
}

impl From<PodSpec> for Described {
    fn from(spec: PodSpec) -> Self {
        Self {
            spec,
            serving: true,
        }
    }
}

/// A pod that a source describes and the fleet does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its name.
    pub pod: String,
    /// Why not, in one word: `invalid`, `described_twice`, `overridden`, `same_events`, `no_room`, `removed`.
    pub reason: &'static str,
    /// Why not, with field and value.
    pub message: String,
}

impl Refused {
    /// For what cannot be understood, or is not possible.
    #[must_use]
    pub fn invalid(pod: &str, message: impl Into<String>) -> Self {
        Self {
            pod: pod.to_owned(),
            reason: "invalid",
            message: message.into(),
        }
    }

    pub(super) fn of(pod: &str, error: &AddError) -> Self {
        let reason = match error {
            AddError::Spec(_) => "invalid",
            AddError::Duplicate(_) | AddError::OtherModel { .. } => "described_twice",
            AddError::SameEvents { .. } => "same_events",
            AddError::NoRoom { .. } | AddError::Starting => "no_room",
        };
        Self {
            pod: pod.to_owned(),
            reason,
            message: error.to_string(),
        }
    }
}

/// How a source stands.
#[derive(Clone, Debug, Serialize)]
pub struct SourceReport {
    /// Its word.
    pub source: &'static str,
    /// `starting` until all that it described first is in the fleet, then `following`, or `failing` while it cannot be heard:
    /// then what it described last holds.
    pub state: &'static str,
    /// What is wrong, while something is.
    pub error: Option<String>,
    /// When it was heard last, in milliseconds since 1970.
    pub heard_ms: Option<u64>,
    /// Pods that it describes, refused ones included.
    pub pods: usize,
    /// How many of them are refused.
    pub refused: usize,
    /// Of those, how many for which reason.
    pub refused_by: BTreeMap<&'static str, usize>,
    /// The first of those by name.
    pub refused_pods: Vec<Refused>,
    /// How often it described something else than before.
    pub updates: u64,
    /// How often it could not be heard or understood.
    pub failures: u64,
}

/// What is known of one source.
#[derive(Debug, Default)]
struct Board {
    heard_ms: Option<u64>,
    /// Whether all that it described first is in the fleet.
    entered: bool,
    error: Option<String>,
    /// Whether a part of it could not be heard yet.
    in_part: bool,
    pods: usize,
    /// Of the pods as they were described: what cannot be a pod at all.
    malformed: Vec<Refused>,
    refused_by: BTreeMap<&'static str, usize>,
    refused_pods: Vec<Refused>,
    updates: u64,
    failures: u64,
}

/// The sources of a fleet. Behind a lock that is held for moments; no lookup takes it.
#[derive(Debug, Default)]
pub struct Sources {
    boards: Mutex<[Option<Board>; Source::ALL.len()]>,
}

impl Sources {
    /// This source will describe pods: until it has, the fleet is not complete.
    pub fn expect(&self, source: Source) {
        self.boards()[source as usize].get_or_insert_default();
    }

    /// It cannot be heard or understood; what it described last holds.
    pub fn failed(&self, source: Source, error: &dyn std::fmt::Display) {
        let mut boards = self.boards();
        let board = boards[source as usize].get_or_insert_default();
        board.error = Some(error.to_string());
        board.failures += 1;
    }

    /// A failure that was told of goes on, although something of it was heard.
    pub fn fails_still(&self, source: Source, error: &str) {
        let mut boards = self.boards();
        let board = boards[source as usize].get_or_insert_default();
        board.error = Some(error.to_owned());
    }

    /// It is heard again, as a whole, and what it described last still holds.
    pub fn recovered(&self, source: Source) {
        let mut boards = self.boards();
        let board = boards[source as usize].get_or_insert_default();
        board.error = None;
        board.in_part = false;
        board.heard_ms = Some(now_ms());
    }

    /// It has described so many pods, and others that are none; `in_part` says why there may be more of them. Whether
    /// what came of it needs no other look, unless the pods have changed.
    pub(super) fn heard(
        &self,
        source: Source,
        pods: usize,
        changed: bool,
        malformed: Vec<Refused>,
        in_part: Option<&str>,
    ) -> bool {
        let mut boards = self.boards();
        let board = boards[source as usize].get_or_insert_default();
        let same = board.malformed == malformed && board.heard_ms.is_some();
        board.updates += u64::from(changed || !same);
        board.heard_ms = Some(now_ms());
        board.in_part = in_part.is_some();
        board.error = in_part.map(str::to_owned);
        board.pods = pods + malformed.len();
        board.malformed = malformed;
        same && board.entered
    }

    /// What came of it, once nothing is left to be entered.
    pub(super) fn entered(&self, refused: &[(Source, Refused)]) {
        let mut boards = self.boards();
        for source in Source::ALL {
            let Some(board) = &mut boards[source as usize] else {
                continue;
            };
            board.entered |= board.heard_ms.is_some() && !board.in_part;
            let here = refused.iter().filter(|(of, _)| *of == source);
            let here = here.map(|(_, refused)| refused);
            let mut all: Vec<_> = board.malformed.iter().chain(here).collect();
            all.sort_by(|a, b| a.pod.cmp(&b.pod));
            let mut by = BTreeMap::new();
            for refused in &all {
                *by.entry(refused.reason).or_default() += 1;
            }
            let shown = all.into_iter().take(REFUSED_PODS_SHOWN);
            board.refused_pods = shown.cloned().collect();
            board.refused_by = by;
        }
    }

    /// Why the fleet is not complete: the first source whose pods are not all entered since the start.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let boards = self.boards();
        let mut known = Source::ALL.iter().zip(&*boards);
        known.find_map(|(source, board)| {
            let board = board.as_ref().filter(|board| !board.entered)?;
            let source = source.as_str();
            Some(match (&board.error, board.heard_ms) {
                (Some(error), None) => format!("{source} was not heard yet: {error}"),
                (None, None) => format!("{source} was not heard yet"),
                (Some(error), Some(_)) if board.in_part => {
                    format!("{source} was heard in part: {error}")
                }
                (_, Some(_)) => format!("not all pods of {source} are entered yet"),
            })
        })
    }

    /// How each source stands that there is.
    #[must_use]
    pub fn reports(&self) -> Vec<SourceReport> {
        let boards = self.boards();
        let known = Source::ALL.iter().zip(&*boards);
        let reports = known.filter_map(|(source, board)| Some(report(*source, board.as_ref()?)));
        reports.collect()
    }

    fn boards(&self) -> MutexGuard<'_, [Option<Board>; Source::ALL.len()]> {
        self.boards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(source: Source, board: &Board) -> SourceReport {
    let state = match (&board.error, board.entered) {
        (Some(_), true) => "failing",
        (None, true) => "following",
        (_, false) => "starting",
    };
    SourceReport {
        source: source.as_str(),
        state,
        error: board.error.clone(),
        heard_ms: board.heard_ms,
        pods: board.pods,
        refused: board.refused_by.values().sum(),
        refused_by: board.refused_by.clone(),
        refused_pods: board.refused_pods.clone(),
        updates: board.updates,
        failures: board.failures,
    }
}
