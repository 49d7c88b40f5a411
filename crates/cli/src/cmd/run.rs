// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov run`: runs a program and records what it runs.

use crate::each;
use crate::error::{self, say, Error};
use crate::record::{record_work, Found, Mode, Recorded, What, Work};
use crate::reporter::{self, Request, Wanted};
use crate::toolchain::find;
use rkcov::collector::REFUSAL;
use rkcov::program::Outcome;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The arguments of `rkcov run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    what: What,
    /// A name for all work of the program, and of what it starts, that no other context has
    #[arg(long, value_name = "NAME")]
    context: Option<OsString>,
    #[command(flatten)]
    each: each::Inputs,
    /// The trace file to write; a file that is there is replaced [default: the program's name with .rkcov, in
    /// this folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write a report at the end, like `rkcov report`: text, lcov, json or pcs, to PATH or standard output
    #[arg(long, value_name = "FORMAT[=PATH]")]
    report: Vec<Wanted>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Runs the program and gives its exit status.
///
/// # Errors
/// The program cannot be started, or the trace cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let output = match &args.output {
        Some(path) => path.clone(),
        None => default_output(program),
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let directory = std::env::current_dir().unwrap_or_default();
    let work = Work {
        context: args.context.clone(),
        inputs: args.each.all()?,
        typed: None,
    };
    let recorded = record_work(&mut command, &work, args.what, &output, directory, &[])?;
    say(summary(args, &output, &recorded).trim_end());

    let mut status = ExitCode::from(recorded.outcome.shell_status());
    for Wanted { format, path } in &args.report {
        let request = Request::plain(&output, *format, path.clone());
        if let Err(error) = reporter::write(request) {
            // What the program says of itself is worth more.
            if recorded.outcome == Outcome::Exited(0) {
                status = ExitCode::FAILURE;
            }
            say(format_args!("rkcov: {}", error::Chain(&error)));
        }
    }
    Ok(status)
}

fn default_output(program: &OsStr) -> PathBuf {
    let mut name = Path::new(program)
        .file_name()
        .unwrap_or(OsStr::new("program"))
        .to_owned();
    name.push(".rkcov");
    name.into()
}

/// What a person should know at the end.
fn summary(args: &Args, output: &Path, recorded: &Recorded) -> String {
    let program = args.command.first().map_or(OsStr::new(""), |p| p);
    let shown = Path::new(program).display();
    let hint = match recorded.found() {
        Found::Coverage | Found::NothingRan
            if args.what.mode == Mode::Cmp && recorded.is_empty() =>
        {
            format!("rkcov: no comparison was recorded: was {shown} built with `rkcov cc --cmp`?\n")
        }
        Found::Coverage | Found::Strangers | Found::Refused => String::new(),
        Found::NoInstrumentation if has(program, SITES) && !has(program, REFUSAL) => format!(
            "rkcov: {shown} has instrumented code, but not the runtime: link it with `rkcov cc`, too\n"
        ),
        Found::NoInstrumentation if has(program, REFUSAL) => format!(
            "rkcov: {shown} has the runtime, but was not recorded: it is setuid, or the process that \
             started it closed its files and changed its user or its environment\n"
        ),
        Found::NoInstrumentation => format!(
            "rkcov: {shown} is not instrumented, and it ran no instrumented program; build it with \
             CC=\"rkcov cc\" (on make's command line if the makefile sets CC), or with `cargo rkcov \
             build`\n"
        ),
        Found::NothingRan => format!(
            "rkcov: {shown} has the runtime, but ran no instrumented code; compile with `rkcov cc`, not only link\n"
        ),
    };
    format!("{hint}{}", recorded.summary(output))
}

/// The section of checks, which a file has whose code has some.
const SITES: &[u8] = b"rkcov_sites";

/// Whether these bytes are in the file of a program that did not come to us: the runtime's, for instance.
fn has(program: &OsStr, what: &[u8]) -> bool {
    let bytes = find(program)
        .ok()
        .and_then(|found| fs::read(found.path).ok());
    bytes.is_some_and(|bytes| memchr::memmem::find(&bytes, what).is_some())
}
