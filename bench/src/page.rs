// SPDX-License-Identifier: MIT OR Apache-2.0
//! `docs/performance.md`: its text is written by people, its tables and plots are made from the rows.

use crate::rows::Rows;
use crate::{plots, results, tables};
use std::fs;
use std::path::PathBuf;
use xtask::root;
use xtask::shell::Error;

/// What makes a table.
type Table = fn(&Rows) -> String;

/// A place of the page, the bench whose rows it shows, and how.
const PLACES: [(&str, &str, Table); 13] = [
    ("programs", "programs", tables::programs),
    (
        "programs from start to end",
        "programs",
        tables::programs_wall,
    ),
    ("start", "programs", tables::start),
    ("instructions", "instructions", tables::instructions),
    ("trace", "trace", tables::trace),
    ("threads", "threads", tables::threads),
    ("threads from start to end", "threads", tables::threads_wall),
    ("threads over one", "threads", tables::threads_scale),
    ("threads' memory", "threads", tables::threads_memory),
    ("compile", "compile", tables::compile),
    ("sections", "sections", tables::sections),
    ("callbacks", "callbacks", tables::callbacks),
    ("sites", "sites", |rows| format!("{}.\n", rows.machine)),
];

/// The plots: their places' names, their files' names, and what they show.
const PLOTS: [(&str, &str, &str); 5] = [
    (
        "plot of traces",
        "trace",
        "Cost against the length of a trace",
    ),
    (
        "plot of threads",
        "threads",
        "Cost against the number of threads",
    ),
    ("plot of sites", "sites", "Cost against the number of sites"),
    (
        "plot of handles",
        "handles",
        "Cost against the number of handles",
    ),
    (
        "plot of threads with sections",
        "section-threads",
        "Cost of sections against the number of threads",
    ),
];

/// What stands where there are no rows.
const NOTHING: &str = "Not measured yet.\n";

fn page() -> PathBuf {
    root().join("docs/performance.md")
}

fn plot(name: &str) -> PathBuf {
    root()
        .join("docs/performance")
        .join(name)
        .with_extension("svg")
}

/// Puts the tables into the page, and the plots beside it.
///
/// # Errors
/// The page or rows cannot be read, or the page has no place for a table.
pub(crate) fn write() -> Result<(), Error> {
    let text = fs::read_to_string(page())?;
    fs::write(page(), with_tables(&text)?)?;
    for (name, svg) in plots::all(&|bench| Rows::read(&results(bench)).ok()) {
        let path = plot(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, svg)?;
    }
    Ok(())
}

/// The page with its tables as the rows give them.
fn with_tables(page: &str) -> Result<String, Error> {
    let mut page = page.to_owned();
    for (name, bench, table) in PLACES {
        let table = match results(bench).is_file() {
            true => table(&Rows::read(&results(bench))?),
            false => NOTHING.to_owned(),
        };
        page = with_table(&page, name, &table)?;
    }
    let made = plots::all(&|bench| Rows::read(&results(bench)).ok());
    for (place, file, shows) in PLOTS {
        let text = match made.iter().any(|(name, _)| *name == file) {
            true => format!("![{shows}](performance/{file}.svg)\n"),
            false => NOTHING.to_owned(),
        };
        page = with_table(&page, place, &text)?;
    }
    Ok(page)
}

/// The page with `table` in the place of that name.
fn with_table(page: &str, name: &str, table: &str) -> Result<String, Error> {
    let begin = format!("<!-- {name}: by `cargo run -p rkcov-bench -- --page` -->\n");
    let end = "<!-- end -->\n";
    let place = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(end)?;
        Some(format!("{before}{begin}{table}{end}{after}"))
    });
    place.ok_or_else(|| format!("docs/performance.md has no place for the table {name}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_rows_say() {
        let text = fs::read_to_string(page()).unwrap();
        assert!(
            with_tables(&text).unwrap() == text,
            "docs/performance.md is not made from bench/results: cargo run -p rkcov-bench -- --page"
        );
        for (name, svg) in plots::all(&|bench| Rows::read(&results(bench)).ok()) {
            let there = fs::read_to_string(plot(name)).unwrap_or_default();
            assert!(
                there == svg,
                "the plot {name} is not made from bench/results"
            );
            assert!(
                text.contains(&format!("](performance/{name}.svg)")),
                "{name}"
            );
        }
    }

    #[test]
    fn a_page_without_a_place_is_an_error() {
        let page = "a\n<!-- t: by `cargo run -p rkcov-bench -- --page` -->\nold\n<!-- end -->\nb\n";
        let new = with_table(page, "t", "new\n").unwrap();
        assert!(new.contains("-->\nnew\n<!-- end -->\nb\n"), "{new}");
        assert!(with_table(page, "other", "new\n").is_err());
    }
}
