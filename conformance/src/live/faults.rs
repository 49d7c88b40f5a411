// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every allocation of a kernel on behalf of kcov's clients fails once, in every case.
//!
//! A case is played without failures first. Then each of its calls, and each piece of code that begins
//! a section, is made with its first allocation failing, again with the second, and so on until none
//! fails. A call that is refused must leave everything as it was, and a section that got no area must
//! be counted as dropped and leave no record: so the case goes on, and all that it checks must hold.
//! Where a failure made no difference there is nothing to make again; the case is played anew for the
//! next one. Last it is played without failures, by clients that have done nothing wrong.
//!
//! The kernel counts all its allocations for a task: those of files, of the page tables of a mapping and
//! of the test module are among them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rkcov_abi::Errno;
use rkcov_model::host::Site;
use rkcov_model::{
    script, Act, Call, Drops, File, Host, Need, Op, Outcome, Step, Task, Traits, Trouble,
};

use super::{kernel, Live};
use crate::cases::{cases, Case};
use crate::faults::{Tried, OPERATIONS};
use crate::stage::{expect, Checked, Stage, Stop};

/// How long a case may repeat itself each time, and how long it is played anew.
const ROUNDS: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets each allocation fail in each case that has `only` in its name, and calls `played` after each,
/// with how it did not stand it, if it did not.
///
/// # Errors
/// If this kernel has no kcov, or cannot let allocations fail.
pub fn search(
    device: &Path,
    only: &str,
    mut played: impl FnMut(&Case, &Tried, Option<Stop>),
) -> Result<Tried, Trouble> {
    let faults = Faults {
        device: device.to_owned(),
    };
    if let Some(why) = faults.live()?.traits().lacks.get(&Need::Failures) {
        return Err(Trouble::Lacks(Need::Failures, why.clone()));
    }
    let mut all = Tried::default();
    for case in cases().filter(|case| case.id.contains(only)) {
        let (mut tried, mut clean) = (Tried::default(), Script::default());
        let played_clean = faults.play(case, &mut clean);
        if let Err(Stop::Lacks(..)) = played_clean {
            continue;
        }
        let failed = played_clean.and_then(|()| faults.fail(case, clean, &mut tried));
        let stop = failed.err();
        tried.cases = 1;
        tried.allocating = u64::from(tried.failures > 0);
        played(case, &tried, stop);
        all.cases += tried.cases;
        all.allocating += tried.allocating;
        all.failures += tried.failures;
        all.left_out += tried.left_out;
    }
    Ok(all)
}

struct Faults {
    device: PathBuf,
}

impl Faults {
    fn live(&self) -> Result<Live, Trouble> {
        Live::new(kernel::setup(&self.device)?)
    }

    /// Plays a case, of which it is known what it tells, with every failure, and looks at what must hold
    /// after them.
    fn fail(&self, case: &Case, clean: Script, tried: &mut Tried) -> Checked {
        let mut failing = Script::of_failures(clean.told);
        let mut live = self.live()?;
        let warnings = live.warnings()?;
        let before = Stage::new(&mut live).memory()?;
        drop(live);
        let began = Instant::now();
        while failing.is_left() && began.elapsed() < PATIENCE {
            let known = failing.next.clone();
            let played = self.play(case, &mut failing);
            tried.failures += std::mem::take(&mut failing.failures);
            if !failing.spoilt {
                played?;
            }
            if failing.next == known {
                break;
            }
        }
        tried.left_out += failing.next.iter().flatten().count() as u64;
        self.play(case, &mut Script::default())?;
        let mut live = self.live()?;
        let new = live.warnings()? - warnings;
        expect(new == 0, || format!("the kernel gave {new} warnings"))?;
        Stage::new(&mut live).memory_is_back(before)
    }

    fn play(&self, case: &Case, script: &mut Script) -> Checked {
        let live = self.live()?;
        let mut traits = live.traits().clone();
        traits.patience = Some(ROUNDS);
        script.spoilt = false;
        let mut host = Failing {
            live,
            traits,
            script,
            at: 0,
            no_area: 0,
        };
        case.play(&mut Stage::new(&mut host))
    }
}

