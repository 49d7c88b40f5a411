// SPDX-License-Identifier: MIT OR Apache-2.0
//! One object.

use super::held::{guards_in_registers, Entries};
use super::{sites, unwind, Counts, CALLBACK, INIT, STORED_CALLBACK, STORED_INIT};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind};
use object::elf::{self, FileHeader64, Rela64, SectionHeader64};
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, Sym as _};
use object::read::elf::{SectionTable, SymbolTable};
use object::{LittleEndian, SectionIndex, SymbolIndex};
use rkcov_abi::sites::Given;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

pub(super) const LE: LittleEndian = LittleEndian;

type Header = FileHeader64<LittleEndian>;
pub(super) type Rela = Rela64<LittleEndian>;

/// `lea rdi, [rip + ...]`
const LEA: [u8; 3] = [0x48, 0x8d, 0x3d];
const LEA_LEN: usize = 7;
/// `add rdi, ...` with one byte and with four, as code without optimization has it.
const ADD_BYTE: [u8; 3] = [0x48, 0x83, 0xc7];
const ADD_WORD: [u8; 3] = [0x48, 0x81, 0xc7];
/// Where a store has its operand.
const OPERAND: u64 = 3;
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
pub(super) struct Object<'a> {
    pub(super) file: &'a [u8],
    pub(super) sections: SectionTable<'a, Header>,
    pub(super) symbols: SymbolTable<'a, Header>,
}

/// Code, and the relocations in it.
pub(super) struct Section<'a> {
    index: SectionIndex,
    /// Where it is in the file.
    offset: usize,
    pub(super) bytes: &'a [u8],
    relocations: &'a [Rela],
    /// Where those are in the file.
    relocations_offset: usize,
}

/// A call and the instructions that give it its guard: offsets in its section, and the numbers of relocations.
struct Pair {
    range: Range<usize>,
    /// Where its instructions begin but the first.
    between: Vec<usize>,
    given: Given,
    /// That of the operand of the `lea` that takes the guard's address; it is in the range, but if the guard
    /// is given in a register.
    lea: usize,
    call_relocation: usize,
    /// What a store's relocation needs in the place of that of `lea`.
    addend: i64,
}

/// A call whose guard is in a register. What guard that is has to be found.
struct Unknown {
    range: Range<usize>,
    call: usize,
    register: u8,
    call_relocation: usize,
}

/// The calls of a section.
#[derive(Default)]
struct Calls {
    count: usize,
    pairs: Vec<Pair>,
    in_registers: Vec<Unknown>,
}

/// A guard that a relocation is of.
#[derive(Clone, Copy)]
struct Guard {
    /// Where it is in its section.
    offset: u64,
    /// What a store's relocation needs.
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
        let calls = object.calls(code, &callbacks);
        counts.calls += calls.count;
        if !(calls.pairs.is_empty() && calls.in_registers.is_empty()) {
            found.push((code, calls));
        }
    }
    let of = |wanted: &dyn Fn(&Calls) -> bool| -> HashSet<SectionIndex> {
        let found = found.iter().filter(|(_, calls)| wanted(calls));
        found.map(|(code, _)| code.index).collect()
    };
    let entered = object.entered(&of(&|_| true));
    let ways = of(&|calls| !calls.in_registers.is_empty());
    let pads = unwind::landing_pads(&object, &ways);
    let tables = object.tables(&ways, &codes);
    for (code, mut calls) in found {
        let entered = entered.get(&code.index).map_or(&[][..], Vec::as_slice);
        if !calls.in_registers.is_empty() {
            if let (Some(pads), Some(tables)) = (pads.of(code.index), tables.of(code.index)) {
                let entries = Entries {
                    unknown: entered.iter().chain(pads).copied().collect(),
                    tables: tables.to_vec(),
                };
                let known = object.known(code, &entries, calls.in_registers);
                calls.pairs.extend(known);
            }
        }
        let whole = Sweep::of(code);
        for pair in calls.pairs {
            let sound = whole.allows(&pair) && !is_entered(entered, &pair);
            if sound && code.store(&pair, &mut edits).is_some() {
                counts.stores += 1;
                counts.calls -= 1;
            }
        }
    }
    Ok((edits, counts))
}

/// Places in sections. Of a section of which not all may be known, nothing is.
#[derive(Default)]
pub(super) struct Places {
    known: HashMap<SectionIndex, Vec<u64>>,
    not: HashSet<SectionIndex>,
}

impl Places {
    pub(super) fn add(&mut self, section: SectionIndex, offset: u64) {
        self.known.entry(section).or_default().push(offset);
    }

    pub(super) fn give_up(&mut self, section: SectionIndex) {
        self.not.insert(section);
    }

    fn of(&self, section: SectionIndex) -> Option<&[u64]> {
        let known = self.known.get(&section).map_or(&[][..], Vec::as_slice);
        (!self.not.contains(&section)).then_some(known)
    }
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

