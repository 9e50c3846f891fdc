//! A small HTTP server in place of an engine: it answers every request with who it is and what it got.
use super::http::Message;
use serde_json::json;
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// A running backend. Dropping it closes its port.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Starts one on a port that the system chooses.
    ///
    /// # Errors
    /// There is no port.
    pub fn start(name: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (name, stop) = (name.to_owned(), Arc::clone(&stopping));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                // Relaxed: only a flag, and the connection that wakes us comes after it.
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let name = name.clone();
                // A connection's thread ends with the connection, whose other end the test ends.
                let _ = stream.map(|stream| thread::spawn(move || serve(stream, &name)));
            }
        });
        Ok(Self {
            address,
            stopping,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let woken = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take().filter(|_| woken.is_ok()) {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, name: &str) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Message::read(&mut stream)? {
        let answer = json!({
            "backend": name,
            "request": request.first,
            "target_pod": request.header("target-pod"),
            "rank": request.header("x-data-parallel-rank"),
            "body_bytes": request.body.len(),
        });
        let answer = answer.to_string();
        let length = answer.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        let out = stream.get_mut();
        out.write_all(&[head.as_bytes(), answer.as_bytes()].concat())?;
    }
    Ok(())
}
