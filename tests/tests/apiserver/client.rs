//! The plainest client: one connection for each request, and every chunk seen.
use kvroute_tests::apiserver::{ApiServer, Options, TOKEN};
use serde_json::Value;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for bytes, so that a test fails rather than hangs.
const READ_TIME_MAX: Duration = Duration::from_secs(60);

/// A server without TLS.
pub(crate) fn plain_server() -> ApiServer {
    ApiServer::start_with(Options {
        tls: false,
        ..Options::default()
    })
}

/// What a request sends beside its path.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) token: Option<&'a str>,
}

/// An answer whose body is still to be read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    stream: BufReader<TcpStream>,
    /// Bytes of the body that are not a whole line yet.
    line: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)
    }
}

/// What comes next in a watch.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// A line that is JSON.
    Event(Value),
    /// A line that is not.
    Garbage(Vec<u8>),
    /// The body is complete.
    End,
    /// The connection broke, with so many bytes of a line.
    Broken(usize),
}

/// Asks the server for a path.
pub(crate) fn ask(server: &ApiServer, path: &str, ask: &Ask<'_>) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_read_timeout(Some(READ_TIME_MAX))?;
    let token = ask.token.map(|t| format!("Authorization: Bearer {t}\r\n"));
    let token = token.unwrap_or_default();
    let method = ask.method;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: test\r\n{token}\r\n"
    )?;
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    Ok(Answer {
        status: status.expect("a status line"),
        head: head.to_ascii_lowercase(),
        stream,
        line: Vec::new(),
    })
}

/// Asks with the token that may read everything.
pub(crate) fn get(server: &ApiServer, path: &str) -> Answer {
    let token = Some(TOKEN);
    let method = "GET";
    ask(server, path, &Ask { method, token }).expect("it answers")
}

/// Asks, and takes the whole body: status and JSON.
pub(crate) fn json(server: &ApiServer, path: &str) -> (u16, Value) {
    let answer = get(server, path);
    (answer.status, answer.json())
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines();
        let mut pairs = lines.filter_map(|line| line.split_once(": "));
        pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The body, which has a length.
    pub(crate) fn body(mut self) -> io::Result<Vec<u8>> {
        if let Some(length) = self.header("content-length") {
            let mut body = vec![0; length.parse().expect("a number")];
            self.stream.read_exact(&mut body)?;
            return Ok(body);
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk()? {
            body.extend(chunk);
        }
        Ok(body)
    }

    pub(crate) fn json(self) -> Value {
        let body = self.body().expect("it is complete");
        serde_json::from_slice(&body).expect("it is JSON")
    }

    /// The next chunk; `None` after the last.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        assert_eq!(self.header("transfer-encoding"), Some("chunked"));
        let mut size = String::new();
        if self.stream.read_line(&mut size)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a size");
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk)?;
        assert_eq!(chunk.split_off(size), b"\r\n");
        Ok((size > 0).then_some(chunk))
    }

    /// The next line of a watch.
    pub(crate) fn next(&mut self) -> Next {
        loop {
            if let Some(end) = self.line.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                let event = serde_json::from_slice(&line);
                return event.map_or(Next::Garbage(line), Next::Event);
            }
            match self.chunk() {
                Ok(Some(chunk)) => self.line.extend(chunk),
                Ok(None) => return Next::End,
                Err(_) => return Next::Broken(self.line.len()),
            }
        }
    }

    /// The next event: its type, its pod's name, and its object.
    pub(crate) fn event(&mut self) -> (String, String, Value) {
        let Next::Event(mut event) = self.next() else {
            panic!("no event comes");
        };
        let object = event["object"].take();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            text(&event["type"]),
            text(&object["metadata"]["name"]),
            object,
        )
    }
}
