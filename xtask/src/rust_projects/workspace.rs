// SPDX-License-Identifier: MIT OR Apache-2.0
//! Large workspaces, put together of packages as in their own repositories: their tests under
//! `cargo rkcov test`, and once more with `-Cinstrument-coverage`. The two reports are compared line
//! by line; the files in `rules` explain differences, and docs/lines-rust.md keeps the results.

use super::Project;
use crate::compare::{self, Comparison, Kind, Options, Rule};
use crate::shell::{self, heading, Error};
use crate::{page, sources, work_dir};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const LEAST_LINES: usize = 50_000;

/// A profile may optimize tests: of a line that was optimized away neither can say much. Both are
/// compiled without.
const PROFILE: [(&str, &str); 2] = [
    ("CARGO_PROFILE_DEV_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_TEST_OPT_LEVEL", "0"),
];

/// A workspace, and what is compared of it.
#[derive(Debug)]
pub(super) struct Workspace {
    name: &'static str,
    /// The package whose manifest and lock file are those of the workspace.
    root: (&'static str, &'static str),
    /// The others.
    members: &'static [(&'static str, &'static str)],
    /// Which of its tests are run, in words of `cargo test`.
    tests: &'static [&'static str],
    /// Differences that are explained, in JSON.
    rules: &'static str,
}

/// The newest of which all tests are in the packages, and all files that they read. Those of its
/// libraries only: without optimization two of its integration
/// tests alone did not end in three minutes.
pub(super) const REGEX: Workspace = Workspace {
    name: "regex",
    root: ("regex", "1.11.1"),
    members: &[("regex-automata", "0.4.9"), ("regex-syntax", "0.8.5")],
    tests: &["--lib"],
    rules: include_str!("rules/regex.json"),
};

/// The whole: with the features that have tests. (The one that is left out, `force_validate`, takes
/// tests away.)
pub(super) const ARROW: Workspace = Workspace {
    name: "arrow",
    root: ("arrow-array", "56.2.0"),
    members: &[
        ("arrow-buffer", "56.2.0"),
        ("arrow-data", "56.2.0"),
        ("arrow-schema", "56.2.0"),
    ],
    tests: &[
        "--features",
        "ffi,chrono-tz,arrow-buffer/pool,arrow-schema/canonical_extension_types,arrow-schema/serde",
    ],
    rules: include_str!("rules/arrow.json"),
};

/// Differences that say nothing against either report, in any workspace.
const SILENCE: &str = include_str!("rules/silence.json");

/// Arguments of the comparison.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Keep the result in docs/.
    pub(super) write: bool,
    /// Print this many lines of each kind of difference that nothing explains.
    pub(super) show: usize,
}

impl Workspace {
    pub(super) fn run(&self, cargo_rkcov: &Path, wanted: &Wanted) -> Result<(), Error> {
        let (source, folder) = self.unpacked()?;
        let project = Project {
            cargo_rkcov: cargo_rkcov.to_owned(),
            source,
            folder,
        };
        let lines = count_lines(&project.folder)?;
        println!("{lines} lines of Rust");
        if lines < LEAST_LINES {
            return Err(format!("{lines} lines are fewer than {LEAST_LINES}").into());
        }
        let line = format!(
            // The compiler's own has the regions of functions that are not compiled, too; what is compared is
            // the lines of code that both have.
            "test {} --without-dead-code --no-exclusions --json --output-path target/rkcov.json",
            self.tests().join(" ")
        );
        heading(&format!("cargo rkcov {line}"))?;
        let log = project.folder.join("target/rkcov.log");
        fs::create_dir_all(project.folder.join("target"))?;
        let begin = Instant::now();
        shell::run_logged(project.cargo_rkcov(&line).envs(PROFILE), &log)?;
        let ours = Tests::read(&log)?;
        println!("{ours}; {} s", begin.elapsed().as_secs());
        let begin = Instant::now();
        let (reference, theirs) = reference(&project, &self.tests())?;
        println!("{theirs}; {} s", begin.elapsed().as_secs());
        if ours != theirs || ours.passed.is_empty() {
            return Err("these are not the same tests".into());
        }
        let folder = project.folder.canonicalize()?;
        let folder = folder.to_string_lossy().into_owned();
        let mut rules: Vec<Rule> = serde_json::from_str(self.rules)?;
        rules.append(&mut serde_json::from_str(SILENCE)?);
        let json = project.folder.join("target/rkcov.json");
        let (judged, unknown) = compare::report(&fs::read_to_string(json)?)?;
        let options = Options {
            unknown: Some(&unknown),
            strip: std::slice::from_ref(&folder),
            root: &folder,
            rules: &rules,
            ..Options::default()
        };
        let reference = compare::parse(&fs::read_to_string(reference)?)?;
        let comparison = compare::compare(judged, reference, &options)?;
        heading("cargo xtask compare-lines")?;
        print!("{}", comparison.text(wanted.show));
        if wanted.write {
            let mark = format!("<!-- {}: the result follows. -->\n", self.name);
            page::keep("docs/lines-rust.md", &mark, |_| {
                self.result(&comparison, lines, &ours)
            })?;
        }
        if !comparison.broken.is_empty() {
            return Err(comparison.broken.join("; ").into());
        }
        let left = [Kind::RanNot, Kind::NotRan].map(|kind| comparison.unexplained(kind).count());
        match left {
            [0, 0] => Ok(()),
            [claimed, denied] => Err(format!(
                "{claimed} lines are claimed to have run, {denied} not to have, and nothing explains it"
            )
            .into()),
        }
    }

