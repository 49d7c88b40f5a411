// SPDX-License-Identifier: MIT OR Apache-2.0
//! What only one of two views has run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::style::{harmless, plural, ranges, shown, wrapped, Role, Style};
use crate::coverage::{FileView, View};

/// Grows when something changes that a reader could have relied on.
const VERSION: u32 = 1;

/// What only one of two views, `a` and `b`, has run. A line of which one of them does not know whether it ran
/// is no difference.
#[derive(Debug, Serialize)]
pub struct Difference {
    version: u32,
    /// Sums of all files.
    totals: Totals,
    /// Files with differences.
    files: Vec<FileDifference>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Totals {
    only_a: Sum,
    only_b: Sum,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sum {
    lines: usize,
    functions: usize,
}

#[derive(Debug, Serialize)]
struct FileDifference {
    path: String,
    only_a: Side,
    only_b: Side,
}

#[derive(Debug, Default, Serialize)]
struct Side {
    lines: Vec<u32>,
    functions: Vec<String>,
}

impl Side {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.functions.is_empty()
    }

    fn add_to(&self, sum: &mut Sum) {
        sum.lines += self.lines.len();
        sum.functions += self.functions.len();
    }
}

impl Difference {
    /// Compares two views, file by file.
    #[must_use]
    pub fn of(a: &View<'_>, b: &View<'_>) -> Self {
        let (in_a, in_b) = (by_path(a), by_path(b));
        let paths: BTreeSet<_> = in_a.keys().chain(in_b.keys()).collect();
        let mut difference = Self {
            version: VERSION,
            totals: Totals::default(),
            files: Vec::new(),
        };
        for path in paths {
            let one = Ran::of(in_a.get(path).copied());
            let other = Ran::of(in_b.get(path).copied());
            difference.add(path, one.without(&other), other.without(&one));
        }
        difference
    }

    fn add(&mut self, path: &Path, only_a: Side, only_b: Side) {
        if only_a.is_empty() && only_b.is_empty() {
            return;
        }
        only_a.add_to(&mut self.totals.only_a);
        only_b.add_to(&mut self.totals.only_b);
        self.files.push(FileDifference {
            path: shown(path),
            only_a,
            only_b,
        });
    }

    /// Whether both ran the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Writes it as JSON; `docs/diff.schema.json` says what stands where.
    ///
    /// # Errors
    /// What `to` says.
    pub fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *to, self)?;
        writeln!(to)
    }

    /// Writes it for people: `-` before what only `a` ran, `+` before what only `b` ran.
    ///
    /// # Errors
    /// What `to` says.
    pub fn text(&self, width: usize, style: Style, to: &mut dyn Write) -> io::Result<()> {
        for file in &self.files {
            writeln!(to, "{}", style.paint(Role::Heading, harmless(&file.path)))?;
            for (sign, role, side) in [
                ('-', Role::Poor, &file.only_a),
                ('+', Role::Good, &file.only_b),
            ] {
                let sign = style.paint(role, sign);
                let lines = ranges(side.lines.iter().copied());
                for line in wrapped(&lines, width.saturating_sub(4).max(20)) {
                    writeln!(to, "  {sign} {line}")?;
                }
                for function in &side.functions {
                    writeln!(
                        to,
                        "  {sign} {}()",
                        harmless(function).trim_end_matches("()")
                    )?;
                }
            }
        }
        if self.is_empty() {
            return writeln!(to, "Both ran the same lines and functions.");
        }
        let say = |sum: Sum| {
            let lines = plural(sum.lines as u64, "line");
            format!("{lines} and {}", plural(sum.functions as u64, "function"))
        };
        writeln!(
            to,
            "\nonly the first ran {} (-), only the second {} (+)",
            say(self.totals.only_a),
            say(self.totals.only_b),
        )
    }
}

fn by_path<'v, 'a>(view: &'v View<'a>) -> BTreeMap<&'a Path, &'v FileView<'a>> {
    let files = view.files.iter();
    files.map(|file| (file.path, file)).collect()
}

/// What ran of one file, and what may have.
#[derive(Default)]
struct Ran<'v> {
    lines: BTreeSet<u32>,
    unknown: BTreeSet<u32>,
    /// By name and how many of that name stand before it: their lines may have moved.
    functions: BTreeMap<(&'v str, usize), bool>,
}

impl<'v> Ran<'v> {
    fn of(file: Option<&'v FileView<'_>>) -> Self {
        let Some(file) = file else {
            return Self::default();
        };
        let lines = file.lines.iter().filter(|(_, count)| **count > 0);
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut functions = BTreeMap::new();
        for (function, count) in &file.functions {
            let nth = seen.entry(&function.name).or_default();
            functions.insert((&*function.name, *nth), *count > 0);
            *nth += 1;
        }
        Self {
            lines: lines.map(|(line, _)| *line).collect(),
            unknown: file.unknown.iter().copied().collect(),
            functions,
        }
    }

    /// What ran here and not there.
    fn without(&self, other: &Self) -> Side {
        let lines = self.lines.difference(&other.lines);
        let functions = self.functions.iter().filter(|(_, ran)| **ran);
        Side {
            lines: lines
                .filter(|line| !other.unknown.contains(line))
                .copied()
                .collect(),
            functions: functions
                .filter(|(name, _)| other.functions.get(*name) != Some(&true))
                .map(|((name, _), _)| (*name).to_owned())
                .collect(),
        }
    }
}
