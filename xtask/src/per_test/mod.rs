// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask per-test`: what `cargo rkcov test --per-test` says of each test of a crate from crates.io in
//! one parallel run, against the same test alone in its own process.

pub mod alone;
mod compare;
pub mod cpp;
mod differences;
pub mod python;
mod ran;
mod table;

use crate::choice::{self, Listed};
use crate::demo;
use crate::rust_projects::Project;
use crate::shell::Error;
use compare::{compare_all, recorded, Round, Subject};
use ran::Ran;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use table::Table;

/// Arguments of `cargo xtask per-test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these crates
    #[arg(value_name = "CRATE", value_parser = choice::known::<Crate>)]
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

/// Differences that somebody has looked into, by the name of the crate or package.
const RULES: &str = include_str!("rules.json");

impl Listed for Crate {
    const ALL: &'static [Self] = CRATES;
    const WHAT: &'static str = "crates";

    fn name(&self) -> &'static str {
        self.name
    }
}

/// Compares.
///
/// # Errors
/// A crate cannot be fetched, built or run, or what is said of one of its tests is wrong.
pub fn run(args: &Args) -> Result<(), Error> {
    let cargo_rkcov = demo::build_command("cargo-rkcov", "release")?;
    let wanted = choice::wanted(&args.crates);
    let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
    for one in &wanted {
        let project = Project::of_package(&cargo_rkcov, one.name, one.version)?;
        fs::create_dir_all(project.folder.join("target"))?;
        subjects.push(Box::new(Fetched {
            of: one,
            project,
            threads: args.threads,
        }));
    }
    let (found, verdict) = compare_all(&subjects, RULES, args.times, args.all)?;
    if args.write {
        let table = Table {
            page: "docs/per-test.md",
            command: "per-test",
            heading: "crate",
            names: choice::names::<Crate>(),
        };
        table.write_all(&subjects, &found)?;
    }
    verdict
}

/// A crate, fetched.
struct Fetched {
    of: &'static Crate,
    project: Project,
    /// Of the run of all tests.
    threads: u32,
}

impl Subject for Fetched {
    fn name(&self) -> &str {
        self.of.name
    }

    fn title(&self) -> String {
        let Crate {
            name,
            version,
            tests,
            ..
        } = self.of;
        format!("{name} {version} (`{tests}`)")
    }

    fn folder(&self) -> &Path {
        &self.project.folder
    }

    fn record(&self, round: Round<'_>) -> Result<Ran, Error> {
        let traces = self.project.folder.join("target/rkcov/trace");
        let _ = fs::remove_dir_all(&traces);
        let what = round.name();
        let threads = match round {
            Round::Together => format!("--test-threads {}", self.threads),
            Round::Alone { .. } => String::new(),
        };
        let line = format!(
            "test --per-test --no-report --ignore-run-fail {} -- {threads} {}",
            self.of.tests, self.of.libtest
        );
        let mut command = self.project.cargo_rkcov(&line);
        let runner = round.runner("libtest")?;
        if !runner.is_empty() {
            let arch = env::consts::ARCH.to_uppercase();
            command.env(
                format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"),
                runner.trim_end(),
            );
        }
        let line = format!("cargo rkcov {line}");
        recorded(self, what, &line, &mut command, || {
            let mut found = fs::read_dir(&traces)?.flatten().map(|entry| entry.path());
            let is_trace = |path: &PathBuf| path.extension().is_some_and(|end| end == "rkcov");
            Ok(found.find(is_trace).ok_or("there is no trace")?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use differences::Rule;

    #[test]
    fn rules_are_of_what_is_compared() {
        let rules: std::collections::BTreeMap<String, Vec<Rule>> =
            serde_json::from_str(RULES).unwrap();
        for (name, rules) in rules {
            let all = [
                choice::names::<Crate>(),
                choice::names::<cpp::Project>(),
                choice::names::<python::Package>(),
            ];
            let is_known = all.concat().contains(&&*name);
            assert!(is_known, "{name}");
            assert!(rules.iter().all(|rule| !rule.because.is_empty()));
        }
    }
}
