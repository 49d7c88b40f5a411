// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov merge`: one trace file from several.

use crate::error::say;
use crate::reporter::Error;
use rkcov::program::limits_are_errors;
use rkcov_report::trace::{Info, Merge, TraceFile, Writer};
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `rkcov merge`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Trace files
    #[arg(required = true, value_name = "TRACE")]
    files: Vec<PathBuf>,
    /// The trace file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Writes the trace. Each of the others is open only while it is read.
///
/// # Errors
/// A trace cannot be read, they do not go together, or the new one cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    limits_are_errors();
    let infos = args.files.iter().map(|path| TraceFile::open(path)?.info());
    let infos: Vec<Info> = infos.collect::<Result<_, _>>()?;
    let info = Info::of_all(&infos).map_err(Error::Merge)?;
    let failed = |source| Error::Write {
        path: args.output.clone(),
        source,
    };
    let writer = Writer::create(&args.output, &info).map_err(failed)?;
    let mut merge = Merge::new(writer, &info);
    for path in &args.files {
        let file = TraceFile::open(path)?;
        merge.add(&file.trace()?).map_err(failed)?;
    }
    let (writer, ended) = merge.end();
    writer.save_at(ended).map_err(failed)?;
    let (files, to) = (args.files.len(), args.output.display());
    say(format_args!("rkcov: {files} traces in {to}"));
    Ok(ExitCode::SUCCESS)
}
