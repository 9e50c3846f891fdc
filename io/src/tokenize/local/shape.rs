//! What kind of body one is, without what is said in it; pure.
use super::json::Json;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How deep fields are looked at: down to those of a tool call's function, not into schemas and arguments.
const DEPTH: usize = 5;

/// A digest of which fields there are, of which kinds their values are, and which roles speak. The same for two bodies that differ in
/// texts and numbers only. O(bytes).
pub(super) fn shape(body: &[(String, Json)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    fields(body, DEPTH, &mut hasher);
    hasher.finish()
}

fn fields(pairs: &[(String, Json)], depth: usize, hasher: &mut DefaultHasher) {
    let pairs = pairs.iter().map(|(name, value)| {
        // Roles are few, and templates ask for them.
        let role = if name == "role" { value.text() } else { None };
        (name.as_str(), role, of(value, depth))
    });
    let pairs: BTreeSet<_> = pairs.collect();
    pairs.hash(hasher);
}

fn of(value: &Json, depth: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    match value {
        Json::Null => 0_u8.hash(&mut hasher),
        Json::Bool(value) => (1_u8, value).hash(&mut hasher),
        Json::Int(_) => 2_u8.hash(&mut hasher),
        Json::Float(_) => 3_u8.hash(&mut hasher),
        Json::Text(text) => {
            let first = text.trim() == text;
            (4_u8, text.is_empty(), text.is_ascii(), first).hash(&mut hasher);
        }
        Json::List(_) | Json::Map(_) if depth == 0 => 5_u8.hash(&mut hasher),
        Json::List(list) => {
            let kinds: BTreeSet<u64> = list.iter().map(|value| of(value, depth - 1)).collect();
            (6_u8, kinds).hash(&mut hasher);
        }
        Json::Map(pairs) => {
            7_u8.hash(&mut hasher);
            fields(pairs, depth - 1, &mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(body: &str) -> u64 {
        let Ok(Json::Map(pairs)) = serde_json::from_str(body) else {
            panic!("an object");
        };
        shape(&pairs)
    }

    #[test]
    fn texts_make_no_shape_but_fields_and_roles_do() {
        let one = of_text(r#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#);
        for same in [
            r#"{"messages":[{"content":"bcd","role":"user"}],"model":"x"}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#,
        ] {
            assert_eq!(of_text(same), one, "{same}");
        }
        for other in [
            r#"{"messages":[{"role":"user","content":"a"}]}"#,
            r#"{"model":"m","messages":[{"role":"system","content":"a"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"ä"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":" a"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a","name":"n"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[]}"#,
            r#"{"model":"m","messages":[]}"#,
        ] {
            assert_ne!(of_text(other), one, "{other}");
        }
    }
}
