// SPDX-License-Identifier: MIT OR Apache-2.0
//! What instrumentation costs. `docs/performance.md` has the rules of every figure here, but those of
//! tests, which are in `docs/per-test.md`.

mod benches;
mod build;
mod callbacks;
mod measure;
mod page;
mod per_test;
mod plots;
mod programs;
mod questions;
mod reports;
mod rows;
mod sections;
mod subjects;
mod tables;

use build::Bench;
use clap::Parser;
use measure::Candidate;
use rows::Rows;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use xtask::shell::{self, Error};

/// Measure what instrumentation costs, keep the raw rows, and make the pages from them
#[derive(Debug, Parser)]
struct Args {
    /// How often each variant is run
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// How often SQLite is compiled in each way
    #[arg(long, default_value_t = 3)]
    compiles: usize,
    /// Only this bench (programs, trace, threads, sites, sections, callbacks, per-test, reports, instructions, compile,
    /// questions), or programs in it: BENCH/NAME. Their rows take the place of the old ones of the same names
    #[arg(long)]
    only: Vec<String>,
    /// Measure nothing: make the page from the rows that there are
    #[arg(long)]
    page: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The benches, by name: those that are run in rounds, and what is measured then.
const ROUNDS: [(&str, Candidates); 8] = [
    ("programs", benches::whole_programs),
    ("trace", benches::traces),
    ("threads", benches::threads),
    ("sites", benches::sites),
    ("sections", sections::candidates),
    ("callbacks", callbacks::candidates),
    ("per-test", per_test::candidates),
    ("reports", reports::candidates),
];

type Candidates = fn(&Bench, &dyn Fn(&str) -> bool) -> Result<Vec<Candidate>, Error>;

fn run(args: &Args) -> Result<(), Error> {
    if args.page {
        return page::write();
    }
    let known = ROUNDS.map(|(name, _)| name);
    let known = [&known[..], &["instructions", "compile", "questions"]].concat();
    for only in &args.only {
        let bench = only.split('/').next().unwrap_or_default();
        if !known.contains(&bench) {
            return Err(format!("there is no bench {bench}, but {}", known.join(", ")).into());
        }
    }
    if args.wants("questions") {
        shell::heading("questions")?;
        args.keep("questions", questions::ask(args.rounds)?)?;
    }
    if !known
        .iter()
        .any(|name| *name != "questions" && args.wants(name))
    {
        return page::write();
    }
    let bench = Bench::prepare(true)?;
    for (name, candidates) in ROUNDS.into_iter().filter(|(name, _)| args.wants(name)) {
        shell::heading(name)?;
        let candidates = candidates(&bench, &|program| args.wants_of(name, program))?;
        let mut rows = measure::rounds(&candidates, args.rounds)?;
        if name == "per-test" {
            per_test::sizes(&candidates, &mut rows)?;
        }
        args.keep(name, rows)?;
    }
    if args.wants("instructions") {
        shell::heading("instructions")?;
        let wanted = |program: &str| args.wants_of("instructions", program);
        args.keep("instructions", benches::instructions(&bench, &wanted)?)?;
    }
    if args.wants("compile") {
        shell::heading("compile")?;
        args.keep("compile", benches::compiles(&bench, args.compiles)?)?;
    }
    page::write()
}

impl Args {
    /// Whether this bench is to be run.
    fn wants(&self, bench: &str) -> bool {
        let of = |only: &String| only.split('/').next() == Some(bench);
        self.only.is_empty() || self.only.iter().any(of)
    }

    /// Whether this program of it is to be run.
    fn wants_of(&self, bench: &str, program: &str) -> bool {
        let of = |only: &String| match only.split_once('/') {
            None => only == bench,
            Some((of, name)) => of == bench && name == program,
        };
        self.only.is_empty() || self.only.iter().any(of)
    }

    /// Writes a bench's rows.
    fn keep(&self, bench: &str, rows: Rows) -> Result<(), Error> {
        let path = results(bench);
        let rows = match self.only.is_empty() || !path.is_file() {
            true => rows,
            false => rows.replace_in(Rows::read(&path)?)?,
        };
        Ok(rows.write(&path)?)
    }
}

/// The file of a bench's raw rows.
fn results(name: &str) -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.join("results").join(name).with_extension("csv")
}
