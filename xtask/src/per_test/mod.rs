// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask per-test`: what `cargo rkcov test --per-test` says of each test of a crate from crates.io in
//! one parallel run, against the same test alone in its own process.

pub mod alone;
mod differences;
mod ran;

use crate::demo;
use crate::rust_projects::Project;
use crate::shell::{self, heading, Error};
use crate::{from_root, root};
use differences::{Differences, Reason, Rule};
use ran::Ran;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arguments of `cargo xtask per-test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these crates
    #[arg(value_name = "CRATE", value_parser = known)]
    crates: Vec<&'static Crate>,
    /// Run each test alone so often, to know what differs from run to run
    #[arg(long, value_name = "N", default_value_t = 3)]
    times: u32,
    /// Threads of the run of all tests
    #[arg(long, value_name = "N", default_value_t = 8)]
    threads: u32,
    /// Print all differences, not only those that are errors
    #[arg(long)]
    all: bool,
    /// Keep the results in docs/per-test.md, in the place of the old ones of these crates
    #[arg(long)]
    write: bool,
}

/// A crate, and which of its tests are run.
#[derive(Debug)]
struct Crate {
    name: &'static str,
    version: &'static str,
    /// Words of `cargo test`.
    tests: &'static str,
    /// Words of libtest.
    libtest: &'static str,
}

/// Their packages have their tests.
const CRATES: &[Crate] = &[
    Crate {
        name: "regex-syntax",
        version: "0.8.5",
        tests: "--lib",
        libtest: "",
    },
    Crate {
        name: "serde_json",
        version: "1.0.145",
        tests: "--lib --tests",
        libtest: "",
    },
    Crate {
        name: "clap_builder",
        version: "4.5.51",
        tests: "--lib --features unstable-doc",
        libtest: "",
    },
    Crate {
        name: "tokio-util",
        version: "0.7.17",
        tests: "--lib --tests --all-features",
        libtest: "",
    },
    Crate {
        name: "bytes",
        version: "1.10.1",
        tests: "--tests --all-features",
        libtest: "",
    },
    // The others make threads by the hundred thousand, and take a minute each time without rkcov.
    Crate {
        name: "crossbeam-channel",
        version: "0.5.15",
        tests: "--test mpsc --test iter --test never --test same_channel --test thread_locals --test tick",
        libtest: "",
    },
    // Most of what its tests do is done by the threads of one pool.
    Crate {
        name: "rayon",
        version: "1.11.0",
        tests: "--lib",
        libtest: "",
    },
];

/// Differences that somebody has looked into, by crate.
const RULES: &str = include_str!("rules.json");

/// How often a test is run alone once more if nothing explains how it differs.
const MORE: u32 = 50;

fn known(name: &str) -> Result<&'static Crate, String> {
    let names: Vec<&str> = CRATES.iter().map(|one| one.name).collect();
    let found = CRATES.iter().find(|one| one.name == name);
    found.ok_or_else(|| format!("the crates are {}", names.join(", ")))
}

/// Compares.
///
/// # Errors
/// A crate cannot be fetched, built or run, or what is said of one of its tests is wrong.
pub fn run(args: &Args) -> Result<(), Error> {
    let cargo_rkcov = demo::build_command("cargo-rkcov", "release")?;
    let wanted: Vec<&Crate> = if args.crates.is_empty() {
        CRATES.iter().collect()
    } else {
        args.crates.clone()
    };
    let mut wrong = Vec::new();
    let mut rows = Vec::new();
    for one in wanted {
        let found = one.compare(&cargo_rkcov, args)?;
        print(one, &found, args.all);
        if found.wrong() > 0 || found.tests == 0 || !found.unpaired.is_empty() {
            wrong.push(one.name);
        }
        rows.push((one, found));
    }
    if args.write {
        write(&rows)?;
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("differences that nothing explains: {}", wrong.join(", ")).into())
    }
}

impl Crate {
    fn compare(&self, cargo_rkcov: &Path, args: &Args) -> Result<Differences, Error> {
        let project = Project::of_package(cargo_rkcov, self.name, self.version)?;
        fs::create_dir_all(project.folder.join("target"))?;
        let threads = format!("--test-threads {}", args.threads);
        let together = self.record(&project, "together", &threads, None)?;
        let mut alone = self.record(&project, "alone", "", Some((args.times, None)))?;
        let rules: serde_json::Value = serde_json::from_str(RULES)?;
        let rules: Vec<Rule> = match rules.get(self.name) {
            Some(rules) => serde_json::from_value(rules.clone())?,
            None => Vec::new(),
        };
        let found = Differences::of(&together, &alone, &rules)?;
        if found.suspects.is_empty() {
            return Ok(found);
        }
        // Perhaps they run it seldom, or not always.
        let only = project.folder.canonicalize()?.join("target/suspects");
        let lines = found.suspects.iter();
        let lines: Vec<String> = lines.map(|(of, test)| format!("{of} {test}\n")).collect();
        fs::write(&only, lines.concat())?;
        let more = self.record(&project, "more", "", Some((MORE, Some(only))))?;
        for (test, mut runs) in more.tests {
            alone.tests.entry(test).or_default().append(&mut runs);
        }
        Ok(Differences::of(&together, &alone, &rules)?)
    }

    /// Runs the tests and reads what was recorded: together, or each alone, so often.
    fn record(
        &self,
        project: &Project,
        what: &str,
        libtest: &str,
        alone: Option<(u32, Option<PathBuf>)>,
    ) -> Result<Ran, Error> {
        let traces = project.folder.join("target/rkcov/trace");
        let _ = fs::remove_dir_all(&traces);
        let line = format!(
            "test --per-test --no-report --ignore-run-fail {} -- {libtest} {}",
            self.tests, self.libtest
        );
        let mut command = project.cargo_rkcov(&line);
        if let Some((times, only)) = alone {
            let ourselves = env::current_exe()?;
            let mut runner = format!("{} per-test-alone --times {times}", ourselves.display());
            if let Some(only) = only {
                let _ = write!(runner, " --only {}", only.display());
            }
            let arch = env::consts::ARCH.to_uppercase();
            command.env(
                format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"),
                runner,
            );
        }
        heading(&format!(
            "{} {}, {what}: cargo rkcov {line}",
            self.name, self.version
        ))?;
        let begin = Instant::now();
        let log = project.folder.join(format!("target/{what}.log"));
        shell::run_logged(&mut command, &log)?;
        let mut found = fs::read_dir(&traces)?.flatten().map(|entry| entry.path());
        let is_trace = |path: &PathBuf| path.extension().is_some_and(|end| end == "rkcov");
        let trace = found.find(is_trace).ok_or("there is no trace")?;
        let ran = Ran::read(&trace, &project.folder.canonicalize()?)?;
        println!(
            "{} tests, {} s, a trace of {} KB",
            ran.tests.len(),
            begin.elapsed().as_secs(),
            trace.metadata()?.len() / 1000
        );
        for loss in &ran.losses {
            println!("lost: {loss}");
        }
        Ok(ran)
    }
}

fn print(one: &Crate, found: &Differences, all: bool) {
    println!(
        "{} {}: {} tests, {} with the same lines; {} pairs of a test and a line",
        one.name, one.version, found.tests, found.equal, found.lines
    );
    for (reason, (tests, lines)) in found.sums() {
        println!("  {reason}: {lines} pairs, {tests} tests");
        let of = found.by.iter().filter(|((of, _), _)| of == reason);
        for ((_, function), (tests, lines)) in of.filter(|_| all || reason.is_wrong()) {
            let first = tests.first().map_or("", |(_, name)| name);
            println!(
                "    {function}: {lines} pairs, {} tests ({first})",
                tests.len()
            );
        }
    }
    for (program, test) in &found.unpaired {
        println!("  only in one of the runs: {program} {test}");
    }
}

const MARK: &str = "<!-- The result of `cargo xtask per-test` follows. -->\n";

/// Keeps the results.
fn write(rows: &[(&Crate, Differences)]) -> Result<(), Error> {
    let path = root().join("docs/per-test.md");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, with_result(&text, MARK, &table(rows, &text))?)?;
    println!("{}", from_root(&path).display());
    Ok(())
}

/// The table. Crates that were not run have the rows that they have on the page.
fn table(rows: &[(&Crate, Differences)], page: &str) -> String {
    let mut text = String::from(
        "| crate | tests | the same lines | test and line | varies | once in a process | on a thread of no test | shared state | wrong |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let (mut rules, mut sum) = (String::new(), 0);
    for one in CRATES {
        let found = rows.iter().find(|(of, _)| of.name == one.name);
        let (row, ruled) = match found {
            Some((_, found)) => one.row(found),
            None => one.row_on(page),
        };
        let tests = row.split('|').nth(2).unwrap_or_default();
        sum += tests.trim().parse().unwrap_or(0);
        text.push_str(&row);
        rules.push_str(&ruled);
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n{sum} tests.");
    if !rules.is_empty() {
        let _ = write!(text, "\nShared state:\n\n{rules}");
    }
    text
}

impl Crate {
    /// Its row, and what rules explain.
    fn row(&self, found: &Differences) -> (String, String) {
        let sums = found.sums();
        let of = |reason: &Reason| sums.get(reason).map_or(0, |(_, lines)| *lines);
        let (mut shared, mut rules) = (0, String::new());
        for (reason, (tests, lines)) in &sums {
            if let Reason::Rule(because) = reason {
                shared += lines;
                let _ = writeln!(
                    rules,
                    "- {}: {because} ({lines} in {tests} tests)",
                    self.name
                );
            }
        }
        let row = format!(
            "| {} {} (`{}`) | {} | {} | {} | {} | {} | {} | {shared} | {} |\n",
            self.name,
            self.version,
            self.tests,
            found.tests,
            found.equal,
            found.lines,
            of(&Reason::Varies),
            of(&Reason::Once),
            of(&Reason::Outside),
            found.wrong(),
        );
        (row, rules)
    }

    /// The same as they stand on the page, if they do.
    fn row_on(&self, page: &str) -> (String, String) {
        let lines = |start: String| -> String {
            let lines = page.lines().filter(|line| line.starts_with(&start));
            lines.map(|line| format!("{line}\n")).collect()
        };
        let row = lines(format!(
            "| {} {} (`{}`)",
            self.name, self.version, self.tests
        ));
        (row, lines(format!("- {}: ", self.name)))
    }
}

/// The page, with another result between this mark and the next heading.
pub(crate) fn with_result(page: &str, mark: &str, result: &str) -> Result<String, Error> {
    let (before, behind) = page
        .split_once(mark)
        .ok_or_else(|| format!("docs/per-test.md has no {mark}"))?;
    let rest = behind.find("\n## ").map_or("", |at| &behind[at..]);
    Ok(format!("{before}{mark}\n{result}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_takes_the_place_of_the_last() {
        let page = format!("a\n\n{MARK}\nold\n\n## b\n\nc\n");
        let page = with_result(&page, MARK, "new\n").unwrap();
        assert_eq!(page, format!("a\n\n{MARK}\nnew\n\n## b\n\nc\n"));
        assert!(with_result("a", MARK, "new\n").is_err());
    }

    #[test]
    fn crates_that_are_not_run_keep_their_rows() {
        let [first, second, ..] = CRATES else {
            panic!("{CRATES:?}");
        };
        let found = |tests| Differences {
            tests,
            ..Differences::default()
        };
        let both = [(first, found(3)), (second, found(4))];
        let old = table(&both, "");
        assert!(old.contains("\n7 tests.\n"), "{old}");
        let new = table(&[(second, found(5))], &old);
        assert!(new.contains("\n8 tests.\n"), "{new}");
        assert_eq!(new.lines().nth(2), old.lines().nth(2));
        assert_ne!(new.lines().nth(3), old.lines().nth(3));
    }

    #[test]
    fn rules_are_of_crates_that_are_compared() {
        let rules: std::collections::BTreeMap<String, Vec<Rule>> =
            serde_json::from_str(RULES).unwrap();
        for (name, rules) in rules {
            assert!(known(&name).is_ok(), "{name}");
            assert!(rules.iter().all(|rule| !rule.because.is_empty()));
        }
    }
}
