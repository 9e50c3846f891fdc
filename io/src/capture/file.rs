//! The file of a capture: JSON lines, gzip-compressed, in the order of arrival.
//!
//! The first line says what it is ([`Header`]); then one message a line, as in recorded traffic: `t` (seconds since 1970), `pod`
//! (who published), `frames` (how many), and in hexadecimal `topic`, `seq` and `payload`, or `other` for a message that has
//! not three frames. `from` is `ring` for a batch that was not live but asked of the engine's ring. The last line says why
//! the capture ended; a file without it was cut off, and is read up to there.
use crate::limits::{CAPTURE_FLUSH_INTERVAL, CAPTURE_LINE_BYTES_MAX};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The form that is written; others are refused.
const VERSION: u32 = 1;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What a capture is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The form of the file.
    pub kvroute_capture: u32,
    /// The program's version.
    pub kvroute: String,
    /// When it began, in seconds since 1970.
    pub started: f64,
    /// Where the engine published; not said if names are replaced.
    pub events: Option<String>,
    /// How many frames the ring's answers have, if it was asked.
    pub replay_frames: Option<usize>,
    /// Whether tokens, hashes and names are replaced.
    pub replaced: bool,
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// When it arrived, in seconds since 1970.
    pub at: f64,
    /// Who published it.
    pub pod: String,
    /// Its frames.
    pub frames: Vec<Vec<u8>>,
    /// Whether it comes from the ring.
    pub from_ring: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    t: f64,
    #[serde(default)]
    pod: String,
    #[serde(default)]
    frames: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct EndLine {
    end: String,
    messages: u64,
}

/// Why a capture cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct CaptureError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: CaptureErrorKind,
}

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureErrorKind {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is of another form.
    #[error("a capture of version {0}; this program reads version {VERSION}")]
    Version(u32),
    /// A line is not as it should be.
    #[error("line {line}: {message}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// There is no message in it.
    #[error("there is no message in it")]
    Empty,
}

/// Counts what goes into a file.
#[derive(Debug)]
struct Counted {
    file: File,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a capture. It holds no message: each goes to the compressor at once, and within a second to the file.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    out: GzEncoder<Counted>,
    messages: u64,
    flush_at: Instant,
}

impl Writer {
    /// A new file, for its owner's eyes only.
    ///
    /// # Errors
    /// It is there already, or cannot be written.
    pub fn create(path: &Path) -> Result<Self, CaptureError> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| at(path)(error.into()))?;
        Ok(Self {
            path: path.to_owned(),
            out: GzEncoder::new(Counted { file, bytes: 0 }, Compression::default()),
            messages: 0,
            flush_at: Instant::now() + CAPTURE_FLUSH_INTERVAL,
        })
    }

    /// Messages written.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes of the file, without what is not compressed yet.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.out.get_ref().bytes
    }

    /// Writes the first line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn header(&mut self, mut header: Header) -> Result<(), CaptureError> {
        header.kvroute_capture = VERSION;
        env!("CARGO_PKG_VERSION").clone_into(&mut header.kvroute);
        self.line(&header)
    }

    /// Writes one message.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, record: &Record) -> Result<(), CaptureError> {
        let hexed: Vec<String> = record.frames.iter().map(|frame| hex(frame)).collect();
        let frames = hexed.len();
        let from = record.from_ring.then(|| "ring".to_owned());
        let mut line = Line {
            t: record.at,
            pod: record.pod.clone(),
            frames,
            topic: None,
            seq: None,
            payload: None,
            other: None,
            from,
        };
        match <[String; 3]>::try_from(hexed) {
            Ok([topic, seq, payload]) => {
                line.topic = Some(topic);
                line.seq = Some(seq);
                line.payload = Some(payload);
            }
            Err(other) => line.other = Some(other),
        }
        self.messages += 1;
        self.line(&line)
    }

    /// Makes the file readable up to here, if it is time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush_in_time(&mut self) -> Result<(), CaptureError> {
        let now = Instant::now();
        if now >= self.flush_at {
            self.flush_at = now + CAPTURE_FLUSH_INTERVAL;
            self.out.flush().map_err(|e| at(&self.path)(e.into()))?;
        }
        Ok(())
    }

    /// Writes the last line; how many bytes the file has.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn end(mut self, why: &str) -> Result<u64, CaptureError> {
        let messages = self.messages;
        let end = why.to_owned();
        self.line(&EndLine { end, messages })?;
        let Self { path, out, .. } = self;
        let whole = out.finish().and_then(|out| {
            out.file.sync_all()?;
            Ok(out.bytes)
        });
        whole.map_err(|error| at(&path)(error.into()))
    }

    /// Removes the file: there was nothing to write.
    pub fn discard(self) {
        let path = self.path.clone();
        drop(self);
        let _ = std::fs::remove_file(path);
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), CaptureError> {
        let written = serde_json::to_writer(&mut self.out, line)
            .map_err(io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"));
        written.map_err(|error| at(&self.path)(error.into()))
    }
}

