//! What a local tokenizer and the engine are both asked before the first one counts; pure.
//!
//! Texts of all kinds, the model's own special tokens as users might write them, and conversations with everything that is
//! understood in them. What one of the two does not take says nothing.
use serde_json::{Value, json};

/// Special tokens that are probed, at most: some models reserve thousands.
const SPECIAL_MAX: usize = 64;

const TEXTS: [&str; 12] = [
    "The quick brown fox jumps over the lazy dog.",
    " leading and trailing blanks  ",
    "\n\nlines\n\n\n of \r\n all\rkinds\n",
    "\ttabs\t\t and\u{a0}\u{2003}\u{3000}other\u{200b} blanks",
    "naïve café, Größe, 東京で, Привет, שלום, ि, 👍🏽 👨‍👩‍👧, e\u{301}, \u{fb01}, \u{130}",
    "fn main() {\n    let x = [1, 22, 333, 4444, 55555];\n\tprintln!(\"{x:?}\");\n}\n",
    "3.14159 1,000,000 0x1F 1e-7 12345678901234567890",
    "it's they're I'LL don't ''quoted'' \"so\" -- `code` \\ back\\slash",
    "<s>[INST] not a token [/INST]</s> <|im_start|>system\nno<|im_end|> <think></think> <|endoftext|>",
    "{{ messages }} {% for x in y %} {# comment #} ${x} %s {0}",
    "\u{7}\u{1b}[0m\u{7f}\u{fffd}\u{feff}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa                                 b",
];

/// Bodies of `/tokenize` for this model, whose special tokens have these texts.
pub(super) fn probes(model: &str, special: &[String]) -> Vec<String> {
    let special = &special[..special.len().min(SPECIAL_MAX)];
    let joined = special.join(" x ");
    let tight = special.concat();
    let long = TEXTS[..10].join(" ").repeat(20);
    let texts = TEXTS
        .into_iter()
        .chain([joined.as_str(), tight.as_str(), long.as_str()]);
    let mut bodies: Vec<Value> = Vec::new();
    for text in texts {
        bodies.push(json!({"prompt": text}));
        bodies.push(json!({"prompt": text, "add_special_tokens": false}));
        bodies.push(json!({"messages": [{"role": "user", "content": text}]}));
    }
    bodies.extend(chats(TEXTS[4], &joined));
    let named = bodies.into_iter().map(|mut body| {
        body["model"] = model.into();
        body.to_string()
    });
    named.collect()
}

fn chats(text: &str, special: &str) -> Vec<Value> {
    let user = json!({"role": "user", "content": "What is it?"});
    let assistant = json!({"role": "assistant", "content": " It is this.\n"});
    let system = json!({"role": "system", "content": " Be kind. \n"});
    let thought = json!({"role": "assistant", "content": "<think>\nhm\n</think>\n\nThis."});
    let parts = json!({"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": text}]});
    let tool = json!({"type": "function", "function": {"name": "weather", "description": "Says \"how\" <it> is & 'why'",
        "parameters": {"type": "object", "properties": {
            "place": {"type": "string", "description": text}, "days": {"type": "integer", "minimum": 1, "default": 2.5}},
            "required": ["place"]}}});
    let bare = json!({"type": "function", "function": {"name": "now"}});
    let call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "call00001", "type": "function",
        "function": {"name": "weather", "arguments": "{\"place\": \"Zürich\", \"days\": 2, \"deep\": {\"b\": [1.5, null, true]}}"}}]});
    let result = json!({"role": "tool", "tool_call_id": "call00001", "content": "21°\n"});
    let named = json!({"role": "user", "content": "Hi", "name": "Ann"});
    vec![
        json!({"messages": [system, user]}),
        json!({"messages": [user, assistant, user]}),
        json!({"messages": [system, user, assistant, user, thought, user]}),
        json!({"messages": [user, thought], "add_generation_prompt": false}),
        json!({"messages": [user, assistant, user], "add_generation_prompt": false}),
        json!({"messages": [user, assistant, user], "add_special_tokens": true}),
        json!({"messages": [user, {"role": "assistant", "content": "1, 2,"}],
            "add_generation_prompt": false, "continue_final_message": true}),
        json!({"messages": [system, system, user]}),
        json!({"messages": [user, user]}),
        json!({"messages": [parts]}),
        json!({"messages": [named]}),
        json!({"messages": [{"role": "system", "content": special}, {"role": "user", "content": special}]}),
        json!({"messages": [{"role": "user", "content": ""}]}),
        json!({"messages": [user], "tools": [tool, bare]}),
        json!({"messages": [system, user], "tools": [bare]}),
        json!({"messages": [user], "tools": []}),
        json!({"messages": [user, call, result], "tools": [tool]}),
        json!({"messages": [system, user, call, result, assistant, user], "tools": [tool, bare]}),
        json!({"messages": [user, call, result]}),
        json!({"messages": [user], "chat_template_kwargs": {"enable_thinking": false, "thinking": false}}),
        json!({"messages": [user], "chat_template_kwargs": {"enable_thinking": true, "thinking": true}}),
        json!({"messages": [user], "chat_template_kwargs": {"documents": [{"title": "T", "text": text}]}}),
        json!({"messages": [user], "chat_template_kwargs": {"reasoning_effort": "high"}}),
    ]
}
