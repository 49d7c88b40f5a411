// SPDX-License-Identifier: MIT OR Apache-2.0
//! The branches of arm64 code. Each instruction is a word; the encodings are those of the Arm
//! Architecture Reference Manual, chapter C4.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::branch::{Branch, Kind, Scan};
use super::callees::Callees;

/// Bytes of an instruction.
const SIZE: u64 = 4;

/// An instruction.
#[derive(Clone, Copy)]
struct Word(u32);

impl Word {
    /// `bits` bits from bit `low` on.
    const fn field(self, low: u32, bits: u32) -> u32 {
        self.0 >> low & ((1 << bits) - 1)
    }

    const fn bit(self, at: u32) -> bool {
        self.field(at, 1) == 1
    }

    /// Such a field as a signed number.
    const fn signed(self, low: u32, bits: u32) -> i64 {
        let unused = 32 - bits;
        ((self.field(low, bits) << unused).cast_signed() >> unused) as i64
    }

    /// The target of a branch whose distance, in instructions, is such a field.
    const fn target(self, at: u64, low: u32, bits: u32) -> u64 {
        at.wrapping_add_signed(self.signed(low, bits) * SIZE.cast_signed())
    }

    const fn destination(self) -> usize {
        self.field(0, 5) as usize
    }

    const fn first(self) -> usize {
        self.field(5, 5) as usize
    }

    const fn second(self) -> usize {
        self.field(16, 5) as usize
    }
}

/// The instructions of this code, with their addresses.
fn words(code: &[u8], start: u64) -> impl Iterator<Item = (u64, Word)> + '_ {
    let words = code.as_chunks().0.iter();
    let words = words.map(|bytes| Word(u32::from_le_bytes(*bytes)));
    (start..).step_by(SIZE as usize).zip(words)
}

/// What branch an instruction is, if it is one.
fn kind(word: Word, at: u64) -> Option<Kind> {
    // Software may go on behind these: a kernel warns by one.
    const TRAPS: [u32; 2] = [1, 1000];
    Some(match word.0 >> 24 {
        _ if word.0 >> 26 == 0b00_0101 => Kind::Jump(word.target(at, 0, 26)),
        _ if word.0 >> 26 == 0b10_0101 => Kind::Call(word.target(at, 0, 26)),
        // B.cond, where two conditions always hold.
        0x54 => match word.field(1, 3) {
            0b111 => Kind::Jump(word.target(at, 5, 19)),
            _ => Kind::Conditional(word.target(at, 5, 19)),
        },
        // CBZ, CBNZ.
        0x34 | 0x35 | 0xb4 | 0xb5 => Kind::Conditional(word.target(at, 5, 19)),
        // TBZ, TBNZ.
        0x36 | 0x37 | 0xb6 | 0xb7 => Kind::Conditional(word.target(at, 5, 14)),
        // BR, BLR, RET, ERET, DRPS, and those that authenticate.
        0xd6 | 0xd7 => match word.field(21, 4) {
            0 | 8 => Kind::Leave,
            1 | 9 => Kind::CallAny,
            _ => Kind::Return,
        },
        // Exceptions. The kernel and what is above it are called.
        0xd4 => match (word.field(21, 3), word.field(5, 16)) {
            (0, _) => Kind::CallAny,
            (1, number) if !TRAPS.contains(&number) => Kind::CallAny,
            _ => Kind::Trap,
        },
        // UDF.
        0 if word.0 >> 16 == 0 => Kind::Trap,
        _ => return None,
    })
}

/// A table of distances, or of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Table {
    start: u64,
    /// The logarithm of an entry's bytes.
    size: u32,
    /// How many entries there are, if that is known.
    len: Option<u64>,
}

/// The sum of a base and of an entry, which is shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    table: Table,
    base: u64,
    shift: u32,
    /// Whether the entry is a signed number.
    signed: bool,
}

/// What a register holds, as far as it has to do with tables of jump targets. Compilers do it so:
///
/// ```text
/// cmp  index, #last
/// b.hi ...
/// adrp table, page               size: 1, 2, 4
/// add  table, table, #offset
/// ldrb entry, [table, index]     or ldrh, ldrsw, ldr, with the index shifted by the size
/// adr  base, ...                 or, with entries of 4 bytes, the table itself
/// add  target, base, entry, lsl #2   or sxtb, sxth, sxtw; not shifted if the base is the table
/// br   target
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// An address that the code itself makes.
    Address(u64),
    /// A number that is at most this.
    AtMost(u64),
    /// An entry of a table.
    Entry(Table),
    /// A target.
    Target(Target),
    /// Something computed from a table that is not understood.
    Computed,
}

