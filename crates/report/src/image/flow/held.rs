// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls through registers that hold an address which the code itself put there. With
//! `-mcmodel=large`, as User Mode Linux is built, all calls are such, those of callbacks too. Where
//! such code is position-independent, the address is the sum of two: the global offset table's, and
//! how far the function, or the word with its address, is from there.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

use super::branch::{Kind, Scan};

/// What the 16 registers hold, as far as it is known.
type Held = [Option<Content>; 16];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// An address, or a number that one is computed with.
    Address(u64),
    /// What the word at this address holds, which the dynamic linker writes.
    Word(u64),
}

/// What an instruction does to registers.
struct Step {
    at: u64,
    end: u64,
    /// The registers that it changes, a bit for each.
    changes: u16,
    /// What it puts into a register.
    puts: Option<(usize, Value)>,
    /// What it calls or jumps through.
    through: Option<Value>,
}

#[derive(Clone, Copy)]
enum Value {
    Address(u64),
    Copy(usize),
    /// Of two registers.
    Sum(usize, usize),
    /// The word in memory at the sum of two registers.
    Load(usize, usize),
}

impl Value {
    fn of(self, held: &Held) -> Option<Content> {
        let sum = |a: usize, b: usize| match (held[a]?, held[b]?) {
            (Content::Address(a), Content::Address(b)) => Some(a.wrapping_add(b)),
            _ => None,
        };
        match self {
            Self::Address(address) => Some(Content::Address(address)),
            Self::Copy(from) => held[from],
            Self::Sum(a, b) => sum(a, b).map(Content::Address),
            Self::Load(a, b) => sum(a, b).map(Content::Word),
        }
    }
}

/// Whether an instruction puts an address into a register that calls may go through.
pub(super) fn is_put(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov && instruction.op1_kind() == OpKind::Immediate64
}

/// Tells the calls and jumps through registers of a function where they lead, if all ways to them
/// put the same address there. Other functions jump to the addresses in `entered`.
pub(super) fn resolve(scan: &mut Scan, start: u64, code: &[u8], entered: &BTreeSet<u64>) {
    let steps = steps(start, scan.end, code);
    let kinds: HashMap<u64, &Kind> = scan.branches.iter().map(|b| (b.at, &b.kind)).collect();
    let mut starts: BTreeSet<u64> = BTreeSet::from([start]);
    for branch in scan.branches.iter().filter(|branch| !branch.is_call()) {
        starts.insert(branch.end);
        starts.extend(branch.jump_targets());
    }
    let entered: Vec<u64> = entered.range(start..scan.end).copied().collect();
    starts.extend(&entered);
    // Blocks, as numbers of their steps. A jump to where no instruction begins leads out.
    let borders: Vec<usize> = (0..steps.len())
        .filter(|step| starts.contains(&steps[*step].at))
        .chain([steps.len()])
        .collect();
    let blocks: Vec<Range<usize>> = borders.windows(2).map(|b| b[0]..b[1]).collect();
    let by_start: HashMap<u64, usize> = blocks
        .iter()
        .enumerate()
        .map(|(number, block)| (steps[block.start].at, number))
        .collect();
    let successors: Vec<Vec<usize>> = blocks
        .iter()
        .map(|block| {
            let last = &steps[block.end - 1];
            let on = || by_start.get(&last.end).copied();
            let to = |target: &u64| by_start.get(target).copied();
            match kinds.get(&last.at) {
                Some(Kind::Jump(target)) => to(target).into_iter().collect(),
                Some(Kind::Conditional(target)) => to(target).into_iter().chain(on()).collect(),
                Some(Kind::Table(targets)) => targets.iter().filter_map(to).collect(),
                Some(Kind::Anywhere) => (0..blocks.len()).collect(),
                Some(Kind::JumpThrough(_) | Kind::Leave | Kind::Return | Kind::Trap) => Vec::new(),
                Some(Kind::Call(_) | Kind::CallThrough(_) | Kind::CallAny | Kind::Site) | None => {
                    on().into_iter().collect()
                }
            }
        })
        .collect();

    // Nothing is known where control comes from elsewhere, or from nowhere in sight.
    let mut at_start: Vec<Option<Held>> = vec![Some([None; 16]); blocks.len()];
    for &to in successors.iter().flatten() {
        at_start[to] = None;
    }
    for at in entered.iter().chain([&start]) {
        if let Some(block) = by_start.get(at) {
            at_start[*block] = Some([None; 16]);
        }
    }
    let mut open: Vec<usize> = (0..blocks.len())
        .filter(|block| at_start[*block].is_some())
        .collect();
    while let Some(block) = open.pop() {
        let Some(mut held) = at_start[block] else {
            continue;
        };
        for step in &steps[blocks[block].clone()] {
            step.run(&mut held);
        }
        for &to in &successors[block] {
            let news = match &mut at_start[to] {
                Some(before) => restrict(before, &held),
                unseen => {
                    *unseen = Some(held);
                    true
                }
            };
            if news {
                open.push(to);
            }
        }
    }

    let mut found: HashMap<u64, Content> = HashMap::new();
    for (block, held) in blocks.iter().zip(at_start) {
        let Some(mut held) = held else { continue };
        for step in &steps[block.clone()] {
            if let Some(content) = step.through.and_then(|through| through.of(&held)) {
                found.insert(step.at, content);
            }
            step.run(&mut held);
        }
    }
    for branch in &mut scan.branches {
        let Some(content) = found.get(&branch.at) else {
            continue;
        };
        branch.kind = match (&branch.kind, *content) {
            (Kind::CallAny, Content::Address(address)) => Kind::Call(address),
            (Kind::CallAny, Content::Word(slot)) => Kind::CallThrough(slot),
            (Kind::Leave, Content::Address(address)) => Kind::Jump(address),
            (Kind::Leave, Content::Word(slot)) => Kind::JumpThrough(slot),
            _ => continue,
        };
    }
}

