//! How far what is known of a worker counts when it is chosen: one table, by its trust state.
//!
//! | state | counts | why |
//! |---|---|---|
//! | `exact` | all | |
//! | `partial` | all | what is missing makes it too low, never too high |
//! | `replaying` | 9/10 | as of the last batch applied: what was evicted since is not known yet, which takes moments |
//! | `approximate` | 8/10 | what was sent there is there, unless it was evicted, which nobody tells |
//! | `stale` | half | it was true once; how much of it still is nobody knows |
//! | `distrusted` | nothing | it is known to be wrong |
//!
//! So between equal matches the better known one wins, and a much longer match still does.
use crate::status::Trust;
use kvroute_engine::choose::FULL_CREDIT;

/// What counts, in thousandths.
pub(super) const fn of(trust: Trust) -> u16 {
    match trust {
        Trust::Exact | Trust::Partial => FULL_CREDIT,
        Trust::Replaying => 900,
        Trust::Approximate => 800,
        Trust::Stale => 500,
        Trust::Distrusted => 0,
    }
}