/// Reads a capture, or the events of recorded traffic, line by line.
pub struct Reader {
    path: PathBuf,
    lines: BufReader<Box<dyn Read>>,
    header: Option<Header>,
    line: u64,
    messages: u64,
    ended: bool,
    cut: Option<String>,
    buffer: Vec<u8>,
    /// The first message, read in search of the header.
    first: Option<Record>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("path", &self.path)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a file, compressed or not.
    ///
    /// # Errors
    /// It cannot be read, is of another form, or has no message.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let lines = open(path).map_err(|error| at(path)(error.into()))?;
        let mut reader = Self {
            path: path.to_owned(),
            lines: BufReader::new(lines),
            header: None,
            line: 0,
            messages: 0,
            ended: false,
            cut: None,
            buffer: Vec::new(),
            first: None,
        };
        reader.first = reader.next()?;
        match reader.first {
            Some(_) => Ok(reader),
            None => Err(at(path)(CaptureErrorKind::Empty)),
        }
    }

    /// What it says of itself; recorded traffic says nothing.
    #[must_use]
    pub const fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The first message, as long as it is not taken.
    #[must_use]
    pub const fn first(&self) -> Option<&Record> {
        self.first.as_ref()
    }

    /// Messages read.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// Why it was not read to its end, if it was cut off or is damaged.
    #[must_use]
    pub fn cut(&self) -> Option<&str> {
        self.cut.as_deref()
    }

    /// The next message; `None` at the end, and where the file is cut off.
    ///
    /// # Errors
    /// A line that is whole, and wrong.
    pub fn next(&mut self) -> Result<Option<Record>, CaptureError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        loop {
            if self.ended || self.cut.is_some() || !self.read_line() {
                return Ok(None);
            }
            let parsed = parse(&self.buffer);
            let wrong = |message| {
                let line = self.line;
                at(&self.path)(CaptureErrorKind::Line { line, message })
            };
            match parsed.map_err(wrong)? {
                Parsed::Header(header) if header.kvroute_capture != VERSION => {
                    let kind = CaptureErrorKind::Version(header.kvroute_capture);
                    return Err(at(&self.path)(kind));
                }
                Parsed::Header(header) => self.header = Some(header),
                Parsed::End => self.ended = true,
                Parsed::Message(record) => {
                    self.messages += 1;
                    return Ok(Some(record));
                }
            }
        }
    }

    /// Reads a line; whether there is a whole one.
    fn read_line(&mut self) -> bool {
        self.buffer.clear();
        let mut line = (&mut self.lines).take(CAPTURE_LINE_BYTES_MAX);
        let read = line.read_until(b'\n', &mut self.buffer);
        self.line += 1;
        let line = self.line;
        match (read, self.buffer.last()) {
            (Ok(_), Some(b'\n')) => return true,
            // Recorded traffic ends with its last message.
            (Ok(_), None) => {
                if self.header.is_some() {
                    self.cut = Some(format!(
                        "it ends after line {}, without a last one",
                        line - 1
                    ));
                }
                self.ended = true;
            }
            (Ok(_), Some(_)) if self.buffer.len() as u64 >= CAPTURE_LINE_BYTES_MAX => {
                self.cut = Some(format!("line {line} has no end"));
            }
            (Ok(_), Some(_)) => self.cut = Some(format!("it ends within line {line}")),
            (Err(error), _) => self.cut = Some(format!("it breaks off in line {line}: {error}")),
        }
        false
    }
}

enum Parsed {
    Header(Header),
    Message(Record),
    End,
}

