//! The fleet file, read again when it changes. What cannot be used leaves the last good one as it is.
use crate::files::{Version, version};
use crate::fleet::{Described, FileError, Fleet, Source, check_pods, read_pods};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is remembered of the file.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    fleet: Arc<Fleet>,
    /// As the latest look found it.
    seen: Version,
    /// As it was when it was read; `None` before that.
    read: Option<Version>,
    /// What was wrong with it then.
    fault: Option<Fault>,
}

/// Why the file cannot be used.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// With the file's name, the key and its place.
    text: String,
    /// The same file may become readable.
    passing: bool,
}

impl Watch {
    /// Begins to watch; what it finds first is told as any change of it.
    pub(super) fn new(path: &Path, fleet: &Arc<Fleet>) -> Self {
        fleet.sources().expect(Source::File);
        Self {
            path: path.to_owned(),
            fleet: Arc::clone(fleet),
            seen: version(path),
            read: None,
            fault: None,
        }
    }

    /// Reads the file if it is another one than was read, and the same as at the look before: then nobody is writing it.
    pub(super) fn look(&mut self) {
        let now = version(&self.path);
        if std::mem::replace(&mut self.seen, now) != now {
            return;
        }
        let again = self.fault.as_ref().is_some_and(|fault| fault.passing);
        if self.read != Some(now) || again {
            self.read(self.read != Some(now));
        } else if self.fault.is_none() {
            self.fleet.sources().recovered(Source::File);
        }
    }

    /// Reads the file. A fault that is known is told again if it is of another version of the file, or somebody asked for it.
    pub(super) fn read(&mut self, anew: bool) {
        let before = version(&self.path);
        let found = pods(&self.path);
        if version(&self.path) != before {
            // It is being written. The looks to come see that it is another one.
            return;
        }
        self.read = Some(before);
        let file = self.path.display();
        match found {
            Ok(pods) => {
                let back = self.fault.take().is_some();
                if anew || back {
                    tracing::info!(%file, pods = pods.len(), "the fleet file is read again");
                }
                self.fleet.follow(Source::File, pods, Vec::new());
            }
            Err(fault) => {
                if anew || self.fault.as_ref() != Some(&fault) {
                    let error = &fault.text;
                    tracing::warn!(%error, "the fleet file cannot be used; the last good one stays");
                    self.fleet.sources().failed(Source::File, error);
                }
                self.fault = Some(fault);
            }
        }
    }
}

/// What the file describes, if all of it can be a fleet.
fn pods(path: &Path) -> Result<Vec<Described>, Fault> {
    let pods = read_pods(path).map_err(|error| Fault {
        text: error.to_string(),
        passing: matches!(error, FileError::Unreadable { .. }),
    })?;
    check_pods(pods.clone()).map_err(|(at, error)| Fault {
        text: format!("{}: pods[{at}]: {error}", path.display()),
        passing: false,
    })?;
    Ok(pods.into_iter().map(Described::from).collect())
}

#[cfg(test)]
mod tests;
