// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which tests a change concerns.
//!
//! A change within a function concerns who ran any of that function. Of anything else (a macro, a
//! constant, a type, a manifest, data) nobody knows whom it concerns: then the answer is all. So it is of a
//! `const fn`, which the compiler may have run for anybody.

use crate::since::{git, root, Error};
use clap::ValueEnum;
use rkcov_report::contexts::Contexts;
use rkcov_report::coverage::{Coverage, Function, SourceFile};
use rkcov_report::image::Example;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// The program that runs tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Runner {
    /// cargo test
    Test,
    /// cargo nextest run
    Nextest,
}

/// What changed in a file, by the lines that were there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Lines of code; each range lies in one function, or nobody knows whom it concerns.
    Lines {
        /// Where.
        lines: Vec<RangeInclusive<u32>>,
        /// What the source was before.
        before: String,
    },
    /// Code anywhere in it. This is what the source is.
    Code(String),
    /// It is new, gone, or no text.
    All,
}

/// What changed, by file.
pub type Changes = BTreeMap<PathBuf, Change>;

/// What changed in the work tree that we are in, since `rev`.
///
/// # Errors
/// Git cannot be run, or it does not know `rev`.
pub fn since(rev: &str) -> Result<Changes, Error> {
    let root = root()?;
    let diff = |how: &[&str]| {
        let mut words = vec![
            "-c",
            "core.quotePath=false",
            "diff",
            "--no-renames",
            "--no-color",
        ];
        words.extend(["--no-ext-diff", "--no-prefix"]);
        words.extend(how);
        words.extend(["--end-of-options", rev, "--"]);
        git(&words)
    };
    let mut changes = Changes::new();
    let names = diff(&["--name-status", "-z"])?;
    let mut words = names.split('\0');
    while let (Some(status), Some(name)) = (words.next(), words.next()) {
        let path = root.join(name);
        let text = if status == "M" && path.extension().is_some_and(|end| end == "rs") {
            Change::Lines {
                lines: Vec::new(),
                before: String::new(),
            }
        } else {
            Change::All
        };
        changes.insert(path, text);
    }
    // From the root on, as the other names.
    let at_root = root.to_string_lossy();
    let new = git(&[
        "-C",
        &at_root,
        "ls-files",
        "--others",
        "--exclude-standard",
        "-z",
    ])?;
    for name in new.split('\0').filter(|name| !name.is_empty()) {
        changes.insert(root.join(name), Change::All);
    }
    let sources: Vec<PathBuf> = changes.keys().cloned().collect();
    for path in sources {
        if let Some(Change::Lines { lines, before }) = changes.get_mut(&path) {
            let name = path.strip_prefix(&root).unwrap_or(&path);
            *before = git(&["cat-file", "blob", &format!("{rev}:{}", name.display())])?;
            let name = format!(":(top,literal){}", name.display());
            let words = [
                "diff",
                "--unified=0",
                "--no-renames",
                "--no-color",
                "--no-ext-diff",
            ];
            let words = [&words[..], &["--end-of-options", rev, "--", &name]].concat();
            *lines = old_lines(&git(&words)?);
        }
    }
    Ok(changes)
}

/// Code anywhere in these files.
#[must_use]
pub fn whole(files: &[PathBuf]) -> Changes {
    let path = |path: &PathBuf| std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let change = |file: &PathBuf| match file.extension() {
        Some(end) if end == "rs" => std::fs::read_to_string(file).map_or(Change::All, Change::Code),
        _ => Change::All,
    };
    files
        .iter()
        .map(|file| (path(file), change(file)))
        .collect()
}

/// The lines of a file that a patch without context changes or stands between, as they were before.
fn old_lines(patch: &str) -> Vec<RangeInclusive<u32>> {
    let mut found = Vec::new();
    let mut hunk: Option<(RangeInclusive<u32>, bool)> = None;
    for line in patch.lines() {
        if let Some(sides) = line.strip_prefix("@@ -") {
            found.extend(
                hunk.take()
                    .filter(|(_, code)| *code)
                    .map(|(range, _)| range),
            );
            let old = sides.split(' ').next().unwrap_or_default();
            let (first, many) = old.split_once(',').unwrap_or((old, "1"));
            let number = |text: &str| text.parse::<u32>().unwrap_or(0);
            let (first, many) = (number(first), number(many));
            // What is added stands between two lines.
            let range = if many == 0 {
                first..=first + 1
            } else {
                first..=first + many - 1
            };
            hunk = Some((range, false));
        } else if let (Some((_, code)), Some(text)) = (&mut hunk, line.strip_prefix(['+', '-'])) {
            *code |= is_code(text);
        }
    }
    found.extend(hunk.filter(|(_, code)| *code).map(|(range, _)| range));
    found
}

