//! The table of routes, and a request's way through it.
use super::access::{Access, Door};
use super::body::{self, Body, Held};
use super::error::{Answer, ApiError, Reply};
use super::state::{Call, ThreadState};
use super::{health, matching, rfc1403, snapshot, workers};
use crate::limits::URL_BYTES_MAX;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, EXPECT};
use hyper::{HeaderMap, Method, Request, StatusCode};
use std::cell::RefCell;

type Handler = fn(&mut ThreadState, &Call<'_>) -> Result<Reply, ApiError>;

/// One path and what it takes.
struct Route {
    /// With a `*` at its end, everything that begins so and goes on.
    path: &'static str,
    /// The methods, as the `Allow` header names them.
    allow: &'static str,
    handlers: &'static [(Method, Handler)],
    /// Who may have it.
    access: Access,
}

const GET: &str = "GET, HEAD";

static ROUTES: &[Route] = &[
    route("/v1/match", "POST", &[(Method::POST, matching::answer)]),
    route("/query", "POST", &[(Method::POST, rfc1403::query)]),
    route("/healthz", GET, &[(Method::GET, health::alive)]).to(Access::Open),
    route("/health", GET, &[(Method::GET, health::alive)]).to(Access::Open),
    route("/readyz", GET, &[(Method::GET, health::ready)]).to(Access::Open),
    route("/metrics", GET, &[(Method::GET, health::metrics)]),
    route(
        "/v1/workers",
        "GET, HEAD, POST",
        &[(Method::GET, workers::list), (Method::POST, workers::add)],
    )
    .to(Access::AdminToChange),
    route(
        "/v1/workers/*",
        "DELETE",
        &[(Method::DELETE, workers::remove)],
    )
    .to(Access::AdminToChange),
    route("/register", "POST", &[(Method::POST, rfc1403::register)]).to(Access::Admin),
    route(
        "/unregister",
        "POST",
        &[(Method::POST, rfc1403::unregister)],
    )
    .to(Access::Admin),
    route("/workers", GET, &[(Method::GET, rfc1403::list)]),
    route(snapshot::PATH, GET, &[(Method::GET, snapshot::answer)]).to(Access::Admin),
    route("/", GET, &[(Method::GET, health::front)]),
];

/// For clients, unless it is said otherwise.
const fn route(
    path: &'static str,
    allow: &'static str,
    handlers: &'static [(Method, Handler)],
) -> Route {
    Route {
        path,
        allow,
        handlers,
        access: Access::Clients,
    }
}

impl Route {
    const fn to(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// What the path has after the route's prefix, if the route is the path's.
    fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.path.strip_suffix('*') {
            Some(prefix) => path.strip_prefix(prefix).filter(|rest| !rest.is_empty()),
            None => (path == self.path).then_some(""),
        }
    }
}

/// Finds the route and what the path has after its prefix.
fn look_up(path: &str) -> Option<(&'static Route, &str)> {
    let mut routes = ROUTES.iter();
    routes.find_map(|route| Some((route, route.rest(path)?)))
}

/// Finds the handler, if who asks may have it, and the rest of the path. HEAD is answered like GET; hyper leaves the
/// body out.
fn find<'p>(
    method: &Method,
    path: &'p str,
    admit: impl FnOnce(Access) -> Result<(), ApiError>,
) -> Result<(Handler, &'p str), ApiError> {
    let found = look_up(path);
    // Whoever may not ask is not told which paths there are.
    admit(found.map_or(Access::Clients, |(route, _)| route.access))?;
    let Some((route, rest)) = found else {
        let message = format!("no such path: {path}");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message));
    };
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    match route.handlers.iter().find(|(takes, _)| takes == method) {
        Some((_, handler)) => Ok((*handler, rest)),
        None => Err(ApiError::method_not_allowed(route.allow)),
    }
}

/// Answers one request.
pub(super) async fn respond(
    state: &RefCell<ThreadState>,
    held: &Held,
    door: &Door,
    request: Request<Incoming>,
) -> Answer {
    let (head, incoming) = request.into_parts();
    let waits = head.headers.contains_key(EXPECT);
    let admit = |access| door.admit(access, &head.method, &head.headers);
    let checked =
        check(&head.uri, &head.headers).and_then(|()| find(&head.method, head.uri.path(), admit));
    let (handler, rest) = match checked {
        Ok(found) => found,
        Err(error) => {
            let close = !body::discard(incoming, waits).await;
            return error.closing(close).into();
        }
    };
    let _under_way = door.enter();
    let body: Body = match body::read(incoming, waits, held).await {
        Ok(body) => body,
        Err(error) => return error.into(),
    };
    let call = Call {
        uri: &head.uri,
        headers: &head.headers,
        body: &body,
        rest,
    };
    match handler(&mut state.borrow_mut(), &call) {
        Ok(reply) => reply.into(),
        Err(error) => error.into(),
    }
}

fn check(uri: &hyper::Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let length = uri.path_and_query().map_or(0, |both| both.as_str().len());
    if length > URL_BYTES_MAX {
        let message = format!("path and query are longer than {URL_BYTES_MAX} bytes");
        let status = StatusCode::URI_TOO_LONG;
        return Err(ApiError::new(status, "url_too_long", message));
    }
    let coded = headers.get(CONTENT_ENCODING);
    if coded.is_some_and(|coding| coding != "identity") {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let message = "bodies are read as they are, without content coding";
        return Err(ApiError::new(status, "unsupported_encoding", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allow_header_says_what_the_table_takes() {
        for route in ROUTES {
            let takes =
                |method: &Method| find(method, &route.path.replace('*', "x"), |_| Ok(())).is_ok();
            let allowed: Vec<_> = route.allow.split(", ").collect();
            for method in [
                Method::GET,
                Method::HEAD,
                Method::POST,
                Method::PUT,
                Method::DELETE,
                Method::PATCH,
                Method::OPTIONS,
            ] {
                let said = allowed.contains(&method.as_str());
                assert_eq!(takes(&method), said, "{method} {}", route.path);
            }
        }
    }

    #[test]
    fn a_pods_name_is_all_of_the_rest() {
        let rest = |path| look_up(path).map(|(_, rest)| rest);
        assert_eq!(rest("/v1/workers/ns/a"), Some("ns/a"));
        assert_eq!(rest("/v1/workers/ns%2Fa"), Some("ns%2Fa"));
        assert_eq!(rest("/v1/workers/"), None);
    }
}
