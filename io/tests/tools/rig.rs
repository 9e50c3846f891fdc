//! The program, an engine to point it at, and batches by hand.
use kvroute::fake::{FakeEngine, Framing, Options};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Read};
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
    err: Option<thread::JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = kvroute(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let (sender, out) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let err = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self {
            child,
            out,
            err: Some(err),
        }
    }

    /// The next line with this in it.
    pub(crate) fn said(&self, what: &str) -> String {
        let give_up = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        while let Ok(line) = self.out.recv_timeout(give_up - Instant::now()) {
            if line.contains(what) {
                return line;
            }
            lines.push(line);
        }
        panic!("{what:?} was not said: {lines:#?}");
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
        let err = self.err.take().unwrap().join().unwrap();
        let lines = self.out.iter().collect();
        (status.code().unwrap(), lines, err)
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
