// SPDX-License-Identifier: MIT OR Apache-2.0
//! The branches of x86-64 code.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::branch::{Branch, Kind, Scan};
use super::callees::Callees;
use super::held;

/// Reads the code of one function.
pub(super) fn scan(callees: &Callees<'_>, range: &Range<u64>) -> Scan {
    let mut scan = Scan {
        branches: Vec::new(),
        end: range.start,
        holds: false,
    };
    let Some(bytes) = callees.code(range) else {
        return scan;
    };
    let mut tables = Tables::default();
    // Jumps through tables: the number of the branch, and the table.
    let mut open: Vec<(usize, Table)> = Vec::new();
    let mut decoder = Decoder::with_ip(64, bytes, range.start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    // Where the address of a guard begins to be put into its register.
    let mut guard: Option<u64> = None;
    while decoder.can_decode() {
        let (at, position) = (decoder.ip(), decoder.position());
        if let Some(site) = callees.sites.at(&bytes[position..], at) {
            let branch = Branch {
                at,
                end: site.pc(),
                kind: Kind::Site,
            };
            let next = position + (branch.end - at) as usize;
            if decoder.set_position(next).is_ok() {
                decoder.set_ip(branch.end);
                scan.end = branch.end;
                scan.branches.push(branch);
                tables.forget();
                continue;
            }
        }
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            break;
        }
        scan.end = instruction.next_ip();
        if let Some(kind) = kind(&instruction) {
            let kind = match (kind, tables.of_jump(&instruction)) {
                (Kind::Leave, Some(Value::Offset(_) | Value::Word(_) | Value::Computed)) => {
                    Kind::Anywhere
                }
                (Kind::Leave, Some(Value::Target(table))) => {
                    open.push((scan.branches.len(), table));
                    Kind::Anywhere
                }
                (kind, _) => kind,
            };
            // A guard's call begins with its guard, as the store does that may have its place.
            let of_guard = matches!(kind, Kind::Call(_) | Kind::CallThrough(_));
            scan.branches.push(Branch {
                at: guard.filter(|_| of_guard).unwrap_or(at),
                end: instruction.next_ip(),
                kind,
            });
        }
        guard = match (instruction.mnemonic(), instruction.op0_register()) {
            (Mnemonic::Lea, Register::RDI) => callees.sites.is_guard(&instruction).then_some(at),
            (Mnemonic::Add, Register::RDI) => guard,
            _ => None,
        };
        scan.holds |= held::is_put(&instruction);
        tables.note(&instruction);
    }
    if !open.is_empty() {
        let starts: BTreeSet<u64> = open.iter().map(|(_, table)| table.start()).collect();
        let decoder = Decoder::with_ip(64, bytes, range.start, DecoderOptions::NONE);
        let instructions: HashSet<u64> = decoder.into_iter().map(|i| i.ip()).collect();
        for (branch, table) in open {
            // One table ends where the next begins.
            let next = starts.range(table.start() + 1..).next();
            let end = next.copied().unwrap_or(u64::MAX);
            let targets = table.targets(callees, end, &instructions);
            if !targets.is_empty() {
                scan.branches[branch].kind = Kind::Table(targets);
            }
        }
    }
    scan
}

/// What branch an instruction is, if it is one.
fn kind(instruction: &Instruction) -> Option<Kind> {
    let target = instruction.near_branch_target();
    let near = matches!(
        instruction.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    );
    let slot = instruction
        .is_ip_rel_memory_operand()
        .then(|| instruction.ip_rel_memory_address());
    Some(match (instruction.flow_control(), slot) {
        (FlowControl::UnconditionalBranch, _) => Kind::Jump(target),
        (FlowControl::ConditionalBranch, _) => Kind::Conditional(target),
        (FlowControl::XbeginXabortXend, _) if near => Kind::Conditional(target),
        (FlowControl::IndirectBranch, Some(slot)) => Kind::JumpThrough(slot),
        (FlowControl::IndirectBranch, None) => Kind::Leave,
        (FlowControl::Return, _) => Kind::Return,
        (FlowControl::Call, _) if near => Kind::Call(target),
        (FlowControl::IndirectCall, Some(slot)) => Kind::CallThrough(slot),
        (FlowControl::Call | FlowControl::IndirectCall, _) => Kind::CallAny,
        (FlowControl::Exception, _) => Kind::Trap,
        (FlowControl::Next | FlowControl::Interrupt | FlowControl::XbeginXabortXend, _) => {
            return None
        }
    })
}

