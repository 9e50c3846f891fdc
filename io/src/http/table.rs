//! The table of routes: which path is answered by what, where, for whom, and as what it counts.
use super::access::Access;
use super::error::{ApiError, Reply};
use super::route::{self, authz, explain, feedback};
use super::state::{Call, Step, ThreadState};
use super::{
    batch, by_hash, console, dump, flow, health, log, matching, openapi, prefixes, problems,
    rfc1403, snapshot, sources, workers,
};
use crate::status::Endpoint;
use Handler::{Plain, Prompt};
use hyper::{Method, StatusCode};

/// Answers one kind of request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Handler {
    /// At once.
    Plain(fn(&mut ThreadState, &Call<'_>) -> Result<Reply, ApiError>),
    /// Perhaps only after the prompt has been tokenized.
    Prompt(fn(&mut ThreadState, &Call<'_>) -> Result<Step, ApiError>),
}

impl Handler {
    pub(super) fn call(self, state: &mut ThreadState, call: &Call<'_>) -> Result<Step, ApiError> {
        // Here only, so that one request is answered by one set of settings.
        state.live.look();
        // For the log, and for whoever counts.
        let _entered = state.traced.as_ref().map(|traced| traced.enter());
        match self {
            Self::Plain(handler) => handler(state, call).map(Step::Done),
            Self::Prompt(handler) => handler(state, call),
        }
    }
}

/// One path and what it takes.
pub(super) struct Route {
    /// With a `*` at its end, everything that begins so and goes on.
    path: &'static str,
    /// The methods, as the `Allow` header names them.
    pub(super) allow: &'static str,
    handlers: &'static [(Method, Handler)],
    runs: Runs,
    /// Who may have it.
    access: Access,
    /// What its requests are called where they are traced.
    pub(super) traced: Option<&'static str>,
    /// What it counts as.
    pub(super) endpoint: Endpoint,
}

/// Where a route's requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// On the HTTP thread; POSTs with a large body aside.
    Here,
    /// Aside: it takes long.
    Aside,
}

const GET: &str = "GET, HEAD";

/// Of routes that take requests which a gateway forwards to be checked: any method, and whatever is wrong with the
/// body is the handler's business.
pub(super) const ANY: &str = "*";

static CHECK: &[(Method, Handler)] = &[(Method::POST, Prompt(authz::check))];

static ROUTES: &[Route] = &[
    route(
        "/v1/match",
        "POST",
        &[(Method::POST, Prompt(matching::answer))],
    )
    .counted(Endpoint::Match)
    .traced("POST /v1/match"),
    route(
        "/v1/match:batch",
        "POST",
        &[(Method::POST, Prompt(batch::answer))],
    )
    .counted(Endpoint::Batch)
    .traced("POST /v1/match:batch")
    .aside(),
    route(
        "/v1/route",
        "POST",
        &[(Method::POST, Prompt(route::answer))],
    )
    .counted(Endpoint::Route)
    .traced("POST /v1/route"),
    route(
        "/v1/route/v1/chat/completions",
        "POST",
        &[(Method::POST, Prompt(route::answer))],
    )
    .counted(Endpoint::Route)
    .traced("POST /v1/route/v1/chat/completions"),
    route(
        "/v1/route/v1/completions",
        "POST",
        &[(Method::POST, Prompt(route::answer))],
    )
    .counted(Endpoint::Route)
    .traced("POST /v1/route/v1/completions"),
    route("/v1/ext_authz/*", ANY, CHECK)
        .counted(Endpoint::ExtAuthz)
        .traced("/v1/ext_authz"),
    route("/v1/ext_authz/", ANY, CHECK)
        .counted(Endpoint::ExtAuthz)
        .traced("/v1/ext_authz"),
    route("/v1/ext_authz", ANY, CHECK)
        .counted(Endpoint::ExtAuthz)
        .traced("/v1/ext_authz"),
    route(
        "/v1/feedback",
        "POST",
        &[(Method::POST, Plain(feedback::note))],
    )
    .counted(Endpoint::Feedback),
    route(
        "/v1/explain/*",
        GET,
        &[(Method::GET, Plain(explain::answer))],
    )
    .counted(Endpoint::Explain),
    route("/query", "POST", &[(Method::POST, Plain(rfc1403::query))])
        .counted(Endpoint::Query)
        .traced("POST /query"),
    route(
        "/query_by_hash",
        "POST",
        &[(Method::POST, Plain(by_hash::query))],
    )
    .counted(Endpoint::QueryByHash)
    .traced("POST /query_by_hash"),
    route("/v1/flow", GET, &[(Method::GET, Plain(flow::answer))]).to(Access::Admin),
    route("/dump", GET, &[(Method::GET, Plain(dump::answer))]).to(Access::Admin),
    route("/healthz", GET, &[(Method::GET, Plain(health::alive))]).to(Access::Open),
    route("/health", GET, &[(Method::GET, Plain(health::alive))]).to(Access::Open),
    route("/readyz", GET, &[(Method::GET, Plain(health::ready))]).to(Access::Open),
    route("/metrics", GET, &[(Method::GET, Plain(health::metrics))]).aside(),
    route(
        "/v1/workers",
        "GET, HEAD, POST",
        &[
            (Method::GET, Plain(workers::list)),
            (Method::POST, Plain(workers::add)),
        ],
    )
    .to(Access::AdminToChange)
    .aside(),
    route(
        "/v1/workers/*",
        "GET, HEAD, DELETE",
        &[
            (Method::GET, Plain(workers::show)),
            (Method::DELETE, Plain(workers::remove)),
        ],
    )
    .to(Access::AdminToChange),
    route(
        "/v1/log",
        "GET, HEAD, PUT",
        &[
            (Method::GET, Plain(log::show)),
            (Method::PUT, Plain(log::set)),
        ],
    )
    .to(Access::Admin),
    route("/v1/problems", GET, &[(Method::GET, Plain(problems::list))])
        .to(Access::Admin)
        .aside(),
    route("/v1/prefixes", GET, &[(Method::GET, Plain(prefixes::list))])
        .to(Access::Admin)
        .aside(),
    route("/v1/sources", GET, &[(Method::GET, Plain(sources::list))]).aside(),
    route(
        "/register",
        "POST",
        &[(Method::POST, Plain(rfc1403::register))],
    )
    .to(Access::Admin),
    route(
        "/unregister",
        "POST",
        &[(Method::POST, Plain(rfc1403::unregister))],
    )
    .to(Access::Admin),
    route("/workers", GET, &[(Method::GET, Plain(rfc1403::list))]).aside(),
    route(
        snapshot::PATH,
        GET,
        &[(Method::GET, Plain(snapshot::answer))],
    )
    .to(Access::Admin),
    route(
        "/openapi.json",
        GET,
        &[(Method::GET, Plain(openapi::answer))],
    ),
    route("/", GET, &[(Method::GET, Plain(console::front))]).to(Access::Front),
    route("/console/*", GET, &[(Method::GET, Plain(console::asset))]).to(Access::Page),
    route(
        "/runbooks/*",
        GET,
        &[(Method::GET, Plain(console::document))],
    )
    .to(Access::Page)
    .aside(),
    route("/docs/*", GET, &[(Method::GET, Plain(console::document))])
        .to(Access::Page)
        .aside(),
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
        runs: Runs::Here,
        access: Access::Clients,
        traced: None,
        endpoint: Endpoint::Other,
    }
}

/// Paths as the table has them, with what their `Allow` header says.
#[cfg(test)]
pub(super) fn table() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().map(|route| (route.path, route.allow))
}

