// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo rkcov`: builds, runs and tests a cargo project, and reports what ran.

mod questions;

use super::report::{self, Format};
use crate::cargo::args::{self, Known, Options};
use crate::cargo::project::{self, Chosen, Project};
use crate::cargo::tools::{moved, packages_left_out, quoted, Plan, Wishes};
use crate::cargo::traces::Traces;
use crate::cargo::Error as CargoError;
use crate::error::{self, say, Error};
use crate::record::{record, Found, Mode, What};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum};
use rkcov::program::Outcome;
use rkcov_report::sources::{BadPattern, Pattern};
use std::ffi::OsString;
use std::fs;
use std::io;
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
    /// Run a binary or example, and report the code that ran
    #[command(visible_alias = "r")]
    Run(Collect),
    /// Run the tests, including documentation tests, and report the code that ran
    #[command(visible_alias = "t")]
    Test(Tests),
    /// Run the benchmarks, and report the code that ran
    Bench(Collect),
    /// Run the tests with cargo-nextest, and report the code that ran
    Nextest(Tests),
    /// Report the last run again
    Report(Again),
    #[command(flatten)]
    Question(questions::Asked),
    /// Remove instrumented builds and traces
    Clean(About),
}

/// Options of `rkcov report` that a user of cargo knows for something else, or does not need.
const NOT_OFFERED: [&str; 13] = [
    "config",
    "files",
    "format",
    "output",
    "pcs",
    "image",
    "load_offset",
    "salvage",
    "project",
    "binaries",
    "exclude",
    "color",
    "help",
];

#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    packages: Packages,
    /// Cargo's options; the program's arguments after another `--`
    #[arg(last = true, hide = true)]
    cargo: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
struct Packages {
    /// Also instrument this package, a dependency from any source
    #[arg(long, value_name = "SPEC", help_heading = "Packages")]
    include: Vec<String>,
    /// Do not instrument this package [default: all of the workspace, or those of --package]
    #[arg(long, value_name = "SPEC", help_heading = "Packages")]
    exclude_from_report: Vec<String>,
    /// Also instrument C and C++ code that build scripts compile
    #[arg(long, alias = "include-ffi", help_heading = "Packages")]
    with_c: bool,
    /// Omit functions that nothing calls, like rustc, instead of reporting them as uncovered
    #[arg(long, help_heading = "Packages")]
    without_dead_code: bool,
}

/// What cargo is told of the project: for commands for which no cargo reads it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Project options, as in cargo")]
struct About {
    /// The project's manifest
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<PathBuf>,
    /// The target folder [default: rkcov in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    /// Only this package
    #[arg(short, long, value_name = "SPEC")]
    package: Vec<String>,
    /// All packages of the workspace
    #[arg(long, alias = "all")]
    workspace: bool,
    /// Without this package
    #[arg(long, value_name = "SPEC")]
    exclude: Vec<String>,
    /// The target triple: this machine's
    #[arg(long, value_name = "TRIPLE")]
    target: Vec<String>,
    /// Features to enable
    #[arg(short = 'F', long, value_name = "FEATURES")]
    features: Vec<String>,
    /// All features
    #[arg(long)]
    all_features: bool,
    /// Without the default feature
    #[arg(long)]
    no_default_features: bool,
    /// A setting of cargo
    #[arg(long, value_name = "KEY=VALUE|PATH")]
    config: Vec<OsString>,
    /// The lock file
    #[arg(long, value_name = "PATH")]
    lockfile_path: Option<PathBuf>,
    /// An unstable option of cargo
    #[arg(short = 'Z', value_name = "FLAG")]
    unstable: Vec<String>,
    /// Do not change the lock file
    #[arg(long)]
    locked: bool,
    /// Use no network
    #[arg(long)]
    offline: bool,
    /// --locked and --offline
    #[arg(long)]
    frozen: bool,
}

impl About {
    /// As cargo would be told.
    fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let paths = [
            ("--manifest-path", &self.manifest_path),
            ("--target-dir", &self.target_dir),
            ("--lockfile-path", &self.lockfile_path),
        ];
        for (option, path) in paths {
            words.extend(path.iter().flat_map(|path| [option.into(), path.into()]));
        }
        let lists = [
            ("--package", &self.package),
            ("--exclude", &self.exclude),
            ("--target", &self.target),
            ("--features", &self.features),
            ("-Z", &self.unstable),
        ];
        for (option, values) in lists {
            words.extend(
                values
                    .iter()
                    .flat_map(|value| [option.into(), value.into()]),
            );
        }
        let configs = self.config.iter();
        words.extend(configs.flat_map(|value| ["--config".into(), value.clone()]));
        for (option, set) in [
            ("--all-features", self.all_features),
            ("--no-default-features", self.no_default_features),
            ("--locked", self.locked),
            ("--offline", self.offline),
            ("--frozen", self.frozen),
        ] {
            words.extend(set.then(|| option.into()));
        }
        words
    }
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
    /// Keep the traces of earlier runs, and report all runs together
    #[arg(long)]
    no_clean: bool,
    /// Only record; report later with `cargo rkcov report`. Implies --no-clean
    #[arg(long, conflicts_with = "fail_under_lines")]
    no_report: bool,
    /// Run all tests even if some fail, and ignore test failures in the exit status
    #[arg(long)]
    ignore_run_fail: bool,
}

