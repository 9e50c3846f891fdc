//! One pod as files and requests describe it.
use crate::limits::{ADAPTERS_PER_WORKER_MAX, NAME_BYTES_MAX, RANKS_MAX};
use kvroute_engine::limits::BLOCK_SIZE_MAX;
use serde::{Deserialize, Deserializer, Serialize};

/// The port that engines publish events on unless told otherwise.
pub const EVENTS_PORT: u16 = 5_557;

/// The port that engines answer replay requests on unless told otherwise.
pub const REPLAY_PORT: u16 = 5_558;

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
    /// Where rank 0 publishes events, `tcp://host:port`; rank r adds r to the port. If it is left out, the
    /// ports are [`EVENTS_PORT`] and [`REPLAY_PORT`] of the endpoint's host until the engine, asked over
    /// HTTP, names its ranks and their ports itself.
    #[serde(default)]
    pub events: Option<String>,
    /// Where rank 0 answers replay requests; rank r adds r to the port.
    #[serde(default)]
    pub replay: Option<String>,
    /// Whether it publishes events. What is known of a pod that does not is where requests were sent.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub kv_events: bool,
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

const fn yes() -> bool {
    true
}

/// `lora:` without a value is null in YAML.
fn list_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_true(b: &bool) -> bool {
    *b
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
    /// Its event socket; empty if it has none.
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
    /// A pod of one rank that publishes events, of which nothing else is said.
    #[must_use]
    pub fn new(pod: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            pod: pod.into(),
            uid: None,
            model: model.into(),
            endpoint: None,
            events: None,
            replay: None,
            kv_events: yes(),
            ranks: one(),
            first_rank: 0,
            lora: Vec::new(),
            block_size: None,
        }
    }

    /// The endpoints of every rank; an error names the field that is wrong.
    pub fn ranks(&self) -> Result<Vec<RankEndpoints>, SpecError> {
        self.check_names()?;
        self.check_numbers()?;
        if !self.kv_events {
            return self.without_events();
        }
        let (events, replay) = self.addresses()?;
        let events = Endpoint::parse("events", &events)?;
        let replay = replay
            .as_deref()
            .map(|replay| Endpoint::parse("replay", replay))
            .transpose()?;
        if let Some(replay) = &replay
            && replay.collides(&events, self.ranks)
        {
            let message = format!(
                "the ports of {} and {} overlap with {} ranks: rank r adds r to both; \
                 keep them at least {} apart",
                events.text, replay.text, self.ranks, self.ranks
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

    /// The ranks of a pod that publishes nothing.
    fn without_events(&self) -> Result<Vec<RankEndpoints>, SpecError> {
        if self.events.is_some() || self.replay.is_some() {
            let message = "false, and events or replay is given";
            return Err(SpecError::new("kv_events", message));
        }
        let silent = |offset| RankEndpoints {
            rank: self.first_rank + offset,
            events: String::new(),
            replay: None,
        };
        Ok((0..self.ranks).map(silent).collect())
    }

    /// Where rank 0 publishes and replays: as given, or the default ports of the endpoint's host.
    fn addresses(&self) -> Result<(String, Option<String>), SpecError> {
        if let Some(events) = &self.events {
            return Ok((events.clone(), self.replay.clone()));
        }
        let Some(host) = self.host() else {
            let message = "missing, and there is no endpoint to ask for it";
            return Err(SpecError::new("events", message));
        };
        if self.replay.is_some() || self.ranks != 1 || self.first_rank != 0 {
            let message = "missing: without it, the engine at the endpoint is asked for its ranks and \
                           ports; leave replay, ranks and first_rank out as well";
            return Err(SpecError::new("events", message));
        }
        let at = |port: u16| format!("tcp://{host}:{port}");
        Ok((at(EVENTS_PORT), Some(at(REPLAY_PORT))))
    }

    /// The endpoint's host, as it stands in an address.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        let (host, _) = self.endpoint.as_deref()?.rsplit_once(':')?;
        let bare = host.contains(':') && !host.starts_with('[');
        Some(if bare {
            format!("[{host}]")
        } else {
            host.to_owned()
        })
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
            ("events", self.events.as_ref()),
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

impl RankEndpoints {
    /// A rank whose endpoints its engine names: both are taken literally, but for a host that means all
    /// addresses of the engine's machine, which becomes `host`.
    pub fn named(
        rank: u32,
        host: &str,
        events: &str,
        replay: Option<&str>,
    ) -> Result<Self, SpecError> {
        if rank >= RANKS_MAX {
            let message = format!("rank {rank}; ranks are numbered 0 to {}", RANKS_MAX - 1);
            return Err(SpecError::new("ranks", message));
        }
        let replay = replay.map(|replay| reachable("replay", host, replay));
        Ok(Self {
            rank,
            events: reachable("events", host, events)?,
            replay: replay.transpose()?,
        })
    }
}

/// An address that a socket was bound to, as one to connect to.
fn reachable(field: &'static str, host: &str, bound: &str) -> Result<String, SpecError> {
    const EVERYWHERE: [&str; 6] = ["*", "0.0.0.0", "[::]", "::", "[::ffff:0.0.0.0]", ""];
    if bound.len() > NAME_BYTES_MAX {
        let message = format!("longer than {NAME_BYTES_MAX} bytes");
        return Err(SpecError::new(field, message));
    }
    let rest = bound.strip_prefix("tcp://");
    let address = match rest.and_then(|rest| rest.rsplit_once(':')) {
        Some((all, port)) if EVERYWHERE.contains(&all) => format!("tcp://{host}:{port}"),
        _ => bound.to_owned(),
    };
    Endpoint::parse(field, &address)?;
    Ok(address)
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
            events: Some(events.into()),
            replay: replay.map(str::to_owned),
            kv_events: true,
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

    /// A pod that is described by where requests go alone.
    fn asked(endpoint: &str) -> PodSpec {
        PodSpec {
            endpoint: Some(endpoint.into()),
            events: None,
            ..spec("", None, 1)
        }
    }

    #[test]
    fn without_events_the_default_ports_of_the_endpoint_hold() {
        for (endpoint, host) in [
            ("10.0.0.7:8000", "10.0.0.7"),
            ("[fd00::1]:8000", "[fd00::1]"),
            ("fd00::1:8000", "[fd00::1]"),
            ("a.b.svc:80", "a.b.svc"),
        ] {
            let expected = RankEndpoints {
                rank: 0,
                events: format!("tcp://{host}:5557"),
                replay: Some(format!("tcp://{host}:5558")),
            };
            assert_eq!(asked(endpoint).ranks().unwrap(), [expected]);
        }
    }

    /// What cannot be asked for, or would be half given and half asked for.
    #[test]
    fn missing_events_are_named() {
        let good = asked("h:8000");
        let changed = |change: fn(&mut PodSpec)| {
            let mut spec = good.clone();
            change(&mut spec);
            field_of(&spec)
        };
        assert_eq!(changed(|s| s.endpoint = None), "events");
        assert_eq!(
            changed(|s| s.replay = Some("tcp://h:5558".into())),
            "events"
        );
        assert_eq!(changed(|s| s.ranks = 2), "events");
        assert_eq!(changed(|s| s.first_rank = 1), "events");
        assert_eq!(changed(|s| s.endpoint = Some("*:8000".into())), "events");
    }

    #[test]
    fn a_bound_address_is_made_one_to_connect_to() {
        for (bound, expected) in [
            ("tcp://*:5557", "tcp://h:5557"),
            ("tcp://0.0.0.0:5557", "tcp://h:5557"),
            ("tcp://[::]:5557", "tcp://h:5557"),
            ("tcp://:::5557", "tcp://h:5557"),
            ("tcp://[::ffff:0.0.0.0]:5557", "tcp://h:5557"),
            ("tcp://10.1.2.3:40123", "tcp://10.1.2.3:40123"),
            ("ipc:///tmp/e", "ipc:///tmp/e"),
        ] {
            let rank = RankEndpoints::named(3, "h", bound, Some(bound)).unwrap();
            let expected = RankEndpoints {
                rank: 3,
                events: expected.into(),
                replay: Some(expected.into()),
            };
            assert_eq!(rank, expected, "{bound}");
        }
        for bad in ["tcp://*:0", "tcp://*", "inproc://x", "", "tcp://*:x y"] {
            let field = |events: &str, replay| {
                let refused = RankEndpoints::named(0, "h", events, replay);
                refused.unwrap_err().field
            };
            assert_eq!(field(bad, None), "events", "{bad:?}");
            assert_eq!(field("tcp://*:1", Some(bad)), "replay", "{bad:?}");
        }
        let last = RANKS_MAX - 1;
        assert!(RankEndpoints::named(last, "h", "tcp://*:1", None).is_ok());
        assert!(RankEndpoints::named(RANKS_MAX, "h", "tcp://*:1", None).is_err());
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
        for bad in ["http://h:1", "h", "h:x\r\ny:1"] {
            let mut spec = good.clone();
            spec.endpoint = Some(bad.into());
            assert_eq!(field_of(&spec), "endpoint");
        }
    }
}
