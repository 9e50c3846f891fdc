//! Which modules of its own crate a file names.

/// The first segment of every path from the crate's root in `code`: `m` for `crate::m::x`, for each part of
/// `crate::{m::x, n}`, and for `super::m` with as many `super` as lead out of the file's module, where `m` is one
/// of `modules`. A name that is not a module (an item of the crate's root) is left out.
///
/// `depth` is how many modules deep the file is: 1 for `src/m.rs` and `src/m/mod.rs`, 2 for `src/m/n.rs`.
#[must_use]
pub fn crate_modules(code: &str, depth: usize, modules: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, root) in code.match_indices("crate::") {
        let joined = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        if !code[..at].chars().next_back().is_some_and(joined) {
            first_segments(&code[at + root.len()..], &mut found);
        }
    }
    let up = "super::".repeat(depth.max(1));
    for (at, _) in code.match_indices(&up) {
        // Inside an inline module the same words lead one module less far up; what they name then is only
        // mistaken for a module of the crate if it is called like one.
        first_segments(
            code[at + up.len()..].trim_start_matches("super::"),
            &mut found,
        );
    }
    found.retain(|name| modules.contains(name));
    found.sort();
    found.dedup();
    found
}

/// The first segment of a path, or of every path of a group, nested groups only by their own first one.
fn first_segments(path: &str, out: &mut Vec<String>) {
    let word = |text: &str| {
        let part = |c: &char| c.is_alphanumeric() || *c == '_';
        text.trim_start()
            .chars()
            .take_while(part)
            .collect::<String>()
    };
    let Some(group) = path.strip_prefix('{') else {
        return out.push(word(path));
    };
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                out.push(word(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str, depth: usize) -> Vec<String> {
        let modules = ["fleet", "wire", "stream"].map(str::to_owned);
        crate_modules(code, depth, &modules)
    }

    #[test]
    fn every_way_to_name_a_module_is_seen() {
        assert_eq!(found("use crate::fleet::View;", 1), ["fleet"]);
        assert_eq!(
            found("use crate::{wire::{self, x}, fleet};", 1),
            ["fleet", "wire"]
        );
        assert_eq!(
            found("crate::stream::go(); crate::Item; $crate::wire!()", 1),
            ["stream"]
        );
        assert_eq!(found("use super::wire::x;", 1), ["wire"]);
        assert_eq!(found("use super::wire::x;", 2), [""; 0]);
        assert_eq!(found("use super::super::wire::x;", 2), ["wire"]);
        assert_eq!(found("use super::{fleet, wire};", 1), ["fleet", "wire"]);
        assert_eq!(found("use super::*; use kvroute_crate::wire;", 1), [""; 0]);
    }
}
