//! Who may ask for what: bearer tokens, the listener that a request came through, and how many requests are under
//! way.
use super::console;
use super::cross_site::is_cross_site;
use super::error::ApiError;
use super::tokens::Tokens;
use crate::status::{HttpStatus, Refused};
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Method, StatusCode};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// Who may have what a path has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody: whether the node is alive and ready.
    Open,
    /// Whoever has a token, if tokens are asked for.
    Clients,
    /// Whoever may change the node, or see all that it holds; where there is an admin listener, there only.
    Admin,
    /// GET and HEAD as [`Self::Clients`], other methods as [`Self::Admin`].
    AdminToChange,
    /// Whoever reaches the listener for admins, with a token or without: files that say nothing of the node.
    Page,
    /// As [`Self::Page`] for who wants a page, else as [`Self::Clients`].
    Front,
}

/// What the node asks for, the same for all listeners.
#[derive(Debug)]
pub(super) struct Gate {
    /// Tokens of clients; without them nobody needs one.
    pub(super) tokens: Option<Tokens>,
    /// Tokens of those who may change things; without them, those of clients do.
    pub(super) admin_tokens: Option<Tokens>,
    /// Whether there is an admin listener.
    pub(super) separate: bool,
    /// Requests that a thread may have under way.
    pub(super) requests_max: usize,
    pub(super) status: Arc<HttpStatus>,
}

/// The way in through one listener, on one thread.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) gate: Arc<Gate>,
    /// Whether it is the admin listener's.
    pub(super) admin: bool,
    /// Requests of the thread that are read or answered.
    pub(super) under_way: Rc<Cell<usize>>,
}

/// As long as it exists, a request is under way.
#[derive(Debug)]
pub(super) struct UnderWay<'d>(&'d Cell<usize>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Door {
    /// A request that was admitted begins.
    pub(super) fn enter(&self) -> UnderWay<'_> {
        self.under_way.set(self.under_way.get() + 1);
        UnderWay(&self.under_way)
    }

    /// Whether a request may have what it asks for. One that is turned away costs nobody anything yet: its body
    /// is not read.
    pub(super) fn admit(
        &self,
        access: Access,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<(), ApiError> {
        if access == Access::Open {
            return Ok(());
        }
        let changes = *method != Method::GET && *method != Method::HEAD;
        let page =
            access == Access::Page || (access == Access::Front && console::wants_page(headers));
        let admin = access == Access::Admin || (access == Access::AdminToChange && changes);
        let refused = if self.under_way.get() >= self.gate.requests_max {
            (Refused::Requests, too_many())
        } else if !page && let Err(refused) = self.gate.check(admin, headers) {
            refused
        } else if admin && changes && is_cross_site(headers) {
            (Refused::CrossSite, cross_site())
        } else if (admin || page) && self.gate.separate && !self.admin {
            (Refused::Listener, admin_only())
        } else {
            return Ok(());
        };
        self.gate.status.add_refused(refused.0);
        Err(refused.1)
    }
}

impl Gate {
    fn check(&self, admin: bool, headers: &HeaderMap) -> Result<(), (Refused, ApiError)> {
        let (clients, admins) = (self.tokens.as_ref(), self.admin_tokens.as_ref());
        let asked = if admin { admins.or(clients) } else { clients };
        let Some(asked) = asked else {
            return Ok(());
        };
        let Some(token) = bearer(headers) else {
            let message = "a bearer token is needed";
            return Err((Refused::Token, unauthorized(message)));
        };
        // Whoever may change things may look prompts up.
        if asked.has(token) || admins.is_some_and(|admins| admins.has(token)) {
            Ok(())
        } else if admin && clients.is_some_and(|clients| clients.has(token)) {
            let message = "this token may look prompts up only";
            let error = ApiError::new(StatusCode::FORBIDDEN, "forbidden", message);
            Err((Refused::Token, error))
        } else {
            let message = "this bearer token is not known";
            Err((Refused::Token, unauthorized(message)))
        }
    }
}

/// The token of `Authorization: Bearer …`. Two such headers are none: it must be clear which one counts.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

fn unauthorized(message: &'static str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
        .with("www-authenticate", "Bearer")
}

fn admin_only() -> ApiError {
    let message = "this is answered on the admin listener only";
    ApiError::new(StatusCode::FORBIDDEN, "admin_only", message)
}

fn cross_site() -> ApiError {
    let message = "a page of another site may not change this node";
    ApiError::new(StatusCode::FORBIDDEN, "cross_site", message)
}

fn too_many() -> ApiError {
    let message = "too many requests are under way";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
        .with("retry-after", "1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn only_one_clear_bearer_token_counts() {
        let found = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            bearer(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(found(&["Bearer abc"]), Some(b"abc".to_vec()));
        assert_eq!(found(&["bearer  abc "]), Some(b"abc".to_vec()));
        for none in [
            &[][..],
            &["abc"],
            &["Bearer"],
            &["Basic abc"],
            &["Bearer a", "Bearer a"],
        ] {
            assert_eq!(found(none), None, "{none:?}");
        }
    }

    #[test]
    fn many_requests_are_turned_away_and_the_probes_are_not() {
        let gate = Gate {
            tokens: None,
            admin_tokens: None,
            separate: false,
            requests_max: 2,
            status: Arc::default(),
        };
        let door = Door {
            gate: Arc::new(gate),
            admin: false,
            under_way: Rc::default(),
        };
        let admit = |access| door.admit(access, &Method::POST, &HeaderMap::new());
        let first = door.enter();
        assert!(admit(Access::Clients).is_ok());
        let second = door.enter();
        assert!(admit(Access::Clients).is_err());
        assert!(admit(Access::Open).is_ok());
        drop((first, second));
        assert!(admit(Access::Clients).is_ok());
        assert_eq!(door.under_way.get(), 0);
    }
}
