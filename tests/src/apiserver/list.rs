//! Lists of pods, whole or in pages that are of one moment.
use super::requests::Query;
use super::selector::Selector;
use super::status::Refusal;
use super::store::{Key, Store};
use serde_json::{Value, json};
use std::ops::Bound;

/// Which state a list shows, and from which pod on.
struct Page {
    version: u64,
    from: Bound<Key>,
    limit: usize,
}

/// Answers a list. O(all pods).
pub(super) fn list(store: &Store, selector: &Selector, query: &Query) -> Result<Value, Refusal> {
    let page = page(store, query)?;
    let state = store.at(page.version).map_err(|expired| {
        if matches!(page.from, Bound::Unbounded) {
            Refusal::expired(page.version, expired)
        } else {
            Refusal::continue_expired()
        }
    })?;
    let mut rest = state
        .range((page.from, Bound::Unbounded))
        .filter(|(_, pod)| selector.selects(pod));
    let shown: Vec<_> = rest.by_ref().take(page.limit).collect();
    let remaining = rest.count();
    let mut metadata = json!({"resourceVersion": page.version.to_string()});
    if let Some(((namespace, name), _)) = shown.last().filter(|_| remaining > 0) {
        metadata["continue"] = json!(format!("{}={namespace}/{name}", page.version));
        // Of a selection the server does not know how much is left.
        if selector.is_everything() {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    let items = shown.into_iter().map(|(_, pod)| {
        let mut pod = Value::clone(pod);
        // The list says of what kind its items are.
        if let Some(fields) = pod.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        pod
    });
    let items: Vec<_> = items.collect();
    Ok(json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}))
}

fn page(store: &Store, query: &Query) -> Result<Page, Refusal> {
    let limit = match query.get("limit").map(str::parse::<usize>) {
        None | Some(Ok(0)) => usize::MAX,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => return Err(Refusal::bad_request("limit: it is not a number")),
    };
    let version = query.get("resourceVersion");
    if let Some(token) = query.get("continue") {
        if version.is_some_and(|v| v != "0") {
            let message = "specifying resource version is not allowed when using continue";
            return Err(Refusal::bad_request(message));
        }
        let (version, from) = parse_continue(token)
            .ok_or_else(|| Refusal::bad_request("continue key is not valid"))?;
        let from = Bound::Excluded(from);
        return Ok(Page {
            version,
            from,
            limit,
        });
    }
    let how = query.get("resourceVersionMatch");
    let current = store.version();
    let version = match (version, how) {
        (None, None) => current,
        (Some("0"), None | Some("NotOlderThan")) => {
            // Out of the server's cache, which knows no pages.
            let from = Bound::Unbounded;
            return Ok(Page {
                version: current,
                from,
                limit: usize::MAX,
            });
        }
        (Some(text), None | Some("NotOlderThan" | "Exact")) if text != "0" => {
            let version = parse_version(text)?;
            if version > current {
                return Err(Refusal::too_large(version, current));
            }
            let paged = how.is_none() && limit != usize::MAX;
            let exact = how == Some("Exact") || paged;
            if exact { version } else { current }
        }
        _ => {
            let message = "resourceVersionMatch: Forbidden: not with this resourceVersion";
            return Err(Refusal::new(422, "Invalid", message));
        }
    };
    Ok(Page {
        version,
        from: Bound::Unbounded,
        limit,
    })
}

pub(super) fn parse_version(text: &str) -> Result<u64, Refusal> {
    let message = || format!("Invalid value: {text:?}: invalid resource version");
    text.parse().map_err(|_| Refusal::bad_request(message()))
}

fn parse_continue(token: &str) -> Option<(u64, Key)> {
    let (version, key) = token.split_once('=')?;
    let (namespace, name) = key.split_once('/')?;
    let key = (namespace.to_owned(), name.to_owned());
    Some((version.parse().ok()?, key))
}
