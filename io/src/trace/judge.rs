//! When a prediction can be compared with what an engine reused, and what may excuse a difference.
//!
//! The measure: an index that says "the first `matched` tokens of this prompt are held" predicts that
//! the engine takes min(matched, the whole blocks of all but the last token) from its cache; an engine
//! always computes the last token, and so its block, itself. For requests that follow one another this must be
//! *equal* to what the engine reports. The exceptions lie in the events, not in the index, and each is
//! told by a rule over the recording:
//!
//! - requests that overlap: which one ran first is not known, so they are not judged;
//! - after a reset of the cache the engine says so only with its next step, so the first request after
//!   a reset meets an index that is still full;
//! - an engine that restarts says nothing; the first batch of its new life gives it away;
//! - a request for log-probabilities of its prompt does not read the cache;
//! - before vLLM 0.17 events do not carry the salt: salted blocks cannot be told from others.
//!
//! An excuse holds in one direction only, and a correct prediction needs none.
use super::{Entry, Recording, What};

/// First vLLM version whose events say the extra keys of a block (`extra_keys`).
const EXTRA_KEYS_SINCE: [u32; 3] = [0, 17, 0];

/// Why a request says nothing about an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It ran at the same time as another one of its server.
    Concurrent,
}

/// What makes the engine differ from its own events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// The cache was reset and the engine has not yet said so: it reuses less.
    Reset,
    /// The engine was restarted and has not yet published anything: it reuses less.
    Restart,
    /// Log-probabilities of the prompt were asked for: it reuses nothing.
    PromptLogprobs,
    /// The salt is not in the events: it reuses more than anybody can know.
    SaltUnsaid,
}

impl Excuse {
    /// Whether the engine, by this excuse, may reuse less than predicted (else: more).
    const fn explains_less(self) -> bool {
        !matches!(self, Self::SaltUnsaid)
    }
}

/// How one request may be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Set if it may not be judged at all.
    pub skip: Option<Skip>,
    /// What would excuse a difference.
    pub excuses: Vec<Excuse>,
    /// The rank that it was sent to, where the recorder asked for one.
    pub rank: Option<u32>,
}

/// The outcome of one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Predicted = reused.
    Exact,
    /// They differ as the excuse explains.
    Allowed(Excuse),
    /// The engine reused more than predicted.
    Under,
    /// The engine reused less than predicted.
    Over,
    /// Not comparable.
    Skipped(Skip),
}

/// Tokens that an engine with blocks of `block_size` will take from its cache for a prompt of
/// `prompt_tokens` of which it holds the first `matched_tokens`.
#[must_use]
pub fn predicted(matched_tokens: u32, prompt_tokens: usize, block_size: u32) -> u32 {
    let all_but_last = u32::try_from(prompt_tokens.saturating_sub(1)).unwrap_or(u32::MAX);
    match block_size {
        0 => 0,
        size => matched_tokens.min(all_but_last / size * size),
    }
}

impl Circumstances {
    /// Compares what was predicted with what the engine reused. Several predictions, one for each rank that may have
    /// served the request: any of them may be the right one.
    #[must_use]
    pub fn verdict(&self, predictions: &[u32], cached_tokens: u32) -> Verdict {
        if let Some(skip) = self.skip {
            return Verdict::Skipped(skip);
        }
        if predictions.contains(&cached_tokens) {
            return Verdict::Exact;
        }
        let over = predictions
            .iter()
            .any(|&predicted| predicted > cached_tokens);
        match self
            .excuses
            .iter()
            .find(|excuse| excuse.explains_less() == over)
        {
            Some(&excuse) => Verdict::Allowed(excuse),
            None if over => Verdict::Over,
            None => Verdict::Under,
        }
    }
}

/// The circumstances of every entry of a recording, by its place; meaningful for requests.
#[must_use]
pub fn circumstances(recording: &Recording) -> Vec<Circumstances> {
    let server = Servers::of(recording);
    let overlaps = overlapping(recording, &server);
    let judged = recording.entries.iter().enumerate().map(|(at, entry)| {
        let What::Request(request) = &entry.what else {
            return Circumstances::default();
        };
        let mut excuses = Vec::new();
        if reset_unsaid(recording, &server, entry) {
            excuses.push(Excuse::Reset);
        }
        if restart_unsaid(recording, &server, entry) {
            excuses.push(Excuse::Restart);
        }
        if request.prompt_logprobs {
            excuses.push(Excuse::PromptLogprobs);
        }
        let silent = recording
            .engine
            .is_some_and(|version| version < EXTRA_KEYS_SINCE);
        if request.cache_salt.is_some() && silent {
            excuses.push(Excuse::SaltUnsaid);
        }
        Circumstances {
            skip: overlaps[at].then_some(Skip::Concurrent),
            excuses,
            rank: rank(entry),
        }
    });
    judged.collect()
}