/// The registers; the last is zero, or the stack pointer.
struct Registers([Option<Value>; 32]);

impl Registers {
    fn get(&self, register: usize) -> Option<Value> {
        self.0[register].filter(|_| register != 31)
    }

    /// Control comes from elsewhere, where other numbers may have been compared.
    fn forget_bounds(&mut self) {
        for register in &mut self.0 {
            register.take_if(|value| matches!(value, Value::AtMost(_)));
        }
    }

    /// Notes what an instruction that is no branch does.
    fn note(&mut self, word: Word, at: u64) {
        let value = self.value(word, at);
        for register in changed(word).into_iter().flatten() {
            self.0[register] = None;
        }
        if value.is_some() {
            self.0[word.destination()] = value;
        }
    }

    fn value(&self, word: Word, at: u64) -> Option<Value> {
        let op = word.0 >> 24;
        match op {
            // ADR, ADRP.
            _ if word.0 & 0x1f00_0000 == 0x1000_0000 => {
                let distance = word.signed(5, 19) << 2 | i64::from(word.field(29, 2));
                Some(Value::Address(if word.bit(31) {
                    (at & !0xfff).wrapping_add_signed(distance << 12)
                } else {
                    at.wrapping_add_signed(distance)
                }))
            }
            // ADD of a constant.
            0x91 => {
                let constant = u64::from(word.field(10, 12)) << (12 * word.field(22, 1));
                match self.get(word.first())? {
                    Value::Address(address) => Some(Value::Address(address.wrapping_add(constant))),
                    Value::AtMost(_) => None,
                    _ => Some(Value::Computed),
                }
            }
            // MOV of a register: ORR with the zero register, not shifted.
            0x2a | 0xaa if word.field(5, 5) == 31 && word.field(10, 6) == 0 && !word.bit(21) => {
                self.get(word.second())
            }
            // ADD of a register that is shifted to the left, or extended.
            0x8b if word.field(22, 2) == 0 && !word.bit(21) => {
                self.sum(word, word.field(10, 6), false)
            }
            0x8b if word.field(21, 3) == 1 => {
                self.sum(word, word.field(10, 3), word.field(13, 3) >= 4)
            }
            // Loads whose address is the sum of two registers.
            0x38 | 0x78 | 0xb8 | 0xf8
                if word.bit(21) && word.field(10, 2) == 2 && word.field(22, 2) != 0 =>
            {
                let size = word.field(30, 2);
                let Some(Value::Address(start)) = self.get(word.first()) else {
                    // Of addresses, as computed goto has it.
                    return (size == 3).then_some(Value::Computed);
                };
                let len = match self.get(word.second()) {
                    Some(Value::AtMost(last)) => last.checked_add(1),
                    _ => None,
                };
                Some(Value::Entry(Table { start, size, len }))
            }
            _ => None,
        }
    }

    /// The sum of two registers, the second of which is shifted.
    fn sum(&self, word: Word, shift: u32, signed: bool) -> Option<Value> {
        match (self.get(word.first()), self.get(word.second())) {
            (Some(Value::Address(base)), Some(Value::Entry(table))) => {
                Some(Value::Target(Target {
                    table,
                    base,
                    shift,
                    // What LDRSW loads is; an entry of less is what the sum makes of it.
                    signed: signed || table.size == 2,
                }))
            }
            (Some(Value::Entry(table)), Some(Value::Address(base))) if shift == 0 => {
                Some(Value::Target(Target {
                    table,
                    base,
                    shift,
                    signed: table.size == 2,
                }))
            }
            (None | Some(Value::AtMost(_)), None | Some(Value::AtMost(_))) => None,
            _ => Some(Value::Computed),
        }
    }
}

/// The registers that an instruction may change which is no branch: at most three.
fn changed(word: Word) -> [Option<usize>; 3] {
    let (to, second, base) = (word.destination(), word.field(10, 5) as usize, word.first());
    // Loads and stores; of those with one register, two forms leave the base as it is.
    if word.field(25, 1) == 0 && word.field(27, 1) == 1 {
        let pair = word.field(27, 3) == 0b101;
        let keeps = word.field(24, 1) == 1 && !pair || word.bit(21) && word.field(10, 2) == 2;
        return [
            Some(to),
            Some(second).filter(|_| pair),
            Some(base).filter(|_| !keeps),
        ];
    }
    [Some(to), None, None]
}

