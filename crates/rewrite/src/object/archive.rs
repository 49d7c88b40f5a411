// SPDX-License-Identifier: MIT OR Apache-2.0
//! Archives: `.a` of C, and `.rlib`.

use super::{elf, Counts};
use object::archive::{MAGIC, THIN_MAGIC};
use object::read::archive::ArchiveFile;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Rewrites all members where they lie. Nothing else of the archive changes.
pub(super) fn rewrite(file: &mut [u8]) -> Counts {
    let mut counts = Counts::default();
    for member in members(file) {
        if let Some(member) = file.get_mut(member) {
            counts += elf::rewrite(member);
        }
    }
    counts
}

/// The places of the members, as far as the archive can be read.
fn members(file: &[u8]) -> Vec<Range<usize>> {
    let Ok(archive) = ArchiveFile::parse(file) else {
        return Vec::new();
    };
    let ranges = archive.members().map_while(|member| {
        let (start, size) = member.ok()?.file_range();
        let start = usize::try_from(start).ok()?;
        Some(start..start.checked_add(usize::try_from(size).ok()?)?)
    });
    ranges.collect()
}

/// Bytes of a member's header.
const HEADER: usize = 60;

/// The archive that has the members themselves of which a thin one has but the paths. `read` gives
/// the contents of one, whose path is relative to the archive's folder. `None` if it is no thin
/// archive, if a member cannot be read or has changed, or if anything else is not as linkers have it.
#[must_use]
pub fn thicken(file: &[u8], mut read: impl FnMut(&Path) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut at = THIN_MAGIC.len();
    file.strip_prefix(&THIN_MAGIC)?;
    let mut whole = MAGIC.to_vec();
    let mut names: &[u8] = &[];
    // Where headers were, and where they are.
    let mut moved: HashMap<u64, u64> = HashMap::new();
    // The tables of symbols, and the bytes of an offset in them.
    let mut tables: Vec<(Range<usize>, usize)> = Vec::new();
    while at < file.len() {
        let header = file.get(at..at.checked_add(HEADER)?)?;
        let name = header.get(..16)?.trim_ascii_end();
        let size = std::str::from_utf8(header.get(48..58)?).ok()?;
        let size: usize = size.trim_ascii_end().parse().ok()?;
        moved.insert(at as u64, whole.len() as u64);
        whole.extend(header);
        at += HEADER;
        let start = whole.len();
        if let b"/" | b"//" | b"/SYM64/" = name {
            let contents = file.get(at..at.checked_add(size)?)?;
            match name {
                b"//" => names = contents,
                b"/" => tables.push((start..start + size, 4)),
                _ => tables.push((start..start + size, 8)),
            }
            whole.extend(contents);
            at += size;
            at += at % 2;
        } else {
            let contents = read(Path::new(OsStr::from_bytes(path(name, names)?)))?;
            if contents.len() != size {
                return None;
            }
            whole.extend(contents);
        }
        if !whole.len().is_multiple_of(2) {
            whole.push(b'\n');
        }
    }
    for (table, width) in tables {
        move_symbols(whole.get_mut(table)?, width, &moved)?;
    }
    Some(whole)
}

/// The path that a member's name stands for.
fn path<'a>(name: &'a [u8], names: &'a [u8]) -> Option<&'a [u8]> {
    let Some(number) = name.strip_prefix(b"/") else {
        return Some(name.strip_suffix(b"/").unwrap_or(name));
    };
    let start: usize = std::str::from_utf8(number).ok()?.parse().ok()?;
    let rest = names.get(start..)?;
    let line = rest.split(|byte| *byte == b'\n').next()?;
    line.strip_suffix(b"/")
}

/// Has a table of symbols say where headers are now.
fn move_symbols(table: &mut [u8], width: usize, moved: &HashMap<u64, u64>) -> Option<()> {
    let number = |bytes: &[u8]| {
        let digits = bytes.iter().map(|byte| u64::from(*byte));
        digits.fold(0, |value, digit| value << 8 | digit)
    };
    let count = usize::try_from(number(table.get(..width)?)).ok()?;
    let offsets = table.get_mut(width..count.checked_add(1)?.checked_mul(width)?)?;
    for offset in offsets.chunks_exact_mut(width) {
        let new = moved.get(&number(offset))?.to_be_bytes();
        let (over, new) = new.split_at(8 - width);
        if over.iter().any(|byte| *byte != 0) {
            return None;
        }
        offset.copy_from_slice(new);
    }
    Some(())
}