/// A table of jump targets.
#[derive(Clone, Copy, Debug)]
enum Table {
    /// Of 32-bit offsets from its own address.
    Offsets(u64),
    /// Of 64-bit addresses.
    Addresses(u64),
}

impl Table {
    const fn start(self) -> u64 {
        match self {
            Self::Offsets(start) | Self::Addresses(start) => start,
        }
    }

    /// The targets, up to the first that is no instruction of the function.
    fn targets(self, callees: &Callees<'_>, end: u64, instructions: &HashSet<u64>) -> Vec<u64> {
        let mut targets = BTreeSet::new();
        let mut at = self.start();
        while at < end {
            let target = match self {
                Self::Offsets(start) => callees
                    .word(at)
                    .map(|word| start.wrapping_add_signed(i32::from_le_bytes(word).into())),
                Self::Addresses(_) => callees.word(at).map(u64::from_le_bytes),
            };
            let Some(target) = target.filter(|target| instructions.contains(target)) else {
                break;
            };
            targets.insert(target);
            at += match self {
                Self::Offsets(_) => 4,
                Self::Addresses(_) => 8,
            };
        }
        targets.into_iter().collect()
    }
}

/// What registers hold on the way to a jump through a table, as far as compilers do it:
///
/// ```text
/// lea    base, [table]            mov    target, [table + index * 8]
/// movsxd target, [base + index*4]     jmp    target
/// add    target, base
/// jmp    target                   jmp    [table + index * 8]
/// ```
///
/// gcc does it at `-O0` in more steps: `lea` multiplies the index, `mov` loads 32 bits from
/// `[index + base]`, `cdqe` extends them, and another `lea` makes the base again.
#[derive(Default)]
struct Tables {
    /// The last address that `lea` put into each register.
    bases: HashMap<Register, u64>,
    /// Those of them that nothing was put over since, in the order of the code.
    held: HashMap<Register, u64>,
    values: HashMap<Register, Value>,
}

#[derive(Clone, Copy)]
enum Value {
    /// An offset from a table.
    Offset(Table),
    /// The 32 bits of such an offset, whose sign is not extended yet.
    Word(Table),
    /// A target.
    Target(Table),
    /// Something computed from a table that is not understood.
    Computed,
}

impl Tables {
    /// What is behind a call.
    fn forget(&mut self) {
        self.values.clear();
        self.held.clear();
    }

