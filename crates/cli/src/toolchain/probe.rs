// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a compiler is and what it can instrument, by asking it once.
//!
//! A version number does not say what a vendor built in, and some compilers take an option and do
//! nothing. So each instrumentation is tried on a small function, and counts only if the assembly
//! calls what it should call. The answer is kept in the cache folder until the compiler's file
//! changes.

use super::find::{Program, Stamp};
use crate::cache;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fmt, fs, io, thread};

/// The two families of compilers, by their options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// GCC.
    Gcc,
    /// Clang and what is made from it.
    Clang,
}

/// How code can be made to say that it ran, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Instrumentation {
    /// Calls with a number for each edge, passed over while the module's gate is closed.
    GatedGuard,
    /// Calls with a number for each edge.
    Guard,
    /// Calls without an argument.
    Pc,
}

impl Instrumentation {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::GatedGuard, Self::Guard, Self::Pc];

    /// The options that ask `family` for it; `None` if no compiler of the family has it.
    #[must_use]
    pub fn options(self, family: Family) -> Option<&'static [&'static str]> {
        match (family, self) {
            // The driver's own -fsanitize-coverage would ask for a sanitizer's library when it links.
            (Family::Clang, Self::GatedGuard) => Some(&[
                "-Xclang",
                "-fsanitize-coverage-type=3",
                "-Xclang",
                "-fsanitize-coverage-trace-pc-guard",
                "-mllvm",
                "-sanitizer-coverage-gated-trace-callbacks",
            ]),
            (Family::Clang, Self::Guard) => Some(&[
                "-Xclang",
                "-fsanitize-coverage-type=3",
                "-Xclang",
                "-fsanitize-coverage-trace-pc-guard",
            ]),
            (Family::Clang, Self::Pc) => Some(&[
                "-Xclang",
                "-fsanitize-coverage-type=3",
                "-Xclang",
                "-fsanitize-coverage-trace-pc",
            ]),
            // A call that is the last thing in a function would become a jump, and its return
            // address the caller's: an empty function would never be seen to run.
            (Family::Gcc, Self::Pc) => Some(&[
                "-fsanitize-coverage=trace-pc",
                "-fno-optimize-sibling-calls",
            ]),
            (Family::Gcc, Self::GatedGuard | Self::Guard) => None,
        }
    }

    /// What the assembly of an instrumented function mentions.
    fn symbols(self) -> &'static [&'static str] {
        match self {
            Self::GatedGuard => &["__sanitizer_cov_trace_pc_guard", "__sancov_should_track"],
            Self::Guard => &["__sanitizer_cov_trace_pc_guard"],
            Self::Pc => &["__sanitizer_cov_trace_pc"],
        }
    }
}

impl fmt::Display for Instrumentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GatedGuard => "trace-pc-guard, gated",
            Self::Guard => "trace-pc-guard",
            Self::Pc => "trace-pc",
        })
    }
}

/// The options that ask `family` to report comparisons too.
#[must_use]
pub fn comparison_options(family: Family) -> &'static [&'static str] {
    match family {
        Family::Clang => &["-Xclang", "-fsanitize-coverage-trace-cmp"],
        Family::Gcc => &["-fsanitize-coverage=trace-cmp"],
    }
}

/// What a compiler is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiler {
    /// Whose options it takes.
    pub family: Family,
    /// Its version, as its macros say it.
    pub version: String,
    /// The architecture that it compiles for when not told otherwise, as Rust names it.
    pub arch: String,
    /// What it can instrument.
    pub instrumentations: BTreeSet<Instrumentation>,
    /// Whether it can report comparisons.
    pub comparisons: bool,
}

/// Why it is not known what a compiler is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be run.
    #[error("cannot run {}", .0.display())]
    Run(PathBuf, #[source] io::Error),
    /// It says it is neither GCC nor Clang.
    #[error("{} is neither gcc nor clang", .0.display())]
    Unknown(PathBuf),
}

impl Compiler {
    /// What the compiler `program` is: from the cache folder, or by asking it.
    ///
    /// # Errors
    /// It cannot be run, or is of no known family. That the cache cannot be written is no error.
    pub fn of(program: &Program) -> Result<Self, Error> {
        let entry = Entry::path(program);
        if let Some(compiler) = entry.as_deref().and_then(|path| Entry::read(path, program)) {
            return Ok(compiler);
        }
        let compiler = ask(&program.path)?;
        if let Some(path) = entry {
            Entry::write(&path, program, &compiler);
        }
        Ok(compiler)
    }

    /// The best instrumentation that it has, with or without a gate.
    #[must_use]
    pub fn best(&self, gate: bool) -> Option<Instrumentation> {
        let fits = |i: &&Instrumentation| gate || **i != Instrumentation::GatedGuard;
        self.instrumentations.iter().find(fits).copied()
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Gcc => "gcc",
            Family::Clang => "clang",
        };
        write!(f, "{family} {} for {}", self.version, self.arch)
    }
}

/// A file of the cache folder: one compiler, and the stamp of the file that it was.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// The version of rkcov that asked: another may ask other things.
    rkcov: String,
    path: PathBuf,
    stamp: Stamp,
    compiler: Compiler,
}

impl Entry {
    fn path(program: &Program) -> Option<PathBuf> {
        let mut hasher = DefaultHasher::new();
        program.path.hash(&mut hasher);
        let name = format!("{:016x}.json", hasher.finish());
        Some(cache::dir().ok()?.join("compilers").join(name))
    }

