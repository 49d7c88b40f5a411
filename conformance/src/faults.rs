// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every allocation of every case fails once.
//!
//! A case is played without failures first. What it told the host is then told again, once for each
//! allocation that the rules made, with that one failing, to the rules and to the model: all that
//! can be seen must agree to the end, and nothing may be left behind.

use std::collections::HashSet;
use std::fmt;

use rkcov_model::{script, Act, Op, Step, Task};

use crate::cases::{cases, Case};
use crate::history::{compare, Divergence};
use crate::sim::Observable;
use crate::stage::Stage;

/// How many operations of one case are told: of a case that repeats itself for thousands of rounds,
/// the first rounds.
pub(crate) const OPERATIONS: usize = 60;

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Cases.
    pub cases: u64,
    /// Those among them that allocate.
    pub allocating: u64,
    /// Failures: one allocation of one case each.
    pub failures: u64,
    /// Allocations that could not be made to fail one by one: of two in one interrupt, the model
    /// cannot know which it was.
    pub left_out: u64,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} failures in {} of {} cases, {} left out",
            self.failures, self.allocating, self.cases, self.left_out
        )
    }
}

/// A case that went wrong.
#[derive(Debug)]
pub struct Wrong {
    /// The case.
    pub case: &'static str,
    /// Where rules and model parted.
    pub divergence: Divergence,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "# {}\n{}", self.case, self.divergence)
    }
}

/// Lets each allocation of each case fail once.
///
/// # Errors
/// The first case that does not stand it.
pub fn search(new: fn() -> Box<dyn Observable>) -> Result<Tried, Wrong> {
    let mut tried = Tried::default();
    for case in cases() {
        tried.cases += 1;
        let before = tried.failures;
        for history in failing(case, new, &mut tried) {
            let case = case.id;
            compare(&history, new).map_err(|divergence| Wrong { case, divergence })?;
            tried.failures += 1;
        }
        tried.allocating += u64::from(tried.failures > before);
    }
    Ok(tried)
}

/// The histories of a case in which one allocation fails.
fn failing(case: &Case, new: fn() -> Box<dyn Observable>, tried: &mut Tried) -> Vec<Vec<Op>> {
    let ops = told(case, new);
    let mut kcov = new();
    let mut histories = Vec::new();
    let mut known = HashSet::new();
    let mut armed = false;
    for (at, op) in ops.iter().enumerate() {
        let before = kcov.allocations();
        if kcov.apply(op).is_err() {
            break;
        }
        let made = kcov.allocations() - before;
        let fails_already = std::mem::replace(&mut armed, matches!(op, Op::Fail { .. }));
        let Some(task) = one_at_a_time(op).filter(|_| !fails_already) else {
            tried.left_out += made;
            continue;
        };
        // The same round again says nothing new.
        let around = &ops[at.saturating_sub(1)..(at + 2).min(ops.len())];
        if made == 0 || !known.insert(script::print(around)) {
            continue;
        }
        for nth in 1..=u32::try_from(made).unwrap_or(u32::MAX) {
            let fail = Op::Fail { task, nth };
            let (head, tail) = ops.split_at(at);
            histories.push([head, &[fail], tail].concat());
        }
    }
    histories
}

/// What a case tells the rules, its code cut into pieces that allocate once at most.
fn told(case: &Case, new: fn() -> Box<dyn Observable>) -> Vec<Op> {
    let mut kcov = new();
    let mut stage = Stage::new(&mut *kcov);
    // What applies on this host is a history, whatever the case says of it.
    let _ = case.play(&mut stage);
    let pieces = stage.told().iter().flat_map(|op| match op {
        Op::Act(task, Act::Run(steps)) => {
            let piece = |step: &Step| Op::Act(*task, Act::Run(vec![step.clone()]));
            steps.iter().map(piece).collect()
        }
        other => vec![other.clone()],
    });
    pieces.take(OPERATIONS).collect()
}

/// Who does this, if the model can know which of its allocations failed.
fn one_at_a_time(op: &Op) -> Option<Task> {
    match op {
        Op::Act(task, act) if is_one_at_a_time(act) => Some(*task),
        _ => None,
    }
}

/// Whether the model can know which allocation of this failed: any of a call, since they all end it, or
/// the only one of a piece of code.
pub(crate) fn is_one_at_a_time(act: &Act) -> bool {
    fn starts(steps: &[Step]) -> usize {
        let of = |step: &Step| match step {
            Step::Start(_) => 1,
            Step::Interrupt(_, steps) => starts(steps),
            _ => 0,
        };
        steps.iter().map(of).sum()
    }
    match act {
        Act::Run(steps) => starts(steps) <= 1,
        _ => true,
    }
}
