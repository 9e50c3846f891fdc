//! What is wrong with the node itself and with what tells it of pods.
use super::{Facts, Problem, Severity, several};
use Severity::{Info, Page, Ticket};
use std::time::Duration;

/// How long a node may take to be ready, and to hear of a pod.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How long a source may be silent.
const SILENCE: Duration = Duration::from_secs(10 * 60);

pub(super) fn find(facts: &Facts, found: &mut Vec<Problem>) {
    found.extend(ready(facts));
    found.extend(facts.invalid_mode.map(|meaning| {
        let text = format!("What was asked for cannot be had: {meaning}.");
        Problem::new("KvrouteConfigurationInvalid", Ticket, text)
    }));
    sources(facts, found);
    found.extend(room(facts));
    if !facts.tokenizers_off.is_empty() {
        let text = format!(
            "The local tokenizer is off, since its tokens differ from the engine's: {}. Engines are asked instead.",
            facts.tokenizers_off.join(", ")
        );
        found.push(Problem::new("KvrouteLocalTokenizerOff", Ticket, text));
    }
}

fn ready(facts: &Facts) -> Option<Problem> {
    // A node that was ready stays so, and one that begins has no pods at first.
    let since = |problem: Problem| problem.since(Some(facts.started_ms), facts.now_ms, PATIENCE);
    if facts.stopping {
        let text = "The node is stopping.";
        return Some(Problem::new("KvrouteNotReady", Info, text));
    }
    if let Some(waiting) = &facts.waiting {
        let text = format!("The node is not ready: {waiting}.");
        return Some(since(Problem::new("KvrouteNotReady", Page, text)));
    }
    let text = "No pod is known, so there is nobody to route to.";
    let none = facts.workers.is_empty();
    none.then(|| since(Problem::new("KvrouteNoWorkers", Page, text)))
}

fn sources(facts: &Facts, found: &mut Vec<Problem>) {
    for source in &facts.sources {
        if source.state == "failing" {
            let why = source.error.as_deref().unwrap_or("it does not say why");
            let text = format!(
                "The source of pods \"{}\" is not heard: {why}. What it described last holds.",
                source.source
            );
            let problem = Problem::new("KvrouteSourceNotHeard", Ticket, text);
            found.push(problem.since(source.heard_ms, facts.now_ms, SILENCE));
        }
        if source.refused > 0 {
            let refused = source.refused_pods.iter();
            let first = refused.clone().next();
            let first = first.map_or_else(String::new, |first| {
                format!(" {}: {}.", first.pod, first.message)
            });
            let text = format!(
                "{} that the source \"{}\" describes cannot be had.{first}",
                several(source.refused, "pod"),
                source.source
            );
            let problem = Problem::new("KvroutePodsRefused", Ticket, text);
            let mut problem = problem.about(refused.map(|refused| refused.pod.as_str()));
            problem.count = source.refused;
            found.push(problem);
        }
    }
}

/// Bounds that are nearly met.
fn room(facts: &Facts) -> impl Iterator<Item = Problem> {
    let nearly = |used: u64, most: u64, tenths: u64| {
        most > 0 && u128::from(used) * 10 > u128::from(most) * u128::from(tenths)
    };
    let index = facts
        .index_bytes_max
        .filter(|&most| nearly(facts.index_bytes, most, 9));
    let index = index.map(|most| {
        let text = format!(
            "The index takes {:.1} MB of its {:.1} MB. Where nothing is left, workers forget blocks that engines still hold.",
            facts.index_bytes as f64 / 1e6,
            most as f64 / 1e6
        );
        Problem::new("KvrouteIndexNearBudget", Ticket, text)
    });
    let descriptors = facts
        .descriptors
        .filter(|&(open, most)| nearly(open, most, 8));
    let descriptors = descriptors.map(|(open, most)| {
        let text = format!("{open} of {most} file descriptors are open.");
        Problem::new("KvrouteFileDescriptorsNearLimit", Ticket, text)
    });
    index.into_iter().chain(descriptors)
}
