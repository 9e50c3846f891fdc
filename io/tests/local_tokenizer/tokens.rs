//! Texts to tokens.
use super::{golden, read};
use kvroute::tokenize::local::Local;
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    text: String,
    /// Without and with special tokens.
    bytelevel: [Vec<u32>; 2],
    metaspace: [Vec<u32>; 2],
}

#[test]
fn tokens_are_those_of_the_python_library() {
    let rows: Vec<Row> = read("tokens.json.gz");
    let open = |name| Local::open(&golden(name)).expect("the folder is whole");
    let (bytelevel, metaspace) = (open("bytelevel"), open("metaspace"));
    assert!(rows.len() > 200);
    for row in &rows {
        for special in [false, true] {
            let body = serde_json::json!({"prompt": row.text, "add_special_tokens": special});
            let body = body.to_string();
            let tokens = |local: &Local| local.tokens(body.as_bytes());
            let text = &row.text;
            assert_eq!(
                tokens(&bytelevel).as_ref(),
                Ok(&row.bytelevel[usize::from(special)]),
                "{text:?}"
            );
            assert_eq!(
                tokens(&metaspace).as_ref(),
                Ok(&row.metaspace[usize::from(special)]),
                "{text:?}"
            );
        }
    }
}

#[test]
fn special_tokens_are_added_unless_it_is_said() {
    let local = Local::open(&golden("bytelevel")).expect("the folder is whole");
    let with = local.tokens(br#"{"prompt":"x"}"#);
    let without = local.tokens(br#"{"prompt":"x","add_special_tokens":false}"#);
    assert_eq!(with.map(|ids| ids.len()), without.map(|ids| ids.len() + 1));
}
