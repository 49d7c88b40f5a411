// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo rkcov`: builds, runs and tests a cargo project, and reports what ran.

mod options;
mod place;
mod questions;

use crate::assembler;
use crate::cargo::args::{self, Known};
use crate::cargo::project::{self, Project};
use crate::cargo::tools::{Tool, NAMED_EXAMPLES};
use crate::cargo::Error as CargoError;
use crate::error::{self, say, Error};
use crate::record::{record, Found, Mode};
use crate::reporter;
use clap::{CommandFactory, FromArgMatches, Parser};
use options::{About, Again, Build, Collect, Shown, Tests, Which};
use place::{target_of, Place};
use rkcov::program::Outcome;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Records which code of a cargo project ran, without changes to the project.
#[derive(Debug, Parser)]
#[command(
    name = "cargo-rkcov",
    bin_name = "cargo rkcov",
    version,
    propagate_version = false,
    max_term_width = 100,
    after_help = HELP
)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

const ENV_HELP: &str = "\
For tools that run cargo themselves. The parentheses keep the variables from later commands:
  (eval \"$(cargo rkcov env)\" && maturin develop)";

const HELP: &str = "\
All options that are not rkcov's own are passed to cargo: --release, --features, --package, --test, \
--no-fail-fast, --target, --profile ...

Examples:
  cargo rkcov test
  cargo rkcov test --workspace --lcov --output-path lcov.info
  cargo rkcov test --summary-only --fail-under-lines 80
  cargo rkcov nextest -p my-crate --functions
  cargo rkcov run --release --bin server -- --port 8080";

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Build with instrumentation, for `rkcov run`
    #[command(visible_alias = "b")]
    Build(Build),
    /// Print variables with which any cargo command builds like `cargo rkcov build`
    #[command(visible_alias = "show-env", after_help = ENV_HELP)]
    Env(Build),
    /// Run a binary or example, and report the code that ran
    #[command(visible_alias = "r")]
    Run(Box<Collect>),
    /// Run the tests, including documentation tests, and report the code that ran
    #[command(visible_alias = "t")]
    Test(Box<Tests>),
    /// Run the benchmarks, and report the code that ran
    Bench(Box<Collect>),
    /// Run the tests with cargo-nextest, and report the code that ran
    Nextest(Box<Tests>),
    /// Report the last run again
    Report(Box<Again>),
    #[command(flatten)]
    Question(questions::Asked),
    /// Remove instrumented builds and traces
    Clean(About),
}

/// The commands that have no cargo read their command line.
const ALONE: [&str; 6] = [
    "report", "clean", "tests", "affected", "minimize", "similar",
];

/// Runs the command line `args`, the program's own name first. By that name cargo calls us as its
/// subcommand, or as one of the tools of a build.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    if args
        .first()
        .is_some_and(|name| assembler::is_called_by(name))
    {
        return assembler::main(&args);
    }
    let name = args.first().map(Path::new).unwrap_or(Path::new(""));
    let done = match Tool::of(name) {
        Some(tool) => tool.become_it(name, &args[1..]).map(|never| match never {}),
        None => run(args),
    };
    done.unwrap_or_else(|error| error::end("cargo rkcov", &error))
}

/// Runs a command line of cargo's subcommand.
fn run(mut args: Vec<OsString>) -> Result<ExitCode, Error> {
    // Cargo says the subcommand's name again.
    if args.get(1).is_some_and(|arg| arg == "rkcov") {
        args.remove(1);
    }
    let typed: Vec<OsString> = ["cargo".into(), "rkcov".into()]
        .into_iter()
        .chain(args.iter().skip(1).cloned())
        .collect();
    let cli = command();
    let name = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    let alone = ALONE.contains(&name);
    let mut resembling = None;
    if let Some(sub) = cli.find_subcommand(name) {
        let own = args::options(sub);
        let split = args::split(args.split_off(2), &own);
        args.extend(split.own);
        if !alone {
            resembling = args::resembling(&split.cargo, &own);
            args.extend(help_wanted(&split.cargo).then(|| "--help".into()));
            args.push("--".into());
        }
        args.extend(split.cargo);
    }
    let matches = cli.get_matches_from(args);
    let format = matches
        .subcommand()
        .and_then(|(_, chosen)| reporter::flagged(chosen));
    let command = Cli::from_arg_matches(&matches)
        .unwrap_or_else(|error| error.exit())
        .command;
    let with_format = |mut collect: Collect| {
        collect.shown.flag = format;
        collect
    };
    let done = match command {
        Sub::Build(args) => build(&args),
        Sub::Env(args) => print_variables(&args),
        Sub::Run(args) => collect("run", typed, with_format(*args)),
        Sub::Test(args) => collect("test", typed, with_format((*args).into())),
        Sub::Bench(args) => collect("bench", typed, with_format(*args)),
        Sub::Nextest(args) => collect("nextest", typed, with_format((*args).into())),
        Sub::Report(again) => {
            let Again {
                packages,
                about,
                mut shown,
            } = *again;
            shown.flag = format;
            let which = Which {
                packages,
                cargo: about.words(),
            };
            let place = Place::of(&which)?;
            place.report(place.traces().recorded(), &which, shown)
        }
        Sub::Question(asked) => questions::run(asked),
        Sub::Clean(about) => clean(&about),
    };
    if let (Ok(status), Some((theirs, ours))) = (&done, resembling) {
        // What cargo exits with if it does not understand its command line.
        if *status == ExitCode::FAILURE {
            say(format_args!(
                "cargo rkcov: {theirs} was passed to cargo; did you mean rkcov's {ours}?"
            ));
        }
    }
    done
}

