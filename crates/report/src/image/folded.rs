// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions that the linker folded into one (`--icf=all`): one piece of code that has the lines of several.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use gimli::{AttributeValue, DebuggingInformationEntry, Dwarf, Reader, Unit};

use serde::{Deserialize, Serialize};

use super::cache::shared_path;
use super::debug::DebugFile;
use super::names::paths_of;

/// The sequences of line tables that begin at the same address and are of different functions.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// Sorted by where they start.
    functions: Vec<Function>,
}

/// One of the functions that a piece of code is.
#[derive(Debug)]
struct Function {
    code: Range<u64>,
    rows: Vec<(u64, Arc<OsStr>, u32)>,
    symbol: Option<Arc<str>>,
}

/// A row of one of them.
pub(crate) struct Row<'a> {
    pub(crate) address: u64,
    pub(crate) file: &'a Arc<OsStr>,
    pub(crate) line: u32,
    /// The function as the linker knows it, if the row's file is the one that it was declared in.
    pub(crate) symbol: Option<&'a Arc<str>>,
}

/// Finds where sequences begin that are not all of one function. Copies of one function, of which the
/// linker kept one, begin with the same line of the same file.
#[derive(Debug, Default)]
pub(super) struct Starts {
    first_lines: HashMap<u64, (Vec<u8>, u64)>,
    several: HashSet<u64>,
}

impl Starts {
    /// Adds a sequence that begins at `start` with a line of a file.
    pub(super) fn add(&mut self, start: u64, file: &[u8], line: u64) {
        match self.first_lines.get(&start) {
            Some((other, number)) if (&other[..], *number) == (file, line) => {}
            Some(_) => _ = self.several.insert(start),
            None => _ = self.first_lines.insert(start, (file.to_vec(), line)),
        }
    }

    /// The functions at those that are starts of functions; code that is gone seems to start at 0.
    pub(super) fn read(mut self, debug: &DebugFile, is_start: impl Fn(u64) -> bool) -> Folded {
        self.several.retain(|start| is_start(*start));
        let mut folded = Folded::default();
        if self.several.is_empty() {
            return folded;
        }
        debug.each_unit(|dwarf, unit| {
            // What cannot be read says nothing of other units.
            let _ = folded.add(dwarf, unit, &self.several);
        });
        folded.functions.sort_by_key(|function| function.code.start);
        folded
    }
}

impl Folded {
    fn add<R: Reader>(
        &mut self,
        dwarf: &Dwarf<R>,
        unit: &Unit<R>,
        starts: &HashSet<u64>,
    ) -> Result<(), gimli::Error> {
        let Some(program) = &unit.line_program else {
            return Ok(());
        };
        let mut found: Vec<(Range<u64>, Sequence)> = Vec::new();
        let mut sequence = Sequence::new();
        let mut rows = program.clone().rows();
        while let Some((_, row)) = rows.next_row()? {
            let line = row.line().map_or(0, |line| line.get());
            let line = u32::try_from(line).unwrap_or(0);
            if !row.end_sequence() {
                // Of several rows for one address the last counts.
                sequence.pop_if(|(address, ..)| *address == row.address());
                sequence.push((row.address(), row.file_index(), line));
                continue;
            }
            let rows = std::mem::take(&mut sequence);
            match rows.first() {
                Some((start, ..)) if starts.contains(start) => {
                    found.push((*start..row.address(), rows));
                }
                _ => {}
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        let files = paths_of(dwarf, unit, program.header())?;
        let declared = declarations(dwarf, unit)?;
        for (code, rows) in found {
            // The function that was declared last before the first line.
            let own = rows.first().and_then(|(_, file, line)| {
                let before = declared
                    .iter()
                    .filter(|(at, _)| at.0 == *file && at.1 <= *line);
                before.max_by_key(|(at, _)| at.1)
            });
            let rows = rows.into_iter().filter(|(.., line)| *line > 0);
            let path = |index: u64| files.get(usize::try_from(index).ok()?).cloned().flatten();
            self.functions.push(Function {
                code,
                rows: rows
                    .filter_map(|(address, file, line)| Some((address, path(file)?, line)))
                    .collect(),
                symbol: own.map(|(_, symbol)| Arc::clone(symbol)),
            });
        }
        Ok(())
    }

    /// What the functions have in `code`; `None` if it is of one function alone.
    pub(crate) fn rows(&self, code: &Range<u64>) -> Option<impl Iterator<Item = Row<'_>>> {
        let after = self
            .functions
            .partition_point(|one| one.code.start <= code.start);
        let start = self.functions[after.checked_sub(1)?].code.start;
        let before = self.functions[..after].iter().rev();
        let here: Vec<&Function> = before
            .take_while(|one| one.code.start == start)
            .filter(|one| one.code.contains(&code.start))
            .collect();
        let code = code.clone();
        (!here.is_empty()).then(|| {
            here.into_iter().flat_map(move |one| {
                let own = one.rows.first().map(|(_, file, _)| file);
                let code = code.clone();
                let rows = one.rows.iter();
                let rows = rows.filter(move |(address, ..)| code.contains(address));
                rows.map(move |(address, file, line)| Row {
                    address: *address,
                    file,
                    line: *line,
                    symbol: one.symbol.as_ref().filter(|_| own == Some(file)),
                })
            })
        })
    }
}

/// [`Folded`] as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredFolded {
    files: Vec<Vec<u8>>,
    functions: Vec<StoredFunction>,
}