/// What a case tells the host, and what of it is to fail.
#[derive(Default)]
struct Script {
    told: Vec<(Op, Outcome)>,
    /// For each operation the allocation that is to fail next, unless none is.
    next: Vec<Option<u32>>,
    failures: u64,
    /// Whether something was dropped in the middle of a piece of code, which cannot be run again: what
    /// the case checks then need not hold.
    spoilt: bool,
}

impl Script {
    /// Of what was told without failures.
    fn of_failures(told: Vec<(Op, Outcome)>) -> Self {
        let mut known = HashSet::new();
        let next = told.iter().enumerate().take(OPERATIONS);
        let next = next.map(|(at, (op, outcome))| {
            let before = at.checked_sub(1).map(|at| &told[at].0);
            let armed = matches!(before, Some(Op::Fail { .. }));
            if *outcome == Outcome::Absent || armed || !may_allocate(op) {
                return None;
            }
            // The same round again says nothing new.
            let around = told[at.saturating_sub(1)..(at + 2).min(told.len())].iter();
            let around: Vec<Op> = around.map(|(op, _)| op.clone()).collect();
            known.insert(script::print(&around)).then_some(1)
        });
        Self {
            next: next.collect(),
            told,
            ..Self::default()
        }
    }

    fn is_left(&self) -> bool {
        self.next.iter().any(Option::is_some)
    }
}

/// A kernel whose allocations fail as a script says. Without any it keeps what it is told.
struct Failing<'s> {
    live: Live,
    traits: Traits,
    script: &'s mut Script,
    at: usize,
    /// Sections that got no area because of us.
    no_area: u64,
}

/// What became of an operation, an allocation of which failed.
enum Became {
    /// The same as without that.
    Same,
    /// Nothing.
    Nothing,
    /// A part of it.
    Part,
}

impl Failing<'_> {
    /// Makes an operation happen with one allocation failing after the other, until it did happen.
    fn fail(&mut self, task: Task, op: &Op, at: usize) -> Result<Outcome, Trouble> {
        while let Some(nth) = self.script.next[at] {
            let armed = self.live.apply(&Op::Fail { task, nth })?;
            if armed != Outcome::Done {
                return Err(Trouble::Broken(format!("`{task} fail {nth}`: {armed}")));
            }
            let before = no_area()?;
            let answer = self.live.apply(op);
            if !self.live.failed()? {
                self.script.next[at] = None;
                return answer;
            }
            self.script.failures += 1;
            self.script.next[at] = Some(nth + 1);
            let dropped = no_area()? - before;
            self.no_area += dropped;
            match became(op, &answer, &self.script.told[at].1, dropped) {
                Some(Became::Nothing) => {}
                Some(Became::Same) => return answer,
                Some(Became::Part) => {
                    self.script.spoilt = true;
                    return answer;
                }
                None => {
                    let answer = answer.map_or_else(|e| e.to_string(), |o| o.to_string());
                    let what = format!("`{op}`, whose allocation {nth} failed: {answer}");
                    return Err(Trouble::Broken(what));
                }
            }
        }
        self.live.apply(op)
    }
}

/// What the answer to an operation says of it, if it is one that may be given.
fn became(
    op: &Op,
    answer: &Result<Outcome, Trouble>,
    without: &Outcome,
    dropped: u64,
) -> Option<Became> {
    let again = |whole| if whole { Became::Nothing } else { Became::Part };
    let Op::Act(_, Act::Run(steps)) = op else {
        return match answer {
            Ok(outcome) if outcome == without => Some(Became::Same),
            Ok(outcome) if *outcome == Outcome::from(Errno::NoMem) => Some(Became::Nothing),
            _ => None,
        };
    };
    match answer {
        // The test module could not read the line, or not say what was seen.
        Err(_) => Some(again(!steps.contains(&Step::CommonHandle))),
        Ok(_) if dropped > 0 => Some(again(is_one_section(steps))),
        Ok(outcome) if outcome == without => Some(Became::Same),
        Ok(_) => None,
    }
}

/// Whether these are a section and nothing else.
fn is_one_section(steps: &[Step]) -> bool {
    let [Step::Start(_), inner @ .., Step::Stop] = steps else {
        return false;
    };
    let plain = |step: &Step| {
        matches!(
            step,
            Step::Pcs { .. } | Step::Compare { .. } | Step::Switch { .. }
        )
    };
    inner.iter().all(plain)
}

