// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov trace`: who called whom, in the order in which it happened.

use super::traces::{print, with_coverage};
use crate::cache;
use crate::look::Screen;
use crate::reporter::{together, Error};
use clap::ValueEnum;
use rkcov_report::contexts::{Contexts, Name};
use rkcov_report::coverage::{Coverage, Named, Selection, Thread};
use rkcov_report::render::{story, story_json, StoryOptions};
use rkcov_report::story::Story;
use rkcov_report::trace::Mode;
use std::path::PathBuf;
use std::process::ExitCode;

/// The format of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Indented calls, for people
    Text,
    /// JSON for programs; docs/trace.schema.json describes it
    Json,
}

/// The arguments of `rkcov trace`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Trace files, recorded with --mode trace
    #[arg(required = true, value_name = "TRACE")]
    files: Vec<PathBuf>,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Show calls up to this depth, and count those that are deeper
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    depth: u16,
    /// Show only these threads: main, workers, a thread's id or name
    #[arg(long, value_name = "THREAD")]
    thread: Vec<Thread>,
    /// Show what ran in these contexts, such as tests: a name, one with * for any characters, or re:REGEX;
    /// with --thread, what these threads ran in them
    #[arg(long, value_name = "NAME")]
    context: Vec<Name>,
    /// Search this folder for executables and libraries that were moved
    #[arg(long, value_name = "DIR")]
    binaries: Vec<PathBuf>,
    /// What it looks like.
    #[command(flatten)]
    screen: Screen,
}

/// Tells the story.
///
/// # Errors
/// A trace cannot be read or has no order, there is no such thread, or the story cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let search = cache::search(&args.binaries);
    let (coverage, told) = with_coverage(&args.files, &search, |coverage, traces| {
        has_order(traces)?;
        let selection = selection(args, &coverage)?;
        let traces: Vec<_> = traces.iter().map(|named| named.trace).collect();
        let told = Story::of(&traces, &search, &selection.streams);
        Ok::<_, Error>((coverage, told))
    })?;
    let look = args.screen.look();
    let depth = usize::from(args.depth);
    let options = StoryOptions {
        width: look.width,
        style: look.style,
        depth,
    };
    let screen = (args.format == Format::Text).then_some(args.screen);
    print(screen, |to| match args.format {
        Format::Text => story(&coverage, &told, &options, to),
        Format::Json => story_json(&coverage, &told, depth, to),
    })
}

fn has_order(traces: &[Named<'_>]) -> Result<(), Error> {
    let other = traces
        .iter()
        .find(|named| named.trace.info().mode != Mode::Trace);
    match other {
        Some(named) => Err(Error::NoOrder {
            trace: named.name.to_owned(),
            mode: named.trace.info().mode,
        }),
        None => Ok(()),
    }
}

fn selection(args: &Args, coverage: &Coverage) -> Result<Selection, Error> {
    let contexts = match args.context.is_empty() {
        true => None,
        false => Some(Contexts::selection(coverage, &args.context, false)?),
    };
    together(coverage, contexts, &args.thread, false)
}
