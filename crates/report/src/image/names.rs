// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths of sources that are not UTF-8. `addr2line` gives text, in which one character stands for any
//! byte that is none: two files may have the same text.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use gimli::{AttributeValue, Dwarf, Reader, Unit};

use super::debug::DebugFile;

/// What stands in text for a byte that is none.
const REPLACED: char = '\u{fffd}';

/// Whether text may stand for bytes that are none.
pub(super) fn is_lossy(text: &str) -> bool {
    text.contains(REPLACED)
}

/// The bytes of such paths, for the units that have any.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Sorted by where they start.
    sequences: Vec<Sequence>,
    /// Where functions were inlined, how deeply, and the file that they were called from.
    inlined: Vec<(Range<u64>, isize, Arc<OsStr>)>,
    /// The paths that a text stands for.
    all: HashMap<String, Vec<Arc<OsStr>>>,
}

#[derive(Debug)]
struct Sequence {
    code: Range<u64>,
    rows: Vec<(u64, Option<Arc<OsStr>>)>,
}

impl Names {
    pub(super) fn new(debug: &DebugFile) -> Self {
        let mut names = Self::default();
        debug.each_unit(|dwarf, unit| {
            // What cannot be read says nothing of other units.
            let _ = names.add(dwarf, unit);
        });
        names.sequences.sort_by_key(|sequence| sequence.code.start);
        names
    }

    fn add<R: Reader>(&mut self, dwarf: &Dwarf<R>, unit: &Unit<R>) -> Result<(), gimli::Error> {
        let Some(program) = &unit.line_program else {
            return Ok(());
        };
        let files = paths_of(dwarf, unit, program.header())?;
        let odd = files.iter().flatten();
        let odd: Vec<_> = odd.filter(|path| path.to_str().is_none()).collect();
        if odd.is_empty() {
            return Ok(());
        }
        for path in odd {
            let all = self.all.entry(path.to_string_lossy().into_owned());
            let all = all.or_default();
            if !all.contains(path) {
                all.push(Arc::clone(path));
            }
        }
        let file = |index: u64| files.get(usize::try_from(index).ok()?).cloned().flatten();

        let mut sequence: Vec<(u64, Option<Arc<OsStr>>)> = Vec::new();
        let mut rows = program.clone().rows();
        while let Some((_, row)) = rows.next_row()? {
            if row.end_sequence() {
                let rows = std::mem::take(&mut sequence);
                if let Some((start, _)) = rows.first() {
                    let code = *start..row.address();
                    self.sequences.push(Sequence { code, rows });
                }
                continue;
            }
            // Of several rows for one address the last counts.
            sequence.pop_if(|(address, _)| *address == row.address());
            sequence.push((row.address(), file(row.file_index())));
        }

        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            if entry.tag() != gimli::DW_TAG_inlined_subroutine {
                continue;
            }
            let caller = match entry.attr_value(gimli::DW_AT_call_file) {
                Some(AttributeValue::FileIndex(index)) => file(index),
                Some(value) => value.udata_value().and_then(file),
                None => None,
            };
            let Some(caller) = caller else { continue };
            let depth = entry.depth();
            let mut ranges = dwarf.die_ranges(unit, entry)?;
            while let Some(range) = ranges.next()? {
                let code = range.begin..range.end;
                self.inlined.push((code, depth, Arc::clone(&caller)));
            }
        }
        Ok(())
    }

    /// The path that `text` stands for in the frame of an address; the innermost has the number 0.
    /// `None` if it stands for itself, or nothing tells.
    pub(super) fn path(&self, address: u64, frame: usize, text: &str) -> Option<Arc<OsStr>> {
        let candidates = self.all.get(text)?;
        if let [only] = &candidates[..] {
            return Some(Arc::clone(only));
        }
        let found = match frame.checked_sub(1) {
            None => self.of_row(address),
            Some(called) => self.caller(address, called),
        };
        found.filter(|path| candidates.contains(path))
    }

    fn of_row(&self, address: u64) -> Option<Arc<OsStr>> {
        let after = self
            .sequences
            .partition_point(|sequence| sequence.code.start <= address);
        let before = self.sequences[..after].iter().rev();
        // Sequences of code that is gone lie at other addresses, or begin before all others.
        let sequence = before.take(2).find(|one| one.code.contains(&address))?;
        let after = sequence
            .rows
            .partition_point(|(start, _)| *start <= address);
        sequence.rows.get(after.checked_sub(1)?)?.1.clone()
    }

    /// The file from which the function was called that is the innermost but `depth`.
    fn caller(&self, address: u64, depth: usize) -> Option<Arc<OsStr>> {
        let mut here: Vec<_> = self
            .inlined
            .iter()
            .filter(|(code, ..)| code.contains(&address))
            .collect();
        here.sort_by_key(|(_, depth, _)| std::cmp::Reverse(*depth));
        here.get(depth).map(|(.., file)| Arc::clone(file))
    }
}

