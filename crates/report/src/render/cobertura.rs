// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cobertura's XML, after coverage-04.dtd: what CI services read.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::paths::{root, within};
use super::style::shown;
use super::xml::escaped;
use super::Detail;
use crate::coverage::{FileView, View};

/// Writes a view as Cobertura's XML. A package is a folder, a class a file. Branches are not known.
///
/// # Errors
/// What `to` says.
pub fn cobertura(view: &View<'_>, detail: Detail, to: &mut dyn Write) -> io::Result<()> {
    let root = root(view);
    let runs = view.coverage.runs.iter();
    let newest = runs.map(|run| run.info.started).max();
    let time = newest.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let (ran, known) = (view.lines_ran(), view.lines_known());
    let mut packages: BTreeMap<&Path, Vec<&FileView<'_>>> = BTreeMap::new();
    for file in &view.files {
        let folder = file.path.parent().unwrap_or(Path::new(""));
        packages.entry(folder).or_default().push(file);
    }
    writeln!(to, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(
        to,
        "<!DOCTYPE coverage SYSTEM \"http://cobertura.sourceforge.net/xml/coverage-04.dtd\">"
    )?;
    writeln!(
        to,
        "<coverage line-rate=\"{}\" branch-rate=\"0\" lines-covered=\"{ran}\" lines-valid=\"{known}\" \
         branches-covered=\"0\" branches-valid=\"0\" complexity=\"0\" version=\"rkcov {}\" timestamp=\"{}\">",
        rate(ran, known),
        env!("CARGO_PKG_VERSION"),
        time.map_or(0, |time| time.as_secs()),
    )?;
    let source = escaped(&shown(root));
    writeln!(to, "<sources><source>{source}</source></sources>")?;
    writeln!(to, "<packages>")?;
    for (folder, files) in packages {
        let ran = files.iter().map(|file| file.lines_ran()).sum();
        let known = files.iter().map(|file| file.lines.len()).sum();
        writeln!(
            to,
            "<package name=\"{}\" line-rate=\"{}\" branch-rate=\"0\" complexity=\"0\"><classes>",
            escaped(&within(root, folder).replace('/', ".")),
            rate(ran, known),
        )?;
        for file in files {
            class(file, root, detail, to)?;
        }
        writeln!(to, "</classes></package>")?;
    }
    writeln!(to, "</packages>")?;
    writeln!(to, "</coverage>")
}

fn class(file: &FileView<'_>, root: &Path, detail: Detail, to: &mut dyn Write) -> io::Result<()> {
    let name = file.path.file_name().unwrap_or_default();
    writeln!(
        to,
        "<class name=\"{}\" filename=\"{}\" line-rate=\"{}\" branch-rate=\"0\" complexity=\"0\">",
        escaped(&shown(Path::new(name))),
        escaped(&within(root, file.path)),
        rate(file.lines_ran(), file.lines.len()),
    )?;
    writeln!(to, "<methods>")?;
    let functions = file.functions.iter().filter(|_| detail == Detail::Each);
    for (function, _) in functions {
        let (first, last) = function.lines;
        let lines: Vec<(u32, u64)> = file
            .lines
            .range(first..=last)
            .map(|(l, n)| (*l, *n))
            .collect();
        let ran = lines.iter().filter(|(_, count)| *count > 0).count();
        writeln!(
            to,
            "<method name=\"{}\" signature=\"\" line-rate=\"{}\" branch-rate=\"0\" complexity=\"0\">",
            escaped(&function.name),
            rate(ran, lines.len()),
        )?;
        write_lines(lines, to)?;
        writeln!(to, "</method>")?;
    }
    writeln!(to, "</methods>")?;
    let lines = file.lines.iter().filter(|_| detail == Detail::Each);
    write_lines(lines.map(|(line, count)| (*line, *count)), to)?;
    writeln!(to, "</class>")
}

fn write_lines(lines: impl IntoIterator<Item = (u32, u64)>, to: &mut dyn Write) -> io::Result<()> {
    writeln!(to, "<lines>")?;
    for (line, count) in lines {
        writeln!(to, "<line number=\"{line}\" hits=\"{count}\"/>")?;
    }
    writeln!(to, "</lines>")
}

/// A part of one with four decimals, rounded down: only all is 1. Of nothing, nothing is missing.
fn rate(ran: usize, known: usize) -> String {
    let parts = (ran * 10_000).checked_div(known).unwrap_or(10_000);
    format!("{}.{:04}", parts / 10_000, parts % 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rounded_down() {
        let rates =
            [(0, 3), (2, 3), (9_999_999, 10_000_000), (3, 3), (0, 0)].map(|(a, b)| rate(a, b));
        assert_eq!(rates, ["0.0000", "0.6666", "0.9999", "1.0000", "1.0000"]);
    }
}
