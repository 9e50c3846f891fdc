//! What the cache groups of an engine mean, as its stored events say.
//!
//! An engine keeps the blocks of layers of different kinds in groups of their own, and numbers them as
//! it likes: the kind decides, not the number. A removal names the number only, so what was said is kept for the
//! engine's life.
//!
//! Understood are one group of full attention, and beside it groups with sliding windows, whose blocks have the
//! size and the names of the full group's. Nothing else is ever taken for either.
use crate::wire::Stored;
use kvroute_engine::WindowGroup;
use kvroute_engine::limits::WINDOW_GROUPS_MAX;
use serde::{Deserialize, Serialize};

/// What one group means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// Every block of a prefix must be in it.
    Full,
    /// The last blocks of a prefix must be in it.
    Window(#[serde(with = "Window")] WindowGroup),
}

/// A window group as it is saved.
#[derive(Serialize, Deserialize)]
#[serde(remote = "WindowGroup")]
struct Window {
    number: u32,
    blocks: u32,
}

/// The groups of one engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Groups {
    /// By number.
    known: Vec<(u32, Kind)>,
    /// Tokens per block in the full group and in the others; 0 while not said.
    block_sizes: [u32; 2],
}

impl Groups {
    /// What the group of a stored event means; `None` if that is not understood, or not what it meant before.
    pub(super) fn of_stored(&mut self, event: &Stored<'_>) -> Option<Kind> {
        let number = event.group.unwrap_or(0);
        let known = self.known(number);
        let kind = match event.kind {
            // MLA caches prefixes like full attention.
            Some("full_attention" | "mla_attention") => Kind::Full,
            Some("sliding_window" | "sliding_window_mla") => match event.block_size {
                0 => known.filter(|kind| *kind != Kind::Full)?,
                size => Kind::Window(window(number, event.window?, size)?),
            },
            Some(_) => return None,
            // vLLM before 0.22, and what is told of offloaded copies.
            None if known.is_some() => known?,
            None if number == 0 => Kind::Full,
            None => return None,
        };
        match known {
            Some(known) if known != kind => return None,
            Some(_) => {}
            None => self.learn(number, kind)?,
        }
        if event.block_size != 0 {
            self.block_sizes[usize::from(kind != Kind::Full)] = event.block_size;
        }
        let [full, windowed] = self.block_sizes;
        (full == windowed || full == 0 || windowed == 0).then_some(kind)
    }

    /// What the group of a removed event means, if a stored event has told.
    pub(super) fn of_removed(&self, group: Option<u32>) -> Option<Kind> {
        self.known(group.unwrap_or(0))
    }

    /// Whether there are no more than one engine can have.
    pub(super) fn are_bounded(&self) -> bool {
        self.known.len() <= WINDOW_GROUPS_MAX + 1
    }

    fn known(&self, number: u32) -> Option<Kind> {
        let mut known = self.known.iter();
        known.find(|(n, _)| *n == number).map(|&(_, kind)| kind)
    }

    fn learn(&mut self, number: u32, kind: Kind) -> Option<()> {
        let second = kind == Kind::Full && self.known.iter().any(|(_, k)| *k == Kind::Full);
        if second || self.known.len() > WINDOW_GROUPS_MAX {
            return None;
        }
        self.known.push((number, kind));
        Some(())
    }
}

