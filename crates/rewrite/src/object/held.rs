// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which guard a register has at an instruction.
//!
//! LLVM moves a guard's address out of a loop, into a register that calls leave alone. In the loop, `mov rdi, REGISTER`
//! stands before the call. One call has the same guard always: LLVM makes no two calls of callbacks one. So it is
//! known if each way that the code may take to the call brings the same guard; ways that it cannot take do no harm,
//! but none may be missing. Where one may be, nothing is known.

use super::elf::Section;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess,
    OpKind, Register,
};
use std::collections::{BTreeSet, HashMap};

/// Where the code may be entered.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// With anything in registers: functions, places whose address is somewhere, landing pads. Sorted.
    pub(super) unknown: Vec<u64>,
    /// From any jump of the section whose target is not in its instruction.
    pub(super) tables: Vec<u64>,
}

/// What a register has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Any,
    /// The guard at this offset of the guards' section.
    Guard(u64),
}

/// What all registers have.
type Registers = [Value; 16];

const ANY: Registers = [Value::Any; 16];
/// Registers that a call may change.
const CLOBBERED: [usize; 9] = [0, 1, 2, 6, 7, 8, 9, 10, 11];

/// What an instruction does to registers.
enum Effect {
    Address(usize, u64),
    Copy { to: usize, from: usize },
    Change(Vec<usize>),
}

struct Step {
    at: u64,
    effect: Effect,
    next: Next,
    target: Option<u64>,
}

/// Where the code goes on, beside a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Behind,
    Nowhere,
    Tables,
}

/// The guards that registers have at some instructions of a section: `wanted` has offsets and numbers of
/// registers, `guards` the guards whose addresses `lea` takes there, by the offsets of their operands. What is not
/// known is not in the answer.
pub(super) fn guards_in_registers(
    code: &Section<'_>,
    entries: &Entries,
    guards: &HashMap<u64, u64>,
    wanted: &HashMap<u64, usize>,
) -> HashMap<u64, u64> {
    let Some(steps) = steps(code, guards) else {
        return HashMap::new();
    };
    let place = |at: u64| steps.binary_search_by_key(&at, |step| step.at).ok();
    let mut begins: BTreeSet<usize> = BTreeSet::new();
    let mut known: HashMap<usize, Registers> = HashMap::new();
    let mut work = Vec::new();
    for at in entries
        .unknown
        .iter()
        .filter_map(|at| place(*at))
        .chain([0])
    {
        begins.insert(at);
        known.insert(at, ANY);
        work.push(at);
    }
    let tables: Vec<usize> = entries.tables.iter().filter_map(|at| place(*at)).collect();
    begins.extend(&tables);
    for (at, step) in steps.iter().enumerate() {
        begins.extend(step.target.and_then(place));
        if step.next != Next::Behind && at + 1 < steps.len() {
            begins.insert(at + 1);
        }
    }
    let mut found: HashMap<u64, Value> = HashMap::new();
    while let Some(begin) = work.pop() {
        let Some(mut registers) = known.get(&begin).copied() else {
            continue;
        };
        let mut at = begin;
        loop {
            let step = &steps[at];
            if let Some(register) = wanted.get(&step.at) {
                found.insert(step.at, registers[*register]);
            }
            step.effect.apply(&mut registers);
            let mut reach = |to: usize| {
                let before = known.get(&to).copied();
                let after = before.map_or(registers, |before| both(before, registers));
                if before != Some(after) {
                    known.insert(to, after);
                    work.push(to);
                }
            };
            step.target.and_then(place).into_iter().for_each(&mut reach);
            match step.next {
                Next::Nowhere => break,
                Next::Tables => {
                    tables.iter().copied().for_each(&mut reach);
                    break;
                }
                Next::Behind => {}
            }
            at += 1;
            if at == steps.len() {
                break;
            }
            if begins.contains(&at) {
                reach(at);
                break;
            }
        }
    }
    let known = found.into_iter().filter_map(|(at, value)| match value {
        Value::Guard(guard) => Some((at, guard)),
        Value::Any => None,
    });
    known.collect()
}

fn both(a: Registers, b: Registers) -> Registers {
    let mut both = a;
    for (value, other) in both.iter_mut().zip(b) {
        if *value != other {
            *value = Value::Any;
        }
    }
    both
}

impl Effect {
    fn apply(&self, registers: &mut Registers) {
        match self {
            Self::Address(to, guard) => registers[*to] = Value::Guard(*guard),
            Self::Copy { to, from } => registers[*to] = registers[*from],
            Self::Change(all) => all.iter().for_each(|to| registers[*to] = Value::Any),
        }
    }
}

/// The instructions; `None` if not all bytes are some.
fn steps(code: &Section<'_>, guards: &HashMap<u64, u64>) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut factory = InstructionInfoFactory::new();
    let mut decoder = Decoder::with_ip(64, code.bytes, 0, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let (code, end) = (instruction.code(), instruction.next_ip());
        if code == Code::INVALID {
            return None;
        }
        let near = matches!(
            instruction.op0_kind(),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
        );
        let (next, is_call) = match instruction.flow_control() {
            FlowControl::Next | FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => {
                (Next::Behind, false)
            }
            FlowControl::Call | FlowControl::IndirectCall => (Next::Behind, true),
            FlowControl::IndirectBranch => (Next::Tables, false),
            FlowControl::UnconditionalBranch | FlowControl::Return | FlowControl::Exception => {
                (Next::Nowhere, false)
            }
            // A system call comes back.
            FlowControl::Interrupt => (Next::Behind, false),
        };
        let register = |operand: u32| number(instruction.op_register(operand));
        let effect = match code {
            Code::Lea_r64_m if instruction.is_ip_rel_memory_operand() => {
                let guard = end.checked_sub(4).and_then(|operand| guards.get(&operand));
                match (guard, register(0)) {
                    (Some(guard), Some(to)) => Some(Effect::Address(to, *guard)),
                    _ => None,
                }
            }
            Code::Mov_rm64_r64 | Code::Mov_r64_rm64
                if instruction.op0_kind() == OpKind::Register
                    && instruction.op1_kind() == OpKind::Register =>
            {
                match (register(0), register(1)) {
                    (Some(to), Some(from)) => Some(Effect::Copy { to, from }),
                    _ => None,
                }
            }
            _ => None,
        };
        let effect = effect.unwrap_or_else(|| {
            let used = factory.info(&instruction).used_registers().iter();
            let written = used.filter(|used| {
                !matches!(
                    used.access(),
                    OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
                )
            });
            let written = written.filter_map(|used| number(used.register().full_register()));
            let clobbered = CLOBBERED.into_iter().filter(|_| is_call);
            Effect::Change(written.chain(clobbered).collect())
        });
        // A call enters a function of this section, which is an entry of its own.
        let target = (near && !is_call).then(|| instruction.near_branch_target());
        steps.push(Step {
            at: instruction.ip(),
            effect,
            next,
            target,
        });
    }
    (!steps.is_empty()).then_some(steps)
}

/// The number of a general register of 64 bits.
fn number(register: Register) -> Option<usize> {
    (Register::RAX..=Register::R15)
        .contains(&register)
        .then(|| register as usize - Register::RAX as usize)
}
