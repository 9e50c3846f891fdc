//! A blocking HTTP client that asks a node: one connection, kept alive; over TCP, TLS or a Unix socket.
//!
//! Of HTTP/1.1 it knows what a node says: bodies with a length and bodies in chunks. Everything that comes is bounded.
mod body;
mod stream;
mod target;
mod tls;

pub use body::Body;
pub use target::Target;
pub use tls::{Roots, TlsError};

use crate::limits::{CLIENT_ANSWER_BYTES_MAX, CLIENT_HEADERS_MAX, CLIENT_TIME_MAX};
use crate::limits::{ERROR_BYTES_MAX, TOKEN_FILE_BYTES_MAX};
use crate::printable::Printable;
use body::{Form, finish};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stream::Stream;

/// A connection to one node, opened when it is first needed.
#[derive(Debug)]
pub struct Client {
    target: Target,
    connection: Option<BufReader<Stream>>,
    token: Option<Token>,
    roots: Arc<Roots>,
    time: Duration,
}

/// A bearer token, not to be printed.
struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Why a node's answer could not be had or used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection failed, or the time was up.
    #[error("{method} {path}: {source}")]
    Io {
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The node refused.
    #[error("{method} {path}: {status} {body}")]
    Status {
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// The HTTP status.
        status: u16,
        /// What the node said, as far as it is short.
        body: String,
    },
    /// The answer is not what was expected.
    #[error("{method} {path}: {source}")]
    Json {
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The first lines of an answer.
struct Head {
    status: u16,
    form: Form,
    closes: bool,
}

impl Client {
    /// A client of the node at `target`.
    #[must_use]
    pub fn new(target: impl Into<Target>) -> Self {
        Self {
            target: target.into(),
            connection: None,
            token: None,
            roots: Arc::new(Roots::System),
            time: CLIENT_TIME_MAX,
        }
    }

    /// With another patience for each step of an answer.
    #[must_use]
    pub fn with_time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// With the first bearer token of a file, as nodes have them: one a line, `#` begins a comment.
    ///
    /// # Errors
    /// The file cannot be read, or has no token.
    pub fn with_token_file(mut self, path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        let mut file = File::open(path)?.take(TOKEN_FILE_BYTES_MAX);
        file.read_to_string(&mut text)?;
        let mut lines = text.lines().map(str::trim);
        let token = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
        let token = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
        let none = || io::Error::new(io::ErrorKind::InvalidData, "there is no token in it");
        self.token = Some(Token(token.ok_or_else(none)?.to_owned()));
        Ok(self)
    }

    /// Believes these roots in place of the system's.
    #[must_use]
    pub fn with_roots(mut self, roots: Roots) -> Self {
        self.roots = Arc::new(roots);
        self
    }

    /// `GET path`.
    ///
    /// # Errors
    /// No answer, one with another status than 2xx, or one that is no such JSON.
    pub fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.call("GET", path, b"")
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// No answer, one with another status than 2xx, or one that is no such JSON.
    pub fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        self.call("POST", path, body.to_string().as_bytes())
    }

    /// `GET path`, whatever is answered: its status and body.
    ///
    /// # Errors
    /// No answer, or one that is too long.
    pub fn fetch(&mut self, path: &str) -> Result<(u16, Vec<u8>), ClientError> {
        self.exchange("GET", path, b"")
            .map_err(io_error("GET", path))
    }

    /// `GET path` over a connection of its own, to be read piece by piece.
    ///
    /// # Errors
    /// No answer, or one with another status than 2xx.
    pub fn open(&self, path: &str) -> Result<Body<impl BufRead + use<>>, ClientError> {
        let method = "GET";
        let opened = || {
            let mut connection = self.connect()?;
            self.ask(&mut connection, method, path, b"")?;
            let head = read_head(&mut connection)?;
            Ok((head.status, Body::new(connection, head.form)))
        };
        let (status, mut body) = opened().map_err(io_error(method, path))?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let mut said = Vec::new();
        // What cannot be read is not repeated.
        let _ = (&mut body)
            .take(ERROR_BYTES_MAX as u64)
            .read_to_end(&mut said);
        Err(refused(method, path, status, &said))
    }

    fn call<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        path: &str,
        body: &[u8],
    ) -> Result<T, ClientError> {
        let answer = self.exchange(method, path, body);
        let (status, answer) = answer.map_err(io_error(method, path))?;
        if !(200..300).contains(&status) {
            return Err(refused(method, path, status, &answer));
        }
        serde_json::from_slice(&answer).map_err(|source| ClientError::Json {
            method,
            path: path.to_owned(),
            source,
        })
    }

    fn exchange(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let kept = self.connection.take();
        let was_kept = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let mut asked = self.ask_for_head(&mut connection, method, path, body);
        // The node closes connections that are idle for long; whatever changes nothing may be asked again.
        if asked.is_err() && was_kept && method == "GET" {
            connection = self.connect()?;
            asked = self.ask_for_head(&mut connection, method, path, body);
        }
        let head = asked?;
        let answer = finish(&mut connection, head.form, CLIENT_ANSWER_BYTES_MAX)?;
        // Whatever is left of an answer that is not whole is not taken for the next one.
        if !head.closes {
            self.connection = Some(connection);
        }
        Ok((head.status, answer))
    }

    fn connect(&self) -> io::Result<BufReader<Stream>> {
        let stream = Stream::connect(&self.target, &self.roots, self.time)?;
        Ok(BufReader::new(stream))
    }

    fn ask_for_head(
        &self,
        connection: &mut BufReader<Stream>,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> io::Result<Head> {
        self.ask(connection, method, path, body)?;
        read_head(connection)
    }

    fn ask(
        &self,
        connection: &mut BufReader<Stream>,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> io::Result<()> {
        let token = self.token.as_ref();
        let token = token.map(|token| format!("authorization: Bearer {}\r\n", token.0));
        let head = format!(
            "{method} {}{path} HTTP/1.1\r\nhost: {}\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.target.prefix(),
            self.target.host(),
            token.unwrap_or_default(),
            body.len()
        );
        let stream = connection.get_mut();
        stream.write_all(&[head.as_bytes(), body].concat())?;
        stream.flush()
    }
}

fn io_error(method: &'static str, path: &str) -> impl FnOnce(io::Error) -> ClientError {
    let path = path.to_owned();
    move |source| ClientError::Io {
        method,
        path,
        source: match source.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
            }
            _ => source,
        },
    }
}

