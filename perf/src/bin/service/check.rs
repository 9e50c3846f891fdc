//! Whether answers are right.
use crate::Failure;
use crate::grid::{Encoding, Series};
use crate::workload::Prompt;
use serde::Deserialize;
use std::collections::BTreeMap;

/// How many candidates `/v1/match` lists unless it is told otherwise.
const CANDIDATES: usize = 16;

#[derive(Deserialize)]
struct Matched {
    candidates: Vec<Candidate>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Candidate {
    pod: String,
    matched_tokens: u64,
}

/// The answer of RFC #1403.
#[derive(Deserialize)]
struct Scores {
    scores: BTreeMap<String, BTreeMap<String, u64>>,
    instances: BTreeMap<String, Instance>,
}

#[derive(Deserialize)]
struct Instance {
    longest_matched: u64,
    gpu: u64,
}

/// Compares the body of an answer with what the workload says.
pub(crate) fn answer(
    series: Series,
    encoding: Encoding,
    prompt: Option<&Prompt>,
    body: &[u8],
) -> Result<(), Failure> {
    let Some(prompt) = prompt else {
        return Ok(());
    };
    match (series, encoding) {
        (Series::Bare, _) => Ok(()),
        (Series::Match, _) => {
            let matched: Matched = serde_json::from_slice(body)?;
            matched_is_right(prompt, &matched)
        }
        (Series::Query | Series::Dynamo, _) => {
            let scores: Scores = serde_json::from_slice(body)?;
            scores_are_right(prompt, &scores)
        }
    }
}

/// The best workers, most tokens first, then by name.
fn matched_is_right(prompt: &Prompt, matched: &Matched) -> Result<(), Failure> {
    let one = |(worker, &matched_tokens): (&usize, &u64)| Candidate {
        pod: worker.to_string(),
        matched_tokens,
    };
    let mut right: Vec<_> = prompt.held.iter().map(one).collect();
    right.sort_by(|a, b| {
        let tokens = b.matched_tokens.cmp(&a.matched_tokens);
        tokens.then_with(|| a.pod.cmp(&b.pod))
    });
    right.truncate(CANDIDATES);
    if matched.candidates != right {
        let answered = &matched.candidates;
        return Err(format!("candidates {answered:?} instead of {right:?}").into());
    }
    Ok(())
}

/// Every worker that holds something, on the GPU, in both parts of the answer.
fn scores_are_right(prompt: &Prompt, scores: &Scores) -> Result<(), Failure> {
    let text = |(worker, &tokens): (&usize, &u64)| (worker.to_string(), tokens);
    let right: BTreeMap<_, _> = prompt.held.iter().map(text).collect();
    let of_rank = |(worker, ranks): (&String, &BTreeMap<_, u64>)| {
        (worker.clone(), ranks.values().copied().max().unwrap_or(0))
    };
    let flat: BTreeMap<_, _> = scores.scores.iter().map(of_rank).collect();
    if flat != right {
        return Err(format!("scores {flat:?} instead of {right:?}").into());
    }
    let instances = scores.instances.iter();
    let longest: BTreeMap<_, _> = instances
        .map(|(worker, instance)| (worker.clone(), instance.longest_matched))
        .collect();
    let agree = scores
        .instances
        .values()
        .all(|i| i.gpu == i.longest_matched);
    if longest != right || !agree {
        return Err(format!("instances {longest:?} instead of {right:?}").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Worker 3 holds two blocks, 11 and 4 one.
    fn prompt() -> Prompt {
        Prompt {
            tokens: Vec::new(),
            hashes: Vec::new(),
            held: BTreeMap::from([(3, 32), (4, 16), (11, 16)]),
        }
    }

    fn is_right(series: Series, body: &Value) -> bool {
        let body = body.to_string();
        answer(series, Encoding::Compact, Some(&prompt()), body.as_bytes()).is_ok()
    }

    #[test]
    fn candidates_are_compared_in_order() {
        let matched = |candidates: &[(&str, u64)]| {
            let one = |(pod, tokens): &(&str, u64)| json!({"pod": pod, "matched_tokens": tokens});
            json!({"candidates": candidates.iter().map(one).collect::<Vec<_>>()})
        };
        let is_right = |candidates| is_right(Series::Match, &matched(candidates));
        assert!(is_right(&[("3", 32), ("11", 16), ("4", 16)]));
        assert!(!is_right(&[("3", 32), ("4", 16), ("11", 16)]));
        assert!(!is_right(&[("3", 32), ("11", 16), ("4", 32)]));
        assert!(!is_right(&[("3", 32), ("11", 16)]));
        assert!(!is_right(&[]));
    }

    #[test]
    fn both_parts_of_scores_are_compared() {
        let right = json!({
            "scores": {"3": {"0": 32}, "4": {"0": 16}, "11": {"0": 16}},
            "instances": {
                "3": {"longest_matched": 32, "gpu": 32},
                "4": {"longest_matched": 16, "gpu": 16},
                "11": {"longest_matched": 16, "gpu": 16},
            },
        });
        for series in [Series::Query, Series::Dynamo] {
            assert!(is_right(series, &right));
            for wrong in [
                "/scores/4/0",
                "/instances/4/longest_matched",
                "/instances/4/gpu",
            ] {
                let mut body = right.clone();
                *body.pointer_mut(wrong).unwrap() = json!(32);
                assert!(!is_right(series, &body), "{wrong}");
            }
            let mut body = right.clone();
            body["scores"]["5"] = json!({"0": 16});
            assert!(!is_right(series, &body), "one too many");
        }
    }
}
