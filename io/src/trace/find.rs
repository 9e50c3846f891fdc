//! Recordings in a folder.
use super::{ReadError, Recording};
use crate::limits::RECORDING_BYTES_MAX;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

const ENDINGS: [&str; 2] = ["jsonl.gz", "jsonl"];

/// The recordings below `folder`, laid out as `<variant>/<workload>.{events,requests}.jsonl[.gz]`, by
/// name. Each result is a path without the endings, to be given to [`open`].
///
/// # Errors
/// A folder that cannot be read.
pub fn find(folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let mut stems = Vec::new();
    for variant in list(folder)? {
        if !variant.is_dir() {
            continue;
        }
        for file in list(&variant)? {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let stem = ENDINGS
                .iter()
                .find_map(|e| name.strip_suffix(&format!(".requests.{e}")));
            if let Some(stem) = stem {
                stems.push(variant.join(stem));
            }
        }
    }
    stems.sort();
    stems.dedup();
    Ok(stems)
}

/// Reads the recording whose files begin with `stem`.
///
/// # Errors
/// A file that is missing or too large, or a line that is not as it should be.
pub fn open(stem: &Path) -> Result<Recording, ReadError> {
    let part = |path: Option<&Path>| {
        path.and_then(Path::file_name)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let name = format!("{}/{}", part(stem.parent()), part(Some(stem)));
    let events = read(stem, "events")?;
    let requests = read(stem, "requests")?;
    Recording::parse(&name, &events, &requests)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let failed = |source| ReadError::Io {
        path: folder.to_owned(),
        source,
    };
    let entries = fs::read_dir(folder).map_err(failed)?;
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}

fn read(stem: &Path, kind: &str) -> Result<Vec<u8>, ReadError> {
    let candidates = ENDINGS.map(|ending| {
        let mut path = stem.as_os_str().to_owned();
        path.push(format!(".{kind}.{ending}"));
        PathBuf::from(path)
    });
    let path = candidates
        .iter()
        .find(|path| path.exists())
        .unwrap_or(&candidates[1]);
    let failed = |source| ReadError::Io {
        path: path.clone(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(RECORDING_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}
