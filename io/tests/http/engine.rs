//! An engine's HTTP API as far as tokenizers ask it, over std's sockets: nothing of the node's own HTTP is in it.
//!
//! Its tokens are the numbers that stand in the text: a test says `"1 2 3"` and knows what it gets.
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// How a call is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// With the tokens.
    Tokens,
    /// With the tokens, once the engine is told to go on.
    Held,
    /// With this status, further headers (each with its line's end), and this body.
    Status(u16, &'static str, &'static str),
    /// With 200 and this body.
    Body(String),
    /// These bytes and no more; then the connection ends.
    Bytes(&'static str),
    /// Not at all.
    Silence,
    /// With 200 and a list without end.
    Endless,
}

type Script = Box<dyn FnMut(usize, &Value) -> Reply + Send>;

struct Inner {
    /// Told the number of the call and its body.
    script: Mutex<Script>,
    /// Bodies of `/tokenize`, as they came.
    asked: Mutex<Vec<String>>,
    /// Their heads, in small letters.
    heads: Mutex<Vec<String>>,
    version: Mutex<Option<String>>,
    versions_asked: AtomicUsize,
    connections: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    open: (Mutex<bool>, Condvar),
    stop: AtomicBool,
}

/// The running server.
pub(crate) struct Engine {
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl Engine {
    /// One that always answers well.
    pub(crate) fn new() -> Self {
        Self::scripted(|_, _| Reply::Tokens)
    }

    /// One that answers its calls, which are numbered from 0, as it is told.
    pub(crate) fn scripted(script: impl FnMut(usize, &Value) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            script: Mutex::new(Box::new(script)),
            asked: Mutex::default(),
            heads: Mutex::default(),
            version: Mutex::new(Some("0.32.0".to_owned())),
            versions_asked: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            open: (Mutex::new(false), Condvar::new()),
            stop: AtomicBool::new(false),
        });
        let shared = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(SeqCst) {
                    return;
                }
                let (shared, stream) = (Arc::clone(&shared), stream.unwrap());
                shared.connections.fetch_add(1, SeqCst);
                // An asker that goes is what some replies wait for.
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, inner }
    }

    /// `host:port`.
    pub(crate) fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// It says this version from now on; none at all without.
    pub(crate) fn set_version(&self, version: Option<&str>) {
        *self.inner.version.lock().unwrap() = version.map(str::to_owned);
    }

    /// Bodies of `/tokenize`, as they came.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.inner.asked.lock().unwrap().clone()
    }

    /// Heads of `/tokenize`, in small letters.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.inner.heads.lock().unwrap().clone()
    }

    /// How often it was asked for tokens.
    pub(crate) fn calls(&self) -> usize {
        self.inner.asked.lock().unwrap().len()
    }

    pub(crate) fn versions_asked(&self) -> usize {
        self.inner.versions_asked.load(SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.inner.connections.load(SeqCst)
    }

    /// The most calls that were under way at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.inner.most.load(SeqCst)
    }

    /// Answers all that is held, now and later.
    pub(crate) fn go_on(&self) {
        *self.inner.open.0.lock().unwrap() = true;
        self.inner.open.1.notify_all();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.inner.stop.store(true, SeqCst);
        self.go_on();
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, inner: &Inner) {
    let mut stream = BufReader::new(stream);
    while let Some((path, head, body)) = request(&mut stream) {
        let goes_on = if path == "/version" {
            inner.versions_asked.fetch_add(1, SeqCst);
            let version = inner.version.lock().unwrap().clone();
            match version {
                Some(version) => answer(
                    &mut stream,
                    200,
                    "",
                    &json!({"version": version}).to_string(),
                ),
                None => answer(&mut stream, 404, "", "{}"),
            }
        } else {
            inner.heads.lock().unwrap().push(head);
            tokenize(&mut stream, &body, inner)
        };
        if goes_on.is_none() {
            return;
        }
    }
}

fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, String, String)> {
    let mut head = String::new();
    loop {
        match stream.read_line(&mut head) {
            Ok(0) | Err(_) => return None,
            Ok(2) => break,
            Ok(_) => {}
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let head = head.to_ascii_lowercase();
    let length = head.split_once("content-length: ").map_or(0, |(_, rest)| {
        rest.split("\r\n").next().unwrap().parse().unwrap()
    });
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((path, head, String::from_utf8(body).unwrap()))
}

fn answer(stream: &mut BufReader<TcpStream>, status: u16, headers: &str, body: &str) -> Option<()> {
    let length = body.len();
    let text = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}");
    stream.get_mut().write_all(text.as_bytes()).ok()
}

fn tokenize(stream: &mut BufReader<TcpStream>, body: &str, inner: &Inner) -> Option<()> {
    let value: Value = serde_json::from_str(body).unwrap();
    let number = {
        let mut asked = inner.asked.lock().unwrap();
        asked.push(body.to_owned());
        asked.len() - 1
    };
    let now = inner.now.fetch_add(1, SeqCst) + 1;
    inner.most.fetch_max(now, SeqCst);
    let reply = (inner.script.lock().unwrap())(number, &value);
    if matches!(reply, Reply::Held) {
        let (open, opened) = &inner.open;
        let guard = opened.wait_while(open.lock().unwrap(), |open| !*open);
        drop(guard.unwrap());
    }
    // Before the answer: whoever has it may look at once.
    inner.now.fetch_sub(1, SeqCst);
    match reply {
        Reply::Tokens | Reply::Held => {
            let tokens = numbers(&value);
            let body = json!({"count": tokens.len(), "max_model_len": 2048, "tokens": tokens, "token_strs": null});
            answer(stream, 200, "", &body.to_string())
        }
        Reply::Status(status, headers, body) => answer(stream, status, headers, body),
        Reply::Body(body) => answer(stream, 200, "", &body),
        Reply::Bytes(bytes) => {
            stream.get_mut().write_all(bytes.as_bytes()).ok()?;
            None
        }
        Reply::Silence => {
            let _ = stream.read_to_end(&mut Vec::new());
            None
        }
        Reply::Endless => {
            let out = stream.get_mut();
            out.set_write_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            write!(out, "HTTP/1.1 200 OK\r\n\r\n{{\"tokens\":[1").ok()?;
            let piece = ",1".repeat(1 << 15);
            loop {
                out.write_all(piece.as_bytes()).ok()?;
            }
        }
    }
}

/// The numbers in a prompt, or in a chat's messages.
fn numbers(body: &Value) -> Vec<u32> {
    let texts: Vec<&str> = match (&body["messages"], &body["prompt"]) {
        (Value::Array(messages), _) => messages.iter().flat_map(texts_of).collect(),
        (_, Value::String(prompt)) => vec![prompt],
        _ => Vec::new(),
    };
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    words.filter_map(|word| word.parse().ok()).collect()
}

fn texts_of(message: &Value) -> Vec<&str> {
    match &message["content"] {
        Value::String(text) => vec![text],
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => Vec::new(),
    }
}
