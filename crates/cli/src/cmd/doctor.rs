// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov doctor`: what this machine has for rkcov, and how to get what is missing.

use crate::error::{Chain, Error};
use crate::toolchain::{find, name, Compiler, Program};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::process::ExitCode;
use std::{env, fs};

/// Arguments of `rkcov doctor`: none.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints what is here, one thing a line.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(_: &Args) -> Result<ExitCode, Error> {
    let mut out = io::stdout().lock();
    let compilers = compilers();
    for program in &compilers {
        let path = program.path.display();
        match Compiler::of(program) {
            Ok(compiler) => {
                let best = compiler.best(true).map_or_else(
                    || String::from("no instrumentation that rkcov knows"),
                    |best| best.to_string(),
                );
                writeln!(out, "{path}: {compiler}: {best}")?;
            }
            Err(error) => writeln!(out, "{path}: {}", Chain(&error))?,
        }
    }
    Ok(if compilers.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The C compilers in the folders of `$PATH`, one path for each file: the shortest of the first
/// folder that has it.
fn compilers() -> Vec<Program> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for dir in env::split_paths(&path) {
        let mut names: Vec<OsString> = fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| is_c_compiler(name))
            .collect();
        names.sort_by_key(|name| (name.len(), name.clone()));
        for name in names {
            if let Ok(program) = find(dir.join(name).as_os_str()) {
                if seen.insert(program.stamp.file.clone()) {
                    found.push(program);
                }
            }
        }
    }
    found
}

/// Whether this is the name of gcc or clang themselves, not of a script before them (`c99-gcc`) or
/// another language's.
fn is_c_compiler(program: &OsStr) -> bool {
    let text = program.to_string_lossy();
    let script = text.starts_with("c89") || text.starts_with("c99");
    name::is_compiler(program)
        && !script
        && (text.contains("gcc") || text.contains("clang"))
        && !text.contains("++")
}
