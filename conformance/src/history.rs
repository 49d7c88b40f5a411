// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random histories, and the comparison of a kcov with the reference model along one.

use std::cell::Cell;
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use rkcov_abi::{ioctl, Command, Errno};
use rkcov_model::model::Observed;
use rkcov_model::{
    script, Act, Call, Context, File, Host, Map, Model, Nesting, Op, Outcome, RemoteCall, Spawn,
    Step, Task, Trouble,
};

use crate::sim::Observable;

/// A random history for a kcov whose sections nest in this way.
///
/// Names come from small pools, so that most operations meet something that is there; it begins
/// with files and tasks to work with, and the usual sequences (open, init, map; start, code, stop)
/// are drawn as one.
pub fn histories(nesting: Nesting) -> impl Strategy<Value = Vec<Op>> {
    let prologue = vec(size(), 4).prop_map(|sizes| {
        let files = (0..).map(File).zip(&sizes);
        let clients = files.flat_map(|(file, words)| set_up(Task(0), file, *words));
        let children = [
            (0, Spawn::Thread, 1),
            (0, Spawn::Fork, 2),
            (1, Spawn::Thread, 3),
        ];
        let children = children.map(|(by, how, child)| Op::Spawn {
            by: Task(by),
            how,
            child: Task(child),
        });
        clients.chain(children).collect::<Vec<_>>()
    });
    let phrases = vec(phrase(nesting), 20..100).prop_map(|phrases| phrases.concat());
    (prologue, phrases).prop_map(|(prologue, rest)| [prologue, rest].concat())
}

/// Tells random histories to new kcovs and their models; answers how many operations that were.
///
/// # Errors
/// The shortest history that was found on which they part.
pub fn search(new: fn() -> Box<dyn Observable>, count: u32) -> Result<u64, Divergence> {
    let nesting = new().traits().nesting;
    let mut runner = TestRunner::new(Config {
        cases: count,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    });
    let told = Cell::new(0_u64);
    let searched = runner.run(&histories(nesting), |ops| {
        told.set(told.get() + ops.len() as u64);
        compare(&ops, new).map_err(|d| TestCaseError::fail(d.to_string()))
    });
    match searched {
        Ok(()) => Ok(told.get()),
        Err(TestError::Fail(reason, ops)) => {
            let ops = shortest(&ops, |ops| compare(ops, new).is_err());
            Err(compare(&ops, new).err().unwrap_or(Divergence {
                script: script::print(&ops),
                what: reason.to_string(),
            }))
        }
        Err(TestError::Abort(reason)) => Err(Divergence {
            script: String::new(),
            what: reason.to_string(),
        }),
    }
}

/// Takes operations out of a failing history as long as it still fails.
#[must_use]
pub fn shortest(ops: &[Op], fails: impl Fn(&[Op]) -> bool) -> Vec<Op> {
    let mut ops = ops.to_vec();
    loop {
        let before = ops.len();
        let mut at = ops.len();
        while at > 0 {
            at -= 1;
            let taken = ops.remove(at);
            if !fails(&ops) {
                ops.insert(at, taken);
            }
        }
        if ops.len() == before {
            return ops;
        }
    }
}

/// Someone listens, someone else runs a section, and perhaps something comes in between.
fn story(nesting: Nesting) -> impl Strategy<Value = Vec<Op>> {
    let between = prop_oneof![
        2 => Just(0),
        // The listener leaves, or leaves and comes back.
        3 => 1..4_u32,
    ];
    (
        task(),
        file(),
        task(),
        remote(),
        code(),
        between,
        act(nesting),
    )
        .prop_map(|(owner, file, worker, call, code, between, act)| {
            let handle = call.handles.first().copied().unwrap_or(call.common);
            let call = Act::Ioctl(file, Call::Remote(call));
            let disable = Op::Act(owner, Act::Ioctl(file, Call::Disable(0)));
            let enable = Op::Act(owner, call);
            let mut ops = vec![disable.clone(), enable.clone()];
            ops.push(Op::Act(worker, Act::Run(vec![Step::Start(handle), code])));
            match between {
                0 => {}
                1 => ops.push(disable),
                2 => ops.extend([disable, enable]),
                _ => ops.push(Op::Act(owner, act)),
            }
            ops.push(Op::Act(worker, Act::Run(vec![Step::Stop])));
            ops
        })
}

