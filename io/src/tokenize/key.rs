//! What a prompt's tokens depend on, as a digest; pure.
//!
//! SHA-256: clients write the prompts, and a client who could find two with one digest could have another's
//! request sent astray.
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// Stands for a prompt's content, with its kind, model and adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; SHA256_OUTPUT_LEN]);

/// A key that is being made: a list of texts, each told from its neighbours.
pub(super) struct KeyOf(Context);

impl KeyOf {
    pub(super) fn new(kind: &str) -> Self {
        let mut key = Self(Context::new(&SHA256));
        key.add(kind);
        key
    }

    pub(super) fn add(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    pub(super) fn finish(self) -> Key {
        let mut key = [0; SHA256_OUTPUT_LEN];
        key.copy_from_slice(self.0.finish().as_ref());
        Key(key)
    }
}

/// Whether a field of a chat body says nothing about the prompt: how the answer is made, or what this node reads. All others
/// are in the key, known or not. `cache_salt` is among them, though tokens do not depend on it: whoever
/// salts does not want others to find out by the time an answer takes what was asked before.
pub(super) fn is_irrelevant(field: &str) -> bool {
    matches!(
        field,
        "stream"
            | "stream_options"
            | "temperature"
            | "top_p"
            | "top_k"
            | "min_p"
            | "n"
            | "seed"
            | "stop"
            | "max_tokens"
            | "max_completion_tokens"
            | "min_tokens"
            | "presence_penalty"
            | "frequency_penalty"
            | "repetition_penalty"
            | "logprobs"
            | "top_logprobs"
            | "prompt_logprobs"
            | "ignore_eos"
            | "return_token_ids"
            | "user"
            | "candidates"
            | "limit"
            | "loads"
            | "policy"
            | "minimum_match"
            | "dry_run"
            | "block_size"
            | "extra_keys"
    )
}
