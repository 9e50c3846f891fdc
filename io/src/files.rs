//! Whether files have changed, by looking at them again and again.
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one version of a file from the next: time of change, size, number. A file that is replaced by a
/// symbolic link's turning elsewhere, as Kubernetes does, has another number. `None` if it is not there.
pub(crate) type Version = Option<(i64, i64, u64, u64)>;

/// The version that a file has now.
pub(crate) fn version(path: &Path) -> Version {
    let found = path.metadata().ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

/// Files that belong together, and the versions that were seen last.
#[derive(Debug)]
pub(crate) struct Watched {
    files: Vec<(PathBuf, Version)>,
}

impl Watched {
    /// These files as they are now.
    pub(crate) fn new(files: &[&Path]) -> Self {
        let files = files.iter().map(|path| ((*path).to_owned(), version(path)));
        Self {
            files: files.collect(),
        }
    }

    /// The first of them.
    pub(crate) fn first(&self) -> &Path {
        self.files.first().map_or(Path::new(""), |(path, _)| path)
    }

    /// Whether a file is another one than when this was last asked.
    pub(crate) fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, known) in &mut self.files {
            let found = version(path);
            changed |= std::mem::replace(known, found) != found;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn whatever_replaces_a_file_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // As a ConfigMap is mounted: a link to a file under a link to a folder, which turns to another folder.
        for (version, text) in [("one", "1"), ("two", "2")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("file"), text).unwrap();
        }
        symlink(at("one"), at("data")).unwrap();
        symlink(at("data").join("file"), at("file")).unwrap();
        let mut watched = Watched::new(&[&at("other"), &at("file")]);
        assert_eq!(watched.first(), at("other"));
        assert!(!watched.changed());
        symlink(at("two"), at("next")).unwrap();
        fs::rename(at("next"), at("data")).unwrap();
        assert!(watched.changed() && !watched.changed());
        // As editors save: another file under the same name.
        fs::remove_file(at("file")).unwrap();
        fs::write(at("new"), "22").unwrap();
        fs::rename(at("new"), at("file")).unwrap();
        assert!(watched.changed() && !watched.changed());
        // In place.
        fs::write(at("file"), "333").unwrap();
        assert!(watched.changed() && !watched.changed());
        fs::remove_file(at("file")).unwrap();
        assert!(watched.changed() && !watched.changed());
        fs::write(at("other"), "").unwrap();
        assert!(watched.changed() && !watched.changed());
    }
}
