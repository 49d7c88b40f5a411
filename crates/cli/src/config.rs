// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov.toml`: what a project always wants of its reports.

use serde::de::{Deserialize, Deserializer, Error as _};
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::reporter::{Percent, Remap};
use rkcov_report::sources::Pattern;

/// The name of the file.
const NAME: &str = "rkcov.toml";

/// Which configuration counts.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub struct Choice {
    /// Read this configuration file [default: rkcov.toml in this folder or the nearest one above, up to
    /// the root of the git repository]
    #[arg(long, value_name = "FILE", conflicts_with = "no_config")]
    config: Option<PathBuf>,
    /// Read no configuration file
    #[arg(long)]
    no_config: bool,
}

/// What the file says.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of reports.
    #[serde(default)]
    pub(crate) report: Report,
}

/// What the file says of reports. The names are those of the options of `rkcov report`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Report {
    #[serde(deserialize_with = "each")]
    pub(crate) filter: Vec<Pattern>,
    #[serde(deserialize_with = "each")]
    pub(crate) exclude: Vec<Pattern>,
    pub(crate) all_sources: bool,
    pub(crate) no_exclusions: bool,
    #[serde(deserialize_with = "each")]
    pub(crate) remap: Vec<Remap>,
    pub(crate) project: Vec<PathBuf>,
    pub(crate) binaries: Vec<PathBuf>,
    pub(crate) debug_dir: Vec<PathBuf>,
    #[serde(deserialize_with = "percent")]
    pub(crate) fail_under_lines: Option<Percent>,
    #[serde(deserialize_with = "percent")]
    pub(crate) fail_under_patch: Option<Percent>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is something wrong in it.
    #[error("{}:{line}: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

impl Choice {
    /// Reads the configuration; an empty one if there is none.
    ///
    /// # Errors
    /// It cannot be read, or has something that rkcov does not know.
    pub fn read(&self) -> Result<Config, Error> {
        let found = match &self.config {
            Some(path) => Some(path.clone()),
            None if self.no_config => None,
            None => std::env::current_dir().ok().and_then(|here| find(&here)),
        };
        let Some(path) = found else {
            return Ok(Config::default());
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Config::parse(&text, &path),
            Err(source) => Err(Error::Read { path, source }),
        }
    }
}

/// The nearest configuration, from a folder up to the root of its repository.
fn find(here: &Path) -> Option<PathBuf> {
    for folder in here.ancestors() {
        let path = folder.join(NAME);
        if path.is_file() {
            return Some(path);
        }
        if folder.join(".git").exists() {
            break;
        }
    }
    None
}

impl Config {
    /// What the text of the file at `path` says. Folders in it are relative to the file's own.
    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut config: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            Error::Wrong {
                path: path.to_owned(),
                line: 1 + before.unwrap_or_default().matches('\n').count(),
                what: error.message().to_owned(),
            }
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let report = &mut config.report;
        let folders = [
            &mut report.project,
            &mut report.binaries,
            &mut report.debug_dir,
        ];
        for one in folders.into_iter().flatten() {
            *one = folder.join(&*one);
        }
        Ok(config)
    }
}

/// A list of texts, as the option takes them.
fn each<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let texts = Vec::<String>::deserialize(from)?;
    let all = texts.iter().map(|text| {
        text.parse()
            .map_err(|error| D::Error::custom(format_args!("{text:?}: {error}")))
    });
    all.collect()
}

/// A number, as exact as it is written.
fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Percent>, D::Error> {
    let text = match toml::Value::deserialize(from)? {
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        _ => String::new(),
    };
    text.parse().map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/w/rkcov.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn all_keys_are_read() {
        let report = parse(
            "[report]\n\
             filter = ['src']\n\
             exclude = ['vendor', 're:gen']\n\
             all-sources = true\n\
             no-exclusions = true\n\
             remap = ['/build=/w']\n\
             project = ['lib', '/abs']\n\
             binaries = ['old']\n\
             debug-dir = ['debug']\n\
             fail-under-lines = 80\n\
             fail-under-patch = 99.5\n",
        );
        let report = report.unwrap().report;
        assert_eq!((report.filter.len(), report.exclude.len()), (1, 2));
        assert!(report.all_sources && report.no_exclusions);
        assert_eq!(report.remap.len(), 1);
        assert_eq!(report.project, [Path::new("/w/lib"), Path::new("/abs")]);
        assert_eq!(report.binaries, [Path::new("/w/old")]);
        assert_eq!(report.debug_dir, [Path::new("/w/debug")]);
        let percent = |percent: Option<Percent>| percent.unwrap().to_string();
        assert_eq!(percent(report.fail_under_lines), "80 %");
        assert_eq!(percent(report.fail_under_patch), "99.50 %");
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_line() {
        for (text, why) in [
            (
                "[report]\n\nfilters = []\n",
                "/w/rkcov.toml:3: unknown field `filters`",
            ),
            ("[reports]\n", "/w/rkcov.toml:1: unknown field `reports`"),
            (
                "[report]\nexclude = ['re:(']\n",
                "/w/rkcov.toml:2: \"re:(\": ",
            ),
            (
                "[report]\nremap = ['x']\n",
                "/w/rkcov.toml:2: \"x\": give two folders",
            ),
            (
                "[report]\nfail-under-lines = 101\n",
                "/w/rkcov.toml:2: a number from 0 to 100",
            ),
            (
                "[report]\nfail-under-lines = '80'\n",
                "/w/rkcov.toml:2: a number from 0 to 100",
            ),
            ("[report\n", "/w/rkcov.toml:1: "),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.starts_with(why), "{text:?}: {said}");
        }
    }

    #[test]
    fn the_nearest_file_in_the_repository_counts() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("repository/a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::create_dir(folder.path().join("repository/.git")).unwrap();
        std::fs::write(folder.path().join(NAME), "").unwrap();
        assert_eq!(find(&inner), None, "it is outside of the repository");
        for at in ["repository", "repository/a"] {
            let path = folder.path().join(at).join(NAME);
            std::fs::write(&path, "").unwrap();
            assert_eq!(find(&inner), Some(path));
        }
    }
}