impl Step {
    fn run(&self, held: &mut Held) {
        let value = self.puts.map(|(into, value)| (into, value.of(held)));
        for (register, held) in held.iter_mut().enumerate() {
            if self.changes & 1 << register != 0 {
                *held = None;
            }
        }
        if let Some((into, value)) = value {
            held[into] = value;
        }
    }
}

/// Leaves of `held` what `other` has, too. Whether that was less.
fn restrict(held: &mut Held, other: &Held) -> bool {
    let mut less = false;
    for (held, other) in held.iter_mut().zip(other) {
        if held.is_some() && held != other {
            *held = None;
            less = true;
        }
    }
    less
}

fn steps(start: u64, end: u64, code: &[u8]) -> Vec<Step> {
    let mut infos = InstructionInfoFactory::new();
    Decoder::with_ip(64, code, start, DecoderOptions::NONE)
        .into_iter()
        .take_while(|instruction| instruction.ip() < end)
        .map(|instruction| {
            let mut changes = 0;
            for used in infos.info(&instruction).used_registers() {
                if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead) {
                    changes |= number(used.register()).map_or(0, |register| 1 << register);
                }
            }
            let (into, from) = (instruction.op0_kind(), instruction.op1_kind());
            let into = (into == OpKind::Register).then(|| instruction.op0_register());
            // Two registers and nothing else make the address.
            let sum = || {
                let plain = instruction.memory_displacement64() == 0
                    && instruction.memory_index_scale() == 1;
                let base = number(instruction.memory_base()).filter(|_| plain)?;
                Some((base, number(instruction.memory_index())?))
            };
            let loaded = || sum().map(|(base, index)| Value::Load(base, index));
            let puts = match (instruction.mnemonic(), into) {
                (Mnemonic::Mov, Some(into)) if into.is_gpr64() => match from {
                    OpKind::Immediate64 => Some(Value::Address(instruction.immediate64())),
                    OpKind::Register => number(instruction.op1_register()).map(Value::Copy),
                    OpKind::Memory => loaded(),
                    _ => None,
                },
                (Mnemonic::Lea, Some(into)) if into.is_gpr64() => {
                    if instruction.is_ip_rel_memory_operand() {
                        Some(Value::Address(instruction.ip_rel_memory_address()))
                    } else {
                        sum().map(|(base, index)| Value::Sum(base, index))
                    }
                }
                (Mnemonic::Add, Some(into)) if into.is_gpr64() && from == OpKind::Register => {
                    let with = number(instruction.op1_register());
                    number(into)
                        .zip(with)
                        .map(|(into, with)| Value::Sum(into, with))
                }
                _ => None,
            };
            let flow = instruction.flow_control();
            let indirect = matches!(
                flow,
                FlowControl::IndirectCall | FlowControl::IndirectBranch
            );
            if matches!(flow, FlowControl::IndirectCall | FlowControl::Call) {
                changes |= LOST_IN_CALLS;
            }
            Step {
                at: instruction.ip(),
                end: instruction.next_ip(),
                changes,
                puts: puts.and_then(|value| Some((number(into?)?, value))),
                through: match into {
                    Some(register) => number(register).map(Value::Copy),
                    None => loaded(),
                }
                .filter(|_| indirect),
            }
        })
        .collect()
}

/// The registers that functions need not restore: all but RBX, RSP, RBP and R12 to R15.
const LOST_IN_CALLS: u16 = 0b0000_1111_1100_0111;

fn number(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64()
        .then(|| full as usize - Register::RAX as usize)
}
