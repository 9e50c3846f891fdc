//! `deploy/docs/configuration.md`, made from the types of the settings, the command line, and the words in which what cannot be
//! is refused.
//!
//! A test fails when the file is another one; with the variable [`WRITE`] it writes the file instead.
use crate::sections::{Sections, sections};
use crate::{kvroute, root};
use clap::{Arg, Args};
use kvroute::config::{Aibrix, ConfigError, Effect, Given, Row, Settings, is_live, keys};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const FILE: &str = "deploy/docs/configuration.md";
/// Set to anything, it has the file written.
const WRITE: &str = "DOCS_WRITE";

const HEAD: &str = "# Settings

This file is made from the code. To make it anew: `DOCS_WRITE=1 cargo test -p kvroute --test docs`.

Every setting is a flag of `kvroute serve`, a variable, and a key of the YAML file that `--config` (or `KVROUTE_CONFIG`) names. Flags win over
variables, variables over the file, and the file over [AIBrix's variables](#aibrixs-variables).
[kvroute.yaml](../samples/kvroute.yaml) has all keys, to be copied. `kvroute check-config` with the same flags and variables says what holds, where it was
said, and what is wrong. A mistake ends the start with exit code 64, and names key, value and what is possible.

On SIGHUP the file is read again. A running node takes what is **live** below; it says of the others that they need a restart, and stays with the old
values. A file that cannot be used changes nothing.

Lists have commas between their items in flags and variables; in the file they are lists, or one text with commas. Booleans as flags need no
value (`--pin`); to switch one off, write `--pin=false`. Seconds may have a fraction. An empty variable is refused; a key without a value is as if it were not there.

";

/// A setting's argument on the command line, by key.
fn arguments() -> BTreeMap<String, Arg> {
    let command = Settings::augment_args(clap::Command::new("kvroute"));
    let arguments = command.get_arguments();
    arguments
        .map(|arg| (arg.get_id().to_string(), arg.clone()))
        .collect()
}

/// What a value is.
fn takes(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let name = names.first().map(ToString::to_string).unwrap_or_default();
    let known = match name.trim_end_matches(",...") {
        "SECONDS" => "seconds",
        "N" => "whole number",
        "SEED" => "whole number of 64 bits",
        "TOKENS" => "tokens",
        "REQUESTS" => "requests",
        "BYTES" => "bytes",
        "SHARE" | "WEIGHT" | "NUMBER" => "number",
        "BOOL" => "true or false",
        "FILE" => "path of a file",
        "DIR" => "path of a folder",
        "MODEL=DIR" => return "list of `MODEL=DIR`; a map in the file".to_owned(),
        other => {
            let words = other.replace('|', "`, `");
            let list = if name.ends_with(",...") {
                "list of "
            } else {
                ""
            };
            return format!("{list}`{words}`");
        }
    };
    known.to_owned()
}

/// The defaults, by key; those of Kubernetes as they are with `kubernetes`.
fn defaults() -> BTreeMap<String, Row> {
    let rows = |settings: Settings| {
        let config = settings.resolve().unwrap();
        Given::default().rows(&config)
    };
    let with_kubernetes = Settings {
        kubernetes: Some(true),
        ..Settings::default()
    };
    let mut all = BTreeMap::new();
    for row in rows(Settings::default())
        .into_iter()
        .chain(rows(with_kubernetes))
    {
        let old = all.entry(row.key.clone()).or_insert_with(|| row.clone());
        if old.value.is_null() {
            *old = row;
        }
    }
    all
}

/// A value as one writes it into the file.
fn written(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Object(items) if items.is_empty() => "none".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(written).collect();
            items.join(", ")
        }
        // Seconds are whole more often than not.
        Value::Number(number) => {
            let float = number.as_f64().map(|n| n.to_string());
            format!("`{}`", float.unwrap_or_else(|| number.to_string()))
        }
        other => format!("`{other}`"),
    }
}

/// The help without what it says of the default, and that.
fn help(arg: &Arg) -> (String, Option<String>) {
    let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    match text.split_once(" [default: ") {
        Some((text, default)) => {
            let default = default.trim_end_matches(']').to_owned();
            (text.to_owned(), Some(default))
        }
        None => (text, None),
    }
}

