//! Links between documents: the files are there, and so are the headings.
use crate::{markdown, prose, read, report, root};
use std::path::{Component, Path, PathBuf};

/// The targets of a document's links, each with its line from 1.
fn targets(prose: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in prose.lines().enumerate() {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else {
                break;
            };
            found.push((at + 1, target.to_owned()));
            rest = after;
        }
    }
    found
}

/// The name that a heading can be linked by, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => c.to_lowercase().next(),
        _ => None,
    });
    kept.collect()
}

fn anchors(text: &str) -> Vec<String> {
    let prose = prose(text);
    let headings = prose.lines().filter_map(|line| {
        let text = line.trim_start_matches('#');
        (text.len() < line.len() && text.starts_with(' ')).then(|| anchor(text))
    });
    headings.collect()
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// What is wrong with a link of a document.
fn wrong(document: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => PathBuf::from(document),
        _ => normal(&Path::new(document).parent().unwrap().join(file)),
    };
    if !root().join(&path).exists() {
        return Some(format!("{} is not there", path.display()));
    }
    let anchored = heading.is_empty()
        || path.extension().is_none_or(|it| it != "md")
        || anchors(&read(path.to_str().unwrap())).contains(&heading.to_owned());
    (!anchored).then(|| format!("{} has no heading #{heading}", path.display()))
}

#[test]
fn links_lead_somewhere() {
    let mut names = Vec::new();
    markdown("", &mut names);
    assert!(names.len() > 10, "{names:?}");
    let mut found = Vec::new();
    for name in names {
        for (line, target) in targets(&prose(&read(&name))) {
            let wrong = wrong(&name, &target);
            found.extend(wrong.map(|wrong| format!("{name}:{line}: {wrong}")));
        }
    }
    report(&found);
}

#[test]
fn a_link_to_nowhere_is_found() {
    let text = "[a](README.md) and ![b](gone.md#x), [c](https://e.org/d)";
    let targets: Vec<_> = targets(text)
        .into_iter()
        .map(|(_, target)| target)
        .collect();
    assert_eq!(targets, ["README.md", "gone.md#x", "https://e.org/d"]);
    assert_eq!(wrong("deploy/a.md", "../README.md"), None);
    assert_eq!(wrong("deploy/a.md", "https://e.org/d"), None);
    assert!(wrong("deploy/a.md", "gone.md").is_some());
    assert!(wrong("README.md", "#no-such-heading").is_some());
    assert_eq!(
        anchor(" What `/dump` says, and why"),
        "what-dump-says-and-why"
    );
}
