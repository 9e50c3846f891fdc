//! A minimal HTTP/1.1 client: it sends exactly the bytes it is given, and checks answers against the description.
use crate::openapi;
use serde_json::Value;
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What a connection goes over.
pub(crate) trait Wire: Read + Write + Debug + Send {}

impl<T: Read + Write + Debug + Send> Wire for T {}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<Box<dyn Wire>>,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// (status, code, field) of a refusal in the documented shape.
    pub(crate) fn refusal(&self) -> (u16, String, Option<String>) {
        let body = self.json();
        let error = body["error"]
            .as_object()
            .unwrap_or_else(|| panic!("{body}"));
        let names: Vec<_> = error.keys().map(String::as_str).collect();
        assert_eq!(names, ["code", "field", "message"], "{body}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.is_empty(), "{body}");
        let field = match &error["field"] {
            Value::Null => None,
            field => Some(field.as_str().unwrap().to_owned()),
        };
        (
            self.status,
            error["code"].as_str().unwrap().to_owned(),
            field,
        )
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        // So that a test fails rather than hangs.
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Over a socket, whose read times out, of another kind.
    pub(crate) fn over(stream: impl Wire + 'static) -> Self {
        Self {
            stream: BufReader::new(Box::new(stream)),
        }
    }

    pub(crate) fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Self::over(stream)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends as much as the server takes before it closes the connection.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n")
            .unwrap_or_else(|| panic!("{line:?}"))
            .to_owned()
    }

    pub(crate) fn receive(&mut self) -> Response {
        let mut response = self.receive_head();
        response.body = self.receive_body(&response);
        response
    }

    /// What follows a head: so many bytes as it says, or chunks.
    pub(crate) fn receive_body(&mut self, head: &Response) -> Vec<u8> {
        let length = head.header("content-length");
        let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
        self.stream.read_exact(&mut body).unwrap();
        if head.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.receive_chunk() {
                body.extend(chunk);
            }
        }
        body
    }

    /// The next chunk of a body; `None` after the last one.
    pub(crate) fn receive_chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line(), 16).unwrap();
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk).unwrap();
        assert_eq!(self.line(), "");
        (size > 0).then_some(chunk)
    }

    /// Status and headers only, as after HEAD.
    pub(crate) fn receive_head(&mut self) -> Response {
        let status_line = self.line();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .unwrap_or_else(|| panic!("{status_line}"));
        let status = status[..3].parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else {
                assert_eq!(line, "");
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Response {
            status,
            headers,
            body: Vec::new(),
        }
    }

    /// Whether the server has closed the connection, with nothing more to say.
    pub(crate) fn ended(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Response {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat());
        let response = self.receive();
        openapi::check(method, path, &response);
        response
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        let response = self.receive();
        openapi::check("GET", path, &response);
        response
    }

    pub(crate) fn delete(&mut self, path: &str) -> Response {
        self.request("DELETE", path, "", b"")
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Response {
        self.post_text(path, &body.to_string())
    }

    pub(crate) fn post_text(&mut self, path: &str, body: &str) -> Response {
        let headers = "content-type: application/json\r\n";
        self.request("POST", path, headers, body.as_bytes())
    }

    /// Posts token ids as binary.
    pub(crate) fn post_tokens(&mut self, path: &str, headers: &str, tokens: &[u32]) -> Response {
        let body: Vec<u8> = tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
        let headers = format!("content-type: application/octet-stream\r\n{headers}");
        self.request("POST", path, &headers, &body)
    }
}