fn refused(method: &'static str, path: &str, status: u16, said: &[u8]) -> ClientError {
    let said = &said[..said.len().min(ERROR_BYTES_MAX)];
    ClientError::Status {
        method,
        path: path.to_owned(),
        status,
        body: Printable(String::from_utf8_lossy(said).trim()).to_string(),
    }
}

pub(super) fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn read_head(from: &mut impl BufRead) -> io::Result<Head> {
    let mut status = None;
    let mut form = None;
    let mut closes = false;
    let mut headers = from.take(CLIENT_HEADERS_MAX);
    loop {
        let mut line = String::new();
        if headers.read_line(&mut line)? == 0 {
            return Err(wrong("the connection ended within the headers"));
        }
        let line = line.trim_end();
        match status {
            None => status = Some(line.split(' ').nth(1).and_then(|s| s.parse().ok())),
            Some(_) if line.is_empty() => break,
            Some(_) => {
                let (name, value) = line.split_once(':').unwrap_or_default();
                let value = value.trim();
                if name.eq_ignore_ascii_case("content-length") {
                    form = form.or(value.parse().ok().map(Form::Length));
                } else if name.eq_ignore_ascii_case("transfer-encoding") {
                    form = value
                        .eq_ignore_ascii_case("chunked")
                        .then_some(Form::Chunks);
                } else if name.eq_ignore_ascii_case("connection") {
                    closes = value.eq_ignore_ascii_case("close");
                }
            }
        }
    }
    let status = status.flatten().ok_or_else(|| wrong("no HTTP status"))?;
    Ok(Head {
        status,
        form: match (status, form) {
            (204 | 304, _) => Form::Length(0),
            (_, form) => form.ok_or_else(|| wrong("neither a content-length nor chunks"))?,
        },
        closes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answer(text: &str) -> Result<(u16, String), String> {
        let mut from = io::Cursor::new(text.as_bytes().to_vec());
        let read = read_head(&mut from).and_then(|head| {
            let body = finish(&mut from, head.form, CLIENT_ANSWER_BYTES_MAX)?;
            Ok((head.status, String::from_utf8(body).unwrap()))
        });
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn a_connection_that_was_closed_meanwhile_is_made_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in 0..2 {
                let (stream, _) = listener.accept().unwrap();
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).unwrap() > 2 {
                    line.clear();
                }
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{answer}");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut client = Client::new(at);
        assert_eq!(client.get::<u8>("/").unwrap(), 0);
        assert_eq!(client.get::<u8>("/").unwrap(), 1);
        server.join().unwrap();
    }

    #[test]
    fn an_answer_ends_where_it_says() {
        let text = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nx: y\r\n\r\n{}HTTP/1.1 200";
        assert_eq!(answer(text), Ok((201, "{}".into())));
        let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\nHTTP";
        assert_eq!(answer(text), Ok((200, "abc0123456789".into())));
        let text = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(answer(text), Ok((204, String::new())));
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        for (text, expected) in [
            ("", "within the headers"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n",
                "within the headers",
            ),
            ("HTTP/1.1 200 OK\r\n\r\n{}", "neither a content-length"),
            ("nonsense\r\ncontent-length: 2\r\n\r\n{}", "no HTTP status"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
                "within the answer",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{}",
                "too long",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab",
                "within the answer",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
                "no length of a chunk",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
                "no length of a chunk",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffff\r\n",
                "too long",
            ),
        ] {
            let error = answer(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
