// SPDX-License-Identifier: MIT OR Apache-2.0
//! One object.

use super::{sites, Counts, CALLBACK, INIT, STORED_CALLBACK, STORED_INIT};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind};
use object::elf::{self, FileHeader64, Rela64, SectionHeader64};
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, Sym as _};
use object::read::elf::{SectionTable, SymbolTable};
use object::{LittleEndian, SectionIndex, SymbolIndex};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

const LE: LittleEndian = LittleEndian;

type Header = FileHeader64<LittleEndian>;
type Rela = Rela64<LittleEndian>;

/// `lea rdi, [rip + ...]`
const LEA: [u8; 3] = [0x48, 0x8d, 0x3d];
const LEA_LEN: usize = 7;
/// `add rdi, ...` with one byte and with four, as code without optimization has it.
const ADD_BYTE: [u8; 3] = [0x48, 0x83, 0xc7];
const ADD_WORD: [u8; 3] = [0x48, 0x81, 0xc7];
const CALL: u8 = 0xe8;
const CALL_THROUGH: [u8; 2] = [0xff, 0x15];

/// Bytes that take the place of others.
struct Edit {
    at: usize,
    bytes: [u8; Self::MOST],
    len: usize,
}

impl Edit {
    /// Bytes of one, at most.
    const MOST: usize = 24;

    fn new(at: usize, new: &[u8]) -> Self {
        let mut bytes = [0; Self::MOST];
        let len = new.len().min(bytes.len());
        bytes[..len].copy_from_slice(&new[..len]);
        Self { at, bytes, len }
    }
}

/// Rewrites an object where it lies.
pub(super) fn rewrite(file: &mut [u8]) -> Counts {
    let Ok((edits, counts)) = plan(file) else {
        return Counts::default();
    };
    for edit in edits {
        if let Some(place) = file.get_mut(edit.at..edit.at.saturating_add(edit.len)) {
            place.copy_from_slice(&edit.bytes[..edit.len]);
        }
    }
    counts
}

/// What of an object is read.
struct Object<'a> {
    file: &'a [u8],
    sections: SectionTable<'a, Header>,
    symbols: SymbolTable<'a, Header>,
}

/// Code, and the relocations in it.
struct Section<'a> {
    index: SectionIndex,
    /// Where it is in the file.
    offset: usize,
    bytes: &'a [u8],
    relocations: &'a [Rela],
    /// Where those are in the file.
    relocations_offset: usize,
}

/// A pair: offsets in its section, and the numbers of its relocations.
struct Pair {
    range: Range<usize>,
    /// Where its instructions begin but the first.
    between: Vec<usize>,
    lea: usize,
    call_relocation: usize,
    /// What becomes of the relocation of `lea`'s operand.
    addend: i64,
}

fn plan(file: &[u8]) -> object::read::Result<(Vec<Edit>, Counts)> {
    let mut edits = Vec::new();
    let mut counts = Counts::default();
    let header = Header::parse(file)?;
    header.endian()?;
    if header.e_machine(LE) != elf::EM_X86_64 || header.e_type(LE) != elf::ET_REL {
        return Ok((edits, counts));
    }
    let sections = header.sections(LE, file)?;
    let symbols = sections.symbols(LE, file, elf::SHT_SYMTAB)?;
    let object = Object {
        file,
        sections,
        symbols,
    };
    let renamed = object.rename(&mut edits)?;
    let callbacks = object.callbacks();
    if callbacks.is_empty() || !renamed {
        return Ok((edits, counts));
    }
    let codes = object.codes()?;
    let mut found = Vec::new();
    for code in &codes {
        let (pairs, calls) = object.pairs(code, &callbacks);
        counts.calls += calls;
        if !pairs.is_empty() {
            found.push((code, pairs));
        }
    }
    let wanted: HashSet<SectionIndex> = found.iter().map(|(code, _)| code.index).collect();
    let entered = object.entered(&wanted);
    for (code, pairs) in found {
        let entered = entered.get(&code.index).map_or(&[][..], Vec::as_slice);
        let whole = Sweep::of(code);
        for pair in pairs {
            let sound = whole.allows(&pair) && !is_entered(entered, &pair);
            if sound && code.store(&pair, &mut edits).is_some() {
                counts.stores += 1;
                counts.calls -= 1;
            }
        }
    }
    Ok((edits, counts))
}

