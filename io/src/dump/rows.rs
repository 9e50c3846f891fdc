//! A dump as a table: one row for each worker and context.
use super::{Context, Held, Take};
use crate::limits::DUMP_ROWS_MAX;
use crate::printable::Printable;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

/// Rows by context, pod and rank.
#[derive(Debug, Default)]
pub struct Rows {
    rows: BTreeMap<(Context, String, u32), Row>,
    left_out: Vec<(Context, Value)>,
    has_prefix: bool,
    others: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    gpu: u64,
    cpu: u64,
    disk: u64,
    longest: u32,
    prefix: u32,
}

impl Rows {
    /// An empty table, with a column for the prefix that was asked for.
    #[must_use]
    pub fn new(has_prefix: bool) -> Self {
        Self {
            has_prefix,
            ..Self::default()
        }
    }

    /// The table; `state` tells the state of a pod's rank.
    #[must_use]
    pub fn table(&self, state: impl Fn(&str, u32) -> String) -> String {
        let mut lines = vec![
            [
                "POD", "RANK", "MODEL", "ADAPTER", "BLOCK", "STATE", "GPU", "CPU", "DISK",
                "LONGEST",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        if self.has_prefix {
            lines[0].push("PREFIX".to_owned());
        }
        for ((context, pod, rank), row) in &self.rows {
            let adapter = context.adapter.as_deref().unwrap_or("-");
            let mut line = vec![
                Printable(pod).to_string(),
                rank.to_string(),
                Printable(&context.model).to_string(),
                Printable(adapter).to_string(),
                context.block_size.to_string(),
                Printable(&state(pod, *rank)).to_string(),
                row.gpu.to_string(),
                row.cpu.to_string(),
                row.disk.to_string(),
                row.longest.to_string(),
            ];
            line.extend(self.has_prefix.then(|| row.prefix.to_string()));
            lines.push(line);
        }
        let mut out = aligned(&lines);
        for (context, what) in &self.left_out {
            let of = Printable(context.adapter.as_deref().unwrap_or(&context.model));
            let _ = writeln!(out, "not told of {of}: {}", Printable(&what.to_string()));
        }
        if self.others > 0 {
            let _ = writeln!(
                out,
                "{} more runs of blocks, of workers beyond {DUMP_ROWS_MAX}",
                self.others
            );
        }
        out
    }
}

/// Columns as wide as they must be, two blanks apart.
#[must_use]
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths);
        let cells = cells.map(|(cell, &width)| format!("{cell:<width$}"));
        let text = cells.collect::<Vec<_>>().join("  ");
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

impl Take for Rows {
    fn held(&mut self, held: &Held<'_>) -> io::Result<()> {
        let key = (held.context.clone(), held.pod.to_owned(), held.rank);
        if self.rows.len() >= DUMP_ROWS_MAX && !self.rows.contains_key(&key) {
            self.others += 1;
            return Ok(());
        }
        let row = self.rows.entry(key).or_default();
        let blocks = held.blocks.len();
        *match held.tier {
            "device" => &mut row.gpu,
            "host_pinned" => &mut row.cpu,
            _ => &mut row.disk,
        } += blocks as u64;
        if let Some(position) = held.position {
            let end =
                |blocks: usize| position.saturating_add(u32::try_from(blocks).unwrap_or(u32::MAX));
            row.longest = row.longest.max(end(blocks));
            if held.of_prefix > 0 {
                row.prefix = row.prefix.max(end(held.of_prefix));
            }
        }
        Ok(())
    }

    fn left_out(&mut self, context: &Context, what: &Value) -> io::Result<()> {
        let counts = what.as_object().into_iter().flat_map(|what| what.values());
        let none = |value: &Value| {
            value == &Value::from(0) || value.as_object().is_some_and(|map| map.is_empty())
        };
        if counts.clone().any(|value| !none(value)) && self.left_out.len() < 1_024 {
            self.left_out.push((context.clone(), what.clone()));
        }
        Ok(())
    }
}
