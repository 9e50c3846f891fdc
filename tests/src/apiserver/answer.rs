//! From a request to its answer.
use super::access::Access;
use super::body::{Body, break_connection};
use super::faults::Fault;
use super::list::list;
use super::requests::{Query, Request, Verb};
use super::selector::Selector;
use super::state::Shared;
use super::status::Refusal;
use super::store::Expired;
use super::watching::{gone, watch};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::{Method, Response};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use tokio::time::sleep;

/// The version that the server says it is.
const VERSION: &str = "v1.34.0";

/// What a path stands for.
enum Target {
    Pods { namespace: Option<String> },
    Pod { namespace: String, name: String },
    Document(Value),
    Health,
    Unknown,
}

impl Target {
    fn new(path: &str) -> Self {
        let parts: Vec<_> = path.split('/').skip(1).collect();
        match parts[..] {
            ["api", "v1", "pods"] => Self::Pods { namespace: None },
            ["api", "v1", "namespaces", namespace, "pods"] => Self::Pods {
                namespace: Some(namespace.to_owned()),
            },
            ["api", "v1", "namespaces", namespace, "pods", name] => Self::Pod {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            ["healthz" | "livez" | "readyz"] => Self::Health,
            _ => document(path).map_or(Self::Unknown, Self::Document),
        }
    }

    fn verb(&self, method: &Method, query: &Query) -> Verb {
        match self {
            _ if method != Method::GET => Verb::Other,
            Self::Pods { .. } if query.is_true("watch") => Verb::Watch,
            Self::Pods { .. } => Verb::List,
            Self::Pod { .. } => Verb::Get,
            Self::Document(_) | Self::Health => Verb::Discovery,
            Self::Unknown => Verb::Other,
        }
    }

    fn namespace(&self) -> Option<&str> {
        match self {
            Self::Pods { namespace } => namespace.as_deref(),
            Self::Pod { namespace, .. } => Some(namespace),
            Self::Document(_) | Self::Health | Self::Unknown => None,
        }
    }
}

/// What clients ask to find out what the server has: pods, and nothing else.
fn document(path: &str) -> Option<Value> {
    Some(match path {
        "/version" => json!({"major": "1", "minor": "34", "gitVersion": VERSION}),
        "/api" => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}),
        "/api/v1" => json!({
            "kind": "APIResourceList", "groupVersion": "v1", "resources": [{
                "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod",
                "verbs": ["get", "list", "watch"], "shortNames": ["po"], "categories": ["all"],
            }],
        }),
        _ => return None,
    })
}

/// Answers a request; the error ends the connection without an answer.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> io::Result<Response<Body>> {
    let uri = request.uri();
    let target = Target::new(uri.path());
    let query = Query::new(uri.query().unwrap_or_default());
    let verb = target.verb(request.method(), &query);
    let authorization = request.headers().get(AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok());
    let (allowed, fault) = {
        let mut state = shared.lock();
        state.requests.note(Request {
            verb,
            method: request.method().to_string(),
            path: uri.path().to_owned(),
            namespace: target.namespace().map(str::to_owned),
            query: query.clone(),
        });
        let allowed = allow(&state.access, &target, verb, authorization);
        (allowed, state.faults.take(verb))
    };
    let body = match (fault, allowed) {
        (Some(Fault::Hang), _) => std::future::pending().await,
        (Some(Fault::Reset), _) => return Err(io::ErrorKind::ConnectionReset.into()),
        (Some(Fault::Refuse(code, after)), _) => Err(Refusal::overloaded(code, after)),
        (_, Err(refusal)) => Err(refusal),
        (None, Ok(())) => answer_now(&shared, target, verb, &query),
        (Some(Fault::Delay(time)), Ok(())) => {
            sleep(time).await;
            answer_now(&shared, target, verb, &query)
        }
        (Some(Fault::Cut(bytes)), Ok(())) => {
            answer_now(&shared, target, verb, &query).map(|body| cut(body, bytes))
        }
        (Some(Fault::Garbage), Ok(())) => Ok(Body::whole("<html>not what you think</html>\n")),
        (Some(fault @ (Fault::Gone | Fault::GoneInStream)), Ok(())) => {
            let oldest = shared.lock().store.version();
            let refusal = Refusal::expired(1, Expired { oldest });
            if fault == Fault::GoneInStream && verb == Verb::Watch {
                Ok(gone(&refusal))
            } else {
                Err(refusal)
            }
        }
    };
    Ok(respond(body))
}

fn allow(
    access: &Access,
    target: &Target,
    verb: Verb,
    authorization: Option<&str>,
) -> Result<(), Refusal> {
    if matches!(target, Target::Health) {
        return Ok(());
    }
    let permissions = access.of(authorization)?;
    if verb == Verb::Discovery {
        return Ok(());
    }
    Access::check(permissions, verb, target.namespace())
}

fn answer_now(
    shared: &Arc<Shared>,
    target: Target,
    verb: Verb,
    query: &Query,
) -> Result<Body, Refusal> {
    match target {
        Target::Pods { namespace } => {
            let text = |name| query.get(name).unwrap_or_default();
            let (labels, fields) = (text("labelSelector"), text("fieldSelector"));
            let selector = Selector::new(namespace.as_deref(), labels, fields)
                .map_err(Refusal::bad_request)?;
            if verb == Verb::Watch {
                // A watch from a version that is forgotten seems to begin well, and says so in its stream.
                return watch(shared, selector, query);
            }
            let list = list(&shared.lock().store, &selector, query)?;
            Ok(Body::whole(list.to_string()))
        }
        Target::Pod { namespace, name } => {
            let key = (namespace, name);
            let state = shared.lock();
            let pod = state.store.get(&key);
            let missing = || Refusal::not_found(format!("pods {:?} not found", key.1));
            Ok(Body::whole(pod.ok_or_else(missing)?.to_string()))
        }
        Target::Document(document) => Ok(Body::whole(document.to_string())),
        Target::Health => Ok(Body::whole("ok")),
        Target::Unknown => Err(Refusal::not_found(
            "the server could not find the requested resource",
        )),
    }
}

/// The first bytes of a body; then the connection breaks.
fn cut(body: Body, bytes: usize) -> Body {
    let Body::Whole(Some(whole)) = body else {
        return body;
    };
    let (writer, cut) = Body::pieces();
    let first = whole.slice(..bytes.min(whole.len()));
    tokio::spawn(async move {
        // Without a client there is nobody to break with.
        let _ = writer.send(Ok(first)).await;
        break_connection(&writer).await;
    });
    cut
}

fn respond(body: Result<Body, Refusal>) -> Response<Body> {
    let mut response = match body {
        Ok(body) => Response::new(body),
        Err(refusal) => {
            let mut response =
                Response::new(Body::whole(Bytes::from(refusal.object().to_string())));
            *response.status_mut() = refusal.code.try_into().unwrap_or_default();
            if let Some(seconds) = refusal.retry_after {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            response
        }
    };
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
