// SPDX-License-Identifier: MIT OR Apache-2.0
//! What commands on traces have in common: they read some, and print something.

use crate::error::{say, CLOSED_PIPE};
use crate::look::Screen;
use crate::pager::Paged;
use crate::progress::Shown;
use crate::reporter::Error;
use rkcov_report::coverage::{Coverage, Named};
use rkcov_report::image::Search;
use rkcov_report::trace::TraceFile;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Reads traces as one, says what is missing of their programs, and gives both to `then`.
///
/// # Errors
/// A trace cannot be read; or what `then` says.
pub(super) fn with_coverage<T, E: From<Error>>(
    files: &[PathBuf],
    search: &Search,
    then: impl FnOnce(Coverage, &[Named<'_>]) -> Result<T, E>,
) -> Result<T, E> {
    let opened = files.iter().map(TraceFile::open);
    let opened: Vec<TraceFile> = opened.collect::<Result<_, _>>().map_err(Error::from)?;
    let traces = opened.iter().map(TraceFile::trace);
    let traces: Vec<_> = traces.collect::<Result<_, _>>().map_err(Error::from)?;
    let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    let named: Vec<Named<'_>> = names
        .iter()
        .zip(&traces)
        .map(|(name, trace)| Named { name, trace })
        .collect();
    let shown = Shown::new(false);
    let coverage = Coverage::watched(&named, search, shown.progress()).map_err(Error::from)?;
    drop(shown);
    for problem in coverage.images.iter().flat_map(|image| &image.problems) {
        say(format_args!("rkcov: {problem}"));
    }
    then(coverage, &named)
}

/// Prints to standard output: what people read through a pager, if `screen` is theirs and that is needed. If the
/// reader is gone, nothing more is to be said.
///
/// # Errors
/// It cannot be written.
pub(super) fn print(
    screen: Option<Screen>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<ExitCode, Error> {
    let rows = screen.map_or_else(Paged::plain, Screen::paged);
    let mut to = BufWriter::new(rows);
    let written = write(&mut to).and_then(|()| to.flush());
    let written = written.and_then(|()| match to.into_inner() {
        Ok(paged) => paged.finish(),
        Err(failed) => Err(failed.into_error()),
    });
    match written {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::from(CLOSED_PIPE)),
        Err(source) => Err(Error::Write {
            path: "standard output".into(),
            source,
        }),
    }
}