/// Whether a line is more than a comment. What documentation says may be a test.
fn is_code(line: &str) -> bool {
    let line = line.trim_start();
    let comment = line.starts_with("//") && !line.starts_with("///") && !line.starts_with("//!");
    !line.is_empty() && !comment
}

/// The functions of a source that the compiler can run.
fn constant(source: &SourceFile, text: &str) -> Vec<RangeInclusive<u32>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_constant = |function: &&Function| {
        let at = (function.lines.0 as usize).checked_sub(1);
        at.and_then(|at| lines.get(at)).is_some_and(|line| {
            let head = line.split("fn ").next().unwrap_or_default();
            head.len() < line.len() && head.split_whitespace().any(|word| word == "const")
        })
    };
    let functions = source.functions.iter().filter(is_constant);
    functions.map(|f| f.lines.0..=f.lines.1).collect()
}

/// The tests that are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Their names; nothing if it is all of them.
    pub tests: Option<BTreeSet<String>>,
    /// Why it is all, for people.
    pub why: Vec<String>,
}

impl Answer {
    /// The contexts that ran what changed.
    #[must_use]
    pub fn of(changes: &Changes, contexts: &Contexts<'_>, coverage: &Coverage) -> Self {
        let mut tests = BTreeSet::new();
        let mut why = Vec::new();
        if !changes.is_empty() {
            let without = coverage.runs.iter().filter(|run| run.contexts.is_empty());
            why.extend(without.map(|run| {
                format!(
                    "all tests: {} does not say which test ran what: it was recorded without --per-test. \
                     Remove it, or record it again",
                    run.name
                )
            }));
        }
        for (path, change) in changes {
            let shown = path.display();
            let mut all = |what: &str| why.push(format!("all tests: {shown} {what}"));
            let known = coverage.file(path);
            let lines = match (change, known) {
                (Change::All, _) => {
                    all(what_it_is(path));
                    continue;
                }
                (_, None) => {
                    all("is in no trace");
                    continue;
                }
                (Change::Code(_), Some(source)) => {
                    let functions = source.functions.iter();
                    functions.map(|f| f.lines.0..=f.lines.1).collect()
                }
                (Change::Lines { lines, .. }, Some(_)) => lines.clone(),
            };
            let text = match change {
                Change::Code(text) | Change::Lines { before: text, .. } => text.as_str(),
                Change::All => "",
            };
            let constant = known.map_or(Vec::new(), |source| constant(source, text));
            for range in lines {
                if let Some(line) = constant.iter().find(|f| f.contains(range.start())) {
                    let line = line.start();
                    all(&format!(
                        "changed in the const fn at line {line}, which the compiler may have run"
                    ));
                    continue;
                }
                let Some(ran) = contexts.ran_function_at(path, &range) else {
                    let line = range.start();
                    all(&format!(
                        "changed at line {line}, which is in no function that has code"
                    ));
                    continue;
                };
                let names = ran.contexts.iter().chain(&ran.maybe);
                tests.extend(names.map(|name| (*name).to_owned()));
                if let Some(thread) = ran.outside.first() {
                    let line = range.start();
                    all(&format!(
                        "ran at line {line} on thread {thread}, and it is not known for which test"
                    ));
                }
            }
        }
        Self {
            tests: why.is_empty().then_some(tests),
            why,
        }
    }

    /// The arguments with which the runner runs these tests, as words that a shell leaves as they are.
    #[must_use]
    pub fn arguments(&self, runner: Runner) -> String {
        let Some(tests) = &self.tests else {
            return String::new();
        };
        let (examples, tests): (Vec<&str>, Vec<&str>) = tests
            .iter()
            .map(String::as_str)
            .partition(|test| Example::of(test).is_some());
        match runner {
            Runner::Test if tests.is_empty() && examples.is_empty() => "--no-run".to_owned(),
            Runner::Test if examples.is_empty() => format!("-- --exact {}", tests.join(" ")),
            Runner::Test => {
                // The name of an example has spaces, and a line that may be another by now. All of a source
                // run, and tests whose names contain the others'.
                let sources = examples.into_iter().filter_map(Example::of);
                let sources: BTreeSet<&str> = sources.map(|e| one_word(e.source)).collect();
                let words: Vec<&str> = tests.into_iter().chain(sources).collect();
                format!("-- {}", words.join(" "))
            }
            Runner::Nextest if tests.is_empty() => "--no-tests=pass -E none()".to_owned(),
            Runner::Nextest => {
                let names: Vec<String> =
                    tests.iter().map(|name| format!("test(={name})")).collect();
                format!("-E {}", names.join("+"))
            }
        }
    }