    /// The calls of `code`.
    fn calls(&self, code: &Section<'_>, callbacks: &HashSet<SymbolIndex>) -> Calls {
        let mut calls = Calls::default();
        let all = || code.relocations.iter().enumerate();
        let of_callback = |relocation: &Rela| {
            let symbol = relocation.symbol(LE, false);
            symbol.is_some_and(|symbol| callbacks.contains(&symbol))
        };
        if !all().any(|(_, relocation)| of_callback(relocation)) {
            return calls;
        }
        let mut places: Vec<(u64, usize)> = all()
            .map(|(number, relocation)| (relocation.r_offset(LE), number))
            .collect();
        places.sort_unstable();
        for place in 0..places.len() {
            let (_, number) = places[place];
            if !of_callback(&code.relocations[number]) {
                continue;
            }
            calls.count += 1;
            let Some(call) = call_at(code, number) else {
                continue;
            };
            match self.by_address(code, &places, place, call.clone()) {
                Some(pair) => calls.pairs.push(pair),
                None => {
                    let register = in_register(code, &places, place, call);
                    calls.in_registers.extend(register);
                }
            }
        }
        calls
    }

    /// A call that has the relocation `places[place]` and, before it, `lea` with its guard.
    fn by_address(
        &self,
        code: &Section<'_>,
        places: &[(u64, usize)],
        place: usize,
        call: Range<usize>,
    ) -> Option<Pair> {
        let (_, call_relocation) = places[place];
        let (before, lea) = *places.get(place.checked_sub(1)?)?;
        let lea_at = usize::try_from(before).ok()?.checked_sub(LEA.len())?;
        let lea_end = lea_at.checked_add(LEA_LEN)?;
        let range = lea_at..call.end;
        if !code.bytes.get(range.clone())?.starts_with(&LEA) {
            return None;
        }
        let between = code.bytes.get(lea_end..call.start)?;
        let (added, given) = match (
            between.strip_prefix(&ADD_BYTE),
            between.strip_prefix(&ADD_WORD),
        ) {
            _ if between.is_empty() => (0, Given::Address),
            (Some(&[byte]), _) => (i64::from(byte.cast_signed()), Given::Address),
            (_, Some(&[a, b, c, d])) => {
                (i64::from(i32::from_le_bytes([a, b, c, d])), Given::Address)
            }
            _ => (0, before_move(between)?),
        };
        let starts = match between {
            [] => vec![call.start],
            _ => vec![lea_end, call.start],
        };
        if has_others(places, place, 2, &range) {
            return None;
        }
        let Guard { addend, .. } = self.guard(&code.relocations[lea], added)?;
        Some(Pair {
            range,
            between: starts,
            given,
            lea,
            call_relocation,
            addend,
        })
    }

    /// The calls of which the guards in registers are known.
    fn known(&self, code: &Section<'_>, entries: &Entries, calls: Vec<Unknown>) -> Vec<Pair> {
        let mut guards = HashMap::new();
        let mut relocations: HashMap<u64, (usize, i64)> = HashMap::new();
        for (number, relocation) in code.relocations.iter().enumerate() {
            if let Some(guard) = self.guard(relocation, 0) {
                guards.insert(relocation.r_offset(LE), guard.offset);
                relocations.insert(guard.offset, (number, guard.addend));
            }
        }
        let wanted = calls.iter();
        let wanted = wanted.map(|call| (call.range.start as u64, usize::from(call.register)));
        let found = guards_in_registers(code, entries, &guards, &wanted.collect());
        let known = calls.into_iter().filter_map(|call| {
            let guard = found.get(&(call.range.start as u64))?;
            let (lea, addend) = *relocations.get(guard)?;
            Some(Pair {
                between: vec![call.call],
                range: call.range,
                given: Given::Register(call.register),
                lea,
                call_relocation: call.call_relocation,
                addend,
            })
        });
        known.collect()
    }

    /// The guard to whose address the relocation of an operand leads, if so much is added to it.
    fn guard(&self, relocation: &Rela, added: i64) -> Option<Guard> {
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
        let addend = addend.checked_sub(1)?;
        fits.then_some(Guard { offset, addend })
    }

    /// The section and the offset that a relocation is of.
    pub(super) fn place_of(&self, relocation: &Rela) -> Option<(SectionIndex, u64)> {
        let index = relocation.symbol(LE, false)?;
        let symbol = self.symbols.symbol(index).ok()?;
        let section = self.symbols.symbol_section(LE, symbol, index).ok()??;
        let offset = symbol.st_value(LE);
        Some((section, offset.wrapping_add_signed(relocation.r_addend(LE))))
    }

