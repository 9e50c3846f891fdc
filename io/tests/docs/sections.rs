//! The documented file of settings, as the reference needs it: which settings stand together, and an example of each.
use crate::read;
use std::collections::BTreeMap;

/// The file's sections: their headings, each with its keys in order.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    pub(crate) list: Vec<(String, Vec<String>)>,
    /// What stands beside a key as an example.
    pub(crate) examples: BTreeMap<String, String>,
}

pub(crate) fn sections() -> Sections {
    let text = read("deploy/samples/kvroute.yaml");
    let mut sections = Sections::default();
    for line in text.lines() {
        let heading = line.strip_prefix("# --- ");
        if let Some(heading) = heading.and_then(|text| text.strip_suffix(" ---")) {
            sections.list.push((heading.to_owned(), Vec::new()));
        }
        let Some((key, value)) = line.strip_prefix('#').and_then(|line| line.split_once(':'))
        else {
            continue;
        };
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            continue;
        }
        let (_, keys) = sections.list.last_mut().expect("a heading first");
        keys.push(key.to_owned());
        if let Some((_, example)) = value.split_once("  # ") {
            sections.examples.insert(key.to_owned(), example.to_owned());
        }
    }
    sections
}
