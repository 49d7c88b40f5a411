// SPDX-License-Identifier: MIT OR Apache-2.0
//! What instrumentation costs. `docs/bench.md` has the rules of every figure here.

mod build;
mod callbacks;
mod measure;
mod programs;
mod rows;
mod tables;

use clap::{Parser, Subcommand};
use rows::Rows;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use xtask::shell::Error;

/// Measure the cost of instrumentation
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Measure callbacks, against callbacks in C and against no instrumentation
    Callbacks(Rounds),
    /// Measure whole programs under `rkcov run`, against gcov and clang's and rustc's source coverage
    Programs(Rounds),
    /// Write the tables of docs/bench.md from the raw rows
    Tables,
}

/// How much is measured.
#[derive(Debug, clap::Args)]
struct Rounds {
    /// The number of runs of each variant
    #[arg(long, default_value_t = 32)]
    rounds: usize,
    /// Only programs whose names contain this; the raw rows are not kept
    #[arg(long)]
    only: Option<String>,
}

fn main() -> ExitCode {
    match run(&Args::parse().bench) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(bench: &Bench) -> Result<(), Error> {
    match bench {
        Bench::Callbacks(rounds) => {
            let rows = measured(rounds, "callbacks", false, callbacks::candidates)?;
            print!("{}", tables::callbacks(&rows));
        }
        Bench::Programs(rounds) => {
            let rows = measured(rounds, "programs", true, programs::candidates)?;
            print!("{}", tables::programs(&rows));
        }
        Bench::Tables => tables::write()?,
    }
    Ok(())
}

fn measured(
    args: &Rounds,
    name: &str,
    rkcov_runs: bool,
    candidates: impl FnOnce(&build::Bench, &dyn Fn(&str) -> bool) -> Result<Candidates, Error>,
) -> Result<Rows, Error> {
    let wanted = |program: &str| args.only.as_deref().is_none_or(|o| program.contains(o));
    let candidates = candidates(&build::Bench::prepare(rkcov_runs)?, &wanted)?;
    let rows = measure::rounds(&candidates, args.rounds)?;
    if args.only.is_none() {
        rows.write(&results(name))?;
    }
    Ok(rows)
}

type Candidates = Vec<measure::Candidate>;

/// The file of a bench's raw rows.
fn results(name: &str) -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.join("results").join(name).with_extension("csv")
}