    fn note(&mut self, instruction: &Instruction) {
        if matches!(
            instruction.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall
        ) {
            self.forget();
        }
        let into = match (instruction.mnemonic(), instruction.op0_kind()) {
            (Mnemonic::Cdqe, _) => Register::RAX,
            (_, OpKind::Register) => instruction.op0_register().full_register(),
            _ => return,
        };
        let value = self.value(instruction, into);
        if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
            let address = instruction.ip_rel_memory_address();
            self.bases.insert(into, address);
            self.held.insert(into, address);
        } else {
            self.held.remove(&into);
        }
        match value {
            Some(value) => self.values.insert(into, value),
            None => self.values.remove(&into),
        };
    }

    /// What the instruction puts into its first operand, if that is of interest.
    fn value(&self, instruction: &Instruction, into: Register) -> Option<Value> {
        let memory = instruction.op1_kind() == OpKind::Memory;
        let indexed = memory && instruction.memory_index() != Register::None;
        match instruction.mnemonic() {
            Mnemonic::Movsxd if indexed => {
                let base = instruction.memory_base().full_register();
                let plain = instruction.memory_index_scale() == 4
                    && instruction.memory_displacement64() == 0;
                let table = self.bases.get(&base).filter(|_| plain);
                Some(table.map_or(Value::Computed, |table| {
                    Value::Offset(Table::Offsets(*table))
                }))
            }
            Mnemonic::Movsxd if instruction.op1_kind() == OpKind::Register => {
                self.extended(instruction.op1_register().full_register())
            }
            Mnemonic::Cdqe => self.extended(into),
            Mnemonic::Mov if indexed && instruction.op0_register().is_gpr32() => {
                Some(self.word(instruction).unwrap_or(Value::Computed))
            }
            Mnemonic::Mov if indexed => Some(addresses(instruction)),
            Mnemonic::Add if instruction.op1_kind() == OpKind::Register => {
                let from = instruction.op1_register().full_register();
                let is_base =
                    |register, table: &Table| self.bases.get(&register) == Some(&table.start());
                // Either may be added to the other.
                match (self.values.get(&into), self.values.get(&from)) {
                    (Some(Value::Offset(table)), _) if is_base(from, table) => {
                        Some(Value::Target(*table))
                    }
                    (_, Some(Value::Offset(table))) if is_base(into, table) => {
                        Some(Value::Target(*table))
                    }
                    (None, None) => None,
                    _ => Some(Value::Computed),
                }
            }
            _ => None,
        }
    }

    /// What `from` holds, once its sign is extended.
    fn extended(&self, from: Register) -> Option<Value> {
        match self.values.get(&from) {
            Some(Value::Word(table)) => Some(Value::Offset(*table)),
            Some(_) => Some(Value::Computed),
            None => None,
        }
    }

    /// 32 bits of a table whose base is one of two registers that an address is the sum of; the
    /// other one has the index.
    fn word(&self, load: &Instruction) -> Option<Value> {
        let [base, index] = [load.memory_base(), load.memory_index()];
        let plain = load.memory_displacement64() == 0;
        let table = match load.memory_index_scale() {
            4 => self.bases.get(&base.full_register()),
            1 => {
                let found = [base, index].map(|of| self.held.get(&of.full_register()));
                found.into_iter().flatten().next()
            }
            _ => None,
        };
        let table = table.filter(|_| plain)?;
        Some(Value::Word(Table::Offsets(*table)))
    }

    /// What an indirect jump goes through, if it stays in the function.
    fn of_jump(&self, jump: &Instruction) -> Option<Value> {
        match jump.op0_kind() {
            OpKind::Register => self
                .values
                .get(&jump.op0_register().full_register())
                .copied(),
            OpKind::Memory if jump.memory_index() != Register::None => Some(addresses(jump)),
            _ => None,
        }
    }
}

/// What an operand `[table + index * 8]` gives.
fn addresses(instruction: &Instruction) -> Value {
    let plain =
        instruction.memory_base() == Register::None && instruction.memory_index_scale() == 8;
    if plain {
        Value::Target(Table::Addresses(instruction.memory_displacement64()))
    } else {
        Value::Computed
    }
}

/// Whether code does nothing and only fills space.
pub(super) fn is_filler(code: &[u8]) -> bool {
    Decoder::new(64, code, DecoderOptions::NONE)
        .into_iter()
        .all(|i| {
            matches!(
                i.mnemonic(),
                Mnemonic::Nop | Mnemonic::Int3 | Mnemonic::INVALID
            )
        })
}

/// The word through which one of the first instructions jumps.
pub(super) fn stub(code: &[u8], at: u64) -> Option<u64> {
    let mut decoder = Decoder::with_ip(64, code, at, DecoderOptions::NONE);
    for instruction in decoder.iter().take(3) {
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::IndirectBranch if instruction.is_ip_rel_memory_operand() => {
                return Some(instruction.ip_rel_memory_address());
            }
            _ => return None,
        }
    }
    None
}
