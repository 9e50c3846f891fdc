//! How patient the follower of a worker is.
use crate::limits::{
    COOL_DOWN_FORGET, COOL_DOWN_MAX, COOL_DOWN_MIN, REPLAY_TIME_MAX, REPLAY_WHOLE_TIME_MAX,
    RESYNC_PAUSE_MIN,
};
use std::time::Duration;

/// How patient a follower is.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time without progress after which a replay has failed; also how long the first connection is
    /// waited for.
    pub replay: Duration,
    /// Time after which a replay has failed in any case.
    pub replay_whole: Duration,
    /// First pause between two replays of a worker, once the first ones are used up.
    pub cool_down: Duration,
    /// Longest such pause.
    pub cool_down_max: Duration,
    /// Without a replay for so long, the next one comes at once again.
    pub cool_down_forget: Duration,
    /// Second pause of a worker that is distrusted, before it is had anew; the first is none.
    pub resync: Duration,
    /// Where chance begins. Workers with different ones do not act in step.
    pub seed: u64,
}

impl Default for Timing {
    /// The node's bounds, and always the same chance.
    fn default() -> Self {
        Self {
            replay: REPLAY_TIME_MAX,
            replay_whole: REPLAY_WHOLE_TIME_MAX,
            cool_down: COOL_DOWN_MIN,
            cool_down_max: COOL_DOWN_MAX,
            cool_down_forget: COOL_DOWN_FORGET,
            resync: RESYNC_PAUSE_MIN,
            seed: 0,
        }
    }
}
