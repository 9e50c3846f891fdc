//! `GET /openapi.json`: what the node answers, as OpenAPI 3.1. Answers in tests are checked against it.
use super::error::{ApiError, Body, JSON, Reply};
use super::state::{Call, ThreadState};
use hyper::StatusCode;
use hyper::body::Bytes;

static DESCRIPTION: &str = include_str!("openapi.json");

/// Answers `GET /openapi.json`.
pub(super) fn answer(_: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(Reply {
        status: StatusCode::OK,
        content_type: JSON,
        headers: Vec::new(),
        name: None,
        body: Body::Whole(Bytes::from_static(DESCRIPTION.as_bytes())),
    })
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;
    use serde_json::{Map, Value};
    use std::collections::BTreeSet;

    fn paths() -> Map<String, Value> {
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        description["paths"].as_object().unwrap().clone()
    }

    /// A path of the description as the table of routes has it.
    fn pattern(path: &str) -> String {
        match path.split_once('{') {
            None => path.to_owned(),
            Some((prefix, name)) => {
                assert_eq!(name.find('}'), Some(name.len() - 1), "{path}");
                format!("{prefix}*")
            }
        }
    }

    #[test]
    fn every_route_is_described_and_the_other_way_round() {
        let described: BTreeSet<_> = paths().keys().map(|path| pattern(path)).collect();
        let served: BTreeSet<_> = table::table().map(|(path, _)| path.to_owned()).collect();
        let promised: Vec<_> = described.difference(&served).collect();
        assert_eq!(promised, [""; 0], "described, but not served");
        // What takes any rest of a path may be served without one, too.
        let silent = served.iter().filter(|path| {
            let rest = format!("{}/*", path.trim_end_matches('/'));
            !described.contains(*path) && !described.contains(&rest)
        });
        assert_eq!(silent.count(), 0, "served, but not described: {served:?}");
    }

    #[test]
    fn the_methods_are_those_of_the_allow_header() {
        for (path, item) in paths() {
            let Some((_, allow)) = table::table().find(|route| route.0 == pattern(&path)) else {
                continue;
            };
            let mut described: Vec<_> = item.as_object().unwrap().keys().collect();
            described.sort_unstable();
            let mut allowed: Vec<_> = allow
                .to_ascii_lowercase()
                .split(", ")
                .map(str::to_owned)
                .collect();
            allowed.sort_unstable();
            if allow != "*" {
                assert!(
                    described.iter().copied().eq(&allowed),
                    "{path}: {described:?}"
                );
            }
        }
    }

    #[test]
    fn the_version_is_the_nodes() {
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
