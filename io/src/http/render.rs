//! The answers of lookups as JSON, written by hand: field by field into one buffer, without looking at each value's type.
//!
//! The same bytes as serde_json makes of the same values, which the tests hold it to, in a third of the time.
use super::lookup::Found;
use super::matching::{Answer, Candidate};
use kvroute_engine::types::Tier;

/// Bytes of one candidate, if its names are not very long.
const CANDIDATE_BYTES: usize = 288;

/// Bytes of one worker of an overlap, twice.
const OVERLAP_BYTES: usize = 160;

/// A text that grows.
struct Json(Vec<u8>);

impl Json {
    fn with_room(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, number: impl itoa::Integer) {
        self.raw(itoa::Buffer::new().format(number));
    }

    fn number_or_null(&mut self, number: Option<impl itoa::Integer>) {
        match number {
            Some(number) => self.number(number),
            None => self.raw("null"),
        }
    }

    fn text(&mut self, text: &str) {
        // It cannot fail: what is written to has room.
        let _ = serde_json::to_writer(&mut self.0, text);
    }

    fn text_or_null(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.raw("null"),
        }
    }
}

/// The answer of `/v1/match`. O(candidates).
pub(super) fn matches(answer: &Answer<'_>) -> Vec<u8> {
    let room = answer.model.len() + CANDIDATE_BYTES * (answer.candidates.len() + 1);
    let mut json = Json::with_room(room);
    json.raw("{\"model\":");
    json.text(answer.model);
    json.raw(",\"tokens\":");
    json.number(answer.tokens);
    json.raw(",\"candidates\":[");
    let mut before = "{\"pod\":";
    for listed in &answer.candidates {
        json.raw(before);
        before = ",{\"pod\":";
        candidate(&mut json, listed);
    }
    json.raw("]}");
    json.0
}

/// From the pod's name on.
fn candidate(json: &mut Json, of: &Candidate<'_>) {
    json.text(of.pod);
    json.raw(",\"endpoint\":");
    json.text_or_null(of.endpoint);
    json.raw(",\"rank\":");
    json.number(of.rank);
    json.raw(",\"block_size\":");
    json.number_or_null(of.block_size);
    json.raw(",\"matched_blocks\":");
    json.number(of.matched_blocks);
    json.raw(",\"matched_tokens\":");
    json.number(of.matched_tokens);
    json.raw(",\"tiers\":{\"gpu\":");
    json.number(of.tiers.gpu);
    json.raw(",\"cpu\":");
    json.number(of.tiers.cpu);
    json.raw(",\"disk\":");
    json.number(of.tiers.disk);
    json.raw("},\"state\":\"");
    // A word of ours.
    json.raw(of.state);
    json.raw("\",\"age_ms\":");
    json.number_or_null(of.age_ms);
    json.raw("}");
}

/// The answer of `/query`: workers that are credited, by pod name and rank. O(workers).
pub(super) fn overlap(found: &[Found<'_>]) -> Vec<u8> {
    let mut json = Json::with_room(OVERLAP_BYTES * (found.len() + 1));
    json.raw("{\"scores\":{");
    for (at, ranks) in by_pod(found).enumerate() {
        begin(&mut json, at, ranks);
        by_rank(&mut json, ranks);
    }
    json.raw("},\"frequencies\":[],\"instances\":{");
    for (at, ranks) in by_pod(found).enumerate() {
        let most = |tier| ranks.iter().map(|rank| tokens(rank, tier)).max();
        let most = |tier| most(tier).unwrap_or(0);
        begin(&mut json, at, ranks);
        json.raw("{\"longest_matched\":");
        json.number(most(Tier::Disk));
        json.raw(",\"gpu\":");
        json.number(most(Tier::Gpu));
        json.raw(",\"dp\":");
        by_rank(&mut json, ranks);
        json.raw(",\"cpu\":");
        json.number(most(Tier::Cpu));
        json.raw(",\"disk\":");
        json.number(most(Tier::Disk));
        json.raw("}");
    }
    json.raw("}}");
    json.0
}

/// The ranks of each pod.
fn by_pod<'f, 'v>(found: &'f [Found<'v>]) -> impl Iterator<Item = &'f [Found<'v>]> {
    found.chunk_by(|a, b| a.info.pod().pod == b.info.pod().pod)
}

fn tokens(found: &Found<'_>, tier: Tier) -> u64 {
    found.score.map_or(0, |score| score.tokens(tier))
}

/// The pod's name, behind a comma unless it is the first.
fn begin(json: &mut Json, at: usize, ranks: &[Found<'_>]) {
    if at > 0 {
        json.raw(",");
    }
    if let Some(found) = ranks.first() {
        json.text(&found.info.pod().pod);
    }
    json.raw(":");
}

/// What each rank holds on the GPU.
fn by_rank(json: &mut Json, ranks: &[Found<'_>]) {
    let mut before = "{\"";
    for found in ranks {
        json.raw(before);
        before = ",\"";
        json.number(found.info.rank());
        json.raw("\":");
        json.number(tokens(found, Tier::Gpu));
    }
    json.raw("}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::matching::Tiers;

    #[test]
    fn what_is_written_by_hand_is_what_serde_json_writes() {
        let largest = Candidate {
            pod: "ns/\"quoted\"\u{1}é",
            endpoint: Some("[::1]:8000\\"),
            rank: u32::MAX,
            block_size: Some(16),
            matched_blocks: u32::MAX,
            matched_tokens: u64::MAX,
            tiers: Tiers {
                gpu: 0,
                cpu: 1_234_567_890,
                disk: u64::MAX,
            },
            state: "exact",
            age_ms: Some(7),
        };
        let smallest = || Candidate {
            pod: "",
            endpoint: None,
            rank: 0,
            block_size: None,
            matched_blocks: 0,
            matched_tokens: 0,
            tiers: Tiers {
                gpu: 0,
                cpu: 0,
                disk: 0,
            },
            state: "partial",
            age_ms: None,
        };
        for candidates in [
            vec![],
            vec![smallest()],
            vec![largest, smallest(), smallest()],
        ] {
            let answer = Answer {
                model: "a\n\"b",
                tokens: 4_096,
                candidates,
            };
            let by_serde = serde_json::to_string(&answer).unwrap();
            assert_eq!(String::from_utf8(matches(&answer)).unwrap(), by_serde);
        }
    }
}
