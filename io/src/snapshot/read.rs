//! A snapshot in a file: checked completely, then handed out worker by worker.
use super::format::{
    About, END_BYTES, FormatError, HEAD_BYTES, SECTION_HEAD_BYTES, read_about, read_end, read_head,
    read_lengths,
};
use crate::limits::{SNAPSHOT_BUFFER_BYTES, SNAPSHOT_BYTES_MAX};
use crate::stream::saved::{Checksum, Kept, Standing};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a snapshot is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It ends too early.
    #[error("it ends in the middle: {0}")]
    Truncated(&'static str),
    /// It is larger than any node's.
    #[error("{0} bytes; {SNAPSHOT_BYTES_MAX} are possible")]
    TooLarge(u64),
    /// Its bytes are wrong.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// A snapshot that was checked. What is in it is handed out once.
#[derive(Debug)]
pub struct Snapshot {
    made_ms: u64,
    file: Arc<File>,
    /// By pod and rank.
    workers: Mutex<BTreeMap<(String, u32), Found>>,
}

#[derive(Debug)]
struct Found {
    uid: Option<String>,
    model: String,
    standing: Standing,
    at: u64,
    bytes: u64,
}

impl Snapshot {
    /// Reads a file through and checks all of it. O(bytes).
    pub fn open(file: File, hash_seed: u64) -> Result<Self, ReadError> {
        Self::open_unless(file, hash_seed, &AtomicBool::new(false))
    }

    /// The same, given up once `stop` is set: [`ErrorKind::Interrupted`].
    pub fn open_unless(
        mut file: File,
        hash_seed: u64,
        stop: &AtomicBool,
    ) -> Result<Self, ReadError> {
        let length = file.seek(SeekFrom::End(0))?;
        if length > SNAPSHOT_BYTES_MAX {
            return Err(ReadError::TooLarge(length));
        }
        file.seek(SeekFrom::Start(0))?;
        let mut reader = Reader {
            file: BufReader::with_capacity(SNAPSHOT_BUFFER_BYTES, &file),
            at: 0,
            sums: Vec::new(),
            stop,
        };
        let head: [u8; HEAD_BYTES] = reader.array("the head")?;
        let made_ms = read_head(&head, hash_seed)?;
        let mut workers = BTreeMap::new();
        while let Some((about, found)) = reader.section()? {
            workers.insert((about.pod, about.rank), found);
        }
        if reader.at != length {
            let what = format!("{} bytes after its end", length - reader.at);
            return Err(FormatError::Malformed(what).into());
        }
        Ok(Self {
            made_ms,
            file: Arc::new(file),
            workers: Mutex::new(workers),
        })
    }

    /// When it was made, in milliseconds since 1970.
    #[must_use]
    pub fn made_ms(&self) -> u64 {
        self.made_ms
    }

    /// Workers that are still in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workers().len()
    }

    /// Whether all were taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a worker out, if it is there and the pod's model and identity are still the same.
    pub fn take(&self, pod: &str, uid: Option<&str>, rank: u32, model: &str) -> Option<Kept> {
        let key = (pod.to_owned(), rank);
        let mut workers = self.workers();
        let found = workers.get(&key)?;
        if found.model != model || found.uid.as_deref() != uid {
            return None;
        }
        let found = workers.remove(&key)?;
        Some(Kept {
            standing: found.standing,
            file: Arc::clone(&self.file),
            at: found.at,
            bytes: found.bytes,
        })
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, u32), Found>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a snapshot from its beginning to its end.
struct Reader<'f> {
    file: BufReader<&'f File>,
    at: u64,
    sums: Vec<u64>,
    stop: &'f AtomicBool,
}

impl Reader<'_> {
    /// The next section, its dump checked and passed over; `None` after the last one, the end checked.
    fn section(&mut self) -> Result<Option<(About, Found)>, ReadError> {
        let number = u32::try_from(self.sums.len()).unwrap_or(u32::MAX);
        match self.array("the kind of a section")? {
            [0] => {
                let mut end = [0; END_BYTES];
                end[1..].copy_from_slice(&self.array::<{ END_BYTES - 1 }>("the end")?);
                read_end(&end, &self.sums)?;
                return Ok(None);
            }
            [1] => {}
            [kind] => {
                let what = format!("section {number} is of kind {kind}");
                return Err(FormatError::Malformed(what).into());
            }
        }
        let mut head = [1; SECTION_HEAD_BYTES];
        head[1..].copy_from_slice(&self.array::<{ SECTION_HEAD_BYTES - 1 }>("a section")?);
        let lengths = read_lengths(&head, number)?;
        let mut bytes = head.to_vec();
        bytes.resize(SECTION_HEAD_BYTES + lengths.about + 8, 0);
        self.fill(&mut bytes[SECTION_HEAD_BYTES..], "what a section is about")?;
        let (about, sum) = read_about(&bytes, number)?;
        let at = self.at;
        self.dump(lengths.dump, lengths.dump_checksum, number)?;
        self.sums.push(sum);
        let found = Found {
            uid: about.uid.clone(),
            model: about.model.clone(),
            standing: about.standing.clone(),
            at,
            bytes: lengths.dump,
        };
        Ok(Some((about, found)))
    }

    fn dump(&mut self, mut left: u64, said: u64, number: u32) -> Result<(), ReadError> {
        let mut sum = Checksum::default();
        let mut buffer = vec![0; SNAPSHOT_BUFFER_BYTES];
        while left > 0 {
            let now = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            self.fill(&mut buffer[..now], "a dump")?;
            sum.add(&buffer[..now]);
            left -= now as u64;
        }
        if sum.finish() == said {
            return Ok(());
        }
        Err(FormatError::Checksum(format!("the dump of section {number}")).into())
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8], what: &'static str) -> Result<(), ReadError> {
        // Relaxed: a wish, nothing is read because of it.
        if self.stop.load(Relaxed) {
            return Err(io::Error::from(ErrorKind::Interrupted).into());
        }
        match self.file.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(ReadError::Truncated(what))
            }
            Err(error) => Err(error.into()),
        }
    }
}
