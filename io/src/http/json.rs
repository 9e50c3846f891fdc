//! JSON bodies: parsed by serde_json, and once more to name the field if they are refused.
use super::error::ApiError;
use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_json::error::Category;
use serde_path_to_error::Track;
use std::marker::PhantomData;

/// Parses a body that must be one JSON object.
pub(super) fn object<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, ApiError> {
    seeded(body, || PhantomData)
}

/// The same with a seed that says what to make of it.
pub(super) fn seeded<'b, S: DeserializeSeed<'b>>(
    body: &'b [u8],
    seed: impl Fn() -> S,
) -> Result<S::Value, ApiError> {
    // serde would take an array for a struct, too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(invalid("the body must be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = seed().deserialize(&mut json);
    parsed
        .and_then(|value| json.end().map(|()| value))
        .map_err(|error| explain(body, seed(), &error))
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message)
}

/// Names the field at fault. Parses again, which only a refused request pays for.
#[cold]
fn explain<'b>(
    body: &'b [u8],
    seed: impl DeserializeSeed<'b>,
    error: &serde_json::Error,
) -> ApiError {
    if error.classify() != Category::Data {
        return invalid(error.to_string());
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut track = Track::new();
    let path = match seed.deserialize(serde_path_to_error::Deserializer::new(
        &mut json, &mut track,
    )) {
        Ok(_) => String::new(),
        Err(_) => track.path().to_string(),
    };
    let message = error.to_string();
    let field = path.split(['.', '[']).next().unwrap_or_default();
    match (field, quoted_field(&message)) {
        (_, Some(named)) => ApiError::field(named, message.as_str()),
        ("", None) => ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", message),
        (field, None) => ApiError::field(field, format!("{path}: {message}")),
    }
}

/// The field in serde's own messages about a field as such.
fn quoted_field(message: &str) -> Option<&str> {
    let rest = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start))?;
    rest.split('`').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::PodSpec;
    use crate::http::error::Answer;
    use http_body_util::BodyExt;

    /// (code, field, message) of the refusal.
    fn refusal<'b, T: Deserialize<'b> + std::fmt::Debug>(
        body: &'b str,
    ) -> (String, Option<String>, String) {
        let error = object::<T>(body.as_bytes()).unwrap_err();
        let response = Answer::from(error);
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let mut collected = std::pin::pin!(response.into_body().collect());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(whole) = collected.as_mut().poll(&mut context) else {
            panic!("a full body is ready");
        };
        let value: serde_json::Value = serde_json::from_slice(&whole.unwrap().to_bytes()).unwrap();
        let text = |name: &str| value["error"][name].as_str().map(str::to_owned);
        (
            text("code").unwrap(),
            text("field"),
            text("message").unwrap(),
        )
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its errors are looked at")]
    struct Sample {
        numbers: Vec<u32>,
    }

    #[test]
    fn the_field_is_named() {
        let pod = r#"{"pod":"a","model":"m","events":"tcp://a:1""#;
        for (body, field) in [
            (format!(r#"{pod},"ranks":"two"}}"#), "ranks"),
            (format!(r#"{pod},"ranks":-1}}"#), "ranks"),
            (format!(r#"{pod},"rank":1}}"#), "rank"),
            (format!(r#"{pod},"lora":["a",7]}}"#), "lora"),
            (format!(r#"{pod},"pod":"b"}}"#), "pod"),
            (r#"{"pod":"a","events":"m"}"#.to_owned(), "model"),
            (r#"{"pod":null,"model":"m","events":"x"}"#.to_owned(), "pod"),
        ] {
            let (code, named, message) = refusal::<PodSpec>(&body);
            assert_eq!(code, "invalid_request", "{body}: {message}");
            assert_eq!(named.as_deref(), Some(field), "{body}: {message}");
        }
    }

    #[test]
    fn the_place_in_a_list_is_in_the_message() {
        let (_, field, message) = refusal::<Sample>(r#"{"numbers":[1,2,-3]}"#);
        assert_eq!(field.as_deref(), Some("numbers"));
        assert!(message.contains("numbers[2]"), "{message}");
    }

    #[test]
    fn what_is_not_an_object_is_not_json_for_us() {
        for body in [
            "",
            "  ",
            "[[1]]",
            "null",
            "7",
            "{",
            "{\"numbers\":[1}",
            "{\"numbers\":[]} x",
            "{\"a\":\"\u{1}\"}",
        ] {
            let (code, field, message) = refusal::<Sample>(body);
            assert_eq!(
                (code.as_str(), field),
                ("invalid_json", None),
                "{body:?}: {message}"
            );
        }
    }
}
