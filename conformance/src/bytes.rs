// SPDX-License-Identifier: MIT OR Apache-2.0
//! Histories as bytes, for fuzzers: any bytes are a history, and a history that keeps within the
//! bounds below is some bytes.
//!
//! An operation is its code, then its operands. Where bytes run out, operands are 0. Names come from
//! small pools, and sizes that a kcov would accept are made small, so that most operations meet
//! something that is there and a history does not fill the machine. The argument of
//! `KCOV_REMOTE_ENABLE` stands as it lies in the client's memory, cut wherever it ends.

use std::iter;

use rkcov_abi::REMOTE_MAX_HANDLES;
use rkcov_model::{
    Act, Call, Context, File, Map, Nesting, Op, RemoteCall, Spawn, Step, Task, Traits,
};

use crate::cases::cases;
use crate::faults::is_one_at_a_time;
use crate::sim;
use crate::stage::Stage;

/// Names of a sort.
const NAMES: u32 = 8;
/// Operations of a history, acts or rounds of one operation, and steps of one run.
const OPS: usize = 256;
const ACTS: u64 = 4;
const ROUNDS: u64 = 4;
const STEPS: u64 = 24;
/// Markers of one step, and cases of one switch.
const MARKERS: u64 = 64;
const CASES: u64 = 8;
/// The most words of a buffer or an area.
const WORDS: u64 = 1024;
/// The most words that a kcov accepts.
const ACCEPTED: u64 = i32::MAX as u64 / 8;
/// Bytes before `handles[]`.
const HEAD: usize = 24;
/// Bytes of an argument: one handle more than may be.
const ARGUMENT: usize = HEAD + 8 * (REMOTE_MAX_HANDLES as usize + 1);

/// The history that `bytes` are. The first byte says how sections nest.
#[must_use]
pub fn decode(bytes: &[u8]) -> (Nesting, Vec<Op>) {
    let mut bytes = Bytes(bytes);
    let nesting = match bytes.byte() % 2 {
        0 => Nesting::Suspend,
        _ => Nesting::Refuse,
    };
    let mut ops = Vec::new();
    while !bytes.0.is_empty() && ops.len() < OPS {
        bytes.op(nesting, &mut ops);
    }
    (nesting, ops)
}

/// The bytes of a history, those operations left out that no bytes are.
#[must_use]
pub fn encode(nesting: Nesting, ops: &[Op]) -> Vec<u8> {
    let mut bytes = vec![u8::from(nesting == Nesting::Refuse)];
    let mut ops = ops.iter().take(OPS).peekable();
    while let Some(op) = ops.next() {
        let mut code = Vec::new();
        // A failure stands with the act that meets it.
        let both: Vec<Op> = match op {
            Op::Fail { .. } => iter::once(op).chain(ops.peek().copied()).cloned().collect(),
            op => vec![op.clone()],
        };
        put_op(&mut code, &both);
        let mut again = Vec::new();
        Bytes(&code).op(nesting, &mut again);
        if again == both {
            bytes.extend(code);
            if both.len() > 1 {
                ops.next();
            }
        }
    }
    bytes
}

/// What every case of the suite tells the rules of either sort, with a name.
#[must_use]
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let told = told().into_iter();
    let seed = |(name, nesting, ops): (_, _, Vec<Op>)| (name, encode(nesting, &ops));
    // A case that needs something else than the rules says next to nothing.
    told.map(seed)
        .filter(|(_, bytes)| bytes.len() > 16)
        .collect()
}

