//! Where in an object a field's list of token ids is.
use super::list::Ids;
use memchr::memchr2;
use std::ops::Range;

/// Finds the field `name` of the object that `text` is, reads its list into `ids`, and says where in the
/// text the list stands. Nothing if the text has no such field, or is in any way unusual; then `ids` may hold anything.
///
/// What it accepts is JSON if the text with `null` in the list's place is; it does not check that.
/// O(bytes), no allocation but for `ids`.
#[must_use]
pub fn split(text: &[u8], name: &str, ids: &mut Ids) -> Option<Range<usize>> {
    let mut at = Cursor { text, at: 0 };
    at.blanks();
    at.take(b'{')?;
    let mut found = None;
    loop {
        at.blanks();
        let key = at.key()?;
        at.blanks();
        at.take(b':')?;
        at.blanks();
        if key != name.as_bytes() {
            at.value()?;
        } else if found.is_none() {
            let begin = at.at;
            at.take(b'[')?;
            at.at = ids.read(text, at.at)?;
            found = Some(begin..at.at);
        } else {
            return None;
        }
        at.blanks();
        match at.next()? {
            b',' => {}
            b'}' => return found,
            _ => return None,
        }
    }
}

/// A place in a text.
struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Cursor<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// Passes white space.
    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes a string without escapes and says what stands in it.
    fn key(&mut self) -> Option<&'t [u8]> {
        self.take(b'"')?;
        let rest = self.text.get(self.at..)?;
        let len = memchr2(b'"', b'\\', rest)?;
        let key = rest.get(..len)?;
        self.at += len;
        self.take(b'"')?;
        Some(key)
    }

    /// Passes the rest of a string.
    fn string(&mut self) -> Option<()> {
        loop {
            let rest = self.text.get(self.at..)?;
            self.at += memchr2(b'"', b'\\', rest)?;
            if self.next()? == b'"' {
                return Some(());
            }
            self.at += 1;
        }
    }

    /// Passes a value, whatever it is.
    fn value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    self.string()?;
                }
                b'[' | b'{' => {
                    self.at += 1;
                    depth += 1;
                    continue;
                }
                b']' | b'}' if depth > 0 => {
                    self.at += 1;
                    depth -= 1;
                }
                // Between values of a container, or a number or word of one.
                _ if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b',' | b']' | b'}' | b':' => return None,
                _ => self.word(),
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Passes a number or a word.
    fn word(&mut self) {
        while let Some(byte) = self.peek()
            && !matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
        {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Option<(String, Vec<u32>)> {
        let mut ids = Ids::new();
        let at = split(text.as_bytes(), "token_ids", &mut ids)?;
        Some((text[at].to_owned(), ids.as_slice().to_vec()))
    }

    #[test]
    fn the_list_is_found_wherever_it_stands() {
        let found = Some(("[1,22]".to_owned(), vec![1, 22]));
        for text in [
            r#"{"token_ids":[1,22]}"#,
            " {\n\"token_ids\" :\t[1,22] }\r\n",
            r#"{"model":"m","token_ids":[1,22],"lora":null}"#,
            r#"{"a":"\"token_ids\":[3]","b":{"token_ids":[3]},"c":[{"token_ids":"]}"}],"token_ids":[1,22]}"#,
            r#"{"a":"x\\","token_ids":[1,22],"b":-1.5e3,"c":true }"#,
        ] {
            assert_eq!(list(text), found, "{text}");
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_a_parser() {
        for text in [
            "",
            "{}",
            "[1,22]",
            r#"{"model":"m"}"#,
            r#"{"token_ids":null}"#,
            r#"{"token_ids":[1],"token_ids":[1]}"#,
            r#"{"token_ids":[1],"token_ids":null}"#,
            r#"{"token\u005fids":[1],"token_ids":[1]}"#,
            r#"{"a":"token_ids:[1]"}"#,
            r#"{"token_ids":[1]"#,
            r#"{"token_ids":[1]]"#,
            r#"{"token_ids":[1] 7}"#,
            r#"{"a":,"token_ids":[1]}"#,
            r#"{"a"}"#,
            r#"{"a":"#,
            r#"{"a":"\"#,
            r#"{"a":[["#,
        ] {
            assert_eq!(list(text), None, "{text}");
        }
    }
}
