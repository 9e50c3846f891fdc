//! The recordings that the demo plays, and how it strings them together.
use crate::trace::{ReadError, Recording};

/// What one played pod plays, over and over.
#[derive(Debug)]
pub(super) struct Part {
    /// The pod's name is the recorded one behind this.
    pub prefix: &'static str,
    /// What is said of it.
    pub about: &'static str,
    /// The workloads, one after the other.
    pub recording: Recording,
}

macro_rules! embedded {
    ($variant:literal: $($workload:literal)*) => {
        [$((
            concat!($variant, "/", $workload),
            include_bytes!(concat!("../../../tests/traces/", $variant, "/", $workload, ".events.jsonl.gz")).as_slice(),
            include_bytes!(concat!("../../../tests/traces/", $variant, "/", $workload, ".requests.jsonl.gz")).as_slice(),
        )),*]
    };
}

type Files = (&'static str, &'static [u8], &'static [u8]);

const NEW: &[Files] =
    &embedded!("v0.32.0-sha256-int-bs32": "multiturn" "core" "tokenturns" "evict" "dups");
const OLD: &[Files] = &embedded!("v0.23.0-sha256-int-bs16": "multiturn" "long" "salt" "evict");
const STEADY: &[Files] = &embedded!("v0.32.0-sha256-bytes32-bs32": "multiturn");

/// The pods that replay their workloads without end.
pub(super) fn parts() -> Result<Vec<Part>, ReadError> {
    Ok(vec![
        Part {
            prefix: "demo/vllm-0.32-",
            about: "vLLM 0.32, events as maps, blocks of 32 tokens: conversations, evictions, duplicates",
            recording: chain(NEW)?,
        },
        Part {
            prefix: "demo/vllm-0.23-",
            about: "vLLM 0.23, events as arrays, blocks of 16 tokens: conversations, long prompts, salts",
            recording: chain(OLD)?,
        },
    ])
}

/// The pod that publishes the first messages of its workload and then stays as it is, so that there
/// is something to look up at any time.
pub(super) fn steady() -> Result<Part, ReadError> {
    let mut recording = chain(STEADY)?;
    recording.messages.truncate(4);
    Ok(Part {
        prefix: "demo/steady-",
        about: "vLLM 0.32, block hashes of 32 bytes: fills its cache once and is idle from then on",
        recording,
    })
}

/// Workloads of one engine as one recording: times go on, and batches are numbered from 0.
fn chain(files: &[Files]) -> Result<Recording, ReadError> {
    /// Seconds between two workloads.
    const PAUSE: f64 = 1.0;
    let mut whole: Option<Recording> = None;
    for (name, events, requests) in files {
        let mut part = Recording::parse(name, events, requests)?;
        let Some(whole) = &mut whole else {
            whole = Some(part);
            continue;
        };
        let shift = end(whole) + PAUSE - begin(&part);
        part.messages
            .iter_mut()
            .for_each(|message| message.at += shift);
        for entry in &mut part.entries {
            entry.sent += shift;
            entry.done += shift;
        }
        whole.messages.append(&mut part.messages);
        whole.entries.append(&mut part.entries);
    }
    let mut whole = whole.map_or_else(|| Recording::parse("", b"", b""), Ok)?;
    for (number, message) in (0_u64..).zip(&mut whole.messages) {
        message.set_number(number);
    }
    Ok(whole)
}

fn begin(recording: &Recording) -> f64 {
    let times = recording.entries.iter().map(|entry| entry.sent);
    times
        .chain(recording.messages.iter().map(|message| message.at))
        .fold(f64::INFINITY, f64::min)
}

fn end(recording: &Recording) -> f64 {
    let times = recording.entries.iter().map(|entry| entry.done);
    times
        .chain(recording.messages.iter().map(|message| message.at))
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Step, What};

    #[test]
    fn a_chain_keeps_every_step_in_order() {
        let whole = chain(NEW).unwrap();
        let numbers: Vec<_> = whole.messages.iter().map(|m| m.number().unwrap()).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
        let parts: Vec<_> = NEW
            .iter()
            .map(|(n, e, r)| Recording::parse(n, e, r).unwrap())
            .collect();
        let steps = |recording: &Recording| -> Vec<Result<Vec<u8>, String>> {
            let step = |step: Step<'_>| match step {
                Step::Published(message) => Ok(message.payload.clone()),
                Step::Happened(_, entry) => Err(entry.label.clone()),
            };
            recording.steps().map(step).collect()
        };
        let expected: Vec<_> = parts.iter().flat_map(steps).collect();
        assert_eq!(steps(&whole), expected);
        // Messages and entries, as their lines were counted in the files.
        assert_eq!(expected.len(), 142 + 139);
    }

    #[test]
    fn what_the_steady_pod_publishes_holds_its_first_prompt() {
        let part = steady().unwrap();
        let (_, request) = part.recording.requests().next().unwrap();
        let first = &request.tokens[..32];
        // MessagePack's integers up to 65,535, as they stand in the batch.
        let bytes: Vec<u8> = first
            .iter()
            .flat_map(|&token| match token {
                0..=0x7f => vec![token as u8],
                0x80..=0xff => vec![0xcc, token as u8],
                _ => vec![0xcd, (token >> 8) as u8, token as u8],
            })
            .collect();
        let held = |m: &crate::trace::Message| m.payload.windows(bytes.len()).any(|w| w == bytes);
        assert!(part.recording.messages.iter().any(held));
        assert!(
            part.recording
                .entries
                .iter()
                .any(|entry| entry.what == What::Reset)
        );
    }
}