#[derive(Debug, clap::Args)]
struct Tests {
    #[command(flatten)]
    collect: Collect,
    /// Record what each test ran, for `cargo rkcov tests` and other questions
    #[arg(long)]
    per_test: bool,
}

impl From<Tests> for Collect {
    fn from(tests: Tests) -> Self {
        let mut collect = tests.collect;
        collect.what.per_test = tests.per_test;
        collect
    }
}

#[derive(Debug, clap::Args)]
struct Again {
    #[command(flatten)]
    packages: Packages,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, Default, clap::Args)]
struct Shown {
    /// Write the report to this file
    #[arg(long, value_name = "PATH", help_heading = "Report")]
    output_path: Option<PathBuf>,
    /// Do not show sources whose path matches
    #[arg(long, value_name = "REGEX", value_parser = regex, help_heading = "Report")]
    ignore_filename_regex: Vec<Pattern>,
    /// Show the sources of tests, benches and examples too
    #[arg(long, help_heading = "Report")]
    include_tests: bool,
}

fn regex(text: &str) -> Result<Pattern, BadPattern> {
    format!("re:{text}").parse()
}

/// The commands that have no cargo read their command line.
const ALONE: [&str; 6] = [
    "report", "clean", "tests", "affected", "minimize", "similar",
];

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
    let alone = ALONE.contains(&name);
    let mut of_report = Vec::new();
    if let Some(sub) = cli.find_subcommand(name) {
        let mut own = args::options(sub);
        let mut report = report_options();
        report.retain(|name, _| own.remove(name).is_some());
        let split = args::split(args.split_off(2), &own, &report);
        args.extend(split.own);
        // So that what is wrong with them is said before anything runs.
        args.extend(split.report.iter().cloned());
        if !alone {
            args.extend(help_wanted(&split.cargo).then(|| "--help".into()));
            args.push("--".into());
        }
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
        Sub::Run(args) => collect("run", args, &how),
        Sub::Test(args) => collect("test", args.into(), &how),
        Sub::Bench(args) => collect("bench", args, &how),
        Sub::Nextest(args) => collect("nextest", args.into(), &how),
        Sub::Report(again) => {
            let which = Which {
                packages: again.packages,
                cargo: again.about.words(),
            };
            let place = Place::of(&which)?;
            place.report(&place.traces().recorded(), &which, &again.shown, &how)
        }
        Sub::Question(asked) => questions::run(asked),
        Sub::Clean(about) => clean(&about),
    }
}

/// How a report is to look.
struct How {
    format: Format,
    /// Options of `rkcov report`.
    options: Vec<OsString>,
}

