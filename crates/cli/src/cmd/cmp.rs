// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov cmp`: what a program compared, and what a fuzzer would try.

use super::traces::{print, with_coverage};
use crate::cache;
use crate::look::Screen;
use crate::reporter::Error;
use clap::ValueEnum;
use rkcov_report::coverage::{completed, Coverage, Named, Selection, View};
use rkcov_report::render::{Compared, OperandOptions};
use rkcov_report::sources::{Filter, Pattern};
use rkcov_report::trace::Mode;
use std::path::PathBuf;
use std::process::ExitCode;

/// The format of comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines with what was compared there, for people
    Text,
    /// JSON for programs; docs/cmp.schema.json describes it
    Json,
}

/// The arguments of `rkcov cmp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Trace files, recorded with --mode cmp
    #[arg(required = true, value_name = "TRACE")]
    files: Vec<PathBuf>,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Show only comparisons whose operands were never equal
    #[arg(long)]
    tries: bool,
    /// Show all operands of a comparison, even if there are many
    #[arg(long)]
    all: bool,
    /// Show only sources that match: a path, the end of a path, a folder, a glob, or re:REGEX
    #[arg(long, value_name = "PATTERN")]
    filter: Vec<Pattern>,
    /// Do not show sources that match
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<Pattern>,
    /// Also show system headers, Rust's standard libraries and other crates
    #[arg(long, visible_alias = "include-deps")]
    all_sources: bool,
    /// Search this folder for executables and libraries that were moved
    #[arg(long, value_name = "DIR")]
    binaries: Vec<PathBuf>,
    /// What it looks like.
    #[command(flatten)]
    screen: Screen,
}

/// Shows the comparisons.
///
/// # Errors
/// A trace cannot be read or has no comparisons, or they cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let search = cache::search(&args.binaries);
    let coverage = with_coverage(&args.files, &search, |coverage, traces| {
        has_comparisons(&coverage, traces)?;
        Ok::<_, Error>(coverage)
    })?;
    let filter = Filter {
        only: args.filter.clone(),
        exclude: args.exclude.clone(),
        all: args.all_sources,
        ..Filter::default()
    };
    let filter = completed(filter, &[&coverage]);
    let view = View::new(&coverage, Selection::all(&coverage), &filter);
    let compared = Compared::of(&view, args.tries);
    let look = args.screen.look();
    let options = OperandOptions {
        width: look.width,
        style: look.style,
        all: args.all,
    };
    let screen = (args.format == Format::Text).then_some(args.screen);
    print(screen, |to| match args.format {
        Format::Text => compared.text(&options, to),
        Format::Json => compared.json(to),
    })
}

/// Traces of comparisons and others cannot be read as one: the first tells of all.
fn has_comparisons(coverage: &Coverage, traces: &[Named<'_>]) -> Result<(), Error> {
    match traces.first() {
        Some(first) if coverage.mode != Mode::Cmp => Err(Error::NoComparisons {
            trace: first.name.to_owned(),
            mode: first.trace.info().mode,
        }),
        _ => Ok(()),
    }
}
