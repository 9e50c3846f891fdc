//! What an engine said and what the node counts, put together; pure.
use super::account::Counts;
use kvroute_engine::choose::Load;

/// What is known of one worker at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Own requests.
    pub(super) requests: Counts,
    /// Own tokens that are not cached.
    pub(super) uncached: Counts,
    /// Own tokens in prompts.
    pub(super) prompts: Counts,
    /// What the engine said, unless that is too old.
    pub(super) said: Option<Said>,
}

/// What the engine said, and what had been booked when it was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    /// Its requests, less those booked by then, plus those finished.
    pub(super) base: i64,
    pub(super) running: u32,
    pub(super) waiting: u32,
    pub(super) active_tokens: u64,
    pub(super) uncached_booked: u64,
    pub(super) prompts_booked: u64,
}

/// The load by the rules that the module's head gives.
pub(super) fn combine(known: &Known) -> Load {
    let own = known.requests.in_flight();
    let Some(said) = known.said else {
        return Load {
            running: narrow(own),
            waiting: 0,
            queued_tokens: known.uncached.in_flight(),
            active_tokens: known.prompts.in_flight(),
        };
    };
    let counts = known.requests;
    let moved = counts.booked.wrapping_sub(counts.finished).cast_signed();
    let requests = u64::try_from(said.base.saturating_add(moved)).unwrap_or(0);
    let scraped = u64::from(said.running) + u64::from(said.waiting);
    let requests = requests.min(scraped.saturating_add(own));
    let waiting = u64::from(said.waiting).min(requests);
    let since = |counts: &Counts, mark| counts.booked.saturating_sub(mark).min(counts.in_flight());
    let mean = known.uncached.in_flight().checked_div(own).unwrap_or(0);
    Load {
        running: narrow(requests - waiting),
        waiting: narrow(waiting),
        queued_tokens: since(&known.uncached, said.uncached_booked)
            .saturating_add(mean.saturating_mul(waiting)),
        active_tokens: since(&known.prompts, said.prompts_booked)
            .saturating_add(said.active_tokens),
    }
}

fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