fn told() -> Vec<(String, Nesting, Vec<Op>)> {
    let mut told = Vec::new();
    for new in [sim::userspace, sim::kernel] {
        for case in cases() {
            let mut kcov = new();
            let Traits { name, nesting, .. } = kcov.traits().clone();
            let mut stage = Stage::new(&mut *kcov);
            // What applies on this host is a history, whatever the case says of it.
            let _ = case.play(&mut stage);
            let name = format!("{name}.{}", case.id);
            told.push((name, nesting, stage.told().to_vec()));
        }
    }
    told
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number: itself if it is small, or so many bytes.
    fn number(&mut self) -> u64 {
        let len = match self.byte() {
            0xfd => 2,
            0xfe => 4,
            0xff => 8,
            small => return small.into(),
        };
        let mut word = [0; 8];
        let taken = self.take(len);
        word[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(word)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    fn name(&mut self) -> u32 {
        u32::from(self.byte()) % NAMES
    }

    fn task(&mut self) -> Task {
        Task(self.name())
    }

    fn file(&mut self) -> File {
        File(self.name())
    }

    fn map(&mut self) -> Map {
        Map(self.name())
    }

    fn op(&mut self, nesting: Nesting, ops: &mut Vec<Op>) {
        let code = self.byte() % 10;
        let task = self.task();
        let spawn = |how, child| Op::Spawn {
            by: task,
            how,
            child,
        };
        let op = match code {
            0 => spawn(Spawn::Thread, self.task()),
            1 => spawn(Spawn::Fork, self.task()),
            2 => match nesting {
                Nesting::Refuse => spawn(Spawn::Kernel, self.task()),
                Nesting::Suspend => spawn(Spawn::Thread, self.task()),
            },
            3 => Op::End(task),
            4 => Op::Kill(task),
            5 => Op::Exec(task),
            6 => {
                let (nth, act) = (self.byte().into(), self.act(nesting));
                if is_one_at_a_time(&act) {
                    ops.push(Op::Fail { task, nth });
                }
                Op::Act(task, act)
            }
            7 => {
                let rounds = self.below(ROUNDS) as u32;
                let acts = (0..=self.below(ACTS)).map(|_| self.act(nesting)).collect();
                Op::Begin { task, rounds, acts }
            }
            8 => Op::Join(task),
            _ => Op::Act(task, self.act(nesting)),
        };
        ops.push(op);
    }

    fn act(&mut self, nesting: Nesting) -> Act {
        match self.byte() % 11 {
            0 => Act::Open(self.file()),
            1 => Act::Close(self.file()),
            2 => Act::Ioctl32(self.file(), self.call()),
            3 => Act::Map {
                file: self.file(),
                map: self.map(),
                len: self.number(),
                offset: self.number(),
                writable: true,
            },
            4 => Act::Unmap(self.map()),
            5 => Act::Poke {
                map: self.map(),
                word: self.number(),
                value: self.number(),
            },
            6 => Act::Watch(self.map()),
            7 => Act::Read {
                map: self.map(),
                first: self.number(),
                count: self.number(),
            },
            8 | 9 => Act::Run(self.steps(nesting, None)),
            _ => Act::Ioctl(self.file(), self.call()),
        }
    }

    fn call(&mut self) -> Call {
        match self.byte() % 8 {
            0 => Call::Init(small(self.number())),
            1 => Call::Enable(self.number()),
            2 => Call::Disable(self.number()),
            3 => Call::Unique(self.number()),
            4 => Call::Reset(self.number()),
            5 => Call::Raw {
                number: self.number() as u32,
                arg: small(self.number()),
            },
            _ => Call::Remote(self.remote()),
        }
    }

    /// An argument of so many bytes, and what `num_handles` changes to.
    fn remote(&mut self) -> RemoteCall {
        let len = self.number() as usize % (ARGUMENT + 1);
        let bytes = self.take(len);
        let then = match self.byte() {
            0 => None,
            _ => Some(self.number() as u32),
        };
        let half = |at: usize| {
            let mut half = [0; 4];
            let there = bytes.get(at..).unwrap_or_default();
            let len = there.len().min(4);
            half[..len].copy_from_slice(&there[..len]);
            u32::from_ne_bytes(half)
        };
        let word = |there: &[u8]| {
            let mut word = [0; 8];
            word[..there.len()].copy_from_slice(there);
            u64::from_ne_bytes(word)
        };
        let handles = bytes.get(HEAD..).unwrap_or_default();
        let handles: Vec<u64> = handles.chunks(8).map(word).collect();
        let common = bytes.get(16..).unwrap_or_default();
        let whole = HEAD + 8 * handles.len();
        RemoteCall {
            mode: half(0),
            area: small(half(4).into()) as u32,
            common: word(&common[..common.len().min(8)]),
            claim: Some(half(8)).filter(|claim| *claim as usize != handles.len()),
            handles,
            then,
            readable: Some(bytes.len() as u64).filter(|len| *len != whole as u64),
        }
    }

    /// What runs, interrupted by nothing in interrupts but a hardirq in a softirq.
    fn steps(&mut self, nesting: Nesting, inside: Option<Context>) -> Vec<Step> {
        let number = self.below(STEPS);
        (0..number).map(|_| self.step(nesting, inside)).collect()
    }

    fn step(&mut self, nesting: Nesting, inside: Option<Context>) -> Step {
        let code = self.byte() % 8;
        match (code, nesting, inside) {
            (0, ..) => Step::Start(self.number()),
            (1, ..) => Step::Stop,
            (2, ..) => Step::Compare {
                log2: self.byte() % 4,
                constant: self.byte() % 2 == 1,
                arg1: self.number(),
                arg2: self.number(),
            },
            (3, ..) => Step::Switch {
                bits: self.number(),
                value: self.number(),
                cases: (0..self.below(CASES)).map(|_| self.number()).collect(),
            },
            (4, ..) => Step::CommonHandle,
            (5, Nesting::Suspend, None) => self.interrupt(nesting, Context::Signal),
            (5, Nesting::Refuse, None) => self.interrupt(nesting, Context::Softirq),
            (6, Nesting::Refuse, None | Some(Context::Softirq)) => {
                self.interrupt(nesting, Context::Hardirq)
            }
            _ => Step::Pcs {
                first: self.below(1 << 16) as u32,
                count: self.below(MARKERS) as u32,
            },
        }
    }

    fn interrupt(&mut self, nesting: Nesting, context: Context) -> Step {
        Step::Interrupt(context, self.steps(nesting, Some(context)))
    }
}

/// A size: one that a kcov would accept is made small.
fn small(words: u64) -> u64 {
    if (WORDS..=ACCEPTED).contains(&words) {
        words % WORDS
    } else {
        words
    }
}

fn put_op(to: &mut Vec<u8>, ops: &[Op]) {
    match ops {
        [Op::Spawn { by, how, child }] => {
            let code = match how {
                Spawn::Thread => 0,
                Spawn::Fork => 1,
                Spawn::Kernel => 2,
            };
            to.extend([code, by.0 as u8, child.0 as u8]);
        }
        [Op::End(task)] => to.extend([3, task.0 as u8]),
        [Op::Kill(task)] => to.extend([4, task.0 as u8]),
        [Op::Exec(task)] => to.extend([5, task.0 as u8]),
        [Op::Fail { task, nth }, Op::Act(_, act)] => {
            to.extend([6, task.0 as u8, *nth as u8]);
            put_act(to, act);
        }
        [Op::Begin { task, rounds, acts }] => {
            to.extend([7, task.0 as u8]);
            put_number(to, (*rounds).into());
            put_number(to, (acts.len() as u64).wrapping_sub(1));
            acts.iter().for_each(|act| put_act(to, act));
        }
        [Op::Join(task)] => to.extend([8, task.0 as u8]),
        [Op::Act(task, act)] => {
            to.extend([9, task.0 as u8]);
            put_act(to, act);
        }
        _ => {}
    }
}

fn put_act(to: &mut Vec<u8>, act: &Act) {
    match act {
        Act::Open(file) => to.extend([0, file.0 as u8]),
        Act::Close(file) => to.extend([1, file.0 as u8]),
        Act::Ioctl32(file, call) => {
            to.extend([2, file.0 as u8]);
            put_call(to, call);
        }
        Act::Map {
            file,
            map,
            len,
            offset,
            ..
        } => {
            to.extend([3, file.0 as u8, map.0 as u8]);
            put_numbers(to, [*len, *offset]);
        }
        Act::Unmap(map) => to.extend([4, map.0 as u8]),
        Act::Poke { map, word, value } => {
            to.extend([5, map.0 as u8]);
            put_numbers(to, [*word, *value]);
        }
        Act::Watch(map) => to.extend([6, map.0 as u8]),
        Act::Read { map, first, count } => {
            to.extend([7, map.0 as u8]);
            put_numbers(to, [*first, *count]);
        }
        Act::Run(steps) => {
            to.push(8);
            put_steps(to, steps);
        }
        Act::Ioctl(file, call) => {
            to.extend([10, file.0 as u8]);
            put_call(to, call);
        }
    }
}

fn put_call(to: &mut Vec<u8>, call: &Call) {
    let (code, arg) = match call {
        Call::Init(words) => (0, *words),
        Call::Enable(mode) => (1, *mode),
        Call::Disable(arg) => (2, *arg),
        Call::Unique(words) => (3, *words),
        Call::Reset(arg) => (4, *arg),
        Call::Raw { number, arg } => {
            to.push(5);
            return put_numbers(to, [(*number).into(), *arg]);
        }
        Call::Remote(call) => {
            let mut bytes = call.bytes();
            bytes.truncate(call.readable_bytes() as usize);
            to.push(6);
            put_number(to, bytes.len() as u64);
            to.extend(bytes);
            to.push(call.then.is_some().into());
            return call.then.iter().for_each(|n| put_number(to, (*n).into()));
        }
    };
    to.push(code);
    put_number(to, arg);
}

fn put_steps(to: &mut Vec<u8>, steps: &[Step]) {
    put_number(to, steps.len() as u64);
    for step in steps {
        match step {
            Step::Start(handle) => {
                to.push(0);
                put_number(to, *handle);
            }
            Step::Stop => to.push(1),
            Step::Compare {
                log2,
                constant,
                arg1,
                arg2,
            } => {
                to.extend([2, *log2, (*constant).into()]);
                put_numbers(to, [*arg1, *arg2]);
            }
            Step::Switch { bits, value, cases } => {
                to.push(3);
                put_numbers(to, [*bits, *value, cases.len() as u64]);
                cases.iter().for_each(|case| put_number(to, *case));
            }
            Step::CommonHandle => to.push(4),
            Step::Interrupt(context, steps) => {
                to.push(if *context == Context::Hardirq { 6 } else { 5 });
                put_steps(to, steps);
            }
            Step::Pcs { first, count } => {
                to.push(7);
                put_numbers(to, [u64::from(*first), u64::from(*count)]);
            }
        }
    }
}

fn put_numbers<const N: usize>(to: &mut Vec<u8>, numbers: [u64; N]) {
    numbers.into_iter().for_each(|n| put_number(to, n));
}

fn put_number(to: &mut Vec<u8>, number: u64) {
    let bytes = number.to_le_bytes();
    match number {
        0..=0xfc => to.push(bytes[0]),
        0xfd..=0xffff => to.extend([&[0xfd], &bytes[..2]].concat()),
        0x1_0000..=0xffff_ffff => to.extend([&[0xfe], &bytes[..4]].concat()),
        _ => to.extend([&[0xff], &bytes[..]].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::compare;
    use rkcov_abi::{ioctl, Command};
    use std::collections::BTreeSet;

    #[test]
    fn the_suites_cases_are_bytes_of_which_rules_and_model_say_the_same() {
        let (mut all, mut kept) = (0, 0);
        let (mut told_calls, mut kept_calls) = (BTreeSet::new(), BTreeSet::new());
        for (case, nesting, ops) in told() {
            let ops = &ops[..ops.len().min(OPS)];
            let bytes = encode(nesting, ops);
            let (as_it_was, again) = decode(&bytes);
            assert_eq!(as_it_was, nesting);
            assert_eq!(encode(nesting, &again), bytes, "{case}");
            // Nothing but what was left out is missing.
            let mut rest = ops.iter();
            assert!(again.iter().all(|op| rest.any(|o| o == op)), "{case}");
            all += ops.len();
            kept += again.len();
            told_calls.extend(calls(ops));
            kept_calls.extend(calls(&again));
            let new = match nesting {
                Nesting::Suspend => sim::userspace,
                Nesting::Refuse => sim::kernel,
            };
            if let Err(divergence) = compare(&again, new) {
                panic!("{case}: {divergence}");
            }
        }
        assert!(all > 5_000 && kept * 100 > all * 95, "{kept} of {all}");
        // `encode()` leaves out what does not come back.
        let lost: Vec<_> = told_calls.difference(&kept_calls).collect();
        assert!(lost.is_empty(), "encode() or decode() lacks {lost:?}");
        for command in Command::ALL {
            let name = format!("{command:?}");
            assert!(kept_calls.contains(&name), "no case calls {name}");
        }
    }

    /// The kinds of calls among these operations.
    fn calls(ops: &[Op]) -> impl Iterator<Item = String> + '_ {
        let acts = ops.iter().flat_map(|op| match op {
            Op::Act(_, act) => std::slice::from_ref(act),
            Op::Begin { acts, .. } => acts,
            _ => &[],
        });
        acts.filter_map(|act| match act {
            Act::Ioctl(_, call) | Act::Ioctl32(_, call) => Some(match call.command() {
                Some(command) => format!("{command:?}"),
                None => "any number".into(),
            }),
            _ => None,
        })
    }

    #[test]
    fn an_argument_is_cut_where_it_ends() {
        let call = |bytes: &[u8]| {
            let mut code = vec![0, 9, 0, 10, 0, 6, bytes.len() as u8];
            code.extend(bytes);
            match &decode(&code).1[..] {
                [Op::Act(Task(0), Act::Ioctl(File(0), Call::Remote(call)))] => call.clone(),
                other => panic!("{other:?}"),
            }
        };
        let whole: Vec<u8> = (1..=40).collect();
        for len in 0..whole.len() {
            let call = call(&whole[..len]);
            assert_eq!(call.readable_bytes(), len as u64);
            let laid_out = call.bytes();
            // Four bytes are nobody's, and an area is made small.
            for at in (0..len).filter(|at| !(4..8).contains(at) && !(12..16).contains(at)) {
                assert_eq!(laid_out[at], whole[at], "{at} of {len}");
            }
        }
    }

    #[test]
    fn any_number_and_argument_can_be_said() {
        let raw = |number, arg| {
            vec![Op::Act(
                Task(1),
                Act::Ioctl(File(2), Call::Raw { number, arg }),
            )]
        };
        for number in [0, ioctl::KCOV_RESET_TRACE, u32::MAX] {
            for arg in [0, 1, 1 << 32, u64::MAX] {
                let ops = raw(number, arg);
                assert_eq!(decode(&encode(Nesting::Refuse, &ops)).1, ops);
            }
        }
    }
}
