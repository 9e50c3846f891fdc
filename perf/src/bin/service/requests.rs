//! Requests as they go over the wire, written before anything is timed.
use crate::grid::{Encoding, Series};
use crate::workload::{MODEL, Prompt};
use std::fmt::{Display, Write as _};

/// The whole request, head and body. `answer_bytes` is how much the bare server is to answer.
pub(crate) fn render(
    series: Series,
    encoding: Encoding,
    prompt: Option<&Prompt>,
    answer_bytes: usize,
) -> Vec<u8> {
    let Some(prompt) = prompt else {
        let path = match series {
            Series::Bare => format!("/{answer_bytes}"),
            Series::Match | Series::Query | Series::Dynamo => "/health".to_owned(),
        };
        return format!("GET {path} HTTP/1.1\r\nhost: node\r\n\r\n").into_bytes();
    };
    let path = match (series, encoding) {
        (Series::Bare, _) => format!("/{answer_bytes}"),
        (_, Encoding::Binary) => format!("/v1/match?model={MODEL}"),
        (_, Encoding::Hashes) => "/query_by_hash".to_owned(),
        (Series::Match, _) => "/v1/match".to_owned(),
        (Series::Query | Series::Dynamo, _) => "/query".to_owned(),
    };
    let (content_type, body) = match encoding {
        Encoding::Binary => ("application/octet-stream", binary(&prompt.tokens)),
        _ => ("application/json", json(series, encoding, prompt)),
    };
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: node\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    request
}

fn binary(tokens: &[u32]) -> Vec<u8> {
    let bytes = tokens.iter().flat_map(|token| token.to_le_bytes());
    bytes.collect()
}

fn json(series: Series, encoding: Encoding, prompt: &Prompt) -> Vec<u8> {
    let spaced = encoding == Encoding::Spaced;
    let (comma, colon) = if spaced { (", ", ": ") } else { (",", ":") };
    let model = match series {
        Series::Match => "model",
        // The bare server gets what Dynamo gets.
        Series::Query | Series::Dynamo | Series::Bare => "model_name",
    };
    let (name, list) = match encoding {
        // Dynamo reads them as signed numbers.
        Encoding::Hashes => {
            let signed = prompt.hashes.iter().map(|hash| hash.cast_signed());
            ("block_hashes", join(signed, comma))
        }
        _ => ("token_ids", join(prompt.tokens.iter(), comma)),
    };
    format!("{{\"{name}\"{colon}[{list}]{comma}\"{model}\"{colon}\"{MODEL}\"}}").into_bytes()
}

fn join<T: Display>(values: impl Iterator<Item = T>, comma: &str) -> String {
    let mut text = String::new();
    for (at, value) in values.enumerate() {
        if at > 0 {
            text.push_str(comma);
        }
        // A string takes all that is written to it.
        let _ = write!(text, "{value}");
    }
    text
}