/// Which publishers belong to one server.
struct Servers {
    /// Ranks of one server publish under names of their own, requests go to the server: then all names of
    /// the recording are one.
    single: bool,
}

impl Servers {
    fn of(recording: &Recording) -> Self {
        Self {
            single: recording.messages.iter().any(|message| message.rank() > 0),
        }
    }

    fn same(&self, publisher: &str, entry: &Entry) -> bool {
        self.single || entry.pod.as_deref() == Some(publisher)
    }
}

/// Whether each entry's time overlaps that of another one of its server.
fn overlapping(recording: &Recording, server: &Servers) -> Vec<bool> {
    let entries = &recording.entries;
    let mut overlaps = vec![false; entries.len()];
    for (at, entry) in entries.iter().enumerate() {
        // Entries are in order of the moment they began.
        let during = entries[at + 1..]
            .iter()
            .take_while(|later| later.sent < entry.done);
        for (later, other) in during.enumerate() {
            if other
                .pod
                .as_deref()
                .is_some_and(|pod| server.same(pod, entry))
            {
                overlaps[at] = true;
                overlaps[at + 1 + later] = true;
            }
        }
    }
    overlaps
}

/// Whether a publisher of the entry's server was silent between a reset and the entry.
fn reset_unsaid(recording: &Recording, server: &Servers, entry: &Entry) -> bool {
    let resets = recording.entries.iter().filter(|e| {
        e.what == What::Reset
            && e.sent < entry.sent
            && e.pod.as_deref().is_some_and(|p| server.same(p, entry))
    });
    let Some(reset) = resets.max_by(|a, b| a.done.total_cmp(&b.done)) else {
        return false;
    };
    recording
        .publishers()
        .into_iter()
        .filter(|name| server.same(name, entry))
        .any(|name| {
            let said =
                |m: &super::Message| m.pod == name && m.at >= reset.sent && m.at < entry.sent;
            !recording.messages.iter().any(said)
        })
}

/// Whether the next batch after the entry was sent shows that a publisher has begun a new life.
fn restart_unsaid(recording: &Recording, server: &Servers, entry: &Entry) -> bool {
    recording
        .publishers()
        .into_iter()
        .filter(|name| server.same(name, entry))
        .any(|name| {
            let mut before = None;
            for message in recording
                .messages
                .iter()
                .filter(|message| message.pod == name)
            {
                if message.at >= entry.sent {
                    return before.is_some_and(|last| message.number() <= last);
                }
                before = Some(message.number());
            }
            false
        })
}