/// Whether a kcov may allocate something for this, or the kernel on its way there.
fn may_allocate(op: &Op) -> bool {
    let Op::Act(_, act) = op else { return false };
    match act {
        Act::Open(_) | Act::Map { .. } => true,
        // One that is changed meanwhile is many calls.
        Act::Ioctl(_, Call::Remote(call)) | Act::Ioctl32(_, Call::Remote(call)) => {
            call.then.is_none()
        }
        Act::Ioctl(..) | Act::Ioctl32(..) => true,
        Act::Run(steps) => steps.iter().any(|step| matches!(step, Step::Start(_))),
        _ => false,
    }
}

fn no_area() -> Result<u64, Trouble> {
    Ok(kernel::dropped()?[2])
}

impl Host for Failing<'_> {
    fn traits(&self) -> &Traits {
        &self.traits
    }

    fn apply(&mut self, op: &Op) -> Result<Outcome, Trouble> {
        let at = self.at;
        self.at += 1;
        let told = self.script.told.get(at).is_some_and(|(told, _)| told == op);
        match op {
            Op::Act(task, _)
                if told
                    && !self.script.spoilt
                    && self.script.next.get(at).is_some_and(Option::is_some) =>
            {
                self.fail(*task, op, at)
            }
            _ => {
                let outcome = self.live.apply(op)?;
                if self.script.next.is_empty() {
                    self.script.told.push((op.clone(), outcome.clone()));
                }
                Ok(outcome)
            }
        }
    }

    fn pc(&self, site: Site) -> u64 {
        self.live.pc(site)
    }

    fn drops(&mut self, task: Task, file: File) -> Result<Drops, Trouble> {
        let mut drops = self.live.drops(task, file)?;
        // A new image counts anew.
        drops.no_area = drops.no_area.saturating_sub(self.no_area);
        Ok(drops)
    }

    fn warnings(&mut self) -> Result<u64, Trouble> {
        self.live.warnings()
    }

    fn memory(&mut self) -> Result<u64, Trouble> {
        self.live.memory()
    }

    fn failed(&mut self) -> Result<bool, Trouble> {
        self.live.failed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(text: &str) -> Op {
        script::parse_op(text).unwrap()
    }

    #[test]
    fn what_allocates_fails_once_in_each_surrounding() {
        let told = [
            ("t0 open f0", Outcome::Done),
            ("t0 open f0", Outcome::Absent),
            ("t0 fail 1", Outcome::Done),
            ("t0 init f0 512", Outcome::from(Errno::NoMem)),
            ("t0 init f0 512", Outcome::Done),
            ("t0 close f0", Outcome::Done),
            ("t0 run pcs 0 1", Outcome::Done),
            ("t0 run start usb:9 stop", Outcome::Done),
            ("t0 run start usb:9 stop", Outcome::Done),
            ("t0 run start usb:9 stop", Outcome::Done),
            ("t0 run start usb:9 stop", Outcome::Done),
        ];
        let told = told.map(|(text, outcome)| (op(text), outcome));
        let failing = Script::of_failures(told.into());
        let chosen: Vec<usize> = (0..11).filter(|at| failing.next[*at].is_some()).collect();
        assert_eq!(chosen, [0, 4, 7, 8, 10]);
    }

    #[test]
    fn a_refused_call_is_told_from_one_that_went_wrong() {
        let init = op("t0 init f0 512");
        let said = |answer| became(&init, &Ok(answer), &Outcome::Done, 0);
        assert!(matches!(said(Outcome::Done), Some(Became::Same)));
        let refused = Outcome::from(Errno::NoMem);
        assert!(matches!(said(refused), Some(Became::Nothing)));
        assert!(said(Outcome::from(Errno::Inval)).is_none());
        let trouble = Err(Trouble::Broken("gone".into()));
        assert!(became(&init, &trouble, &Outcome::Done, 0).is_none());
    }

    #[test]
    fn what_was_dropped_is_run_again_if_it_was_all() {
        let said = |text, dropped| became(&op(text), &Ok(Outcome::Done), &Outcome::Done, dropped);
        let one = "t0 run start usb:9 pcs 0 3 stop";
        assert!(matches!(said(one, 0), Some(Became::Same)));
        assert!(matches!(said(one, 1), Some(Became::Nothing)));
        let two = "t0 run start usb:9 stop start usb:9 stop";
        assert!(matches!(said(two, 1), Some(Became::Part)));
    }
}
