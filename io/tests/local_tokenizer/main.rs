//! The local tokenizer against Hugging Face's libraries: `tests/golden/tokenizers` has what they make of templates,
//! conversations and texts, and the script that asked them.
//!
//! Where they make something, the same is made here or nothing; where they make nothing, nothing is. What is refused though it
//! would be possible is counted, so that refusing all is no way to pass.
mod broken;
mod expressions;
mod rendered;
mod tokens;

use flate2::read::GzDecoder;
use kvroute::tokenize::local::Local;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden/tokenizers")
        .join(file)
}

fn read<T: DeserializeOwned>(file: &str) -> T {
    let file = File::open(golden(file)).expect("the file is there");
    serde_json::from_reader(BufReader::new(GzDecoder::new(file))).expect("it is JSON")
}

/// One of the trained tokenizers, with this template.
fn with_template(tokenizer: &str, template: &str) -> (Local, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let from = golden(tokenizer).join(file);
        fs::copy(from, folder.path().join(file)).expect("it is copied");
    }
    fs::write(folder.path().join("chat_template.jinja"), template).expect("it is written");
    let local = Local::open(folder.path()).expect("the folder is whole");
    (local, folder)
}
