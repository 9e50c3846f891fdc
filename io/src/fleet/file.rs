//! The fleet file: a list of pods in YAML.
use super::PodSpec;
use crate::limits::FILE_BYTES_MAX;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Why a file of pods or of settings could not be used. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is longer than [`FILE_BYTES_MAX`].
    #[error("{path}: longer than {FILE_BYTES_MAX} bytes", path = .0.display())]
    TooLong(PathBuf),
    /// It is not the YAML that is expected: a key is unknown, missing, or of another type.
    #[error("{path}: {source}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The key at fault, and where.
        source: yaml_serde::Error,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetFile {
    /// Null if the list has been emptied. It has to be there: a file without anything in it is one that is being written.
    #[serde(deserialize_with = "list_or_null")]
    pods: Vec<PodSpec>,
}

fn list_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PodSpec>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a fleet file. Whether its pods are usable is for [`super::Fleet::add_all`] or [`super::check_pods`] to say.
pub fn read_pods(path: &Path) -> Result<Vec<PodSpec>, FileError> {
    let file: FleetFile = read_yaml(path)?;
    Ok(file.pods)
}

/// Reads a YAML file of bounded length.
fn read_yaml<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, FileError> {
    let text = read_text(path)?;
    yaml_serde::from_slice(&text).map_err(|source| FileError::Content {
        path: path.to_owned(),
        // What is no list of keys may be another file, named by mistake: what it has is not repeated.
        source: match yaml_serde::from_slice(&text) {
            Ok(yaml_serde::Value::Mapping(_)) | Err(_) => source,
            Ok(_) => {
                yaml_serde::Error::custom("expected keys and values, as pods and a list of them")
            }
        },
    })
}

/// Reads a file of bounded length.
pub(crate) fn read_text(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLong(path.to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(text: &str) -> Result<Vec<PodSpec>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read_pods(file.path()).map_err(|error| {
            let text = error.to_string();
            let path = file.path().display().to_string();
            assert!(text.starts_with(&path), "the file is named: {text}");
            text
        })
    }

    #[test]
    fn every_key_is_read_and_the_defaults_hold() {
        let pods = read(
            "pods:\n\
             \x20 - pod: default/vllm-0\n    uid: 5f1\n    model: llama-8b\n    endpoint: 10.0.0.7:8000\n\
             \x20   events: tcp://10.0.0.7:5557\n    replay: tcp://10.0.0.7:5558\n    ranks: 1\n\
             \x20   lora: [fr, de]\n    block_size: 16\n\
             \x20 - pod: b\n    model: m\n    events: tcp://b:1\n    lora:\n    block_size: null\n",
        )
        .unwrap();
        let first = PodSpec {
            pod: "default/vllm-0".into(),
            uid: Some("5f1".into()),
            model: "llama-8b".into(),
            endpoint: Some("10.0.0.7:8000".into()),
            events: Some("tcp://10.0.0.7:5557".into()),
            replay: Some("tcp://10.0.0.7:5558".into()),
            kv_events: true,
            ranks: 1,
            first_rank: 0,
            lora: vec!["fr".into(), "de".into()],
            block_size: Some(16),
        };
        let second = PodSpec {
            pod: "b".into(),
            uid: None,
            model: "m".into(),
            endpoint: None,
            events: Some("tcp://b:1".into()),
            replay: None,
            kv_events: true,
            ranks: 1,
            first_rank: 0,
            lora: Vec::new(),
            block_size: None,
        };
        assert_eq!(pods, [first, second]);
    }

    #[test]
    fn an_emptied_list_is_an_empty_fleet() {
        assert_eq!(read("pods: []\n").unwrap(), []);
        assert_eq!(read("pods:\n").unwrap(), []);
    }

    #[test]
    fn an_error_names_the_key() {
        let pod = "pods:\n  - pod: a\n    model: m\n    events: tcp://a:1\n";
        for (text, key) in [
            (format!("{pod}    evnts: x\n"), "evnts"),
            (format!("{pod}    ranks: many\n"), "ranks"),
            (format!("{pod}    lora: fr\n"), "lora"),
            ("pods:\n  - pod: a\n    events: e\n".to_owned(), "model"),
            ("pod: a\n".to_owned(), "pod"),
            ("pods: 3\n".to_owned(), "pods"),
            (String::new(), "pods"),
            ("# pods: []\n".to_owned(), "pods"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(key), "{key} in {error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read_pods(Path::new("/no/such/fleet.yaml")).unwrap_err();
        assert!(
            error.to_string().starts_with("/no/such/fleet.yaml: "),
            "{error}"
        );
    }
}
