// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows of line tables that stand for nothing that an author wrote.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use gimli::{Dwarf, DwarfSections, EndianSlice, LittleEndian, Reader};
use object::{Object, ObjectSection};

use super::elf::ElfFile;

/// Where several ways meet again, an optimizing gcc calls back with the line of a value that one of
/// them brings there: `return 1;` of a branch, though the code is that of all. Such a row covers the
/// callback alone, and no statement begins with it. `calls` are the callbacks, from the call to where
/// it returns.
pub(super) fn of_callbacks_alone(debug: &ElfFile, calls: &HashMap<u64, u64>) -> HashSet<u64> {
    read(debug, calls).unwrap_or_default()
}

fn read(debug: &ElfFile, calls: &HashMap<u64, u64>) -> Result<HashSet<u64>, gimli::Error> {
    let mut alone = HashSet::new();
    with_dwarf(debug, |dwarf| {
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            // What cannot be read says nothing of other units.
            let Ok(unit) = dwarf.unit(header) else {
                continue;
            };
            if let Some(program) = unit.line_program {
                let _ = of_unit(program, calls, &mut alone);
            }
        }
        Ok(())
    })?;
    Ok(alone)
}

/// Reads the debug information of a file.
pub(super) fn with_dwarf(
    debug: &ElfFile,
    read: impl FnOnce(&Dwarf<EndianSlice<'_, LittleEndian>>) -> Result<(), gimli::Error>,
) -> Result<(), gimli::Error> {
    let Some(object) = debug.object() else {
        return Ok(());
    };
    let section = |id: gimli::SectionId| {
        let section = object.section_by_name(id.name());
        let data = section.and_then(|section| section.uncompressed_data().ok());
        Ok::<Cow<'_, [u8]>, gimli::Error>(data.unwrap_or_default())
    };
    let sections = DwarfSections::load(section)?;
    read(&sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian)))
}

fn of_unit<R: Reader>(
    program: gimli::IncompleteLineProgram<R>,
    calls: &HashMap<u64, u64>,
    alone: &mut HashSet<u64>,
) -> Result<(), gimli::Error> {
    let mut rows = program.rows();
    // Of several rows for one address the last counts: those before it are of code that is gone.
    let mut before: Option<(u64, bool)> = None;
    while let Some((_, row)) = rows.next_row()? {
        if let Some((start, false)) = before {
            if calls.get(&start) == Some(&row.address()) {
                alone.insert(start);
            }
        }
        before = (!row.end_sequence()).then_some((row.address(), row.is_stmt()));
    }
    Ok(())
}
