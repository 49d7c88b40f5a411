// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a compiler is and what it can instrument, by asking it once.
//!
//! A version number does not say what a vendor built in, and some compilers take an option and do
//! nothing. So each instrumentation is tried on a small function, and counts only if the assembly
//! calls what it should call. The answer is kept in the cache folder until the compiler's file
//! changes.

use super::find::{find, Program, Stamp};
use crate::{assembler, cache};
use memchr::memmem;
use rkcov_abi::sites::CHECKED;
use rkcov_rewrite::assembly::Form;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
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
    /// Calls without an argument, of which the assembler's stage makes checks.
    Check,
    /// Calls with a number for each edge.
    Guard,
    /// Calls without an argument.
    Pc,
    /// A counter for each edge, which a fuzzer reads. The runtime does not: it is used only if asked for.
    Counters,
}

impl Instrumentation {
    /// All of them, the best first.
    pub const ALL: [Self; 4] = [Self::Check, Self::Guard, Self::Pc, Self::Counters];

    /// The options that ask `family` for it; `None` if no compiler of the family has it.
    #[must_use]
    pub fn options(self, family: Family) -> Option<&'static [&'static str]> {
        match (family, self) {
            // The driver's own -fsanitize-coverage would ask for a sanitizer's library when it links.
            (Family::Clang, Self::Check) => Some(&[
                "-Xclang",
                "-fsanitize-coverage-type=3",
                "-Xclang",
                "-fsanitize-coverage-trace-pc",
                "-fno-integrated-as",
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
            (Family::Clang, Self::Counters) => Some(&[
                "-Xclang",
                "-fsanitize-coverage-type=3",
                "-Xclang",
                "-fsanitize-coverage-inline-8bit-counters",
                "-Xclang",
                "-fsanitize-coverage-pc-table",
            ]),
            // A call that is the last thing in a function would become a jump, and its return
            // address the caller's: an empty function would never be seen to run. That holds for
            // what stays a call, too.
            (Family::Gcc, Self::Check | Self::Pc | Self::Counters) => Some(&[
                "-fsanitize-coverage=trace-pc",
                "-fno-optimize-sibling-calls",
            ]),
            (Family::Gcc, Self::Guard) => None,
        }
    }

    /// What the stage of the assembler makes of the calls.
    #[must_use]
    pub fn form(self, family: Family) -> Option<Form> {
        match (self, family) {
            (Self::Check, _) => Some(Form::Checks),
            // Clang makes them itself.
            (Self::Counters, Family::Gcc) => Some(Form::Counters),
            _ => None,
        }
    }

    /// What the assembly of an instrumented function mentions.
    fn symbol(self) -> &'static str {
        match self {
            Self::Counters => COUNTERS_INIT,
            Self::Guard => "__sanitizer_cov_trace_pc_guard",
            Self::Check | Self::Pc => "__sanitizer_cov_trace_pc",
        }
    }
}

