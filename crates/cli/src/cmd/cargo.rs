// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo rkcov`: builds, runs and tests a cargo project, and reports what ran.

use super::report::{self, Format};
use crate::cargo::args::{self, Known, Options};
use crate::cargo::project::{self, Chosen, Project};
use crate::cargo::tools::{Plan, Wishes};
use crate::cargo::Error as CargoError;
use crate::error::{self, say, Error};
use crate::record::{record, Found, Mode, What};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum};
use rkcov::program::Outcome;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Records which code of a cargo project ran, with nothing changed in the project.
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

const HELP: &str = "\
Every option that is none of rkcov's is cargo's, and means what it always means: --release, \
--features, --package, --test, --no-fail-fast, --target, --profile ...

Examples:
  cargo rkcov test
  cargo rkcov test --workspace --lcov --output-path lcov.info
  cargo rkcov test --summary-only --fail-under-lines 80
  cargo rkcov nextest -p my-crate --functions
  cargo rkcov run --release --bin server -- --port 8080";

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Build, instrumented; run what comes of it under `rkcov run`
    #[command(visible_alias = "b")]
    Build(Build),
    /// Run a binary or example, and report what it ran
    #[command(visible_alias = "r")]
    Run(Collect),
    /// Run the tests, those in documentation too, and report what they ran
    #[command(visible_alias = "t")]
    Test(Collect),
    /// Run the benchmarks, and report what they ran
    Bench(Collect),
    /// Run the tests by cargo-nextest, and report what they ran
    Nextest(Collect),
    /// Report once more what the last run recorded
    Report(Again),
    /// Remove what was built and recorded here
    Clean(Again),
}

/// Options of `rkcov report` that a user of cargo knows for something else, or does not need.
const NOT_OFFERED: [&str; 9] = [
    "files", "format", "output", "salvage", "project", "binaries", "exclude", "color", "help",
];

#[derive(Debug, clap::Args)]
struct Which {
    /// Instrument this package too: a dependency, from wherever it comes
    #[arg(long, value_name = "SPEC", help_heading = "Packages")]
    include: Vec<String>,
    /// Do not instrument this package [default: all of the workspace, or those of --package]
    #[arg(long, value_name = "SPEC", help_heading = "Packages")]
    exclude_from_report: Vec<String>,
    /// Instrument C and C++ that build scripts compile, too
    #[arg(long, alias = "include-ffi", help_heading = "Packages")]
    with_c: bool,
    /// Compile functions that nothing calls, too, which are then reported as not run
    #[arg(long, help_heading = "Packages")]
    with_dead_code: bool,
    /// Cargo's options, and behind another `--` the program's
    #[arg(last = true, hide = true)]
    cargo: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
struct Build {
    #[command(flatten)]
    which: Which,
    /// Report comparisons too, for `rkcov run --mode cmp`: slower
    #[arg(long)]
    cmp: bool,
}

#[derive(Debug, clap::Args)]
struct Collect {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    shown: Shown,
    /// Keep what earlier runs recorded, and report all together
    #[arg(long)]
    no_clean: bool,
    /// Do not report now; `cargo rkcov report` does. Implies --no-clean
    #[arg(long, conflicts_with = "fail_under_lines")]
    no_report: bool,
    /// Run all tests although some fail, and be content with them
    #[arg(long)]
    ignore_run_fail: bool,
}

#[derive(Debug, clap::Args)]
struct Again {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, clap::Args)]
struct Shown {
    /// Write the report to this file
    #[arg(long, value_name = "PATH", help_heading = "Report")]
    output_path: Option<PathBuf>,
    /// Do not show sources whose path matches
    #[arg(long, value_name = "REGEX", help_heading = "Report")]
    ignore_filename_regex: Vec<String>,
    /// Show the sources of tests, benches and examples too
    #[arg(long, help_heading = "Report")]
    include_tests: bool,
}

