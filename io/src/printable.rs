//! Names from outside on their way to a terminal: nothing in them moves its cursor or hides what stands beside.
use std::fmt::{self, Write};

/// Shows a text with control characters escaped, and those that change the direction of writing.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'t>(pub &'t str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match is_harmful(c) {
                true => write!(f, "{}", c.escape_unicode())?,
                false => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A text of bytes that may be no UTF-8, at most `max` bytes of it.
#[must_use]
pub fn word(bytes: &[u8], max: usize) -> String {
    let cut = &bytes[..bytes.len().min(max)];
    let text = String::from_utf8_lossy(cut);
    let more = if bytes.len() > max { "…" } else { "" };
    format!("{}{more}", Printable(&text))
}

/// The text in at most `width` characters, which are cut off at the end.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text
            .chars()
            .take(width.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => text.to_owned(),
    }
}

fn is_harmful(c: char) -> bool {
    let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_is_escaped() {
        let shown = Printable("a\u{1b}[2Jb\r\n\u{202e}ü").to_string();
        assert_eq!(shown, r"a\u{1b}[2Jb\u{d}\u{a}\u{202e}ü");
        assert_eq!(word(b"\xff\x07abc", 3), "\u{fffd}\\u{7}a…");
        assert_eq!(word(b"abc", 3), "abc");
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(cut("übung", 5), "übung");
        assert_eq!(cut("übungen", 5), "übun…");
    }
}
