//! What the shape of the source is checked with.
//!
//! The checks work on text, not on a syntax tree: [`Source`] blanks out everything that is not code
//! (comments, literals) and everything that is only compiled for tests, and what is left is searched for words.
mod functions;
mod map;
mod paths;
mod source;

pub use functions::{Function, functions};
pub use map::named_files;
pub use paths::crate_modules;
pub use source::Source;

use std::io;
use std::path::{Path, PathBuf};

/// The repository.
#[must_use]
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// All Rust sources below `folder`, as paths relative to `root`, sorted.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn sources(root: &Path, folder: &str) -> io::Result<Vec<Source>> {
    let mut files = Vec::new();
    collect(&root.join(folder), &mut files)?;
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let name = file.strip_prefix(root).unwrap_or(&file);
            Ok(Source::new(
                &name.to_string_lossy(),
                &std::fs::read_to_string(&file)?,
            ))
        })
        .collect()
}

fn collect(folder: &Path, out: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, out)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
    Ok(())
}

/// Whether `code` has `words` as whole words: not as a part of a longer identifier.
#[must_use]
pub fn names(code: &str, words: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(words).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + words.len()..].chars().next();
        let joined =
            |edge: Option<char>, own: Option<char>| edge.is_some_and(part) && own.is_some_and(part);
        !joined(before, words.chars().next()) && !joined(after, words.chars().next_back())
    })
}

/// Whether a file is one of `homes`: a file by its path, or a folder by its path with a `/` at the end.
#[must_use]
pub fn lives_in(file: &str, homes: &[&str]) -> bool {
    homes
        .iter()
        .any(|home| file == *home || (home.ends_with('/') && file.starts_with(home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        assert!(names("a unsafe { }", "unsafe"));
        assert!(!names("unsafe_op_in", "unsafe"));
        assert!(!names("not_unsafe", "unsafe"));
        assert!(names("use zmq::Socket;", "zmq::"));
        assert!(!names("use fizmq::Socket;", "zmq::"));
        assert!(names("Instant::now()", "Instant::now"));
        assert!(!names("Instant::nowhere()", "Instant::now"));
    }

    #[test]
    fn a_home_is_a_file_or_a_folder() {
        assert!(lives_in("io/src/http/mod.rs", &["io/src/http/"]));
        assert!(lives_in("io/src/http.rs", &["io/src/http.rs"]));
        assert!(!lives_in("io/src/http_old.rs", &["io/src/http"]));
        assert!(!lives_in("io/src/stream/http/mod.rs", &["io/src/http/"]));
    }
}
