// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packages of the regex project, put together as in its own repository: their tests under
//! `cargo rkcov test`, and once more with `-Cinstrument-coverage`. The two reports are compared line
//! by line; `rules.json` explains differences, and docs/lines-rust.md keeps the result.

use super::Project;
use crate::compare::{self, Comparison, Kind, Options, Rule};
use crate::shell::{self, heading, Error};
use crate::{from_root, root, sources, work_dir};
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The newest of which all tests are in the packages, and all files that they read.
const ROOT: (&str, &str) = ("regex", "1.11.1");
const MEMBERS: [(&str, &str); 2] = [("regex-automata", "0.4.9"), ("regex-syntax", "0.8.5")];

const LEAST_LINES: usize = 50_000;

/// Differences that are explained.
const RULES: &str = include_str!("rules.json");

/// The project's own profile optimizes its tests: of a line that was optimized away neither can say
/// much. Both are compiled without.
const PROFILE: [(&str, &str); 2] = [
    ("CARGO_PROFILE_DEV_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_TEST_OPT_LEVEL", "0"),
];

/// Arguments of the comparison.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// All tests, not those of the libraries only.
    pub(super) all: bool,
    /// Keep the result in docs/.
    pub(super) write: bool,
    /// Print this many lines of each kind of difference that nothing explains.
    pub(super) show: usize,
}

impl Wanted {
    const fn tests(&self) -> &'static [&'static str] {
        if self.all {
            &["--workspace", "--lib", "--tests", "--no-fail-fast"]
        } else {
            &["--workspace", "--lib", "--no-fail-fast"]
        }
    }
}