fn phrase(nesting: Nesting) -> impl Strategy<Value = Vec<Op>> {
    prop_oneof![
        20 => (task(), file(), size()).prop_map(|(t, f, words)| set_up(t, f, words)),
        20 => (task(), task(), spawn()).prop_map(|(by, child, how)| vec![Op::Spawn { by, how, child }]),
        8 => task().prop_map(|t| vec![Op::End(t)]),
        2 => task().prop_map(|t| vec![if t == Task(0) { Op::Exec(t) } else { Op::Kill(t) }]),
        12 => (task(), prop_oneof![3 => Just(1), 1 => 2..4_u32], failing_act(nesting)).prop_map(|(task, nth, act)| {
            vec![Op::Fail { task, nth }, Op::Act(task, act)]
        }),
        15 => story(nesting),
        100 => (task(), act(nesting)).prop_map(|(t, act)| vec![Op::Act(t, act)]),
        10 => (task(), 1..3_u32, vec(act(nesting), 1..3)).prop_map(|(task, rounds, acts)| {
            vec![Op::Begin { task, rounds, acts }, Op::Join(task)]
        }),
    ]
}

/// What every client does first.
fn set_up(task: Task, file: File, words: u64) -> Vec<Op> {
    let acts = [
        Act::Open(file),
        Act::Ioctl(file, Call::Init(words)),
        Act::Map {
            file,
            map: Map(file.0),
            len: words * 8,
            offset: 0,
            writable: true,
        },
    ];
    acts.map(|act| Op::Act(task, act)).to_vec()
}

fn task() -> impl Strategy<Value = Task> {
    prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(2), 1 => Just(3)].prop_map(Task)
}

fn file() -> impl Strategy<Value = File> {
    (0..4_u32).prop_map(File)
}

fn map() -> impl Strategy<Value = Map> {
    (0..4_u32).prop_map(Map)
}

fn spawn() -> impl Strategy<Value = Spawn> {
    prop_oneof![3 => Just(Spawn::Thread), 2 => Just(Spawn::Fork), 1 => Just(Spawn::Kernel)]
}

/// Sizes of buffers and areas, in words: around one, two and three records of either sort.
fn size() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![2, 3, 4, 5, 6, 8, 9, 10, 13, 20, 40, 600])
}

fn handle() -> impl Strategy<Value = u64> {
    const USB: u64 = 1 << 56;
    const USER: u64 = 0x80 << 56;
    prop_oneof![
        8 => prop::sample::select(vec![1, 2, USB, USB | 1, USER | 1]),
        1 => prop::sample::select(vec![0, 1 << 32, 2 << 56, u64::MAX]),
    ]
}

fn uncommon() -> impl Strategy<Value = u64> {
    handle().prop_map(|h| {
        if h >> 56 == 0 && h != 0 {
            h | 1 << 56
        } else {
            h
        }
    })
}

fn mode() -> impl Strategy<Value = u64> {
    prop_oneof![6 => Just(0), 3 => Just(1), 1 => prop::sample::select(vec![2, 3, 1 << 32, u64::MAX])]
}

/// The number of a call, a good one with a bit turned, or any.
fn number() -> impl Strategy<Value = u32> {
    let commands = Command::ALL.iter().map(|command| command.number());
    let known: Vec<u32> = commands.chain([ioctl::KCOV_INIT_TRACE_32]).collect();
    let known = prop::sample::select(known);
    prop_oneof![
        3 => known.clone(),
        2 => (known, 0..32_u32).prop_map(|(number, bit)| number ^ (1 << bit)),
        1 => any::<u32>(),
    ]
}

/// An argument that should be 0.
fn zero() -> impl Strategy<Value = u64> {
    prop_oneof![9 => Just(0), 1 => Just(1)]
}

fn failing_act(nesting: Nesting) -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => file().prop_map(Act::Open),
        1 => (file(), size()).prop_map(|(f, n)| Act::Ioctl(f, Call::Init(n))),
        3 => (file(), remote()).prop_map(|(f, call)| Act::Ioctl(f, Call::Remote(call))),
        // One start, since the model cannot know which of several failed.
        3 => (handle(), code(), any::<bool>()).prop_map(move |(handle, code, interrupt)| {
            let steps = vec![Step::Start(handle), code, Step::Stop];
            Act::Run(match (nesting, interrupt) {
                (_, false) => steps,
                (Nesting::Refuse, true) => vec![Step::Interrupt(Context::Softirq, steps)],
                (Nesting::Suspend, true) => vec![Step::Interrupt(Context::Signal, steps)],
            })
        }),
    ]
}

