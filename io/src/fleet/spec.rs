//! One pod as files and requests describe it.
use crate::limits::{ADAPTERS_PER_WORKER_MAX, NAME_BYTES_MAX, RANKS_MAX};
use kvroute_engine::limits::BLOCK_SIZE_MAX;
use serde::{Deserialize, Deserializer, Serialize};

/// One pod: an entry of the fleet file, and the body of `POST /v1/workers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodSpec {
    /// The pod's name, `namespace/name` on Kubernetes.
    pub pod: String,
    /// The pod's identity: a new one means that the old one's cache is gone.
    #[serde(default)]
    pub uid: Option<String>,
    /// The served model's name.
    pub model: String,
    /// Where requests go, `host:port`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Where rank 0 publishes events, `tcp://host:port`; rank r adds r to the port.
    pub events: String,
    /// Where rank 0 answers replay requests; rank r adds r to the port.
    #[serde(default)]
    pub replay: Option<String>,
    /// Data-parallel ranks.
    #[serde(default = "one")]
    pub ranks: u32,
    /// The number of the first rank: 0, but for a rank that was registered on its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_rank: u32,
    /// Adapters known beforehand; others are learnt from events.
    #[serde(default, deserialize_with = "list_or_null")]
    pub lora: Vec<String>,
    /// Tokens per block, if known beforehand; it is learnt from events.
    #[serde(default)]
    pub block_size: Option<u32>,
}

const fn one() -> u32 {
    1
}

/// `lora:` without a value is null in YAML.
fn list_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What is wrong with a pod's description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SpecError {
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong with it, with the value.
    pub message: String,
}

/// Where one rank publishes and replays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankEndpoints {
    /// The rank's number.
    pub rank: u32,
    /// Its event socket.
    pub events: String,
    /// Its replay socket, if there is one.
    pub replay: Option<String>,
}

impl SpecError {
    fn new(field: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { field, message }
    }
}

impl PodSpec {
    /// The endpoints of every rank; an error names the field that is wrong.
    pub fn ranks(&self) -> Result<Vec<RankEndpoints>, SpecError> {
        self.check_names()?;
        self.check_numbers()?;
        let events = Endpoint::parse("events", &self.events)?;
        let replay = self
            .replay
            .as_deref()
            .map(|replay| Endpoint::parse("replay", replay))
            .transpose()?;
        if let Some(replay) = &replay
            && replay.collides(&events, self.ranks)
        {
            let message = format!(
                "the ports of {} and {} overlap with {} ranks: rank r adds r to both; \
                 keep them at least {} apart",
                self.events, replay.text, self.ranks, self.ranks
            );
            return Err(SpecError::new("replay", message));
        }
        (0..self.ranks)
            .map(|offset| {
                Ok(RankEndpoints {
                    rank: self.first_rank + offset,
                    events: events.at("events", offset)?,
                    replay: replay
                        .as_ref()
                        .map(|replay| replay.at("replay", offset))
                        .transpose()?,
                })
            })
            .collect()
    }

    fn check_names(&self) -> Result<(), SpecError> {
        for (field, value) in [("pod", &self.pod), ("model", &self.model)] {
            if value.is_empty() {
                return Err(SpecError::new(field, "must not be empty"));
            }
        }
        let given = [
            ("pod", Some(&self.pod)),
            ("uid", self.uid.as_ref()),
            ("model", Some(&self.model)),
            ("endpoint", self.endpoint.as_ref()),
            ("events", Some(&self.events)),
            ("replay", self.replay.as_ref()),
        ];
        let adapters = self.lora.iter().map(|name| ("lora", Some(name)));
        for (field, value) in given.into_iter().chain(adapters) {
            if value.is_some_and(|value| value.len() > NAME_BYTES_MAX) {
                let message = format!("longer than {NAME_BYTES_MAX} bytes");
                return Err(SpecError::new(field, message));
            }
        }
        if self.lora.iter().any(String::is_empty) {
            return Err(SpecError::new(
                "lora",
                "an adapter's name must not be empty",
            ));
        }
        if self.lora.len() > ADAPTERS_PER_WORKER_MAX {
            let message = format!("more than {ADAPTERS_PER_WORKER_MAX} adapters");
            return Err(SpecError::new("lora", message));
        }
        self.endpoint.as_deref().map_or(Ok(()), check_host_port)
    }

