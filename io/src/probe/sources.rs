//! What an engine says of where its ranks publish: the answer of `/kv_event_sources` (vLLM from 0.31); pure.
use crate::fleet::{RankEndpoints, WorkerInfo};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of the engine's words that are repeated in a message.
const REPEATED_BYTES: usize = 100;

/// One rank's publisher.
#[derive(Debug, Deserialize)]
struct Source {
    #[serde(default = "yes")]
    enable_kv_cache_events: bool,
    publisher: Option<String>,
    endpoint: Option<String>,
    replay_endpoint: Option<String>,
}

const fn yes() -> bool {
    true
}

/// What it comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The ranks that can be subscribed to, in order.
    pub ranks: Vec<RankEndpoints>,
    /// Why the others cannot, or all, in words.
    pub problem: Option<String>,
}

/// Reads an answer; `host` takes the place of addresses that mean the engine's whole machine. Topics are not
/// looked at, since all are subscribed to.
pub fn parse(body: &[u8], host: &str) -> Result<Sources, serde_json::Error> {
    let named: BTreeMap<u32, Option<Source>> = serde_json::from_slice(body)?;
    let mut sources = Sources::default();
    if named.is_empty() {
        sources.problem = Some("the engine names no event sources".to_owned());
    }
    for (rank, source) in named {
        match usable(rank, source, host) {
            Ok(endpoints) => sources.ranks.push(endpoints),
            Err(why) => {
                let problem = || format!("rank {rank} of the engine: {why}");
                sources.problem.get_or_insert_with(problem);
            }
        }
    }
    Ok(sources)
}

fn usable(rank: u32, source: Option<Source>, host: &str) -> Result<RankEndpoints, String> {
    let source = source.filter(|source| source.enable_kv_cache_events);
    let source = source.ok_or("KV cache events are not enabled")?;
    if let Some(publisher) = source.publisher.filter(|publisher| publisher != "zmq") {
        let publisher = shortened(&publisher);
        return Err(format!("publisher {publisher:?}; zmq is needed"));
    }
    let events = source.endpoint.ok_or("no endpoint is named")?;
    let replay = source.replay_endpoint.as_deref().filter(|r| !r.is_empty());
    RankEndpoints::named(rank, host, &events, replay).map_err(|wrong| wrong.to_string())
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(REPEATED_BYTES)]
}

/// What differs between the engine's words and a pod's explicit description: the ranks of the description
/// (`own`), among all known ranks of the pod (`all`). Hosts are not compared, as one machine has many names;
/// nor is a replay port that the description leaves out.
pub fn difference(
    own: &[Arc<WorkerInfo>],
    all: &[Arc<WorkerInfo>],
    named: &[RankEndpoints],
) -> Option<String> {
    let said = |rank: u32| named.iter().find(|said| said.rank == rank);
    let missing = own.iter().find(|info| said(info.rank()).is_none());
    let unknown = named
        .iter()
        .find(|said| all.iter().all(|info| info.rank() != said.rank));
    let other = own.iter().find_map(|info| {
        let said = said(info.rank())?;
        let replays = info.replay().zip(said.replay.as_deref());
        let differs = port(info.events()) != port(&said.events)
            || replays.is_some_and(|(given, said)| port(given) != port(said));
        differs.then_some((info, said))
    });
    match (missing, unknown, other) {
        (_, _, Some((info, said))) => Some(format!(
            "the engine names {} for rank {}, the pod's description {}",
            endpoints(said),
            info.rank(),
            endpoints(info.endpoints())
        )),
        (Some(info), _, _) => Some(format!(
            "the engine does not name rank {}, which the pod's description has at {}; it names {}",
            info.rank(),
            info.events(),
            ranks(named)
        )),
        (_, Some(said), _) => Some(format!(
            "the engine names rank {} at {}, which the pod's description leaves out",
            said.rank, said.events
        )),
        (None, None, None) => None,
    }
}

fn port(address: &str) -> Option<&str> {
    address.rsplit_once(':').map(|(_, port)| port)
}

fn endpoints(of: &RankEndpoints) -> String {
    match &of.replay {
        Some(replay) => format!("{} and {replay}", of.events),
        None => of.events.clone(),
    }
}