/// The number that an instruction compares a register with, if it does.
fn comparison(word: Word) -> Option<(usize, u64)> {
    // SUBS of a constant, whose result nobody wants.
    let is = word.0 & 0x7f80_001f == 0x7100_001f && word.field(22, 1) == 0;
    is.then(|| (word.first(), word.field(10, 12).into()))
}

/// How large a register can be that was compared with a number: if the branch is not taken, and if it is.
fn bounds(word: Word, number: u64) -> [Option<Value>; 2] {
    let at_most = |last: Option<u64>| last.map(Value::AtMost);
    match (word.0 >> 24, word.field(0, 5)) {
        // B.HI, B.LS, B.HS, B.LO.
        (0x54, 8) => [at_most(Some(number)), None],
        (0x54, 9) => [None, at_most(Some(number))],
        (0x54, 2) => [at_most(number.checked_sub(1)), None],
        (0x54, 3) => [None, at_most(number.checked_sub(1))],
        _ => [None, None],
    }
}

impl Target {
    /// Where jumps to it lead, if all entries of the table can be told, which ends before `end`.
    fn all(self, callees: &Callees<'_>, function: &Range<u64>, end: u64) -> Option<Vec<u64>> {
        /// No table has more.
        const MOST: u64 = 1 << 16;
        let Table { start, size, len } = self.table;
        let mut targets = BTreeSet::new();
        for number in 0..len.unwrap_or(MOST) {
            let at = start.checked_add(number << size)?;
            if at >= end {
                break;
            }
            let entry = match size {
                0 => u64::from(callees.word::<1>(at)?[0]),
                1 => u64::from(u16::from_le_bytes(callees.word(at)?)),
                2 => u64::from(u32::from_le_bytes(callees.word(at)?)),
                _ => u64::from_le_bytes(callees.word(at)?),
            };
            let to = self.of(entry);
            let inside = function.contains(&to) && to.is_multiple_of(SIZE);
            match (inside, len) {
                (true, _) => drop(targets.insert(to)),
                // Behind its end; of such small entries many would do.
                (false, None) if size >= 2 && number > 0 => break,
                (false, _) => return None,
            }
        }
        // Where it ends is not known.
        let unbounded = len.is_none() && size < 2 && end == u64::MAX;
        (!unbounded && !targets.is_empty()).then(|| targets.into_iter().collect())
    }

    /// What this entry makes of it.
    const fn of(self, entry: u64) -> u64 {
        let unused = 64 - (8 << self.table.size);
        let entry = if self.signed {
            ((entry << unused).cast_signed() >> unused).cast_unsigned()
        } else {
            entry
        };
        self.base.wrapping_add(entry << self.shift)
    }
}

/// Reads the code of one function.
pub(super) fn scan(callees: &Callees<'_>, range: &Range<u64>) -> Scan {
    let mut scan = Scan {
        branches: Vec::new(),
        end: range.start,
        holds: false,
    };
    let Some(code) = callees.code(range) else {
        return scan;
    };
    let mut registers = Registers([None; 32]);
    let mut compared: Option<(usize, u64)> = None;
    // What is known where such a branch leads, and whether that is the only way to there.
    let mut behind: HashMap<u64, (usize, Option<Value>)> = HashMap::new();
    let mut reached = true;
    // Jumps through tables: the number of the branch, and the target.
    let mut open: Vec<(usize, Target)> = Vec::new();
    for (at, word) in words(code, range.start) {
        if at < scan.end {
            // Of a check.
            continue;
        }
        scan.end = at + SIZE;
        if let (Some((register, value)), false) = (behind.get(&at), reached) {
            registers.0[*register] = *value;
        }
        reached = true;
        let before = compared.take();
        let here = &code[(at - range.start) as usize..];
        if let Some(check) = callees.sites.arm64_at(here, at) {
            // As a call, of which it has the place.
            registers = Registers([None; 32]);
            scan.end = check.pc();
            scan.branches.push(Branch {
                at,
                end: scan.end,
                kind: Kind::Site,
            });
            continue;
        }
        let Some(kind) = kind(word, at) else {
            compared = comparison(word);
            registers.note(word, at);
            continue;
        };
        let kind = match (kind, registers.get(word.first())) {
            (Kind::Leave, Some(Value::Address(target))) => Kind::Jump(target),
            (Kind::Leave, Some(Value::Target(target))) => {
                open.push((scan.branches.len(), target));
                Kind::Anywhere
            }
            (Kind::Leave, Some(Value::Entry(_) | Value::Computed)) => Kind::Anywhere,
            (Kind::CallAny, Some(Value::Address(target))) if word.0 >> 25 == 0x6b => {
                Kind::Call(target)
            }
            (kind, _) => kind,
        };
        match kind {
            Kind::Call(_) | Kind::CallAny => registers = Registers([None; 32]),
            Kind::Conditional(target) => {
                if let Some((register, number)) = before {
                    let [on, there] = bounds(word, number);
                    registers.0[register] = on;
                    let only = !behind.contains_key(&target);
                    behind.insert(target, (register, there.filter(|_| only)));
                }
            }
            _ => {}
        }
        let branch = Branch {
            at,
            end: at + SIZE,
            kind,
        };
        if branch.is_end() {
            registers.forget_bounds();
            reached = false;
        }
        scan.branches.push(branch);
    }
    let starts: BTreeSet<u64> = open.iter().map(|(_, target)| target.table.start).collect();
    for (branch, target) in open {
        // One table ends where the next begins.
        let next = starts.range(target.table.start + 1..).next();
        let end = next.copied().unwrap_or(u64::MAX);
        if let Some(targets) = target.all(callees, range, end) {
            scan.branches[branch].kind = Kind::Table(targets);
        }
    }
    scan
}