    fn check_numbers(&self) -> Result<(), SpecError> {
        if self.ranks == 0 || self.ranks > RANKS_MAX {
            let message = format!("{} ranks; 1 to {RANKS_MAX} are possible", self.ranks);
            return Err(SpecError::new("ranks", message));
        }
        if self.first_rank > RANKS_MAX - self.ranks {
            let message = format!("ranks are numbered 0 to {}", RANKS_MAX - 1);
            return Err(SpecError::new("first_rank", message));
        }
        match self.block_size {
            Some(size) if size == 0 || size > BLOCK_SIZE_MAX => {
                let message = format!("{size} tokens; 1 to {BLOCK_SIZE_MAX} are possible");
                Err(SpecError::new("block_size", message))
            }
            _ => Ok(()),
        }
    }
}

/// Where requests go: `host:port`, since it becomes a header's value.
fn check_host_port(text: &str) -> Result<(), SpecError> {
    let wrong = || SpecError::new("endpoint", format!("{text:?}: expected host:port"));
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let clean = |c: char| c.is_ascii_graphic() && c != '/';
    if host.is_empty() || !host.chars().all(clean) || parse_port(port).is_none() {
        return Err(wrong());
    }
    Ok(())
}

/// A port to connect to, in plain digits.
fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port != 0)
}

struct Endpoint<'a> {
    text: &'a str,
    /// The part before the port and the port, for `tcp://host:port`.
    tcp: Option<(&'a str, u16)>,
}

