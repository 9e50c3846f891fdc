//! Who may do what: bearer tokens and their permissions.
use super::requests::Verb;
use super::status::Refusal;
use std::collections::BTreeMap;

/// What the bearer of a token may do with pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    verbs: Vec<Verb>,
    /// `None` for the whole cluster.
    namespaces: Option<Vec<String>>,
}

impl Permissions {
    /// Get, list and watch pods of all namespaces: what a `ClusterRole` gives.
    #[must_use]
    pub fn cluster() -> Self {
        Self {
            verbs: vec![Verb::Get, Verb::List, Verb::Watch],
            namespaces: None,
        }
    }

    /// The same in these namespaces alone: what a `Role` in each gives.
    #[must_use]
    pub fn namespaces(namespaces: &[&str]) -> Self {
        Self {
            namespaces: Some(namespaces.iter().map(|&n| n.to_owned()).collect()),
            ..Self::cluster()
        }
    }

    /// Nothing at all: a service account that no role is bound to.
    #[must_use]
    pub fn none() -> Self {
        Self::cluster().only(&[])
    }

    /// These verbs instead.
    #[must_use]
    pub fn only(mut self, verbs: &[Verb]) -> Self {
        self.verbs = verbs.to_vec();
        self
    }

    fn allow(&self, verb: Verb, namespace: Option<&str>) -> bool {
        let here = |known: &Vec<String>| namespace.is_some_and(|n| known.iter().any(|k| k == n));
        self.verbs.contains(&verb) && self.namespaces.as_ref().is_none_or(here)
    }
}

/// All tokens.
#[derive(Debug, Default)]
pub(super) struct Access {
    tokens: BTreeMap<String, Permissions>,
}

impl Access {
    pub(super) fn set(&mut self, token: &str, permissions: Permissions) {
        self.tokens.insert(token.to_owned(), permissions);
    }

    pub(super) fn remove(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    /// Whether somebody with this `authorization` header is known; what may be done comes back.
    pub(super) fn of(&self, authorization: Option<&str>) -> Result<&Permissions, Refusal> {
        let token = authorization.and_then(|header| header.strip_prefix("Bearer "));
        let known = token.and_then(|token| self.tokens.get(token));
        known.ok_or_else(Refusal::unauthorized)
    }

    pub(super) fn check(
        permissions: &Permissions,
        verb: Verb,
        namespace: Option<&str>,
    ) -> Result<(), Refusal> {
        if permissions.allow(verb, namespace) {
            return Ok(());
        }
        let place = match namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "at the cluster scope".to_owned(),
        };
        let message = format!(
            "pods is forbidden: User \"system:serviceaccount:test:kvroute\" cannot {verb} resource \"pods\" in API group \"\" {place}"
        );
        Err(Refusal::new(403, "Forbidden", message))
    }
}