#[derive(Serialize, Deserialize)]
struct StoredFunction {
    code: Range<u64>,
    /// With the number of the file.
    rows: Sequence,
    symbol: Option<String>,
}

impl StoredFolded {
    pub(super) fn of(folded: &Folded) -> Self {
        let mut files: Vec<Vec<u8>> = Vec::new();
        let mut numbers: HashMap<&OsStr, u64> = HashMap::new();
        let mut number = |file| {
            *numbers.entry(file).or_insert_with(|| {
                files.push(file.as_bytes().to_vec());
                files.len() as u64 - 1
            })
        };
        let functions = folded.functions.iter().map(|one| StoredFunction {
            code: one.code.clone(),
            rows: one
                .rows
                .iter()
                .map(|(address, file, line)| (*address, number(file), *line))
                .collect(),
            symbol: one.symbol.as_deref().map(str::to_owned),
        });
        let functions = functions.collect();
        Self { files, functions }
    }

    /// `None` if a row has a file that is not there, or they are not sorted.
    pub(super) fn into_folded(self) -> Option<Folded> {
        let files = self.files.iter().map(|file| shared_path(file));
        let files: Vec<Arc<OsStr>> = files.collect();
        let functions = self.functions.into_iter().map(|one| {
            let rows = one.rows.into_iter().map(|(address, file, line)| {
                let file = files.get(usize::try_from(file).ok()?)?;
                Some((address, Arc::clone(file), line))
            });
            Some(Function {
                code: one.code,
                rows: rows.collect::<Option<_>>()?,
                symbol: one.symbol.map(Arc::from),
            })
        });
        let functions: Vec<Function> = functions.collect::<Option<_>>()?;
        let sorted = functions.is_sorted_by_key(|one| one.code.start);
        sorted.then_some(Folded { functions })
    }
}

/// Rows of a line table: an address, the number of a file, and a line.
type Sequence = Vec<(u64, u64, u32)>;

/// Where the functions of a unit are declared, by file and line, and what the linker calls them.
type Declared = Vec<((u64, u32), Arc<str>)>;

fn declarations<R: Reader>(dwarf: &Dwarf<R>, unit: &Unit<R>) -> Result<Declared, gimli::Error> {
    let mut declared = Vec::new();
    let mut entries = unit.entries();
    while let Some(entry) = entries.next_dfs()? {
        if entry.tag() != gimli::DW_TAG_subprogram {
            continue;
        }
        let own = |name| entry.attr_value(name);
        let origin = own(gimli::DW_AT_specification).or_else(|| own(gimli::DW_AT_abstract_origin));
        let origin = match origin {
            Some(AttributeValue::UnitRef(offset)) => unit.entry(offset).ok(),
            _ => None,
        };
        let get = |name| {
            let of = |entry: &DebuggingInformationEntry<R>| entry.attr_value(name);
            of(entry).or_else(|| origin.as_ref().and_then(of))
        };
        let file = match get(gimli::DW_AT_decl_file) {
            Some(AttributeValue::FileIndex(index)) => Some(index),
            value => value.and_then(|value| value.udata_value()),
        };
        let line = get(gimli::DW_AT_decl_line).and_then(|value| value.udata_value());
        let line = line.and_then(|line| u32::try_from(line).ok());
        let name = get(gimli::DW_AT_linkage_name).or_else(|| get(gimli::DW_AT_name));
        if let (Some(file), Some(line), Some(name)) = (file, line, name) {
            let name = dwarf.attr_string(unit, name)?;
            declared.push(((file, line), Arc::from(&*name.to_string_lossy()?)));
        }
    }
    Ok(declared)
}
