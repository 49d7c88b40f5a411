// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the results are kept: a table on a page of the documentation.

use super::compare::Subject;
use super::differences::{Differences, Reason};
use crate::page;
use crate::shell::Error;
use std::fmt::Write;

/// A table.
pub(super) struct Table {
    /// The page, below the root.
    pub(super) page: &'static str,
    /// The command that writes it, without `cargo xtask`.
    pub(super) command: &'static str,
    /// What its first column has.
    pub(super) heading: &'static str,
    /// Its rows, in their order, by how they begin.
    pub(super) names: Vec<&'static str>,
}

/// A row: how it begins, what is in its first column, and the result.
type Row<'a> = (&'a str, String, &'a Differences);

impl Table {
    /// Keeps the results of these subjects in the place of what the page has of them.
    pub(super) fn write_all(
        &self,
        subjects: &[Box<dyn Subject + '_>],
        found: &[Differences],
    ) -> Result<(), Error> {
        let subjects = subjects.iter().map(|one| (one.name(), one.title()));
        let rows = subjects.zip(found);
        let rows: Vec<Row<'_>> = rows
            .map(|((name, title), found)| (name, title, found))
            .collect();
        self.write(&rows)
    }

    fn write(&self, rows: &[Row<'_>]) -> Result<(), Error> {
        page::keep(self.page, &page::mark(self.command), |text| {
            self.text(rows, text)
        })
    }

    /// The table. What was not run has the row that it has on the page.
    fn text(&self, rows: &[Row<'_>], page: &str) -> String {
        let mut text = format!(
            "| {} | tests | the same lines | test and line | varies | once in a process | on a thread of no test | shared state | unknown | wrong |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
            self.heading
        );
        let (mut rules, mut sum) = (String::new(), 0);
        for name in &self.names {
            let found = rows.iter().find(|(of, ..)| of == name);
            let (row, ruled) = match found {
                Some((_, title, found)) => row(name, title, found),
                None => row_on(name, page),
            };
            let tests = row.split('|').nth(2).unwrap_or_default();
            sum += tests.trim().parse().unwrap_or(0);
            text.push_str(&row);
            rules.push_str(&ruled);
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n{sum} tests.");
        if !rules.is_empty() {
            let _ = write!(text, "\nShared state:\n\n{rules}");
        }
        text
    }
}

/// A row, and what rules explain.
fn row(name: &str, title: &str, found: &Differences) -> (String, String) {
    let sums = found.sums();
    let of = |reason: &Reason| sums.get(reason).map_or(0, |(_, lines)| *lines);
    let (mut shared, mut rules) = (0, String::new());
    for (reason, (tests, lines)) in &sums {
        if let Reason::Rule(because) = reason {
            shared += lines;
            let _ = writeln!(rules, "- {name}: {because} ({lines} in {tests} tests)");
        }
    }
    let row = format!(
        "| {title} | {} | {} | {} | {} | {} | {} | {shared} | {} | {} |\n",
        found.tests,
        found.equal,
        found.lines,
        of(&Reason::Varies),
        of(&Reason::Once),
        of(&Reason::Outside),
        of(&Reason::Unknown),
        found.wrong(),
    );
    (row, rules)
}

/// The same as they stand on the page, if they do.
fn row_on(name: &str, page: &str) -> (String, String) {
    let lines = |start: String| -> String {
        let lines = page.lines().filter(|line| line.starts_with(&start));
        lines.map(|line| format!("{line}\n")).collect()
    };
    (lines(format!("| {name} ")), lines(format!("- {name}: ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_run_keeps_its_row() {
        let table = Table {
            page: "",
            command: "per-test",
            heading: "crate",
            names: vec!["first", "second"],
        };
        let found = |tests| Differences {
            tests,
            ..Differences::default()
        };
        let (three, four, five) = (found(3), found(4), found(5));
        let title = String::from;
        let both = [
            ("first", title("first 1.0"), &three),
            ("second", title("second 2.0"), &four),
        ];
        let old = table.text(&both, "");
        assert!(old.contains("\n7 tests.\n"), "{old}");
        let new = table.text(&[("second", title("second 2.1"), &five)], &old);
        assert!(new.contains("\n8 tests.\n"), "{new}");
        assert_eq!(new.lines().nth(2), old.lines().nth(2));
        assert!(new.contains("| second 2.1 | 5 |"), "{new}");
    }
}