/// Our command line, with the report's options in it.
pub(crate) fn command() -> clap::Command {
    let mut command = Cli::command();
    for name in ["run", "test", "bench", "nextest", "report"] {
        command = command.mut_subcommand(name, |sub| sub.args(formats()).args(of_report()));
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
        let packages = &which.packages;
        let known = Known::read(&which.cargo);
        let host = project::host()?;
        let other = known.targets.iter().find(|target| **target != host);
        if let Some(target) = other.cloned() {
            return Err(CargoError::Target { target, host }.into());
        }
        let project = Project::read(
            &known.project,
            !packages.include.is_empty() || packages.with_c,
        )?;
        let chosen =
            project.choose(&known.choice(&packages.include, &packages.exclude_from_report))?;
        let target = target_of(&known, &project);
        Ok(Self {
            known,
            project,
            chosen,
            host,
            target,
        })
    }

    /// Cargo's target folder for what is to be run in this mode. Every edge of a program has to call where
    /// more is wanted than whether it ran, so that is another build.
    fn built(&self, mode: Mode) -> PathBuf {
        match mode {
            Mode::Trace | Mode::Cmp if HAS_STORES && self.known.target_dir.is_none() => {
                self.target.join("calls")
            }
            _ => self.target.clone(),
        }
    }

    /// The command line of cargo's `subcommand`, with all that makes it build what we want.
    fn cargo(&self, subcommand: &[&str], which: &Which, mode: Mode) -> Result<Command, Error> {
        let wishes = Wishes {
            comparisons: mode == Mode::Cmp,
            stores: mode == Mode::Unique && HAS_STORES,
            dead_code: !which.packages.without_dead_code,
            with_c: which.packages.with_c,
        };
        let users = self.project.tools(&self.known.project);
        let plan = Plan::new(&self.chosen, wishes, users, &self.target)?;
        let with_config = self.known.project.iter().any(|word| word == "--config");
        let mut settings = plan.install(with_config)?;
        // A crate is one codegen unit here: all of it is compiled anew anyway.
        settings.config.push("build.incremental=false".into());
        let mut cargo = project::cargo();
        cargo.args(subcommand).envs(settings.variables);
        if self.known.targets.is_empty() {
            cargo.args(["--target", &self.host]);
        }
        if self.known.target_dir.is_none() {
            cargo.arg("--target-dir").arg(self.built(mode));
        }
        let elsewhere = self.project.build_directory.as_ref();
        if elsewhere.is_some_and(|folder| *folder != self.project.target_directory) {
            let ours = self.built(mode);
            let ours = ours.to_string_lossy();
            settings
                .config
                .push(format!("build.build-dir={}", quoted(&ours)));
        }
        for setting in settings.config {
            cargo.arg("--config").arg(setting);
        }
        cargo.args(&which.cargo);
        Ok(cargo)
    }

    /// Its traces.
    fn traces(&self) -> Traces {
        Traces::new(self.target.join("trace"))
    }

    /// Reports these traces.
    fn report(
        &self,
        traces: &[PathBuf],
        which: &Which,
        shown: &Shown,
        how: &How,
    ) -> Result<ExitCode, Error> {
        if traces.is_empty() {
            return Err(CargoError::NoTraces(self.traces().folder().to_owned()).into());
        }
        let format = how.format.to_possible_value();
        let format = format.as_ref().map_or("text", |value| value.get_name());
        let mut line: Vec<OsString> = vec!["cargo rkcov".into(), "--format".into(), format.into()];
        line.extend(how.options.iter().cloned());
        line.push("--".into());
        line.extend(traces.iter().map(OsString::from));
        let mut args = ReportLine::parse_from(line).args;
        args.output.clone_from(&shown.output_path);
        args.moved = moved(&self.target);
        self.choose_sources(&mut args, which, shown);
        for package in packages_left_out(&self.target) {
            say(format_args!(
                "rkcov: {package}: functions that nothing calls are not counted, because it does not link with them"
            ));
        }
        Ok(report::run(&args)?)
    }

    /// Says which sources are shown.
    fn choose_sources(&self, args: &mut report::Args, which: &Which, shown: &Shown) {
        args.exclude
            .extend(shown.ignore_filename_regex.iter().cloned());
        // What build scripts make is in there.
        args.exclude.push(Pattern::below(&self.target));
        if !shown.include_tests {
            for package in &self.chosen.packages {
                for folder in ["tests", "benches", "examples"] {
                    args.exclude
                        .push(Pattern::below(&package.folder().join(folder)));
                }
            }
        }
        let with_c = which.packages.with_c;
        if with_c {
            let folders = self.project.with_native_code();
            args.project.extend(folders.map(Path::to_owned));
        }
        if !args.filter.is_empty() || args.all_sources || with_c || self.chosen.is_workspace {
            return;
        }
        let folders = || self.chosen.packages.iter().map(|package| package.folder());
        args.filter.extend(folders().map(Pattern::below));
        // A package's folder may hold other packages.
        for other in self.project.members().map(|package| package.folder()) {
            let inside = folders().any(|folder| other != folder && other.starts_with(folder));
            let around = folders().any(|folder| folder.starts_with(other));
            if inside && !around {
                args.exclude.push(Pattern::below(other));
            }
        }
    }
}

/// Cargo's target folder, as we choose it.
fn target_of(known: &Known, project: &Project) -> PathBuf {
    match &known.target_dir {
        Some(folder) => std::path::absolute(folder).unwrap_or_else(|_| folder.clone()),
        None => project.target_directory.join("rkcov"),
    }
}

/// Whether guards' calls become stores.
const HAS_STORES: bool = cfg!(target_arch = "x86_64");

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
    let status = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(status.unwrap_or(1)))
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
        let status = output
            .status
            .code()
            .and_then(|code| u8::try_from(code).ok());
        return Ok(Err(ExitCode::from(status.unwrap_or(1))));
    }
    Ok(Ok(project::programs(&output.stdout, &place.chosen)))
}

fn build(args: &Build) -> Result<ExitCode, Error> {
    let place = Place::of(&args.which)?;
    let mode = if args.cmp { Mode::Cmp } else { Mode::Unique };
    let mut cargo = place.cargo(&["build"], &args.which, mode)?;
    only_build(&place, mode, &mut cargo)
}

fn collect(subcommand: &str, mut args: Collect, how: &How) -> Result<ExitCode, Error> {
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
        let judged = |option: &OsString| option.to_string_lossy().starts_with("--fail-under");
        if how.options.iter().any(judged) {
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
    if !how.format.is_for_people() && !args.no_report && args.shown.output_path.is_none() {
        // A program reads the report there, and nothing else.
        cargo.stdout(io::stderr());
    }
    let recorded = record(
        &mut cargo,
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
        place.report(&reported, &args.which, &args.shown, how)
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
