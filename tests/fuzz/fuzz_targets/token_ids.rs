//! Bodies with token ids: read without a parser, they are what serde_json reads; same accept or reject, same values.
#![no_main]

use kvroute::ids::{self, Ids};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
struct Whole {
    token_ids: Option<Vec<u32>>,
    model: Option<String>,
    #[serde(flatten)]
    _others: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Rest {
    model: Option<String>,
    #[serde(flatten)]
    _others: BTreeMap<String, Value>,
}

fuzz_target!(|body: &[u8]| {
    let mut found = Ids::new();
    let Some(list) = ids::split(body, "token_ids", &mut found) else {
        return;
    };
    let rest = [&body[..list.start], b"null", &body[list.end..]].concat();
    let rest = serde_json::from_slice::<Rest>(&rest);
    match serde_json::from_slice::<Whole>(body) {
        Ok(whole) => {
            assert_eq!(whole.token_ids.as_deref(), Some(found.as_slice()));
            assert_eq!(whole.model, rest.unwrap().model);
        }
        Err(error) => assert!(rest.is_err(), "{error}"),
    }
    // What was read before must not show.
    let read = found.as_slice().to_vec();
    assert_eq!(ids::split(body, "token_ids", &mut found), Some(list));
    assert_eq!(read, found.as_slice());
});
