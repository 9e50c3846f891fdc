//! Answers and errors as they go out.
use super::state::Call;
use crate::limits::ERROR_BYTES_MAX;
use crate::status::RequestName;
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::{Serialize, Serializer};

/// The media type of JSON answers, errors among them.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The media type of MessagePack answers.
pub(super) const MSGPACK: HeaderValue = HeaderValue::from_static("application/msgpack");
/// The media type of text answers.
pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The media type of metrics in Prometheus' own format.
pub(super) const CLASSIC_METRICS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The media type of metrics in the format of OpenMetrics.
pub(super) const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// A handler's answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: HeaderValue,
    /// Beside the content type.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Body,
    /// What the request is called, if it has a name.
    pub(super) name: Option<RequestName>,
}

/// What an answer has to say.
#[derive(Debug)]
pub(super) enum Body {
    /// All of it.
    Whole(Bytes),
    /// It is still being made.
    Stream(Stream),
}

/// Bytes that are made while they are sent.
pub(super) type Stream = Channel<Bytes>;

/// An answer as hyper sends it.
pub(super) type Answer = Response<Either<Full<Bytes>, Stream>>;

impl Reply {
    /// A value as JSON.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(|e| ApiError::internal(&e))?;
        Ok(Self {
            status,
            content_type: JSON,
            headers: Vec::new(),
            name: None,
            body: Body::Whole(body.into()),
        })
    }

    /// An answer that is JSON already.
    pub(super) fn rendered(json: Vec<u8>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: JSON,
            headers: Vec::new(),
            name: None,
            body: Body::Whole(json.into()),
        }
    }

    /// A value as MessagePack: maps with the same names as in JSON.
    pub(super) fn msgpack(value: &impl Serialize) -> Result<Self, ApiError> {
        let body = rmp_serde::to_vec_named(value).map_err(|e| ApiError::internal(&e))?;
        Ok(Self {
            status: StatusCode::OK,
            content_type: MSGPACK,
            headers: Vec::new(),
            name: None,
            body: Body::Whole(body.into()),
        })
    }

    /// A value as the request wants it: MessagePack or JSON.
    pub(super) fn accepted(call: &Call<'_>, value: &impl Serialize) -> Result<Self, ApiError> {
        if call.wants_msgpack() {
            Self::msgpack(value)
        } else {
            Self::json(StatusCode::OK, value)
        }
    }

    /// As hyper sends it; the connection may have to end after it.
    pub(super) fn closing(self, close: bool) -> Answer {
        let mut answer = Answer::from(self);
        if close {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        answer
    }

    /// 204.
    pub(super) fn nothing() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            content_type: JSON,
            headers: Vec::new(),
            name: None,
            body: Body::Whole(Bytes::new()),
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        let empty = matches!(&reply.body, Body::Whole(bytes) if bytes.is_empty());
        let mut response = Self::new(match reply.body {
            Body::Whole(bytes) => Either::Left(Full::new(bytes)),
            Body::Stream(stream) => Either::Right(stream),
        });
        *response.status_mut() = reply.status;
        if !empty {
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, reply.content_type);
        }
        response.headers_mut().extend(reply.headers);
        response
    }
}

/// A refusal: `{"error":{"code","field","message"}}` with a status.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    field: Option<String>,
    message: String,
    /// One more header: its name in lower case, and its value.
    header: Option<(&'static str, &'static str)>,
    /// The rest of the request was not read, so the connection cannot go on.
    close: bool,
}

#[derive(Serialize)]
struct ErrorBody<'e> {
    error: ErrorFields<'e>,
}

#[derive(Serialize)]
struct ErrorFields<'e> {
    code: &'e str,
    field: Option<&'e str>,
    message: &'e str,
}

/// As it stands in an answer.
impl Serialize for ApiError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let body = ErrorBody {
            error: ErrorFields {
                code: self.code,
                field: self.field.as_deref(),
                message: &self.message,
            },
        };
        body.serialize(serializer)
    }
}

impl ApiError {
    /// An error with a status and a code of its own.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        shorten(&mut message);
        Self {
            status,
            code,
            field: None,
            message,
            header: None,
            close: false,
        }
    }

    /// 400: a field is missing or wrong.
    pub(super) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message).at(field)
    }

    /// Whether nobody serves the model that was asked for.
    pub(super) fn is_about_model(&self) -> bool {
        self.code == "model_not_found"
    }

    /// 429: there is no room for it now.
    pub(super) fn overloaded(message: &str) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, "overloaded", message).with("retry-after", "1")
    }

    /// 500: our fault.
    pub(super) fn internal(why: &dyn std::fmt::Display) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            why.to_string(),
        )
    }

    /// 405, with the methods that the path has.
    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let message = format!("this path takes {allow}");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, "method_not_allowed", message).with("allow", allow)
    }

    /// Adds a header, its name in lower case; there is one at most.
    pub(super) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Names the field at fault.
    pub(super) fn at(mut self, field: impl Into<String>) -> Self {
        let mut field = field.into();
        shorten(&mut field);
        self.field = Some(field);
        self
    }

    /// The same error in the words of another surface.
    pub(super) fn renamed(mut self, name: impl Fn(&str) -> &str) -> Self {
        self.field = self.field.map(|field| name(&field).to_owned());
        self
    }

    /// Whether a request was refused because there is no room for its body, now or at all.
    pub(super) fn is_about_room(&self) -> bool {
        matches!(
            self.status,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS
        )
    }

    /// What kind of error it is.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// Whether the connection ends after the answer.
    pub(super) fn closes(&self) -> bool {
        self.close
    }

    /// Ends the connection after the answer.
    pub(super) fn closing(mut self, close: bool) -> Self {
        self.close |= close;
        self
    }
}

impl ApiError {
    fn body(&self) -> Vec<u8> {
        // Strings only: it cannot fail. Were it to, the status still tells.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The whole answer as bytes, for a connection that ends with it and has no request to answer.
    pub(super) fn plain(&self) -> Vec<u8> {
        let body = self.body();
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.status,
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        let body = error.body();
        let mut response = Self::new(Either::Left(Full::new(body.into())));
        *response.status_mut() = error.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        if let Some((name, value)) = error.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if error.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Cuts what repeats too much of a request.
fn shorten(text: &mut String) {
    if text.len() > ERROR_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        let error = ApiError::field("f", "é".repeat(ERROR_BYTES_MAX));
        assert_eq!(error.message.chars().count(), ERROR_BYTES_MAX / 2 + 1);
        assert!(error.message.ends_with("é…"));
    }
}
