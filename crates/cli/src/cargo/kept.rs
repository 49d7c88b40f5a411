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

/// Keeps a program, the first argument, in `folder` and becomes it.
///
/// # Errors
/// It cannot be kept or run.
pub fn run(folder: &Path, args: &[OsString]) -> Result<Infallible, Error> {
    let Some((program, rest)) = args.split_first() else {
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
    let mut command = Command::new(&kept);
    // A program of many tests starts itself for each of them: as rustdoc has it without us.
    command.env("RUSTDOC_DOCTEST_BIN_PATH", &kept);
    command.arg0(program).args(rest);
    become_program(command)
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