impl<'a> Endpoint<'a> {
    fn parse(field: &'static str, text: &'a str) -> Result<Self, SpecError> {
        let wrong = |why: &str| {
            let message = format!("{text:?}: {why}; expected tcp://host:port or ipc://path");
            SpecError::new(field, message)
        };
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("a blank or a control character"));
        }
        if let Some(path) = text.strip_prefix("ipc://") {
            return if path.is_empty() {
                Err(wrong("no path"))
            } else {
                Ok(Self { text, tcp: None })
            };
        }
        let rest = text
            .strip_prefix("tcp://")
            .ok_or_else(|| wrong("unknown scheme"))?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| wrong("no port"))?;
        let port = parse_port(port).ok_or_else(|| wrong("not a port to connect to"))?;
        if ["", "*", "::", "[::]"].contains(&host) {
            return Err(wrong("not a host to connect to"));
        }
        let head = &text[..text.len() - rest.len() + host.len()];
        let tcp = Some((head, port));
        Ok(Self { text, tcp })
    }

    fn at(&self, field: &'static str, offset: u32) -> Result<String, SpecError> {
        match self.tcp {
            None if offset == 0 => Ok(self.text.to_owned()),
            // The engine's own rule for ipc (vLLM): the rank is appended.
            None => Ok(format!("{}_dp{offset}", self.text)),
            Some((head, port)) => {
                let port = u32::from(port) + offset;
                let port = u16::try_from(port).map_err(|_| {
                    let message = format!("{}: rank {offset} would have port {port}", self.text);
                    SpecError::new(field, message)
                })?;
                Ok(format!("{head}:{port}"))
            }
        }
    }

    /// Whether one rank's port here would be another rank's port there.
    fn collides(&self, other: &Self, ranks: u32) -> bool {
        match (self.tcp, other.tcp) {
            (Some((a, p)), Some((b, q))) => a == b && u32::from(p.abs_diff(q)) < ranks,
            _ => self.text == other.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(events: &str, replay: Option<&str>, ranks: u32) -> PodSpec {
        PodSpec {
            pod: "ns/a".into(),
            uid: None,
            model: "m".into(),
            endpoint: None,
            events: events.into(),
            replay: replay.map(str::to_owned),
            ranks,
            first_rank: 0,
            lora: Vec::new(),
            block_size: None,
        }
    }

    fn field_of(spec: &PodSpec) -> &'static str {
        spec.ranks()
            .map(|ranks| panic!("{ranks:?}"))
            .unwrap_err()
            .field
    }

    #[test]
    fn rank_r_adds_r_to_both_ports() {
        let spec = spec("tcp://10.0.0.7:5557", Some("tcp://10.0.0.7:5657"), 3);
        let ranks = spec.ranks().unwrap();
        let ports: Vec<_> = ranks
            .iter()
            .map(|r| (r.rank, r.events.as_str(), r.replay.as_deref().unwrap()))
            .collect();
        assert_eq!(
            ports,
            [
                (0, "tcp://10.0.0.7:5557", "tcp://10.0.0.7:5657"),
                (1, "tcp://10.0.0.7:5558", "tcp://10.0.0.7:5658"),
                (2, "tcp://10.0.0.7:5559", "tcp://10.0.0.7:5659"),
            ]
        );
    }

    #[test]
    fn a_rank_of_its_own_is_where_it_is_said_to_be() {
        let mut spec = spec("tcp://h:7000", None, 1);
        spec.first_rank = 3;
        let ranks = spec.ranks().unwrap();
        assert_eq!(ranks.len(), 1);
        assert_eq!(
            (ranks[0].rank, ranks[0].events.as_str()),
            (3, "tcp://h:7000")
        );
        spec.first_rank = RANKS_MAX;
        assert_eq!(field_of(&spec), "first_rank");
    }

    /// The default ports of vLLM, 5557 and 5558: fine for one rank, a collision for two.
    #[test]
    fn ports_of_ranks_that_collide_are_refused() {
        let (events, replay) = ("tcp://h:5557", Some("tcp://h:5558"));
        assert!(spec(events, replay, 1).ranks().is_ok());
        assert_eq!(field_of(&spec(events, replay, 2)), "replay");
        let message = spec(events, replay, 2).ranks().unwrap_err().to_string();
        assert!(
            message.contains("5557") && message.contains("5558"),
            "{message}"
        );
        assert!(spec(events, Some("tcp://h:5561"), 4).ranks().is_ok());
        assert_eq!(field_of(&spec(events, Some("tcp://h:5560"), 4)), "replay");
        assert_eq!(field_of(&spec(events, Some("tcp://h:5554"), 4)), "replay");
        assert_eq!(field_of(&spec(events, Some(events), 1)), "replay");
        assert!(
            spec(events, Some("tcp://g:5558"), 2).ranks().is_ok(),
            "another host"
        );
        assert_eq!(field_of(&spec("ipc:///e", Some("ipc:///e"), 1)), "replay");
    }

    #[test]
    fn a_port_beyond_the_last_one_is_refused() {
        assert!(spec("tcp://h:65534", None, 2).ranks().is_ok());
        assert_eq!(field_of(&spec("tcp://h:65534", None, 3)), "events");
        assert_eq!(
            field_of(&spec("tcp://h:5557", Some("tcp://h:65535"), 2)),
            "replay"
        );
    }

    #[test]
    fn endpoints_that_cannot_be_connected_to_are_refused() {
        for bad in [
            "",
            "h:5557",
            "http://h:5557",
            "tcp://h",
            "tcp://h:",
            "tcp://h:port",
            "tcp://h:+1",
            "tcp://h:0",
            "tcp://h:65536",
            "tcp://:5557",
            "tcp://*:5557",
            "tcp://[::]:5557",
            "tcp://h h:1",
            "tcp://h\0:1",
            "ipc://",
            "inproc://x",
        ] {
            assert_eq!(field_of(&spec(bad, None, 1)), "events", "{bad:?}");
            assert_eq!(
                field_of(&spec("tcp://h:1", Some(bad), 1)),
                "replay",
                "{bad:?}"
            );
        }
        for good in [
            "tcp://10.0.0.7:1",
            "tcp://[fd00::1]:5557",
            "tcp://a.b.svc:65535",
            "ipc:///tmp/e",
        ] {
            assert!(spec(good, None, 1).ranks().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn the_other_fields_are_checked_and_named() {
        let good = spec("tcp://h:1", None, 1);
        let changed = |change: fn(&mut PodSpec)| {
            let mut spec = good.clone();
            change(&mut spec);
            field_of(&spec)
        };
        assert_eq!(changed(|s| s.pod.clear()), "pod");
        assert_eq!(changed(|s| s.pod = "x".repeat(NAME_BYTES_MAX + 1)), "pod");
        assert_eq!(changed(|s| s.model.clear()), "model");
        assert_eq!(changed(|s| s.ranks = 0), "ranks");
        assert_eq!(changed(|s| s.ranks = RANKS_MAX + 1), "ranks");
        assert_eq!(changed(|s| s.block_size = Some(0)), "block_size");
        assert_eq!(
            changed(|s| s.block_size = Some(BLOCK_SIZE_MAX + 1)),
            "block_size"
        );
        assert_eq!(changed(|s| s.lora = vec![String::new()]), "lora");
        assert_eq!(
            changed(|s| s.endpoint = Some("http://h:1".into())),
            "endpoint"
        );
        assert_eq!(changed(|s| s.endpoint = Some("h".into())), "endpoint");
        assert_eq!(
            changed(|s| s.endpoint = Some("h:x\r\ny:1".into())),
            "endpoint"
        );
    }
}
