//! A source file, with and without what is not code.

/// One Rust file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path from the repository's root, with `/`.
    pub name: String,
    /// The file as it is.
    pub text: String,
    /// The same text, line by line, with comments and the insides of literals blanked out.
    pub code: String,
    /// `code` with everything blanked out that is compiled for tests only; empty for a file of tests
    /// (`tests.rs`, `models.rs`, and all in a folder `tests`).
    pub shipped: String,
}

impl Source {
    /// Reads `text` as Rust.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        let code = blank(text);
        let of_tests = ["/tests.rs", "/models.rs"]
            .iter()
            .any(|end| name.ends_with(end))
            || name.contains("/tests/");
        let shipped = if of_tests {
            String::new()
        } else {
            without_tests(&code)
        };
        Self {
            name: name.to_owned(),
            text: text.to_owned(),
            code,
            shipped,
        }
    }
}

/// Overwrites comments and the insides of literals with spaces; line breaks stay.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut joined = false;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest),
            'r' | 'b' | 'c' if !joined => prefixed(rest),
            '\'' => character(rest),
            _ => 0,
        };
        joined = c.is_alphanumeric() || c == '_';
        if length == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(
                rest[..length]
                    .chars()
                    .map(|c| if c == '\n' { '\n' } else { ' ' }),
            );
            rest = &rest[length..];
        }
    }
    out
}

/// Length of the comment at the start of `text`; block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let rest = &text[at..];
        let step = match rest.chars().next() {
            None => return at,
            Some('/') if rest.starts_with("/*") => {
                depth += 1;
                2
            }
            Some('*') if rest.starts_with("*/") => {
                depth -= 1;
                2
            }
            Some(c) => c.len_utf8(),
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
}

/// Length of the literal at the start of `text`, which is a quote.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

/// Length of a literal with a prefix (`r"…"`, `br#"…"#`, `b'…'`), 0 if it is none.
fn prefixed(text: &str) -> usize {
    let letters = text
        .find(|c| !matches!(c, 'r' | 'b' | 'c'))
        .unwrap_or(text.len());
    let (prefix, rest) = text.split_at(letters);
    if rest.starts_with('\'') && prefix == "b" {
        return prefix.len() + character(rest);
    }
    let raw = prefix.ends_with('r');
    let marks = if raw {
        rest.len() - rest.trim_start_matches('#').len()
    } else {
        0
    };
    if letters > 2 || !rest[marks..].starts_with('"') {
        return 0;
    }
    if !raw {
        return letters + quoted(rest);
    }
    let end = format!("\"{}", "#".repeat(marks));
    let inside = letters + marks + 1;
    text[inside..]
        .find(&end)
        .map_or(text.len(), |at| inside + at + end.len())
}

/// Length of the character literal at the start of `text`, 0 if it is a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            // The escaped character itself may be a quote.
            chars.next();
            chars.find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1)
        }
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// Blanks out every item under `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(from) = ["#[cfg(test)]", "#[cfg(all(test,"]
        .iter()
        .find_map(|a| out.find(a))
    {
        let attribute = out[from..].find(']').map_or(out.len(), |at| from + at + 1);
        let to = super::functions::item_end(&out, attribute);
        let blanked: String = out[from..to]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        out.replace_range(from..to, &blanked);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "let a = \"unsafe \\\" x\"; // unsafe\n/* unsafe /* nested */ unsafe */ let b = 'u';\nlet c = r#\"a \" unsafe\"#;";
        let code = Source::new("a.rs", text).code;
        assert!(!code.contains("unsafe"), "{code}");
        assert_eq!(code.lines().count(), text.lines().count());
        assert!(code.contains("let b") && code.contains("let c") && code.ends_with(';'));
    }

    #[test]
    fn lifetimes_and_quotes_are_told_apart() {
        let code = Source::new(
            "a.rs",
            "fn f<'a>(x: &'a u8) -> char { if y == '\"' { '\\'' } else { b'{' } } // '",
        )
        .code;
        assert!(code.contains("fn f<'a>(x: &'a u8) -> char"), "{code}");
        assert_eq!(code.matches('{').count(), 3, "{code}");
        assert!(!code.contains('"'), "{code}");
    }

    #[test]
    fn what_is_for_tests_is_not_shipped() {
        let text = "fn a() { one(); }\n#[cfg(test)]\nmod tests {\n    fn b() { two(); }\n}\nfn c() { three(); }\n#[cfg(all(test, x))]\nuse four;\nfn d() {}";
        let source = Source::new("a.rs", text);
        for (word, shipped) in [
            ("one", true),
            ("two", false),
            ("three", true),
            ("four", false),
        ] {
            assert_eq!(source.shipped.contains(word), shipped, "{word}");
            assert!(source.code.contains(word));
        }
        assert!(source.shipped.contains("fn d"));
        assert!(
            Source::new("io/src/a/tests.rs", "fn a() {}")
                .shipped
                .is_empty()
        );
    }
}