/// Runs the command line `args`, the program's own name first.
///
/// # Errors
/// What keeps us from running cargo, or from writing the trace or the report.
pub fn run(mut args: Vec<OsString>) -> Result<ExitCode, Error> {
    // Cargo says the subcommand's name again.
    if args.get(1).is_some_and(|arg| arg == "rkcov") {
        args.remove(1);
    }
    let cli = command();
    let name = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    let mut of_report = Vec::new();
    if let Some(sub) = cli.find_subcommand(name) {
        let mut own = args::options(sub);
        let mut report = report_options();
        report.retain(|name, _| own.remove(name).is_some());
        let split = args::split(args.split_off(2), &own, &report);
        args.extend(split.own);
        // So that what is wrong with them is said before anything runs.
        args.extend(split.report.iter().cloned());
        args.extend(help_wanted(&split.cargo).then(|| "--help".into()));
        args.push("--".into());
        args.extend(split.cargo);
        of_report = split.report;
    }
    let matches = cli.get_matches_from(args);
    let format = matches
        .subcommand()
        .map_or(Format::Text, |(_, chosen)| chosen_format(chosen));
    let how = How {
        format,
        options: of_report,
    };
    match Cli::from_arg_matches(&matches)
        .unwrap_or_else(|error| error.exit())
        .command
    {
        Sub::Build(args) => build(&args),
        Sub::Run(args) => collect("run", &args, &how),
        Sub::Test(args) => collect("test", &args, &how),
        Sub::Bench(args) => collect("bench", &args, &how),
        Sub::Nextest(args) => collect("nextest", &args, &how),
        Sub::Report(args) => {
            let place = Place::of(&args.which)?;
            place.report(&args.which, &args.shown, &how)
        }
        Sub::Clean(args) => clean(&args.which),
    }
}

/// How a report is to look.
struct How {
    format: Format,
    /// Options of `rkcov report`.
    options: Vec<OsString>,
}

/// Our command line, with the report's options in it.
fn command() -> clap::Command {
    let mut command = Cli::command();
    for name in ["run", "test", "bench", "nextest", "report"] {
        command = command.mut_subcommand(name, |sub| sub.args(formats()).args(of_report()));
    }
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    for name in names {
        let usage = format!("cargo rkcov {name} [OPTIONS] [CARGO'S OPTIONS] [-- ARGUMENTS]");
        command = command.mut_subcommand(name, |sub| sub.override_usage(usage));
    }
    command
}

/// A flag for each format.
fn formats() -> impl Iterator<Item = clap::Arg> {
    Format::value_variants().iter().filter_map(|format| {
        let value = format.to_possible_value()?;
        let name = value.get_name().to_owned();
        let help = value.get_help().cloned().unwrap_or_default();
        let others = Format::value_variants()
            .iter()
            .filter(move |other| *other != format);
        let others =
            others.filter_map(|other| Some(other.to_possible_value()?.get_name().to_owned()));
        Some(
            clap::Arg::new(name.clone())
                .long(name)
                .help(help)
                .action(clap::ArgAction::SetTrue)
                .conflicts_with_all(others.map(clap::Id::from).collect::<Vec<_>>())
                .help_heading("Report"),
        )
    })
}

fn chosen_format(matches: &ArgMatches) -> Format {
    let set = |format: &&Format| {
        let value = format.to_possible_value();
        let name = value.as_ref().map_or("", |value| value.get_name());
        matches.try_get_one::<bool>(name).ok().flatten() == Some(&true)
    };
    Format::value_variants()
        .iter()
        .find(set)
        .copied()
        .unwrap_or(Format::Text)
}

/// The options of `rkcov report` that are offered here.
fn of_report() -> Vec<clap::Arg> {
    let report = ReportLine::command();
    let offered = |arg: &&clap::Arg| !NOT_OFFERED.contains(&arg.get_id().as_str());
    let heading = |arg: &clap::Arg| match arg.get_help_heading() {
        Some(heading) => format!("Report: {}", heading.to_lowercase()),
        None => "Report".into(),
    };
    let arguments = report.get_arguments().filter(offered);
    arguments
        .map(|arg| arg.clone().help_heading(heading(arg)))
        .collect()
}

fn report_options() -> Options {
    args::options(&clap::Command::new("report").args(of_report()))
}

/// Whether our help is asked for, not the program's.
fn help_wanted(cargo: &[OsString]) -> bool {
    let ours = cargo.iter().take_while(|arg| *arg != "--");
    ours.into_iter().any(|arg| arg == "-h" || arg == "--help")
}

/// The command line of `rkcov report`.
#[derive(Debug, Parser)]
#[command(name = "cargo rkcov", disable_help_flag = true)]
struct ReportLine {
    #[command(flatten)]
    args: report::Args,
}

/// Where a build goes, and what it is of.
struct Place {
    known: Known,
    project: Project,
    chosen: Chosen,
    host: String,
    /// Cargo's target folder.
    target: PathBuf,
}

