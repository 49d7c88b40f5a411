// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov diff`: the code that only one of two traces covered.

use super::traces::{print, with_coverage};
use crate::cache;
use crate::look::Screen;
use crate::reporter::Error;
use clap::ValueEnum;
use rkcov_report::contexts::{Contexts, Name};
use rkcov_report::coverage::{completed, Coverage, Selection, View};
use rkcov_report::render::Difference;
use rkcov_report::sources::{Filter, Pattern};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The format of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines and functions of each file, for people
    Text,
    /// JSON for programs; docs/diff.schema.json describes it
    Json,
}

/// The arguments of `rkcov diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The first trace file
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The second trace file
    #[arg(value_name = "B")]
    b: PathBuf,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Exit with status 1 if there is a difference
    #[arg(long)]
    exit_code: bool,
    /// Compare what these contexts ran, such as tests: a name, one with * for any characters, or re:REGEX
    #[arg(long, value_name = "NAME")]
    context: Vec<Name>,
    /// Of B take what these contexts ran instead; A and B may be the same trace
    #[arg(long, value_name = "NAME", requires = "context")]
    against: Vec<Name>,
    /// Compare only sources that match: a path, the end of a path, a folder, a glob, or re:REGEX
    #[arg(long, value_name = "PATTERN")]
    filter: Vec<Pattern>,
    /// Do not compare sources that match
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<Pattern>,
    /// Also compare system headers, Rust's standard libraries and other crates
    #[arg(long, visible_alias = "include-deps")]
    all_sources: bool,
    /// Also compare lines that marks in the sources exclude, as in `rkcov report`
    #[arg(long)]
    no_exclusions: bool,
    /// Search this folder for executables and libraries that were moved
    #[arg(long, value_name = "DIR")]
    binaries: Vec<PathBuf>,
    /// What it looks like.
    #[command(flatten)]
    screen: Screen,
}

/// Writes the difference.
///
/// # Errors
/// A trace cannot be read, or the difference cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let (mut a, mut b) = (coverage(args, &args.a)?, coverage(args, &args.b)?);
    let filter = Filter {
        only: args.filter.clone(),
        exclude: args.exclude.clone(),
        all: args.all_sources,
        ..Filter::default()
    };
    let filter = completed(filter, &[&a, &b]);
    if !args.no_exclusions {
        a.exclude(&filter);
        b.exclude(&filter);
    }
    let of_b = match &args.against[..] {
        [] => &args.context,
        against => against,
    };
    let view = |coverage, names: &[Name]| {
        let selection = match names {
            [] => Selection::all(coverage),
            names => Contexts::selection(coverage, names, false)?,
        };
        Ok::<_, Error>(View::new(coverage, selection, &filter))
    };
    let difference = Difference::of(&view(&a, &args.context)?, &view(&b, of_b)?);

    let look = args.screen.look();
    let screen = (args.format == Format::Text).then_some(args.screen);
    let printed = print(screen, |to| match args.format {
        Format::Text => difference.text(look.width, look.style, to),
        Format::Json => difference.json(to),
    })?;
    if args.exit_code && !difference.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    Ok(printed)
}

fn coverage(args: &Args, path: &Path) -> Result<Coverage, Error> {
    let search = cache::search(&args.binaries);
    with_coverage(&[path.to_owned()], &search, |coverage, _| Ok(coverage))
}
