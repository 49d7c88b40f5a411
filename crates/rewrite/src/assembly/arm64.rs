// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is put in on arm64, and what it makes necessary.
//!
//! A check has its call in itself and jumps over it. A cold part elsewhere would tie the size of a section
//! to the reach of a conditional branch, and the call would not return to the PC that is recorded.
//!
//! A check has eight instructions where the compiler has counted one. So two things that it has written
//! by its count do not hold any more:
//! - Entries of tables of jump targets have one or two bytes if that is enough for the distances. They
//!   get four, and with them the instructions that load and add them ([`Tables`]).
//! - Some conditional branches reach 32 KiB or 1 MiB. That is seldom too little. If the assembler says that
//!   it is, all of them become longer ([`long`]).

use super::{line, HIT};
use std::collections::HashSet;
use std::io::{self, Write};

/// The check of site `number`.
pub(super) fn check(to: &mut impl Write, number: u64) -> io::Result<()> {
    write!(
        to,
        "\tmrs\tx16, tpidr_el0\n\
         \tcbz\tx16, .Lrkcov_h{number}\n\
         \tldr\tx16, [x16, #8]\n\
         \tadrp\tx17, .Lrkcov_s+{number}\n\
         \tadd\tx16, x16, x17\n\
         \tldrb\tw16, [x16, #:lo12:.Lrkcov_s+{number}]\n\
         \tcbnz\tw16, .Lrkcov_h{number}\n\
         \tbl\t{HIT}\n\
         .Lrkcov_h{number}:\n"
    )
}

/// A check in the place of a jump to the callback, and the function's end. The link register has the
/// caller's address.
pub(super) fn last_check(to: &mut impl Write, number: u64, framed: bool) -> io::Result<()> {
    to.write_all(b"\tstr\tx30, [sp, #-16]!\n")?;
    if framed {
        to.write_all(b"\t.cfi_adjust_cfa_offset 16\n\t.cfi_rel_offset 30, 0\n")?;
    }
    check(to, number)?;
    to.write_all(b"\tldr\tx30, [sp], #16\n")?;
    if framed {
        to.write_all(b"\t.cfi_adjust_cfa_offset -16\n\t.cfi_restore 30\n")?;
    }
    to.write_all(b"\tret\n")
}

/// The words of an instruction: its mnemonic, its registers and numbers.
fn words(text: &[u8]) -> Vec<&[u8]> {
    line::without_comment(text)
        .split(|byte| b" \t,[]#\r\n".contains(byte))
        .filter(|word| !word.is_empty())
        .collect()
}

/// The longer form of a branch that does not reach far, if it is one: the opposite branch over a jump,
/// with a label of this number.
pub(super) fn long(text: &[u8], number: u64) -> Option<String> {
    const OPPOSITE: [[&[u8]; 2]; 11] = [
        [b"tbz", b"tbnz"],
        [b"cbz", b"cbnz"],
        [b"eq", b"ne"],
        [b"cs", b"cc"],
        [b"hs", b"lo"],
        [b"mi", b"pl"],
        [b"vs", b"vc"],
        [b"hi", b"ls"],
        [b"ge", b"lt"],
        [b"gt", b"le"],
        // SVE's names of two of these.
        [b"any", b"none"],
    ];
    let words = words(text);
    let (&mnemonic, rest) = words.split_first()?;
    let (&target, operands) = rest.split_last()?;
    let (begin, condition): (&[u8], _) = match mnemonic {
        b"tbz" | b"tbnz" | b"cbz" | b"cbnz" => (b"", mnemonic),
        [b'b', b'.', condition @ ..] => (b"b.", condition),
        [b'b', condition @ ..] if condition.len() == 2 && operands.is_empty() => (b"b.", condition),
        _ => return None,
    };
    let opposite = OPPOSITE.iter().find_map(|&[one, other]| match condition {
        is if is == one => Some(other),
        is if is == other => Some(one),
        _ => None,
    })?;
    let text = |word| String::from_utf8_lossy(word);
    let operands: String = operands.iter().map(|word| text(word) + ", ").collect();
    let (begin, opposite, target) = (text(begin), text(opposite), text(target));
    Some(format!(
        "\t{begin}{opposite}\t{operands}.Lrkcov_b{number}\n\tb\t{target}\n.Lrkcov_b{number}:\n"
    ))
}

/// The tables of jump targets, and the instructions that read them. Compilers write three in a row (gcc's
/// are on the left), by which a table is known that has its distances from the same place:
///
/// ```text
/// ldrb entry, [table,index,uxtw]       adr  base, PLACE
/// adr  base, PLACE                     ldrb entry, [table, index]
/// add  target, base, entry, sxtb #2    add  target, base, entry, lsl #2
///
/// .byte (CASE - PLACE) / 4             .byte (CASE-PLACE)>>2
/// ```
#[derive(Default)]
pub(super) struct Tables {
    /// The last instructions, if they may be the first ones of such a row.
    held: Vec<Vec<u8>>,
    /// The places from which tables with larger entries have their distances.
    large: HashSet<Vec<u8>>,
    /// Places whose address was taken otherwise.
    taken: HashSet<Vec<u8>>,
}

/// An instruction of such a row.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The load with entries of four bytes.
    Load(String),
    /// The place.
    Place(Vec<u8>),
    /// The sum with such entries, if that differs.
    Sum(Option<String>),
}