/// A window of `tokens` takes the token to be computed and those before it, which must be there.
fn window(number: u32, tokens: u32, block_size: u32) -> Option<WindowGroup> {
    let blocks = tokens.checked_sub(1)?.div_ceil(block_size);
    Some(WindowGroup { number, blocks })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(
        group: Option<u32>,
        kind: Option<&'static str>,
        window: Option<u32>,
    ) -> Stored<'static> {
        Stored {
            hashes: &[],
            parent: None,
            tokens: &[],
            block_size: 16,
            lora_id: None,
            lora_name: None,
            medium: None,
            extra: &[],
            says_extra: true,
            group,
            kind,
            window,
        }
    }

    fn full(group: u32) -> Stored<'static> {
        said(Some(group), Some("full_attention"), None)
    }

    fn sliding(group: u32, window: u32) -> Stored<'static> {
        said(Some(group), Some("sliding_window"), Some(window))
    }

    fn blocks(kind: Option<Kind>) -> Option<u32> {
        match kind {
            Some(Kind::Window(group)) => Some(group.blocks),
            _ => None,
        }
    }

    #[test]
    fn a_window_needs_the_tokens_before_the_one_to_compute() {
        for (tokens, expected) in [(1, 0), (2, 1), (17, 1), (18, 2), (33, 2), (34, 3)] {
            let kind = Groups::default().of_stored(&sliding(0, tokens));
            assert_eq!(blocks(kind), Some(expected), "{tokens}");
        }
        let mut groups = Groups::default();
        assert_eq!(
            blocks(groups.of_stored(&sliding(0, u32::MAX))),
            Some(1 << 28)
        );
    }

    #[test]
    fn kinds_decide_and_not_numbers() {
        let mut groups = Groups::default();
        assert_eq!(groups.of_removed(Some(1)), None);
        assert_eq!(blocks(groups.of_stored(&sliding(0, 20))), Some(2));
        assert_eq!(groups.of_stored(&full(1)), Some(Kind::Full));
        let mla = said(Some(2), Some("sliding_window_mla"), Some(40));
        assert_eq!(blocks(groups.of_stored(&mla)), Some(3));
        // From now on the number is enough.
        assert_eq!(groups.of_removed(Some(1)), Some(Kind::Full));
        assert_eq!(blocks(groups.of_removed(Some(0))), Some(2));
        assert_eq!(blocks(groups.of_removed(None)), Some(2));
        let unsaid = said(Some(2), None, None);
        assert_eq!(blocks(groups.of_stored(&unsaid)), Some(3));
        // Only the names of offloaded copies.
        let mut offloaded = sliding(0, 20);
        offloaded.block_size = 0;
        assert_eq!(blocks(groups.of_stored(&offloaded)), Some(2));
    }

    #[test]
    fn what_is_not_understood_is_taken_for_nothing() {
        let mut other_size = sliding(0, 20);
        other_size.block_size = 32;
        let mut no_size = sliding(0, 20);
        no_size.block_size = 0;
        for (before, event) in [
            (None, said(Some(0), Some("mamba"), None)),
            (
                None,
                said(Some(0), Some("chunked_local_attention"), Some(64)),
            ),
            (None, said(Some(0), Some("sliding_window"), None)),
            (None, sliding(0, 0)),
            (None, no_size),
            (None, said(Some(1), None, None)),
            (Some(full(1)), full(0)),
            (Some(full(1)), said(None, None, None)),
            (Some(full(1)), other_size),
            (Some(full(0)), sliding(0, 20)),
            (Some(sliding(0, 20)), full(0)),
            (Some(sliding(0, 20)), sliding(0, 64)),
        ] {
            let mut groups = Groups::default();
            if let Some(before) = before {
                assert!(groups.of_stored(&before).is_some(), "{before:?}");
            }
            assert_eq!(groups.of_stored(&event), None, "{before:?} {event:?}");
        }
    }

    #[test]
    fn groups_are_bounded() {
        let mut groups = Groups::default();
        let understood = (0..1_000).filter(|&n| groups.of_stored(&sliding(n, 20)).is_some());
        assert_eq!(understood.count(), WINDOW_GROUPS_MAX + 1);
    }

    #[test]
    fn engines_without_kinds_have_one_group() {
        let mut groups = Groups::default();
        assert_eq!(groups.of_stored(&said(None, None, None)), Some(Kind::Full));
        assert_eq!(
            groups.of_stored(&said(Some(0), None, None)),
            Some(Kind::Full)
        );
        assert_eq!(groups.of_stored(&said(Some(1), None, None)), None);
        assert_eq!(groups.of_removed(None), Some(Kind::Full));
    }
}