/// The default: as the settings come to it, or in words where the machine or other settings decide.
fn default(row: &Row, said: Option<&str>) -> String {
    let found = written(&row.value);
    match said {
        Some(words) if row.value.is_null() || words.contains(' ') => words.to_owned(),
        Some(words) => {
            assert_eq!(found, format!("`{words}`"), "the help of {}", row.key);
            found
        }
        None => found,
    }
}

/// Values that some settings cannot have.
fn impossible() -> Vec<Value> {
    let many: Vec<_> = (0..2_000).map(|n| format!("m=h{n}:80")).collect();
    let numbers = [json!(1_u64 << 60), json!(u32::MAX), json!(1e15)];
    let texts = [json!("?"), json!(["?"]), json!(many)];
    numbers.into_iter().chain(texts).collect()
}

/// What is possible, in the words in which the first value that is not is refused; nothing where all values of the type are.
fn possible(key: &str) -> Option<String> {
    let refusal = |value: Value| {
        let settings: Settings = serde_json::from_value(json!({ key: value })).ok()?;
        let ConfigError::Value { message, keys, .. } = settings.resolve().err()? else {
            return None;
        };
        if keys[0] != key {
            return None;
        }
        let ends = ["; ", " is not "].map(|end| Some((message.find(end)?, end.len())));
        let (at, length) = ends.into_iter().flatten().min()?;
        Some(message[at + length..].to_owned())
    };
    let refusals: Vec<_> = impossible().into_iter().filter_map(refusal).collect();
    refusals.into_iter().next()
}

fn setting(key: &str, arg: &Arg, row: &Row, sections: &Sections) -> String {
    let (mut what, said) = help(arg);
    if let Some(possible) = possible(key) {
        let _ = write!(what, " ({possible})");
    }
    if let Some(example) = sections.examples.get(key) {
        let _ = write!(what, ". Example: `{example}`");
    }
    let flag = arg.get_long().unwrap_or_default();
    let variable = arg.get_env().unwrap_or_default().to_string_lossy();
    let change = if is_live(key) { "**live**" } else { "restart" };
    let cells = [
        format!("`{key}`"),
        format!("`--{flag}`<br>`{variable}`"),
        takes(arg),
        default(row, said.as_deref()),
        change.to_owned(),
        what.replace('*', "\\*"),
    ];
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}

fn settings() -> String {
    let (arguments, defaults, sections) = (arguments(), defaults(), sections());
    let mut text = String::new();
    for (heading, keys) in &sections.list {
        let _ = write!(
            text,
            "## {heading}\n\n| key | flag, variable | takes | default | changes | what it is |\n|---|---|---|---|---|---|\n"
        );
        for key in keys {
            let arg = &arguments[key];
            text += &setting(key, arg, &defaults[key], &sections);
        }
        text.push('\n');
    }
    text
}

/// A value that a variable of AIBrix's can have, with what it sets.
fn accepted(name: &str) -> (&'static str, Aibrix) {
    let values = [
        "http://tokenizer:8000",
        "true",
        "10",
        "10s",
        "vllm",
        "remote",
    ];
    let read = |value: &'static str| {
        let lookup = |asked: &str| (asked == name).then(|| value.to_owned());
        Some((value, Aibrix::read(lookup).ok()?))
    };
    let found = values.into_iter().find_map(read);
    found.unwrap_or_else(|| panic!("{name}: no value that it can have"))
}

fn refused(name: &str) -> String {
    let lookup = |asked: &str| (asked == name).then(|| "?".to_owned());
    let error = Aibrix::read(lookup).expect_err("nothing can be \"?\"");
    let text = error.to_string();
    let (_, why) = text.split_once("\"?\": ").expect("the value, then why");
    why.to_owned()
}

fn aibrix_row(name: &str) -> String {
    let (value, read) = accepted(name);
    let variable = &read.variables[0];
    let here = match variable.effect {
        Effect::Sets(key) => {
            let fields = serde_json::to_value(&read.settings).unwrap();
            let set = written(&fields[key]);
            format!("sets `{key}`: `{value}` here is {set}")
        }
        Effect::Nothing(why) => format!("read, without effect: {why}"),
    };
    let possible = refused(name);
    format!("| `{name}` | {possible} | {here} |\n")
}