impl Place {
    fn of(which: &Which) -> Result<Self, Error> {
        let known = Known::read(&which.cargo);
        let host = project::host()?;
        let other = known.targets.iter().find(|target| **target != host);
        if let Some(target) = other.cloned() {
            return Err(CargoError::Target { target, host }.into());
        }
        let project = Project::read(&known.project, !which.include.is_empty() || which.with_c)?;
        let chosen = project.choose(&known.choice(&which.include, &which.exclude_from_report))?;
        let target = match &known.target_dir {
            Some(folder) => std::path::absolute(folder).unwrap_or_else(|_| folder.clone()),
            None => project.target_directory.join("rkcov"),
        };
        Ok(Self {
            known,
            project,
            chosen,
            host,
            target,
        })
    }

    /// The command line of cargo's `subcommand`, with all that makes it build what we want.
    fn cargo(
        &self,
        subcommand: &[&str],
        which: &Which,
        comparisons: bool,
    ) -> Result<Command, Error> {
        let wishes = Wishes {
            comparisons,
            dead_code: which.with_dead_code,
            with_c: which.with_c,
        };
        let users = self.project.tools(&self.known.project);
        let plan = Plan::new(&self.chosen, wishes, users, &self.target)?;
        let mut cargo = project::cargo();
        cargo
            .args(subcommand)
            .args(&which.cargo)
            .envs(plan.install(&self.target)?)
            // A crate is one codegen unit here: all of it is compiled anew anyway.
            .env("CARGO_INCREMENTAL", "0");
        if self.known.targets.is_empty() {
            cargo.env("CARGO_BUILD_TARGET", &self.host);
        }
        if self.known.target_dir.is_none() {
            cargo.env("CARGO_TARGET_DIR", &self.target);
        }
        Ok(cargo)
    }

    /// The folder of the traces.
    fn traces(&self) -> PathBuf {
        self.target.join("trace")
    }

    /// A name for the next trace, which no other run that goes on now has.
    fn next_trace(&self) -> Result<Claim, Error> {
        let folder = self.traces();
        fs::create_dir_all(&folder).map_err(|source| file(&folder, source))?;
        for n in 1_u32.. {
            let trace = folder.join(format!("{n}.rkcov"));
            let claim = folder.join(format!("{n}.{CLAIM}"));
            match File::create_new(&claim) {
                Ok(mut new) => {
                    let claim = Claim { trace, claim };
                    if claim.trace.exists() {
                        continue;
                    }
                    return write!(new, "{}", std::process::id())
                        .map(|()| claim)
                        .map_err(|source| file(&folder, source));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(file(&claim, source)),
            }
        }
        Err(CargoError::NoTraces(folder).into())
    }

    /// Removes what earlier runs left. What runs now of the same project is left to itself.
    fn clean(&self) -> Result<(), Error> {
        let folder = self.traces();
        let others = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .any(|path| path.extension() == Some(OsStr::new(CLAIM)) && is_claimed(&path));
        if !others {
            remove(&self.target.join("doctests"))?;
            return remove(&folder);
        }
        for trace in self.recorded() {
            fs::remove_file(&trace).map_err(|source| file(&trace, source))?;
        }
        Ok(())
    }

    /// The traces that are there.
    fn recorded(&self) -> Vec<PathBuf> {
        let mut traces: Vec<PathBuf> = fs::read_dir(self.traces())
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension() == Some(OsStr::new("rkcov")))
            .collect();
        traces.sort();
        traces
    }

    /// Reports all traces.
    fn report(&self, which: &Which, shown: &Shown, how: &How) -> Result<ExitCode, Error> {
        let traces = self.recorded();
        if traces.is_empty() {
            return Err(CargoError::NoTraces(self.traces()).into());
        }
        let format = how.format.to_possible_value();
        let format = format.as_ref().map_or("text", |value| value.get_name());
        let mut line: Vec<OsString> = vec!["cargo rkcov".into(), "--format".into(), format.into()];
        line.extend(how.options.iter().cloned());
        if let Some(path) = &shown.output_path {
            line.extend(["--output".into(), path.into()]);
        }
        line.extend(self.sources(which, shown, how));
        line.push("--".into());
        line.extend(traces.into_iter().map(OsString::from));
        Ok(report::run(&ReportLine::parse_from(line).args)?)
    }

