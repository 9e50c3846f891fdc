//! The DevTools protocol on two pipes: JSON messages, each ended by a zero byte.
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

/// Both directions.
#[derive(Debug)]
pub(super) struct Wire {
    to: ChildStdin,
    from: Receiver<Value>,
    /// The number of the latest command.
    last: u64,
}

impl Wire {
    pub(super) fn new(to: ChildStdin, from: ChildStdout) -> Self {
        let (sender, messages) = mpsc::channel();
        // Ends with the pipe, which ends with the browser.
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            while let Some(message) = next(&mut from) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self {
            to,
            from: messages,
            last: 0,
        }
    }

    /// Sends a command: its number, which the reply will have.
    pub(super) fn send(
        &mut self,
        session: Option<&str>,
        method: &str,
        params: &Value,
    ) -> Result<u64, String> {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut text = message.to_string().into_bytes();
        text.push(0);
        let sent = self.to.write_all(&text).and_then(|()| self.to.flush());
        sent.map_err(|error| format!("{method}: the browser does not read: {error}"))?;
        Ok(self.last)
    }

    /// The next message, a reply or an event; `None` if there is none until then.
    pub(super) fn receive(&self, until: Instant) -> Result<Option<Value>, String> {
        let patience = until.saturating_duration_since(Instant::now());
        match self.from.recv_timeout(patience) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("the browser has ended".to_owned()),
        }
    }
}

fn next(from: &mut BufReader<impl Read>) -> Option<Value> {
    let mut text = Vec::new();
    from.read_until(0, &mut text).ok()?;
    text.pop().filter(|&end| end == 0)?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_with_a_zero_byte() {
        let mut from = BufReader::new(&b"{\"id\":1}\0[2]\0{\"id\":3}"[..]);
        assert_eq!(next(&mut from), Some(json!({"id": 1})));
        assert_eq!(next(&mut from), Some(json!([2])));
        // Cut short.
        assert_eq!(next(&mut from), None);
    }
}
