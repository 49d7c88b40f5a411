// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file of the table: its line numbers, and below them what was asked for of it.

use std::io;

use super::super::style::{harmless, head, number, ranges, width, wrapped, Role};
use super::super::tree::Totals;
use super::super::Detail;
use super::{Columns, Page};
use crate::coverage::{FileView, Operands};

impl Page<'_> {
    pub(super) fn file(
        &mut self,
        name: &str,
        file: &FileView<'_>,
        depth: usize,
        columns: &Columns,
    ) -> io::Result<()> {
        self.row(name, depth, Role::Heading, Totals::of(file), columns)?;
        if self.options.detail == Detail::Sums {
            return writeln!(self.to);
        }
        let wanted = |count: u64| (count == 0) == self.options.uncovered;
        let lines = file.lines.iter().filter(|(_, count)| wanted(**count));
        let numbers = ranges(lines.map(|(line, _)| *line));
        let at = columns.numbers();
        let mut rows = wrapped(&numbers, self.options.width.saturating_sub(at).max(12));
        let most = if self.options.full {
            usize::MAX
        } else {
            self.shape.line_rows
        };
        if rows.len() > most {
            rows.truncate(most);
            if let Some(last) = rows.last_mut() {
                // The end of the last row makes place for the mark.
                while width(last) + 2 > self.options.width.saturating_sub(at).max(12) {
                    match last.rfind(' ') {
                        Some(space) => last.truncate(space),
                        None => break,
                    }
                }
                last.push_str(" …");
            }
        }
        for (nth, row) in rows.iter().enumerate() {
            let indent = if nth == 0 { 2 } else { at };
            write!(self.to, "{:indent$}{row}", "")?;
            writeln!(self.to)?;
        }
        if rows.is_empty() {
            writeln!(self.to)?;
        }
        if self.options.functions {
            self.functions(file, depth + 1)?;
        }
        if self.options.source {
            self.source(file)?;
        }
        for (line, comparisons) in &file.comparisons {
            self.comparisons(*line, comparisons, depth + 1)?;
        }
        Ok(())
    }

    /// The operands that were compared at a line.
    fn comparisons(&mut self, line: u32, all: &Operands, depth: usize) -> io::Result<()> {
        /// Pairs that are shown of a line, unless all are wanted.
        const FEW: usize = 4;
        let few = if self.options.full { usize::MAX } else { FEW };
        let mut pairs: Vec<String> = all
            .iter()
            .take(few)
            .map(|(pair, count)| {
                let constant = if pair.constant { " (constant)" } else { "" };
                let times = if *count > 1 {
                    format!(" ×{count}")
                } else {
                    String::new()
                };
                format!("{:#x}{constant} {:#x}{times}", pair.first, pair.second)
            })
            .collect();
        if all.len() > few {
            pairs.push(format!("and {} more", number((all.len() - few) as u64)));
        }
        let indent = 2 * depth;
        writeln!(self.to, "{:indent$}{line}: {}", "", pairs.join(", "))
    }

    fn functions(&mut self, file: &FileView<'_>, depth: usize) -> io::Result<()> {
        let style = self.options.style;
        let known = file.functions.iter();
        let known = known.map(|(function, count)| match count {
            0 => (*function, '-', Role::Poor),
            _ => (*function, '+', Role::Good),
        });
        let unknown: &[_] = if file.complete {
            &file.unknown_functions
        } else {
            &[]
        };
        let unknown = unknown.iter().map(|function| (*function, '?', Role::Aside));
        let mut all: Vec<_> = known.chain(unknown).collect();
        all.sort_by_key(|(function, ..)| function.lines);
        for (function, mark, role) in all {
            let (first, last) = function.lines;
            let lines = ranges([first, last]).join("-");
            let indent = 2 * depth;
            let space = self
                .options
                .width
                .saturating_sub(indent + lines.len() + 4)
                .max(8);
            // The beginning of a function's name says most.
            let name = head(&harmless(&function.name), space);
            writeln!(
                self.to,
                "{:indent$}{} {name} {}",
                "",
                style.paint(role, mark),
                style.paint(Role::Aside, lines),
            )?;
        }
        Ok(())
    }

    fn source(&mut self, file: &FileView<'_>) -> io::Result<()> {
        let style = self.options.style;
        let text = match std::fs::read(file.path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                let why = format!("    source not available: {error}");
                return writeln!(self.to, "{}", style.paint(Role::Aside, why));
            }
        };
        let lines: Vec<&str> = text.lines().collect();
        let digits = lines.len().to_string().len();
        let mut before = 0;
        let unknown: &[u32] = if file.complete { &file.unknown } else { &[] };
        let mut numbers: Vec<u32> = if self.options.uncovered {
            let lines = file.lines.iter().filter(|(_, count)| **count == 0);
            lines.map(|(line, _)| *line).collect()
        } else {
            file.lines.keys().chain(unknown).copied().collect()
        };
        numbers.sort_unstable();
        // What stands between two lines must not be one that ran.
        let left_out = |line: &u32| {
            self.options.uncovered && (file.lines.contains_key(line) || unknown.contains(line))
        };
        for (line, shown) in with_context(&numbers, left_out) {
            let Some(text) = (line as usize).checked_sub(1).and_then(|at| lines.get(at)) else {
                continue;
            };
            if before != 0 && before + 1 != line {
                writeln!(
                    self.to,
                    "{}",
                    style.paint(Role::Aside, format_args!("{:>digits$} ⋮", ""))
                )?;
            }
            before = line;
            let (mark, role) = match file.lines.get(&line).filter(|_| shown) {
                Some(0) => ('-', Role::Poor),
                Some(_) => ('+', Role::Good),
                None if unknown.contains(&line) => ('?', Role::Aside),
                None => (' ', Role::Aside),
            };
            let text = harmless(&text.replace('\t', "    "));
            let line = format!("{line:>digits$} {mark} {text}");
            writeln!(self.to, "{}", style.paint(role, line.trim_end()))?;
        }
        writeln!(self.to)
    }
}

/// The lines to print of a file: those with code, and what stands in small gaps between them.
fn with_context(lines: &[u32], left_out: impl Fn(&u32) -> bool) -> Vec<(u32, bool)> {
    const GAP: u32 = 4;
    let mut all = Vec::new();
    let mut before: Option<u32> = None;
    for &line in lines {
        if let Some(before) = before.filter(|before| line - before <= GAP + 1) {
            if !(before + 1..line).any(|between| left_out(&between)) {
                all.extend((before + 1..line).map(|between| (between, false)));
            }
        }
        all.push((line, true));
        before = Some(line);
    }
    all
}
