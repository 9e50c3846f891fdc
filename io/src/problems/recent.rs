//! What is wrong by what was counted within the last minutes.
use super::{Facts, Lately, Problem, Severity};
use Severity::{Page, Ticket};

/// Seconds from which on a lookup is slow.
const SLOW_LOOKUP: f64 = 0.001;

/// Seconds from which on a request is slow.
const SLOW_REQUEST: f64 = 2.7;

/// Seconds from which on events come late.
const LATE: f64 = 1.0;

/// Events within the time that are not understood, and are no accident any more.
const UNKNOWN: u64 = 3;

pub(super) fn find(facts: &Facts, found: &mut Vec<Problem>) {
    let Some(lately) = &facts.lately else {
        return;
    };
    found.extend(failed(lately));
    found.extend(slow(lately));
    found.extend(refused(lately));
    let minutes = minutes(lately);
    found.extend(listed(&lately.dropped, 1).map(|(count, which)| {
        let text = format!(
            "{count} events were dropped within {minutes} because a bound is met: {which}."
        );
        Problem::new("KvrouteEventsDropped", Ticket, text)
    }));
    found.extend(listed(&lately.unknown, UNKNOWN).map(|(count, which)| {
        let text = format!("{count} events within {minutes} were not understood: {which}.");
        Problem::new("KvrouteEventsUnknown", Ticket, text)
    }));
    found.extend(listed(&lately.reload_failures, 1).map(|(_, which)| {
        let text = format!("Files could not be read again within {minutes}, so what they said before holds: {which}.");
        Problem::new("KvrouteReloadFailed", Ticket, text)
    }));
}

/// Over a minute at least: in the first seconds of a node a single one would be often.
fn per_second(count: u64, lately: &Lately) -> f64 {
    count as f64 / lately.seconds.max(60.0)
}

fn minutes(lately: &Lately) -> String {
    match (lately.seconds / 60.0).round() as u64 {
        0 => format!("{:.0} s", lately.seconds),
        minutes => format!("{minutes} min"),
    }
}

/// How many in all, and the most frequent ones first, if there are enough.
fn listed(counts: &[(&'static str, u64)], enough: u64) -> Option<(u64, String)> {
    let mut counts: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
    let sum = counts.iter().map(|(_, count)| count).sum::<u64>();
    if sum < enough {
        return None;
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words = counts
        .iter()
        .map(|(what, count)| format!("{what} ({count})"));
    Some((sum, words.collect::<Vec<_>>().join(", ")))
}

/// More than one request in twenty, and more than one in ten seconds.
fn failed(lately: &Lately) -> Option<Problem> {
    let share = lately.failed as f64 / lately.requests.max(1) as f64;
    let many = share > 0.05 && per_second(lately.requests, lately) > 0.1;
    many.then(|| {
        let text = format!(
            "{:.0} % of the requests within {} were answered with an error of the node ({} of {}).",
            share * 100.0,
            minutes(lately),
            lately.failed,
            lately.requests
        );
        Problem::new("KvrouteRequestsFail", Page, text)
    })
}

fn slow(lately: &Lately) -> impl Iterator<Item = Problem> {
    let asked = per_second(lately.lookups, lately) > 1.0;
    let lookups = lately.lookup_p99.filter(|&p99| asked && p99 > SLOW_LOOKUP);
    let lookups = lookups.map(|p99| {
        let text = format!("One lookup in a hundred takes {:.1} ms or more.", p99 * 1e3);
        Problem::new("KvrouteLookupLatency", Ticket, text)
    });
    let requests = lately.request_p99.filter(|&p99| p99 > SLOW_REQUEST);
    let requests = requests.map(|p99| {
        let text = format!("One request in a hundred is answered after {p99:.1} s or later.");
        Problem::new("KvrouteRequestLatency", Page, text)
    });
    let lag = lately.lag_p99.filter(|&p99| p99 > LATE).map(|p99| {
        let text = format!("One batch of events in a hundred is applied {p99:.1} s or more after the engine made it.");
        Problem::new("KvrouteIngestLag", Ticket, text)
    });
    lookups.into_iter().chain(requests).chain(lag)
}

/// More than one in ten seconds for one reason. Fewer are usual: a browser that has no token yet is turned away, too.
fn refused(lately: &Lately) -> Option<Problem> {
    let often = |(_, count): &&(&'static str, u64)| per_second(*count, lately) > 0.1;
    let refused: Vec<_> = lately.refused.iter().filter(often).copied().collect();
    let (count, which) = listed(&refused, 1)?;
    let text = format!(
        "{count} requests or connections were turned away within {}: {which}.",
        minutes(lately)
    );
    Some(Problem::new("KvrouteRequestsRefused", Ticket, text))
}
