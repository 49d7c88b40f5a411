// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers, for people and for programs.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;

use super::{Contexts, Ran, Row};
use crate::coverage::NOTHING_REMAINS;

/// Threads that are listed, of those outside of all contexts.
const THREADS: usize = 20;

/// Warns of contexts that ended while a thread was still in them, if there are any.
#[must_use]
pub fn ended_early(contexts: u64) -> Option<String> {
    match contexts {
        0 => None,
        1 => Some(
            "1 context ended while a thread was still in it: what that ran from then on is in no context"
                .to_owned(),
        ),
        n => Some(format!(
            "{n} contexts ended while a thread was still in them: what those ran from then on is in no \
             context"
        )),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

/// Rows of columns: the last is of any width, the others are as wide as they must be.
fn table<const N: usize>(
    head: [&str; N],
    rows: &[[String; N]],
    to: &mut dyn Write,
) -> io::Result<()> {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut line = |cells: [&str; N]| {
        for (column, cell) in cells.iter().enumerate() {
            if column + 1 < N {
                write!(to, "{cell:>0$}  ", widths[column])?;
            } else {
                write!(to, "{cell}")?;
            }
        }
        writeln!(to)
    };
    line(head)?;
    rows.iter()
        .try_for_each(|row| line(row.each_ref().map(|cell| &**cell)))
}

impl Contexts<'_> {
    /// A row for each context.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn text(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.coverage.nothing_remains() {
            return writeln!(to, "{NOTHING_REMAINS}");
        }
        let cells = |row: &Row| {
            let runs = match (row.runs, row.unfinished) {
                (1, 0) => String::new(),
                (runs, 0) => format!("  ({runs} runs)"),
                (1, _) => "  (not ended)".to_owned(),
                (runs, unfinished) => format!("  ({runs} runs, {unfinished} not ended)"),
            };
            [
                row.lines().to_string(),
                row.unique.to_string(),
                seconds(row.time),
                row.kind.to_string(),
                format!("{}{runs}", row.name),
            ]
        };
        let rows: Vec<_> = self.rows().iter().map(cells).collect();
        table(["lines", "unique", "seconds", "kind", "name"], &rows, to)?;
        let threads = self.threads_outside();
        if threads.is_empty() {
            return Ok(());
        }
        writeln!(to, "\nin no context: {} lines, on", self.lines_outside())?;
        for one in threads.iter().take(THREADS) {
            let pcs = if one.pcs == 1 { "PC" } else { "PCs" };
            writeln!(to, "  {}: {} {pcs}{}", one.thread, one.pcs, one.note())?;
        }
        match threads.len().saturating_sub(THREADS) {
            0 => {}
            more => writeln!(to, "  and {more} more threads")?,
        }
        match ended_early(self.ended_early() as u64) {
            Some(text) => writeln!(to, "{text}"),
            None => Ok(()),
        }
    }

    /// The same, for programs.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        let row = |row: &Row| {
            json!({
                "kind": row.kind.to_string(),
                "name": row.name,
                "runs": row.runs,
                "unfinished": row.unfinished,
                "seconds": row.time.as_secs_f64(),
                "lines": row.lines(),
                "unique": row.unique,
            })
        };
        let threads = self.threads_outside();
        let threads = threads.iter();
        let threads =
            threads.map(|one| json!({ "thread": one.thread, "pcs": one.pcs, "after": one.after }));
        let all = json!({
            "contexts": self.rows().iter().map(row).collect::<Vec<_>>(),
            "outside": {
                "lines": self.lines_outside(),
                "threads": threads.collect::<Vec<_>>(),
            },
        });
        writeln!(to, "{all:#}")
    }

    /// The smallest set of contexts: a row for each.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn minimized_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let chosen = self.minimize();
        let rows: Vec<_> = chosen
            .iter()
            .map(|(row, adds)| [adds.to_string(), seconds(row.time), row.name.clone()])
            .collect();
        table(["adds", "seconds", "name"], &rows, to)?;
        let lines: u64 = chosen.iter().map(|(_, adds)| adds).sum();
        let all = self.rows().len();
        writeln!(
            to,
            "\n{} of {all} contexts run all of the {lines} lines that all run",
            chosen.len()
        )
    }

    /// The same, for programs.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn minimized_json(&self, to: &mut dyn Write) -> io::Result<()> {
        let chosen = self.minimize();
        let lines: u64 = chosen.iter().map(|(_, adds)| adds).sum();
        let rows = chosen
            .iter()
            .map(|(row, adds)| json!({ "name": row.name, "adds": adds }));
        let all = json!({
            "contexts": rows.collect::<Vec<_>>(),
            "of": self.rows().len(),
            "lines": lines,
        });
        writeln!(to, "{all:#}")
    }

    /// Contexts that run the same: a paragraph for each group.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn similar_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let groups = self.similar();
        if groups.is_empty() {
            return writeln!(to, "no two contexts run the same lines");
        }
        for group in &groups {
            let lines = group.first().map_or(0, |row| row.lines());
            writeln!(to, "{} contexts run the same {lines} lines:", group.len())?;
            for row in group {
                writeln!(to, "  {}", row.name)?;
            }
        }
        Ok(())
    }

    /// The same, for programs.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn similar_json(&self, to: &mut dyn Write) -> io::Result<()> {
        let group = |group: Vec<&Row>| {
            let names: Vec<&str> = group.iter().map(|row| &*row.name).collect();
            json!({ "lines": group.first().map_or(0, |row| row.lines()), "contexts": names })
        };
        let groups: Vec<_> = self.similar().into_iter().map(group).collect();
        writeln!(to, "{:#}", json!({ "groups": groups }))
    }
}

impl Ran<'_> {
    /// A line for each name.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn text(&self, to: &mut dyn Write) -> io::Result<()> {
        for name in &self.contexts {
            writeln!(to, "{name}")?;
        }
        for thread in &self.outside {
            writeln!(to, "in no context: thread {thread}")?;
        }
        for name in &self.maybe {
            writeln!(to, "{name}  (may have: what was recorded does not tell)")?;
        }
        for thread in &self.maybe_outside {
            writeln!(
                to,
                "in no context: thread {thread}  (may have: what was recorded does not tell)"
            )?;
        }
        let nobody = self.contexts.is_empty() && self.outside.is_empty();
        match (nobody, self.known_to_have_run) {
            (true, true) => writeln!(to, "it ran; what was recorded does not tell for whom"),
            (true, false) if self.maybe.is_empty() && self.maybe_outside.is_empty() => {
                writeln!(to, "nothing ran it")
            }
            _ => Ok(()),
        }
    }

    /// The same, for programs.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn json(&self, place: &str, to: &mut dyn Write) -> io::Result<()> {
        let all = json!({
            "place": place,
            "contexts": self.contexts,
            "maybe": self.maybe,
            "outside": self.outside,
            "maybe_outside": self.maybe_outside,
            "known_to_have_run": self.known_to_have_run,
        });
        writeln!(to, "{all:#}")
    }
}
