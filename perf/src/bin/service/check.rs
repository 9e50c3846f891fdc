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