/// The paths of the files of a unit, by their numbers.
pub(super) fn paths_of<R: Reader>(
    dwarf: &Dwarf<R>,
    unit: &Unit<R>,
    header: &gimli::LineProgramHeader<R, R::Offset>,
) -> Result<Vec<Option<Arc<OsStr>>>, gimli::Error> {
    let mut files = Vec::new();
    // Before version 5 there is no file 0.
    for index in 0.. {
        match header.file(index) {
            Some(file) => files.push(Some(path_of(dwarf, unit, file, header)?)),
            None if index == 0 => files.push(None),
            None => break,
        }
    }
    Ok(files)
}

/// The path of a file, put together as `addr2line` does it.
fn path_of<R: Reader>(
    dwarf: &Dwarf<R>,
    unit: &Unit<R>,
    file: &gimli::FileEntry<R, R::Offset>,
    header: &gimli::LineProgramHeader<R, R::Offset>,
) -> Result<Arc<OsStr>, gimli::Error> {
    let mut path: Vec<u8> = Vec::new();
    let mut push = |part: &[u8]| {
        if part.starts_with(b"/") {
            path.clear();
        } else if !path.is_empty() && !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    };
    if let Some(folder) = &unit.comp_dir {
        push(&folder.to_slice()?);
    }
    // The directory 0 is that of the unit.
    if file.directory_index() != 0 {
        if let Some(folder) = file.directory(header) {
            push(&dwarf.attr_string(unit, folder)?.to_slice()?);
        }
    }
    push(&dwarf.attr_string(unit, file.path_name())?.to_slice()?);
    Ok(OsStr::from_bytes(&path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(bytes: &[u8]) -> Arc<OsStr> {
        OsStr::from_bytes(bytes).into()
    }

    /// Two headers of one unit, of which one calls the other and both were inlined.
    #[test]
    fn paths_of_one_text_are_told_apart_by_where_the_code_is() {
        let (one, other) = (path(b"/w/\xe8.h"), path(b"/w/\xe9.h"));
        let text = "/w/\u{fffd}.h";
        let names = Names {
            sequences: vec![
                Sequence {
                    code: 0..0x5000,
                    rows: vec![(0, None)],
                },
                Sequence {
                    code: 0x1000..0x1020,
                    rows: vec![(0x1000, Some(one.clone())), (0x1010, Some(other.clone()))],
                },
            ],
            inlined: vec![
                (0x1010..0x1020, 2, one.clone()),
                (0x1010..0x1014, 3, other.clone()),
            ],
            all: [
                (text.to_owned(), vec![one.clone(), other.clone()]),
                ("\u{fffd}".to_owned(), vec![path(b"\xff")]),
            ]
            .into(),
        };
        let at = |address, frame| names.path(address, frame, text);
        assert_eq!(at(0x1008, 0), Some(one.clone()));
        assert_eq!(at(0x1012, 0), Some(other.clone()));
        assert_eq!(at(0x1012, 1), Some(other));
        assert_eq!(at(0x1012, 2), Some(one.clone()));
        assert_eq!(at(0x1018, 1), Some(one));
        assert_eq!(at(0x1018, 2), None);
        assert_eq!(at(0x2000, 0), None);
        assert_eq!(names.path(0x9000, 7, "\u{fffd}"), Some(path(b"\xff")));
        assert_eq!(names.path(0x1008, 0, "/w/other\u{fffd}.h"), None);
    }
}