fn act(nesting: Nesting) -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => file().prop_map(Act::Open),
        1 => prop_oneof![file().prop_map(Act::Close), map().prop_map(Act::Unmap)],
        1 => (file(), size()).prop_map(|(f, n)| Act::Ioctl(f, Call::Init(n))),
        4 => (file(), mode()).prop_map(|(f, m)| Act::Ioctl(f, Call::Enable(m))),
        3 => (file(), zero()).prop_map(|(f, arg)| Act::Ioctl(f, Call::Disable(arg))),
        5 => (file(), remote()).prop_map(|(f, call)| Act::Ioctl(f, Call::Remote(call))),
        2 => (file(), 0..4_u64).prop_map(|(f, n)| Act::Ioctl(f, Call::Unique(n))),
        1 => (file(), zero()).prop_map(|(f, arg)| Act::Ioctl(f, Call::Reset(arg))),
        1 => (file(), number(), prop_oneof![0..9_u64, any::<u64>()]).prop_map(|(f, number, arg)| {
            Act::Ioctl(f, Call::Raw { number, arg })
        }),
        1 => (file(), size()).prop_map(|(f, n)| Act::Ioctl32(f, Call::Init(n))),
        1 => (file(), map(), size(), prop_oneof![9 => Just(0), 1 => Just(4096)]).prop_map(
            |(file, map, words, offset)| {
                Act::Map { file, map, len: words * 8, offset, writable: true }
            }
        ),
        3 => (map(), 0..3_u64, hostile()).prop_map(|(map, word, value)| Act::Poke { map, word, value }),
        14 => steps(nesting).prop_map(Act::Run),
    ]
}

/// What a hostile or careless client writes to its buffer.
fn hostile() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..12_u64,
        2 => prop::sample::select(vec![
            u64::MAX, u64::MAX - 1, 1 << 63, 1 << 62, 1 << 61, (1 << 61) - 1, 1 << 32, (1 << 32) - 1,
        ]),
        1 => any::<u64>(),
    ]
}

fn remote() -> impl Strategy<Value = RemoteCall> {
    let common = prop_oneof![2 => Just(0), 3 => 1..4_u64, 1 => handle()];
    let honest = (
        prop_oneof![7 => Just(0_u32), 3 => Just(1), 1 => Just(2)],
        prop_oneof![9 => size().prop_map(|n| n as u32), 1 => prop::sample::select(vec![0, 1, u32::MAX])],
        common,
        vec(uncommon(), 0..3),
    );
    let lies = prop_oneof![
        12 => Just((None, None, None)),
        1 => prop::sample::select(vec![0, 257, u32::MAX]).prop_map(|n| (Some(n), None, None)),
        1 => (0..3_u32).prop_map(|n| (None, Some(n), None)),
        1 => (0..48_u64).prop_map(|n| (None, None, Some(n))),
    ];
    (honest, lies).prop_map(
        |((mode, area, common, handles), (claim, then, readable))| RemoteCall {
            mode,
            area,
            common,
            handles,
            claim,
            then,
            readable,
        },
    )
}

fn code() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..200_u32, 1..7_u32).prop_map(|(first, count)| Step::Pcs { first, count }),
        2 => (0..4_u8, any::<bool>(), any::<u64>(), any::<u64>()).prop_map(
            |(log2, constant, arg1, arg2)| Step::Compare { log2, constant, arg1, arg2 }
        ),
        1 => (prop::sample::select(vec![8, 16, 32, 64, 7]), any::<u8>(), vec(0..9_u64, 0..4)).prop_map(
            |(bits, value, cases)| Step::Switch { bits, value: value.into(), cases }
        ),
        1 => Just(Step::CommonHandle),
    ]
}

fn simple_steps() -> BoxedStrategy<Vec<Step>> {
    let piece = prop_oneof![
        4 => code().prop_map(|step| vec![step]),
        2 => handle().prop_map(|h| vec![Step::Start(h)]),
        2 => Just(vec![Step::Stop]),
        4 => (handle(), code()).prop_map(|(h, code)| vec![Step::Start(h), code, Step::Stop]),
        // Deeper than any task can remember.
        1 => (handle(), 7..11_usize, code()).prop_map(|(h, depth, code)| {
            let mut steps = vec![Step::Start(h); depth];
            steps.push(code.clone());
            steps.push(Step::Stop);
            steps.push(code);
            steps
        }),
    ];
    vec(piece, 1..4).prop_map(|pieces| pieces.concat()).boxed()
}

