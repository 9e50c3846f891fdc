//! What must hold: the index against the truth, at any time and at the end.
//!
//! At any time, whatever the state: the index credits a worker with no more than its engine held, in one of its
//! lives, just after the batch that the node applied last; and with exactly that while the state is
//! `exact`. If the node has moreover been given everything that the engine has said, that is the
//! present life and its newest batch.
//!
//! At the end, when all is calm and one more batch was said, the state must be `exact` or `partial`, and `exact` if
//! the ring can tell everything.
use crate::faults::Tally;
use crate::site::Site;
use crate::truth::{Probe, Snapshot};
use crate::world::Shared;
use kvroute::status::Trust;
use kvroute_engine::TokenKeys;
use kvroute_engine::hash::{ExtraDigest, ExtraHasher};
use kvroute_engine::types::TIERS;

/// What does not hold, and of which worker.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    pub(crate) fn new(id: usize, what: &str) -> Self {
        Self(format!("worker {id}: {what}"))
    }
}

/// What the index answers about a worker.
struct Answer<'p> {
    probe: &'p Probe,
    score: [u32; TIERS],
}

pub(crate) fn at_any_time(
    id: usize,
    site: &Site,
    probes: &[Probe],
    shared: &mut Shared,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let answers = ask(site, probes, shared);
    let trust = site.node.follower.trust();
    let exact = trust == Trust::Exact;
    tally.checks += 1;
    tally.exact += u64::from(exact);
    let life = site.engine.current();
    let last = site.node.status.last_sequence();
    if exact && is_told(site) {
        tally.strict += 1;
        let empty = Snapshot::default();
        let truth = life
            .newest()
            .and_then(|newest| life.after(newest))
            .unwrap_or(&empty);
        if last != life.newest() || !equals(site, &answers, truth) {
            let what = format!(
                "exact and told everything, at {last:?} of {:?}: {}",
                life.newest(),
                differences(site, &answers, truth)
            );
            return Err(Failure::new(id, &what));
        }
    }
    let fits = |truth: &Snapshot| match exact {
        true => equals(site, &answers, truth),
        false => is_below(site, &answers, truth),
    };
    let Some(last) = last else {
        let nothing = Snapshot::default();
        return match is_below(site, &answers, &nothing) {
            true => Ok(()),
            false => Err(Failure::new(
                id,
                &format!(
                    "{trust:?} without a batch: {}",
                    differences(site, &answers, &nothing)
                ),
            )),
        };
    };
    let lives = &site.engine.lives;
    // What an engine says against the truth cannot be told from it.
    let misnumbered = lives.iter().any(|life| life.misnumbered);
    let mut known = lives.iter().filter_map(|life| life.after(last));
    let found = misnumbered || known.any(fits);
    if found {
        return Ok(());
    }
    let newest = lives.iter().rev().find_map(|life| life.after(last));
    let told = newest.map_or_else(
        || "no life has such a batch".to_owned(),
        |truth| differences(site, &answers, truth),
    );
    Err(Failure::new(id, &format!("{trust:?} at {last}: {told}")))
}

pub(crate) fn at_the_end(id: usize, sites: &[Site], shared: &mut Shared) -> Result<(), Failure> {
    let site = &sites[id];
    let probes: Vec<Probe> = sites
        .iter()
        .flat_map(|site| site.engine.probes.clone())
        .collect();
    let answers = ask(site, &probes, shared);
    let trust = site.node.follower.trust();
    let life = site.engine.current();
    let empty = Snapshot::default();
    let truth = life
        .newest()
        .and_then(|newest| life.after(newest))
        .unwrap_or(&empty);
    let fits = match trust {
        Trust::Exact | Trust::Partial if life.misnumbered => true,
        Trust::Exact => equals(site, &answers, truth),
        Trust::Partial => is_below(site, &answers, truth),
        _ => {
            return Err(Failure::new(
                id,
                &format!("still {trust:?} after a long calm"),
            ));
        }
    };
    if !fits {
        let what = format!(
            "{trust:?} at the end: {}",
            differences(site, &answers, truth)
        );
        return Err(Failure::new(id, &what));
    }
    let lied = life.misnumbered || life.corrupted || life.unreadable;
    let damaged = lied || life.has_holes || life.rotated;
    if site.has_replay && !damaged && trust != Trust::Exact {
        return Err(Failure::new(
            id,
            &format!("{trust:?} although the ring has everything"),
        ));
    }
    Ok(())
}

/// Whether the node was given all that the engine has said, and can know which life that is.
fn is_told(site: &Site) -> bool {
    let life = site.engine.current();
    // An answer that cannot be read is left out, a batch with a number that is not its own takes the place
    // of another.
    let lied = life.unreadable || life.misnumbered || life.disordered;
    life.is_given() && !lied && (life.newest().is_some() || site.node.knows_life)
}

fn ask<'p>(site: &Site, probes: &'p [Probe], shared: &mut Shared) -> Vec<Answer<'p>> {
    let worker = site.node.follower.writer().id();
    let seed = shared.index.hash_seed();
    let pinned = shared.participant.pin();
    let mut answers = Vec::with_capacity(probes.len());
    for probe in probes {
        let adapter = site.engine.rank.dialect().adapter(&probe.scope);
        let extra: Vec<ExtraDigest> = probe.scope.salt.iter().map(|salt| digest(salt)).collect();
        let mut score = [0; TIERS];
        for context in pinned.contexts("tiny", adapter.as_deref()) {
            if context.block_size() != site.engine.block_size {
                continue;
            }
            let mut keys = TokenKeys::new(seed, context.block_size(), &probe.tokens, &extra);
            context.lookup(&mut keys, &mut shared.matches);
            let hit = shared
                .matches
                .hits()
                .iter()
                .find(|hit| hit.worker == worker);
            score = hit.map_or(score, |hit| hit.blocks);
        }
        answers.push(Answer { probe, score });
    }
    answers
}

/// The extra keys of a prompt's first block: its salt.
fn digest(salt: &str) -> ExtraDigest {
    let mut hasher = ExtraHasher::new();
    hasher.text(salt);
    hasher.finish()
}

fn equals(site: &Site, answers: &[Answer<'_>], truth: &Snapshot) -> bool {
    let same =
        |answer: &Answer<'_>| answer.score == truth.score(answer.probe, site.engine.block_size);
    answers.iter().all(same) && site.node.follower.writer().blocks() == truth.blocks()
}

fn is_below(site: &Site, answers: &[Answer<'_>], truth: &Snapshot) -> bool {
    answers.iter().all(|answer| {
        let truth = truth.score(answer.probe, site.engine.block_size);
        answer
            .score
            .iter()
            .zip(truth)
            .all(|(&score, truth)| score <= truth)
    })
}

fn differences(site: &Site, answers: &[Answer<'_>], truth: &Snapshot) -> String {
    let mut told = format!(
        "{} blocks, really {}",
        site.node.follower.writer().blocks(),
        truth.blocks()
    );
    for answer in answers {
        let really = truth.score(answer.probe, site.engine.block_size);
        if answer.score != really {
            let blocks = answer.probe.tokens.len() / site.engine.block_size as usize;
            told += &format!("; {:?} of {blocks} blocks, really {really:?}", answer.score);
        }
    }
    told
}
