// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the demonstration shows is true: lines that only worker threads of zstd ran are there with
//! several threads, and are not with one.

use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use xtask::{demo, shell, zstd};

/// A source's file name and the number of one of its lines.
type Line = (String, u32);

/// The lines that ran, by an lcov tracefile.
fn lines(tracefile: &str) -> BTreeSet<Line> {
    let mut file = String::new();
    let mut lines = BTreeSet::new();
    for record in tracefile.lines() {
        if let Some(path) = record.strip_prefix("SF:") {
            let name = Path::new(path).file_name().unwrap_or_default();
            file = name.to_string_lossy().into_owned();
        } else if let Some((line, count)) = record
            .strip_prefix("DA:")
            .and_then(|record| record.split_once(','))
        {
            if count != "0" {
                lines.insert((file.clone(), line.parse().expect("a line number")));
            }
        }
    }
    lines
}

/// What a run of zstd left.
struct Run {
    rkcov: PathBuf,
    trace: PathBuf,
}

impl Run {
    /// Compresses `file` and looks whether what comes of it is the file.
    fn new(zstd: &zstd::Zstd, threads: &str, file: &Path, dir: &Path) -> Result<Self, Failed> {
        let rkcov = demo::build_rkcov()?;
        let trace = dir.join(format!("{threads}.rkcov"));
        let packed = dir.join(format!("{threads}.zst"));
        let mut collect = demo::collect(&rkcov, zstd, threads, file, &trace);
        shell::read(collect.arg("-o").arg(&packed))?;
        let unpacked = Command::new(&zstd.program)
            .arg("-dc")
            .arg(&packed)
            .output()?;
        if unpacked.stdout != fs::read(file)? {
            return Err(format!("{} is not what was compressed", packed.display()).into());
        }
        Ok(Self { rkcov, trace })
    }

    /// The lines that ran on no thread but workers.
    fn workers_only(&self) -> Result<BTreeSet<Line>, Failed> {
        let mut report = demo::report(&self.rkcov, &self.trace, "lib/compress");
        Ok(lines(&shell::read(report.args(["--format", "lcov"]))?))
    }

    /// The lines that ran.
    fn all(&self) -> Result<BTreeSet<Line>, Failed> {
        let mut report = Command::new(&self.rkcov);
        report.arg("report").arg(&self.trace);
        report.args(["--filter", "lib/compress", "--format", "lcov"]);
        Ok(lines(&shell::read(&mut report)?))
    }
}

fn worker_lines(compiler: &str) -> Result<(), Failed> {
    let rkcov = demo::build_rkcov()?;
    let zstd = zstd::build(&rkcov, compiler)?;
    let dir = tempfile::tempdir()?;
    let several = Run::new(&zstd, "-T4", &rkcov, dir.path())?;
    let single = Run::new(&zstd, "--single-thread", &rkcov, dir.path())?;

    let workers = several.workers_only()?;
    let manager = |lines: &BTreeSet<Line>| -> BTreeSet<Line> {
        let of = |line: &&Line| line.0 == "zstdmt_compress.c";
        lines.iter().filter(of).cloned().collect()
    };
    // The workers compress: their jobs' own code, and the compressor that the main thread would run.
    for file in [
        "zstdmt_compress.c",
        "zstd_compress.c",
        "huf_compress.c",
        "hist.c",
    ] {
        let count = workers.iter().filter(|line| line.0 == file).count();
        if count < 10 {
            return Err(format!("{count} lines of {file} on worker threads only").into());
        }
    }
    // With a single thread there are no such lines, and those of the jobs did not run at all.
    let left = single.workers_only()?;
    if !left.is_empty() {
        return Err(format!("with --single-thread workers ran {left:?}").into());
    }
    let ran = single.all()?;
    let jobs = manager(&workers);
    let jobs: Vec<&Line> = jobs.intersection(&ran).collect();
    if !jobs.is_empty() {
        return Err(format!("with --single-thread these ran: {jobs:?}").into());
    }
    // The compressor itself did run, on the main thread: the report is not merely empty.
    let both = workers.intersection(&ran).count();
    if both < 100 {
        return Err(format!("only {both} lines of the compressor ran with --single-thread").into());
    }
    Ok(())
}

fn main() -> ExitCode {
    let clang = demo::clang();
    let trials = [("gcc", Some(String::from("gcc"))), ("clang", clang)].map(|(name, compiler)| {
        Trial::test(format!("worker_lines::{name}"), {
            let compiler = compiler.clone();
            move || worker_lines(&compiler.unwrap_or_default())
        })
        .with_ignored_flag(compiler.is_none())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}
