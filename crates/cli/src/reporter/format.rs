// SPDX-License-Identifier: MIT OR Apache-2.0
//! The formats of reports, and where each report goes.

use clap::ValueEnum;
use std::path::PathBuf;
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

impl Format {
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