pub(super) fn run(cargo_rkcov: &Path, wanted: &Wanted) -> Result<(), Error> {
    let project = workspace(cargo_rkcov)?;
    let lines = count_lines(&project.folder)?;
    println!("{lines} lines of Rust");
    if lines < LEAST_LINES {
        return Err(format!("{lines} lines are fewer than {LEAST_LINES}").into());
    }
    let judged = project.folder.join("target/rkcov.info");
    let line = format!(
        "test {} --lcov --output-path target/rkcov.info",
        wanted.tests().join(" ")
    );
    heading(&format!("cargo rkcov {line}"))?;
    let log = project.folder.join("target/rkcov.log");
    fs::create_dir_all(project.folder.join("target"))?;
    shell::run_logged(project.cargo_rkcov(&line).envs(PROFILE), &log)?;
    let ours = passed(&log)?;
    let json = project.folder.join("target/rkcov.json");
    shell::run(&mut project.cargo_rkcov("report --json --output-path target/rkcov.json"))?;
    let (reference, theirs) = reference(&project, wanted)?;
    println!("{ours} tests with rkcov, {theirs} with -Cinstrument-coverage");
    if ours != theirs || ours == 0 {
        return Err("these are not the same tests".into());
    }
    let folder = project.folder.canonicalize()?;
    let folder = folder.to_string_lossy().into_owned();
    let rules: Vec<Rule> = serde_json::from_str(RULES)?;
    let unknown = compare::unknown(&fs::read_to_string(&json)?)?;
    let options = Options {
        unknown: Some(&unknown),
        strip: std::slice::from_ref(&folder),
        root: &folder,
        rules: &rules,
        ..Options::default()
    };
    let read = |path: &Path| compare::parse(&fs::read_to_string(path)?);
    let comparison = compare::compare(read(&judged)?, read(&reference)?, &options)?;
    heading("cargo xtask compare-lines")?;
    print!("{}", comparison.text(wanted.show));
    if wanted.write {
        let path = root().join("docs/lines-rust.md");
        let text = fs::read_to_string(&path)?;
        fs::write(
            &path,
            with_result(&text, &result(&comparison, lines, ours))?,
        )?;
        println!("{}", from_root(&path).display());
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

/// The workspace: the packages as they came, and in the root's manifest the lines of its repository
/// that make them one.
fn workspace(cargo_rkcov: &Path) -> Result<Project, Error> {
    let source = sources::crates_io(ROOT.0, ROOT.1)?;
    let folder = work_dir("rust-projects").join("regex");
    if !folder.is_dir() {
        let partial = work_dir("rust-projects").join("regex.partial");
        sources::copy(&source, &partial)?;
        let mut manifest = fs::read_to_string(partial.join("Cargo.toml"))?;
        let names: Vec<&str> = MEMBERS.iter().map(|(name, _)| *name).collect();
        write!(
            manifest,
            "\n[workspace]\nmembers = {names:?}\n\n[patch.crates-io]\n"
        )?;
        for (name, version) in MEMBERS {
            sources::copy(&sources::crates_io(name, version)?, &partial.join(name))?;
            writeln!(manifest, "{name} = {{ path = {name:?} }}")?;
        }
        fs::write(partial.join("Cargo.toml"), manifest)?;
        fs::rename(&partial, &folder)?;
    }
    Ok(Project {
        cargo_rkcov: cargo_rkcov.to_owned(),
        source,
        folder,
    })
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

/// How many tests passed, by what cargo printed.
fn passed(log: &Path) -> Result<usize, Error> {
    let text = fs::read(log)?;
    let text = String::from_utf8_lossy(&text);
    let results = text
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "));
    Ok(results
        .filter_map(|result| result.split_once(' ')?.0.parse::<usize>().ok())
        .sum())
}

/// The same tests with the compiler's own instrumentation: the tracefile, and how many tests.
fn reference(project: &Project, wanted: &Wanted) -> Result<(PathBuf, usize), Error> {
    let target = project.folder.join("target/reference");
    let profiles = target.join("profiles");
    let _ = fs::remove_dir_all(&profiles);
    fs::create_dir_all(&profiles)?;
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = project.plain("cargo");
    cargo
        .args(["test", "--target", &host])
        .args(wanted.tests())
        .envs(PROFILE)
        .env("CARGO_TARGET_DIR", &target)
        .env("LLVM_PROFILE_FILE", profiles.join("%m-%p.profraw"));
    cargo.env("RUSTFLAGS", "-Cinstrument-coverage");
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
    for program in programs(&log, &project.folder)? {
        export.arg("--object").arg(program);
    }
    export.arg("--sources").arg(project.folder.canonicalize()?);
    let tracefile = target.join("reference.info");
    fs::write(&tracefile, shell::read(&mut export)?)?;
    Ok((tracefile, passed(&log)?))
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
    let said = shell::read(Command::new("rustc").arg("-vV"))?;
    let version = said
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "));
    let major = version.and_then(|version| version.split('.').next());
    let tool = format!(
        "llvm-{name}-{}",
        major.ok_or("rustc does not say its LLVM")?
    );
    if shell::has(&tool) {
        Ok(tool)
    } else {
        Err(format!("{tool} is missing").into())
    }
}

/// What is kept of a comparison.
fn result(comparison: &Comparison, lines: usize, tests: usize) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let packages: Vec<String> = [ROOT]
        .iter()
        .chain(&MEMBERS)
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let _ = writeln!(
        text,
        "{}: {lines} lines of Rust in {} files that both reports have; {tests} tests.\n\n\
         | rkcov | `-Cinstrument-coverage` | lines | explained |\n| --- | --- | ---: | ---: |",
        packages.join(", "),
        comparison.files,
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
        "\nOf the lines of which both say anything they say the same of {:.2} %; of the lines that ran, rkcov's report \
         has {:.2} %.\n\n| rule | lines |\n| --- | ---: |",
        comparison.agreement, comparison.found
    );
    for (rule, count) in &comparison.rules {
        let _ = writeln!(text, "| {rule} | {count} |");
    }
    text
}

/// The page, with another result behind its mark.
fn with_result(page: &str, result: &str) -> Result<String, Error> {
    const MARK: &str = "<!-- The result follows. -->\n";
    let (before, _) = page
        .split_once(MARK)
        .ok_or("docs/lines-rust.md has no mark")?;
    Ok(format!("{before}{MARK}\n{result}"))
}
