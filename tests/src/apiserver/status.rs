//! What a server says when it does not do what it was asked: Kubernetes `Status` objects.
use super::store::Expired;
use serde_json::{Value, json};

/// A refusal: its code, its reason in one word, its text.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    reason: &'static str,
    message: String,
    /// Seconds, for the header of that name.
    pub(super) retry_after: Option<u32>,
    details: Option<Value>,
}

impl Refusal {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            retry_after: None,
            details: None,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "NotFound", message)
    }

    pub(super) fn expired(version: u64, expired: Expired) -> Self {
        let oldest = expired.oldest;
        let message = format!("too old resource version: {version} ({oldest})");
        Self::new(410, "Expired", message)
    }

    pub(super) fn continue_expired() -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. \
                       You can start a new list without the continue parameter.";
        Self::new(410, "Expired", message)
    }

    /// A version that this server has not reached.
    pub(super) fn too_large(version: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {version}, current: {current}");
        let mut refusal = Self::new(504, "Timeout", message);
        refusal.retry_after = Some(1);
        let cause =
            json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        refusal.details = Some(json!({"causes": [cause], "retryAfterSeconds": 1}));
        refusal
    }

    pub(super) fn overloaded(code: u16, retry_after: Option<u32>) -> Self {
        let (reason, message) = match code {
            429 => (
                "TooManyRequests",
                "Too many requests, please try again later.",
            ),
            503 => ("ServiceUnavailable", "apiserver not ready"),
            _ => ("InternalError", "Internal error occurred: it was told to"),
        };
        let mut refusal = Self::new(code, reason, message);
        refusal.retry_after = retry_after;
        refusal.details = retry_after.map(|s| json!({"retryAfterSeconds": s}));
        refusal
    }

    /// The object that stands in an answer's body, or in an event of type `ERROR`.
    pub(super) fn object(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}
