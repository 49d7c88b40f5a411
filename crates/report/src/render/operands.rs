// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program compared, line by line, and what it never met: values that a fuzzer would try.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::style::{harmless, head, number, plural, shown, wrapped, Role, Style};
use crate::coverage::{Operands, View};

/// Grows when something changes that a reader could have relied on.
const VERSION: u32 = 1;

/// The comparisons of a view.
#[derive(Debug, Serialize)]
pub struct Compared {
    version: u32,
    files: Vec<File>,
}

#[derive(Debug, Serialize)]
struct File {
    path: String,
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    line: u32,
    /// Its text, if the source is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    comparisons: Vec<Comparison>,
}

/// Comparisons of a line with one constant, or those of two variables.
#[derive(Debug, Serialize)]
struct Comparison {
    /// How wide the operands are.
    bytes: u32,
    /// The constant, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    constant: Option<u64>,
    /// How often they were equal.
    equal: u64,
    /// How often they were compared.
    times: u64,
    pairs: Vec<Pair>,
    /// Values that an operand never had when it was compared with them.
    tries: BTreeSet<u64>,
}

#[derive(Debug, Serialize)]
struct Pair {
    first: u64,
    second: u64,
    times: u64,
}

/// How comparisons look to people.
#[derive(Clone, Copy, Debug)]
pub struct OperandOptions {
    /// Columns to fit into.
    pub width: usize,
    /// Colour or not.
    pub style: Style,
    /// All operands, however many.
    pub all: bool,
}

impl Compared {
    /// The comparisons of a view; with `tries`, only those whose operands were never equal.
    #[must_use]
    pub fn of(view: &View<'_>, tries: bool) -> Self {
        let files = view.files.iter().map(|file| {
            let texts = texts(file.path);
            let lines = file.comparisons.iter().map(|(line, operands)| {
                let at = (*line as usize).checked_sub(1);
                let text = at.and_then(|at| texts.get(at)).cloned();
                let mut comparisons = comparisons(operands);
                comparisons.retain(|one| !tries || !one.tries.is_empty());
                Line {
                    line: *line,
                    text: text.filter(|text| !text.is_empty()),
                    comparisons,
                }
            });
            let lines = lines.filter(|line| !line.comparisons.is_empty());
            File {
                path: shown(file.path),
                lines: lines.collect(),
            }
        });
        Self {
            version: VERSION,
            files: files.filter(|file| !file.lines.is_empty()).collect(),
        }
    }

    /// Writes them as JSON; `docs/cmp.schema.json` says what stands where.
    ///
    /// # Errors
    /// What `to` says.
    pub fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *to, self)?;
        writeln!(to)
    }

    /// Writes them for people.
    ///
    /// # Errors
    /// What `to` says.
    pub fn text(&self, options: &OperandOptions, to: &mut dyn Write) -> io::Result<()> {
        let style = options.style;
        for (nth, file) in self.files.iter().enumerate() {
            if nth > 0 {
                writeln!(to)?;
            }
            writeln!(to, "{}", style.paint(Role::Heading, harmless(&file.path)))?;
            for line in &file.lines {
                line.text(options, to)?;
            }
        }
        let lines = self.files.iter().flat_map(|file| &file.lines);
        let all = lines.flat_map(|line| &line.comparisons);
        let (never, met): (Vec<_>, Vec<_>) = all.partition(|one| !one.tries.is_empty());
        if never.is_empty() && met.is_empty() {
            return writeln!(to, "no comparison to show");
        }
        let text = format!(
            "{}: {} had operands that were never equal",
            plural((never.len() + met.len()) as u64, "comparison"),
            number(never.len() as u64)
        );
        writeln!(to, "\n{}", style.paint(Role::Aside, text))
    }
}

impl Line {
    fn text(&self, options: &OperandOptions, to: &mut dyn Write) -> io::Result<()> {
        let text = harmless(self.text.as_deref().unwrap_or_default());
        let row = format!("{:>5}  {text}", self.line);
        writeln!(to, "{}", head(row.trim_end(), options.width.max(24)))?;
        for comparison in &self.comparisons {
            let (word, role) = match comparison.tries.is_empty() {
                true => ("met", Role::Good),
                false => ("try", Role::Poor),
            };
            let indent = "       ";
            let room = options.width.saturating_sub(indent.len() + 4).max(24);
            let rows = wrapped(&comparison.parts(options.all), room);
            for (nth, row) in rows.iter().enumerate() {
                match nth {
                    0 => writeln!(to, "{indent}{} {row}", options.style.paint(role, word))?,
                    _ => writeln!(to, "{indent}    {row}")?,
                }
            }
        }
        Ok(())
    }
}

