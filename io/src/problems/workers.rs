//! What is wrong with workers, by their states and what happened to them.
use super::{Facts, Problem, Severity, WorkerFact, several};
use crate::status::Trust;
use Severity::{Info, Page, Ticket};
use std::time::Duration;

/// How long a state lasts before the alert about it fires: ten minutes in it, and five more.
const STUCK: Duration = Duration::from_secs(15 * 60);

/// Restarts within an hour that are too many.
const RESTARTS: u64 = 4;

/// Contradictions within six hours that are too many.
const CONTRADICTIONS: u64 = 3;

pub(super) fn find(facts: &Facts, found: &mut Vec<Problem>) {
    found.extend(synchronised(facts));
    found.extend(in_state(
        facts,
        Trust::Distrusted,
        "KvrouteWorkersDistrusted",
    ));
    found.extend(in_state(facts, Trust::Stale, "KvrouteWorkersStale"));
    found.extend(in_state(facts, Trust::Replaying, "KvrouteWorkersReplaying"));
    found.extend(partial(facts));
    found.extend(unheard(facts));
    found.extend(lost(facts));
    let restarted = |worker: &&WorkerFact| worker.restarts >= RESTARTS;
    found.extend(several_times(
        facts,
        "KvrouteEnginesRestartOften",
        restarted,
        "restarted more than 3 times within an hour",
    ));
    let contradicted = |worker: &&WorkerFact| worker.contradictions >= CONTRADICTIONS;
    found.extend(several_times(
        facts,
        "KvrouteWorkersContradicted",
        contradicted,
        "contradicted by feedback 3 times or more within 6 hours, and had anew",
    ));
}

fn pods<'f>(workers: &[&'f WorkerFact]) -> impl Iterator<Item = &'f str> {
    let pods: Vec<_> = workers.iter().map(|worker| worker.pod.as_str()).collect();
    pods.into_iter()
}

/// How many there are of all: "2 of 8 workers".
fn share(some: usize, all: usize) -> String {
    format!("{some} of {}", several(all, "worker"))
}

/// Less than half of the fleet is known.
fn synchronised(facts: &Facts) -> Option<Problem> {
    let known = |worker: &&WorkerFact| {
        matches!(
            worker.state,
            Trust::Exact | Trust::Partial | Trust::Approximate
        )
    };
    let all = facts.workers.len();
    let trusted = facts.workers.iter().filter(known).count();
    if trusted * 2 >= all {
        return None;
    }
    let text = format!(
        "Only {} can be trusted: requests are routed nearly blindly.",
        share(trusted, all)
    );
    // Since when, is known of workers, not of their share: in the order in which they went into their states, since the one that made
    // it less than half.
    let unknown = facts.workers.iter().filter(|worker| !known(worker));
    let mut since: Vec<_> = unknown.map(|worker| worker.since_ms).collect();
    since.sort_unstable();
    let since = since.get(all / 2).copied().flatten();
    let problem = Problem::new("KvrouteWorkersNotSynchronised", Page, text);
    Some(problem.since(since, facts.now_ms, Duration::from_secs(600)))
}

/// Workers in a state in which they should not stay.
fn in_state(facts: &Facts, state: Trust, name: &'static str) -> Option<Problem> {
    let there: Vec<_> = facts
        .workers
        .iter()
        .filter(|worker| worker.state == state)
        .collect();
    if there.is_empty() {
        return None;
    }
    let what = match state {
        Trust::Stale => "not heard of: what is said of them may be out of date",
        Trust::Distrusted => "distrusted: nothing is credited to them",
        _ => "catching up with what they missed",
    };
    let (are, are_what) = match there.len() {
        1 => ("is", what.replace("them", "it").replace("they", "it")),
        _ => ("are", what.to_owned()),
    };
    let text = format!(
        "{} {are} {are_what}.",
        share(there.len(), facts.workers.len())
    );
    // Of the one that has been so the longest; nothing is known if it is not of one.
    let since = there.iter().map(|worker| worker.since_ms).min().flatten();
    let problem = Problem::new(name, Ticket, text).about(pods(&there));
    Some(problem.since(since, facts.now_ms, STUCK))
}

fn partial(facts: &Facts) -> Option<Problem> {
    let partial = |worker: &&WorkerFact| worker.state == Trust::Partial;
    let partial: Vec<_> = facts.workers.iter().filter(partial).collect();
    if partial.is_empty() {
        return None;
    }
    let text = format!(
        "Of {} some history is missing: answers may be too low, never too high.",
        share(partial.len(), facts.workers.len())
    );
    // A quarter of the fleet, for six hours, is an alert; a few, for some time, are usual after a restart of the node.
    let many = partial.len() * 4 > facts.workers.len();
    let severity = if many { Ticket } else { Info };
    let since = partial.iter().map(|worker| worker.since_ms).min().flatten();
    let problem = Problem::new("KvrouteWorkersPartial", severity, text).about(pods(&partial));
    Some(problem.since(since, facts.now_ms, Duration::from_secs(6 * 3600)))
}

/// Workers that were looked at, and do not publish where they should.
fn unheard(facts: &Facts) -> Option<Problem> {
    let has_problem = |worker: &&WorkerFact| {
        // Events come of an exact one, whatever its engine says of its ports.
        let told = matches!(
            worker.state,
            Trust::Exact | Trust::Stale | Trust::Distrusted
        );
        worker.problem.is_some() && !told
    };
    let unheard: Vec<_> = facts.workers.iter().filter(has_problem).collect();
    let first = unheard.first()?;
    let why = first.problem.as_deref().unwrap_or_default();
    let text = format!(
        "No events can be expected of {}. {}: {why}",
        share(unheard.len(), facts.workers.len()),
        first.pod
    );
    Some(Problem::new("KvrouteWorkersStale", Info, text).about(pods(&unheard)))
}

/// Workers that lost batches of events for good.
fn lost(facts: &Facts) -> Option<Problem> {
    let lost: Vec<_> = facts
        .workers
        .iter()
        .filter(|worker| worker.lost_ms.is_some())
        .collect();
    if lost.is_empty() {
        return None;
    }
    let text = format!(
        "Batches of {} were lost and not had again within the last half hour; what they held was dropped.",
        share(lost.len(), facts.workers.len())
    );
    let since = lost.iter().filter_map(|worker| worker.lost_ms).min();
    let problem = Problem::new("KvrouteGapsNotRepaired", Ticket, text).about(pods(&lost));
    Some(problem.since(since, facts.now_ms, Duration::from_secs(600)))
}

fn several_times(
    facts: &Facts,
    name: &'static str,
    which: impl Fn(&&WorkerFact) -> bool,
    what: &str,
) -> Option<Problem> {
    let those: Vec<_> = facts.workers.iter().filter(which).collect();
    if those.is_empty() {
        return None;
    }
    let were = if those.len() == 1 { "was" } else { "were" };
    let were = if what.starts_with("restarted") {
        ""
    } else {
        were
    };
    let share = share(those.len(), facts.workers.len());
    let text = [share.as_str(), were, what];
    let text: Vec<_> = text.into_iter().filter(|word| !word.is_empty()).collect();
    Some(Problem::new(name, Ticket, format!("{}.", text.join(" "))).about(pods(&those)))
}
