// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov preload`: runs a program that was written for the kernel's kcov.

use crate::cache;
use crate::error::{say, Error};
use crate::toolchain::find;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
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
When the program opens /sys/kernel/debug/kcov, it gets a kcov of its own process. It needs no change
and no root. This kcov records instrumented code in the process: the program's and that of the
libraries that it loads. Static programs, and programs that make system calls without libc, still
open the kernel's kcov.

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
    if let Some(obstacle) = find(program)
        .ok()
        .and_then(|found| obstacle(&found.path).ok()?)
    {
        let shown = Path::new(program).display();
        say(format_args!(
            "rkcov: {shown} {obstacle}: it will not get a kcov of its own process"
        ));
    }
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

/// Why the dynamic linker will not load our library into the program at `path`, if the file tells.
/// A script is what its interpreter is, and that is not looked at.
fn obstacle(path: &Path) -> io::Result<Option<&'static str>> {
    let file = File::open(path)?;
    let mut head = [0; HEADER];
    file.read_exact_at(&mut head, 0)?;
    if !head.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    if (head[4], head[5], half(18)) != (CLASS64, LITTLE_ENDIAN, MACHINE) {
        return Ok(Some("is a 32-bit program, or for another machine"));
    }
    let at = u64::from_le_bytes(head[32..40].try_into().unwrap_or_default());
    let (size, count) = (u64::from(half(54)), u64::from(half(56)));
    let mut has_interpreter = false;
    for i in 0..count {
        let mut kind = [0; 4];
        file.read_exact_at(&mut kind, at.saturating_add(i * size))?;
        has_interpreter |= u32::from_le_bytes(kind) == INTERPRETER;
    }
    if !has_interpreter {
        return Ok(Some(
            "is a static program (one that `rkcov cc` links can call rkcov_open())",
        ));
    }
    let (file, us) = (file.metadata()?, fs::metadata("/proc/self")?);
    let is_set = |bit: u32| file.mode() & bit != 0;
    if (is_set(0o4000) && file.uid() != us.uid()) || (is_set(0o2000) && file.gid() != us.gid()) {
        return Ok(Some("is setuid or setgid and ignores LD_PRELOAD"));
    }
    Ok(None)
}

/// Of the ELF format: bytes of the header, and what stands in it.
const HEADER: usize = 64;
const CLASS64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else {
    183
};
const INTERPRETER: u32 = 3;

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
