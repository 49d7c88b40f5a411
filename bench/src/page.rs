// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pages with figures: their text is written by people, their tables and plots are made from the
//! rows.

use crate::rows::Rows;
use crate::{plots, results, tables};
use std::fs;
use std::path::PathBuf;
use xtask::root;
use xtask::shell::Error;

/// What makes a table.
type Table = fn(&Rows) -> String;

/// The page with what programs cost, which has the plots.
const PERFORMANCE: &str = "docs/performance.md";
/// The page about tests.
const PER_TEST: &str = "docs/per-test.md";

/// Places of a page, the bench whose rows each shows, and how.
type Places = [(&'static str, &'static str, Table)];

/// The pages.
const PAGES: [(&str, &Places); 2] = [(PERFORMANCE, &OF_PERFORMANCE), (PER_TEST, &OF_PER_TEST)];

const OF_PER_TEST: [(&str, &str, Table); 3] = [
    ("time of tests", "per-test", tables::per_test),
    ("size of tests", "per-test", tables::per_test_sizes),
    ("questions", "questions", tables::questions),
];

const OF_PERFORMANCE: [(&str, &str, Table); 15] = [
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
    ("addresses", "reports", tables::addresses),
    ("reports", "reports", tables::reports),
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

fn plot(name: &str) -> PathBuf {
    root()
        .join("docs/performance")
        .join(name)
        .with_extension("svg")
}

/// Puts the tables into the pages, and the plots beside theirs.
///
/// # Errors
/// A page or rows cannot be read, or a page has no place for a table.
pub(crate) fn write() -> Result<(), Error> {
    for (page, places) in PAGES {
        let text = fs::read_to_string(root().join(page))?;
        fs::write(root().join(page), with_all(&text, page, places)?)?;
    }
    for (name, svg) in plots::all(&|bench| Rows::read(&results(bench)).ok()) {
        let path = plot(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, svg)?;
    }
    Ok(())
}

/// The text of a page with its tables and plots as the rows give them.
fn with_all(text: &str, page: &str, places: &Places) -> Result<String, Error> {
    let mut text = text.to_owned();
    let no_place = |name: &str| format!("{page} has no place for the table {name}");
    for (name, bench, table) in places {
        let table = match results(bench).is_file() {
            true => table(&Rows::read(&results(bench))?),
            false => NOTHING.to_owned(),
        };
        text = with_table(&text, name, &table).ok_or_else(|| no_place(name))?;
    }
    if page != PERFORMANCE {
        return Ok(text);
    }
    let made = plots::all(&|bench| Rows::read(&results(bench)).ok());
    for (place, file, shows) in PLOTS {
        let plot = match made.iter().any(|(name, _)| *name == file) {
            true => format!("![{shows}](performance/{file}.svg)\n"),
            false => NOTHING.to_owned(),
        };
        text = with_table(&text, place, &plot).ok_or_else(|| no_place(place))?;
    }
    Ok(text)
}

/// A page with `table` in the place of that name; `None` if it has no such place.
fn with_table(page: &str, name: &str, table: &str) -> Option<String> {
    let begin = format!("<!-- {name}: by `cargo run -p rkcov-bench -- --page` -->\n");
    let end = "<!-- end -->\n";
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_say_what_the_rows_say() {
        for (page, places) in PAGES {
            let text = fs::read_to_string(root().join(page)).unwrap();
            assert!(
                with_all(&text, page, places).unwrap() == text,
                "{page} is not made from bench/results: cargo run -p rkcov-bench -- --page"
            );
        }
        let text = fs::read_to_string(root().join(PERFORMANCE)).unwrap();
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
    fn a_page_without_a_place_is_known() {
        let page = "a\n<!-- t: by `cargo run -p rkcov-bench -- --page` -->\nold\n<!-- end -->\nb\n";
        let new = with_table(page, "t", "new\n").unwrap();
        assert!(new.contains("-->\nnew\n<!-- end -->\nb\n"), "{new}");
        assert!(with_table(page, "other", "new\n").is_none());
    }
}
