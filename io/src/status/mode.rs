//! What routing knows of pods' caches: one of AIBrix's three modes, or one of the two between them.

/// Where the node's knowledge of pods' caches comes from, and whose requests it serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Events of the engines, for texts and for token ids.
    #[default]
    Events,
    /// Events of the engines, for token ids alone: nobody turns texts into tokens, and nobody asked for it.
    EventsOfTokens,
    /// The same, although synchronisation was asked for: texts are routed by load.
    EventsWithoutTokenizer,
    /// The node's own decisions, for token ids alone.
    Decisions,
    /// The node's own decisions, with tokens as the engines make them.
    DecisionsWithTokenizer,
}

impl SyncMode {
    /// By what is on. `asked` is whether somebody said that events are to be used.
    #[must_use]
    pub const fn of(event_sync: bool, asked: bool, tokenizer: bool) -> Self {
        match (event_sync, tokenizer) {
            (true, true) => Self::Events,
            (true, false) if asked => Self::EventsWithoutTokenizer,
            (true, false) => Self::EventsOfTokens,
            (false, false) => Self::Decisions,
            (false, true) => Self::DecisionsWithTokenizer,
        }
    }

    /// The word used in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::EventsOfTokens => "events_of_tokens",
            Self::EventsWithoutTokenizer => "events_without_tokenizer",
            Self::Decisions => "decisions",
            Self::DecisionsWithTokenizer => "decisions_with_tokenizer",
        }
    }

    /// Whether what was asked for can be had.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        !matches!(self, Self::EventsWithoutTokenizer)
    }

    /// What the mode means for requests, in a sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Events => "texts and token ids are looked up in what the engines' events say",
            Self::EventsOfTokens => {
                "token ids are looked up in what the engines' events say; texts are routed by load, since the tokenizer is off"
            }
            Self::EventsWithoutTokenizer => {
                "event synchronisation was asked for without a tokenizer: it is off for texts, which are routed by load; token ids are looked up in what the engines' events say"
            }
            Self::Decisions => {
                "token ids are looked up in the node's own decisions; texts are routed by load"
            }
            Self::DecisionsWithTokenizer => {
                "texts and token ids are looked up in the node's own decisions"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_what_is_on_and_what_was_asked_for() {
        use SyncMode::{
            Decisions, DecisionsWithTokenizer, Events, EventsOfTokens, EventsWithoutTokenizer,
        };
        let table = [
            // event_sync, asked, tokenizer
            ((true, false, true), Events, true),
            ((true, true, true), Events, true),
            ((true, false, false), EventsOfTokens, true),
            ((true, true, false), EventsWithoutTokenizer, false),
            ((false, true, false), Decisions, true),
            ((false, true, true), DecisionsWithTokenizer, true),
        ];
        for ((event_sync, asked, tokenizer), mode, valid) in table {
            let found = SyncMode::of(event_sync, asked, tokenizer);
            assert_eq!((found, found.is_valid()), (mode, valid));
        }
    }
}
