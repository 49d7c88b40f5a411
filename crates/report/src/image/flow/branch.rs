// SPDX-License-Identifier: MIT OR Apache-2.0
//! The branches of code, of whatever processor.

use std::ops::Range;

use super::callees::{Callee, Callees, Endless};

/// The instructions of one function at which control may go elsewhere than on.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// In the order of their addresses.
    pub(super) branches: Vec<Branch>,
    /// Where the code could not be read any further.
    pub(super) end: u64,
    /// Whether addresses are put into registers that calls may go through.
    pub(super) holds: bool,
}

/// One such instruction.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) at: u64,
    /// The address behind it.
    pub(super) end: u64,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// To the target, always.
    Jump(u64),
    /// To the target or on.
    Conditional(u64),
    /// Through a word in memory.
    JumpThrough(u64),
    /// Through a table with these targets.
    Table(Vec<u64>),
    /// To a computed place of the function, no matter which.
    Anywhere,
    /// Into a function that a register or an object names, as the last thing.
    Leave,
    /// Back to the caller.
    Return,
    Call(u64),
    CallThrough(u64),
    /// A check or a store in the place of a callback's call.
    Site,
    /// A call of what a register or an object names, or of the kernel.
    CallAny,
    /// It ends here.
    Trap,
}

impl Branch {
    pub(super) fn is_call(&self) -> bool {
        matches!(
            self.kind,
            Kind::Call(_) | Kind::CallThrough(_) | Kind::CallAny | Kind::Site
        )
    }

    /// What a call or a jump leads to; `None` for what leads nowhere else.
    pub(super) fn callee(&self, callees: &Callees<'_>) -> Option<Callee> {
        match self.kind {
            Kind::Call(target) | Kind::Jump(target) => Some(callees.at(target)),
            Kind::CallThrough(slot) | Kind::JumpThrough(slot) => Some(callees.through(slot)),
            Kind::Site => Some(Callee::Callback),
            _ => None,
        }
    }

    /// Where it jumps to, as far as that is known.
    pub(super) fn jump_targets(&self) -> &[u64] {
        match &self.kind {
            Kind::Jump(target) | Kind::Conditional(target) => std::slice::from_ref(target),
            Kind::Table(targets) => targets,
            _ => &[],
        }
    }

    /// Whether control never goes on behind it, whatever it leads to.
    pub(super) const fn is_end(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Conditional(_) | Kind::Call(_) | Kind::CallThrough(_) | Kind::CallAny
        )
    }

    /// Whether control may go on behind it.
    pub(super) fn goes_on(&self, callees: &Callees<'_>, endless: &Endless) -> bool {
        match self.kind {
            Kind::Conditional(_) | Kind::CallAny | Kind::Site => true,
            Kind::Call(_) | Kind::CallThrough(_) => match self.callee(callees) {
                Some(Callee::Endless) => false,
                Some(Callee::Function(entry)) => !endless.contains(entry),
                _ => true,
            },
            _ => false,
        }
    }
}

impl Scan {
    /// Whether any of it calls back.
    pub(super) fn calls_back(&self, callees: &Callees<'_>) -> bool {
        let mut branches = self.branches.iter();
        branches.any(|branch| branch.callee(callees) == Some(Callee::Callback))
    }
}

/// Whether no way leads out of a routine but into others that never return.
pub(super) fn never_returns(
    parts: &[(&Range<u64>, &Scan)],
    callees: &Callees<'_>,
    endless: &Endless,
) -> bool {
    let inside = |address: u64| parts.iter().any(|(range, _)| range.contains(&address));
    let stays = |branch: &Branch| match &branch.kind {
        Kind::Return | Kind::Anywhere | Kind::Leave => false,
        Kind::Call(_) | Kind::CallThrough(_) | Kind::CallAny | Kind::Site | Kind::Trap => true,
        Kind::Jump(target) | Kind::Conditional(target) if inside(*target) => true,
        Kind::Table(targets) => targets.iter().all(|target| inside(*target)),
        Kind::Jump(_) | Kind::Conditional(_) | Kind::JumpThrough(_) => {
            match branch.callee(callees) {
                Some(Callee::Endless) => true,
                Some(Callee::Function(entry)) => endless.contains(entry),
                _ => false,
            }
        }
    };
    parts.iter().all(|(range, scan)| {
        // What is read to its end ends with a branch, or control would run out of it.
        let last = scan.branches.last().map(|branch| branch.end);
        last == Some(range.end) && scan.branches.iter().all(stays)
    })
}

/// A function without callbacks, of which nothing tells what ran.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// What it calls or goes over to.
    pub(super) callees: Vec<u64>,
    /// Whether it calls what turns.
    pub(super) turns: bool,
}

/// What a function without callbacks does, if there is nothing in it but its callees that could keep it from
/// returning.
pub(super) fn plain(range: &Range<u64>, scan: &Scan, callees: &Callees<'_>) -> Option<Plain> {
    let mut plain = Plain::default();
    // What is read to its end ends with a branch, or control would run out of it.
    let last = scan.branches.last()?;
    if last.end != range.end && !callees.is_filler(&(last.end..range.end)) {
        return None;
    }
    for branch in &scan.branches {
        match &branch.kind {
            Kind::Return | Kind::Site => {}
            Kind::Jump(target) | Kind::Conditional(target) if range.contains(target) => {}
            Kind::Table(targets) if targets.iter().all(|target| range.contains(target)) => {}
            Kind::Jump(_) | Kind::JumpThrough(_) | Kind::Call(_) | Kind::CallThrough(_) => {
                match branch.callee(callees) {
                    Some(Callee::Function(entry)) => plain.callees.push(entry),
                    Some(Callee::Turns) => plain.turns = true,
                    Some(Callee::Returns | Callee::Callback) => {}
                    _ => return None,
                }
            }
            Kind::Conditional(target) => plain.callees.push(*target),
            Kind::Table(_) | Kind::Anywhere | Kind::Leave | Kind::CallAny | Kind::Trap => {
                return None
            }
        }
    }
    Some(plain)
}