impl<'a> Object<'a> {
    /// The symbols that are the callback: one, in an object that nobody made by hand.
    fn callbacks(&self) -> HashSet<SymbolIndex> {
        let named = |symbol| {
            let name = self.symbols.symbol_name(LE, symbol);
            name.is_ok_and(|name| name == CALLBACK)
        };
        let symbols = self.symbols.enumerate();
        symbols
            .filter(|(_, symbol)| symbol.is_undefined(LE) && named(symbol))
            .map(|(index, _)| index)
            .collect()
    }

    /// Gives the functions that are called the names that they have in a module with stores. `false` if
    /// that cannot be done: then nothing is to change.
    fn rename(&self, edits: &mut Vec<Edit>) -> object::read::Result<bool> {
        let strings = self.sections.section(self.symbols.string_section())?;
        let (Ok(offset), bytes) = (
            usize::try_from(strings.sh_offset(LE)),
            strings.data(LE, self.file)?,
        ) else {
            return Ok(false);
        };
        let mut places = Vec::new();
        for (_, symbol) in self.symbols.enumerate() {
            let name = self.symbols.symbol_name(LE, symbol).unwrap_or_default();
            let new = match name {
                CALLBACK => STORED_CALLBACK,
                INIT => STORED_INIT,
                _ => continue,
            };
            let at = usize::try_from(symbol.st_name(LE)).unwrap_or(usize::MAX);
            if !symbol.is_undefined(LE) || bytes.get(at..).is_none_or(|s| !s.starts_with(name)) {
                return Ok(false);
            }
            places.push((at, new));
        }
        for (at, new) in &places {
            // Where one name is the end of another, a change to it is one to both.
            let begins = at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&0);
            if !begins {
                return Ok(false);
            }
            edits.extend(
                new.chunks(Edit::MOST)
                    .enumerate()
                    .map(|(part, bytes)| Edit::new(offset + at + part * Edit::MOST, bytes)),
            );
        }
        Ok(!places.is_empty())
    }

    /// The sections of code that have one section of relocations.
    fn codes(&self) -> object::read::Result<Vec<Section<'a>>> {
        let mut codes: HashMap<SectionIndex, Option<Section<'a>>> = HashMap::new();
        for section in self.sections.iter() {
            let Some((relocations, symbols)) = section.rela(LE, self.file)? else {
                continue;
            };
            let index = section.info_link(LE);
            let Ok(of) = self.sections.section(index) else {
                continue;
            };
            if symbols != self.symbols.section() || !is_code(of) {
                continue;
            }
            let (Ok(offset), Ok(relocations_offset)) = (
                usize::try_from(of.sh_offset(LE)),
                usize::try_from(section.sh_offset(LE)),
            ) else {
                continue;
            };
            let code = Section {
                index,
                offset,
                bytes: of.data(LE, self.file)?,
                relocations,
                relocations_offset,
            };
            codes
                .entry(index)
                .and_modify(|code| *code = None)
                .or_insert(Some(code));
        }
        let mut codes: Vec<Section<'a>> = codes.into_values().flatten().collect();
        codes.sort_by_key(|code| code.index.0);
        Ok(codes)
    }

    /// The calls of `code` that are part of a pair, and how many calls there are.
    fn pairs(&self, code: &Section<'_>, callbacks: &HashSet<SymbolIndex>) -> (Vec<Pair>, usize) {
        let all = || code.relocations.iter().enumerate();
        let of_callback = |relocation: &Rela| {
            let symbol = relocation.symbol(LE, false);
            symbol.is_some_and(|symbol| callbacks.contains(&symbol))
        };
        if !all().any(|(_, relocation)| of_callback(relocation)) {
            return (Vec::new(), 0);
        }
        let mut places: Vec<(u64, usize)> = all()
            .map(|(number, relocation)| (relocation.r_offset(LE), number))
            .collect();
        places.sort_unstable();
        let mut pairs = Vec::new();
        let mut calls = 0;
        for place in 0..places.len() {
            let (_, number) = places[place];
            if of_callback(&code.relocations[number]) {
                calls += 1;
                pairs.extend(self.pair(code, &places, place));
            }
        }
        (pairs, calls)
    }

    /// The pair whose call has the relocation `places[place]`.
    fn pair(&self, code: &Section<'_>, places: &[(u64, usize)], place: usize) -> Option<Pair> {
        let (offset, call_relocation) = places[place];
        let (before, lea) = *places.get(place.checked_sub(1)?)?;
        let offset = usize::try_from(offset).ok()?;
        let relocation = &code.relocations[call_relocation];
        if relocation.r_addend(LE) != -4 {
            return None;
        }
        let call = match relocation.r_type(LE, false) {
            elf::R_X86_64_PLT32 | elf::R_X86_64_PC32 => {
                let call = offset.checked_sub(1)?;
                (*code.bytes.get(call)? == CALL).then_some(call)?
            }
            elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX => {
                let call = offset.checked_sub(2)?;
                (*code.bytes.get(call..offset)? == CALL_THROUGH).then_some(call)?
            }
            _ => return None,
        };
        let lea_at = usize::try_from(before).ok()?.checked_sub(LEA.len())?;
        let lea_end = lea_at.checked_add(LEA_LEN)?;
        let range = lea_at..offset.checked_add(4)?;
        if !code.bytes.get(range.clone())?.starts_with(&LEA) {
            return None;
        }
        let add = code.bytes.get(lea_end..call)?;
        let added = match (add.strip_prefix(&ADD_BYTE), add.strip_prefix(&ADD_WORD)) {
            _ if add.is_empty() => 0,
            (Some(&[byte]), _) => i64::from(byte.cast_signed()),
            (_, Some(&[a, b, c, d])) => i64::from(i32::from_le_bytes([a, b, c, d])),
            _ => return None,
        };
        let between: Vec<usize> = match added {
            _ if add.is_empty() => vec![call],
            _ => vec![lea_end, call],
        };
        // The two relocations are the only ones there.
        let is_inside = |at: u64| usize::try_from(at).is_ok_and(|at| range.contains(&at));
        let others = [place.checked_sub(2), place.checked_add(1)];
        let mut others = others.into_iter().flatten().filter_map(|p| places.get(p));
        if others.any(|(at, _)| is_inside(*at)) {
            return None;
        }
        let addend = self.guard(&code.relocations[lea], added)?;
        Some(Pair {
            range,
            between,
            lea,
            call_relocation,
            addend,
        })
    }

    /// The addend that a store needs in the place of a `lea` to whose address so much is added, if that is
    /// a guard's.
    fn guard(&self, relocation: &Rela, added: i64) -> Option<i64> {
        if relocation.r_type(LE, false) != elf::R_X86_64_PC32 {
            return None;
        }
        let index = relocation.symbol(LE, false)?;
        let symbol = self.symbols.symbol(index).ok()?;
        let section = self.symbols.symbol_section(LE, symbol, index).ok()??;
        let section = self.sections.section(section).ok()?;
        let name = self.sections.section_name(LE, section).ok()?;
        if name != sites::GUARDS.as_bytes() {
            return None;
        }
        // The operand is four bytes before the next instruction.
        let addend = relocation.r_addend(LE).checked_add(added)?;
        let offset = symbol.st_value(LE);
        let offset = offset.checked_add_signed(addend.checked_add(4)?)?;
        let fits = offset.checked_add(4)? <= section.sh_size(LE) && offset.is_multiple_of(4);
        // A store has its immediate behind the operand.
        fits.then(|| addend.checked_sub(1)).flatten()
    }

    /// The offsets in some sections that symbols and relocations have, as far as these tell.
    fn entered(&self, wanted: &HashSet<SectionIndex>) -> HashMap<SectionIndex, Vec<u64>> {
        let mut entered: HashMap<SectionIndex, Vec<u64>> = HashMap::new();
        let section_of = |index: SymbolIndex| {
            let symbol = self.symbols.symbol(index).ok()?;
            let section = self.symbols.symbol_section(LE, symbol, index).ok()??;
            wanted.contains(&section).then_some((section, symbol))
        };
        for (index, _) in self.symbols.enumerate() {
            if let Some((section, symbol)) = section_of(index) {
                entered
                    .entry(section)
                    .or_default()
                    .push(symbol.st_value(LE));
            }
        }
        for section in self.sections.iter() {
            let Ok(Some((relocations, symbols))) = section.rela(LE, self.file) else {
                continue;
            };
            let Ok(of) = self.sections.section(section.info_link(LE)) else {
                continue;
            };
            // Debug information may speak of any place.
            let flags = of.sh_flags(LE);
            if symbols != self.symbols.section() || !flags.contains(elf::SHF_ALLOC) {
                continue;
            }
            for relocation in relocations {
                let bias = match relocation.r_type(LE, false) {
                    elf::R_X86_64_64 => 0,
                    elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 if is_code(of) => 4,
                    // Relative to what, nobody knows: the entry of a table, or the table.
                    _ => continue,
                };
                let Some((section, symbol)) = relocation.symbol(LE, false).and_then(section_of)
                else {
                    continue;
                };
                let offset = symbol.st_value(LE);
                let offset = offset.wrapping_add_signed(relocation.r_addend(LE));
                entered
                    .entry(section)
                    .or_default()
                    .push(offset.wrapping_add(bias));
            }
        }
        for offsets in entered.values_mut() {
            offsets.sort_unstable();
        }
        entered
    }
}

