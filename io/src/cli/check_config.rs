//! `kvroute check-config`: what the settings come to, where each was said, and what is wrong with them.
use super::serve::{self, Source};
use super::{Exit, Origins, complain, variables};
use kvroute::config::{Aibrix, Config, Effect, Given, Row, Variable, unknown_variables};
use kvroute::node::Node;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};

#[derive(Debug, clap::Args)]
// The group of this name is that of `serve`.
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    serve: serve::Args,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What there is to tell.
#[derive(Debug)]
struct Report {
    config: Config,
    rows: Vec<Row>,
    aibrix: Vec<(Variable, String)>,
    warnings: Vec<String>,
    pods: usize,
}

/// Checks, prints, ends.
pub(crate) fn run(args: Args, origins: Origins) -> Exit {
    let json = args.json;
    match check(args.serve, origins) {
        // A closed stdout is nobody's business.
        Ok(report) if json => drop(writeln!(io::stdout(), "{:#}", report.json())),
        Ok(report) => drop(io::stdout().write_all(report.table().as_bytes())),
        Err(error) => {
            complain(&error);
            return Exit::Usage;
        }
    }
    Exit::Done
}

fn check(args: serve::Args, origins: Origins) -> Result<Report, Box<dyn Error>> {
    let given = Source::new(args, origins).given()?;
    let config = given.resolve()?;
    let pods = Node::check(&config)?;
    Ok(Report::new(&given, config, pods))
}

impl Report {
    fn new(given: &Given, config: Config, pods: usize) -> Self {
        let rows = given.rows(&config);
        let mut warnings = given.warnings(&config);
        warnings.extend(config.notes());
        warnings.extend(unread_variables());
        let aibrix = given.aibrix.variables.iter();
        let aibrix = aibrix.map(|variable| (variable.clone(), effect(variable, &rows)));
        Self {
            aibrix: aibrix.collect(),
            config,
            rows,
            warnings,
            pods,
        }
    }

    fn table(&self) -> String {
        let mode = self.config.sync_mode;
        let mut text = format!("mode: {}: {}\n\n", mode.as_str(), mode.meaning());
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let change = if row.live { "live" } else { "restart" };
                let (key, from) = (row.key.clone(), row.from.clone());
                [key, shown(&row.value), change.to_owned(), from]
            })
            .collect();
        columns(&mut text, ["setting", "value", "changes", "from"], &rows);
        if !self.aibrix.is_empty() {
            text.push('\n');
            let rows: Vec<_> = self
                .aibrix
                .iter()
                .map(|(variable, effect)| {
                    [
                        variable.name.to_owned(),
                        variable.value.clone(),
                        effect.clone(),
                    ]
                })
                .collect();
            columns(&mut text, ["AIBrix's variable", "value", "effect"], &rows);
        }
        let _ = write!(text, "\npods in the fleet file: {}\n", self.pods);
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        text
    }

    fn json(&self) -> Value {
        let mode = self.config.sync_mode;
        let row = |row: &Row| json!({"key": row.key, "value": row.value, "from": row.from, "live": row.live});
        let variable = |(variable, effect): &(Variable, String)| json!({"name": variable.name, "value": variable.value, "effect": effect});
        json!({
            "mode": mode.as_str(),
            "valid": mode.is_valid(),
            "settings": self.rows.iter().map(row).collect::<Vec<_>>(),
            "aibrix": self.aibrix.iter().map(variable).collect::<Vec<_>>(),
            "pods": self.pods,
            "warnings": self.warnings,
        })
    }
}

/// What a variable of AIBrix's does, with what wins over it.
fn effect(variable: &Variable, rows: &[Row]) -> String {
    match variable.effect {
        Effect::Nothing(why) => format!("read, without effect: {why}"),
        Effect::Sets(key) => match rows.iter().find(|row| row.key == key) {
            Some(row) if !row.from.starts_with("AIBRIX_") => {
                format!("{key}, but {} wins", row.from)
            }
            _ => format!("sets {key}"),
        },
    }
}

/// A value as one would write it into the file.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(key, value)| format!("{key}={}", shown(value)));
            fields.collect::<Vec<_>>().join(",")
        }
        // Seconds are whole more often than not.
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), |n| n.to_string()),
        Value::Bool(_) => value.to_string(),
    }
}

/// Rows in columns as wide as they need to be.
fn columns<const N: usize>(text: &mut String, heads: [&str; N], rows: &[[String; N]]) {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([heads[at].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let heads = heads.map(str::to_owned);
    for row in std::iter::once(&heads).chain(rows) {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Variables that look like settings and are read by nobody, as warnings.
pub(super) fn unread_variables() -> Vec<String> {
    let mut known = variables();
    known.extend(Aibrix::names().map(str::to_owned));
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let set: Vec<_> = std::env::vars_os()
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .collect();
    let unknown = unknown_variables(set.iter().map(String::as_str), &known);
    let warning = |(name, meant): (&str, Option<&str>)| {
        let meant = meant.map_or_else(String::new, |meant| format!("; is {meant} meant?"));
        format!("{name} is not read{meant}")
    };
    unknown.into_iter().map(warning).collect()
}
