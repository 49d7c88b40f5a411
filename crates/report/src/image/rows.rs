// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows of line tables that stand for nothing that an author wrote, or for several things.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gimli::{Dwarf, Reader, Unit};
use rustc_hash::{FxHashMap, FxHashSet};

use super::debug::DebugFile;
use super::folded::{Folded, Starts};

/// What line tables say of more than lines.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Where several ways meet again, an optimizing gcc calls back with the line of a value that one of
    /// them brings there: `return 1;` of a branch, though the code is that of all. Such a row covers the
    /// callback alone, and no statement begins with it.
    pub(crate) of_callbacks_alone: FxHashSet<u64>,
    /// Code of several functions.
    pub(crate) folded: Folded,
    /// Files that hold more of the debug information, if they are there.
    pub(super) split: Vec<PathBuf>,
}

impl Rows {
    /// Reads them. `calls` are the callbacks, from the call to where it returns; `is_start` says whether a
    /// function starts somewhere.
    pub(super) fn read(
        debug: &DebugFile,
        calls: &FxHashMap<u64, u64>,
        is_start: impl Fn(u64) -> bool,
    ) -> Self {
        let mut alone = FxHashSet::default();
        let mut starts = Starts::default();
        let mut split = Vec::new();
        let read = debug.each_unit(|dwarf, unit| {
            split.extend(split_from(dwarf, unit));
            // What cannot be read says nothing of other units.
            let _ = of_unit(dwarf, unit, calls, &mut alone, &mut starts);
        });
        match read {
            Some(()) => {
                if !split.is_empty() {
                    let mut package = debug.path().as_os_str().to_owned();
                    package.push(".dwp");
                    split.push(package.into());
                }
                Self {
                    of_callbacks_alone: alone,
                    folded: starts.read(debug, is_start),
                    split,
                }
            }
            None => Self::default(),
        }
    }
}

/// The file with the rest of a unit.
fn split_from<R: Reader>(dwarf: &Dwarf<R>, unit: &Unit<R>) -> Option<PathBuf> {
    let name = dwarf.attr_string(unit, unit.dwo_name().ok()??).ok()?;
    let folder = unit
        .comp_dir
        .as_ref()
        .and_then(|folder| folder.to_slice().ok());
    let folder = folder.unwrap_or_default();
    let name = name.to_slice().ok()?;
    let path = Path::new(OsStr::from_bytes(&folder)).join(OsStr::from_bytes(&name));
    std::path::absolute(path).ok()
}

fn of_unit<R: Reader>(
    dwarf: &Dwarf<R>,
    unit: &Unit<R>,
    calls: &FxHashMap<u64, u64>,
    alone: &mut FxHashSet<u64>,
    starts: &mut Starts,
) -> Result<(), gimli::Error> {
    let Some(program) = unit.line_program.clone() else {
        return Ok(());
    };
    let mut rows = program.rows();
    // Of several rows for one address the last counts: those before it are of code that is gone.
    let mut before: Option<(u64, bool)> = None;
    while let Some((header, row)) = rows.next_row()? {
        match before {
            Some((start, false)) if calls.get(&start) == Some(&row.address()) => {
                alone.insert(start);
            }
            None if !row.end_sequence() => {
                let name = row.file(header).map(|file| file.path_name());
                let name = name.and_then(|name| dwarf.attr_string(unit, name).ok());
                let name = name.as_ref().and_then(|name| name.to_slice().ok());
                let line = row.line().map_or(0, |line| line.get());
                starts.add(row.address(), &name.unwrap_or_default(), line);
            }
            _ => {}
        }
        before = (!row.end_sequence()).then_some((row.address(), row.is_stmt()));
    }
    Ok(())
}
