//! What is wrong between the node and Kubernetes, in words that say what to do.
use kube::Error;
use kube::config::KubeconfigError;
use kube::core::Status;

/// Characters of what a server says that are told.
const SAID_CHARS: usize = 300;

/// What a request was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    List,
    Watch,
}

impl Verb {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

/// What is wrong, with what to do about it. `place` is `namespace x`, or `all namespaces`.
pub(super) fn say(error: &Error, verb: Verb, place: &str) -> String {
    let doing = verb.as_str();
    match error {
        Error::Api(status) => of_status(status, verb, place),
        Error::Auth(error) => format!(
            "{doing} pods in {place}: no credentials: {}; see the kubeconfig's user",
            chain(error)
        ),
        Error::SerdeError(error) => format!(
            "{doing} pods in {place}: not what Kubernetes answers: {}; is this its API server?",
            cut(&error.to_string())
        ),
        other => transport(&chain(other), verb, place),
    }
}

/// What a server's answer means.
pub(super) fn of_status(status: &Status, verb: Verb, place: &str) -> String {
    let doing = verb.as_str();
    let said = cut(&status.message);
    let code = status.code;
    let hint = match code {
        400 => "see kubernetes_selector",
        401 => "its token or certificate is not accepted: expired, revoked, or of another cluster",
        403 => {
            return format!(
                "{doing} pods in {place}: 403: not allowed; give the node's service account the verbs get, list and \
                 watch on pods in {place}; the server says: {said}"
            );
        }
        404 => "is this the API server of Kubernetes?",
        410 => "what was seen last is too old for the server; all pods are listed again",
        429 => "the server has too many requests",
        _ => "the server has a problem",
    };
    format!("{doing} pods in {place}: {code}: {hint}; the server says: {said}")
}

fn transport(why: &str, verb: Verb, place: &str) -> String {
    let doing = verb.as_str();
    let hint = if why.contains("certificate") || why.contains("UnknownIssuer") {
        "; see certificate-authority and the server's name in the kubeconfig"
    } else if why.contains("refused") || why.contains("dns error") || why.contains("unreachable") {
        "; is the API server there, and does a network policy let the node reach it?"
    } else {
        ""
    };
    format!("{doing} pods in {place}: {why}{hint}")
}

/// An error with all its causes, each once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    // Its own words show the lines around the fault, where tokens and passwords are.
    if let Some(KubeconfigError::Parse(fault)) = error.downcast_ref() {
        let line = fault.location().map(|place| place.line());
        let place = line.map_or_else(String::new, |line| format!(", see line {line}"));
        return format!("not the YAML of a kubeconfig{place}");
    }
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    cut(&text)
}

/// A text that others wrote, as long as it is told.
fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(SAID_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
