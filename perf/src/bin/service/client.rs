//! The smallest HTTP client that can ask: one kept connection, waiting or polled, nothing allocated once its buffer has
//! grown.
use crate::Failure;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// An answer that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

trait Stream: Read + Write {
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.set_nonblocking(nonblocking)
    }
}

impl Stream for UnixStream {
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.set_nonblocking(nonblocking)
    }
}

/// One connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// Bytes of the request that were sent, and of the answer that have come.
    sent: usize,
    filled: usize,
}

/// An answer, as it lies in the connection's buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'c> {
    pub(crate) status: u16,
    pub(crate) body: &'c [u8],
}

impl Answer<'_> {
    /// The body of a 200.
    pub(crate) fn good(&self) -> Result<&[u8], Failure> {
        match self.status {
            200 => Ok(self.body),
            status => {
                let start = &self.body[..self.body.len().min(300)];
                let text = String::from_utf8_lossy(start);
                Err(format!("answered with {status}: {text}").into())
            }
        }
    }
}

impl Client {
    pub(crate) fn connect(target: &Target) -> Result<Self, Failure> {
        let stream: Box<dyn Stream> = match target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        };
        Ok(Self {
            stream,
            buffer: vec![0; 64 << 10],
            sent: 0,
            filled: 0,
        })
    }

    /// From now on the connection is polled: `advance` does not wait.
    pub(crate) fn polled(&mut self) -> Result<(), Failure> {
        Ok(self.stream.set_nonblocking(true)?)
    }

    /// Sends a whole request and reads the whole answer.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>, Failure> {
        self.begin();
        loop {
            if let Some((status, body)) = self.step(request)? {
                let body = &self.buffer[body..self.filled];
                return Ok(Answer { status, body });
            }
        }
    }

    /// A new request comes.
    pub(crate) fn begin(&mut self) {
        (self.sent, self.filled) = (0, 0);
    }

    /// Goes on with a request as far as possible; the answer once it is whole.
    pub(crate) fn advance(&mut self, request: &[u8]) -> Result<Option<Answer<'_>>, Failure> {
        let whole = match self.step(request) {
            Ok(whole) => whole,
            Err(error) => match error.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(ErrorKind::WouldBlock) => None,
                _ => return Err(error),
            },
        };
        Ok(whole.map(|(status, body)| Answer {
            status,
            body: &self.buffer[body..self.filled],
        }))
    }

    /// One write or read; once the answer is whole its status, and where its body begins.
    fn step(&mut self, request: &[u8]) -> Result<Option<(u16, usize)>, Failure> {
        if self.sent < request.len() {
            self.sent += self.stream.write(&request[self.sent..])?;
            return Ok(None);
        }
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..])? {
            0 => return Err("the server closed the connection".into()),
            bytes => self.filled += bytes,
        }
        let Some(head) = head(&self.buffer[..self.filled])? else {
            return Ok(None);
        };
        let whole = head.bytes + head.length;
        if self.filled > whole {
            return Err("more was answered than was asked".into());
        }
        Ok((self.filled == whole).then_some((head.status, head.bytes)))
    }

    /// A request with a JSON body, for all that is not measured.
    pub(crate) fn post(
        &mut self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<Answer<'_>, Failure> {
        let body = body.to_string();
        let head = "host: node\r\ncontent-type: application/json";
        let length = body.len();
        let request =
            format!("POST {path} HTTP/1.1\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}");
        self.exchange(request.as_bytes())
    }

    /// A GET, for all that is not measured.
    pub(crate) fn get(&mut self, path: &str) -> Result<Answer<'_>, Failure> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: node\r\n\r\n").as_bytes())
    }
}

struct Head {
    status: u16,
    /// Of the head itself.
    bytes: usize,
    /// Of the body.
    length: usize,
}

/// The head, once it is whole.
fn head(bytes: &[u8]) -> Result<Option<Head>, Failure> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end])?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim())
    });
    Ok(Some(Head {
        status: status.ok_or("no status")?.parse()?,
        bytes: end + 4,
        length: length.ok_or("no content-length")?.parse()?,
    }))
}
