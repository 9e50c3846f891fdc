//! Source files that a document names.

/// Every path in `text` that ends in `.rs` and begins with one of `folders`; `a/{b,c}.rs` names two.
#[must_use]
pub fn named_files(text: &str, folders: &[&str]) -> Vec<String> {
    let part = |c: char| c.is_alphanumeric() || "_-./{,}".contains(c);
    // A space after a comma inside braces is as good as none.
    let text = text.replace(", ", ",");
    let mut named: Vec<String> = text
        .split(|c| !part(c))
        .flat_map(top_level_parts)
        .flat_map(|word| expand(&word))
        .filter(|path| path.ends_with(".rs") && folders.iter().any(|f| path.starts_with(f)))
        .collect();
    named.sort();
    named.dedup();
    named
}

/// Splits at the commas that are not inside braces.
fn top_level_parts(word: &str) -> Vec<String> {
    let mut depth = 0_i32;
    let mut parts = vec![String::new()];
    for c in word.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth <= 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`; what has no braces as it is.
fn expand(word: &str) -> Vec<String> {
    let Some((head, rest)) = word.split_once('{') else {
        return vec![word.to_owned()];
    };
    let Some((group, tail)) = rest.split_once('}') else {
        return Vec::new();
    };
    group
        .split(',')
        .flat_map(|part| expand(&format!("{head}{part}{tail}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_prose_tables_and_braces() {
        let text = "see `io/src/a.rs`, engine/src/{b,c/d}.rs and\n| io/src/e.rs | x |\nother/src/f.rs io/src/g/ (io/src/h.rs).";
        let found = named_files(text, &["io/src/", "engine/src/"]);
        // "(io/src/h.rs)." ends a sentence outside the bracket.
        assert_eq!(
            found,
            [
                "engine/src/b.rs",
                "engine/src/c/d.rs",
                "io/src/a.rs",
                "io/src/e.rs",
                "io/src/h.rs"
            ]
        );
    }
}
