//! The smallest HTTP client that can ask a node: one connection, kept alive, blocking.
use crate::limits::{CLIENT_ANSWER_BYTES_MAX, CLIENT_HEADERS_MAX, CLIENT_TIME_MAX};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A connection to one node, opened when it is first needed.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
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
        /// What the node said.
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

impl Client {
    /// A client of the node at `address`.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connection: None,
        }
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

    fn call<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        path: &str,
        body: &[u8],
    ) -> Result<T, ClientError> {
        let path = || path.to_owned();
        let (status, answer) =
            self.exchange(method, &path(), body)
                .map_err(|source| ClientError::Io {
                    method,
                    path: path(),
                    source,
                })?;
        if !(200..300).contains(&status) {
            let body = String::from_utf8_lossy(&answer).into_owned();
            return Err(ClientError::Status {
                method,
                path: path(),
                status,
                body,
            });
        }
        serde_json::from_slice(&answer).map_err(|source| ClientError::Json {
            method,
            path: path(),
            source,
        })
    }

    fn exchange(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(self.address)?),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let sent = connection
            .get_mut()
            .write_all(&[head.as_bytes(), body].concat());
        let answer = sent.and_then(|()| read_answer(connection));
        if answer.is_err() {
            // Whatever is left of this answer must not be taken for the next one.
            self.connection = None;
        }
        answer
    }
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, CLIENT_TIME_MAX)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(CLIENT_TIME_MAX))?;
    stream.set_write_timeout(Some(CLIENT_TIME_MAX))?;
    Ok(BufReader::new(stream))
}

fn read_answer(from: &mut impl BufRead) -> io::Result<(u16, Vec<u8>)> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut status = None;
    let mut length = None;
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
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse::<u64>().ok();
                }
            }
        }
    }
    let status = status.flatten().ok_or_else(|| wrong("no HTTP status"))?;
    let length = length.ok_or_else(|| wrong("no content-length"))?;
    if length > CLIENT_ANSWER_BYTES_MAX {
        return Err(wrong("the answer is too long"));
    }
    let mut body = Vec::new();
    from.take(length).read_to_end(&mut body)?;
    if (body.len() as u64) < length {
        return Err(wrong("the connection ended within the answer"));
    }
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Result<(u16, String), String> {
        let read = read_answer(&mut io::Cursor::new(text.as_bytes().to_vec()));
        read.map(|(status, body)| (status, String::from_utf8(body).unwrap()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_answer_ends_where_it_says() {
        let text = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nx: y\r\n\r\n{}HTTP/1.1 200";
        assert_eq!(answer(text), Ok((201, "{}".into())));
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        for (text, expected) in [
            ("", "within the headers"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n",
                "within the headers",
            ),
            ("HTTP/1.1 200 OK\r\n\r\n{}", "no content-length"),
            ("nonsense\r\ncontent-length: 2\r\n\r\n{}", "no HTTP status"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
                "within the answer",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{}",
                "too long",
            ),
        ] {
            let error = answer(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
