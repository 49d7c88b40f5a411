// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a workflow of GitHub shows: annotations beside lines that did not run, and a summary in Markdown.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::path::Path;

use super::paths::{root, within};
use super::style::{harmless, number, plural};
use super::tree::Totals;
use crate::coverage::{FileView, View};

/// Annotations of one job that are shown, by GitHub's own limit.
const ANNOTATIONS: usize = 50;
/// Files in a summary.
const FILES: usize = 50;

/// Writes an annotation for runs of lines that did not run, the longest first, as many as are shown.
///
/// # Errors
/// What `to` says.
pub fn github(view: &View<'_>, to: &mut dyn Write) -> io::Result<()> {
    let root = root(view);
    let mut gaps: Vec<(usize, &Path, u32, u32)> = Vec::new();
    for file in &view.files {
        gaps.extend(missed(file).map(|(lines, first, last)| (lines, file.path, first, last)));
    }
    gaps.sort_by_key(|(lines, path, first, _)| (Reverse(*lines), *path, *first));
    for (lines, path, first, last) in gaps.into_iter().take(ANNOTATIONS) {
        let path = property(&within(root, path));
        let message = match lines {
            1 => "This line did not run".to_owned(),
            n => format!("These {n} lines did not run"),
        };
        writeln!(
            to,
            "::warning file={path},line={first},endLine={last},title=Not covered::{message}"
        )?;
    }
    let message = escaped(&sentence(view));
    writeln!(to, "::notice title=Coverage::{message}")
}

/// Lines with code that follow each other and did not run: how many, the first, the last.
fn missed<'f>(file: &'f FileView<'_>) -> impl Iterator<Item = (usize, u32, u32)> + 'f {
    let mut lines = file.lines.iter().peekable();
    std::iter::from_fn(move || {
        let (first, _) = lines.find(|(_, count)| **count == 0)?;
        let (mut last, mut many) = (*first, 1);
        while let Some((line, _)) = lines.next_if(|(_, count)| **count == 0) {
            last = *line;
            many += 1;
        }
        Some((many, *first, last))
    })
}

/// The sums in words.
fn sentence(view: &View<'_>) -> String {
    let total = totals(view);
    let unknown = match total.unknown {
        0 => String::new(),
        n => format!(", {} unknown", number(n)),
    };
    let excluded = match view.coverage.excluded.count() {
        0 => String::new(),
        n => format!(", {} excluded", number(n as u64)),
    };
    format!(
        "{} lines ({}), {} functions{unknown}{excluded}",
        part(total.lines_ran, total.lines, total.partial),
        share(total),
        part(total.functions_ran, total.functions, total.partial),
    )
}

fn totals(view: &View<'_>) -> Totals {
    let mut totals = Totals::default();
    view.files
        .iter()
        .for_each(|file| totals.add(Totals::of(file)));
    totals
}

fn part(ran: u64, known: u64, partial: bool) -> String {
    if partial {
        number(ran)
    } else {
        format!("{} of {}", number(ran), number(known))
    }
}

/// With one decimal, rounded down: 100 is all, and 0 is nothing.
pub(super) fn share(totals: Totals) -> String {
    match (totals.lines_ran * 1000).checked_div(totals.lines) {
        Some(parts) if !totals.partial => {
            let parts = parts.max(totals.lines_ran.min(1));
            format!("{}.{} %", parts / 10, parts % 10)
        }
        _ => "not known of how many".to_owned(),
    }
}

/// Writes the sums and a table of files, those that lack most first.
///
/// # Errors
/// What `to` says.
pub fn markdown(view: &View<'_>, to: &mut dyn Write) -> io::Result<()> {
    let root = root(view);
    writeln!(to, "### Coverage: {}\n", sentence(view))?;
    let alarms = super::alarms::alarms(view);
    for alarm in &alarms {
        writeln!(to, "> {}\n", cell(alarm))?;
    }
    writeln!(to, "| file | lines | ran | functions | did not run |")?;
    writeln!(to, "| --- | ---: | ---: | ---: | --- |")?;
    let mut files: Vec<&FileView<'_>> = view.files.iter().collect();
    files.sort_by_key(|file| (Reverse(file.lines.len() - file.lines_ran()), file.path));
    for file in files.iter().take(FILES) {
        let sum = Totals::of(file);
        let gaps = file.lines.iter().filter(|(_, count)| **count == 0);
        let gaps = super::style::ranges(gaps.map(|(line, _)| *line));
        let more = if gaps.len() > 8 { ", …" } else { "" };
        let gaps = gaps[..gaps.len().min(8)].join(", ");
        writeln!(
            to,
            "| {} | {} | {} | {} | {gaps}{more} |",
            cell(&within(root, file.path)),
            share(sum),
            part(sum.lines_ran, sum.lines, sum.partial),
            part(sum.functions_ran, sum.functions, sum.partial),
        )?;
    }
    if let Some(more) = files.len().checked_sub(FILES).filter(|more| *more > 0) {
        writeln!(to, "\nand {}", plural(more as u64, "more file"))?;
    }
    Ok(())
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in harmless(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// A message of a workflow command.
fn escaped(text: &str) -> String {
    let text = text.replace('%', "%25").replace('\r', "%0D");
    text.replace('\n', "%0A")
}

/// A property of a workflow command.
fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_no_command_and_no_cell() {
        assert_eq!(property("a,b:c\n100%"), "a%2Cb%3Ac%0A100%25");
        assert_eq!(cell("a_b|<i>&`"), "a\\_b\\|&lt;i>&amp;\\`");
    }

    #[test]
    fn gaps_are_lines_with_code_in_a_row() {
        let file = FileView {
            path: Path::new("a.c"),
            lines: [(1, 0), (4, 0), (5, 2), (6, 0), (9, 1)].into(),
            functions: Vec::new(),
            complete: true,
            unknown: Vec::new(),
            unknown_functions: Vec::new(),
            comparisons: [].into(),
        };
        let gaps: Vec<_> = missed(&file).collect();
        assert_eq!(gaps, [(2, 1, 4), (1, 6, 6)]);
    }

    #[test]
    fn a_share_is_all_or_nothing_only_if_it_is() {
        for (ran, all, shown) in [
            (0, 7, "0.0 %"),
            (7, 7, "100.0 %"),
            (1, 1_000_000, "0.1 %"),
            (1999, 2000, "99.9 %"),
            (999_999, 1_000_000, "99.9 %"),
        ] {
            let totals = Totals {
                lines_ran: ran,
                lines: all,
                ..Totals::default()
            };
            assert_eq!(share(totals), shown, "{ran} of {all}");
        }
    }
}
