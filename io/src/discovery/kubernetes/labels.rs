//! What labels and annotations say of a pod, as a description that the fleet understands. Which engine it is
//! (`model.aibrix.ai/engine`) does not matter: frames say their dialect themselves.
use super::object::Pod;
use crate::config::Preset;
use crate::fleet::{EVENTS_PORT, PodSpec, REPLAY_PORT};
use crate::limits::RANKS_MAX;
use std::fmt::Display;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

const AIBRIX_NAME: &str = "model.aibrix.ai/name";
const AIBRIX_PORT: &str = "model.aibrix.ai/port";
const AIBRIX_EVENTS: &str = "model.aibrix.ai/kv-events-enabled";
const AIBRIX_ADAPTER: &str = "model.aibrix.ai/lora-id";
const LLM_D_SELECTOR: &str = "llm-d.ai/inference-serving=true";
const LLM_D_MODEL: &str = "llm-d.ai/model";

/// Annotations: they go before labels. A label cannot hold every model's name.
const MODEL: &str = "kvroute.io/model";
const PORT: &str = "kvroute.io/port";
const KV_EVENTS: &str = "kvroute.io/kv-events";
const EVENTS: &str = "kvroute.io/events-port";
const REPLAY: &str = "kvroute.io/replay-port";
const RANKS: &str = "kvroute.io/ranks";
const HOST: &str = "kvroute.io/endpoint-host";

/// Where engines take requests unless told otherwise.
const REQUEST_PORT: u16 = 8_000;

/// The value that means: there is none.
const NONE: &str = "none";

/// Characters of a value that are told in an error: an annotation may have 256 KiB.
const SHOWN_CHARS: usize = 80;

/// The label selector of the pods that a preset means.
pub(super) fn selector(preset: Preset, and: Option<&str>) -> String {
    let of_preset = match preset {
        Preset::Aibrix => AIBRIX_NAME,
        Preset::LlmD => LLM_D_SELECTOR,
    };
    match and.map(str::trim).filter(|and| !and.is_empty()) {
        Some(and) => format!("{of_preset},{and}"),
        None => of_preset.to_owned(),
    }
}

/// The host that stands for the pod, as it stands in an address: the one that an annotation names, else the pod's address.
/// `None` while it has none. An error says which annotation is wrong.
pub(super) fn host(pod: &Pod) -> Result<Option<String>, String> {
    if let Some(host) = pod.annotation(HOST) {
        let wrong = || {
            wrong(
                &annotation(HOST),
                host,
                "expected a host name or an address",
            )
        };
        return as_host(host).map(Some).ok_or_else(wrong);
    }
    let address = pod.status.as_ref().and_then(|it| it.pod_ip.as_deref());
    let Some(address) = address.filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    let wrong = || wrong("status.podIP", address, "expected an address");
    as_host(address).map(Some).ok_or_else(wrong)
}

/// What the pod is, reached at `host`. An error names the label or annotation that is wrong, its value and what is allowed.
pub(super) fn describe(pod: &Pod, preset: Preset, host: &str) -> Result<PodSpec, String> {
    let endpoint = format!("{host}:{}", request_port(pod, preset)?);
    let mut spec = PodSpec {
        uid: pod.metadata.uid.clone(),
        endpoint: Some(endpoint),
        kv_events: kv_events(pod, preset)?,
        lora: adapters(pod, preset),
        ..PodSpec::new(pod.full_name(), model(pod, preset)?)
    };
    let ranks = 1..=RANKS_MAX;
    let ranks = number(pod, RANKS, &ranks, "a number of ranks")?;
    let events = number(pod, EVENTS, &(1..=u16::MAX), "a port")?;
    let replay = match pod.annotation(REPLAY) {
        Some(NONE) => Some(None),
        _ => number(pod, REPLAY, &(1..=u16::MAX), "none or a port")?.map(Some),
    };
    spec.ranks = ranks.unwrap_or(1);
    // Without any of them the engine itself is asked.
    if spec.kv_events && (ranks.is_some() || events.is_some() || replay.is_some()) {
        let at = |port: u16| format!("tcp://{host}:{port}");
        spec.events = Some(at(events.unwrap_or(EVENTS_PORT)));
        spec.replay = replay.unwrap_or(Some(REPLAY_PORT)).map(at);
    }
    Ok(spec)
}

fn model(pod: &Pod, preset: Preset) -> Result<String, String> {
    let label = match preset {
        Preset::Aibrix => AIBRIX_NAME,
        Preset::LlmD => LLM_D_MODEL,
    };
    let given = pod.annotation(MODEL).or_else(|| pod.label(label));
    let given = given.filter(|model| !model.is_empty());
    given
        .map(str::to_owned)
        .ok_or_else(|| format!("no model: expected the label {label} or the annotation {MODEL}"))
}

fn request_port(pod: &Pod, preset: Preset) -> Result<u16, String> {
    let ports = 1..=u16::MAX;
    if let Some(port) = number(pod, PORT, &ports, "a port")? {
        return Ok(port);
    }
    let label = pod.label(AIBRIX_PORT).filter(|_| preset == Preset::Aibrix);
    match label {
        Some(text) => parsed(text, &ports, "a port", &format!("label {AIBRIX_PORT}")),
        None => Ok(REQUEST_PORT),
    }
}

fn kv_events(pod: &Pod, preset: Preset) -> Result<bool, String> {
    match (pod.annotation(KV_EVENTS), preset) {
        (Some("true"), _) | (None, Preset::LlmD) => Ok(true),
        (Some("false"), _) => Ok(false),
        (Some(other), _) => {
            let expected = "expected true or false";
            Err(wrong(&annotation(KV_EVENTS), other, expected))
        }
        (None, Preset::Aibrix) => Ok(pod.label(AIBRIX_EVENTS) == Some("true")),
    }
}

fn adapters(pod: &Pod, preset: Preset) -> Vec<String> {
    let label = pod.label(AIBRIX_ADAPTER);
    let label = label.filter(|id| preset == Preset::Aibrix && !id.is_empty());
    label.map(str::to_owned).into_iter().collect()
}

/// The number that an annotation has, if it is there.
fn number<N: Copy + PartialOrd + Display + std::str::FromStr>(
    pod: &Pod,
    key: &str,
    range: &RangeInclusive<N>,
    what: &str,
) -> Result<Option<N>, String> {
    let text = pod.annotation(key);
    text.map(|text| parsed(text, range, what, &annotation(key)))
        .transpose()
}

/// Plain digits within a range.
fn parsed<N: Copy + PartialOrd + Display + std::str::FromStr>(
    text: &str,
    range: &RangeInclusive<N>,
    what: &str,
    place: &str,
) -> Result<N, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.filter(|it| range.contains(it)).ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        wrong(place, text, &format!("expected {what}, {least} to {most}"))
    })
}

fn annotation(key: &str) -> String {
    format!("annotation {key}")
}

fn wrong(place: &str, value: &str, expected: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN_CHARS).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    format!("{place}: {shown:?}: {expected}")
}

/// A host as it stands in an address, where an IPv6 address has brackets.
fn as_host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<Ipv6Addr>() {
        return Some(format!("[{address}]"));
    }
    let clean = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let possible = !text.is_empty() && text.len() <= 253 && text.chars().all(clean);
    possible.then(|| text.to_owned())
}
