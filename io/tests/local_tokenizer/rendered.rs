//! Templates in the style of public ones, over conversations of all kinds.
use super::{golden, read, with_template};
use kvroute::tokenize::local::{Local, Strange};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;

#[derive(Deserialize)]
struct Golden {
    formats: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    body: Box<serde_json::value::RawValue>,
    /// By template and tokenizer: text and tokens.
    results: BTreeMap<String, BTreeMap<String, Option<Made>>>,
}

/// A text and its tokens.
type Made = (String, Vec<u32>);

/// What came of the cases of one template.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    equal: u32,
    /// Nothing on both sides.
    nothing: u32,
    refused: Vec<String>,
}

fn tally(local: &Local, golden: &Golden, template: &str, tokenizer: &str) -> Tally {
    let mut tally = Tally::default();
    for case in &golden.cases {
        let body = case.body.get().as_bytes();
        let expected = &case.results[template][tokenizer];
        let at = format!("{template}, {tokenizer}: {}", case.name);
        match (local.render(body), local.tokens(body), expected) {
            (Ok(text), Ok(tokens), Some((expected, ids))) => {
                assert_eq!(text, *expected, "{at}");
                assert_eq!(tokens, *ids, "{at}");
                tally.equal += 1;
            }
            (Err(_), Err(_), None) => tally.nothing += 1,
            (Err(_), Err(_), Some(_)) => tally.refused.push(case.name.clone()),
            (text, tokens, expected) => panic!("{at}: {text:?} {tokens:?}, expected {expected:?}"),
        }
    }
    tally
}

/// What is refused though transformers renders it, with the reason. Anything else is equal.
const REFUSED: [&str; 5] = [
    // Engines of different ages cut it differently.
    "going on after a blank",
    // What the client hands to the template hides what the engine does.
    "reserved",
    // Some versions have a field for it, which comes in another place then.
    "strict tool",
    // Newer versions leave the empty list out, older ones do not.
    "no calls",
    // Called one way or another, or not handed on at all, by version.
    "reasoning",
];

#[test]
fn what_is_rendered_is_what_transformers_renders() {
    let golden_cases: Golden = read("rendered.json.gz");
    let all = u32::try_from(golden_cases.cases.len()).unwrap();
    let mut equal = 0;
    for template in golden_cases.formats.keys() {
        let source = fs::read_to_string(golden(&format!("templates/{template}.jinja")));
        let source = source.expect("the template is there");
        for tokenizer in ["bytelevel", "metaspace"] {
            let (local, _folder) = with_template(tokenizer, &source);
            let is_timed = matches!(local.chat(), Some(Strange::Time(_)));
            assert_eq!(
                (is_timed, local.chat().is_some()),
                (template == "today", template == "today")
            );
            let tally = tally(&local, &golden_cases, template, tokenizer);
            println!("{template} {tokenizer}: {tally:?}");
            for name in &tally.refused {
                assert!(
                    REFUSED.contains(&name.as_str()),
                    "{template}: {name} is refused"
                );
            }
            let refused = u32::try_from(tally.refused.len()).unwrap();
            assert_eq!(tally.equal + tally.nothing + refused, all);
            equal += tally.equal;
        }
    }
    assert_eq!(equal, 2 * 339);
}
