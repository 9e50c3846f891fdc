//! A worker's history in words.
use super::{Happened, HistoryEntry};

words! {
    /// Why a trust state is what it is.
    Cause {
        /// Whoever set it did not say.
        Unsaid = "",
        /// Nothing is missing.
        Whole = "nothing is missing",
        /// The engine's ring is empty, and so is its cache.
        Empty = "its engine has published nothing yet",
        /// The first connection.
        Waiting = "the first connection is waited for",
        /// It never was connected.
        Unreached = "it cannot be reached",
        /// It was.
        Disconnected = "the connection is lost",
        /// A replay runs, or waits for its turn, to have all that there is or to prove the life.
        Replay = "a replay is to bring, or to prove, what it holds",
        /// The same after a gap.
        ReplayOfGap = "batches are missing, and asked for",
        /// The same after a reconnection.
        ReplayOfConnection = "it is connected anew: a replay is to prove that its engine is in the same life",
        /// Held back batches had no room.
        Overflow = "more was held back than there was room for",
        /// A replay of all failed.
        NoReplay = "the replay failed, and nothing has come since",
        /// A replay failed, and nothing live has come.
        Behind = "the replay failed, and no live batch has shown that nothing is missing",
        /// The ring has rotated, or there is none.
        NoBeginning = "the beginning of its history is missing",
        /// A cache group.
        Meaning = "its events have a cache group that is not understood",
        /// Feedback.
        Contradicted = "its engine did not deliver what its events say",
        /// Its metrics say that it computes.
        Unheard = "it serves, but nothing was heard from it",
        /// A replay has just ended.
        CatchingUp = "what was held back during the replay is being applied",
        /// A long dump is made.
        HeldUp = "its events wait until a dump is made",
        /// A large clear or a snapshot.
        Unsettled = "what was cleared, or loaded, is not settled in the index yet",
        /// Faults in events, or no room.
        Lost = "stored events were skipped, or their blocks dropped",
        /// Parents may come yet.
        Orphans = "blocks wait for a parent that is not known",
        /// It has no events.
        Decisions = "its events are not used: it is learnt from decisions",
    }
}

words! {
    /// Why all that a worker held was dropped.
    Dropped {
        /// The engine said so.
        Cleared = "its engine cleared its cache",
        /// An event that was not understood may have been one.
        Removals = "removals may have been lost in what was not understood",
        /// The engine is in a new life.
        Restart = "its engine is in a new life",
        /// Batches are missing for good.
        Gap = "batches are missing for good",
        /// It could not be proven that the engine is still in the same life.
        Unproven = "nothing proves that its engine is in the same life",
        /// A replay brings an earlier beginning.
        Rebuild = "a replay brings an earlier beginning",
        /// What it was said to hold is not what its engine has.
        Distrusted = "its engine did not deliver what its events say",
    }
}

impl Happened {
    /// The kind, in one word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::State(..) => "state",
            Self::Gap => "gap",
            Self::ReplayAsked | Self::ReplayEnded(_) => "replay",
            Self::Restart => "restart",
            Self::Dropped(_) => "dropped",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Skipped(_) => "skipped",
            Self::Distrusted => "distrusted",
            Self::BlockSize => "block_size",
        }
    }
}

impl HistoryEntry {
    /// What happened, in words.
    #[must_use]
    pub fn text(&self) -> String {
        let number = self.number();
        match self.happened {
            Happened::State(from, to, why) => {
                let (from, to, why) = (from.as_str(), to.as_str(), why.as_str());
                let colon = if why.is_empty() { "" } else { ": " };
                format!("{from} → {to}{colon}{why}")
            }
            Happened::Gap => self.gap(),
            Happened::ReplayAsked => match number {
                Some(0) | None => "a replay of all was asked for".to_owned(),
                Some(from) => format!("a replay from {from} on was asked for"),
            },
            Happened::ReplayEnded(how) => format!("the replay ended: {}", how.as_str()),
            Happened::Restart => "its engine is in a new life".to_owned(),
            Happened::Dropped(why) => format!("all that it held was dropped: {}", why.as_str()),
            Happened::Connected => "the event socket is connected".to_owned(),
            Happened::Disconnected => "the event socket has lost its connection".to_owned(),
            Happened::Skipped(why) => {
                format!("something was skipped for the first time: {}", why.as_str())
            }
            Happened::Distrusted => "its engine did not deliver what its events say".to_owned(),
            Happened::BlockSize => match (number.unwrap_or(0), self.amount) {
                (now, 0) => format!("blocks have {now} tokens"),
                (now, before) => format!("blocks have {now} tokens, {before} before"),
            },
        }
    }

    fn gap(&self) -> String {
        let missing = match (self.amount, self.times) {
            (0, _) => "batches are missing".to_owned(),
            (1, _) => "1 batch is missing".to_owned(),
            (some, 1) => format!("{some} batches are missing"),
            (some, times) => format!("{some} batches are missing in {times} gaps"),
        };
        match (self.number(), self.times) {
            (Some(number), 1) => format!("{missing} before {number}"),
            (Some(number), _) => format!("{missing}, the last before {number}"),
            (None, _) => missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ReplayOutcome, SkipReason, Trust};

    #[test]
    fn every_kind_has_its_words() {
        let text = |happened, number, amount| HistoryEntry::new(0, happened, number, amount).text();
        let state = |why| Happened::State(Trust::Exact, Trust::Replaying, why);
        for (happened, number, amount, expected) in [
            (state(Cause::Unsaid), None, 0, "exact → replaying"),
            (
                state(Cause::ReplayOfGap),
                None,
                0,
                "exact → replaying: batches are missing, and asked for",
            ),
            (
                Happened::Gap,
                Some(812),
                3,
                "3 batches are missing before 812",
            ),
            (Happened::Gap, Some(1), 1, "1 batch is missing before 1"),
            (Happened::Gap, None, 0, "batches are missing"),
            (
                Happened::ReplayAsked,
                Some(0),
                0,
                "a replay of all was asked for",
            ),
            (
                Happened::ReplayAsked,
                Some(7),
                0,
                "a replay from 7 on was asked for",
            ),
            (
                Happened::ReplayEnded(ReplayOutcome::OtherLife),
                None,
                0,
                "the replay ended: other_life",
            ),
            (
                Happened::Skipped(SkipReason::UnknownTag),
                None,
                0,
                "something was skipped for the first time: unknown_tag",
            ),
            (Happened::BlockSize, Some(16), 0, "blocks have 16 tokens"),
            (
                Happened::BlockSize,
                Some(16),
                32,
                "blocks have 16 tokens, 32 before",
            ),
        ] {
            assert_eq!(text(happened, number, amount), expected);
        }
    }

    #[test]
    fn several_gaps_are_told_as_one() {
        let mut entry = HistoryEntry::new(0, Happened::Gap, Some(820), 7);
        entry.times = 2;
        let expected = "7 batches are missing in 2 gaps, the last before 820";
        assert_eq!(entry.text(), expected);
    }
}