/// Our command line, with the report's options in it.
pub(crate) fn command() -> clap::Command {
    let mut command = Cli::command();
    for name in ["run", "test", "bench", "nextest", "report"] {
        let flags = || reporter::flags().map(|flag| flag.conflicts_with("formats"));
        command = command.mut_subcommand(name, |sub| Shown::headings(sub.args(flags())));
    }
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    for name in names.iter().filter(|name| !ALONE.contains(&&***name)) {
        let usage = format!("cargo rkcov {name} [OPTIONS] [CARGO'S OPTIONS] [-- ARGUMENTS]");
        command = command.mut_subcommand(name, |sub| sub.override_usage(usage));
    }
    command
}

/// Whether our help is asked for, not the program's.
fn help_wanted(cargo: &[OsString]) -> bool {
    let ours = cargo.iter().take_while(|arg| *arg != "--");
    ours.into_iter().any(|arg| arg == "-h" || arg == "--help")
}

/// Has cargo build what it would run, and no more.
fn only_build(place: &Place, mode: Mode, cargo: &mut Command) -> Result<ExitCode, Error> {
    let status = cargo.status().map_err(|source| Error::Program {
        program: cargo.get_program().to_owned(),
        source,
    })?;
    if status.success() {
        let built = place.built(mode).join(&place.host);
        say(format_args!(
            "rkcov: instrumented, in {}; run it under `rkcov run`",
            built.display()
        ));
    }
    Ok(ExitCode::from(project::status(status)))
}

/// Builds what tests need, and gives the programs of the packages that are instrumented: of those that
/// no test runs, all is counted as not run. The status if cargo cannot build.
fn build_first(
    place: &Place,
    words: &[&str],
    args: &Collect,
) -> Result<Result<Vec<PathBuf>, ExitCode>, Error> {
    let theirs = |arg: &OsString| arg.to_string_lossy().starts_with("--message-format");
    if args.which.cargo.iter().any(theirs) {
        return Ok(Ok(Vec::new()));
    }
    let words = [
        words,
        &["--no-run", "--message-format=json-render-diagnostics"],
    ]
    .concat();
    let mut cargo = place.cargo(&words, &args.which, args.what.mode)?;
    let output = cargo.stderr(Stdio::inherit()).output();
    let output = output.map_err(|source| Error::Program {
        program: cargo.get_program().to_owned(),
        source,
    })?;
    if !output.status.success() {
        return Ok(Err(ExitCode::from(project::status(output.status))));
    }
    Ok(Ok(project::programs(&output.stdout, &place.chosen)))
}

fn build(args: &Build) -> Result<ExitCode, Error> {
    let place = Place::of(&args.which)?;
    let mode = if args.cmp { Mode::Cmp } else { Mode::Unique };
    let mut cargo = place.cargo(&["build"], &args.which, mode)?;
    only_build(&place, mode, &mut cargo)
}

