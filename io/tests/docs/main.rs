//! The documents: the reference that is made from the code, and that what the others name is there.
mod commands;
mod links;
mod names;
mod reference;
mod sections;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// A file of the repository.
fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The documents for whoever runs the node: paths from the root, with their texts, in alphabetical order.
fn documents() -> Vec<(String, String)> {
    let mut names = vec!["README.md".to_owned()];
    markdown("deploy", &mut names);
    names.sort();
    let texts = names.iter().map(|name| read(name));
    names.iter().cloned().zip(texts).collect()
}

/// All Markdown files of the repository, but not what was built or belongs to a tool.
fn markdown(folder: &str, names: &mut Vec<String>) {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    for entry in entries.map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = match folder {
            "" => name.clone(),
            _ => format!("{folder}/{name}"),
        };
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        if entry.path().is_dir() {
            markdown(&path, names);
        } else if name.ends_with(".md") {
            names.push(path);
        }
    }
}

/// The program without the variables of whoever runs the tests.
fn kvroute() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvroute"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("KVROUTE_") || text.starts_with("AIBRIX_") {
            command.env_remove(name);
        }
    }
    command
}

/// What is wrong, all of it.
fn report(found: &[String]) {
    assert!(
        found.is_empty(),
        "{} findings:\n{}\n",
        found.len(),
        found.join("\n")
    );
}

/// The fenced blocks of a document: the words after the fence, the line of the fence from 1, and the text.
fn blocks(text: &str) -> Vec<(String, usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info.trim().to_owned(), at + 1, String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some((_, _, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed: {open:?}");
    found
}

/// A document's text outside of its fenced blocks, with as many lines.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        if !inside && !fence {
            prose.push_str(line);
        }
        prose.push('\n');
    }
    prose
}

/// The code spans of prose, each with its line from 1.
fn spans(prose: &str) -> Vec<(usize, &str)> {
    let lines = prose.lines().enumerate();
    let spans = lines.flat_map(|(at, line)| {
        let parts = line.split('`').enumerate();
        parts
            .filter(|(part, _)| part % 2 == 1)
            .map(move |(_, span)| (at + 1, span))
    });
    spans.collect()
}

#[test]
fn blocks_and_prose_are_told_apart() {
    let text = "a `b`\n```sh x\nc `d`\n```\n`e`f`g`\n";
    assert_eq!(blocks(text), [("sh x".to_owned(), 2, "c `d`\n".to_owned())]);
    let prose = prose(text);
    assert_eq!(spans(&prose), [(1, "b"), (5, "e"), (5, "g")]);
}
