//! Where functions begin and end.

/// One function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its `fn`, from 1.
    pub line: usize,
    /// Lines from there to its closing brace.
    pub lines: usize,
}

/// Every function in `code` (see [`super::Source::code`]), nested ones too.
#[must_use]
pub fn functions(code: &str) -> Vec<Function> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(word) {
            continue;
        }
        let name: String = code[at + 3..]
            .trim_start()
            .chars()
            .take_while(|&c| word(c))
            .collect();
        let end = item_end(code, at);
        // A type (`fn (u8)`) has no name, a declaration has no body.
        if name.is_empty() || !code[at..end].ends_with('}') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        found.push(Function {
            name,
            line,
            lines: code[at..end].matches('\n').count() + 1,
        });
    }
    found
}

/// The end of the item that begins at `from`: behind its `;`, or behind the brace that closes its body.
pub(super) fn item_end(code: &str, from: usize) -> usize {
    let mut brackets = 0_i32;
    let mut braces = 0_i32;
    for (at, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets <= 0 && braces == 0 => return from + at + 1,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                // An array's length may be a block: its brace closes inside brackets.
                if braces <= 0 && brackets <= 0 {
                    return from + at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_ends_where_its_body_ends() {
        let code = "fn a(x: [u8; 3]) -> fn(u8) -> u8 {\n  if x {\n  }\n}\n\npub(crate) fn b();\nimpl X {\n    fn c<F>(f: F)\n    where\n        F: Fn(),\n    {\n        f();\n    }\n}\nlet infn = 1;";
        let found = functions(code);
        let short: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines))
            .collect();
        assert_eq!(short, [("a", 1, 4), ("c", 8, 6)]);
    }
}
