// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov preload`: runs a program that was written for the kernel's kcov.

use crate::cache;
use crate::error::Error;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

const VARIABLE: &str = "LD_PRELOAD";

/// Arguments of `rkcov preload`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

const HELP: &str = "\
The program finds a kcov of its own process at /sys/kernel/debug/kcov, and needs no change and no
root. What it collects is what instrumented code in its process runs: its own, and that of the
libraries that it loads. Static programs, and those that call the system without libc, still see
the kernel's.

Example:
  rkcov cc -shared -fPIC -o libthing.so thing.c && rkcov preload ./fuzzer-of-libthing";

/// Becomes the program.
///
/// # Errors
/// The runtime cannot be unpacked, or the program cannot be started.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let library = cache::runtime()
        .map_err(Error::Unpack)?
        .join(rkcov_artifacts::PRELOAD.name);
    let others = env::var_os(VARIABLE).unwrap_or_default();
    let source = Command::new(program)
        .args(arguments)
        .env(VARIABLE, before(library.as_os_str(), &others))
        .exec();
    Err(Error::Program {
        program: program.clone(),
        source,
    })
}

/// `library`, and behind it those that are preloaded already.
fn before(library: &OsStr, others: &OsStr) -> OsString {
    let mut value = library.to_owned();
    if !others.is_empty() {
        value.push(":");
        value.push(others);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_stay_preloaded() {
        let value = |others: &str| before(OsStr::new("/a.so"), OsStr::new(others));
        assert_eq!(value(""), "/a.so");
        assert_eq!(value("/b.so /c.so"), "/a.so:/b.so /c.so");
    }
}
