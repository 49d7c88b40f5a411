// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs of examples in documentation. rustdoc removes them when they have run; they are kept for the
//! report, in a folder for each rustdoc, with the names of its tests.

use super::tools::become_program;
use super::Error;
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

/// The command that has `tool` keep a program and run it, by `runner` if that has any words. What it
/// is to run follows.
#[must_use]
pub fn runtool(tool: &Path, mut runner: Vec<OsString>) -> Vec<OsString> {
    if let Some(program) = runner.first_mut() {
        // Rustdoc runs its tests elsewhere. A bare name is looked for in `$PATH`.
        let path = PathBuf::from(&program);
        if path.components().count() > 1 {
            *program = std::path::absolute(&path).unwrap_or(path).into_os_string();
        }
    }
    let mut words = vec![tool.into(), runner.len().to_string().into()];
    words.append(&mut runner);
    words
}

/// Has rustdoc list the names of its tests, for [`names`]. `rustdoc` is its command line as far as it says
/// what to test. We become that rustdoc: so its number is ours.
///
/// # Errors
/// Those of the file system. A rustdoc that fails lists nothing; it will say why when it tests.
pub fn list(folder: &Path, mut rustdoc: Command) -> Result<(), Error> {
    rustdoc.args(["--test-args=--list", "--test-args=--format=terse"]);
    let Ok(listed) = rustdoc.stdin(Stdio::null()).output() else {
        return Ok(());
    };
    let folder = of_rustdoc(folder, std::process::id());
    let write = || {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(NAMES), &listed.stdout)
    };
    write().map_err(|source| Error::File {
        path: folder.clone(),
        source,
    })
}

/// The names of the tests of the rustdoc that ran the program that was kept here; none if that is not
/// known.
#[must_use]
pub fn names(program: &Path) -> Vec<String> {
    let listed = program.parent().map(|folder| fs::read(folder.join(NAMES)));
    let listed = listed.and_then(Result::ok).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed);
    let names = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    names.map(str::to_owned).collect()
}

/// The list, in the folder of a rustdoc.
const NAMES: &str = "names";

/// The folder of the rustdoc with this number.
fn of_rustdoc(folder: &Path, rustdoc: u32) -> PathBuf {
    folder.join(rustdoc.to_string())
}

/// Keeps a program in `folder` and becomes it, or the runner that runs it. The first of the arguments
/// says how many of the others are the runner's: see [`runtool`].
///
/// # Errors
/// It cannot be kept or run.
pub fn run(folder: &Path, args: &[OsString]) -> Result<Infallible, Error> {
    let Some((runner, program, rest)) = parts(args) else {
        return Err(Error::Start {
            program: OsString::new(),
            source: io::ErrorKind::InvalidInput.into(),
        });
    };
    let folder = of_rustdoc(folder, std::os::unix::process::parent_id());
    let failed = |source| Error::File {
        path: folder.clone(),
        source,
    };
    fs::create_dir_all(&folder).map_err(failed)?;
    let kept = keep(Path::new(program), &folder).map_err(failed)?;
    let mut command = match runner.split_first() {
        Some((runner, words)) => {
            let mut command = Command::new(runner);
            command.args(words).arg(&kept);
            command
        }
        None => {
            let mut command = Command::new(&kept);
            command.arg0(program);
            command
        }
    };
    // A program of many tests starts itself for each of them: as rustdoc has it without us.
    command.env("RUSTDOC_DOCTEST_BIN_PATH", &kept).args(rest);
    become_program(command)
}

/// The runner's words, the program, and its arguments.
fn parts(args: &[OsString]) -> Option<(&[OsString], &OsString, &[OsString])> {
    let (count, args) = args.split_first()?;
    let (runner, args) = args.split_at_checked(count.to_str()?.parse().ok()?)?;
    let (program, rest) = args.split_first()?;
    Some((runner, program, rest))
}

/// A second name for the file, or a copy if the folder is on another file system. A process has its
/// number to itself, but an earlier one may have had the same.
fn keep(program: &Path, folder: &Path) -> io::Result<PathBuf> {
    let process = std::process::id();
    let names = (0_u32..).map(|n| folder.join(format!("{process}-{n}")));
    for kept in names.filter(|path| !path.exists()) {
        match fs::hard_link(program, &kept) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(_) => fs::copy(program, &kept).map(drop)?,
            Ok(()) => {}
        }
        return Ok(kept);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
