//! In place of `local` in a build without the feature `local-tokenizer`: there are no models, and none can be configured.
use super::{Ask, Shared, Tokenizer, Tokens};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Where a model's tokenizer stands: none does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(());

impl State {
    /// All of them.
    pub const ALL: [Self; 0] = [];

    /// The word used in metrics and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        ""
    }
}

/// A folder that cannot be used, as none can.
#[derive(Debug, thiserror::Error)]
#[error("{}: this program is built without local tokenizers", path.display())]
pub struct OpenError {
    /// The folder.
    pub path: PathBuf,
}

/// One model: there is none.
#[derive(Debug)]
pub struct Model(State);

impl Model {
    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it answers.
    #[must_use]
    pub fn state(&self) -> State {
        self.0
    }

    /// What prompts came to.
    pub fn outcomes(&self) -> std::iter::Empty<(&'static str, u64)> {
        std::iter::empty()
    }

    /// What comparisons came to.
    pub fn comparisons(&self) -> std::iter::Empty<(&'static str, u64)> {
        std::iter::empty()
    }
}

/// All of them.
#[derive(Debug)]
pub struct Models;

impl Models {
    /// None.
    pub fn all(&self) -> impl Iterator<Item = &Model> {
        [].iter()
    }
}

#[derive(Debug)]
pub(super) struct Locals(Models);

impl Locals {
    pub(super) fn open(folders: &[(String, PathBuf)]) -> Result<Self, (String, OpenError)> {
        let refuse = |(model, folder): &(String, PathBuf)| {
            let path = Path::new(folder).to_owned();
            Err((model.clone(), OpenError { path }))
        };
        folders.first().map_or(Ok(Self(Models)), refuse)
    }

    pub(super) fn models(&self) -> &Models {
        &self.0
    }

    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(super) async fn tokens(&self, _: &Arc<Shared>, _: &Ask, _: Instant) -> Option<Tokens> {
        None
    }
}

#[derive(Debug)]
pub(super) struct Crew;

impl Crew {
    #[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
    pub(super) fn start(_: &Tokenizer) -> io::Result<Self> {
        Ok(Self)
    }
}
