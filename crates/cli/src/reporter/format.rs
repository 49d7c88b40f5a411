// SPDX-License-Identifier: MIT OR Apache-2.0
//! The formats of reports, and where each report goes.

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table of files, functions and lines, for people
    Text,
    /// An lcov tracefile, for genhtml and editors
    Lcov,
    /// JSON for programs; docs/report.schema.json describes it
    Json,
    /// The PCs only, one per line, as PATH+0xOFFSET
    Pcs,
    /// Pages for a browser: a folder, or one file if PATH ends with .html
    Html,
    /// Cobertura XML, for CI services
    Cobertura,
    /// DynamoRIO's drcov format, for disassembler plugins
    Drcov,
    /// Annotations for a GitHub workflow, and its summary if GITHUB_STEP_SUMMARY is set
    Github,
    /// Totals and a table of files, in Markdown
    Markdown,
    /// An SVG badge with the line coverage
    Badge,
    /// Teamscale's Testwise Coverage, with --by context
    Teamscale,
    /// A table for DuckDB, DataFusion or Spark; docs/queries.md describes it
    Parquet,
}

/// One of the reports that are asked for: `FORMAT` or `FORMAT=PATH`.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its format.
    pub format: Format,
    /// The file or folder to write.
    pub path: Option<PathBuf>,
}

impl From<Format> for Wanted {
    fn from(format: Format) -> Self {
        Self { format, path: None }
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, path) = match text.split_once('=') {
            Some((_, "")) => return Err("there is no path after the =".to_owned()),
            Some((format, path)) => (format, Some(path.into())),
            None => (text, None),
        };
        let all: Vec<String> = Format::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value)
            .map(|value| value.get_name().to_owned())
            .collect();
        let format = Format::from_str(format, false)
            .map_err(|_| format!("the formats are {}", all.join(", ")))?;
        Ok(Self { format, path })
    }
}

/// A flag for each format: `--json` is short for `--format json`.
pub(crate) fn flags() -> impl Iterator<Item = Arg> {
    flags_of(Format::value_variants().to_vec())
}

/// A flag for each of these formats; only one of them may be given.
fn flags_of(formats: Vec<Format>) -> impl Iterator<Item = Arg> {
    let values = formats.iter().filter_map(ValueEnum::to_possible_value);
    let values: Vec<PossibleValue> = values.collect();
    let ids: Vec<String> = values.iter().map(|value| id(value.get_name())).collect();
    values.into_iter().map(move |value| {
        let id = id(value.get_name());
        let others = ids.iter().filter(|other| **other != id);
        Arg::new(id.clone())
            .long(value.get_name().to_owned())
            .help(value.get_help().cloned().unwrap_or_default())
            .action(ArgAction::SetTrue)
            .conflicts_with_all(others.collect::<Vec<_>>())
            .help_heading("Report")
    })
}

/// The format whose flag is set.
pub(crate) fn flagged(matches: &ArgMatches) -> Option<Format> {
    let set = |format: &&Format| {
        let value = format.to_possible_value();
        let id = id(value.as_ref().map_or("", |value| value.get_name()));
        matches.try_get_one::<bool>(&id).ok().flatten() == Some(&true)
    };
    Format::value_variants().iter().find(set).copied()
}

/// An option of the same name may be something else.
fn id(name: &str) -> String {
    format!("as-{name}")
}

/// The flags of a command that has `--format`, too. They are not in its help: that of `--format` has all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flag(pub Option<Format>);

impl FromArgMatches for Flag {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(flagged(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Flag {
    fn augment_args(command: Command) -> Command {
        // Its `--pcs` takes a list.
        let formats = Format::value_variants().iter().copied();
        let flags = flags_of(formats.filter(|format| *format != Format::Pcs).collect());
        command.args(flags.map(|flag| flag.hide(true).conflicts_with("format")))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl Format {
    /// The format that the end of a path stands for, if it stands for one.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        let end = path.extension()?.to_str()?.to_ascii_lowercase();
        match &*end {
            "html" | "htm" => Some(Self::Html),
            "json" => Some(Self::Json),
            "info" | "lcov" => Some(Self::Lcov),
            "xml" => Some(Self::Cobertura),
            "md" => Some(Self::Markdown),
            "svg" => Some(Self::Badge),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// Whether it is of what was recorded, not of lines.
    pub(super) const fn is_of_pcs(self) -> bool {
        matches!(self, Self::Pcs | Self::Drcov)
    }

    /// Whether people read it, in the midst of what else a command prints.
    #[must_use]
    pub const fn is_for_people(self) -> bool {
        matches!(self, Self::Text)
    }
}
