// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that are kept for the report although who built them removes them.

use super::tools::become_program;
use super::Error;
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
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
    let failed = |source| Error::File {
        path: folder.to_owned(),
        source,
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let kept = keep(Path::new(program), folder).map_err(failed)?;
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
