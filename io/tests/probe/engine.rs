//! An HTTP server that answers as it is told, over std's sockets: nothing of the node's own HTTP is in it.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How a path is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// 200 with this body.
    Body(String),
    /// Another status, with a body that says something else.
    Status(u16),
    /// These bytes and no more; then the connection ends.
    Bytes(Vec<u8>),
    /// Nothing, until the asker goes.
    Silence,
    /// This, and then this again and again without end.
    Endless(&'static str, &'static str),
}

#[derive(Debug, Default)]
struct Script {
    replies: Mutex<BTreeMap<String, Reply>>,
    asked: Mutex<Vec<String>>,
    heads: Mutex<Vec<String>>,
    /// The most that one asker took of an answer without end.
    taken: AtomicUsize,
    stop: AtomicBool,
}

/// The running server. Paths it was told nothing about are 404.
#[derive(Debug)]
pub(crate) struct HttpEngine {
    address: SocketAddr,
    script: Arc<Script>,
}

impl HttpEngine {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::<Script>::default();
        let shared = Arc::clone(&script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // An asker that goes is what some replies wait for.
                thread::spawn(move || stream.and_then(|stream| serve(stream, &shared)));
            }
        });
        Self { address, script }
    }

    /// `host:port`.
    pub(crate) fn endpoint(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn set(&self, path: &str, reply: Reply) {
        let mut replies = self.script.replies.lock().unwrap();
        replies.insert(path.to_owned(), reply);
    }

    pub(crate) fn set_body(&self, path: &str, body: impl Into<String>) {
        self.set(path, Reply::Body(body.into()));
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        let asked = self.script.asked.lock().unwrap();
        asked.iter().filter(|asked| *asked == path).count()
    }

    /// The most bytes that one asker took of an answer without end, buffers of the system among them.
    pub(crate) fn taken(&self) -> usize {
        self.script.taken.load(SeqCst)
    }

    /// The first request as it came.
    pub(crate) fn first_head(&self) -> String {
        self.script.heads.lock().unwrap()[0].clone()
    }
}

impl Drop for HttpEngine {
    fn drop(&mut self) {
        self.script.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, script: &Script) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while stream.read_line(&mut head)? > 2 {}
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let reply = script.replies.lock().unwrap().get(&path).cloned();
    script.heads.lock().unwrap().push(head);
    let out = stream.get_mut();
    match reply.unwrap_or(Reply::Status(404)) {
        Reply::Body(body) => {
            let length = body.len();
            write!(
                out,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
            )?;
        }
        Reply::Status(status) => write!(
            out,
            "HTTP/1.1 {status} Somehow\r\ncontent-length: 22\r\n\r\n{{\"detail\":\"Not Found\"}}"
        )?,
        Reply::Bytes(bytes) => out.write_all(&bytes)?,
        Reply::Silence => {
            script.asked.lock().unwrap().push(path);
            stream.read_to_end(&mut Vec::new())?;
            return Ok(());
        }
        Reply::Endless(begin, piece) => {
            script.asked.lock().unwrap().push(path);
            write!(out, "{begin}")?;
            out.set_write_timeout(Some(Duration::from_secs(60)))?;
            let pieces = piece.repeat(1 << 10);
            let mut taken = 0;
            loop {
                out.write_all(pieces.as_bytes())?;
                taken += pieces.len();
                script.taken.fetch_max(taken, SeqCst);
            }
        }
    }
    script.asked.lock().unwrap().push(path);
    Ok(())
}