fn steps(nesting: Nesting) -> BoxedStrategy<Vec<Step>> {
    let interrupt = match nesting {
        Nesting::Suspend => simple_steps()
            .prop_map(|steps| Step::Interrupt(Context::Signal, steps))
            .boxed(),
        Nesting::Refuse => {
            let hard = simple_steps().prop_map(|s| Step::Interrupt(Context::Hardirq, s));
            let hard = hard.boxed();
            let soft = (simple_steps(), proptest::option::of(hard.clone())).prop_map(
                |(mut steps, hard)| {
                    steps.extend(hard);
                    Step::Interrupt(Context::Softirq, steps)
                },
            );
            prop_oneof![4 => soft, 1 => hard].boxed()
        }
    };
    let piece = prop_oneof![
        5 => simple_steps(),
        2 => interrupt.prop_map(|step| vec![step]),
    ];
    vec(piece, 1..3).prop_map(|pieces| pieces.concat()).boxed()
}

/// Where a kcov and the model part.
#[derive(Debug)]
pub struct Divergence {
    /// The operations up to there, those that meant nothing left out.
    pub script: String,
    /// What the kcov did and what the model says.
    pub what: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n# {}", self.script, self.what)
    }
}

impl std::error::Error for Divergence {}

/// Tells a history to a new kcov and to its model, and compares all that can be seen of both after
/// each operation, and what is left behind at the end.
///
/// # Errors
/// The first operation after which something differs.
pub fn compare(ops: &[Op], new: fn() -> Box<dyn Observable>) -> Result<(), Divergence> {
    let mut told = Vec::new();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut kcov = new();
        let mut model = Model::new(kcov.traits().clone());
        tell(ops, &mut *kcov, &mut model, &mut told)?;
        kcov.close()
    }));
    let what = match result {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(what)) => what,
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(message) => format!("panicked: {message}"),
            None => "panicked".into(),
        },
    };
    let script = script::print(&told);
    Err(Divergence { script, what })
}

fn tell(
    ops: &[Op],
    kcov: &mut dyn Observable,
    model: &mut Model,
    told: &mut Vec<Op>,
) -> Result<(), String> {
    let trouble = |trouble: Trouble| trouble.to_string();
    let mut armed = false;
    for op in ops {
        told.push(op.clone());
        let outcome = kcov.apply(op).map_err(trouble)?;
        if outcome == Outcome::Absent {
            told.pop();
        }
        if let (Op::Fail { .. }, Outcome::Done) = (op, &outcome) {
            // The model makes other allocations: it is told when it is known whether one failed.
            armed = true;
            continue;
        }
        if let (true, Op::Act(task, _)) = (armed, op) {
            armed = false;
            // A kcov may get over a failed allocation.
            if kcov.failed().map_err(trouble)? && !survived(op, &outcome) {
                let (task, nth) = (*task, 1);
                model.apply(&Op::Fail { task, nth }).map_err(trouble)?;
            }
        }
        let expected = model.apply(op).map_err(trouble)?;
        if outcome != expected {
            return Err(format!("the rules: {outcome}; the model: {expected}"));
        }
        let (rules, model) = (kcov.observe(), model.observe());
        if rules != model {
            return Err(difference(&rules, &model));
        }
    }
    Ok(())
}

/// Whether a call that met an allocation failure answered what it would have without one.
fn survived(op: &Op, outcome: &Outcome) -> bool {
    let is_call = matches!(op, Op::Act(_, Act::Ioctl(..) | Act::Ioctl32(..)));
    is_call && *outcome != Errno::NoMem.into()
}

fn difference(rules: &Observed, model: &Observed) -> String {
    let mut lines = Vec::new();
    for number in 0..32 {
        let (a, b) = (
            rules.descriptors.get(&number),
            model.descriptors.get(&number),
        );
        if a != b {
            lines.push(format!(
                "descriptor {number}: the rules: {a:x?}; the model: {b:x?}"
            ));
        }
    }
    if rules.common != model.common {
        let (a, b) = (&rules.common, &model.common);
        lines.push(format!(
            "common handles: the rules: {a:x?}; the model: {b:x?}"
        ));
    }
    let numbers = [
        ("warnings", rules.warnings, model.warnings),
        ("too deep", rules.too_deep, model.too_deep),
        ("handles", rules.handles as u64, model.handles as u64),
    ];
    for (name, a, b) in numbers {
        if a != b {
            lines.push(format!("{name}: the rules: {a}; the model: {b}"));
        }
    }
    lines.join("\n# ")
}