    /// How many of the tests are examples in documentation: nextest does not run them.
    #[must_use]
    pub fn examples(&self) -> usize {
        let tests = self.tests.iter().flatten();
        tests.filter(|test| Example::of(test).is_some()).count()
    }

    /// The same, for programs.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn json(&self, runner: Runner, to: &mut dyn Write) -> io::Result<()> {
        let all = serde_json::json!({
            "all": self.tests.is_none(),
            "why": self.why,
            "tests": self.tests,
            "arguments": self.arguments(runner),
        });
        writeln!(to, "{all:#}")
    }
}

/// The longest part of a text that a shell takes for one word and leaves as it is.
fn one_word(text: &str) -> &str {
    let words = text.split(|c: char| !(c.is_alphanumeric() || "/._-+,@%".contains(c)));
    words.max_by_key(|word| word.len()).unwrap_or_default()
}

fn what_it_is(path: &Path) -> &'static str {
    let name = path.file_name().and_then(|name| name.to_str());
    match name.unwrap_or_default() {
        "Cargo.toml" | "Cargo.lock" => "decides what is built",
        "build.rs" => "runs when the project is built",
        name if name.ends_with(".rs") => "is new, or is gone",
        _ => "is no source: any test may read it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_are_those_before() {
        let patch = "--- a/x.rs\n+++ b/x.rs\n@@ -3 +3,2 @@ fn f()\n-old();\n+new();\n+more();\n\
                     @@ -9,2 +10,0 @@\n-a();\n-\n@@ -20,0 +19 @@\n+c();\n\
                     @@ -30 +29 @@\n-// said\n+// says\n@@ -40 +39 @@\n-/// said\n+/// says\n";
        assert_eq!(old_lines(patch), [3..=3, 9..=10, 20..=21, 40..=40]);
    }

    #[test]
    fn functions_that_the_compiler_can_run_are_found() {
        let text =
            "fn a() {}\npub const fn b() {\n}\nconst unsafe fn c() {}\nfn d(_: *const u8) {}\n\
                    const F: fn() = || {\n};\npub(crate) const extern \"C\" fn g() {}\n";
        let function = |(line, name): (u32, &str)| Function {
            name: name.into(),
            lines: (line, line),
            hits: Default::default(),
        };
        let functions = [
            (1, "a"),
            (2, "b"),
            (4, "c"),
            (5, "d"),
            (6, "F"),
            (8, "g"),
            (0, "?"),
        ];
        let source = SourceFile {
            functions: functions.map(function).to_vec(),
            ..SourceFile::default()
        };
        assert_eq!(constant(&source, text), [2..=2, 4..=4, 8..=8]);
    }

    #[test]
    fn arguments_name_the_tests() {
        let answer = |names: &[&str]| Answer {
            tests: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            why: Vec::new(),
        };
        let some = answer(&["b::c", "a"]);
        assert_eq!(some.arguments(Runner::Test), "-- --exact a b::c");
        assert_eq!(some.arguments(Runner::Nextest), "-E test(=a)+test(=b::c)");
        let examples = answer(&[
            "src/a b/lib.rs - (line 2)",
            "src/shop.rs - T<U>::x (line 9)",
            "src/shop.rs - y (line 7)",
            "t::a",
        ]);
        assert_eq!(
            examples.arguments(Runner::Test),
            "-- t::a b/lib.rs src/shop.rs"
        );
        assert_eq!(examples.arguments(Runner::Nextest), "-E test(=t::a)");
        assert_eq!(examples.examples(), 3);
        assert_eq!(answer(&[]).arguments(Runner::Test), "--no-run");
        assert_eq!(
            answer(&[]).arguments(Runner::Nextest),
            "--no-tests=pass -E none()"
        );
        assert_eq!(Answer::default().arguments(Runner::Test), "");
    }
}