impl Step {
    fn read(text: &[u8]) -> Option<Self> {
        let load = |registers: [&[u8]; 3], extend: &str| {
            let [entry, table, index] = registers.map(String::from_utf8_lossy);
            Self::Load(format!("\tldr\t{entry}, [{table}, {index}, {extend} #2]\n"))
        };
        let sum = |registers: [&[u8]; 3]| {
            let [target, base, entry] = registers.map(String::from_utf8_lossy);
            Self::Sum(Some(format!("\tadd\t{target}, {base}, {entry}, sxtw #2\n")))
        };
        Some(match words(text)[..] {
            [b"ldrb", entry, table, index, b"uxtw"]
            | [b"ldrh", entry, table, index, b"uxtw", b"1"] => load([entry, table, index], "uxtw"),
            [b"ldrb", entry, table, index] | [b"ldrh", entry, table, index, b"lsl", b"1"]
                if index.starts_with(b"x") =>
            {
                load([entry, table, index], "lsl")
            }
            [b"adr", _, place] if is_of_code(place) => Self::Place(place.to_owned()),
            [b"add", target, base, entry, b"sxtb" | b"sxth", b"2"] => sum([target, base, entry]),
            [b"add", _, _, _, b"lsl", b"2"] => Self::Sum(None),
            _ => return None,
        })
    }
}

/// Whether a label is gcc's behind a jump through a table, or clang's of a block. No instructions but those
/// of a row take the address of one.
fn is_of_code(label: &[u8]) -> bool {
    label.starts_with(b".Lrtx") || label.starts_with(b".LBB")
}

/// What the first instructions of a row are.
enum Row {
    /// The first ones.
    Open,
    /// All three, with larger entries, and the place.
    Whole(Vec<u8>, Vec<u8>),
    None,
}

impl Tables {
    /// What to write in the place of the next instruction, a line with its end.
    pub(super) fn instruction(&mut self, text: &[u8], to: &mut impl Write) -> io::Result<()> {
        self.held.push(text.to_owned());
        while !self.held.is_empty() {
            match self.row() {
                Row::Open => break,
                Row::Whole(text, place) => {
                    self.large.insert(place);
                    self.held.clear();
                    to.write_all(&text)?;
                }
                Row::None => self.give_back(1, to)?,
            }
        }
        Ok(())
    }

    /// The next line is no instruction.
    pub(super) fn end_of_row(&mut self, to: &mut impl Write) -> io::Result<()> {
        self.give_back(self.held.len(), to)
    }

    fn give_back(&mut self, count: usize, to: &mut impl Write) -> io::Result<()> {
        for text in self.held.drain(..count) {
            if let Some(Step::Place(place)) = Step::read(&text) {
                if self.large.contains(&place) {
                    return Err(not_known(&place));
                }
                self.taken.insert(place);
            }
            to.write_all(&text)?;
        }
        Ok(())
    }

    fn row(&self) -> Row {
        let steps: Option<Vec<Step>> = self.held.iter().map(|text| Step::read(text)).collect();
        let Some(steps) = steps else {
            return Row::None;
        };
        match &steps[..] {
            [Step::Load(_) | Step::Place(_)]
            | [Step::Load(_), Step::Place(_)]
            | [Step::Place(_), Step::Load(_)] => Row::Open,
            [Step::Load(load), Step::Place(place), Step::Sum(Some(sum))] => {
                let row = [load.as_bytes(), &self.held[1], sum.as_bytes()];
                Row::Whole(row.concat(), place.clone())
            }
            [Step::Place(place), Step::Load(load), Step::Sum(None)] => {
                let row = [&self.held[0], load.as_bytes(), &self.held[2]];
                Row::Whole(row.concat(), place.clone())
            }
            _ => Row::None,
        }
    }

    /// What to write in the place of an entry of a table: a directive's name, and what follows. Nothing
    /// if it is none, or has four bytes already.
    ///
    /// # Errors
    /// It is not known what reads the table.
    pub(super) fn entry(&self, name: &[u8], rest: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(place) =
            place_of(rest).filter(|_| matches!(name, b".byte" | b".hword" | b".2byte" | b".short"))
        else {
            return Ok(None);
        };
        if !self.large.contains(place) || self.taken.contains(place) {
            return Err(not_known(place));
        }
        Ok(Some([b"\t.word\t", line::trim(rest), b"\n"].concat()))
    }
}

fn not_known(place: &[u8]) -> io::Error {
    let place = String::from_utf8_lossy(place);
    io::Error::other(format!(
        "it is not known what reads the table of distances from {place}"
    ))
}

/// The place from which an entry of a table has its distance.
fn place_of(entry: &[u8]) -> Option<&[u8]> {
    let entry = line::without_comment(entry).trim_ascii();
    let inner = entry.strip_prefix(b"(")?;
    let close = memchr::memchr(b')', inner)?;
    let (inner, behind) = inner.split_at(close);
    let in_instructions = matches!(behind[1..].trim_ascii(), b"/ 4" | b"/4" | b">>2" | b">> 2");
    let minus = memchr::memchr(b'-', inner)?;
    in_instructions.then(|| inner[minus + 1..].trim_ascii())
}