    /// The folder of the root's package as it came, and that of all packages, with the lines of the
    /// repository in the root's manifest that make them a workspace.
    pub(super) fn unpacked(&self) -> Result<(PathBuf, PathBuf), Error> {
        let source = sources::crates_io(self.root.0, self.root.1)?;
        let folder = work_dir("rust-projects").join(self.name);
        if !folder.is_dir() {
            let partial = folder.with_extension("partial");
            sources::copy(&source, &partial)?;
            let mut manifest = fs::read_to_string(partial.join("Cargo.toml"))?;
            let names: Vec<&str> = self.members.iter().map(|(name, _)| *name).collect();
            write!(
                manifest,
                "\n[workspace]\nmembers = {names:?}\n\n[patch.crates-io]\n"
            )?;
            for (name, version) in self.members {
                sources::copy(&sources::crates_io(name, version)?, &partial.join(name))?;
                writeln!(manifest, "{name} = {{ path = {name:?} }}")?;
            }
            fs::write(partial.join("Cargo.toml"), manifest)?;
            fs::rename(&partial, &folder)?;
        }
        Ok((source, folder))
    }

    /// What both halves say to `cargo test`.
    fn tests(&self) -> Vec<&str> {
        [&["--workspace", "--no-fail-fast"], self.tests].concat()
    }

    /// What is kept of a comparison.
    fn result(&self, comparison: &Comparison, lines: usize, tests: &Tests) -> String {
        let packages: Vec<String> = [self.root]
            .iter()
            .chain(self.members)
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{}: {lines} lines of Rust; {tests}. {} files are in both reports, {} only in rkcov's, {} only in the other's.\n\n\
             | rkcov | `-Cinstrument-coverage` | lines | explained |\n| --- | --- | ---: | ---: |",
            packages.join(", "),
            comparison.files,
            comparison.only_judged.len(),
            comparison.only_reference.len(),
        );
        for (kind, count) in &comparison.lines {
            let (ours, theirs) = match kind {
                Kind::RanRan => ("ran", "ran"),
                Kind::NotNot => ("did not", "did not"),
                Kind::RanNot => ("ran", "did not"),
                Kind::NotRan => ("did not", "ran"),
                Kind::NoneRan => ("-", "ran"),
                Kind::NoneNot => ("-", "did not"),
                Kind::RanNone => ("ran", "-"),
                Kind::NotNone => ("did not", "-"),
            };
            let explained = match kind {
                Kind::RanRan | Kind::NotNot => String::new(),
                _ => (count - comparison.unexplained(*kind).count()).to_string(),
            };
            let _ = writeln!(text, "| {ours} | {theirs} | {count} | {explained} |");
        }
        let _ = writeln!(
            text,
            "\nOf the lines with a verdict in both reports, they agree on {:.2} %. Of the lines that ran, rkcov's report \
             covers {:.2} %.\n\n| rule | lines |\n| --- | ---: |",
            comparison.agreement, comparison.found
        );
        for (rule, count) in &comparison.rules {
            let _ = writeln!(text, "| {rule} | {count} |");
        }
        text
    }
}

/// Lines of all Rust sources in a folder.
fn count_lines(folder: &Path) -> Result<usize, Error> {
    let mut lines = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && path.file_name() != Some(OsStr::new("target")) {
            lines += count_lines(&path)?;
        } else if path.extension() == Some(OsStr::new("rs")) {
            let text = fs::read(&path)?;
            lines += text.iter().filter(|byte| **byte == b'\n').count();
        }
    }
    Ok(lines)
}

/// How many tests there are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tests {
    /// Those that passed, by what they are in.
    passed: BTreeMap<&'static str, usize>,
    ignored: usize,
}

impl Tests {
    /// By what cargo and the tests printed.
    fn read(log: &Path) -> Result<Self, Error> {
        let text = fs::read(log)?;
        Ok(Self::of(&String::from_utf8_lossy(&text)))
    }

    fn of(text: &str) -> Self {
        const KINDS: [(&str, &str); 3] = [
            ("Running unittests ", "of libraries"),
            ("Running tests/", "integration"),
            ("Doc-tests ", "of documentation"),
        ];
        let mut tests = Self::default();
        let mut now = "others";
        for line in text.lines().map(str::trim_start) {
            if let Some((_, kind)) = KINDS.iter().find(|(begin, _)| line.starts_with(begin)) {
                now = kind;
            } else if let Some(result) = line.strip_prefix("test result: ok. ") {
                // So many passed; so many failed; so many ignored.
                let mut numbers = result.split(' ').filter_map(|word| word.parse().ok());
                *tests.passed.entry(now).or_default() += numbers.next().unwrap_or(0);
                tests.ignored += numbers.nth(1).unwrap_or(0);
            }
        }
        tests
    }
}