impl fmt::Display for Instrumentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "trace-pc, as checks",
            Self::Guard => "trace-pc-guard",
            Self::Pc => "trace-pc",
            Self::Counters => "inline-8bit-counters",
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
    /// The assembler that it uses, or clang would use.
    pub assembler: Option<PathBuf>,
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

    /// The best instrumentation for the runtime that it has; with `calls`, the best that is calls.
    #[must_use]
    pub fn best(&self, calls: bool) -> Option<Instrumentation> {
        let fits = |i: &&Instrumentation| match i {
            Instrumentation::Check => !calls,
            Instrumentation::Guard | Instrumentation::Pc => true,
            Instrumentation::Counters => false,
        };
        self.instrumentations.iter().find(fits).copied()
    }

    /// The variables that say to what stands in the assembler's place what it stands in for.
    /// `assembler` is the real one, if it is not that of every compilation.
    pub fn assembler_variables(
        &self,
        program: &Path,
        assembler: Option<PathBuf>,
    ) -> Vec<(&'static str, PathBuf)> {
        let real = assembler.or_else(|| self.assembler.clone());
        let mut variables: Vec<_> = real
            .map(|path| (assembler::REAL, path))
            .into_iter()
            .collect();
        if self.family == Family::Clang {
            variables.push((assembler::CLANG, program.to_owned()));
        }
        variables
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
    /// The version of rkcov that asked, and of the questions: another may ask other things.
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
        let current =
            entry.rkcov == ASKED && entry.path == program.path && entry.stamp == program.stamp;
        current.then_some(entry.compiler)
    }

    fn write(path: &Path, program: &Program, compiler: &Compiler) {
        let entry = Self {
            rkcov: ASKED.to_owned(),
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

/// What code with counters calls when it starts.
const COUNTERS_INIT: &str = "__sanitizer_cov_8bit_counters_init";

/// The version of rkcov, and of the questions within it.
const ASKED: &str = concat!(env!("CARGO_PKG_VERSION"), " 4");

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
        assembler: None,
    };
    let calls = |instrumentation: Instrumentation| -> Result<bool, Error> {
        match instrumentation.options(family) {
            Some(options) => mentions(program, options, &[instrumentation.symbol()]),
            None => Ok(false),
        }
    };
    for instrumentation in [Instrumentation::Guard, Instrumentation::Pc] {
        if calls(instrumentation)? {
            compiler.instrumentations.insert(instrumentation);
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
    compiler.assembler = assembler_of(program, &[]);
    if compiler.instrumentations.contains(&Instrumentation::Pc) {
        for (instrumentation, names) in [
            (Instrumentation::Check, [CHECKED, "__rkcov_hit"]),
            (Instrumentation::Counters, [COUNTERS_INIT, "__sancov_pcs"]),
        ] {
            if makes(program, &compiler, instrumentation, &names) {
                compiler.instrumentations.insert(instrumentation);
            }
        }
    }
    Ok(compiler)
}

/// The assembler that a compiler uses for its own machine if `options` are on its command line.
#[must_use]
pub fn assembler_of(program: &Path, options: &[OsString]) -> Option<PathBuf> {
    let output = Command::new(program)
        .args(options)
        .arg("-print-prog-name=as")
        .env("LC_ALL", "C")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let name = output.stdout.trim_ascii();
    let found = find(OsStr::from_bytes(name)).ok()?;
    Some(found.path)
}

/// Whether an object of the compiler mentions all of `names`: it runs what stands in its assembler's place,
/// if that is to be done, and the real one takes what comes of that. Any failure on the way is a no.
fn makes(
    program: &Path,
    compiler: &Compiler,
    instrumentation: Instrumentation,
    names: &[&str],
) -> bool {
    let form = instrumentation.form(compiler.family);
    let (Some(options), Ok(folder), true) = (
        instrumentation.options(compiler.family),
        assembler::folder(form.unwrap_or_default()),
        // Counters are for one machine.
        compiler.arch == "x86_64"
            || compiler.arch == "aarch64" && instrumentation == Instrumentation::Check,
    ) else {
        return false;
    };
    // A file, because assemblers cannot write objects to a pipe.
    let object = folder.join(format!("probe-{}.o", std::process::id()));
    let made = Command::new(program)
        .args(options)
        .args(form.map(|_| assembler::option(&folder)))
        .args(["-Werror", "-O1", "-x", "c", "-c", "-o"])
        .arg(&object)
        .arg("-")
        .envs(compiler.assembler_variables(program, None))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .and_then(|mut child| {
            let written = child
                .stdin
                .take()
                .map(|mut to| to.write_all(SUBJECT.as_bytes()));
            Ok(child.wait()?.success() && matches!(written, Some(Ok(()))))
        })
        .unwrap_or(false);
    let bytes = fs::read(&object).unwrap_or_default();
    let _ = fs::remove_file(&object);
    made && names
        .iter()
        .all(|name| memmem::find(&bytes, name.as_bytes()).is_some())
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
    fn the_best_comes_first_and_calls_can_be_asked_for() {
        let mut compiler = Compiler {
            family: Family::Clang,
            version: String::from("22.1.8"),
            arch: String::from("x86_64"),
            instrumentations: Instrumentation::ALL.into(),
            comparisons: true,
            assembler: None,
        };
        assert_eq!(compiler.best(false), Some(Instrumentation::Check));
        assert_eq!(compiler.best(true), Some(Instrumentation::Guard));
        compiler.instrumentations = [Instrumentation::Counters, Instrumentation::Pc].into();
        assert_eq!(compiler.best(false), Some(Instrumentation::Pc));
        compiler.instrumentations = [Instrumentation::Counters].into();
        assert_eq!(compiler.best(false), None);
    }
}