impl Route {
    const fn to(self, access: Access) -> Self {
        Self { access, ..self }
    }

    const fn counted(self, endpoint: Endpoint) -> Self {
        Self { endpoint, ..self }
    }

    /// It takes long.
    const fn aside(self) -> Self {
        let runs = Runs::Aside;
        Self { runs, ..self }
    }

    /// Its requests are traced under this name.
    const fn traced(self, name: &'static str) -> Self {
        let traced = Some(name);
        Self { traced, ..self }
    }

    /// What the path has after the route's prefix, if the route is the path's.
    fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.path.strip_suffix('*') {
            Some(prefix) => path.strip_prefix(prefix).filter(|rest| !rest.is_empty()),
            None => (path == self.path).then_some(""),
        }
    }
}

/// What answers a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'p> {
    pub(super) handler: Handler,
    /// What the path has after the route's prefix.
    pub(super) rest: &'p str,
    pub(super) runs: Runs,
    /// Whether it is a request of somebody else's, to be checked.
    pub(super) forwarded: bool,
}

/// Finds the route and what the path has after its prefix.
pub(super) fn look_up(path: &str) -> Option<(&'static Route, &str)> {
    let mut routes = ROUTES.iter();
    routes.find_map(|route| Some((route, route.rest(path)?)))
}

/// Finds the handler, if who asks may have it, and the rest of the path. HEAD is answered like GET; hyper leaves the
/// body out.
pub(super) fn find<'p>(
    method: &Method,
    path: &'p str,
    admit: impl FnOnce(Access) -> Result<(), ApiError>,
) -> Result<Found<'p>, ApiError> {
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
    let forwarded = route.allow == ANY;
    let mut handlers = route.handlers.iter();
    match handlers.find(|(takes, _)| forwarded || takes == method) {
        Some(&(_, handler)) => Ok(Found {
            handler,
            rest,
            runs: route.runs,
            forwarded,
        }),
        None => Err(ApiError::method_not_allowed(route.allow)),
    }
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
                let said = route.allow == ANY || allowed.contains(&method.as_str());
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
