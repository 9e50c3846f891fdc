//! A snapshot into a file, whole or not at all.
use super::format::{About, Assembly};
use crate::stream::saved::Section;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The file's name in its folder.
pub const FILE_NAME: &str = "kvroute.snapshot";

/// Its name while it is being written.
const NEW_NAME: &str = "kvroute.snapshot.new";

/// Why a snapshot was not written. The one before is still there.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct WriteError {
    /// The folder.
    pub path: String,
    /// What the system says.
    pub source: io::Error,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Workers.
    pub workers: u32,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes these workers into `folder`: into a file of another name first, which then takes the place of the last
/// snapshot. Without any worker the last one stays, and with the first section that is an error. By one thread at a time. O(bytes). The memory it takes is that of one section.
pub fn write(
    folder: &Path,
    hash_seed: u64,
    made_ms: u64,
    sections: impl Iterator<Item = io::Result<(About, Section)>>,
) -> Result<Written, WriteError> {
    try_write(folder, hash_seed, made_ms, sections).map_err(|source| WriteError {
        path: folder.display().to_string(),
        source,
    })
}

fn try_write(
    folder: &Path,
    hash_seed: u64,
    made_ms: u64,
    sections: impl Iterator<Item = io::Result<(About, Section)>>,
) -> io::Result<Written> {
    let path = folder.join(NEW_NAME);
    // Of a process that was killed while it wrote, perhaps.
    let mut file = File::create(&path)?;
    let mut written = Written::default();
    let mut put = |bytes: &[u8]| {
        written.bytes += bytes.len() as u64;
        file.write_all(bytes)
    };
    let (mut assembly, head) = Assembly::begin(hash_seed, made_ms);
    put(&head)?;
    for section in sections {
        let (about, saved) = section?;
        let Some(head) = assembly.section(&about, &saved) else {
            tracing::warn!(pod = about.pod, "too much to say about a worker to save it");
            continue;
        };
        put(&head)?;
        put(&saved.dump)?;
    }
    let workers = assembly.sections();
    put(&assembly.end())?;
    written.workers = workers;
    if workers == 0 && folder.join(FILE_NAME).exists() {
        // Nobody is there yet: what is known of those that were is worth more.
        std::fs::remove_file(&path)?;
        return Ok(written);
    }
    file.sync_all()?;
    std::fs::rename(&path, folder.join(FILE_NAME))?;
    // The new name is safe only once its folder is.
    File::open(folder)?.sync_all()?;
    Ok(written)
}
