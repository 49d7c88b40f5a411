// SPDX-License-Identifier: MIT OR Apache-2.0
//! The questions of `rkcov`, to what was recorded of the project.

use super::options::{About, Packages, Which};
use super::place::Place;
use crate::cargo::tools::moved;
use crate::cargo::Error as CargoError;
use crate::cmd::contexts::{self, Change, Format, How, Question};
use crate::error::Error;
use crate::reporter::{Options, Request};
use rkcov_report::sources::Pattern;
use std::path::PathBuf;
use std::process::ExitCode;

/// What may be asked of a run with --per-test.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Asked {
    /// Say which tests ran a line or a function, after a run with --per-test
    Tests {
        /// FILE:LINE, a FILE (the end of its path is enough), or the end of a function's name
        #[arg(value_name = "PLACE")]
        place: String,
        #[command(flatten)]
        of: Of,
    },
    /// Say which tests a change concerns, as arguments for cargo test or nextest
    Affected {
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        of: Of,
    },
    /// Find few tests that run together all that all run
    Minimize(Of),
    /// List tests that run the same lines
    Similar(Of),
}

/// Of which project, and how to answer.
#[derive(Debug, clap::Args)]
pub(super) struct Of {
    /// What the answer looks like
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Count only sources that match: a path, its end, a folder, a glob; or re:REGEX
    #[arg(long, value_name = "PATTERN")]
    filter: Vec<Pattern>,
    #[command(flatten)]
    packages: Packages,
    #[command(flatten)]
    about: About,
}

/// Answers.
///
/// # Errors
/// Nothing is recorded, or as [`contexts::run`].
pub(super) fn run(asked: Asked) -> Result<ExitCode, Error> {
    let question = match asked {
        Asked::Tests { place, of } => {
            let (files, how) = of.recorded()?;
            Question::Tests { place, files, how }
        }
        Asked::Affected { change, of } => {
            let (files, how) = of.recorded()?;
            Question::Affected { files, change, how }
        }
        Asked::Minimize(of) => {
            let (files, how) = of.recorded()?;
            Question::Minimize { files, how }
        }
        Asked::Similar(of) => {
            let (files, how) = of.recorded()?;
            Question::Similar { files, how }
        }
    };
    Ok(contexts::run(&question)?)
}

impl Of {
    /// The traces of the project, and the sources that count.
    fn recorded(self) -> Result<(Vec<PathBuf>, How), Error> {
        let which = Which {
            packages: self.packages,
            cargo: self.about.words(),
        };
        let place = Place::of(&which)?;
        let traces = place.traces();
        let files = traces.recorded();
        if files.is_empty() {
            return Err(CargoError::NoTraces(traces.folder().to_owned()).into());
        }
        let mut request = Request {
            options: Options {
                filter: self.filter,
                ..Options::default()
            },
            ..Request::default()
        };
        place.choose_sources(&mut request, &which, false);
        let mut how = How::new(self.format, request.options.filter, request.left_out);
        how.moved = moved(&place.target);
        Ok((files, how))
    }
}
