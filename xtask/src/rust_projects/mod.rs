// SPDX-License-Identifier: MIT OR Apache-2.0
//! Projects of crates.io, as their authors published them, under `cargo rkcov`.

mod mini_redis;
mod workspace;

use crate::demo;
use crate::lcov::{self, Coverage};
use crate::shell::{self, heading, Error};
use crate::{sources, work_dir};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Arguments of `cargo xtask rust-projects`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these projects
    projects: Vec<Name>,
    /// Keep the results of comparisons in docs/
    #[arg(long)]
    write: bool,
    /// Print this many lines of each kind of difference that nothing explains
    #[arg(long, value_name = "N", default_value_t = 20)]
    show: usize,
    /// Only unpack the workspaces, and print their folders
    #[arg(long)]
    fetch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// A server of tokio, killed
    MiniRedis,
    /// A large workspace, its libraries' tests line by line beside -Cinstrument-coverage
    Regex,
    /// One with all of its tests
    Arrow,
}

/// Runs the projects and checks what is reported.
///
/// # Errors
/// A project cannot be fetched, built or run, or what is reported is not what ran.
pub fn run(args: &Args) -> Result<(), Error> {
    let wanted = |name| args.projects.is_empty() || args.projects.contains(&name);
    let workspaces = [
        (Name::Regex, workspace::REGEX),
        (Name::Arrow, workspace::ARROW),
    ];
    let workspaces = workspaces.into_iter().filter(|(name, _)| wanted(*name));
    if args.fetch {
        for (_, workspace) in workspaces {
            println!("{}", workspace.unpacked()?.1.display());
        }
        return Ok(());
    }
    // Each test of a documentation is a program of its own, whose debug information is read.
    let cargo_rkcov = demo::build_command("cargo-rkcov", "release")?;
    if wanted(Name::MiniRedis) {
        mini_redis::run(&cargo_rkcov)?;
    }
    let comparison = workspace::Wanted {
        write: args.write,
        show: args.show,
    };
    for (_, workspace) in workspaces {
        workspace.run(&cargo_rkcov, &comparison)?;
    }
    Ok(())
}

/// A project that we have unpacked.
pub(crate) struct Project {
    cargo_rkcov: PathBuf,
    /// As it came.
    source: PathBuf,
    /// Where it is built.
    pub(crate) folder: PathBuf,
}

impl Project {
    /// The package as it is on crates.io. What was built of it before is used again.
    pub(crate) fn of_package(
        cargo_rkcov: &Path,
        package: &str,
        version: &str,
    ) -> Result<Self, Error> {
        let source = sources::crates_io(package, version)?;
        let folder = work_dir("rust-projects").join(format!("{package}-{version}"));
        if !folder.is_dir() {
            sources::copy(&source, &folder)?;
        }
        Ok(Self {
            cargo_rkcov: cargo_rkcov.to_owned(),
            source,
            folder,
        })
    }

    /// One that is in a folder already.
    pub(crate) fn in_folder(cargo_rkcov: &Path, folder: PathBuf) -> Self {
        Self {
            cargo_rkcov: cargo_rkcov.to_owned(),
            source: folder.clone(),
            folder,
        }
    }

    /// A program in the project, with none of the settings of the cargo that runs us.
    pub(crate) fn plain(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            let kept = ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"].contains(&&*name);
            if (name.starts_with("CARGO") || name.starts_with("RUST")) && !kept {
                command.env_remove(&*name);
            }
        }
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// `cargo rkcov` with the words of `line`, in the project.
    pub(crate) fn cargo_rkcov(&self, line: &str) -> Command {
        let mut command = self.plain(&self.cargo_rkcov);
        command.arg("rkcov").args(line.split_whitespace());
        command
    }

    /// Prints `line` and runs it.
    fn show(&self, line: &str) -> Result<(), Error> {
        heading(&format!("cargo rkcov {line}"))?;
        shell::run(&mut self.cargo_rkcov(line))
    }

    /// What ran, by a report with these options. The paths are those in the project.
    fn coverage(&self, options: &str) -> Result<Coverage, Error> {
        let path = self.folder.join("target/lcov.info");
        let line = format!("report --lcov {options} --output-path");
        shell::run(self.cargo_rkcov(&line).arg(&path))?;
        let coverage = lcov::read(&fs::read_to_string(&path)?);
        let folder = self.folder.canonicalize()?;
        let inside = |path: PathBuf| match path.strip_prefix(&folder) {
            Ok(inside) => inside.to_owned(),
            Err(_) => path,
        };
        Ok(coverage
            .into_iter()
            .map(|(path, source)| (inside(path), source))
            .collect())
    }

    /// Fails if a file of the project is not as it came.
    fn check_untouched(&self) -> Result<(), Error> {
        let mut diff = Command::new("diff");
        diff.args(["--recursive", "--brief", "--exclude=target"]);
        shell::read(diff.arg(&self.source).arg(&self.folder)).map(drop)
    }
}
