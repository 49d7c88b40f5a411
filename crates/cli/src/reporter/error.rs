// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a report cannot be made.

use super::percent::Percent;
use crate::config;
use crate::since;
use rkcov_report::contexts;
use rkcov_report::coverage::{MixedModes, UnknownThread};
use rkcov_report::image::ElfError;
use rkcov_report::place::NoPlace;
use rkcov_report::trace::{Incompatible, Mode, OpenError};
use std::io;
use std::path::PathBuf;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A trace that cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Traces that do not go together.
    #[error(transparent)]
    Mixed(#[from] MixedModes),
    /// The traces have no contexts, or none of that name.
    #[error(transparent)]
    Contexts(#[from] contexts::Error),
    /// Traces that cannot be one.
    #[error(transparent)]
    Merge(Incompatible),
    /// There is no place of that name.
    #[error(transparent)]
    Place(#[from] NoPlace),
    /// A trace whose records have no order.
    #[error(
        "{trace} was recorded in {} mode, which does not keep the order: record it with --mode trace",
        mode.name()
    )]
    NoOrder {
        /// The trace.
        trace: String,
        /// Its mode.
        mode: Mode,
    },
    /// A trace that has no comparisons.
    #[error(
        "{trace} was recorded in {} mode, which has no comparisons: build with `rkcov cc --cmp` and record \
         with --mode cmp",
        mode.name()
    )]
    NoComparisons {
        /// The trace.
        trace: String,
        /// Its mode.
        mode: Mode,
    },
    /// There are no rows in such a report.
    #[error("--by context is for --format text, json, lcov, teamscale and parquet")]
    ByContext,
    /// Such a report has nothing else.
    #[error("--format teamscale has a part for each context: add --by context")]
    OnlyByContext,
    /// A terminal shows no bytes.
    #[error("--format parquet is not text, and standard output is a terminal: name a file, or use a pipe")]
    Terminal,
    /// The crate that writes them was left out.
    #[error("this rkcov was built without its feature `parquet`")]
    NoParquet,
    /// Other formats do not say the name.
    #[error("--run-name is for --format parquet")]
    RunName,
    /// A thread that is not there.
    #[error(transparent)]
    Thread(#[from] UnknownThread),
    /// Fewer lines ran than should have.
    #[error("{ran} of {known} lines ran, {share}: {option} requires {least}")]
    TooFew {
        /// What requires it.
        option: &'static str,
        /// Lines that ran.
        ran: usize,
        /// Lines that ran, and those that did not.
        known: usize,
        /// Those that ran, of a hundred.
        share: Percent,
        /// Those that should have.
        least: Percent,
    },
    /// Whether enough lines ran cannot be told.
    #[error("{option} {least}: {why}")]
    NotJudged {
        /// What requires it.
        option: &'static str,
        /// How many should have.
        least: Percent,
        /// Why it cannot be told.
        why: String,
    },
    /// Several reports would go to one place.
    #[error("with several formats, all but one need a path, as in --format lcov=PATH")]
    OnePlace,
    /// There is no report that could go to the path.
    #[error("--output {}: all formats have a path already", .0.display())]
    NothingLeft(PathBuf),
    /// Nothing is exclusive to all threads.
    #[error("--exclusive needs --thread or --by-thread")]
    Exclusive,
    /// A list of PCs that is none.
    #[error("{}: {word:?} is not a hexadecimal number", path.display())]
    NoPc {
        /// The list.
        path: PathBuf,
        /// What stands there.
        word: String,
    },
    /// PCs that are not of the image.
    #[error(
        "none of the {pcs} PCs in {} is in the code of {}; say with --load-offset how far from \
         its addresses it lay", list.display(), image.display()
    )]
    OtherImage {
        /// The list.
        list: PathBuf,
        /// The image.
        image: PathBuf,
        /// How many there are.
        pcs: usize,
    },
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The image of a list of PCs cannot be used.
    #[error("cannot use {}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        source: ElfError,
    },
    /// Files that ran are not there.
    #[error(
        "the report is incomplete: {}, see above; --allow-missing accepts this",
        absent(*missing, *rebuilt)
    )]
    Absent {
        /// How many are missing.
        missing: usize,
        /// How many were built again since.
        rebuilt: usize,
    },
    /// A thread and a context that have nothing in common.
    #[error("none of these threads ran anything in these contexts")]
    NotTogether,
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// What changed cannot be told.
    #[error(transparent)]
    Since(#[from] since::Error),
    /// The pages show whole files.
    #[error("--since does not work with --format html, which shows whole files")]
    SinceHtml,
    /// There is no run that could be watched.
    #[error("--watch shows the run of one trace: name one file")]
    WatchOne,
    /// What is redrawn is text on standard output.
    #[error("--watch shows text on standard output: leave out --format and --output")]
    WatchFormat,
    /// The socket of a run cannot be reached.
    #[error("cannot watch the run of {}", path.display())]
    Watch {
        /// The trace.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A run that left no trace.
    #[error(
        "the run ended without a trace: it was killed, or could not write {}; above is what it had covered \
         when it was last asked", .0.display()
    )]
    NoTrace(PathBuf),
    /// The report cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where it should go.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn absent(missing: usize, rebuilt: usize) -> String {
    let files = |n: usize| match n {
        1 => "1 file that ran".to_owned(),
        n => format!("{n} files that ran"),
    };
    let are = |n: usize| if n == 1 { "is" } else { "are" };
    let were = |n: usize| if n == 1 { "was" } else { "were" };
    match (missing, rebuilt) {
        (n, 0) => format!("{} {} missing", files(n), are(n)),
        (0, n) => format!("{} {} rebuilt since", files(n), were(n)),
        (m, r) => format!(
            "{} {} missing, and {r} {} rebuilt since",
            files(m),
            are(m),
            were(r)
        ),
    }
}