/// Whether code does nothing and only fills space: NOP, or nothing.
pub(super) fn is_filler(code: &[u8]) -> bool {
    const NOP: u32 = 0xd503_201f;
    words(code, 0).all(|(_, word)| matches!(word.0, NOP | 0))
}

/// What linkers put for other modules' functions, maybe behind a landing place:
///
/// ```text
/// adrp x16, page
/// ldr  x17, [x16, #offset]
/// add  x16, x16, #offset
/// br   x17
/// ```
pub(super) fn stub(code: &[u8], at: u64) -> Option<u64> {
    const BTI_C: u32 = 0xd503_245f;
    let mut registers = Registers([None; 32]);
    let mut slot = None;
    for (at, word) in words(code, at)
        .skip_while(|(_, word)| word.0 == BTI_C)
        .take(4)
    {
        // LDR of eight bytes at a constant distance.
        if word.0 >> 22 == 0x3e5 {
            if let Some(Value::Address(address)) = registers.get(word.first()) {
                let offset = u64::from(word.field(10, 12)) << 3;
                slot = Some((word.destination(), address.wrapping_add(offset)));
            }
        }
        if let Some(Kind::Leave) = kind(word, at) {
            return slot
                .filter(|(register, _)| *register == word.first())
                .map(|(_, slot)| slot);
        }
        registers.note(word, at);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::super::elf::{ElfFile, Function};
    use super::*;
    use object::{Object, ObjectSection};
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use tempfile::TempDir;

    fn run(command: &mut Command) -> String {
        let output = command.output().unwrap_or_else(|error| {
            panic!("{command:?}: {error}\n(on Debian: apt-get install gcc-aarch64-linux-gnu)")
        });
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Compiles a program with all of the C library in it that it needs.
    fn compile(dir: &Path, source: &str, flags: &[&str]) -> Vec<u8> {
        let (file, program) = (dir.join("a.c"), dir.join("a"));
        fs::write(&file, source).unwrap();
        let mut gcc = Command::new("aarch64-linux-gnu-gcc");
        run(gcc.args(flags).arg("-o").arg(&program).arg(&file));
        fs::read(program).unwrap()
    }

    /// How the disassembler of the binutils names the branches.
    fn named(mnemonic: &str, operands: &str) -> Option<String> {
        let target = || {
            let word = operands.split(',').next_back()?.split_whitespace().next()?;
            u64::from_str_radix(word.trim_start_matches("0x"), 16).ok()
        };
        Some(match mnemonic {
            "b" | "b.al" | "b.nv" => format!("{:?}", Kind::Jump(target()?)),
            "bl" => format!("{:?}", Kind::Call(target()?)),
            "cbz" | "cbnz" | "tbz" | "tbnz" => format!("{:?}", Kind::Conditional(target()?)),
            _ if mnemonic.starts_with("b.") => format!("{:?}", Kind::Conditional(target()?)),
            "br" | "braa" | "brab" | "braaz" | "brabz" => format!("{:?}", Kind::Leave),
            "blr" | "blraa" | "blrab" | "blraaz" | "blrabz" => format!("{:?}", Kind::CallAny),
            "ret" | "retaa" | "retab" | "eret" => format!("{:?}", Kind::Return),
            "svc" | "hvc" | "smc" => format!("{:?}", Kind::CallAny),
            "brk" if ["#0x1", "#0x3e8"].contains(&operands.trim()) => format!("{:?}", Kind::Trap),
            "brk" => format!("{:?}", Kind::CallAny),
            "hlt" | "udf" => format!("{:?}", Kind::Trap),
            _ => return None,
        })
    }

    #[test]
    fn branches_are_those_of_another_disassembler() {
        let dir = TempDir::new().unwrap();
        let source = "#include <stdio.h>\nint main(void) { __builtin_trap(); return puts(\"\"); }";
        let program = compile(dir.path(), source, &["-static", "-O2"]);
        let elf = object::File::parse(&*program).unwrap();
        let mut objdump = Command::new("aarch64-linux-gnu-objdump");
        let listing = run(objdump
            .args(["-d", "--no-show-raw-insn"])
            .arg(dir.path().join("a")));
        let mut compared = [0_u32; 2];
        for line in listing.lines() {
            // "  4004d0:	b.ne	4004e0 <f+0x10>  // b.any"
            let Some((at, text)) = line.split_once(":\t") else {
                continue;
            };
            let at = u64::from_str_radix(at.trim(), 16).unwrap();
            let (mnemonic, operands) = text.split_once('\t').unwrap_or((text, ""));
            let operands = operands.split(['<', '/']).next().unwrap_or_default();
            // What is no instruction stands between them.
            if mnemonic.starts_with('.') {
                continue;
            }
            let section = elf
                .sections()
                .find(|s| (s.address()..s.address() + s.size()).contains(&at))
                .unwrap();
            let code = section.data_range(at, SIZE).unwrap().unwrap();
            let (_, word) = words(code, at).next().unwrap();
            let found = kind(word, at).map(|kind| format!("{kind:?}"));
            assert_eq!(found, named(mnemonic.trim(), operands), "{line}");
            compared[usize::from(found.is_some())] += 1;
        }
        // A C library is not small.
        assert!(compared[0] > 50_000 && compared[1] > 10_000, "{compared:?}");
    }

    /// The branches of one function of a program.
    fn scanned(program: Vec<u8>, name: &str) -> (Range<u64>, Scan) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, program).unwrap();
        let binary = ElfFile::open(&path).unwrap();
        let functions: Vec<Function> = binary.functions();
        let object = binary.object().unwrap();
        let callees = Callees::new(&object, &functions).unwrap();
        let function = functions.iter().find(|f| f.name == name).unwrap();
        (function.range.clone(), callees.scan(&function.range))
    }

    #[test]
    fn tables_are_read_as_compilers_write_them() {
        let dir = TempDir::new().unwrap();
        // The compiler takes each line of these for an instruction.
        let work = format!("asm volatile(\"{}\");", "nop\\n".repeat(200));
        // Small, larger and far apart: entries of one, two and four bytes.
        for (times, bytes) in [(0, 1), (1, 2), (20, 4)] {
            let work = work.repeat(times);
            let case = |n: u32| format!("case {n}: x += {n} * y; {work} break;");
            let cases: String = (0..20).map(case).collect();
            let source = format!(
                "int f(unsigned x, int y) {{ switch (x) {{ {cases} default: x = 77; }} return x; }}\n\
                 int main(void) {{ return f(2, 3); }}"
            );
            for optimization in ["-O1", "-O2", "-Os"] {
                let (range, scan) = scanned(
                    compile(dir.path(), &source, &[optimization, "-static"]),
                    "f",
                );
                let tables: Vec<&Vec<u64>> = scan
                    .branches
                    .iter()
                    .filter_map(|branch| match &branch.kind {
                        Kind::Table(targets) => Some(targets),
                        _ => None,
                    })
                    .collect();
                let [targets] = tables[..] else {
                    panic!("{bytes} {optimization}: {:?}", scan.branches);
                };
                // As many as make gcc write a table.
                assert!(targets.len() == 20, "{bytes} {optimization}: {targets:?}");
                assert!(targets.iter().all(|target| range.contains(target)));
            }
        }
    }
}
