//! The ring of an engine's latest batches, and what a replay answers from it: honestly, or as its faults say.
//! Pure, so that a simulator can deliver the frames as it likes.
use super::Framing;
use super::chance::mix;
use super::faults::{Faults, Lie};
use crate::limits::RING_BYTES_MAX;
use crate::stream::replay::sequence_frame;
use std::collections::VecDeque;
use std::sync::Arc;

/// A batch in the ring.
type Kept = (u64, Arc<[u8]>);

/// The latest batches of one life.
#[derive(Clone, Debug)]
pub struct Ring {
    kept: VecDeque<Kept>,
    max: usize,
    /// Of all payloads.
    bytes: usize,
}

impl Ring {
    /// A ring of at most so many batches.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            max,
            bytes: 0,
        }
    }

    /// Adds the newest batch; the oldest makes room.
    pub fn push(&mut self, sequence: u64, payload: &[u8]) {
        self.kept.push_back((sequence, payload.into()));
        self.bytes += payload.len();
        self.set_max(self.max);
    }

    /// Keeps no more than so many from now on.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
        while self.kept.len() > max || self.bytes > RING_BYTES_MAX {
            let Some((_, payload)) = self.kept.pop_front() else {
                break;
            };
            self.bytes -= payload.len();
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    /// The number of the oldest batch that is left.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.kept.front().map(|&(sequence, _)| sequence)
    }

    /// What is answered to a request for all from `start` on.
    #[must_use]
    pub fn answers(&self, start: u64, form: &Form) -> Answers {
        let asked = self.kept.iter().filter(|&&(sequence, _)| sequence >= start);
        Answers {
            batches: asked.cloned().collect(),
            last: None,
            form: form.clone(),
            sent: 0,
            ended: false,
        }
    }
}

/// In which form replays are answered.
#[derive(Clone, Debug)]
pub struct Form {
    /// How many frames.
    pub framing: Framing,
    /// The publisher's topic.
    pub topic: String,
    /// What goes wrong.
    pub faults: Faults,
}

/// The messages of one replay, without the router's identity frame. An endless one does not end.
#[derive(Clone, Debug)]
pub struct Answers {
    batches: VecDeque<Kept>,
    /// What an endless replay repeats.
    last: Option<Kept>,
    form: Form,
    sent: u64,
    ended: bool,
}

impl Iterator for Answers {
    type Item = Vec<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let faults = self.form.faults;
        if self.ended || faults.silent || faults.half.is_some_and(|most| self.sent >= most) {
            return None;
        }
        self.sent += 1;
        let Some((sequence, payload)) = self.batches.pop_front() else {
            if faults.endless
                && let Some((sequence, payload)) = self.last.clone()
            {
                return Some(self.message(sequence, &payload));
            }
            self.ended = true;
            return Some(self.frames(b"", &sequence_frame(u64::MAX), b""));
        };
        self.last = Some((sequence, Arc::clone(&payload)));
        Some(self.message(sequence, &payload))
    }
}

impl Answers {
    /// A batch, true or not.
    fn message(&self, sequence: u64, payload: &[u8]) -> Vec<Vec<u8>> {
        let topic = self.form.topic.as_bytes();
        let honest = |sequence| self.frames(topic, &sequence_frame(sequence), payload);
        // About every third message is a lie.
        let chance = mix(self.sent ^ (sequence << 32));
        let lie = self.form.faults.lie.filter(|_| chance.is_multiple_of(3));
        match (lie, (chance >> 32) % 4) {
            (None, _) => honest(sequence),
            (Some(Lie::Numbers), 0) => honest(sequence + 1),
            (Some(Lie::Numbers), 1) => honest(sequence.saturating_sub(1)),
            (Some(Lie::Numbers), 2) => honest(sequence + 1_000),
            (Some(Lie::Numbers), _) => honest(u64::MAX),
            (Some(Lie::Bytes), 0) => {
                let half = &payload[..payload.len() / 2];
                self.frames(topic, &sequence_frame(sequence), half)
            }
            (Some(Lie::Bytes), 1) => self.frames(topic, &sequence_frame(sequence), b""),
            (Some(Lie::Bytes), _) => self.frames(topic, &sequence_frame(sequence), &[0xc1; 40]),
            (Some(Lie::Frames), 0) => vec![Vec::new()],
            (Some(Lie::Frames), 1) => self.frames(topic, &[1, 2, 3], payload),
            (Some(Lie::Frames), 2) => vec![Vec::new(), payload.to_vec()],
            (Some(Lie::Frames), _) => vec![payload.to_vec(); 12],
        }
    }

    fn frames(&self, topic: &[u8], number: &[u8], payload: &[u8]) -> Vec<Vec<u8>> {
        let frames: &[&[u8]] = match self.form.framing {
            Framing::Three => &[b"", number, payload],
            Framing::Four => &[b"", topic, number, payload],
        };
        frames.iter().map(|frame| frame.to_vec()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::replay::{Answer, read_answer};

    fn ring(batches: std::ops::Range<u64>, max: usize) -> Ring {
        let mut ring = Ring::new(max);
        batches.for_each(|n| ring.push(n, &[n as u8; 4]));
        ring
    }

    fn read(ring: &Ring, start: u64, faults: Faults) -> Vec<Option<u64>> {
        let form = Form {
            framing: Framing::Four,
            topic: "t".to_owned(),
            faults,
        };
        let answers = ring.answers(start, &form).take(20);
        answers
            .map(|frames| {
                let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
                match read_answer(&frames) {
                    Ok(Answer::Batch(batch)) => Some(batch.sequence),
                    Ok(Answer::End) => None,
                    Err(reason) => panic!("{reason:?}"),
                }
            })
            .collect()
    }

    #[test]
    fn replays_are_answered_as_engines_do() {
        let full = ring(0..5, 10);
        let honest = Faults::default();
        assert_eq!(read(&full, 3, honest), [Some(3), Some(4), None]);
        assert_eq!(read(&full, 9, honest), [None]);
        // Older than the ring: from the oldest that is left, without a word.
        assert_eq!(read(&ring(0..5, 2), 0, honest), [Some(3), Some(4), None]);
    }

    #[test]
    fn replays_fail_as_they_are_told() {
        let full = ring(0..3, 10);
        let with = |fault: &str| read(&full, 1, fault.parse().unwrap());
        assert_eq!(with("silent"), []);
        assert_eq!(with("half=1"), [Some(1)]);
        assert_eq!(with("endless")[..4], [Some(1), Some(2), Some(2), Some(2)]);
        let many = ring(0..15, 20);
        let lies = read(&many, 0, "lying-numbers".parse().unwrap());
        assert!(
            lies.len() == 16 && lies != read(&many, 0, Faults::default()),
            "{lies:?}"
        );
    }
}