    /// The places in some sections that tables for jumps lead to. An entry is the distance of a place from the
    /// table, and the code has the table's address.
    fn tables(&self, wanted: &HashSet<SectionIndex>, codes: &[Section<'_>]) -> Places {
        let mut places = Places::default();
        if wanted.is_empty() {
            return places;
        }
        let place_of = |relocation: &Rela| self.place_of(relocation);
        let is_relative = |relocation: &&Rela| relocation.r_type(LE, false) == elf::R_X86_64_PC32;
        let mut begins: HashMap<SectionIndex, BTreeSet<u64>> = HashMap::new();
        let all = codes.iter().flat_map(|code| code.relocations);
        for (section, offset) in all.filter(is_relative).filter_map(place_of) {
            // An operand is four bytes before the next instruction.
            begins
                .entry(section)
                .or_default()
                .insert(offset.wrapping_add(4));
        }
        for section in self.sections.iter() {
            let Ok(Some((relocations, symbols))) = section.rela(LE, self.file) else {
                continue;
            };
            let index = section.info_link(LE);
            let Ok(of) = self.sections.section(index) else {
                continue;
            };
            let name = self.sections.section_name(LE, of).unwrap_or_default();
            let is_data = of.sh_flags(LE).contains(elf::SHF_ALLOC) && !is_code(of);
            if symbols != self.symbols.section() || !is_data || name == unwind::FRAMES {
                continue;
            }
            for relocation in relocations.iter().filter(is_relative) {
                let Some((code, target)) = place_of(relocation) else {
                    continue;
                };
                if !wanted.contains(&code) {
                    continue;
                }
                let at = relocation.r_offset(LE);
                let begins = begins.get(&index);
                match begins.and_then(|begins| begins.range(..=at).next_back()) {
                    Some(table) => places.add(code, target.wrapping_sub(at - table)),
                    None => places.give_up(code),
                }
            }
        }
        places
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

/// Where the call is that has this relocation.
fn call_at(code: &Section<'_>, relocation: usize) -> Option<Range<usize>> {
    let relocation = &code.relocations[relocation];
    let offset = usize::try_from(relocation.r_offset(LE)).ok()?;
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
    Some(call..offset.checked_add(4)?)
}

/// A call that has the relocation `places[place]` and, before it, `mov rdi, REGISTER`.
fn in_register(
    code: &Section<'_>,
    places: &[(u64, usize)],
    place: usize,
    call: Range<usize>,
) -> Option<Unknown> {
    let start = call.start.checked_sub(3)?;
    let [rex, 0x89, operands] = *code.bytes.get(start..call.start)? else {
        return None;
    };
    // A register that is moved into rdi: 64 bits, and the number of the first in four bits.
    if rex & !0x04 != 0x48 || operands & 0xc7 != 0xc7 {
        return None;
    }
    let register = (operands >> 3 & 7) | (rex & 0x04) << 1;
    let range = start..call.end;
    (!has_others(places, place, 1, &range)).then_some(Unknown {
        range,
        call: call.start,
        register,
        call_relocation: places[place].1,
    })
}

/// The move between two registers, neither of them rdi, that is all that stands there.
fn before_move(code: &[u8]) -> Option<Given> {
    let (rex, opcode, operands) = match *code {
        [rex @ 0x40..=0x4f, opcode, operands] => (rex, opcode, operands),
        [opcode, operands] => (0x40, opcode, operands),
        _ => return None,
    };
    let to = (operands & 7) | (rex & 0x01) << 3;
    let from = (operands >> 3 & 7) | (rex & 0x04) << 1;
    if opcode != 0x89 || operands < 0xc0 || to == 7 || from == 7 {
        return None;
    }
    let mut bytes = [0; 3];
    bytes[..code.len()].copy_from_slice(code);
    Some(Given::Before(bytes, code.len()))
}

/// Whether a range has more than `own` relocations, the last of which is `places[place]`.
fn has_others(places: &[(u64, usize)], place: usize, own: usize, range: &Range<usize>) -> bool {
    let is_inside = |at: u64| usize::try_from(at).is_ok_and(|at| range.contains(&at));
    let others = [place.checked_sub(own), place.checked_add(1)];
    let mut others = others.into_iter().flatten().filter_map(|p| places.get(p));
    others.any(|(at, _)| is_inside(*at))
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
        let bytes = sites::Store::bytes(pair.given, size)?;
        edits.push(Edit::new(self.offset + pair.range.start, &bytes[..size]));
        let relocation = |number: usize| self.relocations_offset + number * size_of::<Rela>();
        if let Given::Register(_) = pair.given {
            // The call's becomes that of the operand: its place, what it is of, and the addend.
            let operand = pair.range.start as u64 + OPERAND;
            let of = self.relocations.get(pair.lea)?.r_info;
            let mut new = [0; 24];
            new[..8].copy_from_slice(&operand.to_le_bytes());
            new[8..16].copy_from_slice(&of.get(LE).to_le_bytes());
            new[16..].copy_from_slice(&pair.addend.to_le_bytes());
            edits.push(Edit::new(relocation(pair.call_relocation), &new));
            return Some(());
        }
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
