//! The program, an engine to point it at, and batches by hand.
use kvroute::fake::{FakeEngine, Framing, Options};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing that is waited for takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The program without the variables of whoever runs the tests.
pub(crate) fn kvroute(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvroute"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KVROUTE_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// (exit code, stdout, stderr) of a run that ends by itself.
pub(crate) fn run(args: &[&str]) -> (i32, String, String) {
    let output = kvroute(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A run that goes on. Killed if the test fails before it has ended.
pub(crate) struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

/// The lines of a stream, as they come.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// The next line with this in it.
fn found(lines: &Receiver<String>, what: &str) -> String {
    let give_up = Instant::now() + PATIENCE;
    let mut others = Vec::new();
    while let Ok(line) = lines.recv_timeout(give_up - Instant::now()) {
        if line.contains(what) {
            return line;
        }
        others.push(line);
    }
    panic!("{what:?} was not said: {others:#?}");
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = kvroute(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// The next line with this in it.
    pub(crate) fn said(&self, what: &str) -> String {
        found(&self.out, what)
    }

    /// The next line of stderr with this in it.
    pub(crate) fn logged(&self, what: &str) -> String {
        found(&self.err, what)
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(told.success());
    }

    /// Waits for the end: (exit code, the lines that were not read yet, stderr).
    pub(crate) fn end(mut self) -> (i32, Vec<String>, String) {
        let give_up = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < give_up, "it does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let lines = self.out.iter().collect();
        let err: Vec<String> = self.err.iter().collect();
        (status.code().unwrap(), lines, err.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An engine that answers replays in this framing.
pub(crate) fn engine(framing: Framing, topic: &str) -> FakeEngine {
    let options = Options {
        framing,
        topic: topic.to_owned(),
        ..Options::default()
    };
    FakeEngine::bind(options).unwrap()
}

/// A batch of these events, at 1,700,000,000 s.
pub(crate) fn batch(events: &[Json]) -> Vec<u8> {
    let batch = serde_json::json!([1.7e9, events, 0]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &value(&batch)).unwrap();
    bytes
}

/// As MessagePack; a text that begins with `0x` becomes bytes.
pub(crate) fn value(json: &Json) -> rmpv::Value {
    match json {
        Json::Null => rmpv::Value::Nil,
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => value.into(),
            (None, Some(value)) => value.into(),
            (None, None) => number.as_f64().unwrap().into(),
        },
        Json::String(text) => match text.strip_prefix("0x") {
            Some(hex) => {
                let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
                bytes.into()
            }
            None => text.as_str().into(),
        },
        Json::Array(values) => rmpv::Value::Array(values.iter().map(value).collect()),
        Json::Object(pairs) => {
            let pairs = pairs.iter();
            let pairs = pairs.map(|(key, of)| (key.as_str().into(), value(of)));
            rmpv::Value::Map(pairs.collect())
        }
    }
}

/// A running node.
pub(crate) struct Node {
    running: Running,
    pub(crate) address: String,
}

impl Node {
    pub(crate) fn start() -> Self {
        let running = Running::start(&["serve", "--listen", "127.0.0.1:0"]);
        let line = running.logged("answering");
        let address = line.split("listen=").nth(1).unwrap();
        let address = address.split([',', ' ']).next().unwrap().to_owned();
        Self { running, address }
    }

    /// The answer's body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Json) -> Json {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 20"), "{answer}");
        serde_json::from_str(body).unwrap_or(Json::Null)
    }

    /// Adds a pod of one rank.
    pub(crate) fn follow(&self, pod: &str, events: &str, replay: Option<&str>) {
        let spec =
            serde_json::json!({"pod": pod, "model": "m", "events": events, "replay": replay});
        self.ask("POST", "/v1/workers", &spec);
    }

    /// The first worker, once its last batch is this one.
    pub(crate) fn caught_up(&self, last: u64) -> Json {
        let mut worker = Json::Null;
        until("the last batch is applied", || {
            worker = self.ask("GET", "/v1/workers", &Json::Null)[0].take();
            worker["last_sequence"] == last && worker["state"] != "replaying"
        });
        worker
    }

    pub(crate) fn stop(self) {
        self.running.interrupt();
        assert_eq!(self.running.end().0, 0);
    }
}
