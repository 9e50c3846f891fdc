//! A decision on its way to the thread that learns from it.
use super::subject::Subject;
use crate::limits::PREDICT_PROMPT_BYTES_MAX;
use kvroute_engine::Blocks;
use kvroute_engine::hash::ExtraDigest;
use kvroute_engine::types::{BlockKey, TokenBytes};
use std::sync::Arc;

/// A prompt that goes to a worker.
#[derive(Debug)]
pub struct Record {
    pub(super) subject: Arc<Subject>,
    /// The worker's restarts when it was decided.
    pub(super) restarts: u64,
    pub(super) adapter: Option<Box<str>>,
    pub(super) block_size: u32,
    content: Content,
}

/// A prompt's content, as it was asked for.
#[derive(Debug)]
enum Content {
    Tokens(Box<[TokenBytes]>, Box<[ExtraDigest]>),
    Keys(Box<[BlockKey]>),
}

impl Record {
    /// Copies the whole blocks of a prompt, or as many as may be learnt from; and whether these are all.
    /// Digests of extra keys may be fewer than blocks, or more. O(bytes), at most [`PREDICT_PROMPT_BYTES_MAX`].
    #[must_use]
    pub fn new(
        subject: &Arc<Subject>,
        adapter: Option<&str>,
        block_size: u32,
        prompt: Blocks<'_>,
    ) -> (Self, bool) {
        let size = (block_size as usize).max(1);
        let (content, whole) = match prompt {
            Blocks::Keys(keys) => {
                let most = PREDICT_PROMPT_BYTES_MAX / size_of::<BlockKey>();
                let kept = &keys[..keys.len().min(most)];
                (Content::Keys(kept.into()), kept.len() == keys.len())
            }
            Blocks::Tokens { tokens, extra } => {
                let most = PREDICT_PROMPT_BYTES_MAX / size_of::<TokenBytes>() / size;
                let blocks = tokens.len() / size;
                let kept = blocks.min(most);
                // Nothing behind the last block that has extra keys: they may be none from here on.
                let said = extra.len().min(kept);
                let used = extra[..said].iter().any(|digest| !digest.is_none());
                let mut digests = Vec::new();
                if used {
                    digests.reserve_exact(kept);
                    digests.extend_from_slice(&extra[..said]);
                    digests.resize(kept, ExtraDigest::NONE);
                }
                let tokens = tokens[..kept * size].into();
                (Content::Tokens(tokens, digests.into()), kept == blocks)
            }
        };
        let record = Self {
            subject: Arc::clone(subject),
            restarts: subject.restarts(),
            adapter: adapter.filter(|name| !name.is_empty()).map(Into::into),
            block_size,
            content,
        };
        (record, whole)
    }

    /// Bytes that it takes while it waits.
    pub(super) fn bytes(&self) -> usize {
        match &self.content {
            Content::Tokens(tokens, extra) => size_of_val(&**tokens) + size_of_val(&**extra),
            Content::Keys(keys) => size_of_val(&**keys),
        }
    }

    /// The prompt, as predictions take it.
    pub(super) fn blocks(&self) -> Blocks<'_> {
        match &self.content {
            Content::Tokens(tokens, extra) => Blocks::Tokens { tokens, extra },
            Content::Keys(keys) => Blocks::Keys(keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::WorkerStatus;
    use kvroute_engine::hash::ExtraHasher;

    fn record(block_size: u32, prompt: Blocks<'_>) -> (Record, bool) {
        let status = Arc::new(WorkerStatus::default());
        let subject = Arc::new(Subject::new("m", status, true));
        Record::new(&subject, Some(""), block_size, prompt)
    }

    /// (tokens, digests) that are kept.
    fn kept(block_size: u32, tokens: usize, extra: &[ExtraDigest]) -> (usize, usize, bool) {
        let tokens = vec![[7; 4]; tokens];
        let prompt = Blocks::Tokens {
            tokens: &tokens,
            extra,
        };
        let (record, whole) = record(block_size, prompt);
        let Blocks::Tokens { tokens, extra } = record.blocks() else {
            unreachable!("they were tokens");
        };
        assert_eq!(record.adapter, None);
        assert_eq!(record.bytes(), 4 * tokens.len() + 8 * extra.len());
        (tokens.len(), extra.len(), whole)
    }

    #[test]
    fn whole_blocks_are_kept_with_a_digest_each_or_none() {
        let none = [ExtraDigest::NONE; 3];
        let mut salt = ExtraHasher::new();
        salt.text("salt");
        let salt = [salt.finish()];
        assert_eq!(kept(4, 11, &[]), (8, 0, true));
        assert_eq!(kept(4, 3, &salt), (0, 0, true));
        assert_eq!(kept(4, 11, &none), (8, 0, true));
        assert_eq!(kept(4, 11, &salt), (8, 2, true));
        assert_eq!(kept(0, 2, &[]), (2, 0, true));
    }

    #[test]
    fn of_a_long_prompt_the_beginning_is_kept() {
        let most = PREDICT_PROMPT_BYTES_MAX / 4;
        assert_eq!(kept(16, most, &[]), (most, 0, true));
        assert_eq!(kept(16, most + 15, &[]), (most, 0, true));
        assert_eq!(kept(16, most + 16, &[]), (most, 0, false));
        assert_eq!(kept(48, most + 48, &[]).0 % 48, 0);
        let keys = vec![BlockKey::new(1); PREDICT_PROMPT_BYTES_MAX / 8 + 1];
        let (record, whole) = record(16, Blocks::Keys(&keys));
        assert_eq!((record.bytes(), whole), (PREDICT_PROMPT_BYTES_MAX, false));
    }
}
