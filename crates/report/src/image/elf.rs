// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is read of a linked file apart from its debug information.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use gimli::{BaseAddresses, CieOrFde, EhFrame, EndianSlice, RunTimeEndian, UnwindSection};
use memchr::memmem;
use memmap2::Mmap;
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, SectionKind, SymbolKind};

use crate::trace::BuildId;

/// A linked file, mapped.
#[derive(Debug)]
pub(crate) struct ElfFile {
    path: PathBuf,
    map: Mmap,
}

/// Why a file is not one that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not an executable, a library or a file of debug information.
    #[error("not a linked file: {0}")]
    Format(#[from] object::Error),
}

/// The code of one function, as a symbol or unwind information tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its addresses in the file.
    pub(crate) range: Range<u64>,
    /// The name that the linker knows, mangled; empty if only unwind information knows it.
    pub(crate) name: String,
}

impl ElfFile {
    /// The address of the file's first byte, if that is loaded.
    pub(crate) fn header(&self) -> Option<u64> {
        let object = self.object()?;
        let mut segments = object.segments();
        let first = segments.find(|segment| segment.file_range().0 == 0)?;
        Some(first.address())
    }

    pub(crate) fn open(path: &Path) -> Result<Self, ElfError> {
        // Looked at first: to open a pipe would wait for who writes to it.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a regular file").into());
        }
        let file = File::open(path)?;
        // SAFETY: linkers and package managers put new files in place of old ones. Were this one
        // changed in place, we would read other bytes, which all readers of it stand, or get
        // SIGBUS if it became shorter.
        let map = unsafe { Mmap::map(&file) }?;
        let elf = Self {
            path: path.to_owned(),
            map,
        };
        object::File::parse(&*elf.map)?;
        Ok(elf)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The file's structure. Parsing reads little more than headers.
    pub(crate) fn object(&self) -> Option<object::File<'_>> {
        object::File::parse(&*self.map).ok()
    }

    pub(crate) fn build_id(&self) -> BuildId {
        let object = self.object();
        let id = object.as_ref().and_then(|o| o.build_id().ok().flatten());
        BuildId(id.unwrap_or_default().to_vec())
    }

    /// The sections of code.
    pub(crate) fn text(&self) -> Vec<Range<u64>> {
        let Some(object) = self.object() else {
            return Vec::new();
        };
        let code = object
            .sections()
            .filter(|section| section.kind() == SectionKind::Text);
        code.map(|section| section.address()..section.address().saturating_add(section.size()))
            .collect()
    }

    /// Whether it has line tables, compressed or not.
    pub(crate) fn has_lines(&self) -> bool {
        let has = |name| {
            self.object()
                .and_then(|object| object.section_by_name(name).map(|s| s.size() > 0))
                .unwrap_or(false)
        };
        has(".debug_line") && has(".debug_info")
    }

    /// Whether it has symbols beside those for the dynamic linker.
    pub(crate) fn has_symbols(&self) -> bool {
        let object = self.object();
        object.is_some_and(|object| object.symbol_table().is_some())
    }

    /// The functions that its symbols name and, where none does, its unwind information, sorted
    /// by address and not overlapping.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let Some(object) = self.object() else {
            return Vec::new();
        };
        let mut found: Vec<Function> = named(&object)
            .filter_map(|(range, name)| Some((range, str::from_utf8(name).ok()?.to_owned())))
            .chain(unwind_ranges(&object).map(|range| (range, String::new())))
            .map(|(range, name)| Function { range, name })
            .collect();
        // Of several with one start: the longest, with a name if any has one.
        found.sort_by(|a, b| {
            let key = |f: &Function| (f.range.start, f.name.is_empty(), u64::MAX - f.range.end);
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        let mut functions: Vec<Function> = Vec::with_capacity(found.len());
        for next in found {
            match functions.last_mut() {
                Some(last) if next.range.start == last.range.start => {
                    if last.range.is_empty() {
                        last.range = next.range;
                    }
                }
                Some(last) if next.range.start < last.range.end => {}
                _ => functions.push(next),
            }
        }
        functions.retain(|f| !f.range.is_empty());
        functions
    }
}

/// The functions that symbols name, in the order of the symbols: with the names that the linker knows.
pub(super) fn named<'a, 'o>(
    object: &'o object::File<'a>,
) -> impl Iterator<Item = (Range<u64>, &'a [u8])> + use<'a, 'o> {
    let symbols = object.symbols().chain(object.dynamic_symbols());
    symbols.filter_map(|symbol| {
        // Sections of single blocks have symbols without a type.
        let is_part = |name| memmem::find(name, b".__part.").is_some();
        let kind = symbol.kind();
        if !matches!(kind, SymbolKind::Text | SymbolKind::Unknown) {
            return None;
        }
        let name = symbol.name_bytes().ok()?;
        let is_code = match kind {
            SymbolKind::Text => symbol.is_definition(),
            _ => is_part(name),
        };
        let start = symbol.address();
        is_code.then_some((start..start.checked_add(symbol.size())?, name))
    })
}

/// The functions that `.eh_frame` describes.
fn unwind_ranges(object: &object::File<'_>) -> impl Iterator<Item = Range<u64>> {
    let endian = if object.is_little_endian() {
        RunTimeEndian::Little
    } else {
        RunTimeEndian::Big
    };
    let mut ranges = Vec::new();
    let text = object.section_by_name(".text").map_or(0, |s| s.address());
    if let Some(section) = object.section_by_name(".eh_frame") {
        let mut eh_frame =
            EhFrame::from(EndianSlice::new(section.data().unwrap_or_default(), endian));
        eh_frame.set_address_size(if object.is_64() { 8 } else { 4 });
        let bases = BaseAddresses::default()
            .set_eh_frame(section.address())
            .set_text(text);
        let mut entries = eh_frame.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            if let CieOrFde::Fde(partial) = entry {
                if let Ok(fde) = partial.parse(EhFrame::cie_from_offset) {
                    ranges.push(fde.initial_address()..fde.end_address());
                }
            }
        }
    }
    ranges.into_iter().filter(|range| range.start < range.end)
}
