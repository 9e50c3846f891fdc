//! A running node, and the bytes that go to and fro.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing that is waited for takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// `kvroute serve` without the variables of whoever runs the tests.
pub(crate) fn serve(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvroute"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KVROUTE_") {
            command.env_remove(name);
        }
    }
    command.arg("serve").args(args);
    command
}

/// A node. Killed if the test fails before it has stopped it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// The line that says where it answers.
    pub(crate) answering: String,
    log: Receiver<String>,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = serve(args).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = channel();
        // So that the node never waits for a reader of its log.
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut node = Self {
            child,
            answering: String::new(),
            log,
        };
        node.answering = node.logged("answering");
        node
    }

    /// The next line of the log with this in it.
    pub(crate) fn logged(&self, what: &str) -> String {
        self.logged_until(what).pop().unwrap()
    }

    /// The next lines of the log, to the one with this in it.
    pub(crate) fn logged_until(&self, what: &str) -> Vec<String> {
        let give_up = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        while let Ok(line) = self.log.recv_timeout(give_up - Instant::now()) {
            let found = line.contains(what);
            lines.push(line);
            if found {
                return lines;
            }
        }
        panic!("{what:?} is not in the log: {lines:#?}");
    }

    /// What the line that says where it answers has for this word.
    pub(crate) fn said(&self, word: &str) -> &str {
        let text = self.answering.split(&format!("{word}=")).nth(1);
        let json = || self.answering.split(&format!("\"{word}\":\"")).nth(1);
        let rest = text.or_else(json);
        let rest = rest.unwrap_or_else(|| panic!("{word}: {}", self.answering));
        rest.split([' ', '"']).next().unwrap()
    }

    /// A connection to its first address.
    pub(crate) fn connect(&self) -> TcpStream {
        let address = self.said("listen").split(',').next().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn get(&self, path: &str) -> String {
        self.ask("GET", path, "")
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = self.connect();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        rest(&mut stream)
    }

    /// The first answer of this kind to `/readyz`.
    pub(crate) fn wait_ready(&self, status: u16) -> String {
        let status = format!("HTTP/1.1 {status} ");
        let give_up = Instant::now() + PATIENCE;
        loop {
            let said = self.get("/readyz");
            if said.starts_with(&status) {
                return said;
            }
            assert!(Instant::now() < give_up, "{said}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Until `/readyz` says this.
    pub(crate) fn wait_said(&self, what: &str) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let said = self.get("/readyz");
            if said.contains(what) {
                return;
            }
            assert!(Instant::now() < give_up, "{said}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A metric's value.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.get("/metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        let value = value.unwrap_or_else(|| panic!("{name}: {metrics}"));
        value.trim().parse().unwrap()
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kilobytes * 1_024
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> ExitStatus {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < give_up, "it does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request that is in flight: its go-ahead has come, its body has not.
pub(crate) fn in_flight(node: &Running) -> TcpStream {
    let mut busy = node.connect();
    let head =
        "POST /v1/match HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    busy.write_all(head.as_bytes()).unwrap();
    assert!(answer(&mut busy).starts_with("HTTP/1.1 100 "));
    busy
}

/// All until the end of the connection.
pub(crate) fn rest(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // A connection that is reset has ended, too.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// One answer with a declared length, head and body.
pub(crate) fn answer(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap();
    let length = head
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    head + std::str::from_utf8(&body).unwrap()
}
