//! A prompt that comes as text: whose tokens are known, must be asked for, or are not to be had.
use super::state::{Call, Told};
use crate::tokenize::{Ask, Asker, Failure, Tokenizer, Tokens, Unfit, Wanted};
use kvroute_engine::types::TokenBytes;

/// What is known of a prompt without token ids.
#[derive(Debug)]
pub(super) enum Text {
    /// Its tokens, and whether placeholders of images and the like are among them, which say nothing of what they stand for.
    Known { tokens: Tokens, items: bool },
    /// It has to be tokenized.
    Wanted(Ask),
    /// That has failed.
    Failed(Failure),
    /// It cannot be.
    Unfit(Unfit),
    /// There is no text, or no tokenizer.
    None,
}

impl Text {
    /// Looks for text in a body that has no token ids. `told` is what the tokenizer has said, if it was asked.
    pub(super) fn find(
        tokenizer: Option<&Tokenizer>,
        told: &[Told],
        body: &[u8],
        wanted: Wanted,
        asker: &Asker<'_>,
    ) -> Self {
        let Some(tokenizer) = tokenizer else {
            return Self::None;
        };
        let ask = match Ask::read(body, wanted, asker) {
            Ok(Some(ask)) => ask,
            Ok(None) => return Self::None,
            Err(unfit) => return Self::Unfit(unfit),
        };
        let asked = told.iter().find(|told| told.ask.is_equal(&ask));
        match asked.map(|told| &told.outcome) {
            Some(Ok(tokens)) => return Self::known(tokens.clone(), &ask),
            Some(Err(failure)) => return Self::Failed(failure.clone()),
            None => {}
        }
        match tokenizer.cached(&ask) {
            Some(tokens) => Self::known(tokens, &ask),
            // The cache had it when the others of a batch were asked for.
            None if !told.is_empty() => Self::Failed(Failure::Busy),
            None => Self::Wanted(ask),
        }
    }

    fn known(tokens: Tokens, ask: &Ask) -> Self {
        let items = ask.wants_items();
        Self::Known { tokens, items }
    }
}

/// Tokens as lookups take them.
pub(super) fn bytes(tokens: &Tokens) -> &[TokenBytes] {
    bytemuck::cast_slice(tokens)
}

/// Which kind of prompt a path is for, behind whatever prefix; none of a path that takes others than OpenAI's two, whose
/// bodies may look alike.
pub(super) fn wanted_by(path: &str) -> Option<Wanted> {
    if path.ends_with("/chat/completions") {
        Some(Wanted::Chat)
    } else if path.ends_with("/v1/completions") {
        Some(Wanted::Prompt)
    } else {
        None
    }
}

/// The same for a check, where no path leaves it to the body.
pub(super) fn wanted_of_check(call: &Call<'_>) -> Option<Wanted> {
    if call.rest.is_empty() {
        return Some(Wanted::Either);
    }
    wanted_by(call.uri.path())
}
