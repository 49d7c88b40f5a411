// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov report`: what trace files say, for people and for tools.

use crate::config::Choice;
use crate::look::Screen;
use crate::reporter::{self, hexadecimal, Flag, List, Options, Request, Wanted};
use rkcov_report::sources::Pattern;
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `rkcov report`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Trace files; several give one report
    #[arg(required_unless_present = "pcs", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The report's format: text, a table for people; lcov, a tracefile for genhtml and editors; json,
    /// everything, for programs (docs/report.schema.json); pcs, the PCs only, one per line, as
    /// PATH+0xOFFSET; html, pages for a browser: a folder, or one file if PATH ends with .html;
    /// cobertura, XML for CI services; drcov, for disassembler plugins; github, annotations for a GitHub
    /// workflow, and its summary if GITHUB_STEP_SUMMARY is set; markdown, totals and a table of files;
    /// badge, an SVG badge with the line coverage; teamscale, Teamscale's Testwise Coverage, with --by
    /// context; parquet, a table for DuckDB, DataFusion or Spark (docs/queries.md). With PATH, the report
    /// is written to PATH. May be repeated. --html, --json and so on are short for --format html and so on
    /// [default: text]
    #[arg(long, value_name = "FORMAT[=PATH]")]
    format: Vec<Wanted>,
    #[command(flatten)]
    flag: Flag,
    /// Write the report to this file; for the format without its own PATH. Without --format, the end of
    /// PATH says the format: .html, .json, .info (lcov), .xml (cobertura), .md (markdown), .svg (badge),
    /// .parquet
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Report a list of PCs instead of a trace: return addresses as kcov records them, in hexadecimal,
    /// separated by white space or commas
    #[arg(
        long,
        value_name = "LIST",
        conflicts_with = "files",
        requires = "image"
    )]
    pcs: Option<PathBuf>,
    /// The program or vmlinux that contains the PCs of --pcs
    #[arg(long, value_name = "ELF", requires = "pcs")]
    image: Option<PathBuf>,
    /// For --pcs: the image's load address minus its address in the file, in hexadecimal
    #[arg(long, value_name = "HEX", requires = "pcs", value_parser = hexadecimal)]
    load_offset: Option<u64>,
    /// Report the valid part of a truncated or damaged trace
    #[arg(long)]
    salvage: bool,
    /// While `rkcov run` writes this trace: show what it has covered so far, again and again. At its end,
    /// print the report. Waits for the run if there is no trace yet
    #[arg(long, conflicts_with_all = ["pcs", "salvage"])]
    watch: bool,
    /// What to show.
    #[command(flatten)]
    options: Options,
    /// Do not show sources that match
    #[arg(long, value_name = "PATTERN", help_heading = "Sources")]
    exclude: Vec<Pattern>,
    /// Treat sources below this folder as part of the project, too
    #[arg(long, value_name = "DIR", help_heading = "Sources")]
    project: Vec<PathBuf>,
    /// Search this folder for executables and libraries that were moved
    #[arg(long, value_name = "DIR", help_heading = "Sources")]
    binaries: Vec<PathBuf>,
    /// What it looks like.
    #[command(flatten)]
    screen: Screen,
    /// Do not say what was written and how far it is; warnings are still printed
    #[arg(short, long, help_heading = "Terminal")]
    quiet: bool,
    #[command(flatten)]
    choice: Choice,
}

const HELP: &str = "\
Environment:
  RKCOV_CACHE_DIR  The folder for what is kept for the next report [default: $XDG_CACHE_HOME/rkcov, or
                   ~/.cache/rkcov]
  RKCOV_NO_CACHE   If set, keep nothing and use nothing that was kept
  DEBUGINFOD_URLS  Servers of missing debug information, programs and libraries; without it, nothing is
                   fetched. DEBUGINFOD_CACHE_PATH, DEBUGINFOD_TIMEOUT, DEBUGINFOD_MAXTIME,
                   DEBUGINFOD_MAXSIZE and DEBUGINFOD_HEADERS_FILE count, too (docs/report.md)
  NO_COLOR         If set, print no colours, unless --color says otherwise";

/// Writes the reports, as the options say and, where they say nothing, the configuration.
///
/// # Errors
/// A trace cannot be read, or a report cannot be written.
pub fn run(args: Args) -> Result<ExitCode, reporter::Error> {
    let list = args.pcs.zip(args.image).map(|(pcs, image)| List {
        pcs,
        image,
        offset: args.load_offset.unwrap_or(0),
    });
    let report = if args.watch {
        reporter::watch
    } else {
        reporter::write
    };
    report(Request {
        files: args.files,
        list,
        salvage: args.salvage,
        formats: match args.flag {
            Flag(Some(format)) => vec![format.into()],
            Flag(None) => args.format,
        },
        output: args.output,
        exclude: args.exclude,
        project: args.project,
        moved: Vec::new(),
        binaries: args.binaries,
        screen: args.screen,
        quiet: args.quiet,
        options: args.options,
        choice: args.choice,
        ..Request::default()
    })
}