/// The first of the ranks, for a message.
pub(super) fn ranks(named: &[RankEndpoints]) -> String {
    const SHOWN: usize = 4;
    let mut shown: Vec<_> = named
        .iter()
        .take(SHOWN)
        .map(|rank| format!("rank {} at {}", rank.rank, endpoints(rank)))
        .collect();
    if named.len() > SHOWN {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RANKS_MAX;
    use proptest::prelude::*;

    fn rank(rank: u32, events: &str, replay: Option<&str>) -> RankEndpoints {
        RankEndpoints {
            rank,
            events: events.into(),
            replay: replay.map(str::to_owned),
        }
    }

    /// The answer of a real vLLM 0.32 server.
    #[test]
    fn what_a_real_engine_says() {
        let body = br#"{"0":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5558","buffer_steps":10000,"hwm":100000,"max_queue_size":100000,"topic":"kv@podA@tiny"}}"#;
        let sources = parse(body, "10.0.0.7").unwrap();
        let expected = rank(0, "tcp://10.0.0.7:5557", Some("tcp://10.0.0.7:5558"));
        assert_eq!(sources.ranks, [expected]);
        assert_eq!(sources.problem, None);
    }

    #[test]
    fn ports_are_taken_literally() {
        let body = br#"{"10":{"endpoint":"tcp://10.1.1.1:40123","replay_endpoint":null},
                        "2":{"endpoint":"tcp://0.0.0.0:7000","replay_endpoint":"tcp://[::]:9"}}"#;
        let sources = parse(body, "h").unwrap();
        let expected = [
            rank(2, "tcp://h:7000", Some("tcp://h:9")),
            rank(10, "tcp://10.1.1.1:40123", None),
        ];
        assert_eq!(sources.ranks, expected);
    }

    #[test]
    fn what_cannot_be_subscribed_to_is_named() {
        let beyond = format!(r#"{{"{RANKS_MAX}":{{"endpoint":"tcp://*:1"}}}}"#);
        for (body, part) in [
            ("{}", "no event sources"),
            (r#"{"0":null}"#, "not enabled"),
            (
                r#"{"0":{"enable_kv_cache_events":false,"publisher":"null","endpoint":"tcp://*:5557"}}"#,
                "not enabled",
            ),
            (
                r#"{"3":{"publisher":"null","endpoint":"tcp://*:5557"}}"#,
                "rank 3",
            ),
            (r#"{"0":{"publisher":"kafka\n"}}"#, r#""kafka\n""#),
            (r#"{"0":{"publisher":"zmq"}}"#, "no endpoint"),
            (r#"{"0":{"endpoint":"tcp://*:0"}}"#, "tcp://h:0"),
            (r#"{"0":{"endpoint":"inproc://x"}}"#, "inproc://x"),
            (
                r#"{"0":{"endpoint":"tcp://*:1","replay_endpoint":"x"}}"#,
                "replay",
            ),
            (&beyond, "1024"),
        ] {
            let sources = parse(body.as_bytes(), "h").unwrap();
            assert_eq!(sources.ranks, [], "{body}");
            let problem = sources.problem.unwrap();
            assert!(problem.contains(part), "{body}: {problem}");
        }
        let some = br#"{"0":{"endpoint":"tcp://*:1"},"1":{"endpoint":"x"},"2":{"endpoint":"y"}}"#;
        let sources = parse(some, "h").unwrap();
        assert_eq!(sources.ranks, [rank(0, "tcp://h:1", None)]);
        assert!(sources.problem.unwrap().contains("rank 1"), "the first");
    }

    #[test]
    fn something_else_is_refused() {
        for body in [
            "",
            "[]",
            "null",
            r#"{"a":{}}"#,
            r#"{"0":1}"#,
            r#"{"-1":null}"#,
        ] {
            assert!(parse(body.as_bytes(), "h").is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(endpoint in "\\PC*", host in "[a-z:\\[\\]]{0,5}") {
            let body = serde_json::json!({"0": {"endpoint": endpoint, "publisher": null}});
            let _ = parse(body.to_string().as_bytes(), &host);
        }
    }
}
