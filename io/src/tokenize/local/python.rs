//! What Python's strings do, where Rust's do something else; pure.
//!
//! What would need Unicode's tables in the very version of the engine's Python is done for ASCII only; `None` for the rest.

/// Whether `str.isspace` and `str.strip` take it for white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip`, `str.lstrip`, `str.rstrip`, of white space or of these characters.
pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>, left: bool, right: bool) -> &'t str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left {
        text.trim_start_matches(goes)
    } else {
        text
    };
    if right {
        text.trim_end_matches(goes)
    } else {
        text
    }
}

/// `str.split()` without a separator; at most so many splits.
pub(super) fn split_spaces(text: &str, splits: Option<usize>) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = match splits {
            Some(splits) if parts.len() == splits => None,
            _ => rest.find(is_space),
        };
        let Some(end) = end else {
            // After the last split trailing white space stays, as in Python.
            parts.push(rest);
            break;
        };
        parts.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_space);
    }
    parts
}

/// `str.splitlines`.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let is_end = |c: char| matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_end) {
        let mut after = rest[at..].chars();
        let end = after.next();
        if end == Some('\r') && after.as_str().starts_with('\n') {
            after.next();
        }
        let next = rest.len() - after.as_str().len();
        found.push(&rest[..if keep_ends { next } else { at }]);
        rest = &rest[next..];
    }
    if !rest.is_empty() {
        found.push(rest);
    }
    found
}

/// `str.upper`.
pub(super) fn upper(text: &str) -> Option<String> {
    text.is_ascii().then(|| text.to_ascii_uppercase())
}

/// `str.lower`.
pub(super) fn lower(text: &str) -> Option<String> {
    text.is_ascii().then(|| text.to_ascii_lowercase())
}

/// `str.capitalize`.
pub(super) fn capitalize(text: &str) -> Option<String> {
    let mut text = lower(text)?;
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Some(text)
}

/// `str.title`: a letter after anything else is a capital.
pub(super) fn title(text: &str) -> Option<String> {
    let mut inside = false;
    let title = |c: char| {
        let c = if inside {
            c.to_ascii_lowercase()
        } else {
            c.to_ascii_uppercase()
        };
        inside = c.is_ascii_alphabetic();
        c
    };
    text.is_ascii().then(|| text.chars().map(title).collect())
}

/// Whether there is something and all of it is of a kind, as `str.isdigit` and the like ask.
pub(super) fn all(text: &str, kind: impl Fn(&u8) -> bool) -> Option<bool> {
    text.is_ascii()
        .then(|| !text.is_empty() && text.as_bytes().iter().all(kind))
}

/// Whether `str.isupper` or `str.islower`: there is a letter of this case, and none of the other.
pub(super) fn cased(
    text: &str,
    is: impl Fn(&u8) -> bool,
    other: impl Fn(&u8) -> bool,
) -> Option<bool> {
    let bytes = text.as_bytes();
    text.is_ascii()
        .then(|| bytes.iter().any(is) && !bytes.iter().any(other))
}

/// Jinja's `indent`: these lines with `width` before each but the first, and before that if `first`; before
/// empty ones if `blank`.
pub(super) fn indent(text: &str, width: &str, first: bool, blank: bool) -> String {
    // A line end more makes the last line count if it is empty, as Jinja does it.
    let text = format!("{text}\n");
    let mut out = String::new();
    for (n, line) in lines(&text, false).into_iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        let indented = if n == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if indented {
            out += width;
        }
        out += line;
    }
    out
}
