// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask per-test-python`: what the plug-in of pytest makes known of each test of a package from PyPI, whose
//! extension module rkcov has built, in one run of all, against the same test alone in its own process.

use super::compare::{compare_all, recorded, Round, Subject};
use super::ran::Ran;
use super::table::Table;
use super::RULES;
use crate::choice::{self, Listed};
use crate::shell::{self, heading, Error};
use crate::{demo, root, sources, work_dir};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments of `cargo xtask per-test-python`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these packages
    #[arg(value_name = "PACKAGE", value_parser = choice::known::<Package>)]
    packages: Vec<&'static Package>,
    /// Run each test alone so often, to know what differs from run to run
    #[arg(long, value_name = "N", default_value_t = 3)]
    times: u32,
    /// Print all differences, not only those that are errors
    #[arg(long)]
    all: bool,
    /// Keep the results in docs/python.md, in the place of the old ones of these packages
    #[arg(long)]
    write: bool,
}

/// A package with an extension module and tests of pytest.
#[derive(Debug)]
pub(super) struct Package {
    name: &'static str,
    version: &'static str,
    /// What its module is written in.
    language: &'static str,
    /// What builds and installs it.
    build: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "MarkupSafe",
        version: "3.0.4",
        language: "C, setuptools",
        build: "CC='rkcov cc gcc' CFLAGS=-O0 pip install --no-deps .",
    },
    Package {
        name: "rpds-py",
        version: "2026.9.1",
        language: "Rust, maturin",
        build: "eval \"$(cargo rkcov env)\" && maturin develop",
    },
];

/// What is installed beside a package.
const TOOLS: &str = "pytest==9.2.0 maturin==1.16.0";

impl Listed for Package {
    const ALL: &'static [Self] = PACKAGES;
    const WHAT: &'static str = "packages";

    fn name(&self) -> &'static str {
        self.name
    }
}

/// Compares.
///
/// # Errors
/// A package cannot be fetched, built or run, or what is said of one of its tests is wrong.
pub fn run(args: &Args) -> Result<(), Error> {
    let rkcov = demo::build_command("rkcov", "release")?;
    demo::build_command("cargo-rkcov", "release")?;
    let wanted = choice::wanted(&args.packages);
    let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
    for one in wanted {
        subjects.push(Box::new(Built::new(one, &rkcov)?));
    }
    let (found, verdict) = compare_all(&subjects, RULES, args.times, args.all)?;
    if args.write {
        let table = Table {
            page: "docs/python.md",
            command: "per-test-python",
            heading: "package",
            names: choice::names::<Package>(),
        };
        table.write_all(&subjects, &found)?;
    }
    verdict
}

/// A package that is built and installed in an environment of its own.
struct Built {
    package: &'static Package,
    folder: PathBuf,
    rkcov: PathBuf,
}

impl Built {
    fn new(package: &'static Package, rkcov: &Path) -> Result<Self, Error> {
        let source = sources::pypi(package.name, package.version)?;
        let folder = work_dir("per-test").join(format!("{}-{}", package.name, package.version));
        if !folder.is_dir() {
            sources::copy(&source, &folder)?;
        }
        fs::create_dir_all(folder.join("target"))?;
        let built = Self {
            package,
            folder: folder.canonicalize()?,
            rkcov: rkcov.to_owned(),
        };
        let plug_in = root().join("python/pytest-rkcov");
        let lines = [
            "python3 -m venv target/venv".to_owned(),
            format!("pip install --quiet {TOOLS} {}", plug_in.display()),
            package.build.to_owned(),
        ];
        for (step, line) in lines.iter().enumerate() {
            heading(&format!("{}: {line}", built.title()))?;
            let log = built.folder.join(format!("target/build-{step}.log"));
            shell::run_logged(&mut built.shell(line), &log)?;
        }
        Ok(built)
    }

    /// A line of shell in the package's folder, with its environment and rkcov in the path, and with none of the
    /// settings of the cargo that runs us.
    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.folder);
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            let kept = ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"].contains(&&*name);
            let ours = ["CARGO", "RUST", "PYTHON", "PYTEST", "CFLAGS", "LDFLAGS"];
            if ours.iter().any(|of| name.starts_with(of)) && !kept {
                command.env_remove(&*name);
            }
        }
        let venv = self.folder.join("target/venv");
        let path = shell::path_behind([&venv.join("bin"), demo::folder(&self.rkcov)]);
        command.env("PATH", path).env("VIRTUAL_ENV", venv);
        command
    }
}

impl Subject for Built {
    fn name(&self) -> &str {
        self.package.name
    }

    fn title(&self) -> String {
        let Package {
            name,
            version,
            language,
            ..
        } = self.package;
        format!("{name} {version} ({language})")
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn record(&self, round: Round<'_>) -> Result<Ran, Error> {
        let (what, each) = (round.name(), round.runner("pytest")?);
        let line = format!(
            "rkcov run -o target/{what}.rkcov -- rkcov preload {each}python -m pytest -p no:cacheprovider -o addopts="
        );
        recorded(self, what, &line, &mut self.shell(&line), || {
            Ok(self.folder.join(format!("target/{what}.rkcov")))
        })
    }
}
