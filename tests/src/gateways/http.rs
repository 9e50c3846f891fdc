//! Just enough HTTP/1.1 for the tests' clients and backends: heads, and bodies with a length or in chunks.
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for a gateway's answer, so that a test fails rather than hangs.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// First line, headers (names in lower case) and body of a message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) first: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Message {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Reads one message; `None` at the end of the connection. `without_body` is for answers that have none.
    pub(super) fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let Some(first) = line(stream)? else {
            return Ok(None);
        };
        let mut headers = Vec::new();
        while let Some(line) = line(stream)?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut message = Self {
            first,
            headers,
            body: Vec::new(),
        };
        if message.header("expect").is_some() {
            stream
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if message.header("transfer-encoding") == Some("chunked") {
            while chunk(stream, &mut message.body)? {}
        } else if let Some(length) = message.header("content-length") {
            let length: usize = length.parse().map_err(|_| broken(length))?;
            message.body.resize(length, 0);
            stream.read_exact(&mut message.body)?;
        }
        Ok(Some(message))
    }
}

/// Reads one chunk; `false` for the last one.
fn chunk(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<bool> {
    let size = line(stream)?.unwrap_or_default();
    let size = size.split(';').next().unwrap_or_default();
    let size = usize::from_str_radix(size, 16).map_err(|_| broken(size))?;
    let start = body.len();
    body.resize(start + size, 0);
    stream.read_exact(&mut body[start..])?;
    line(stream)?;
    Ok(size > 0)
}

fn line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

fn broken(text: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not a message: {text:?}"),
    )
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// With its length.
    Length,
    /// In chunks of so many bytes.
    Chunks(usize),
}

/// A client with one connection for each request.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The server.
    pub address: SocketAddr,
}

/// A gateway's answer.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    message: Message,
}

impl Response {
    /// A header by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.message.header(name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.message.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.message.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Client {
    /// Sends one request. `headers` are lines that end in CRLF.
    ///
    /// # Errors
    /// The connection fails, or what comes is no answer.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
        framing: Framing,
    ) -> io::Result<Response> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let how = match framing {
            Framing::Length => format!("content-length: {}", body.len()),
            Framing::Chunks(_) => "transfer-encoding: chunked".to_owned(),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{how}\r\n{headers}\r\n");
        let out = stream.get_mut();
        out.write_all(head.as_bytes())?;
        match framing {
            Framing::Length => out.write_all(body)?,
            Framing::Chunks(size) => {
                for chunk in body.chunks(size) {
                    write!(out, "{:x}\r\n", chunk.len())?;
                    out.write_all(chunk)?;
                    out.write_all(b"\r\n")?;
                }
                out.write_all(b"0\r\n\r\n")?;
            }
        }
        let message = Message::read(&mut stream)?.ok_or_else(|| broken(""))?;
        let status = message.first.split(' ').nth(1);
        let status = status.and_then(|status| status.parse().ok());
        Ok(Response {
            status: status.ok_or_else(|| broken(&message.first))?,
            message,
        })
    }

    /// Posts JSON with its length.
    ///
    /// # Panics
    /// There is no answer.
    #[must_use]
    pub fn post(&self, path: &str, headers: &str, body: &Value) -> Response {
        let headers = format!("content-type: application/json\r\n{headers}");
        let body = body.to_string();
        let sent = self.send("POST", path, &headers, body.as_bytes(), Framing::Length);
        sent.unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// Gets a path.
    ///
    /// # Panics
    /// There is no answer.
    #[must_use]
    pub fn get(&self, path: &str, headers: &str) -> Response {
        let sent = self.send("GET", path, headers, b"", Framing::Length);
        sent.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }
}
