//! The frames of the replay protocol: what real engines sent, and that the fake engine does the same.
use kvroute::fake::{FakeEngine, Framing, Options};
use kvroute::status::SkipReason;
use kvroute::stream::replay::{Answer, RawBatch, read_answer, read_live, sequence_frame};
use kvroute::stream::socket::{Message, Socket, Sockets};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

type Frames = Vec<Vec<u8>>;

/// A recorded request and what the engine answered: the first and the last few messages.
struct Probe {
    label: String,
    sent: Frames,
    replies: u64,
    first: Vec<Frames>,
    last: Vec<Frames>,
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().expect("a frame in hex");
    let digits = hex.as_bytes().chunks_exact(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex"))
        .collect()
}

fn frames(list: &Value) -> Frames {
    list.as_array()
        .expect("a list of frames")
        .iter()
        .map(bytes)
        .collect()
}

fn probes(version: &str) -> Vec<Probe> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/replay");
    let text = std::fs::read_to_string(folder.join(format!("{version}.replay.jsonl")))
        .expect("the recorded probes are there");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let messages = |value: &Value| {
        value
            .as_array()
            .expect("messages")
            .iter()
            .map(frames)
            .collect()
    };
    lines
        .filter(|probe| probe["socket"] == "DEALER")
        .map(|probe| Probe {
            label: probe["label"].as_str().expect("a label").to_owned(),
            sent: frames(&probe["sent"]),
            replies: probe["replies"].as_u64().expect("a count"),
            first: messages(&probe["first"]),
            last: messages(&probe["last"]),
        })
        .collect()
}

fn borrowed(frames: &Frames) -> Vec<&[u8]> {
    frames.iter().map(Vec::as_slice).collect()
}

fn number(frames: &Frames) -> Option<u64> {
    match read_answer(&borrowed(frames)).expect("engines' frames are understood") {
        Answer::Batch(batch) => Some(batch.sequence),
        Answer::End => None,
    }
}

#[test]
fn recorded_answers_are_read_in_both_framings() {
    // The numbers were read from the probes by eye.
    for (version, framing, first, second) in [
        ("v0.23.0", 3, 0, 1),
        ("v0.32.0", 4, 0, 1),
        ("v0.32.0-buffer8", 4, 66, 67),
    ] {
        let probes = probes(version);
        let all = &probes[0];
        assert_eq!(all.label, "all from 0, DEALER with empty delimiter");
        assert!(
            all.first
                .iter()
                .chain(&all.last)
                .all(|frames| frames.len() == framing)
        );
        assert_eq!(number(&all.first[0]), Some(first), "{version}");
        assert_eq!(number(&all.first[1]), Some(second), "{version}");
        assert_eq!(
            all.last.last().map(number),
            Some(None),
            "{version}: the end marker"
        );
        let beyond = probes
            .iter()
            .find(|probe| probe.label.contains("future"))
            .expect("there");
        assert_eq!(
            beyond.first.iter().map(number).collect::<Vec<_>>(),
            [None],
            "{version}"
        );
    }
}

#[test]
fn frames_that_no_engine_sends_are_refused_by_reason() {
    let number = sequence_frame(258);
    assert_eq!(number, [0, 0, 0, 0, 0, 0, 1, 2]);
    let batch = RawBatch {
        sequence: 258,
        payload: b"p",
    };
    assert_eq!(read_live(&[b"topic", &number, b"p"]), Ok(batch));
    assert_eq!(read_answer(&[b"", &number, b"p"]), Ok(Answer::Batch(batch)));
    assert_eq!(
        read_answer(&[b"", b"topic", &number, b"p"]),
        Ok(Answer::Batch(batch))
    );

    assert_eq!(read_live(&[]), Err(SkipReason::Framing));
    assert_eq!(read_live(&[&number, b"p"]), Err(SkipReason::Framing));
    assert_eq!(
        read_live(&[b"", b"topic", &number, b"p"]),
        Err(SkipReason::Framing)
    );
    assert_eq!(
        read_live(&[b"", &number[1..], b"p"]),
        Err(SkipReason::Framing)
    );
    assert_eq!(read_live(&[b"", b"", b"p"]), Err(SkipReason::Framing));
    assert_eq!(read_answer(&[&number, b"p"]), Err(SkipReason::Framing));
    assert_eq!(
        read_answer(&[b"", b"", b"", &number, b"p"]),
        Err(SkipReason::Framing)
    );
    // Only an empty payload is the end.
    let last = RawBatch {
        sequence: u64::MAX,
        payload: b"p",
    };
    assert_eq!(
        read_answer(&[b"", &[0xff; 8], b"p"]),
        Ok(Answer::Batch(last))
    );
    assert_eq!(read_answer(&[b"", &[0xff; 8], b""]), Ok(Answer::End));
    assert_eq!(read_answer(&[b"", b"", &[0xff; 8], b""]), Ok(Answer::End));
}

/// All messages up to the end marker, or none.
fn answers(socket: &Socket) -> Vec<Frames> {
    let mut message = Message::default();
    let mut got = Vec::new();
    // An engine that does not answer is waited for this long.
    while socket.wait(Duration::from_millis(400)).expect("wait") {
        while socket.receive(&mut message).expect("receive") {
            let frames: Frames = message
                .frames()
                .iter()
                .map(|f| f.bytes().to_vec())
                .collect();
            let ended = number(&frames).is_none();
            got.push(frames);
            if ended {
                return got;
            }
        }
    }
    got
}

#[test]
fn the_fake_engine_answers_the_recorded_probes_like_the_real_one() {
    for (version, framing, topic, ring, published) in [
        ("v0.23.0", Framing::Three, "", 10_000, 354),
        ("v0.32.0", Framing::Four, "kv@podA@tiny", 10_000, 259),
        ("v0.32.0-buffer8", Framing::Four, "kv@pod0@tiny", 8, 74),
    ] {
        let topic = topic.to_owned();
        let options = Options {
            ring,
            framing,
            topic,
            ..Options::default()
        };
        let engine = FakeEngine::bind(options).expect("bind");
        (0..published).for_each(|n| engine.publish(n, b"payload").expect("publish"));
        let endpoint = engine
            .replay_endpoint()
            .expect("a replay endpoint")
            .to_owned();
        for probe in probes(version) {
            let socket = Sockets::new(1)
                .expect("a context")
                .requester(&endpoint)
                .expect("connect");
            assert!(socket.send(&borrowed(&probe.sent)).expect("send"));
            let got = answers(&socket);
            let name = format!("{version}: {}", probe.label);
            assert_eq!(got.len() as u64, probe.replies, "{name}");
            // The payloads differ, everything before them must not.
            let heads = |messages: &[Frames]| -> Vec<Frames> {
                let head = |frames: &Frames| frames[..frames.len() - 1].to_vec();
                messages.iter().map(head).collect()
            };
            assert_eq!(
                heads(&got)[..probe.first.len()],
                heads(&probe.first),
                "{name}"
            );
            assert_eq!(
                heads(&got)[got.len() - probe.last.len()..],
                heads(&probe.last),
                "{name}"
            );
        }
    }
}
