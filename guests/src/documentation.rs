// SPDX-License-Identifier: MIT OR Apache-2.0
//! The documentation's programs, compiled as they are: what they print has to be code of the call
//! that they make, or of the hub that a device was plugged into meanwhile.

use crate::guest::{compile, Guest, Kernel, Result};
use crate::symbols::{functions, hexadecimal, Symbols};
use rkcov_linux::documentation::{self, NAMES};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// A function that has to be among those of each program: the first two read, and the third
/// listens to a hub.
const EXPECTED: [&str; 3] = ["ksys_read", "ksys_read", "hub_event"];

/// Functions of a program that are printed.
const SHOWN: usize = 20;

/// Runs the programs in a guest each, and prints the functions whose code they show.
pub(crate) fn run(kernel: &Kernel) -> Result<()> {
    let guest = Guest::new(kernel)?;
    let symbols = Symbols::of(&guest.image)?;
    let mut symbolizer = symbols.symbolizer()?;
    let folder = tempfile::tempdir()?;
    for ((name, source), expected) in NAMES.iter().zip(documentation::sources()?).zip(EXPECTED) {
        let (file, program) = (folder.path().join("program.c"), folder.path().join(name));
        std::fs::write(&file, source)?;
        compile(kernel.arch, &file, &program, &["-w"])?;
        let path = program.display().to_string();
        let printed = guest.inside(&["documentation", &path], &[program])?;

        let pcs: Vec<u64> = printed.lines().filter_map(pc).collect();
        println!(
            "{name}: {} lines, {} PCs",
            printed.lines().count(),
            pcs.len()
        );
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for pc in &pcs {
            let names = functions(&mut symbolizer, *pc);
            if names.is_empty() {
                return Err(format!("{name}: {pc:#x} is no code of this kernel").into());
            }
            for name in names {
                *found.entry(name).or_default() += 1;
            }
        }
        let mut shown: Vec<_> = found.iter().collect();
        shown.sort_by_key(|(_, pcs)| std::cmp::Reverse(**pcs));
        for (function, pcs) in shown.iter().take(SHOWN) {
            println!("  {pcs:6} {function}()");
        }
        if let Some(more @ 1..) = shown.len().checked_sub(SHOWN) {
            println!("         and {more} more functions");
        }
        if pcs.len() != printed.lines().count() {
            return Err(format!("{name}: a line without PC:\n{printed}").into());
        }
        if !found.contains_key(expected) {
            return Err(format!("{name}: none of this is {expected}()").into());
        }
    }
    Ok(())
}

/// The PC of a line that one of the programs prints.
fn pc(line: &str) -> Option<u64> {
    let pc = line.strip_prefix("ip: ").unwrap_or(line);
    hexadecimal(pc.split_whitespace().next()?)
}

/// Runs a program and passes on what it prints.
pub(crate) fn inside(program: &Path) -> Result<()> {
    let listens = program.ends_with(NAMES[2]);
    let output = documentation::run(program, listens)?;
    std::io::stdout().write_all(&output.stdout)?;
    std::io::stderr().write_all(&output.stderr)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{}: {}", program.display(), output.status).into())
    }
}
