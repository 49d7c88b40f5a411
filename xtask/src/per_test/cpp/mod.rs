// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask per-test-cpp`: what `rkcov_gtest.h` makes known of each test of a project from Debian's archive in
//! one run of all, against the same test alone in its own process.

use super::compare::{compare_all, recorded, Round, Subject};
use super::ran::Ran;
use super::table::Table;
use super::RULES;
use crate::choice::{self, Listed};
use crate::shell::{self, heading, Error};
use crate::{demo, sources, work_dir};
use regex::Regex;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments of `cargo xtask per-test-cpp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these projects
    #[arg(value_name = "PACKAGE", value_parser = choice::known::<Project>)]
    projects: Vec<&'static Project>,
    /// Run each test alone so often, to know what differs from run to run
    #[arg(long, value_name = "N", default_value_t = 3)]
    times: u32,
    /// Print all differences, not only those that are errors
    #[arg(long)]
    all: bool,
    /// Keep the results in docs/per-test.md, in the place of the old ones of these projects
    #[arg(long)]
    write: bool,
}

/// A project with tests of googletest.
#[derive(Debug)]
pub(super) struct Project {
    /// Its source package.
    package: &'static str,
    /// A makefile that makes the test programs in the folder `rkcov`.
    makefile: &'static str,
    /// These programs, as a shell finds them.
    programs: &'static str,
}

const PROJECTS: &[Project] = &[
    // Databases have a thread that works for all of them, and tests make threads.
    Project {
        package: "leveldb",
        makefile: include_str!("leveldb.mk"),
        programs: "rkcov/*_test",
    },
];

impl Listed for Project {
    const ALL: &'static [Self] = PROJECTS;
    const WHAT: &'static str = "projects";

    fn name(&self) -> &'static str {
        self.package
    }
}

/// Compares.
///
/// # Errors
/// A project cannot be fetched, built or run, or what is said of one of its tests is wrong.
pub fn run(args: &Args) -> Result<(), Error> {
    let rkcov = demo::build_command("rkcov", "release")?;
    let wanted = choice::wanted(&args.projects);
    let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
    for one in wanted {
        subjects.push(Box::new(Built::new(one, &rkcov)?));
    }
    let (found, verdict) = compare_all(&subjects, RULES, args.times, args.all)?;
    if args.write {
        let table = Table {
            page: "docs/per-test.md",
            command: "per-test-cpp",
            heading: "project",
            names: choice::names::<Project>(),
        };
        table.write_all(&subjects, &found)?;
    }
    verdict
}

/// A project whose tests are built.
struct Built {
    project: &'static Project,
    version: String,
    folder: PathBuf,
    rkcov: PathBuf,
}

impl Built {
    fn new(project: &'static Project, rkcov: &Path) -> Result<Self, Error> {
        let source = sources::debian(project.package)?;
        let folder = work_dir("per-test").join(project.package);
        if !folder.is_dir() {
            sources::copy(&source, &folder)?;
        }
        let built = Self {
            project,
            version: version(&fs::read_to_string(folder.join("CMakeLists.txt"))?)
                .ok_or("CMakeLists.txt says no version")?,
            folder,
            rkcov: rkcov.to_owned(),
        };
        fs::create_dir_all(built.temporary())?;
        fs::write(built.folder.join("rkcov.mk"), project.makefile)?;
        let line = "make -f rkcov.mk -j2 CXX='rkcov c++ g++'";
        heading(&format!("{}: {line}", built.title()))?;
        let log = built.folder.join("target/build.log");
        shell::run_logged(&mut built.shell(line), &log)?;
        Ok(built)
    }

    /// Where tests keep their files. It is empty before each program: what a test runs must not depend on what
    /// other programs left.
    fn temporary(&self) -> PathBuf {
        self.folder.join("target/tmp")
    }

    /// A line of shell in the project, with rkcov in the path.
    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.folder);
        for name in ["MAKEFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"] {
            command.env_remove(name);
        }
        command.env("PATH", shell::path_behind([demo::folder(&self.rkcov)]));
        command.env("TEST_TMPDIR", self.temporary());
        command
    }
}

impl Subject for Built {
    fn name(&self) -> &str {
        self.project.package
    }

    fn title(&self) -> String {
        format!("{} {}", self.project.package, self.version)
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn record(&self, round: Round<'_>) -> Result<Ran, Error> {
        let (what, each) = (round.name(), round.runner("googletest")?);
        // Whether tests fail is not asked.
        let programs = self.project.programs;
        let each = match round {
            Round::Together => "rm -rf target/tmp; mkdir target/tmp; ".to_owned(),
            Round::Alone { .. } => format!("{each}--temporary target/tmp "),
        };
        let line = format!(
            "rkcov run -o target/{what}.rkcov -- sh -c 'for program in {programs}; do {each}$program; done; true'"
        );
        recorded(self, what, &line, &mut self.shell(&line), || {
            Ok(self.folder.join(format!("target/{what}.rkcov")))
        })
    }
}

/// The version that a project of CMake has.
fn version(lists: &str) -> Option<String> {
    let project = Regex::new(r"(?:project|PROJECT)\([^)]*VERSION\s+([0-9.]+)").ok()?;
    Some(project.captures(lists)?[1].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_a_version() {
        let of = |text: &str| version(text);
        assert_eq!(
            of("project(a VERSION 1.2.3 LANGUAGES C)"),
            Some("1.2.3".into())
        );
        assert_eq!(
            of("cmake(VERSION 3)\nPROJECT(A\n  VERSION 0.7)"),
            Some("0.7".into())
        );
        assert_eq!(of("project(a)\nset(VERSION 3)"), None);
    }
}
