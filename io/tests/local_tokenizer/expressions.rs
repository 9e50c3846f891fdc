//! Small templates for each thing that templates are made of.
use super::{read, with_template};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    context: Box<serde_json::value::RawValue>,
    cases: Vec<(String, Option<String>)>,
}

/// Where Python fails, and so the engine refuses the request, and the local tokenizer does not notice: values that cannot be
/// compared or looped over. Nothing is served for such a request, wherever it is sent.
const NOT_NOTICED: &[&str] = &[
    "{{ 'a' < 1 }}",
    "{{ none < 1 }}",
    "{{ missing < 1 }}",
    "{{ missing < missing }}",
    "{{ 1 in s }}",
    "{{ none in s }}",
    "{% for x in none %}x{% else %}empty{% endfor %}",
];

#[test]
fn expressions_are_what_they_are_in_python_or_nothing() {
    let golden: Golden = read("expressions.json.gz");
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":"x"}}],"chat_template_kwargs":{}}}"#,
        golden.context.get()
    );
    let (mut equal, mut nothing, mut refused) = (0, 0, Vec::new());
    let mut wrong = Vec::new();
    for (template, expected) in &golden.cases {
        let (local, _folder) = with_template("bytelevel", template);
        match (local.render(body.as_bytes()), expected) {
            (Ok(text), Some(expected)) if text == *expected => equal += 1,
            (Err(_), None) => nothing += 1,
            (Ok(_), None) if NOT_NOTICED.contains(&template.as_str()) => nothing += 1,
            (Err(_), Some(_)) => refused.push(template),
            (Ok(text), expected) => {
                wrong.push(format!("{template:?}: {text:?}, in Python {expected:?}"))
            }
        }
    }
    println!("{equal} equal, {nothing} nothing, refused: {refused:#?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // So that refusing is not all that it does.
    assert!(equal >= 380, "{equal} equal, {} refused", refused.len());
}
