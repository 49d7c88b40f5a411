// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a report says of lines is held against gcov, which counts them: no line is said to have run
//! that did not, nor the other way round.

mod cache;
mod changes;
mod clients;
mod config;
mod contexts;
mod debug;
#[cfg(feature = "debuginfod")]
mod debuginfod;
mod exclusions;
mod folded;
mod formats;
#[path = "../here/mod.rs"]
mod here;
mod lines;
mod merge;
mod options;
mod paths;
mod queries;
mod screen;
mod show;
mod small;
mod story;
mod watch;
mod words;

use here::has;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use xtask::compare::{self, Comparison, Kind, Options, Rule};

/// The compilers that are there.
fn compilers() -> impl Iterator<Item = &'static str> {
    ["gcc", "clang-22"]
        .into_iter()
        .filter(|compiler| has(compiler))
}

/// All calls go through registers, as in User Mode Linux.
const LARGE: [&str; 3] = ["-mcmodel=large", "-fno-pie", "-no-pie"];

/// A program, built in two ways in a folder of its own.
struct Subject {
    folder: tempfile::TempDir,
    source: PathBuf,
    cxx: bool,
}

fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Subject {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join(name);
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth");
        fs::copy(original.join(name), &source).unwrap();
        let cxx = !name.ends_with(".c");
        Self {
            folder,
            source,
            cxx,
        }
    }

    /// What gcov says, as an lcov tracefile.
    fn counted(&self) -> String {
        let at = |command: &mut Command| succeed(command.current_dir(self.folder.path()));
        let mut gcc = Command::new(if self.cxx { "g++" } else { "gcc" });
        gcc.args(["--coverage", "-O0", "-o", "counted"]);
        at(gcc.arg(&self.source));
        at(&mut Command::new("./counted"));
        let files = fs::read_dir(self.folder.path()).unwrap();
        let data = files
            .map(|file| file.unwrap().path())
            .find(|path| path.extension().is_some_and(|end| end == "gcda"));
        let text = at(Command::new("gcov").args(["-t"]).arg(data.unwrap()));
        lcov_of(&text)
    }

    /// What the report says.
    fn reported(&self, compiler: &str, flags: &[&str]) -> String {
        let rkcov = env!("CARGO_BIN_EXE_rkcov");
        let at = |command: &mut Command| succeed(command.current_dir(self.folder.path()));
        let mut build = Command::new(rkcov);
        build.args([if self.cxx { "c++" } else { "cc" }, compiler, "-g"]);
        at(build.args(flags).arg(&self.source).args(["-o", "subject"]));
        at(Command::new(rkcov).args(["run", "-o", "trace.rkcov", "--", "./subject"]));
        at(Command::new(rkcov).args(["report", "trace.rkcov", "--format", "lcov"]))
    }

    fn compare(&self, compiler: &str, flags: &[&str], reference: &str) -> Comparison {
        let rules = include_str!("rules.json");
        let mut rules: Vec<Rule> = serde_json::from_str(rules).unwrap();
        if flags.contains(&LARGE[0]) {
            // The address of a variable is computed before it is wanted.
            let more: Vec<Rule> = serde_json::from_str(include_str!("large.json")).unwrap();
            rules.extend(more);
        }
        let options = Options {
            rules: &rules,
            ..Options::default()
        };
        let judged = compare::parse(&self.reported(compiler, flags)).unwrap();
        let reference = compare::parse(reference).unwrap();
        compare::compare(judged, reference, &options).unwrap()
    }
}

/// gcov's text for people as an lcov tracefile.
fn lcov_of(text: &str) -> String {
    let mut lcov = String::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').map(str::trim);
        let (Some(count), Some(number), Some(rest)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if let ("0", Some(path)) = (number, rest.strip_prefix("Source:")) {
            writeln!(lcov, "SF:{path}").unwrap();
        } else if number != "0" && count != "-" {
            let digits: String = count.chars().take_while(char::is_ascii_digit).collect();
            let count = if digits.is_empty() { "0" } else { &digits };
            writeln!(lcov, "DA:{number},{count}").unwrap();
        }
    }
    lcov
}

/// Builds a program with every compiler at every level, in C also with `LARGE`. `least` are the
/// shares of the lines that ran which the report has to know, without optimization and with it.
fn hold(name: &str, compilers: [&str; 2], least: [f64; 2]) {
    let subject = Subject::new(name);
    let reference = subject.counted();
    for compiler in compilers.into_iter().filter(|compiler| has(compiler)) {
        let models: &[&[&str]] = if subject.cxx { &[&[]] } else { &[&[], &LARGE] };
        for (level, model) in ["-O0", "-O1", "-O2"]
            .into_iter()
            .flat_map(|level| models.iter().map(move |model| (level, *model)))
        {
            let flags = [&[level], model].concat();
            let result = subject.compare(compiler, &flags, &reference);
            let text = format!("{name} {compiler} {flags:?}: {}", result.text(100));
            println!("{text}");
            assert_eq!(result.files, 1, "{text}");
            assert_eq!(result.unexplained(Kind::RanNot).count(), 0, "{text}");
            assert_eq!(result.unexplained(Kind::NotRan).count(), 0, "{text}");
            let least = least[usize::from(level != "-O0")];
            assert!(result.found >= least, "{text}");
        }
    }
}

#[test]
fn ways_out_of_c_functions() {
    hold("ways.c", ["gcc", "clang-22"], [60.0, 45.0]);
}

#[test]
fn exceptions() {
    hold("exceptions.cc", ["g++", "clang++-22"], [70.0, 50.0]);
}
