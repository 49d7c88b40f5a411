// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tracefile format of lcov, which `genhtml`, editors and services read.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::style::harmless;
use super::Detail;
use crate::contexts::Contexts;
use crate::coverage::{FileView, View};
use crate::sources::Filter;

/// Writes a view as an lcov tracefile. Counts are those of the view. A view of one thread bears its
/// name as lcov's name of a test. A program with a single thread has no such name: it would be another
/// in each run.
///
/// # Errors
/// What `to` says.
pub fn lcov(view: &View<'_>, detail: Detail, to: &mut dyn Write) -> io::Result<()> {
    losses(view, to)?;
    part(view, &test_name(view), detail, to)
}

/// The same with a part for each context, which bears its name as lcov's name of a test. What nobody ran
/// is in each of them.
///
/// # Errors
/// What `to` says.
pub fn lcov_by_context(
    view: &View<'_>,
    contexts: &Contexts<'_>,
    filter: &Filter,
    detail: Detail,
    to: &mut dyn Write,
) -> io::Result<()> {
    losses(view, to)?;
    for row in contexts.rows() {
        let one = View::new(view.coverage, row.selection(), filter);
        let name = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        part(
            &one,
            &row.name.chars().map(name).collect::<String>(),
            detail,
            to,
        )?;
    }
    Ok(())
}

/// Lines that may have run have no count; why, lcov passes over.
fn losses(view: &View<'_>, to: &mut dyn Write) -> io::Result<()> {
    for loss in view.coverage.losses(&view.selection) {
        writeln!(to, "# rkcov: {}", harmless(&loss.to_string()))?;
    }
    if let Some(excluded) = super::alarms::excluded(view) {
        writeln!(to, "# rkcov: {excluded}")?;
    }
    Ok(())
}

fn part(view: &View<'_>, test: &str, detail: Detail, to: &mut dyn Write) -> io::Result<()> {
    for file in &view.files {
        writeln!(to, "TN:{test}")?;
        to.write_all(b"SF:")?;
        to.write_all(&path(file.path))?;
        writeln!(to)?;
        if detail == Detail::Each {
            functions(file, to)?;
        }
        writeln!(to, "FNF:{}", file.functions.len())?;
        writeln!(to, "FNH:{}", file.functions_ran())?;
        if detail == Detail::Each {
            for (line, count) in &file.lines {
                writeln!(to, "DA:{line},{count}")?;
            }
        }
        writeln!(to, "LF:{}", file.lines.len())?;
        writeln!(to, "LH:{}", file.lines_ran())?;
        writeln!(to, "end_of_record")?;
    }
    Ok(())
}

/// The bytes of a path, whatever they stand for: readers open the file by them. Only control
/// characters, which would end the line, are replaced.
fn path(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) => harmless(text).into_bytes(),
        Err(_) => bytes
            .iter()
            .map(|byte| if byte.is_ascii_control() { b'?' } else { *byte })
            .collect(),
    }
}

fn functions(file: &FileView<'_>, to: &mut dyn Write) -> io::Result<()> {
    // A name may stand for several functions (closures), but lcov knows functions by name.
    let mut names = BTreeSet::new();
    let functions: Vec<_> = file
        .functions
        .iter()
        .map(|(function, count)| {
            let mut name = harmless(&function.name);
            if !names.insert(name.clone()) {
                name = format!("{name}:{}", function.lines.0);
                names.insert(name.clone());
            }
            (name, function.lines.0, *count)
        })
        .collect();
    for (name, line, _) in &functions {
        writeln!(to, "FN:{line},{name}")?;
    }
    for (name, _, count) in &functions {
        writeln!(to, "FNDA:{count},{name}")?;
    }
    Ok(())
}

/// The thread's name, if the view is of one of several. lcov allows letters, digits and underscores.
fn test_name(view: &View<'_>) -> String {
    let coverage = view.coverage;
    let all = coverage.parties(0..coverage.streams.len());
    if all.threads() < 2 || coverage.parties(view.selection.streams.iter()).threads() != 1 {
        return String::new();
    }
    let mut streams = view.selection.streams.iter();
    let Some(stream) = streams.find_map(|index| coverage.streams.get(index)) else {
        return String::new();
    };
    let thread = stream.thread();
    let words = thread.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!("thread_{}", words.join("_"))
}
