//! Command lines of the documents that run the program: the program understands them.
use crate::{blocks, documents, kvroute, prose, read, report, spans};
use serde::Deserialize;
use serde_json::Value;

/// Whose blocks are commands, after a prompt.
const CONSOLE: &str = "console";

/// The commands of a block, lines that go on put together, each with its line from 0.
fn lines(block: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (at, line) in block.lines().enumerate() {
        let goes_on = line.ends_with('\\');
        let text = line.trim_end_matches('\\');
        match (line.strip_prefix("$ "), open) {
            (Some(_), _) => found.push((at, text[2..].to_owned())),
            (None, true) => {
                let (_, command) = found.last_mut().expect("an open one");
                command.push_str(text);
            }
            (None, false) => {}
        }
        open = goes_on && (open || line.starts_with("$ "));
    }
    found
}

/// The words of a command line, as a shell parts them: enough of one for the documents.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#') if word.is_none() => break,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The arguments of the program in a command line: of each of its commands that are one after the other.
fn arguments(line: &str) -> Vec<Vec<String>> {
    let ends = ["|", "&&", "||", ";", "&", ">", "2>", ">/dev/null", "2>&1"];
    let words = words(line);
    let commands = words.split(|word| ends.contains(&word.as_str()));
    let commands = commands.filter_map(|command| {
        let program = |word: &String| word == "kvroute" || word.ends_with("/kvroute");
        let cargo = ["cargo", "run", "--release", "--"];
        // What is named by another program (an image, a path to copy) is no call.
        let assigned = command.iter().take_while(|word| {
            word.contains('=') && word.starts_with(|c: char| c.is_ascii_uppercase())
        });
        let rest = &command[assigned.count()..];
        match rest {
            [first, rest @ ..] if program(first) => Some(rest.to_vec()),
            _ if rest.starts_with(&cargo.map(str::to_owned)) => Some(rest[cargo.len()..].to_vec()),
            _ => None,
        }
    });
    commands.collect()
}

/// What the program has against its arguments. With `--help` at their end it only reads them.
fn refusal(arguments: &[String]) -> Option<String> {
    let output = kvroute().args(arguments).arg("--help").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(text)
}

#[test]
fn commands_are_understood() {
    let (mut found, mut seen) = (Vec::new(), 0);
    for (name, text) in documents() {
        for (info, first, block) in blocks(&text) {
            if info != CONSOLE {
                continue;
            }
            for (at, line) in lines(&block) {
                for arguments in arguments(&line) {
                    seen += 1;
                    let refusal = refusal(&arguments);
                    let wrong = |why: String| format!("{name}:{}: {line}\n{why}", first + at + 1);
                    found.extend(refusal.map(wrong));
                }
            }
        }
    }
    assert!(seen > 5, "{seen} commands");
    report(&found);
}

/// Commands that prose names.
#[test]
fn commands_are_there() {
    let output = kvroute().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let is_there = |name: &str| help.contains(&format!("\n  {name} "));
    assert!(is_there("serve") && !is_there("serv"));
    let mut found = Vec::new();
    for (document, text) in documents() {
        for (line, span) in spans(&prose(&text)) {
            let name = span
                .strip_prefix("kvroute ")
                .and_then(|rest| rest.split(' ').next());
            let named = name.filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
            let gone = named.filter(|name| !is_there(name));
            found.extend(gone.map(|name| format!("{document}:{line}: kvroute {name}")));
        }
    }
    report(&found);
}

/// The pods of the first steps run the program, too.
#[test]
fn the_sample_of_engines_is_understood() {
    let text = read("deploy/samples/fake-engines.yaml");
    let documents = yaml_serde::Deserializer::from_str(&text);
    let objects: Vec<_> = documents
        .map(|it| Value::deserialize(it).unwrap())
        .collect();
    let set = objects
        .iter()
        .find(|it| it["kind"] == "StatefulSet")
        .unwrap();
    let engine = &set["spec"]["template"]["spec"]["containers"][0];
    let arguments = engine["args"].as_array().unwrap().iter();
    let arguments: Vec<_> = arguments
        .map(|it| it.as_str().unwrap().replace("$(SEED)", "1"))
        .collect();
    assert_eq!(arguments[0], "fake-engine");
    assert_eq!(refusal(&arguments), None);
}

#[test]
fn a_command_that_is_wrong_is_found() {
    let block = "$ A=1 kvroute serve \\\n   --listen 'a b' | x # --no\nout\n$ ls && ./target/kvroute check-config\n";
    let lines: Vec<_> = lines(block).into_iter().map(|(_, line)| line).collect();
    let commands: Vec<_> = lines.iter().flat_map(|line| arguments(line)).collect();
    let expected: [&[&str]; 2] = [&["serve", "--listen", "a b"], &["check-config"]];
    assert_eq!(commands, expected);
    let wrong = ["serve".to_owned(), "--no-such-flag".to_owned()];
    assert!(refusal(&wrong).unwrap().contains("no-such-flag"));
    assert!(refusal(&["no-such-command".to_owned()]).is_some());
    assert_eq!(refusal(&wrong[..1]), None);
}
