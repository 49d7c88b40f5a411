// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options of `cargo rkcov`.

use crate::record::What;
use crate::reporter::{self, Format, Wanted};
use clap::Args as _;
use rkcov_report::sources::{BadPattern, Pattern};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    #[command(flatten)]
    pub(super) packages: Packages,
    /// Cargo's options; the program's arguments after another `--`
    #[arg(last = true, hide = true)]
    pub(super) cargo: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Packages {
    /// Also instrument this package, a dependency from any source
    #[arg(long, value_name = "SPEC", help_heading = "Packages")]
    pub(super) include: Vec<String>,
    /// Do not instrument this package [default: all of the workspace, or those of --package]
    #[arg(long, value_name = "SPEC", help_heading = "Packages")]
    pub(super) exclude_from_report: Vec<String>,
    /// Also instrument C and C++ code that build scripts compile
    #[arg(long, alias = "include-ffi", help_heading = "Packages")]
    pub(super) with_c: bool,
    /// Omit functions that nothing calls, like rustc, instead of reporting them as uncovered
    #[arg(long, help_heading = "Packages")]
    pub(super) without_dead_code: bool,
}

/// What cargo is told of the project: for commands for which no cargo reads it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Project options, as in cargo")]
pub(super) struct About {
    /// The project's manifest
    #[arg(long, value_name = "PATH")]
    pub(super) manifest_path: Option<PathBuf>,
    /// The target folder [default: rkcov in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    pub(super) target_dir: Option<PathBuf>,
    /// Only this package
    #[arg(short, long, value_name = "SPEC")]
    pub(super) package: Vec<String>,
    /// All packages of the workspace
    #[arg(long, alias = "all")]
    pub(super) workspace: bool,
    /// Without this package
    #[arg(long, value_name = "SPEC")]
    pub(super) exclude: Vec<String>,
    /// The target triple: this machine's
    #[arg(long, value_name = "TRIPLE")]
    pub(super) target: Vec<String>,
    /// Features to enable
    #[arg(short = 'F', long, value_name = "FEATURES")]
    pub(super) features: Vec<String>,
    /// All features
    #[arg(long)]
    pub(super) all_features: bool,
    /// Without the default feature
    #[arg(long)]
    pub(super) no_default_features: bool,
    /// A setting of cargo
    #[arg(long, value_name = "KEY=VALUE|PATH")]
    pub(super) config: Vec<OsString>,
    /// The lock file
    #[arg(long, value_name = "PATH")]
    pub(super) lockfile_path: Option<PathBuf>,
    /// An unstable option of cargo
    #[arg(short = 'Z', value_name = "FLAG")]
    pub(super) unstable: Vec<String>,
    /// Do not change the lock file
    #[arg(long)]
    pub(super) locked: bool,
    /// Use no network
    #[arg(long)]
    pub(super) offline: bool,
    /// --locked and --offline
    #[arg(long)]
    pub(super) frozen: bool,
}

impl About {
    /// As cargo would be told.
    pub(super) fn words(&self) -> Vec<OsString> {
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
pub(super) struct Build {
    #[command(flatten)]
    pub(super) which: Which,
    /// Report comparisons too, for `rkcov run --mode cmp`: slower
    #[arg(long)]
    pub(super) cmp: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Collect {
    #[command(flatten)]
    pub(super) which: Which,
    /// Keep the traces of earlier runs, and report all runs together
    #[arg(long)]
    pub(super) no_clean: bool,
    /// Only record; report later with `cargo rkcov report`. Implies --no-clean
    #[arg(long, conflicts_with = "fail_under_lines")]
    pub(super) no_report: bool,
    /// Run all tests even if some fail, and ignore test failures in the exit status
    #[arg(long)]
    pub(super) ignore_run_fail: bool,
    #[command(flatten)]
    pub(super) what: What,
    #[command(flatten)]
    pub(super) shown: Shown,
}

#[derive(Debug, clap::Args)]
pub(super) struct Tests {
    /// Record what each test ran, for `cargo rkcov tests` and other questions
    #[arg(long)]
    pub(super) per_test: bool,
    #[command(flatten)]
    pub(super) collect: Collect,
}

impl From<Tests> for Collect {
    fn from(tests: Tests) -> Self {
        let mut collect = tests.collect;
        collect.what.per_test = tests.per_test;
        collect
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Again {
    #[command(flatten)]
    pub(super) packages: Packages,
    #[command(flatten)]
    pub(super) shown: Shown,
    #[command(flatten)]
    pub(super) about: About,
}

#[derive(Debug, Default, clap::Args)]
pub(super) struct Shown {
    #[command(flatten)]
    pub(super) options: reporter::Options,
    /// The report's format: the flags below name the formats. With PATH, the report is written to PATH. May be
    /// repeated: --format text --format lcov=lcov.info
    #[arg(long = "format", value_name = "FORMAT[=PATH]", help_heading = "Report")]
    pub(super) formats: Vec<Wanted>,
    /// Write the report to this file; without a format, its end says it: .html, .json, .info, .xml, .md, .svg,
    /// .parquet
    #[arg(long, value_name = "PATH", help_heading = "Report")]
    pub(super) output_path: Option<PathBuf>,
    /// Do not show sources whose path matches
    #[arg(long, value_name = "REGEX", value_parser = regex, help_heading = "Report")]
    pub(super) ignore_filename_regex: Vec<Pattern>,
    /// Show the sources of tests, benches and examples too
    #[arg(long, help_heading = "Report")]
    pub(super) include_tests: bool,
    /// The format, as one of the flags that [`reporter::flags`] adds says.
    #[arg(skip)]
    pub(super) flag: Option<Format>,
}

impl Shown {
    /// Puts the options that all reports have under headings of their own.
    pub(super) fn headings(command: clap::Command) -> clap::Command {
        let all = reporter::Options::augment_args(clap::Command::new("report"));
        let ids: BTreeSet<clap::Id> = all
            .get_arguments()
            .map(|arg| arg.get_id().clone())
            .collect();
        command.mut_args(|arg| {
            if !ids.contains(arg.get_id()) {
                return arg;
            }
            let heading = match arg.get_help_heading() {
                Some(heading) => format!("Report: {}", heading.to_lowercase()),
                None => "Report".into(),
            };
            arg.help_heading(heading)
        })
    }

    /// The formats that are asked for. If none is, the end of the output's path says it.
    pub(super) fn formats(&self) -> Vec<Wanted> {
        match self.flag {
            Some(format) => vec![format.into()],
            None => self.formats.clone(),
        }
    }

    /// Whether a program reads a report from standard output.
    pub(super) fn is_read_by_program(&self) -> bool {
        let printed = |wanted: &Wanted| wanted.path.is_none() && !wanted.format.is_for_people();
        self.output_path.is_none() && self.formats().iter().any(printed)
    }

    /// Whether it is required that enough lines are covered.
    pub(super) fn is_judged(&self) -> bool {
        let options = &self.options;
        options.fail_under_lines.is_some() || options.fail_under_patch.is_some()
    }
}

fn regex(text: &str) -> Result<Pattern, BadPattern> {
    format!("re:{text}").parse()
}
