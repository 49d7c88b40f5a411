// SPDX-License-Identifier: MIT OR Apache-2.0
//! Landing pads: where the code of an object goes on when a call unwinds.

use super::elf::{Object, Places, Rela, LE};
use object::read::elf::{Rela as _, SectionHeader as _};
use object::SectionIndex;
use std::collections::HashSet;

/// The section that has an entry for each function, with its place and that of its table.
pub(super) const FRAMES: &[u8] = b".eh_frame";
/// How the names of sections with tables begin.
const TABLES: &[u8] = b".gcc_except_table";
/// An encoding: nothing is there.
const OMITTED: u8 = 0xff;
/// An encoding: numbers of any length, seven bits in each byte.
const ULEB: u8 = 0x01;

/// The landing pads in some sections of code.
pub(super) fn landing_pads(object: &Object<'_>, wanted: &HashSet<SectionIndex>) -> Places {
    let mut places = Places::default();
    if wanted.is_empty() {
        return places;
    }
    for section in object.sections.iter() {
        let Ok(Some((relocations, symbols))) = section.rela(LE, object.file) else {
            continue;
        };
        let Ok(of) = object.sections.section(section.info_link(LE)) else {
            continue;
        };
        let name = object.sections.section_name(LE, of);
        if name != Ok(FRAMES) || symbols != object.symbols.section() {
            continue;
        }
        let read = of.data(LE, object.file).ok();
        let read =
            read.and_then(|frames| read_frames(object, frames, relocations, wanted, &mut places));
        if read.is_none() {
            wanted.iter().for_each(|section| places.give_up(*section));
        }
    }
    places
}

/// Goes through the entries; `None` if they are not understood.
fn read_frames(
    object: &Object<'_>,
    frames: &[u8],
    relocations: &[Rela],
    wanted: &HashSet<SectionIndex>,
    places: &mut Places,
) -> Option<()> {
    let mut sorted: Vec<&Rela> = relocations.iter().collect();
    sorted.sort_by_key(|relocation| relocation.r_offset(LE));
    let mut sorted = sorted.into_iter().peekable();
    let mut at = 0;
    while at < frames.len() {
        let word = |at: usize| {
            let bytes = frames.get(at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let length = word(at)?;
        if length == 0 {
            at += 4;
            continue;
        }
        let end = at.checked_add(4)?.checked_add(length as usize)?;
        // Longer ones have another form.
        if length == u32::MAX || end > frames.len() {
            return None;
        }
        let is_common = word(at + 4)? == 0;
        let mut own = Vec::new();
        while let Some(relocation) = sorted.next_if(|next| next.r_offset(LE) < end as u64) {
            own.push(relocation);
        }
        if let (false, [function, others @ ..]) = (is_common, &own[..]) {
            let (code, start) = object.place_of(function)?;
            if wanted.contains(&code) {
                for other in others {
                    let pads = pads(object, other, start);
                    match pads {
                        Some(pads) => pads.into_iter().for_each(|pad| places.add(code, pad)),
                        None => places.give_up(code),
                    }
                }
            }
        }
        at = end;
    }
    Some(())
}

/// The landing pads of a function that begins at `start`, from the table that a relocation is of.
fn pads(object: &Object<'_>, relocation: &Rela, start: u64) -> Option<Vec<u64>> {
    let (section, offset) = object.place_of(relocation)?;
    let section = object.sections.section(section).ok()?;
    let name = object.sections.section_name(LE, section).ok()?;
    if !name.starts_with(TABLES) {
        return None;
    }
    let table = section.data(LE, object.file).ok()?;
    let mut table = table.get(usize::try_from(offset).ok()?..)?.iter().copied();
    // From the function's beginning on.
    if table.next()? != OMITTED {
        return None;
    }
    if table.next()? != OMITTED {
        number(&mut table)?;
    }
    if table.next()? != ULEB {
        return None;
    }
    let len = usize::try_from(number(&mut table)?).ok()?;
    let mut calls = table.take(len);
    let mut pads = Vec::new();
    while let Some(_begin) = number(&mut calls) {
        let (_len, pad, _action) = (
            number(&mut calls)?,
            number(&mut calls)?,
            number(&mut calls)?,
        );
        if pad != 0 {
            pads.push(start.checked_add(pad)?);
        }
    }
    Some(pads)
}

/// A number of any length.
fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