/// The rank asked for, which is seen only in what the recorder wrote down: `rank 1 asked by header, …`.
fn rank(entry: &Entry) -> Option<u32> {
    let (number, _) = entry
        .label
        .strip_prefix("rank ")?
        .split_once(" asked by header")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Message, Request};

    fn message(at: f64, pod: &str, number: u64, rank: u8) -> Message {
        let sequence = (0..8)
            .rev()
            .map(|byte| (number >> (8 * byte)) as u8)
            .collect();
        // A batch: time, no events, rank.
        let payload = vec![0x93, 0xc0, 0x90, rank];
        Message {
            at,
            pod: pod.into(),
            topic: Vec::new(),
            sequence,
            payload,
        }
    }

    fn entry(sent: f64, pod: &str, what: What) -> Entry {
        Entry {
            id: 0,
            pod: Some(pod.into()),
            label: String::new(),
            sent,
            done: sent + 0.5,
            what,
        }
    }

    fn request() -> Request {
        Request {
            path: String::new(),
            model: "m".into(),
            cache_salt: None,
            prompt_logprobs: false,
            tokens: Vec::new(),
            cached_tokens: 0,
            images: Vec::new(),
        }
    }

    fn asked(sent: f64, pod: &str) -> Entry {
        entry(sent, pod, What::Request(request()))
    }

    fn recording(messages: Vec<Message>, entries: Vec<Entry>) -> Recording {
        Recording {
            name: "v/w".into(),
            engine: None,
            block_size: None,
            messages,
            entries,
        }
    }

    fn excuses(recording: &Recording) -> Vec<Vec<Excuse>> {
        circumstances(recording)
            .into_iter()
            .map(|c| c.excuses)
            .collect()
    }

    #[test]
    fn the_last_token_is_never_reused() {
        assert_eq!(predicted(64, 65, 16), 64);
        assert_eq!(predicted(64, 64, 16), 48);
        assert_eq!(predicted(32, 64, 16), 32);
        assert_eq!(predicted(0, 0, 16), 0);
        assert_eq!(predicted(16, 64, 0), 0);
    }

    #[test]
    fn an_excuse_holds_in_its_direction_only() {
        let with = |excuse| Circumstances {
            excuses: vec![excuse],
            ..Circumstances::default()
        };
        assert_eq!(
            with(Excuse::Reset).verdict(&[64], 0),
            Verdict::Allowed(Excuse::Reset)
        );
        assert_eq!(with(Excuse::Reset).verdict(&[0], 64), Verdict::Under);
        assert_eq!(with(Excuse::Reset).verdict(&[64], 64), Verdict::Exact);
        assert_eq!(
            with(Excuse::SaltUnsaid).verdict(&[0], 64),
            Verdict::Allowed(Excuse::SaltUnsaid)
        );
        assert_eq!(with(Excuse::SaltUnsaid).verdict(&[64], 0), Verdict::Over);
        let plain = Circumstances::default();
        assert_eq!(plain.verdict(&[0, 64], 64), Verdict::Exact);
        assert_eq!(plain.verdict(&[0, 64], 32), Verdict::Over);
        assert_eq!(plain.verdict(&[0, 16], 32), Verdict::Under);
    }

    #[test]
    fn only_the_first_request_after_a_reset_is_excused() {
        let messages = vec![message(0.5, "a", 1, 0), message(3.2, "a", 2, 0)];
        let entries = vec![
            asked(1.0, "a"),
            entry(2.0, "a", What::Reset),
            asked(3.0, "a"),
            asked(4.0, "a"),
            asked(5.0, "b"),
        ];
        let found = excuses(&recording(messages, entries));
        assert_eq!(found, [vec![], vec![], vec![Excuse::Reset], vec![], vec![]]);
    }

    #[test]
    fn each_rank_says_its_own_reset() {
        let messages = vec![
            message(0.5, "a", 1, 0),
            message(0.6, "b", 1, 1),
            message(3.2, "a", 2, 0),
        ];
        let entries = vec![
            entry(2.0, "a", What::Reset),
            asked(3.0, "a"),
            asked(4.0, "a"),
        ];
        let found = excuses(&recording(messages, entries));
        assert_eq!(found, [vec![], vec![Excuse::Reset], vec![Excuse::Reset]]);
    }

    #[test]
    fn a_restart_is_seen_by_the_number_that_goes_back() {
        let messages = vec![
            message(0.5, "a", 7, 0),
            message(3.2, "a", 0, 0),
            message(4.2, "a", 1, 0),
        ];
        let entries = vec![
            asked(0.1, "a"),
            asked(3.0, "a"),
            asked(4.0, "a"),
            asked(5.0, "a"),
        ];
        let found = excuses(&recording(messages, entries));
        assert_eq!(found, [vec![], vec![Excuse::Restart], vec![], vec![]]);
    }

    #[test]
    fn salt_is_excused_where_events_cannot_say_it() {
        let salted = Request {
            cache_salt: Some("s".into()),
            ..request()
        };
        let mut recording = recording(vec![], vec![entry(1.0, "a", What::Request(salted))]);
        for (engine, expected) in [
            (None, vec![]),
            (Some([0, 12, 0]), vec![Excuse::SaltUnsaid]),
            (Some([0, 16, 2]), vec![Excuse::SaltUnsaid]),
            (Some([0, 17, 0]), vec![]),
        ] {
            recording.engine = engine;
            assert_eq!(excuses(&recording), [expected]);
        }
    }

    #[test]
    fn requests_that_overlap_on_one_server_are_not_judged() {
        let skipped = |messages, entries| -> Vec<bool> {
            let all = circumstances(&recording(messages, entries));
            all.into_iter().map(|c| c.skip.is_some()).collect()
        };
        let entries = vec![
            asked(1.0, "a"),
            asked(1.4, "a"),
            asked(1.6, "b"),
            asked(2.2, "a"),
        ];
        assert_eq!(skipped(vec![], entries.clone()), [true, true, false, false]);
        // Two ranks of one server.
        let ranks = vec![message(0.1, "a", 1, 0), message(0.1, "b", 1, 1)];
        assert_eq!(skipped(ranks, entries), [true, true, true, false]);
        // A stream that was cut off is not judged for want of an outcome, but it is in the way.
        let stream = entry(3.0, "a", What::Other("aborted_stream".into()));
        assert_eq!(
            skipped(vec![], vec![stream, asked(3.1, "a")]),
            [false, true]
        );
    }

    #[test]
    fn the_rank_is_read_from_the_label() {
        let mut labelled = asked(1.0, "a");
        labelled.label = "rank 1 asked by header, 0".into();
        assert_eq!(rank(&labelled), Some(1));
        labelled.label = "rank none".into();
        assert_eq!(rank(&labelled), None);
    }
}
