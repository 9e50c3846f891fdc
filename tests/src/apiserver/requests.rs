//! What clients have asked of the server, so that a test can say what they did not ask.
use percent_encoding::percent_decode_str;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// The latest requests that are remembered; older ones are only counted.
const REQUESTS_MAX: usize = 10_000;

/// What a request does, as permissions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// One pod.
    Get,
    /// All pods that are selected, or a page of them.
    List,
    /// Changes of pods.
    Watch,
    /// What the server is and has: `/version`, `/api` and below, health.
    Discovery,
    /// Everything else: writes, other resources, paths that do not exist.
    Other,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Discovery => "discover",
            Self::Other => "do something else with",
        })
    }
}

/// The parameters of a query, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn new(text: &str) -> Self {
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(k, v)| (decode(k), decode(v))).collect())
    }

    /// A parameter; an empty one is none, as for real servers.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|v| v == "true" || v == "1" || v == "t")
    }
}

/// One request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it wanted to do.
    pub verb: Verb,
    /// `GET` and so on.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The namespace that the path names.
    pub namespace: Option<String>,
    /// The parameters.
    pub query: Query,
}

/// The requests so far.
#[derive(Debug, Default)]
pub(super) struct Requests {
    latest: VecDeque<Request>,
    counts: BTreeMap<Verb, u64>,
}

impl Requests {
    pub(super) fn note(&mut self, request: Request) {
        *self.counts.entry(request.verb).or_default() += 1;
        if self.latest.len() >= REQUESTS_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(request);
    }

    pub(super) fn count(&self, verb: Verb) -> u64 {
        self.counts.get(&verb).copied().unwrap_or_default()
    }

    pub(super) fn latest(&self) -> Vec<Request> {
        self.latest.iter().cloned().collect()
    }
}
