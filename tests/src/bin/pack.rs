//! Packs recordings of engines for this repository.
//!
//! `cargo run -p kvroute-tests --bin pack -- FROM TO` reads every `<variant>/<workload>` below FROM, in
//! either layout, and writes it below TO: events byte by byte as they are, requests reduced to what a
//! comparison needs, and the bodies of those whose prompt is text; all compressed. Answers of `/tokenize` below
//! FROM/http are written, too. The output depends on the input alone.
use flate2::{Compression, GzBuilder};
use kvroute::trace;
use kvroute_tests::texts;
use std::error::Error;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::{env, fs, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [from, to] = arguments.as_slice() else {
        eprintln!("usage: pack FROM TO");
        return ExitCode::from(64);
    };
    match pack(from, to) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pack: {error}");
            ExitCode::from(69)
        }
    }
}

fn pack(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    for stem in trace::find(from)? {
        let recording = trace::open(&stem)?;
        let out = to.join(&recording.name);
        fs::create_dir_all(out.parent().unwrap_or(to))?;
        write(&out, "requests", recording.pack().as_bytes())?;
        write(&out, "events", &events(&stem)?)?;
        let texts = texts::of(&stem)?;
        if !texts.is_empty() {
            write(&out, "texts", texts.as_bytes())?;
        }
        println!(
            "{}: {} messages, {} entries",
            recording.name,
            recording.messages.len(),
            recording.entries.len()
        );
    }
    for (name, lines) in texts::tokenizers(&from.join("http"))? {
        fs::create_dir_all(to.join("http"))?;
        write(&to.join("http").join(name), "tokenize", lines.as_bytes())?;
    }
    Ok(())
}

fn events(stem: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let plain = with_ending(stem, "events.jsonl");
    if plain.exists() {
        return Ok(fs::read(plain)?);
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(with_ending(stem, "events.jsonl.gz"))?;
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write(stem: &Path, kind: &str, bytes: &[u8]) -> std::io::Result<()> {
    let file = fs::File::create(with_ending(stem, &format!("{kind}.jsonl.gz")))?;
    let mut encoder = GzBuilder::new().mtime(0).write(file, Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()?.sync_all()
}

fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(format!(".{ending}"));
    PathBuf::from(path)
}