/// Whether any of the sorted `offsets` is in the middle of a pair.
fn is_entered(offsets: &[u64], pair: &Pair) -> bool {
    let first = offsets.partition_point(|offset| *offset <= pair.range.start as u64);
    let first = offsets.get(first);
    first.is_some_and(|offset| *offset < pair.range.end as u64)
}

fn is_code(section: &SectionHeader64<LittleEndian>) -> bool {
    let flags = section.sh_flags(LE);
    section.sh_type(LE) == elf::SHT_PROGBITS
        && flags.contains(elf::SHF_ALLOC)
        && flags.contains(elf::SHF_EXECINSTR)
        && !flags.contains(elf::SHF_COMPRESSED)
}

impl Section<'_> {
    /// The edits that make a pair a store.
    fn store(&self, pair: &Pair, edits: &mut Vec<Edit>) -> Option<()> {
        let size = pair.range.len();
        let bytes = sites::Store::bytes(size)?;
        edits.push(Edit::new(self.offset + pair.range.start, &bytes[..size]));
        let relocation = |number: usize| self.relocations_offset + number * size_of::<Rela>();
        edits.push(Edit::new(
            relocation(pair.lea) + 16,
            &pair.addend.to_le_bytes(),
        ));
        // Of the call's, all but its place: R_X86_64_NONE.
        edits.push(Edit::new(relocation(pair.call_relocation) + 8, &[0; 16]));
        Some(())
    }
}