impl Comparison {
    /// What is said of it, in parts between which there are commas.
    fn parts(&self, all: bool) -> Vec<String> {
        /// Operands that are shown, unless all are wanted.
        const FEW: usize = 6;
        let few = if all { usize::MAX } else { FEW };
        let value = |operand| value(operand, self.bytes);
        let often = |times: u64| match times {
            1 => String::new(),
            times => format!(" ×{}", number(times)),
        };
        let unequal = self.pairs.iter().filter(|pair| pair.first != pair.second);
        let mut others: Vec<String> = unequal
            .map(|pair| match self.constant {
                Some(_) => format!("{}{}", value(pair.second), often(pair.times)),
                None => format!(
                    "{} with {}{}",
                    value(pair.first),
                    value(pair.second),
                    often(pair.times)
                ),
            })
            .collect();
        let more = others.len().saturating_sub(few);
        others.truncate(few);
        if more > 0 {
            others.push(format!("and {} more", number(more as u64)));
        }
        let equal = match (self.equal, self.times) {
            (0, _) => String::new(),
            (equal, times) if equal == times => " always".to_owned(),
            (equal, times) => format!(" {} of {} times", number(equal), number(times)),
        };
        let begin = match self.constant {
            Some(constant) => format!("{}{equal}", value(constant)),
            None if self.equal > 0 => format!("equal operands{equal}"),
            None => "equal operands".to_owned(),
        };
        if let Some(first) = others.first_mut() {
            *first = format!(
                "{begin}; {} {first}",
                if self.equal == 0 { "came" } else { "else" }
            );
            return others;
        }
        vec![begin]
    }
}

/// The lines of a source, none if it cannot be read.
fn texts(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .map(|line| String::from_utf8_lossy(line).trim().to_owned())
        .collect()
}

/// What was compared on a line: by constant, and variables of each width.
fn comparisons(operands: &Operands) -> Vec<Comparison> {
    let mut groups: BTreeMap<(u32, Option<u64>), Vec<Pair>> = BTreeMap::new();
    for (pair, times) in operands {
        let constant = pair.constant.then_some(pair.first);
        groups
            .entry((pair.bytes, constant))
            .or_default()
            .push(Pair {
                first: pair.first,
                second: pair.second,
                times: *times,
            });
    }
    let groups = groups.into_iter();
    groups
        .map(|((bytes, constant), pairs)| {
            let sum = |sum: u64, pair: &Pair| sum.saturating_add(pair.times);
            let equal = pairs.iter().filter(|pair| pair.first == pair.second);
            let equal = equal.fold(0, sum);
            let tries = match (equal, constant) {
                (1.., _) => BTreeSet::new(),
                (0, Some(constant)) => [constant].into(),
                (0, None) => pairs
                    .iter()
                    .flat_map(|pair| [pair.first, pair.second])
                    .collect(),
            };
            Comparison {
                bytes,
                constant,
                equal,
                times: pairs.iter().fold(0, sum),
                pairs,
                tries,
            }
        })
        .collect()
}

/// An operand as people write it: a small number, text, or hexadecimal beside it.
fn value(operand: u64, bytes: u32) -> String {
    let all = operand.to_le_bytes();
    let text = all.get(..bytes as usize).unwrap_or(&all);
    let is_text = text.iter().all(|byte| (b' '..=b'~').contains(byte));
    let text = String::from_utf8_lossy(text);
    let shift = 64_u32.saturating_sub(bytes.saturating_mul(8)).min(63);
    let signed = ((operand << shift) as i64) >> shift;
    match operand {
        _ if is_text && bytes == 1 => format!("'{text}' ({operand:#x})"),
        _ if is_text => format!("\"{text}\" ({operand:#x})"),
        0..=9 => operand.to_string(),
        _ if (-65536..0).contains(&signed) => format!("{signed} ({operand:#x})"),
        _ if operand <= 0xffff_ffff => format!("{operand} ({operand:#x})"),
        _ => format!("{operand:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Pair as Recorded;

    #[test]
    fn operands_are_written_as_people_write_them() {
        for (operand, bytes, text) in [
            (0, 4, "0"),
            (77, 4, "77 (0x4d)"),
            (0x2a, 1, "'*' (0x2a)"),
            (0x4646_4952, 4, "\"RIFF\" (0x46464952)"),
            (0xffff_ffff, 4, "-1 (0xffffffff)"),
            (0xffff_ffff, 8, "4294967295 (0xffffffff)"),
            (u64::MAX, 8, "-1 (0xffffffffffffffff)"),
            (1 << 40, 8, "0x10000000000"),
            (255, 1, "-1 (0xff)"),
        ] {
            assert_eq!(value(operand, bytes), text);
        }
    }

    #[test]
    fn what_was_never_equal_is_to_be_tried() {
        let pair = |first, second, constant| Recorded {
            first,
            second,
            bytes: 4,
            constant,
        };
        let operands: Operands = [
            (pair(7, 1, true), 2),
            (pair(7, 2, true), 1),
            (pair(8, 8, true), 1),
            (pair(8, 1, true), 3),
            (pair(5, 6, false), 1),
        ]
        .into();
        let found = comparisons(&operands);
        let facts: Vec<_> = found
            .iter()
            .map(|one| (one.constant, one.equal, one.times, one.tries.clone()))
            .collect();
        assert_eq!(
            facts,
            [
                (None, 0, 1, [5, 6].into()),
                (Some(7), 0, 3, [7].into()),
                (Some(8), 1, 4, [].into()),
            ]
        );
        assert_eq!(found[1].parts(false), ["7; came 1 ×2", "2"]);
        assert_eq!(found[2].parts(false), ["8 1 of 4 times; else 1 ×3"]);
    }
}
