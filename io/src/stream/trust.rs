//! The trust state of a worker, from all that bears on it: one table.
//!
//! The first line that holds decides:
//!
//! | what holds | state | left by |
//! |---|---|---|
//! | its events mean something that is not understood | `distrusted` | a restart of the engine |
//! | its engine did not deliver what it was said to hold | `distrusted` | the end of a replay of all of it, another reason to drop it |
//! | the first connection is waited for, not too long yet | `replaying` | the connection, or time |
//! | it is not connected | `stale` | a connection |
//! | it serves, as its metrics say, but nothing was heard from it | `stale` | the next message |
//! | a replay runs, or waits for its turn | `replaying` | its end, its failure |
//! | more was held back than there was room for | `replaying` | the replay that fills the gap |
//! | what was held back during a replay is not applied yet, or events wait because a long dump is made | `replaying` | the last of it |
//! | a snapshot is being loaded, or what it holds is not confirmed yet | `replaying` | the overlap of a replay |
//! | a large clear is not taken out of the index yet | `replaying` | the last slice of it |
//! | a replay failed, and nothing live has shown that none was missed | `stale` | a live batch, a replay |
//! | the beginning of its history is missing, or stored events were skipped or dropped, or blocks wait for a parent | `partial` | a clear by the engine, a replay that reaches back |
//! | none of these | `exact` | |
//!
//! `approximate` is for pods that publish no events; no stream leads to it.
use crate::status::{Cause, Trust};

/// What bears on a worker's trust beside the sequence machine's verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its events mean something that is not understood, or its engine did not deliver what they say.
    pub(super) distrusted: bool,
    /// It serves, but nothing was heard from it.
    pub(super) unheard: bool,
    /// A replay has ended, and what was held back meanwhile is not applied yet.
    pub(super) catching_up: bool,
    /// What was cleared is not taken out of the index yet, or a snapshot not loaded.
    pub(super) unsettled: bool,
    /// Something that it should hold is missing.
    pub(super) partial: bool,
}

/// The state by the table above, and why; `sequence` is what the batches' numbers tell.
pub(super) fn overall(sequence: (Trust, Cause), facts: Facts) -> (Trust, Cause) {
    let (numbers, _) = sequence;
    let better_than_stale = matches!(numbers, Trust::Exact | Trust::Partial | Trust::Replaying);
    let live = matches!(numbers, Trust::Exact | Trust::Partial);
    if facts.distrusted {
        (Trust::Distrusted, Cause::Contradicted)
    } else if facts.unheard && better_than_stale {
        (Trust::Stale, Cause::Unheard)
    } else if facts.catching_up && live {
        (Trust::Replaying, Cause::CatchingUp)
    } else if facts.unsettled && live {
        (Trust::Replaying, Cause::Unsettled)
    } else if facts.partial && numbers == Trust::Exact {
        (Trust::Partial, Cause::Lost)
    } else {
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each fact alone, then each with all that are weaker.
    #[test]
    fn the_worst_of_all_facts_decides() {
        use Trust::{Distrusted, Exact, Partial, Replaying, Stale};
        let none = Facts::default();
        let partial = Facts {
            partial: true,
            ..none
        };
        let unsettled = Facts {
            unsettled: true,
            ..partial
        };
        let catching_up = Facts {
            catching_up: true,
            ..partial
        };
        let unheard = Facts {
            unheard: true,
            ..catching_up
        };
        let distrusted = Facts {
            distrusted: true,
            ..unheard
        };
        let table = [
            // facts, then the state for a sequence that is exact, partial, replaying, stale
            (none, [Exact, Partial, Replaying, Stale]),
            (partial, [Partial, Partial, Replaying, Stale]),
            (unsettled, [Replaying, Replaying, Replaying, Stale]),
            (catching_up, [Replaying, Replaying, Replaying, Stale]),
            (unheard, [Stale; 4]),
            (distrusted, [Distrusted; 4]),
        ];
        for (facts, expected) in table {
            let sequences = [Exact, Partial, Replaying, Stale];
            let found = sequences.map(|sequence| overall((sequence, Cause::Whole), facts).0);
            assert_eq!(found, expected, "{facts:?}");
        }
    }

    /// No fact makes a state better.
    #[test]
    fn exact_needs_everything() {
        let all = [false, true];
        for distrusted in all {
            for unheard in all {
                for catching_up in all {
                    for unsettled in all {
                        for partial in all {
                            let facts = Facts {
                                distrusted,
                                unheard,
                                catching_up,
                                unsettled,
                                partial,
                            };
                            let clean = facts == Facts::default();
                            let of = |trust| overall((trust, Cause::Whole), facts);
                            assert_eq!(of(Trust::Exact).0 == Trust::Exact, clean);
                            // What the numbers say is the reason only if nothing else is.
                            assert_eq!(of(Trust::Exact).1 == Cause::Whole, clean);
                            for other in [Trust::Partial, Trust::Replaying, Trust::Stale] {
                                assert_ne!(of(other).0, Trust::Exact);
                            }
                        }
                    }
                }
            }
        }
    }
}