    fn read(path: &Path, program: &Program) -> Option<Compiler> {
        let entry: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let current = entry.rkcov == env!("CARGO_PKG_VERSION")
            && entry.path == program.path
            && entry.stamp == program.stamp;
        current.then_some(entry.compiler)
    }

    fn write(path: &Path, program: &Program, compiler: &Compiler) {
        let entry = Self {
            rkcov: env!("CARGO_PKG_VERSION").to_owned(),
            path: program.path.clone(),
            stamp: program.stamp.clone(),
            compiler: compiler.clone(),
        };
        if let Ok(text) = serde_json::to_vec_pretty(&entry) {
            // A cache that cannot be written costs time, not correctness.
            let _ = cache::write(path, &text);
        }
    }
}

/// Macros of the compiler that tell what it is, one a line.
const QUESTION: &str = "\
rkcov clang __clang_major__ __clang_minor__ __clang_patchlevel__
rkcov gcc __GNUC__ __GNUC_MINOR__ __GNUC_PATCHLEVEL__
rkcov x86_64 __x86_64__ __LP64__
rkcov aarch64 __aarch64__ __LP64__
";

/// A function that has an edge and a comparison.
const SUBJECT: &str = "int subject(int a, int b) { return a > b ? a : 7; }\n";

fn ask(program: &Path) -> Result<Compiler, Error> {
    let answer = run(program, &["-E", "-P"], QUESTION)?;
    let unknown = || Error::Unknown(program.to_owned());
    let answer = answer.ok_or_else(unknown)?;
    let (family, version) = [("clang", Family::Clang), ("gcc", Family::Gcc)]
        .into_iter()
        .find_map(|(word, family)| Some((family, numbers(&answer, word)?)))
        .ok_or_else(unknown)?;
    let arch = ["x86_64", "aarch64"]
        .into_iter()
        .find(|arch| numbers(&answer, arch).is_some())
        .unwrap_or("other");

    let mut compiler = Compiler {
        family,
        version: version.join("."),
        arch: arch.to_owned(),
        instrumentations: BTreeSet::new(),
        comparisons: false,
    };
    for instrumentation in Instrumentation::ALL {
        if let Some(options) = instrumentation.options(family) {
            if mentions(program, options, instrumentation.symbols())? {
                compiler.instrumentations.insert(instrumentation);
            }
        }
    }
    if let Some(best) = compiler.best(true) {
        let options = [
            best.options(family).unwrap_or(&[]),
            comparison_options(family),
        ]
        .concat();
        compiler.comparisons = mentions(program, &options, &["__sanitizer_cov_trace_cmp4"])?;
    }
    Ok(compiler)
}

/// The words after `word` in the answer to the question, if the preprocessor made numbers of them all.
fn numbers<'a>(answer: &'a str, word: &str) -> Option<Vec<&'a str>> {
    let line = answer.lines().find_map(|line| {
        let rest = line.strip_prefix("rkcov ")?.strip_prefix(word)?;
        rest.strip_prefix(' ')
    })?;
    let words: Vec<&str> = line.split_whitespace().collect();
    words
        .iter()
        .all(|w| w.parse::<u32>().is_ok())
        .then_some(words)
}

/// Whether `options` make the compiler emit all of `symbols`.
fn mentions(program: &Path, options: &[&str], symbols: &[&str]) -> Result<bool, Error> {
    let options = [options, &["-Werror", "-O1", "-S"]].concat();
    let assembly = run(program, &options, SUBJECT)?.unwrap_or_default();
    let words: BTreeSet<&str> = assembly
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    Ok(symbols.iter().all(|symbol| words.contains(symbol)))
}

/// Compiles `source` as C with `options`; what it printed, or `None` if it refused.
fn run(program: &Path, options: &[&str], source: &str) -> Result<Option<String>, Error> {
    let failed = |error| Error::Run(program.to_owned(), error);
    let mut child = Command::new(program)
        .args(options)
        .args(["-x", "c", "-o", "-", "-"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // A compiler that refuses its options may not read its input: not our failure.
        scope.spawn(move || stdin.map(|mut to| to.write_all(source.as_bytes())));
        child.wait_with_output()
    })
    .map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(output.status.success().then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_answer() {
        let answer = "rkcov clang __clang_major__ 1 1\nrkcov gcc 12 2 0\nrkcov gccx 1\n";
        assert_eq!(numbers(answer, "clang"), None);
        assert_eq!(numbers(answer, "gcc"), Some(vec!["12", "2", "0"]));
        assert_eq!(numbers(answer, "x86_64"), None);
    }

    #[test]
    fn the_best_comes_first_and_the_gate_can_be_refused() {
        let mut compiler = Compiler {
            family: Family::Clang,
            version: String::from("22.1.8"),
            arch: String::from("x86_64"),
            instrumentations: Instrumentation::ALL.into(),
            comparisons: true,
        };
        assert_eq!(compiler.best(true), Some(Instrumentation::GatedGuard));
        assert_eq!(compiler.best(false), Some(Instrumentation::Guard));
        compiler.instrumentations = [Instrumentation::Pc].into();
        assert_eq!(compiler.best(true), Some(Instrumentation::Pc));
    }
}