fn print_variables(args: &Build) -> Result<ExitCode, Error> {
    let place = Place::of(&args.which)?;
    let mode = if args.cmp { Mode::Cmp } else { Mode::Unique };
    let mut text = Vec::new();
    for (name, value) in place.variables(&args.which, mode)? {
        text.extend(format!("export {name}='").bytes());
        for &byte in value.as_bytes() {
            match byte {
                b'\'' => text.extend(br"'\''"),
                byte => text.push(byte),
            }
        }
        text.extend(b"'\n");
    }
    io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs cargo's subcommand and reports. `typed` is our command line: cargo's own has options that nobody
/// typed.
fn collect(subcommand: &str, typed: Vec<OsString>, mut args: Collect) -> Result<ExitCode, Error> {
    let mut words = vec![subcommand];
    if subcommand == "nextest" {
        words.push("run");
        if args.which.cargo.first().is_some_and(|arg| arg == "run") {
            args.which.cargo.remove(0);
        }
    }
    let place = Place::of(&args.which)?;
    let tests = ["test", "nextest", "bench"].contains(&subcommand);
    if args.ignore_run_fail && tests && args.which.cargo.iter().all(|arg| arg != "--no-fail-fast") {
        words.push("--no-fail-fast");
    }
    let mut cargo = place.cargo(&words, &args.which, args.what.mode)?;
    if place.known.no_run {
        if args.shown.is_judged() {
            return Err(CargoError::NothingToJudge.into());
        }
        return only_build(&place, args.what.mode, &mut cargo);
    }
    let programs = if ["test", "bench"].contains(&subcommand)
        && !args.which.cargo.iter().any(|arg| arg == "--doc")
    {
        match build_first(&place, &words, &args)? {
            Ok(programs) => programs,
            Err(status) => return Ok(status),
        }
    } else {
        Vec::new()
    };
    if args.what.per_test {
        cargo.env(NAMED_EXAMPLES, "1");
    }
    let traces = place.traces();
    let keep = args.no_clean || args.no_report;
    let mut reported = if keep { traces.recorded() } else { Vec::new() };
    let doctests = place.target.join("doctests");
    let claim = traces.claim(!keep, || {
        // They are for the report alone; what is left of them is in nobody's way.
        let _ = fs::remove_dir_all(&doctests);
    })?;
    let trace = &claim.trace;
    reported.push(trace.clone());
    if args.shown.is_read_by_program() && !args.no_report {
        // A program reads the report there, and nothing else.
        cargo.stdout(io::stderr());
    }
    let recorded = record(
        &mut cargo,
        typed,
        args.what,
        trace,
        place.project.workspace_root.clone(),
        &programs,
    )?;
    let status = ExitCode::from(recorded.outcome.shell_status());
    let well = recorded.outcome == Outcome::Exited(0);
    match recorded.found() {
        Found::Coverage => {}
        found => {
            // A build that failed has said why.
            if well {
                say(format_args!("cargo rkcov: {}", why_nothing(found)));
            }
            return fs::remove_file(trace)
                .map(|()| status)
                .map_err(|source| file(trace, source));
        }
    }
    say(recorded.summary(trace).trim_end());
    let reported = if args.no_report {
        Ok(ExitCode::SUCCESS)
    } else {
        place.report(reported, &args.which, args.shown)
    };
    match reported {
        Ok(reported) if well || args.ignore_run_fail => Ok(reported),
        Err(error) if well || args.ignore_run_fail => Err(error),
        // What the program says of itself is worth more.
        Err(error) => {
            say(format_args!("cargo rkcov: {}", error::Chain(&error)));
            Ok(status)
        }
        Ok(_) => Ok(status),
    }
}

fn why_nothing(found: Found) -> &'static str {
    match found {
        Found::NothingRan => "none of the instrumented code ran",
        Found::Refused => "no program that ran could map rkcov's memory",
        Found::Strangers => "the programs that ran were built with another version of rkcov",
        Found::NoInstrumentation | Found::Coverage => "no program that ran is instrumented",
    }
}

fn clean(about: &About) -> Result<ExitCode, Error> {
    let known = Known::read(&about.words());
    let project = Project::read(&known.project, false)?;
    let target = target_of(&known, &project);
    if known.target_dir.is_none() {
        remove(&target)?;
        return Ok(ExitCode::SUCCESS);
    }
    // It may be where cargo builds, too, when we do not call it.
    let ours = ["trace", "doctests", "tools", "stores", "calls"];
    let host = project::host()?;
    for ours in ours.into_iter().chain([&*host]) {
        remove(&target.join(ours))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file(folder, source)),
        _ => Ok(()),
    }
}

fn file(path: &Path, source: io::Error) -> Error {
    CargoError::File {
        path: path.to_owned(),
        source,
    }
    .into()
}