/// What the two switches come to together.
fn modes() -> String {
    let mut text = String::new();
    for sync in [None, Some("false"), Some("true")] {
        for tokenizer in [None, Some("false"), Some("true")] {
            let lookup = |name: &str| {
                let value = match name {
                    "AIBRIX_KV_EVENT_SYNC_ENABLED" => sync,
                    "AIBRIX_USE_REMOTE_TOKENIZER" => tokenizer,
                    _ => None,
                };
                value.map(str::to_owned)
            };
            let settings = Aibrix::read(lookup).unwrap().settings;
            let mode = settings.resolve().unwrap().sync_mode;
            let shown =
                |value: Option<&str>| value.map_or("not set".to_owned(), |it| format!("`{it}`"));
            let valid = if mode.is_valid() { "1" } else { "0" };
            let (sync, tokenizer) = (shown(sync), shown(tokenizer));
            let (word, meaning) = (mode.as_str(), mode.meaning());
            let _ = writeln!(
                text,
                "| {sync} | {tokenizer} | `{word}` | {valid} | {meaning} |"
            );
        }
    }
    text
}

fn aibrix() -> String {
    let rows: String = Aibrix::names().map(aibrix_row).collect();
    format!(
        "## AIBrix's variables

They are read as they are; what kvroute's own flags, variables or file say wins over them. Booleans and durations have Go's form, an empty
variable is as if it were not set, and a value that cannot be ends the start. `kvroute check-config` shows those that are set and what each does.

| variable | takes | here |
|---|---|---|
{rows}
Of the two switches one that is not set is off if the other is set, as for AIBrix. What they come to (the mode is shown by `kvroute check-config` and
`/readyz`; `valid` is the metric `aibrix_kv_sync_configuration_valid`):

| `AIBRIX_KV_EVENT_SYNC_ENABLED` | `AIBRIX_USE_REMOTE_TOKENIZER` | mode | valid | what it means |
|---|---|---|---|---|
{}
",
        modes()
    )
}

/// The list of commands that the help gives.
fn commands() -> String {
    let output = kvroute().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, after) = help.split_once("Commands:\n").unwrap();
    let (list, _) = after.split_once("\n\n").unwrap();
    let mut text = "## Commands\n\n| command | what it does |\n|---|---|\n".to_owned();
    for line in list.lines() {
        let (name, what) = line.trim().split_once(' ').unwrap();
        if name != "help" {
            let _ = writeln!(
                text,
                "| `kvroute {name}` | {} |",
                what.trim().replace('|', "\\|")
            );
        }
    }
    text.push_str(
        "\n`--help` after a command lists its flags. Exit codes are those of sysexits.h: 0 done, 64 usage or configuration, 69 something that is needed is \
         unavailable, 70 a fault of the program.\n",
    );
    text
}

fn reference() -> String {
    format!("{HEAD}{}{}{}", settings(), aibrix(), commands())
}

#[test]
fn the_reference_is_what_the_code_says() {
    let (path, expected) = (root().join(FILE), reference());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let mut lines = found.lines().zip(expected.lines()).enumerate();
    let other = lines.find(|(_, (found, expected))| found != expected);
    let other = other
        .map(|(at, (found, expected))| format!("line {}:\n{found}\nexpected:\n{expected}", at + 1));
    assert!(
        found == expected,
        "{FILE} is out of date; {WRITE}=1 cargo test -p kvroute --test docs makes it anew\n{}",
        other.unwrap_or_default()
    );
}

/// Worked by hand: what a few rows must say.
#[test]
fn the_reference_says_what_is_known() {
    let text = reference();
    for row in [
        "| `replays` | `--replays`<br>`KVROUTE_REPLAYS` | whole number | `8` | restart | Replays that run at once, in the whole node (1 to 1024 are possible) |",
        "| `io_threads` | `--io-threads`<br>`KVROUTE_IO_THREADS` | whole number | half of the cores | restart |",
        "| `local_tokenizers` | `--local-tokenizer`<br>`KVROUTE_LOCAL_TOKENIZERS` | list of `MODEL=DIR`; a map in the file | none | restart |",
        "| `AIBRIX_SYNC_EVICTION_DURATION_MINUTES` | expected a whole number from 1 | sets `approximate_time`: `10` here is `600` |",
        "| `true` | not set | `events_without_tokenizer` | 0 |",
    ] {
        assert!(text.contains(row), "{row}\nis not in\n{text}");
    }
    let rows = text.lines().filter(|line| line.contains("`<br>`KVROUTE_"));
    assert_eq!(rows.count(), keys().len());
}
