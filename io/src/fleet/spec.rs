//! One pod as files and requests describe it.
use crate::limits::RANKS_MAX;
use serde::{Deserialize, Serialize};

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
    #[serde(default)]
    pub lora: Vec<String>,
    /// Tokens per block, if known beforehand; it is learnt from events.
    #[serde(default)]
    pub block_size: Option<u32>,
}

const fn one() -> u32 {
    1
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

impl PodSpec {
    /// The endpoints of every rank; an error names the field that is wrong.
    pub fn ranks(&self) -> Result<Vec<RankEndpoints>, SpecError> {
        for (field, value) in [("pod", &self.pod), ("model", &self.model)] {
            if value.is_empty() {
                return Err(SpecError {
                    field,
                    message: "must not be empty".into(),
                });
            }
        }
        if self.ranks == 0 || self.ranks > RANKS_MAX {
            let message = format!("{} ranks; 1 to {RANKS_MAX} are possible", self.ranks);
            return Err(SpecError {
                field: "ranks",
                message,
            });
        }
        if self.block_size == Some(0) {
            return Err(SpecError {
                field: "block_size",
                message: "must not be 0".into(),
            });
        }
        let events = Endpoint::parse("events", &self.events)?;
        let replay = self
            .replay
            .as_deref()
            .map(|r| Endpoint::parse("replay", r))
            .transpose()?;
        if let Some(replay) = &replay
            && replay.collides(&events, self.ranks)
        {
            let message = format!(
                "with {} ranks the ports of {} and {} overlap; keep them at least {} apart",
                self.ranks, self.events, replay.text, self.ranks
            );
            return Err(SpecError {
                field: "replay",
                message,
            });
        }
        (0..self.ranks)
            .map(|offset| {
                Ok(RankEndpoints {
                    rank: self.first_rank.saturating_add(offset),
                    events: events.at("events", offset)?,
                    replay: replay
                        .as_ref()
                        .map(|r| r.at("replay", offset))
                        .transpose()?,
                })
            })
            .collect()
    }
}

struct Endpoint<'a> {
    text: &'a str,
    /// The part before the port and the port, for `tcp://host:port`.
    tcp: Option<(&'a str, u16)>,
}

impl<'a> Endpoint<'a> {
    fn parse(field: &'static str, text: &'a str) -> Result<Self, SpecError> {
        let wrong = |why: &str| SpecError {
            field,
            message: format!("{text:?}: {why}; expected tcp://host:port or ipc://path"),
        };
        if text.contains('\0') {
            return Err(wrong("a NUL character"));
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
        let port: u16 = port.parse().map_err(|_| wrong("not a port number"))?;
        if port == 0 || host.is_empty() || host == "*" {
            return Err(wrong("a host and a port to connect to are needed"));
        }
        let head = &text[..text.len() - rest.len() + host.len()];
        Ok(Self {
            text,
            tcp: Some((head, port)),
        })
    }

    fn at(&self, field: &'static str, offset: u32) -> Result<String, SpecError> {
        match self.tcp {
            None if offset == 0 => Ok(self.text.to_owned()),
            // The engine's own rule for ipc (vLLM): the rank is appended.
            None => Ok(format!("{}_dp{offset}", self.text)),
            Some((head, port)) => {
                let port = u32::from(port) + offset;
                let port = u16::try_from(port).map_err(|_| SpecError {
                    field,
                    message: format!("{}: rank {offset} would have port {port}", self.text),
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
