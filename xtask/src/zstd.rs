// SPDX-License-Identifier: MIT OR Apache-2.0
//! zstd's own command, built by its own makefile with `rkcov cc` as the compiler.

use crate::shell::{self, Error};
use crate::{sources, work_dir};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, thread};

/// A zstd that was built with the wrapper.
#[derive(Debug)]
pub struct Zstd {
    /// The program.
    pub program: PathBuf,
}

/// The makefile's command line for a build with `compiler` behind `rkcov`.
#[must_use]
pub fn make(rkcov: &Path, compiler: &str) -> Command {
    let jobs = thread::available_parallelism().map_or(2, usize::from);
    let mut make = Command::new("make");
    make.arg(format!("-j{jobs}"))
        .args(["-C", "programs", "zstd"])
        .arg(format!("CC={} cc {compiler}", rkcov.display()))
        .env_remove("MAKEFLAGS");
    make
}

/// Builds zstd with `compiler`, unless this very `rkcov` has built it before.
///
/// # Errors
/// The sources cannot be had, or the build fails.
pub fn build(rkcov: &Path, compiler: &str) -> Result<Zstd, Error> {
    let source = sources::debian("libzstd")?;
    let dir = work_dir("zstd").join(compiler);
    let zstd = Zstd {
        program: dir.join("programs/zstd"),
    };
    if newer(&zstd.program, rkcov) {
        return Ok(zstd);
    }
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(work_dir("zstd"))?;
    shell::run(Command::new("cp").arg("-r").arg(source).arg(&dir))?;
    shell::run_logged(
        make(rkcov, compiler).current_dir(&dir),
        &dir.join("make.log"),
    )?;
    Ok(zstd)
}

fn newer(file: &Path, than: &Path) -> bool {
    let changed = |path| fs::metadata(path).and_then(|found| found.modified());
    matches!((changed(file), changed(than)), (Ok(file), Ok(than)) if file > than)
}
