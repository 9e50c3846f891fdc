//! Bodies, files and templates that are broken, odd or endless: refused, in bounds, and never a panic.
use super::{golden, with_template};
use kvroute::limits::LOCAL_TEXT_BYTES_MAX;
use kvroute::tokenize::local::{Local, NotUnderstood};
use proptest::prelude::*;
use std::fs;
use std::sync::LazyLock;

const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}{{ tools | tojson }}{{ x }}";

static LOCAL: LazyLock<(Local, tempfile::TempDir)> =
    LazyLock::new(|| with_template("bytelevel", TEMPLATE));

/// Bodies, a piece of which is odd, and why they are not understood.
type Odd = Vec<(String, NotUnderstood)>;

const USER: &str = r#"{"role":"user","content":"x"}"#;

fn chat(more: &str) -> String {
    format!(r#"{{"messages":[{USER}]{more}}}"#)
}

fn odd_bodies() -> Odd {
    let bodies = [
        "",
        "[]",
        "{}",
        r#"{"prompt":"a","prompt":"b"}"#,
        r#"{"prompt":"\ud800"}"#,
    ];
    let arguments = [
        "1e300",
        "0.1234567890123456789",
        "-0",
        "18446744073709551616",
        r#"{"a":1,"a":2}"#,
    ];
    let arguments = arguments.map(|x| chat(&format!(r#","chat_template_kwargs":{{"x":{x}}}"#)));
    let deep = format!(
        r#"{{"prompt":"x","stop":{}1{}}}"#,
        "[".repeat(99_999),
        "]".repeat(99_999)
    );
    let long = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(LOCAL_TEXT_BYTES_MAX + 1));
    let odd = bodies
        .into_iter()
        .map(str::to_owned)
        .chain(arguments)
        .chain([deep]);
    let odd = odd.map(|body| (body, NotUnderstood::Body));
    odd.chain([(long, NotUnderstood::Size)]).collect()
}

fn odd_fields() -> Odd {
    let bodies = [
        r#"{"prompt":["a"]}"#,
        r#"{"prompt":[1,2]}"#,
        r#"{"prompt":"a","truncate_prompt_tokens":3}"#,
        r#"{"prompt":"a","add_special_tokens":"yes"}"#,
        r#"{"messages":[]}"#,
        r#"{"messages":"x"}"#,
    ];
    let more = [
        r#","prompt":"a""#,
        r#","chat_template":"{{ 1 }}""#,
        r#","documents":[]"#,
        r#","reasoning_effort":"low""#,
        r#","mm_processor_kwargs":{}"#,
        r#","something_new":1"#,
        r#","chat_template_kwargs":{"bos_token":"x"}"#,
        r#","chat_template_kwargs":{"tokenize":true}"#,
        r#","continue_final_message":true"#,
        r#","tools":[],"tool_choice":"none""#,
    ];
    let odd = bodies.into_iter().map(str::to_owned).chain(more.map(chat));
    odd.map(|body| (body, NotUnderstood::Field)).collect()
}

fn odd_messages() -> Odd {
    let messages = [
        "1",
        "{}",
        r#"{"role":"developer","content":"x"}"#,
        r#"{"role":"user","content":1}"#,
        r#"{"role":"user","content":["x"]}"#,
        r#"{"role":"user","content":[{"type":"text"}]}"#,
        r#"{"role":"user","content":[{"type":"text","text":"x","cache_control":{}}]}"#,
        r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}"#,
        r#"{"role":"user","content":"x","extra":1}"#,
        r#"{"role":"user","content":"x","tool_calls":[{}]}"#,
        r#"{"role":"system","content":"x-anthropic-billing-header: y"}"#,
    ];
    let odd = messages.map(|message| format!(r#"{{"messages":[{message}]}}"#));
    odd.map(|body| (body, NotUnderstood::Message)).into()
}

fn odd_tools() -> Odd {
    let calls = [
        "{}",
        r#"{"id":"1","type":"function","function":{"name":"f","arguments":"[]"}}"#,
        r#"{"id":"1","type":"function","function":{"name":"f","arguments":"{"}}"#,
        r#"{"id":"1","type":"function","function":{"name":"f","arguments":{}}}"#,
        r#"{"id":"1","type":"custom","custom":{"name":"f","input":""}}"#,
    ];
    let calls = calls.map(|call| {
        format!(r#"{{"messages":[{{"role":"assistant","content":null,"tool_calls":[{call}]}}]}}"#)
    });
    let tools = [
        "1",
        r#"{"type":"function"}"#,
        r#"{"type":"custom","custom":{"name":"f"}}"#,
        r#"{"type":"function","function":{"name":"f","strict":true}}"#,
        r#"{"type":"function","function":{"name":"f","parameters":"x"}}"#,
    ];
    let tools = tools.map(|tool| chat(&format!(r#","tools":[{tool}]"#)));
    let odd = calls.into_iter().chain(tools);
    odd.map(|body| (body, NotUnderstood::Tool)).collect()
}

#[test]
fn odd_bodies_are_not_understood() {
    assert!(LOCAL.0.tokens(chat("").as_bytes()).is_ok());
    for (body, why) in [odd_bodies(), odd_fields(), odd_messages(), odd_tools()].concat() {
        let start = &body[..body.floor_char_boundary(120)];
        assert_eq!(LOCAL.0.tokens(body.as_bytes()), Err(why), "{start}");
    }
}

#[test]
fn templates_are_bounded() {
    let body = br#"{"messages":[{"role":"user","content":"x"}]}"#;
    for template in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999999999) %}{{ a }}{% endfor %}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% for a in range(999999) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}",
        "{{ 'x' * 99999999 }}",
        "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
        "{{ raise_exception('no') }}",
        "{{ missing.more }}",
    ] {
        let (local, _folder) = with_template("bytelevel", template);
        assert_eq!(local.chat(), None, "{template}");
        assert_eq!(
            local.tokens(body),
            Err(NotUnderstood::Template),
            "{template}"
        );
    }
    for template in [
        "{{ strftime_now('%Y') }}",
        "{% include 'x' %}",
        "{% extends 'x' %}",
        "{{ lipsum() }}",
        "{{ x.items }}",
        "{{ x | unheard_of }}",
        "{{ x | map(y) }}",
        "{% if %}",
        "{{ '\\N{BULLET}' }}",
        "{% for x in y",
    ] {
        let (local, _folder) = with_template("bytelevel", template);
        assert!(local.chat().is_some(), "{template}");
        assert!(local.tokens(body).is_err(), "{template}");
        assert!(local.tokens(br#"{"prompt":"x"}"#).is_ok(), "{template}");
    }
}

/// A folder with the files of a trained tokenizer, but this one.
fn without(file: &str, text: Option<&str>) -> String {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(golden("bytelevel").join(name), folder.path().join(name)).unwrap();
    }
    match text {
        Some(text) => fs::write(folder.path().join(file), text).unwrap(),
        None => fs::remove_file(folder.path().join(file)).unwrap(),
    }
    Local::open(folder.path())
        .map(|_| ())
        .unwrap_err()
        .to_string()
}

#[test]
fn broken_folders_name_file_and_field() {
    let config = "tokenizer_config.json";
    for (file, text, expected) in [
        (
            "tokenizer.json",
            None,
            &["tokenizer.json: no such file"][..],
        ),
        (config, None, &["tokenizer_config.json: no such file"]),
        ("tokenizer.json", Some("{}"), &["tokenizer.json: "]),
        (config, Some("{"), &["tokenizer_config.json: "]),
        (
            config,
            Some(r#"{"bos_token":7}"#),
            &[config, ": bos_token: "],
        ),
        (
            config,
            Some(r#"{"chat_template":7}"#),
            &[config, ": chat_template: "],
        ),
        (
            config,
            Some(r#"{"chat_template":[{"name":"default"}]}"#),
            &[config, ": chat_template: "],
        ),
        (
            config,
            Some(r#"{"added_tokens_decoder":{"x":{"content":"y"}}}"#),
            &[config, ": added_tokens_decoder: "],
        ),
        (
            config,
            Some(r#"{"added_tokens_decoder":{"7":{"content":"<new>"}}}"#),
            &[config, ": added_tokens_decoder: "],
        ),
        (
            "special_tokens_map.json",
            Some("["),
            &["special_tokens_map.json: "],
        ),
    ] {
        let error = without(file, text);
        for part in expected {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}

#[test]
fn templates_of_all_layouts_are_found() {
    let rendered = |config: &str, file: Option<&str>, body: &str| {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = golden("bytelevel").join("tokenizer.json");
        fs::copy(tokenizer, folder.path().join("tokenizer.json")).unwrap();
        fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        if let Some(file) = file {
            fs::write(folder.path().join("chat_template.jinja"), file).unwrap();
        }
        fs::write(
            folder.path().join("special_tokens_map.json"),
            r#"{"eos_token":{"content":"E"},"bos_token":"Z"}"#,
        )
        .unwrap();
        Local::open(folder.path())
            .unwrap()
            .render(body.as_bytes())
            .ok()
    };
    let plain = r#"{"messages":[{"role":"user","content":"x"}]}"#;
    let tools = r#"{"messages":[{"role":"user","content":"x"}],"tools":[]}"#;
    let text = r#"{"chat_template":"a{{ bos_token }}{{ eos_token }}","bos_token":{"content":"B"}}"#;
    let list = r#"{"chat_template":[{"name":"default","template":"d"},{"name":"tool_use","template":"t"}]}"#;
    assert_eq!(rendered(text, None, plain).as_deref(), Some("aBE"));
    assert_eq!(
        rendered(text, Some("f{{ bos_token }}"), plain).as_deref(),
        Some("fB")
    );
    assert_eq!(rendered(list, None, plain).as_deref(), Some("d"));
    assert_eq!(rendered(list, None, tools).as_deref(), Some("t"));
    assert_eq!(rendered("{}", None, plain), None);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        prop_oneof!["user", "assistant", "tool", "text", "function"].prop_map(Into::into),
    ];
    let name = prop_oneof![
        Just("role"),
        Just("content"),
        Just("type"),
        Just("text"),
        Just("tool_calls"),
        Just("function"),
        Just("name"),
        Just("arguments"),
        Just("id"),
        Just("parameters"),
        Just("x"),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|pairs| pairs
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_body_is_a_panic(messages in json(), tools in json(), arguments in json(), beside in any::<Vec<u8>>()) {
        let body = serde_json::json!({"messages": messages, "tools": tools, "chat_template_kwargs": arguments});
        let _ = LOCAL.0.tokens(body.to_string().as_bytes());
        let body = serde_json::json!({"messages": [{"role": "user", "content": messages}], "chat_template_kwargs": {"x": arguments}});
        let _ = LOCAL.0.tokens(body.to_string().as_bytes());
        let _ = LOCAL.0.tokens(&beside);
    }

    #[test]
    fn no_text_is_a_panic(text in any::<String>(), special in any::<bool>()) {
        let body = serde_json::json!({"prompt": text, "add_special_tokens": special});
        prop_assert!(LOCAL.0.tokens(body.to_string().as_bytes()).is_ok());
    }

    #[test]
    fn no_template_is_a_panic(template in "([{]{2} ?|[}]{2}|[{]%-? ?| ?-?%[}]|if |else|endif|for x in |endfor|set x = |messages|[.]role|[0-9]|[(]|[)]|\\[|\\]|[|]trim|~|\"|'|\\\\|\n| |generation|endgeneration){0,30}") {
        let (local, _folder) = with_template("bytelevel", &template);
        let _ = local.tokens(br#"{"messages":[{"role":"user","content":"x"}]}"#);
    }
}