/// The instructions of a section, read from its beginning to its end.
struct Sweep {
    /// Whether an instruction begins at each offset.
    begins: Vec<bool>,
    /// The targets of branches in the section, sorted.
    targets: Vec<u64>,
}

impl Sweep {
    fn of(code: &Section<'_>) -> Self {
        let mut begins = vec![false; code.bytes.len() + 1];
        let mut targets = Vec::new();
        let mut decoder = Decoder::with_ip(64, code.bytes, 0, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            begins[decoder.position()] = true;
            decoder.decode_out(&mut instruction);
            let near = matches!(
                instruction.op0_kind(),
                OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
            );
            if near && instruction.code() != Code::INVALID {
                // A relocation's operand is zero here: then this is the next instruction.
                targets.push(instruction.near_branch_target());
            }
        }
        begins[code.bytes.len()] = true;
        targets.sort_unstable();
        Self { begins, targets }
    }

    /// Whether a pair is two whole instructions that nothing jumps between.
    fn allows(&self, pair: &Pair) -> bool {
        let begins = |offset: usize| self.begins.get(offset) == Some(&true);
        let between = (pair.range.start + 1..pair.range.end).filter(|at| begins(*at));
        begins(pair.range.start)
            && begins(pair.range.end)
            && between.eq(pair.between.iter().copied())
            && !is_entered(&self.targets, pair)
    }
}