    /// Which sources are shown, as options of `rkcov report`.
    fn sources(&self, which: &Which, shown: &Shown, how: &How) -> Vec<OsString> {
        let mut patterns = Vec::new();
        let mut add = |option: &str, pattern: String| {
            patterns.extend([OsString::from(option), pattern.into()]);
        };
        for regex in &shown.ignore_filename_regex {
            add("--exclude", format!("re:{regex}"));
        }
        // What build scripts make is in there.
        add("--exclude", literal(&self.target));
        let users = how.options.iter().any(|option| {
            let option = option.to_string_lossy();
            option.starts_with("--filter")
                || option == "--all-sources"
                || option == "--include-deps"
        });
        if !shown.include_tests {
            for package in &self.chosen.packages {
                for folder in ["tests", "benches", "examples"] {
                    add("--exclude", literal(&package.folder().join(folder)));
                }
            }
        }
        if which.with_c {
            for folder in self.project.with_native_code() {
                add("--project", folder.to_string_lossy().into_owned());
            }
        }
        if users || which.with_c || self.chosen.is_workspace {
            return patterns;
        }
        let folders = || self.chosen.packages.iter().map(|package| package.folder());
        for folder in folders() {
            add("--filter", literal(folder));
        }
        // A package's folder may hold other packages.
        for other in self.project.members().map(|package| package.folder()) {
            let inside = folders().any(|folder| other != folder && other.starts_with(folder));
            let around = folders().any(|folder| folder.starts_with(other));
            if inside && !around {
                add("--exclude", literal(other));
            }
        }
        patterns
    }
}

/// The extension of the file that says whose the trace of that number will be.
const CLAIM: &str = "pid";

/// A trace that is this process's, until it ends.
struct Claim {
    trace: PathBuf,
    claim: PathBuf,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // If it stays, nobody is there of that number.
        let _ = fs::remove_file(&self.claim);
    }
}

/// Whether the process that made this claim is there.
fn is_claimed(claim: &Path) -> bool {
    let number = fs::read_to_string(claim).unwrap_or_default();
    !number.is_empty() && Path::new("/proc").join(number).exists()
}

/// A glob that matches just this path.
fn literal(path: &Path) -> String {
    let mut glob = String::new();
    for c in path.to_string_lossy().chars() {
        if "*?[]{}\\!".contains(c) {
            glob.extend(['[', c, ']']);
        } else {
            glob.push(c);
        }
    }
    glob
}

fn build(args: &Build) -> Result<ExitCode, Error> {
    let place = Place::of(&args.which)?;
    let mut cargo = place.cargo(&["build"], &args.which, args.cmp)?;
    let status = cargo.status().map_err(|source| Error::Program {
        program: cargo.get_program().to_owned(),
        source,
    })?;
    if status.success() {
        let built = place.target.join(&place.host);
        say(format_args!(
            "rkcov: instrumented, in {}; run it under `rkcov run`",
            built.display()
        ));
    }
    let status = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(status.unwrap_or(1)))
}

fn collect(subcommand: &str, args: &Collect, how: &How) -> Result<ExitCode, Error> {
    let place = Place::of(&args.which)?;
    let mut words = vec![subcommand];
    if subcommand == "nextest" && args.which.cargo.first().is_none_or(|arg| arg != "run") {
        words.push("run");
    }
    let tests = ["test", "nextest", "bench"].contains(&subcommand);
    if args.ignore_run_fail && tests && args.which.cargo.iter().all(|arg| arg != "--no-fail-fast") {
        words.push("--no-fail-fast");
    }
    let mut cargo = place.cargo(&words, &args.which, args.what.mode == Mode::Cmp)?;
    if !(args.no_clean || args.no_report) {
        place.clean()?;
    }
    let claim = place.next_trace()?;
    let trace = &claim.trace;
    let recorded = record(
        &mut cargo,
        args.what,
        trace,
        place.project.workspace_root.clone(),
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
        place.report(&args.which, &args.shown, how)
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
        Found::Refused => "what ran could not map rkcov's memory",
        Found::Strangers => "what ran was built with another version of rkcov",
        Found::NoInstrumentation | Found::Coverage => "nothing that ran is instrumented",
    }
}

fn clean(which: &Which) -> Result<ExitCode, Error> {
    let known = Known::read(&which.cargo);
    let project = Project::read(&known.project, false)?;
    let ours = project.target_directory.join("rkcov");
    remove(&ours)?;
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
