// SPDX-License-Identifier: MIT OR Apache-2.0
//! Appending and merging, while clients write whatever they like into their buffers: what the rules
//! leave in them is what the reference model says, word by word.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use rkcov_conformance::{history, sim};
use rkcov_model::{Act, Call, Context, File, Map, Op, RemoteCall, Spawn, Step, Task};

#[derive(Arbitrary, Debug)]
struct Input {
    kernel: bool,
    /// Words of the two buffers and of the area.
    words: [u16; 2],
    area: u16,
    moves: Vec<Move>,
}

#[derive(Arbitrary, Debug)]
enum Move {
    /// The count word of one of the two buffers.
    Count(bool, Value),
    Word(bool, u16, Value),
    /// A section for the remote client, cut in two by what comes next.
    Start(Code),
    Stop(Code),
    /// Code of the task that collects for itself.
    Own(Code),
    Interrupt(Code),
    Listen {
        comparisons: bool,
    },
    Collect(Collecting),
    Disable(bool),
    Reset(bool),
}

#[derive(Arbitrary, Debug)]
enum Collecting {
    Pcs,
    Comparisons,
    Unique(u8),
}

#[derive(Arbitrary, Debug)]
enum Value {
    Small(u8),
    /// So many below the end of the buffer, in records.
    NearEnd(u8),
    Any(u64),
}

#[derive(Arbitrary, Debug)]
struct Code {
    first: u8,
    count: u8,
    compare: bool,
}

const HANDLE: u64 = 1 << 56 | 7;
const CLIENT: Task = Task(0);
const WORKER: Task = Task(1);
const REMOTE: File = File(0);
const LOCAL: File = File(1);

impl Code {
    fn steps(&self) -> Vec<Step> {
        let pcs = Step::Pcs {
            first: u32::from(self.first) % 200,
            count: u32::from(self.count) + 1,
        };
        let compare = Step::Compare {
            log2: self.first % 4,
            constant: self.count % 2 == 0,
            arg1: self.first.into(),
            arg2: self.count.into(),
        };
        if self.compare {
            vec![pcs, compare]
        } else {
            vec![pcs]
        }
    }
}

impl Input {
    fn words(&self, local: bool) -> u64 {
        u64::from(self.words[usize::from(local)]) % 700 + 2
    }

    fn value(&self, local: bool, value: &Value) -> u64 {
        match value {
            Value::Small(n) => (*n).into(),
            Value::NearEnd(n) => self.words(local).wrapping_sub((*n).into()),
            Value::Any(n) => *n,
        }
    }

    fn op(&self, step: &Move) -> Op {
        let files = [REMOTE, LOCAL];
        let (file, task) = (
            |local: bool| files[usize::from(local)],
            |local: bool| [CLIENT, WORKER][usize::from(local)],
        );
        let poke = |local: bool, word: u64, value: &Value| {
            let (map, value) = (Map(file(local).0), self.value(local, value));
            Op::Act(task(local), Act::Poke { map, word, value })
        };
        let run = |steps: Vec<Step>| Op::Act(WORKER, Act::Run(steps));
        match step {
            Move::Count(local, value) => poke(*local, 0, value),
            Move::Word(local, word, value) => {
                poke(*local, u64::from(*word) % self.words(*local), value)
            }
            Move::Start(code) => run([vec![Step::Start(HANDLE)], code.steps()].concat()),
            Move::Stop(code) => run([code.steps(), vec![Step::Stop]].concat()),
            Move::Own(code) => run(code.steps()),
            Move::Interrupt(code) => {
                let section = [vec![Step::Start(HANDLE)], code.steps(), vec![Step::Stop]].concat();
                let context = if self.kernel {
                    Context::Softirq
                } else {
                    Context::Signal
                };
                run(vec![Step::Interrupt(context, section)])
            }
            Move::Listen { comparisons } => {
                let call = RemoteCall {
                    mode: (*comparisons).into(),
                    area: u32::from(self.area) % 600 + 2,
                    handles: vec![HANDLE],
                    ..RemoteCall::default()
                };
                Op::Act(CLIENT, Act::Ioctl(REMOTE, Call::Remote(call)))
            }
            Move::Collect(how) => {
                let call = match how {
                    Collecting::Pcs => Call::Enable(0),
                    Collecting::Comparisons => Call::Enable(1),
                    Collecting::Unique(words) => Call::Unique((*words).into()),
                };
                Op::Act(WORKER, Act::Ioctl(LOCAL, call))
            }
            Move::Disable(local) => {
                Op::Act(task(*local), Act::Ioctl(file(*local), Call::Disable(0)))
            }
            Move::Reset(local) => Op::Act(task(*local), Act::Ioctl(file(*local), Call::Reset(0))),
        }
    }

    fn ops(&self) -> Vec<Op> {
        let mut ops = vec![Op::Spawn {
            by: CLIENT,
            how: Spawn::Thread,
            child: WORKER,
        }];
        for (file, local) in [(REMOTE, false), (LOCAL, true)] {
            let map = Act::Map {
                file,
                map: Map(file.0),
                len: self.words(local) * 8,
                offset: 0,
                writable: true,
            };
            let set_up = [
                Act::Open(file),
                Act::Ioctl(file, Call::Init(self.words(local))),
                map,
            ];
            ops.extend(set_up.map(|act| Op::Act(CLIENT, act)));
        }
        ops.extend([
            self.op(&Move::Listen { comparisons: false }),
            self.op(&Move::Collect(Collecting::Pcs)),
        ]);
        ops.extend(self.moves.iter().take(64).map(|step| self.op(step)));
        ops
    }
}

fuzz_target!(|input: Input| {
    let new = if input.kernel {
        sim::kernel
    } else {
        sim::userspace
    };
    if let Err(divergence) = history::compare(&input.ops(), new) {
        panic!("{divergence}");
    }
});
