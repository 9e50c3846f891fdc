//! Templates in the style of public ones, over conversations of all kinds.
use super::{golden, read, with_template};
use kvroute::tokenize::local::Local;
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
    results: BTreeMap<String, BTreeMap<String, Option<(String, Vec<u32>)>>>,
}

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

#[test]
fn what_is_rendered_is_what_transformers_renders() {
    let golden_cases: Golden = read("rendered.json.gz");
    for template in golden_cases.formats.keys() {
        let source = fs::read_to_string(golden(&format!("templates/{template}.jinja")));
        let source = source.expect("the template is there");
        for tokenizer in ["bytelevel", "metaspace"] {
            let (local, _folder) = with_template(tokenizer, &source);
            let tally = tally(&local, &golden_cases, template, tokenizer);
            println!("{template} {tokenizer} {:?}: {tally:?}", local.chat());
        }
    }
}
