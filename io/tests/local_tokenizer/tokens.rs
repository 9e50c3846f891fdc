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

/// Prints how fast it is: `cargo test --release --test local_tokenizer -- --ignored --nocapture how_fast`.
#[test]
#[ignore = "a measurement"]
fn how_fast() {
    let rows: Vec<Row> = read("tokens.json.gz");
    let text: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    let text = text.join(" ").repeat(20);
    for name in ["bytelevel", "metaspace"] {
        let local = Local::open(&golden(name)).expect("the folder is whole");
        for bytes in [1_000, 10_000, 100_000, text.len()] {
            let part = &text[..text.floor_char_boundary(bytes)];
            let body = serde_json::json!({ "prompt": part }).to_string();
            let begun = std::time::Instant::now();
            let (mut tokens, mut times) = (0, 0);
            while begun.elapsed().as_millis() < 500 {
                tokens += local.tokens(body.as_bytes()).expect("it is text").len();
                times += 1;
            }
            let each = begun.elapsed() / times;
            let rate = f64::from(u32::try_from(tokens).unwrap()) / begun.elapsed().as_secs_f64();
            println!("{name}: {} bytes, {each:?}, {rate:.0} tokens/s", part.len());
        }
    }
}
