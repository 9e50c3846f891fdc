//! An engine's answer to `/tokenize`, read; pure.
use super::Failure;
use crate::ids::{self, Ids};
use crate::limits::{ERROR_BYTES_MAX, TOKENIZED_TOKENS_MAX};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::sync::Arc;

/// All but the tokens.
#[derive(Deserialize)]
struct Beside {
    count: usize,
    #[expect(dead_code, reason = "it has to be there")]
    tokens: IgnoredAny,
}

#[derive(Deserialize)]
struct Whole {
    count: usize,
    tokens: Vec<u32>,
}

/// The tokens of an answer with status 200. Its own count must agree with them.
pub(super) fn tokens(body: &[u8]) -> Result<Arc<[u32]>, Failure> {
    let mut ids = Ids::default();
    let (count, tokens): (usize, Arc<[u32]>) = match ids::split(body, "tokens", &mut ids) {
        Some(at) => {
            let rest = [&body[..at.start], b"null", &body[at.end..]].concat();
            let beside: Beside = serde_json::from_slice(&rest).map_err(|_| Failure::Content)?;
            (beside.count, ids.as_slice().into())
        }
        None => {
            let whole: Whole = serde_json::from_slice(body).map_err(|_| Failure::Content)?;
            (whole.count, whole.tokens.into())
        }
    };
    if count != tokens.len() {
        return Err(Failure::Content);
    }
    if count > TOKENIZED_TOKENS_MAX {
        return Err(Failure::TooLarge);
    }
    Ok(tokens)
}

#[derive(Deserialize)]
struct Refusal<'b> {
    #[serde(borrow)]
    error: RefusalFields<'b>,
}

#[derive(Deserialize)]
struct RefusalFields<'b> {
    message: std::borrow::Cow<'b, str>,
    #[serde(default, rename = "type")]
    kind: std::borrow::Cow<'b, str>,
}

/// What an answer with another status means.
pub(super) fn failure(status: u16, body: &[u8]) -> Failure {
    let refusal = serde_json::from_slice::<Refusal<'_>>(body).ok();
    match (status, refusal) {
        (400 | 422, refusal) => {
            let message = refusal.map_or("the engine refuses it".into(), |r| r.error.message);
            let end = message.floor_char_boundary(ERROR_BYTES_MAX);
            Failure::Refused(message[..end].into())
        }
        // The engine does not have the model or adapter: not its fault.
        (404, Some(refusal)) if refusal.error.kind == "NotFoundError" => Failure::NoPod,
        _ => Failure::Status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_hand() {
        let ok = |ids: &[u32]| Ok(Arc::from(ids));
        for (body, expected) in [
            (
                r#"{"count":2,"max_model_len":8,"tokens":[7,9],"token_strs":null}"#,
                ok(&[7, 9]),
            ),
            (
                r#"{"tokens":[7,9],"count":2,"more":{"tokens":[1]}}"#,
                ok(&[7, 9]),
            ),
            ("{ \"count\" : 1 ,\n \"tokens\" : [\n 7\n] }", ok(&[7])),
            (r#"{"count":0,"tokens":[]}"#, ok(&[])),
            (r#"{"count":3,"tokens":[7,9]}"#, Err(Failure::Content)),
            (r#"{"tokens":[7,9]}"#, Err(Failure::Content)),
            (r#"{"count":2,"tokens":[7,-9]}"#, Err(Failure::Content)),
            (
                r#"{"count":1,"tokens":[4294967296]}"#,
                Err(Failure::Content),
            ),
            (r#"{"count":1,"tokens":["a"]}"#, Err(Failure::Content)),
            (r#"{"count":1,"tokens":null}"#, Err(Failure::Content)),
            (r#"{"count":2,"tokens":[7,9]"#, Err(Failure::Content)),
            (r#"{"count":2,"tokens":[7,9]} {}"#, Err(Failure::Content)),
            ("", Err(Failure::Content)),
            ("<html>", Err(Failure::Content)),
        ] {
            assert_eq!(tokens(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn a_prompt_is_bounded() {
        let ids = vec!["1"; TOKENIZED_TOKENS_MAX + 1].join(",");
        let body = format!(
            "{{\"count\":{},\"tokens\":[{ids}]}}",
            TOKENIZED_TOKENS_MAX + 1
        );
        assert_eq!(tokens(body.as_bytes()), Err(Failure::TooLarge));
    }

    #[test]
    fn statuses_by_hand() {
        let said = r#"{"error":{"message":"too hot","type":"BadRequestError","code":400}}"#;
        let model = r#"{"error":{"message":"no `x`","type":"NotFoundError","code":404}}"#;
        for (status, body, expected) in [
            (400, said, Failure::Refused("too hot".into())),
            (422, said, Failure::Refused("too hot".into())),
            (400, "", Failure::Refused("the engine refuses it".into())),
            (404, model, Failure::NoPod),
            (404, r#"{"detail":"Not Found"}"#, Failure::Status(404)),
            (404, "", Failure::Status(404)),
            (401, said, Failure::Status(401)),
            (500, said, Failure::Status(500)),
            (301, "", Failure::Status(301)),
        ] {
            assert_eq!(
                failure(status, body.as_bytes()),
                expected,
                "{status} {body}"
            );
        }
        let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "é".repeat(9_999));
        let Failure::Refused(message) = failure(400, long.as_bytes()) else {
            panic!("it is refused");
        };
        assert_eq!(&*message, "é".repeat(ERROR_BYTES_MAX / 2));
    }
}
