// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debug information. Its sections are unpacked once, however many look something up in them.

use std::borrow::Cow;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use addr2line::{Context, FrameIter, Loader, Location, LookupResult};
use gimli::{Dwarf, DwarfSections, EndianSlice, RunTimeEndian, SectionId, Unit};
use object::{CompressionFormat, Object, ObjectKind, ObjectSection};

use super::elf::ElfFile;
use super::{Image, Problem};

/// How sections are read.
pub(super) type Reader<'a> = EndianSlice<'a, RunTimeEndian>;

/// A file with debug information.
#[derive(Debug)]
pub(super) struct DebugFile {
    file: ElfFile,
    unpacked: OnceLock<Result<Unpacked, String>>,
}

/// The sections that are compressed in the file.
type Unpacked = Vec<(SectionId, Vec<u8>)>;

impl DebugFile {
    pub(super) const fn new(file: ElfFile) -> Self {
        Self {
            file,
            unpacked: OnceLock::new(),
        }
    }

    pub(super) const fn file(&self) -> &ElfFile {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Its sections.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn dwarf(&self) -> Result<Dwarf<Reader<'_>>, String> {
        let object = self.file.object().ok_or("not a linked file")?;
        let unpacked = self.unpacked.get_or_init(|| unpack(&object));
        let unpacked = unpacked.as_ref().map_err(Clone::clone)?;
        let endian = match object.is_little_endian() {
            true => RunTimeEndian::Little,
            false => RunTimeEndian::Big,
        };
        let dwarf = Dwarf::load(|id| {
            let bytes = match unpacked.iter().find(|(other, _)| *other == id) {
                Some((_, bytes)) => bytes,
                None => {
                    let section = object.section_by_name(id.name());
                    section.map_or(Ok(&[][..]), |section| section.data())?
                }
            };
            Ok(EndianSlice::new(bytes, endian))
        });
        dwarf.map_err(|error: object::Error| error.to_string())
    }

    /// Goes through its units; leaves out those that cannot be read. `None` if that holds for all.
    pub(super) fn each_unit<'a>(
        &'a self,
        mut each: impl FnMut(&Dwarf<Reader<'a>>, &Unit<Reader<'a>>),
    ) -> Option<()> {
        let dwarf = self.dwarf().ok()?;
        let mut units = dwarf.units();
        while let Some(header) = units.next().ok()? {
            if let Ok(unit) = dwarf.unit(header) {
                each(&dwarf, &unit);
            }
        }
        Some(())
    }
}

fn unpack(object: &object::File<'_>) -> Result<Unpacked, String> {
    let mut compressed = Vec::new();
    let found = DwarfSections::load(|id| {
        if let Some(section) = object.section_by_name(id.name()) {
            let data = section.compressed_data()?;
            if data.format != CompressionFormat::None {
                compressed.push((id, data));
            }
        }
        Ok(())
    });
    found.map_err(|error: object::Error| error.to_string())?;
    // Not by rayon: the threads that wait for this are its own.
    thread::scope(|scope| {
        let unpacked = compressed.into_iter().map(|(id, data)| {
            let unpack = move || data.decompress().map(Cow::into_owned);
            (id, scope.spawn(unpack))
        });
        let unpacked: Vec<_> = unpacked.collect();
        let joined = unpacked.into_iter().map(|(id, worker)| {
            let section = worker
                .join()
                .map_err(|_| format!("{}: damaged", id.name()))?;
            Ok((id, section.map_err(|error| error.to_string())?))
        });
        joined.collect()
    })
}

/// The debug information of an image, as one thread reads it.
pub(super) enum Debug<'a> {
    /// It was not needed.
    Closed,
    /// There is none.
    Absent,
    /// Its sections are those of all threads.
    Shared(Box<Context<Reader<'a>>>),
    /// There is more than its sections: files that hold the rest of it, or relocations.
    Apart(Box<Loader>),
    /// It cannot be read.
    Bad(Problem),
}

impl<'a> Debug<'a> {
    pub(super) fn open(image: &'a Image) -> Self {
        let Some(debug) = &image.debug else {
            return Self::Absent;
        };
        let object = debug.file.object();
        if object.is_some_and(|object| object.kind() == ObjectKind::Relocatable) {
            return Self::open_apart(image);
        }
        let open = || {
            let mut dwarf = debug.dwarf()?;
            if let Some(file) = &image.supplementary {
                dwarf.set_sup(file.dwarf()?);
            }
            dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
            Context::from_dwarf(dwarf).map_err(|error| error.to_string())
        };
        match open() {
            Ok(context) => Self::Shared(Box::new(context)),
            Err(what) => Self::bad(debug, what),
        }
    }

    fn open_apart(image: &'a Image) -> Self {
        let Some(debug) = &image.debug else {
            return Self::Absent;
        };
        let rest = image.supplementary.as_ref().map(DebugFile::path);
        match Loader::new_with_sup(debug.path(), rest) {
            Ok(loader) => Self::Apart(Box::new(loader)),
            Err(error) => Self::bad(debug, error.to_string()),
        }
    }

    fn bad(debug: &DebugFile, what: String) -> Self {
        Self::Bad(Problem::BadDebug {
            debug: debug.path().to_owned(),
            what,
        })
    }

    fn opened(&mut self, image: &'a Image) -> &Self {
        if let Self::Closed = self {
            *self = Self::open(image);
        }
        self
    }

    /// The functions that an address belongs to, the innermost first: their names as the linker knows them, and
    /// the places in them.
    pub(super) fn frames(
        &mut self,
        image: &'a Image,
        address: u64,
        each: impl FnMut(Option<Cow<'_, [u8]>>, Option<&Location<'_>>),
    ) {
        match self.opened(image) {
            Self::Shared(context) => match context.find_frames(address) {
                LookupResult::Output(frames) => return walk(frames.ok(), each),
                // The crate's own loader finds the files that hold the rest.
                LookupResult::Load { .. } => {}
            },
            Self::Apart(loader) => return walk(loader.find_frames(address).ok(), each),
            Self::Closed | Self::Absent | Self::Bad(_) => return,
        }
        *self = Self::open_apart(image);
        self.frames(image, address, each);
    }

    /// The addresses in a range that rows of the line tables begin at.
    pub(super) fn rows(&mut self, image: &'a Image, start: u64, end: u64) -> Vec<u64> {
        match self.opened(image) {
            Self::Shared(context) => {
                let rows = context.find_location_range(start, end);
                rows.map_or_else(|_| Vec::new(), |rows| rows.map(|row| row.0).collect())
            }
            Self::Apart(loader) => {
                let rows = loader.find_location_range(start, end);
                rows.map_or_else(|_| Vec::new(), |rows| rows.map(|row| row.0).collect())
            }
            Self::Closed | Self::Absent | Self::Bad(_) => Vec::new(),
        }
    }
}

fn walk<R: gimli::Reader>(
    frames: Option<FrameIter<'_, R>>,
    mut each: impl FnMut(Option<Cow<'_, [u8]>>, Option<&Location<'_>>),
) {
    let Some(mut frames) = frames else { return };
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref();
        let name = name.and_then(|name| name.name.to_slice().ok());
        each(name, frame.location.as_ref());
    }
}
