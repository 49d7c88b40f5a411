// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs each test of a program in a process of its own. `cargo test` calls this in the place of a program
//! of libtest, as its runner.

use crate::shell::{self, Error};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Arguments of `cargo xtask per-test-alone`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run each test so often
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// Only the tests in this file: lines of a program's file name, a space, and a test's name
    #[arg(long)]
    only: Option<PathBuf>,
    /// What runs the tests
    #[arg(long, value_enum, default_value = "libtest")]
    harness: Harness,
    /// A folder that is emptied before each: where tests keep their files
    #[arg(long, value_name = "DIR")]
    temporary: Option<PathBuf>,
    /// The program
    program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// What runs the tests of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Harness {
    Libtest,
    Googletest,
    /// The program is Python; its arguments are those of all runs.
    Pytest,
}

impl Harness {
    /// The tests of the program that run when all do.
    fn tests(self, args: &Args) -> Result<Vec<String>, Error> {
        let list = |words: &[&str]| {
            let mut list = Command::new(&args.program);
            match self {
                Self::Pytest => list.args(&args.arguments).args(words),
                _ => list.args(words).args(&args.arguments),
            };
            shell::read(&mut list)
        };
        match self {
            Self::Libtest => {
                let listed = list(&["--list", "--format", "terse"])?;
                // A process that is told to run one of these alone runs none.
                let ignored = list(&["--list", "--format", "terse", "--ignored"])?;
                let tests = |text: &str| -> Vec<String> {
                    let tests = text.lines().filter_map(|line| line.strip_suffix(": test"));
                    tests.map(str::to_owned).collect()
                };
                let ignored = tests(&ignored);
                let mut tests = tests(&listed);
                tests.retain(|test| !ignored.contains(test));
                Ok(tests)
            }
            Self::Googletest => Ok(of_googletest(&list(&["--gtest_list_tests"])?)),
            Self::Pytest => Ok(of_pytest(&list(&["--collect-only", "-q"])?)),
        }
    }

    /// The command that runs one of them.
    fn alone(self, args: &Args, test: &str) -> Command {
        let mut alone = Command::new(&args.program);
        match self {
            Self::Libtest => alone.args(["--exact", test]).args(&args.arguments),
            Self::Googletest => alone
                .arg(format!("--gtest_filter={test}"))
                .args(&args.arguments),
            Self::Pytest => alone.args(&args.arguments).arg(test),
        };
        alone
    }
}

/// The tests in what googletest lists: each below its suite, with comments behind `#`.
fn of_googletest(listed: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut suite = "";
    for line in listed.lines() {
        let name = line.split('#').next().unwrap_or_default();
        let (name, is_test) = (name.trim(), name.starts_with(' '));
        if !is_test {
            // The program may say something first.
            suite = if name.ends_with('.') { name } else { "" };
        } else if !suite.is_empty() && ![suite, name].iter().any(|n| n.contains("DISABLED_")) {
            tests.push(format!("{suite}{name}"));
        }
    }
    tests
}

/// The tests in what pytest collects: up to an empty line.
fn of_pytest(listed: &str) -> Vec<String> {
    let tests = listed.lines().take_while(|line| !line.is_empty());
    tests.map(str::to_owned).collect()
}

/// Lists the tests and runs them one after another. Whether they fail is not asked: what they run
/// is.
///
/// # Errors
/// The program cannot list its tests, or cannot be run.
pub fn run(args: &Args) -> Result<(), Error> {
    let only = match &args.only {
        Some(file) => Some(fs::read_to_string(file)?),
        None => None,
    };
    let program = file_name(&args.program);
    let wanted = |test: &str| {
        let line = format!("{program} {test}");
        only.as_ref()
            .is_none_or(|only| only.lines().any(|one| one == line))
    };
    for test in args.harness.tests(args)? {
        if !wanted(&test) {
            continue;
        }
        for _ in 0..args.times {
            if let Some(folder) = &args.temporary {
                if folder.exists() {
                    fs::remove_dir_all(folder)?;
                }
                fs::create_dir(folder)?;
            }
            let mut alone = args.harness.alone(args, &test);
            alone.stdin(Stdio::null()).stdout(Stdio::null());
            alone.stderr(Stdio::null()).status()?;
        }
    }
    Ok(())
}

/// The last part of a path, as text.
pub(super) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_googletest() {
        let listed =
            "Running main() from gtest_main.cc\n  a line that it says\nA.\n  b\n  DISABLED_c\n\
                      D/E.  # TypeParam = int\n  f\nG/H.\n  i/0  # GetParam() = \"x\"\n";
        assert_eq!(of_googletest(listed), ["A.b", "D/E.f", "G/H.i/0"]);
    }

    #[test]
    fn tests_of_pytest() {
        let listed = "tests/test_a.py::test_b\ntests/test_a.py::C::test_d[e f]\n\n2 tests collected in 0.01s\n";
        assert_eq!(
            of_pytest(listed),
            ["tests/test_a.py::test_b", "tests/test_a.py::C::test_d[e f]"]
        );
    }
}
