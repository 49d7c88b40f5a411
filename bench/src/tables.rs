// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables of `docs/bench.md`, made from the raw rows and nothing else.

use crate::results;
use crate::rows::Rows;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use xtask::root;
use xtask::shell::Error;

/// A column: its heading, and of which variant to which the ratio is, without the compiler's name.
type Column = (&'static str, &'static str, &'static str);

const CALLBACKS: [Column; 5] = [
    ("off: rkcov to C", "rkcov-off", "c-off"),
    ("on: rkcov to C", "rkcov-on", "c-on"),
    ("off: to plain", "rkcov-off", "plain-off"),
    ("on: to plain", "rkcov-on", "plain-off"),
    ("gate closed: to plain", "gate-off", "plain-off"),
];

const PROGRAMS: [Column; 3] = [
    ("rkcov run: to plain", "rkcov", "plain"),
    ("gcov: to plain", "gcov", "plain"),
    ("source coverage: to plain", "source", "plain"),
];

const COMPILERS: [&str; 3] = ["gcc", "clang", "rustc"];

/// The table of the callbacks.
pub(crate) fn callbacks(rows: &Rows) -> String {
    table(rows, &CALLBACKS)
}

/// The table of whole programs.
pub(crate) fn programs(rows: &Rows) -> String {
    table(rows, &PROGRAMS)
}

fn table(rows: &Rows, columns: &[Column]) -> String {
    let mut text = String::from("| program | compiler |");
    // Writing to a string does not fail.
    for (heading, ..) in columns {
        let _ = write!(text, " {heading} |");
    }
    let _ = writeln!(text, "\n| --- | --- |{}", " --- |".repeat(columns.len()));
    for program in rows.programs() {
        for compiler in COMPILERS {
            let ratio = |of: &str, to: &str| {
                rows.ratio(
                    program,
                    &format!("{compiler}-{of}"),
                    &format!("{compiler}-{to}"),
                )
            };
            let ratios: Vec<_> = columns.iter().map(|(_, of, to)| ratio(of, to)).collect();
            if ratios.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(text, "| {program} | {compiler} |");
            for ratio in ratios {
                let _ = match ratio {
                    Some([low, median, high]) => {
                        write!(text, " **{median:.2}** ({low:.2}-{high:.2}) |")
                    }
                    None => write!(text, " |"),
                };
            }
            text.push('\n');
        }
    }
    let _ = writeln!(
        text,
        "\nMedians (and quartiles) of {} rounds. {}.",
        rows.rounds(),
        rows.machine
    );
    text
}

fn page() -> PathBuf {
    root().join("docs/bench.md")
}

/// Puts the tables into the page.
///
/// # Errors
/// The page or the rows cannot be read, or the page has no place for a table.
pub(crate) fn write() -> Result<(), Error> {
    let text = fs::read_to_string(page())?;
    Ok(fs::write(page(), with_tables(&text)?)?)
}

/// The page with its tables as the rows give them.
fn with_tables(page: &str) -> Result<String, Error> {
    let made = [
        ("callbacks", callbacks(&Rows::read(&results("callbacks"))?)),
        ("programs", programs(&Rows::read(&results("programs"))?)),
    ];
    let mut page = page.to_owned();
    for (name, table) in made {
        page = with_table(&page, name, &table)?;
    }
    Ok(page)
}

/// The page with `table` in the place of that name.
fn with_table(page: &str, name: &str, table: &str) -> Result<String, Error> {
    let begin = format!("<!-- {name}: by `cargo run -p rkcov-bench -- tables` -->\n");
    let end = "<!-- end -->\n";
    let place = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(end)?;
        Some(format!("{before}{begin}{table}{end}{after}"))
    });
    place.ok_or_else(|| format!("docs/bench.md has no place for the table {name}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_rows_say() {
        let text = fs::read_to_string(page()).unwrap();
        assert!(
            with_tables(&text).unwrap() == text,
            "docs/bench.md is not made from bench/results: cargo run -p rkcov-bench -- tables"
        );
    }

    #[test]
    fn a_table_has_a_row_for_what_was_measured() {
        let mut rows = Rows::default();
        rows.machine = "A machine".into();
        for (variant, time) in [("gcc-plain", 10), ("gcc-rkcov", 15), ("gcc-gcov", 25)] {
            rows.push(0, "zlib", variant, time);
        }
        assert_eq!(
            programs(&rows),
            "| program | compiler | rkcov run: to plain | gcov: to plain | source coverage: to plain |\n\
             | --- | --- | --- | --- | --- |\n\
             | zlib | gcc | **1.50** (1.50-1.50) | **2.50** (2.50-2.50) | |\n\
             \n\
             Medians (and quartiles) of 1 rounds. A machine.\n"
        );
    }

    #[test]
    fn a_page_without_a_place_is_an_error() {
        let page = "a\n<!-- t: by `cargo run -p rkcov-bench -- tables` -->\nold\n<!-- end -->\nb\n";
        let new = with_table(page, "t", "new\n").unwrap();
        assert!(new.contains("-->\nnew\n<!-- end -->\nb\n"), "{new}");
        assert!(with_table(page, "other", "new\n").is_err());
    }
}
