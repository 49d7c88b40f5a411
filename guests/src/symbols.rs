// SPDX-License-Identifier: MIT OR Apache-2.0
//! What PCs of a kernel mean: symbols with offsets, functions (those that were inlined too), files.

use crate::guest::Result;
use object::{Object, ObjectSymbol, SymbolKind};
use rkcov_linux::Image;
use rkcov_report::image::{self, Frame, Search, Symbolizer};
use rkcov_report::trace::BuildId;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The symbols of a kernel.
pub(crate) struct Symbols {
    image: image::Image,
    /// The folder of the sources.
    source: PathBuf,
    /// Functions by their first address. Of several names of one the first of the alphabet.
    table: BTreeMap<u64, String>,
}

impl Symbols {
    pub(crate) fn of(kernel: &Image) -> Result<Self> {
        let data = std::fs::read(&kernel.vmlinux)?;
        let elf = object::File::parse(&*data)?;
        let build_id = BuildId(elf.build_id()?.unwrap_or_default().to_vec());
        let mut table: BTreeMap<u64, String> = BTreeMap::new();
        for symbol in elf.symbols().filter(|s| s.kind() == SymbolKind::Text) {
            let name = symbol.name()?;
            let known = table
                .entry(symbol.address())
                .or_insert_with(|| name.to_owned());
            if *name < **known {
                name.clone_into(known);
            }
        }
        let image = image::Image::find(&kernel.vmlinux, &build_id, &Search::default());
        let source = kernel.source();
        let source = source.canonicalize().unwrap_or(source);
        Ok(Self {
            image,
            source,
            table,
        })
    }

    /// A return address as the symbol before it and an offset: the same in kernels that were built
    /// alike, wherever the linker put the function.
    pub(crate) fn place(&self, pc: u64) -> String {
        match self.table.range(..pc).next_back() {
            Some((start, name)) => format!("{name}+{:#x}", pc - start),
            None => format!("{pc:#x}"),
        }
    }

    /// The source file of the function that a PC is code of, below the kernel's sources.
    pub(crate) fn file(&self, symbolizer: &mut Symbolizer<'_>, pc: u64) -> String {
        let frame = frames(symbolizer, pc).pop();
        let file = frame.and_then(|frame| frame.file);
        let file = file.as_deref().map_or(Path::new(""), Path::new);
        let below = file.strip_prefix(&self.source);
        below.unwrap_or(file).display().to_string()
    }

    /// Looks many PCs up.
    pub(crate) fn symbolizer(&self) -> Result<Symbolizer<'_>> {
        self.image.symbolizer().map_err(|e| format!("{e:?}").into())
    }
}

/// The names of all functions that a PC is code of: inlined ones first.
pub(crate) fn functions(symbolizer: &mut Symbolizer<'_>, pc: u64) -> Vec<String> {
    frames(symbolizer, pc)
        .into_iter()
        .filter_map(|frame| Some(frame.symbol?.to_string()))
        .collect()
}

/// The frames of the call that returns to this PC.
pub(crate) fn frames(symbolizer: &mut Symbolizer<'_>, pc: u64) -> Vec<Frame> {
    symbolizer.frames(pc.wrapping_sub(1))
}

/// A number in hexadecimal, with `0x` before it.
pub(crate) fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
