// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov show`: who ran a line or a function, and how they came there.

use super::traces::{print, with_coverage};
use crate::cache;
use crate::look::Screen;
use crate::reporter::Error;
use clap::ValueEnum;
use rkcov_report::place::Place;
use rkcov_report::render::{Answer, ShowOptions};
use std::path::PathBuf;
use std::process::ExitCode;

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// JSON for programs; docs/show.schema.json describes it
    Json,
}

/// The arguments of `rkcov show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// FILE:LINE, a FILE (the end of its path is enough), or the end of a function's name
    #[arg(value_name = "PLACE")]
    place: String,
    /// Trace files, taken as one
    #[arg(required = true, value_name = "TRACE")]
    files: Vec<PathBuf>,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// List all threads, even if there are many
    #[arg(long)]
    all: bool,
    /// Search this folder for executables and libraries that were moved
    #[arg(long, value_name = "DIR")]
    binaries: Vec<PathBuf>,
    /// What it looks like.
    #[command(flatten)]
    screen: Screen,
}

/// Answers.
///
/// # Errors
/// A trace cannot be read, there is no such place, or the answer cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let search = cache::search(&args.binaries);
    let answer = with_coverage(&args.files, &search, |coverage, traces| {
        // What is missing was said; that no line is known follows from it.
        if coverage.nothing_remains() {
            return Ok(None);
        }
        let places = Place::named(&coverage, &args.place)?;
        Ok::<_, Error>(Some(Answer::of(&coverage, &places, traces, &search)))
    })?;
    let Some(answer) = answer else {
        return Ok(ExitCode::FAILURE);
    };
    let look = args.screen.look();
    let options = ShowOptions {
        width: look.width,
        style: look.style,
        all: args.all,
    };
    let screen = (args.format == Format::Text).then_some(args.screen);
    print(screen, |to| match args.format {
        Format::Text => answer.text(&options, to),
        Format::Json => answer.json(to),
    })
}
