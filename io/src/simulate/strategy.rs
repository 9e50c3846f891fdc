//! The ways to choose a pod that are compared.
use kvroute_engine::choose::Policy;
use std::str::FromStr;

/// A way to choose a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Any pod.
    Random,
    /// One after the other.
    RoundRobin,
    /// The fewest requests in flight.
    LeastRequest,
    /// The longest prefix that the router itself has sent there lately; no events.
    Approximate,
    /// The longest cached prefix, as events say.
    PrefixCache,
    /// The least work: what is not cached of the prompt, by events, and what the pod has to do already.
    Cost,
}

/// What a way to choose knows of the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// Nothing.
    Nothing,
    /// Its own decisions.
    Decisions,
    /// What engines publish.
    Events,
}

impl Strategy {
    /// All, in the order of the report.
    pub const ALL: [Self; 6] = [
        Self::Random,
        Self::RoundRobin,
        Self::LeastRequest,
        Self::Approximate,
        Self::PrefixCache,
        Self::Cost,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approximate => "approximate",
            other => other.policy().as_str(),
        }
    }

    /// Whether it goes by what caches hold.
    #[must_use]
    pub fn knows_caches(self) -> bool {
        self.knowledge() != Knowledge::Nothing
    }

    /// The rule by which it chooses.
    pub(crate) const fn policy(self) -> Policy {
        match self {
            Self::Random => Policy::Random,
            Self::RoundRobin => Policy::RoundRobin,
            Self::LeastRequest => Policy::LeastRequest,
            Self::Approximate | Self::PrefixCache => Policy::PrefixCache,
            Self::Cost => Policy::Cost,
        }
    }

    /// What it goes by.
    pub(crate) const fn knowledge(self) -> Knowledge {
        match self {
            Self::Random | Self::RoundRobin | Self::LeastRequest => Knowledge::Nothing,
            Self::Approximate => Knowledge::Decisions,
            Self::PrefixCache | Self::Cost => Knowledge::Events,
        }
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|strategy| strategy.as_str() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("{name:?} is none of {names}")
        })
    }
}
