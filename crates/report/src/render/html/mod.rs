// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for a browser: a folder of pages or one file, without a network.
//!
//! The page is a shell ([`page`]) and a program (`app.js`) that draws from data ([`data`]): an index with
//! the sums of all files, and for each file its text and lines, read when the file is opened. The data
//! know of each line which streams ran it, so the page can be filtered to some of them. All text is data:
//! the program writes it as text, never as markup.

mod data;
mod page;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::coverage::View;
use crate::sources::Filter;
use data::{FileData, Index};
use page::Place;

/// Files whose data are made at the same time, and then written in order.
const BATCH: usize = 64;

const STYLE: &str = include_str!("style.css");
const PROGRAM: &str = include_str!("app.js");

/// Writes a view as a folder with an `index.html`. What `view` selects is what the page shows first; the
/// files are those that `filter` shows.
///
/// # Errors
/// What the file system says.
pub fn html_folder(view: &View<'_>, filter: &Filter, folder: &Path) -> io::Result<()> {
    let data = folder.join("data");
    // Files of an earlier report that had more would only lie about.
    if data.join("index.js").exists() {
        fs::remove_dir_all(&data)?;
    }
    fs::create_dir_all(&data)?;
    let (index, shown) = Index::new(view, filter);
    write(&data.join("index.js"), |to| call(to, "index", &index))?;
    write(&data.join("names.js"), |to| {
        call(to, "names", &data::names(&shown))
    })?;
    shown.par_iter().enumerate().try_for_each(|(at, file)| {
        write(&data.join(format!("f{at}.js")), |to| {
            write!(to, "rkcov.file({at},")?;
            json(to, &FileData::new(file))?;
            to.write_all(b");\n")
        })
    })?;
    write(&folder.join("style.css"), |to| {
        to.write_all(STYLE.as_bytes())
    })?;
    write(&folder.join("app.js"), |to| {
        to.write_all(PROGRAM.as_bytes())
    })?;
    write(&folder.join("index.html"), |to| {
        let page = page::page(&index, &Place::Folder).into_string();
        to.write_all(page.as_bytes())
    })
}

/// Writes a view as one file that has everything in it.
///
/// # Errors
/// What `to` says.
pub fn html(view: &View<'_>, filter: &Filter, to: &mut dyn Write) -> io::Result<()> {
    let (index, shown) = Index::new(view, filter);
    let place = Place::File {
        style: STYLE,
        program: PROGRAM,
    };
    let page = page::page(&index, &place).into_string();
    let (head, end) = page
        .split_once(page::DATA)
        .ok_or_else(|| io::Error::other("the page has no place for its data"))?;
    to.write_all(head.as_bytes())?;
    block(to, "index", &index)?;
    block(to, "names", &data::names(&shown))?;
    for (batch, files) in shown.chunks(BATCH).enumerate() {
        let made: Vec<FileData<'_>> = files.par_iter().map(FileData::new).collect();
        for (at, data) in made.iter().enumerate() {
            block(to, &format!("f{}", batch * BATCH + at), data)?;
        }
    }
    to.write_all(end.as_bytes())
}

fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut to = BufWriter::new(File::create(path)?);
    content(&mut to)?;
    to.flush()
}

/// A script that hands data to the program.
fn call(to: &mut dyn Write, function: &str, data: &impl Serialize) -> io::Result<()> {
    write!(to, "rkcov.{function}(")?;
    json(to, data)?;
    to.write_all(b");\n")
}

/// Data in the page itself, which the browser does not look at until they are wanted.
fn block(to: &mut dyn Write, id: &str, data: &impl Serialize) -> io::Result<()> {
    write!(to, "<script type=\"application/json\" id=\"data-{id}\">")?;
    json(to, data)?;
    to.write_all(b"</script>\n")
}

/// JSON in which nothing ends a script or begins markup.
fn json(to: &mut dyn Write, data: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(data)?;
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['<', '\u{2028}', '\u{2029}']) {
        to.write_all(&rest.as_bytes()[..at])?;
        let mut chars = rest[at..].chars();
        if let Some(c) = chars.next() {
            write!(to, "\\u{:04x}", u32::from(c))?;
        }
        rest = chars.as_str();
    }
    to.write_all(rest.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{github::share, tree::Totals};
    use std::env;
    use std::process::{Command, Stdio};

    #[test]
    fn no_text_ends_a_script() {
        let mut written = Vec::new();
        let text = "</script><!-- \u{2028}é\u{0}";
        json(&mut written, &text).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(!written.contains('<') && !written.contains('\u{2028}'));
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }

    #[test]
    fn the_page_has_one_place_for_its_data() {
        assert_eq!(PROGRAM.matches(page::DATA).count(), 0);
        assert!(!PROGRAM.contains("</script") && !STYLE.contains("</style"));
    }

    /// Runs JavaScript and gives what it prints. `None` if there is nothing to run it.
    fn javascript(program: &str) -> Option<String> {
        let mut node = Command::new("node");
        node.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match node.spawn() {
            Ok(child) => child,
            Err(error) => {
                let skips = env::var_os("RKCOV_TEST_ALL").is_none();
                assert!(skips, "there is no node, of the package nodejs: {error}");
                println!("SKIPPED: there is no node");
                return None;
            }
        };
        let mut input = child.stdin.take().unwrap();
        input.write_all(program.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        Some(String::from_utf8(output.stdout).unwrap())
    }

    /// The page's program says of all these numbers what Markdown does.
    #[test]
    fn percentages_are_all_or_nothing_only_if_they_are() {
        const MANY: u64 = 4_000_000_000;
        let few = (1..=999).flat_map(|all| [(0, all), (1, all), (all / 3, all), (all, all)]);
        let nearly = (2..=20_000).map(|all| (all - 1, all));
        let many = [(1, MANY), (MANY / 7, MANY), (MANY - 1, MANY)];
        let pairs: Vec<(u64, u64)> = few.chain(nearly).chain(many).collect();
        let function = |name: &str| {
            let begin = format!("const {name} = ");
            PROGRAM
                .lines()
                .find(|line| line.starts_with(&begin))
                .unwrap()
        };
        let program = format!(
            "{}\n{}\nfor (const [ran, all] of {}) console.log(percent(part(ran, all, false)));\n",
            function("part"),
            function("percent"),
            serde_json::to_string(&pairs).unwrap()
        );
        let Some(said) = javascript(&program) else {
            return;
        };
        let expected = pairs.iter().map(|&(lines_ran, lines)| {
            let totals = Totals {
                lines_ran,
                lines,
                ..Totals::default()
            };
            share(totals)
        });
        assert!(said.lines().eq(expected.clone()));
        // As the page is, so is Markdown: nothing is rounded to all.
        for ((ran, all), shown) in pairs.iter().zip(expected) {
            assert_eq!(shown == "100.0 %", ran == all, "{ran} of {all}: {shown}");
            assert_eq!(shown == "0.0 %", *ran == 0, "{ran} of {all}: {shown}");
        }
    }
}