impl fmt::Display for Tests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed: usize = self.passed.values().sum();
        let kinds = self.passed.iter();
        let kinds: Vec<String> = kinds.map(|(kind, n)| format!("{n} {kind}")).collect();
        let kinds = kinds.join(", ");
        write!(f, "{passed} tests ({kinds}), {} ignored", self.ignored)
    }
}

/// Runs the tests of documentation for rustdoc, which removes them when they have run: it keeps them
/// first, beside itself.
const KEEPER: &str = "#!/bin/sh
cp \"$1\" \"$(mktemp \"${0%/*}/XXXXXXXX.test\")\" && exec \"$@\"
";

/// The same tests with the compiler's own instrumentation: the tracefile, and how many tests.
fn reference(project: &Project, tests: &[&str]) -> Result<(PathBuf, Tests), Error> {
    let target = project.folder.join("target/reference");
    let profiles = target.join("profiles");
    let _ = fs::remove_dir_all(&profiles);
    fs::create_dir_all(&profiles)?;
    let documented = target.join("documented");
    let _ = fs::remove_dir_all(&documented);
    fs::create_dir_all(&documented)?;
    let keeper = documented.join("keep");
    fs::write(&keeper, KEEPER)?;
    fs::set_permissions(&keeper, fs::Permissions::from_mode(0o755))?;
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = project.plain("cargo");
    cargo
        .args(["test", "--target", &host])
        .args(tests)
        .envs(PROFILE)
        .env("CARGO_TARGET_DIR", &target)
        .env("LLVM_PROFILE_FILE", profiles.join("%m-%p.profraw"));
    cargo.env("RUSTFLAGS", "-Cinstrument-coverage");
    // There are many, each with the whole of Rust's own debug information.
    let of_tests = "-Cinstrument-coverage\x1f-Cstrip=debuginfo\x1f--test-runtool\x1f";
    let of_tests = [OsStr::new(of_tests), keeper.as_os_str()].join(OsStr::new(""));
    cargo.env("CARGO_ENCODED_RUSTDOCFLAGS", of_tests);
    heading(&format!(
        "RUSTFLAGS=-Cinstrument-coverage {}",
        shell::line(&cargo)
    ))?;
    let log = target.join("test.log");
    shell::run_logged(&mut cargo, &log)?;

    let merged = target.join("all.profdata");
    let [profdata, cov] = ["profdata", "cov"].map(llvm_tool);
    let mut merge = Command::new(profdata?);
    merge.args(["merge", "--sparse"]).arg(&profiles).arg("-o");
    shell::read(merge.arg(&merged))?;
    let mut export = Command::new(cov?);
    export
        .args([
            "export",
            "--format=lcov",
            "--skip-functions",
            "--instr-profile",
        ])
        .arg(&merged);
    let kept = fs::read_dir(&documented)?.flatten();
    let kept = kept.map(|entry| entry.path());
    let kept = kept.filter(|path| path.extension() == Some(OsStr::new("test")));
    for program in programs(&log, &project.folder)?.into_iter().chain(kept) {
        export.arg("--object").arg(program);
    }
    export.arg("--sources").arg(project.folder.canonicalize()?);
    let tracefile = target.join("reference.info");
    fs::write(&tracefile, shell::read(&mut export)?)?;
    Ok((tracefile, Tests::read(&log)?))
}

/// The programs that cargo said it ran.
fn programs(log: &Path, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let text = fs::read(log)?;
    let text = String::from_utf8_lossy(&text);
    let running = text
        .lines()
        .filter(|line| line.trim_start().starts_with("Running "));
    Ok(running
        .filter_map(|line| Some(line.split_once('(')?.1.trim_end_matches(')')))
        .map(|path| folder.join(path))
        .collect())
}

/// A tool of the LLVM that rustc is built with: formats of profiles differ.
fn llvm_tool(name: &str) -> Result<String, Error> {
    let version = shell::of_rustc("LLVM version")?;
    let major = version.split('.').next().unwrap_or(&version);
    let tool = format!("llvm-{name}-{major}");
    if shell::has(&tool) {
        Ok(tool)
    } else {
        Err(format!("{tool} is missing").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_by_what_they_are_in() {
        let tests = Tests::of(
            "     Running unittests src/lib.rs (target/debug/deps/regex-1)\n\
             test result: ok. 9 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
             Running tests/lib.rs (target/debug/deps/integration-1)\n\
             test result: ok. 80 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
             Running unittests src/lib.rs (target/debug/deps/regex_syntax-1)\n\
             test result: ok. 100 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
             Doc-tests regex\n\
             test src/builders.rs - builders::bytes (line 7) ... ok\n\
             test result: ok. 7 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out\n",
        );
        let passed = [
            ("integration", 80),
            ("of documentation", 7),
            ("of libraries", 109),
        ];
        assert_eq!(
            tests,
            Tests {
                passed: passed.into(),
                ignored: 3
            }
        );
        assert_eq!(
            tests.to_string(),
            "196 tests (80 integration, 7 of documentation, 109 of libraries), 3 ignored"
        );
    }
}