fn parse(line: &[u8]) -> Result<Parsed, String> {
    if line.starts_with(br#"{"kvroute_capture""#) {
        let header = serde_json::from_slice(line);
        return header.map(Parsed::Header).map_err(|e| e.to_string());
    }
    if line.starts_with(br#"{"end""#) {
        let end: Result<EndLine, _> = serde_json::from_slice(line);
        return end.map(|_| Parsed::End).map_err(|e| e.to_string());
    }
    let line: Line = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let frames = match (line.topic, line.seq, line.payload, line.other) {
        (Some(topic), Some(seq), Some(payload), None) => vec![topic, seq, payload],
        (None, None, None, Some(other)) => other,
        _ => return Err("a message has topic, seq and payload, or other".to_owned()),
    };
    let frames = frames.iter().map(|frame| unhex(frame));
    let frames = frames.collect::<Option<_>>();
    Ok(Parsed::Message(Record {
        at: line.t,
        pod: line.pod,
        frames: frames.ok_or("a frame is hexadecimal")?,
        from_ring: line.from.as_deref() == Some("ring"),
    }))
}

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = File::open(path)?;
    let mut magic = Vec::new();
    (&mut file).take(2).read_to_end(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let file = BufReader::new(file);
    Ok(match magic == GZIP {
        true => Box::new(MultiGzDecoder::new(file)),
        false => Box::new(file),
    })
}

fn at(path: &Path) -> impl Fn(CaptureErrorKind) -> CaptureError {
    move |kind| CaptureError {
        path: path.to_owned(),
        kind,
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|d| char::from(DIGITS[usize::from(d)]));
    bytes.iter().flat_map(digits).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?));
    rest.is_empty().then(|| bytes.collect()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u8) -> Record {
        Record {
            at: 1.5 + f64::from(n),
            pod: "engine".to_owned(),
            frames: match n {
                0 => vec![b"t".to_vec(), vec![0; 8], vec![0x93, n]],
                _ => vec![vec![n]; usize::from(n)],
            },
            from_ring: n == 2,
        }
    }

    fn all(path: &Path) -> (Vec<Record>, Option<String>) {
        let mut reader = Reader::open(path).unwrap();
        let mut records = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            records.push(record);
        }
        (records, reader.cut().map(str::to_owned))
    }

    #[test]
    fn what_is_written_is_read_again_also_where_it_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("capture");
        let mut writer = Writer::create(&path).unwrap();
        writer.header(Header::default()).unwrap();
        for n in 0..5 {
            writer.write(&record(n)).unwrap();
        }
        writer.flush_at = Instant::now();
        writer.flush_in_time().unwrap();
        let flushed = std::fs::read(&path).unwrap();
        let bytes = writer.end("told to").unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(bytes, whole.len() as u64);
        let expected: Vec<_> = (0..5).map(record).collect();
        assert_eq!(all(&path), (expected.clone(), None));
        assert!(Writer::create(&path).is_err(), "it is there");
        // As if the process had been killed after the flush.
        std::fs::write(&path, &flushed).unwrap();
        let (records, cut) = all(&path);
        assert_eq!(records, expected);
        assert!(cut.is_some());
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            match Reader::open(&path) {
                Ok(_) => {
                    let (records, cut) = all(&path);
                    assert!(expected.starts_with(&records));
                    assert!(cut.is_some() || records.len() == 5, "{length}");
                }
                Err(error) => assert!(matches!(error.kind, CaptureErrorKind::Empty), "{error}"),
            }
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("capture");
        let good = r#"{"t":1,"topic":"","seq":"00","payload":"90"}"#;
        for (text, expected) in [
            (
                "{\"kvroute_capture\":2,\"kvroute\":\"\",\"started\":0,\"replaced\":false}\n",
                "version 2",
            ),
            ("nonsense\n", "line 1: "),
            ("", "no message"),
            (
                "{\"t\":1,\"topic\":\"\",\"seq\":\"0\",\"payload\":\"\"}\n",
                "line 1: a frame is hexadecimal",
            ),
            ("{\"t\":1,\"topic\":\"\"}\n", "line 1: a message has"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Reader::open(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        std::fs::write(&path, format!("{good}\n{good}\nx\n")).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        assert!(reader.next().unwrap().is_some() && reader.next().unwrap().is_some());
        assert!(reader.next().unwrap_err().to_string().contains("line 3"));
    }
}
