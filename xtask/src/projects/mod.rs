// SPDX-License-Identifier: MIT OR Apache-2.0
//! Projects of Debian's archive, of three build systems, built with `rkcov cc` and `rkcov c++` as the
//! compilers and nothing else changed, and run under `rkcov run`; what is reported is checked.

mod list;

use crate::choice;
use crate::lcov::{self, Coverage};
use crate::shell::{self, heading, Error};
use crate::{demo, sources, work_dir};
use list::{Project, Run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments of `cargo xtask projects`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this project, by the name of its source package
    #[arg(value_parser = choice::known::<Project>)]
    project: Option<&'static Project>,
    /// The C compiler behind rkcov [default: cc, and then clang if it is here]
    #[arg(long, value_name = "PROGRAM")]
    cc: Option<String>,
}

/// Builds the projects, runs them and checks what is reported.
///
/// # Errors
/// A project cannot be fetched, built or run, or what is reported is not what ran.
pub fn run(args: &Args) -> Result<(), Error> {
    let wanted = choice::wanted(args.project.as_slice());
    let rkcov = demo::build_rkcov()?;
    let compilers = match &args.cc {
        Some(cc) => vec![Compilers::named(cc)],
        None => std::iter::once(Compilers::of_the_system())
            .chain(demo::clang().as_deref().map(Compilers::named))
            .collect(),
    };
    for compilers in &compilers {
        for project in &wanted {
            let copy = Copy::build(project, &rkcov, compilers)?;
            for run in project.runs {
                copy.check(run).map_err(|error| {
                    let Project { package, .. } = project;
                    format!("{package}, {}, by {}: {error}", run.name, compilers.name)
                })?;
            }
        }
    }
    Ok(())
}

/// The compilers behind rkcov.
struct Compilers {
    /// Of C.
    name: String,
    environment: Vec<(&'static str, String)>,
}

impl Compilers {
    /// Those that rkcov takes if nobody says anything.
    fn of_the_system() -> Self {
        Self {
            name: String::from("cc"),
            environment: Vec::new(),
        }
    }

    /// `cc`, and the compiler of C++ that belongs to it.
    fn named(cc: &str) -> Self {
        let cxx = match cc.strip_prefix("clang") {
            Some(version) => format!("clang++{version}"),
            None => cc.replacen("gcc", "g++", 1),
        };
        Self {
            name: cc.to_owned(),
            environment: vec![("RKCOV_CC", cc.to_owned()), ("RKCOV_CXX", cxx)],
        }
    }
}

/// A project that was built.
struct Copy {
    rkcov: PathBuf,
    /// Where its commands are run.
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Copy {
    /// Builds `project`, unless this very `rkcov` has built it before.
    fn build(project: &Project, rkcov: &Path, compilers: &Compilers) -> Result<Self, Error> {
        let source = sources::debian(project.package)?;
        let top = work_dir("projects")
            .join(&compilers.name)
            .join(project.package);
        let mut environment = compilers.environment.clone();
        environment.extend([("CC", "rkcov cc".into()), ("CXX", "rkcov c++".into())]);
        let copy = Self {
            rkcov: rkcov.to_owned(),
            folder: top.join(project.folder),
            environment,
        };
        let built = top.join("rkcov.built");
        let settings: Vec<String> = copy
            .environment
            .iter()
            .map(|(name, value)| format!("{name}='{value}'"))
            .collect();
        heading(&format!("export {}", settings.join(" ")))?;
        if newer(&built, rkcov) {
            println!("{}: built before", project.package);
            return Ok(copy);
        }
        sources::copy(&source, &top)?;
        for (step, line) in project.build.iter().enumerate() {
            heading(line)?;
            let log = top.join(format!("rkcov.step-{step}.log"));
            shell::run_logged(&mut copy.command(line), &log)?;
        }
        fs::write(built, "")?;
        Ok(copy)
    }

    /// The command of these words, in the project, with rkcov in its path.
    fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(&self.folder);
        for name in ["MAKEFLAGS", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"] {
            command.env_remove(name);
        }
        command.env("PATH", shell::path_behind([demo::folder(&self.rkcov)]));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a program of the project and looks whether it is reported as it should be.
    fn check(&self, run: &Run) -> Result<(), Error> {
        if let Some((name, text)) = run.input {
            fs::write(self.folder.join(name), text)?;
        }
        let trace = format!("{}.rkcov", run.name);
        let line = format!("rkcov run -o {trace} -- {}", run.command);
        heading(&line)?;
        let log = self.folder.join(format!("{}.log", run.name));
        shell::run_logged(&mut self.command(&line), &log)?;

        let line = format!("rkcov report {trace} --filter {}", run.filter);
        heading(&line)?;
        let text = shell::read(&mut self.command(&line))?;
        print!("{text}");
        if !text.contains("nothing was dropped") {
            return Err("PCs were dropped".into());
        }
        let lcov = shell::read(&mut self.command(&format!("{line} --format lcov")))?;
        run.check(&lcov::read(&lcov))
    }
}

impl Run {
    /// Whether the functions that should have run did, and no others of those that are named.
    fn check(&self, coverage: &Coverage) -> Result<(), Error> {
        for (names, should) in [(self.ran, true), (self.not, false)] {
            for (source, function) in names {
                let found = count(coverage, source, function)
                    .ok_or_else(|| format!("{source} has no function {function}()"))?;
                if (found > 0) != should {
                    let what = if should { "should have run" } else { "ran" };
                    return Err(format!("{function}() of {source} {what}").into());
                }
            }
        }
        Ok(())
    }
}

/// How often `function` ran, a name without its arguments and its version of the ABI. `None` if it is not reported.
fn count(coverage: &Coverage, source: &str, function: &str) -> Option<u64> {
    let of_source = coverage.iter().filter(|(path, _)| path.ends_with(source));
    let functions = of_source.flat_map(|(_, source)| &source.functions);
    let counts = functions.filter(|(name, _)| {
        let rest = name.strip_prefix(function);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['(', '[']))
    });
    counts.map(|(_, count)| *count).max()
}

fn newer(file: &Path, than: &Path) -> bool {
    let changed = |path| fs::metadata(path).and_then(|found| found.modified());
    matches!((changed(file), changed(than)), (Ok(file), Ok(than)) if file > than)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Run = Run {
        name: "test",
        command: "",
        input: None,
        filter: "",
        ran: &[("lib/a.cpp", "n::f")],
        not: &[("a.cpp", "n::g")],
    };

    fn checked(functions: &str) -> Result<(), String> {
        let coverage = lcov::read(&format!("SF:/x/lib/a.cpp\n{functions}end_of_record\n"));
        RUN.check(&coverage).map_err(|error| error.to_string())
    }

    #[test]
    fn what_has_to_run_and_what_must_not() {
        assert_eq!(
            checked("FNDA:1,n::f[abi:cxx11](int)\nFNDA:0,n::g\nFNDA:9,n::ff\n"),
            Ok(())
        );
        let missing = checked("FNDA:1,n::ff(int)\nFNDA:0,n::g\n");
        assert_eq!(missing, Err("lib/a.cpp has no function n::f()".into()));
        let still = checked("FNDA:0,n::f\nFNDA:0,n::g\n");
        assert_eq!(still, Err("n::f() of lib/a.cpp should have run".into()));
        let too_much = checked("FNDA:1,n::f\nFNDA:1,n::g(n::S const&)\n");
        assert_eq!(too_much, Err("n::g() of a.cpp ran".into()));
    }
}
