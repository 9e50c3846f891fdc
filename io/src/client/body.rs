//! The body of an answer, with a length or in chunks.
use super::wrong;
use std::io::{self, BufRead, Read};

/// Bytes of a line that tells the length of a chunk.
const CHUNK_LINE_MAX: u64 = 256;

/// How a body says where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// So many bytes are left.
    Length(u64),
    /// In chunks, the next of which begins here.
    Chunks,
    /// In chunks, so many bytes of this one being left.
    InChunk(u64),
    /// It has ended.
    Ended,
}

/// A body that is read piece by piece. Its end is seen: one that breaks off is an error.
#[derive(Debug)]
pub struct Body<R> {
    from: R,
    form: Form,
}

impl<R: BufRead> Body<R> {
    pub(super) fn new(from: R, form: Form) -> Self {
        Self { from, form }
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.form == Form::Chunks {
            self.form = match chunk(&mut self.from)? {
                0 => Form::Ended,
                length => Form::InChunk(length),
            };
        }
        let left = match self.form {
            Form::Length(0) | Form::Ended | Form::Chunks => return Ok(0),
            Form::Length(left) | Form::InChunk(left) => left,
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let read = self.from.read(&mut into[..most])?;
        if read == 0 {
            return Err(wrong("the connection ended within the answer"));
        }
        let left = left - read as u64;
        self.form = match (self.form, left) {
            (Form::InChunk(_), 0) => {
                end_of_line(&mut self.from)?;
                Form::Chunks
            }
            (Form::InChunk(_), left) => Form::InChunk(left),
            (_, left) => Form::Length(left),
        };
        Ok(read)
    }
}

/// All of a body, at most `most` bytes.
pub(super) fn finish(from: &mut impl BufRead, form: Form, most: u64) -> io::Result<Vec<u8>> {
    let too_long = || wrong("the answer is too long");
    if matches!(form, Form::Length(length) if length > most) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    let mut whole = Body::new(from, form);
    loop {
        if let Form::InChunk(left) = whole.form
            && body.len() as u64 + left > most
        {
            return Err(too_long());
        }
        let read = (&mut whole).take(64 << 10).read_to_end(&mut body)?;
        if body.len() as u64 > most {
            return Err(too_long());
        }
        if read == 0 {
            return Ok(body);
        }
    }
}

/// The length of the next chunk; 0 after the last one, with all that follows it read.
fn chunk(from: &mut impl BufRead) -> io::Result<u64> {
    let line = line(from)?;
    let digits = line.split(';').next().unwrap_or_default().trim();
    let length = u64::from_str_radix(digits, 16);
    let length = length.map_err(|_| wrong("no length of a chunk"))?;
    if length > u64::from(u32::MAX) {
        return Err(wrong("the answer is too long"));
    }
    if length == 0 {
        end_of_line(from)?;
    }
    Ok(length)
}

fn end_of_line(from: &mut impl BufRead) -> io::Result<()> {
    match line(from)?.is_empty() {
        true => Ok(()),
        false => Err(wrong("no length of a chunk")),
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    let read = from.take(CHUNK_LINE_MAX).read_line(&mut line)?;
    match read {
        0 => Err(wrong("the connection ended within the answer")),
        _ => Ok(line.trim_end().to_owned()),
    }
}
