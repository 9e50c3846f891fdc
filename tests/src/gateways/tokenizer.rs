//! An engine's `/tokenize` that says what a real one said.
use super::http::Message;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Answers by body: status and text.
#[derive(Debug, Default)]
struct Known {
    version: String,
    /// The answer of `/metrics`, if there is any.
    metrics: Option<String>,
    answers: HashMap<String, (u16, String)>,
    /// Bodies that nobody recorded.
    strange: Vec<String>,
    asked: usize,
}

/// The running server; it ends with the process.
#[derive(Debug)]
pub struct Tokenizer {
    address: SocketAddr,
    known: Arc<Mutex<Known>>,
}

impl Tokenizer {
    /// One that says this version of itself and knows nothing yet.
    ///
    /// # Errors
    /// No socket.
    pub fn start(version: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let known = Arc::new(Mutex::new(Known {
            version: version.to_owned(),
            ..Known::default()
        }));
        let shared = Arc::clone(&known);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Ok(Self { address, known })
    }

    /// `host:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// Whoever sends this body, as JSON, gets this answer.
    pub fn add(&self, body: &Value, status: u16, answer: String) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.answers.insert(canonical(body), (status, answer));
    }

    /// The same with an answer of these tokens.
    pub fn add_tokens(&self, body: &Value, tokens: &[u32]) {
        let answer = json!({"count": tokens.len(), "max_model_len": 2048, "tokens": tokens, "token_strs": null});
        self.add(body, 200, answer.to_string());
    }

    /// From now on it says this of its load.
    pub fn set_metrics(&self, text: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.metrics = Some(text.to_owned());
    }

    /// How often it was asked, and the bodies that it did not know.
    #[must_use]
    pub fn asked(&self) -> (usize, Vec<String>) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (known.asked, known.strange.clone())
    }
}

/// Two bodies that mean the same have the same: of a completion what its tokens depend on; of a chat everything but
/// what the tests add for the node.
fn canonical(body: &Value) -> String {
    let mut body = body.clone();
    if body["messages"].is_null() {
        let special = &body["add_special_tokens"];
        return json!([body["model"], body["prompt"], special]).to_string();
    }
    if let Some(fields) = body.as_object_mut() {
        fields.remove("candidates");
        fields.remove("extra_keys");
    }
    body.to_string()
}

fn serve(stream: TcpStream, known: &Mutex<Known>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(message) = Message::read(&mut stream)? {
        let (status, answer) = reply(&message, known);
        let length = answer.len();
        write!(
            stream.get_mut(),
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}"
        )?;
    }
    Ok(())
}

fn reply(message: &Message, known: &Mutex<Known>) -> (u16, String) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    match message.first.split(' ').nth(1) {
        Some("/version") => (200, json!({"version": known.version}).to_string()),
        Some("/metrics") if known.metrics.is_some() => {
            (200, known.metrics.clone().unwrap_or_default())
        }
        Some("/tokenize") => {
            known.asked += 1;
            let body = serde_json::from_slice(&message.body).unwrap_or_default();
            let answer = known.answers.get(&canonical(&body)).cloned();
            answer.unwrap_or_else(|| {
                known.strange.push(body.to_string());
                (500, String::new())
            })
        }
        _ => (404, String::new()),
    }
}
