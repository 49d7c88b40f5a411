// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a recorded PC says of the code around it.
//!
//! A compiler inserts at most one callback per basic block; clang omits callbacks in blocks whose
//! execution follows from others, and no block ends at a call. One rule on the machine code decides the
//! rest. A path is possible unless it goes through a callback that was not recorded. Code is covered if
//! all possible paths to a recorded callback, or all possible paths from there on, go through it. A call
//! may leave the function, unless no code that may have run in its callee, or in the callee's callees,
//! leaves it. Code that no possible path leads to is uncovered. All other code is unknown.
//!
//! Records of a stream may begin and end in the middle of a function, in calls. What ran before or after is
//! credited to "someone".
//!
//! Assumptions: a loop with an exit ends, and so does recursion; instructions do not fault; the process
//! is not killed in the middle of a block. `docs/report.md` has all of them.

mod ahead;
mod arm64;
mod branch;
mod callees;
mod dominators;
mod graph;
mod held;
mod machine;
mod possible;
mod stored;
mod x86;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::elf::{ElfFile, Function};
pub(crate) use ahead::{Ahead, Position, Site};
use branch::{Branch, Plain, Scan};
use callees::{Callee, Callees};
use graph::Graph;
use possible::{Marks, Possible, Records};
pub(crate) use possible::{Shortcut, Weight};

/// The instrumented code of an image.
#[derive(Debug)]
pub(crate) struct Flow {
    routines: Vec<Routine>,
    /// The functions that may be asked whether they return: first the routines, then others.
    calls: Calls,
    /// Return addresses of callbacks: the routine, and the block that calls.
    sites: FxHashMap<u64, (usize, usize)>,
    /// The calls of callbacks, by where they stand, and where they return.
    callbacks: FxHashMap<u64, u64>,
}

/// A function with all of its parts: compilers put what seldom runs elsewhere.
#[derive(Debug, Serialize, Deserialize)]
struct Routine {
    entry: u64,
    graph: Graph,
}

/// Who calls whom.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Calls {
    /// By entry.
    numbers: FxHashMap<u64, usize>,
    /// The callers of each.
    callers: Vec<Vec<usize>>,
    /// Those that cannot return, whatever ran.
    never: Vec<usize>,
    /// Whether each calls what turns, or what it calls does.
    turning: Vec<bool>,
}

/// A piece of code and who ran it.
pub(crate) struct Piece<W> {
    pub(crate) range: Range<u64>,
    /// Who is known to have run it.
    pub(crate) weight: W,
    pub(crate) doubt: Doubt<W>,
    /// Whether a function begins here.
    pub(crate) entry: bool,
    /// Whether some of the function's code here ran, this piece or another.
    pub(crate) alive: bool,
    /// Ways around the jump that it ends with.
    pub(crate) shortcut: Option<Box<Shortcut<W>>>,
}

impl<W> Piece<W> {
    /// Whether a function begins at this address of the piece.
    pub(crate) fn begins_at(&self, address: u64) -> bool {
        self.entry && address == self.range.start && !self.range.is_empty()
    }
}

/// Who else may have run a piece of code.
#[derive(Clone)]
pub(crate) enum Doubt<W> {
    Nobody,
    /// Some of these.
    Some(W),
    Anybody,
}

impl Flow {
    /// Takes the code of an image apart. `None` if none of it is instrumented, or if it is of a
    /// processor that is not known here.
    pub(crate) fn new(binary: &ElfFile, functions: &[Function]) -> Option<Self> {
        let object = binary.object()?;
        let callees = Callees::new(&object, functions)?;
        if !callees.has_callbacks() {
            return None;
        }
        let mut scans: Vec<Scan> = functions
            .par_iter()
            .map(|function| callees.scan(&function.range))
            .collect();
        follow_registers(&mut scans, functions, &callees);
        let groups = groups(functions, &scans);
        let endless = endless(&groups, functions, &scans, &callees);

        let (with, without): (Vec<&Vec<usize>>, Vec<&Vec<usize>>) = groups
            .iter()
            .partition(|group| group.iter().any(|&part| scans[part].calls_back(&callees)));
        let found: Vec<(Routine, Found)> = with
            .par_iter()
            .map(|group| routine(group, functions, &scans, &callees, &endless))
            .collect();
        let plain: Vec<(u64, Plain)> = without
            .par_iter()
            .filter_map(|group| {
                let [part] = group[..] else { return None };
                let range = &functions[part].range;
                Some((range.start, branch::plain(range, &scans[part], &callees)?))
            })
            .collect();
        let mut flow = Self {
            routines: Vec::new(),
            calls: Calls::default(),
            sites: FxHashMap::default(),
            callbacks: FxHashMap::default(),
        };
        let mut tails: FxHashMap<u64, (usize, usize)> = FxHashMap::default();
        for (routine, found) in found {
            let number = flow.routines.len();
            flow.routines.push(routine);
            let sites = found.sites.iter();
            flow.sites
                .extend(sites.map(|(call, block)| (call.end, (number, *block))));
            let calls = found.sites.into_iter().map(|(call, _)| call);
            flow.callbacks
                .extend(calls.map(|call| (call.start, call.end)));
            tails.extend(found.tail.map(|(entry, block)| (entry, (number, block))));
        }
        flow.tail_calls(&scans, &callees, &tails);
        flow.calls = Calls::new(&flow.routines, &plain);
        let Self {
            routines, calls, ..
        } = &mut flow;
        for routine in routines {
            routine
                .graph
                .with_turns(|entry| calls.is_in(entry, &calls.turning));
        }
        (!flow.sites.is_empty()).then_some(flow)
    }

    /// A callback that a function ends with becomes a jump, and what is recorded is the place that
    /// called the function. Such a place is a site of the function's block, too.
    fn tail_calls(
        &mut self,
        scans: &[Scan],
        callees: &Callees<'_>,
        tails: &FxHashMap<u64, (usize, usize)>,
    ) {
        for branch in scans.iter().flat_map(|scan| &scan.branches) {
            if let Some(Callee::Function(entry)) = branch.callee(callees) {
                if let Some(block) = tails.get(&entry) {
                    self.sites.entry(branch.end).or_insert(*block);
                }
            }
        }
    }

    /// The calls of callbacks, by where they stand, and where they return.
    pub(crate) const fn callbacks(&self) -> &FxHashMap<u64, u64> {
        &self.callbacks
    }

    /// How many places call back.
    pub(crate) fn sites(&self) -> usize {
        self.sites.len()
    }

    /// All instrumented code, with what follows from the weights of recorded PCs; the default
    /// weight for what is not known to have run. Whoever is in `lossy` may have run more than was
    /// recorded; `someone` stands for nobody in particular. What is left in `hits` are PCs that no place
    /// here accounts for.
    pub(crate) fn spread<W: Weight>(
        &self,
        hits: &mut BTreeMap<u64, W>,
        lossy: &W,
        someone: &W,
    ) -> Vec<Piece<W>> {
        let mut weights: Vec<Vec<W>> = self
            .routines
            .iter()
            .map(|routine| vec![W::default(); routine.graph.len()])
            .collect();
        hits.retain(|pc, weight| {
            let site = self.sites.get(pc);
            if let Some(&(routine, block)) = site {
                weights[routine][block].same_place(weight);
            }
            site.is_none()
        });
        let returning = self.returning(&weights, lossy);
        let returns = |entry| self.calls.is_in(entry, &returning);
        let mut states: Vec<State<'_, W>> = self
            .routines
            .par_iter()
            .zip(weights)
            .map(|(routine, weights)| routine.state(weights, lossy, someone, returns))
            .collect();
        self.spread_returns(&mut states, lossy, someone);
        let entered: Vec<Option<W>> = states
            .par_iter()
            .map(|state| state.entered_by(lossy))
            .collect();
        let enters = |entry| entered.get(*self.calls.numbers.get(&entry)?)?.as_ref();
        self.routines
            .par_iter()
            .zip(states)
            .flat_map_iter(|(routine, state)| routine.pieces(&state, lossy, enters))
            .collect()
    }

    /// Who went on behind a call came back from it: in the function that was called, all that lies
    /// on every way to a return ran, which may tell the same of those that it calls.
    fn spread_returns<W: Weight>(&self, states: &mut [State<'_, W>], lossy: &W, someone: &W) {
        // Each round goes one call deeper. What is not found is not known.
        const ROUNDS: usize = 16;
        let mut came_back: FxHashMap<usize, W> = FxHashMap::default();
        let mut open: Vec<usize> = (0..self.routines.len()).collect();
        for _ in 0..ROUNDS {
            let mut news: BTreeSet<usize> = BTreeSet::new();
            for caller in open.drain(..) {
                for (entry, on) in self.routines[caller].graph.returned_to() {
                    let weight = &states[caller].weights[on];
                    let callee = self.calls.numbers.get(&entry);
                    let callee = callee.filter(|callee| **callee < self.routines.len());
                    let (Some(callee), false) = (callee, weight.is_none()) else {
                        continue;
                    };
                    if came_back.entry(*callee).or_default().ran_with(weight) {
                        news.insert(*callee);
                    }
                }
            }
            if news.is_empty() {
                break;
            }
            let mut changed: Vec<(usize, &mut State<'_, W>)> =
                states.iter_mut().enumerate().collect();
            changed.retain(|(callee, state)| news.contains(callee) && state.fits);
            open = changed
                .into_par_iter()
                .filter_map(|(callee, state)| {
                    state
                        .came_back(&came_back[&callee], lossy, someone)
                        .then_some(callee)
                })
                .collect();
        }
    }

    /// Which functions came back from each call, as far as can be known: all of which no call can
    /// have ended in another way. Those that call each other are taken together.
    fn returning<W: Weight>(&self, weights: &[Vec<W>], lossy: &W) -> Vec<bool> {
        let mut returning = vec![true; self.calls.callers.len()];
        let mut fallen = self.calls.never.clone();
        let mut open: Vec<usize> = (0..self.routines.len()).collect();
        loop {
            let returns = |entry| self.calls.is_in(entry, &returning);
            let not: Vec<usize> = open
                .par_iter()
                .copied()
                .filter(|&number| match self.routines.get(number) {
                    Some(routine) => {
                        let possible = routine.possible(&weights[number], lossy, returns);
                        !possible.returns(returns)
                    }
                    None => true,
                })
                .collect();
            fallen.extend(not);
            open.clear();
            for number in fallen.drain(..) {
                if std::mem::replace(&mut returning[number], false) {
                    open.extend(&self.calls.callers[number]);
                }
            }
            open.sort_unstable();
            open.dedup();
            open.retain(|number| returning[*number]);
            if open.is_empty() {
                return returning;
            }
        }
    }
}

impl Calls {
    fn new(routines: &[Routine], plain: &[(u64, Plain)]) -> Self {
        let entries = routines.iter().map(|routine| routine.entry);
        let entries = entries.chain(plain.iter().map(|(entry, _)| *entry));
        let numbers: FxHashMap<u64, usize> = entries.zip(0..).collect();
        let mut calls = Self {
            callers: vec![Vec::new(); routines.len() + plain.len()],
            numbers,
            never: Vec::new(),
            turning: Vec::new(),
        };
        for (caller, routine) in routines.iter().enumerate() {
            // Whether it calls what is not known depends on what ran.
            for entry in routine.graph.callees() {
                if let Some(callee) = calls.numbers.get(&entry) {
                    calls.callers[*callee].push(caller);
                }
            }
        }
        for (caller, (_, plain)) in (routines.len()..).zip(plain) {
            for entry in &plain.callees {
                match calls.numbers.get(entry) {
                    Some(callee) => calls.callers[*callee].push(caller),
                    None => calls.never.push(caller),
                }
            }
        }
        let routines = routines.iter().map(|routine| routine.graph.turns());
        let direct = routines.chain(plain.iter().map(|(_, plain)| plain.turns));
        calls.turning = vec![false; calls.callers.len()];
        let mut open: Vec<usize> = (0..)
            .zip(direct)
            .filter_map(|(n, turns)| turns.then_some(n))
            .collect();
        while let Some(number) = open.pop() {
            if !std::mem::replace(&mut calls.turning[number], true) {
                open.extend(&calls.callers[number]);
            }
        }
        calls
    }

    fn is_in(&self, entry: u64, set: &[bool]) -> bool {
        self.numbers.get(&entry).is_some_and(|number| set[*number])
    }
}

impl Routine {
    fn possible<W: Weight>(
        &self,
        weights: &[W],
        lossy: &W,
        returns: impl Fn(u64) -> bool,
    ) -> Possible<'_> {
        let recorded = |block: usize| !lossy.is_none() || !weights[block].is_none();
        self.graph.possible(recorded, returns)
    }

    fn state<W: Weight>(
        &self,
        mut weights: Vec<W>,
        lossy: &W,
        someone: &W,
        returns: impl Fn(u64) -> bool,
    ) -> State<'_, W> {
        let recorded = weights.clone();
        let mut possible = self.possible(&weights, lossy, returns);
        let fits = |block: usize| weights[block].is_none() || possible.is_alive(block);
        let fits = (0..weights.len()).all(fits);
        if !fits {
            possible = self.graph.anything();
        }
        let records = Records {
            by: &recorded,
            lossy,
            someone,
        };
        let marks = possible.spread(&mut weights, &records);
        State {
            recorded,
            weights,
            possible,
            fits,
            marks,
        }
    }

    /// `enters` says who can have entered a function.
    fn pieces<'a, W: Weight + 'a>(
        &self,
        state: &State<'_, W>,
        lossy: &W,
        enters: impl Fn(u64) -> Option<&'a W>,
    ) -> Vec<Piece<W>> {
        let strays = state.strays();
        let can = |mark: usize| {
            let mut some = state.recorded[mark].clone();
            some.ran_with(lossy);
            some
        };
        let doubt = |block: usize| {
            if !state.possible.is_alive(block) {
                return Doubt::Nobody;
            }
            let above = state.marks.above[block];
            if above == Some(block) && lossy.is_none() {
                return Doubt::Nobody;
            }
            let above = above.filter(|_| !state.marks.turned[block]).map(|mark| {
                let mut some = can(mark);
                if mark != block {
                    some.ran_with(&strays);
                }
                some
            });
            let below = state.marks.below[block].map(can);
            let called = match self.graph.exit(block) {
                graph::Exit::Call(entry) => enters(entry).cloned(),
                _ => None,
            };
            let some = [above, below, called].into_iter().flatten();
            some.reduce(|a, b| a.both(&b))
                .map_or(Doubt::Anybody, Doubt::Some)
        };
        let alive = state.weights.iter().any(|weight| !weight.is_none());
        let blocks = self.graph.blocks().enumerate();
        blocks
            .map(|(block, range)| Piece {
                entry: range.start == self.entry,
                alive,
                shortcut: state.possible.shortcut(block, &state.weights).map(Box::new),
                range,
                weight: state.weights[block].clone(),
                doubt: doubt(block),
            })
            .collect()
    }
}

/// What is known of a routine while what follows from other routines is added.
struct State<'f, W> {
    /// What was recorded.
    recorded: Vec<W>,
    /// What is known to have run.
    weights: Vec<W>,
    possible: Possible<'f>,
    /// Whether what was recorded fits the code.
    fits: bool,
    marks: Marks,
}

impl<W: Weight> State<'_, W> {
    /// Adds that somebody came back from the routine. Whether that tells anything new.
    fn came_back(&mut self, who: &W, lossy: &W, someone: &W) -> bool {
        let records = Records {
            by: &self.recorded,
            lossy,
            someone,
        };
        let mut more = false;
        for block in self.possible.on_all_ways_back() {
            let mut ran = who.clone();
            if let Some(mark) = self.marks.above[block] {
                // Their records began when they were in it.
                let began = records.not_at(mark, who);
                if !began.is_none() {
                    ran = match mark == block {
                        true => records.rest(block, who, &began),
                        false => who.without(&began),
                    };
                    if mark != block {
                        ran.ran_with(someone);
                    }
                }
            }
            more |= self.weights[block].ran_with(&ran);
        }
        if more {
            self.marks = self.possible.spread(&mut self.weights, &records);
        }
        more
    }

    /// Who can have entered the routine, if its callbacks tell.
    fn entered_by(&self, lossy: &W) -> Option<W> {
        let first = self.possible.first_sited().filter(|_| self.fits)?;
        let mut all = self.recorded[first].clone();
        all.ran_with(lossy);
        Some(all)
    }

    /// Those whose records began in the middle of the routine.
    fn strays(&self) -> W {
        let mut strays = W::default();
        for (block, recorded) in self.recorded.iter().enumerate() {
            if recorded.is_none() {
                continue;
            }
            if let Some(mark) = self.possible.mark_before(block, &self.marks) {
                strays.ran_with(&recorded.without(&self.recorded[mark]));
            }
        }
        strays
    }
}

/// What a routine calls back with.
struct Found {
    /// The calls, from where they stand to where they return, and their blocks.
    sites: Vec<(Range<u64>, usize)>,
    /// The entry, and the one block that ends with a jump to the callback.
    tail: Option<(u64, usize)>,
}

fn routine(
    group: &[usize],
    functions: &[Function],
    scans: &[Scan],
    callees: &Callees<'_>,
    endless: &callees::Endless,
) -> (Routine, Found) {
    let parts: Vec<_> = group
        .iter()
        .map(|&part| (&functions[part].range, &scans[part]))
        .collect();
    let entered = |part: usize| part == 0 || !is_part(&functions[group[part]]);
    let mut graph = Graph::new(&parts, entered, callees, endless);
    let mut sites = Vec::new();
    let mut tails = Vec::new();
    for branch in parts.iter().flat_map(|(_, scan)| &scan.branches) {
        if branch.callee(callees) == Some(Callee::Callback) {
            let Some(block) = graph.block_of(branch.at) else {
                continue;
            };
            if branch.is_call() {
                sites.push((branch.at..branch.end, block));
            } else {
                tails.push(block);
            }
        }
    }
    let entry = parts[0].0.start;
    let tail = match tails[..] {
        [block] => Some((entry, block)),
        _ => None,
    };
    graph.with_sites(sites.iter().map(|(_, block)| *block), callees.gated);
    (Routine { entry, graph }, Found { sites, tail })
}

/// Whether it is the part of a function that a compiler put elsewhere: since it seldom runs, or since
/// each block has a section of its own, as clang does with `-fbasic-block-sections`.
fn is_part(function: &Function) -> bool {
    whole(&function.name).is_some()
}

/// The name of the function that this is a part of, if it is one.
fn whole(name: &str) -> Option<&str> {
    let end = name.find(".cold").or_else(|| name.find(".__part."))?;
    name.get(..end)
}

/// Finds out where calls through registers lead, in the functions that put addresses there.
fn follow_registers(scans: &mut [Scan], functions: &[Function], callees: &Callees<'_>) {
    if !scans.iter().any(|scan| scan.holds) {
        return;
    }
    let entered: BTreeSet<u64> = functions
        .iter()
        .zip(&*scans)
        .flat_map(|(function, scan)| {
            let targets = scan.branches.iter().flat_map(Branch::jump_targets);
            targets.filter(|target| !function.range.contains(target))
        })
        .copied()
        .collect();
    let with = scans.par_iter_mut().zip(functions);
    with.filter(|(scan, _)| scan.holds)
        .for_each(|(scan, function)| {
            if let Some(code) = callees.code(&function.range) {
                held::resolve(scan, function.range.start, code, &entered);
            }
        });
}

/// Which functions are parts of one routine: those that jump into each other's middle, and a
/// part with what jumps to it or runs into it. The first of a group has its entry.
fn groups(functions: &[Function], scans: &[Scan]) -> Vec<Vec<usize>> {
    let part_at = |address: u64| {
        let after = functions.partition_point(|f| f.range.start <= address);
        let part = after.checked_sub(1)?;
        functions[part].range.contains(&address).then_some(part)
    };
    let is_part = |part: usize| is_part(&functions[part]);
    let mut leader: Vec<usize> = (0..functions.len()).collect();
    fn find(leader: &mut [usize], mut part: usize) -> usize {
        while leader[part] != part {
            leader[part] = leader[leader[part]];
            part = leader[part];
        }
        part
    }
    for (own, scan) in scans.iter().enumerate() {
        let next = functions.get(own + 1).filter(|next| {
            let last = scan.branches.last();
            let runs_out = last.is_none_or(|last| last.end != scan.end || !last.is_end());
            runs_out && scan.end == next.range.start
        });
        // A part that ends with a call which never returns does not run into another function's part.
        let of_another = |next: &&Function| {
            let whole_of_own = whole(&functions[own].name);
            whole_of_own.is_some() && whole_of_own != whole(&next.name)
        };
        let next = next
            .filter(|next| is_part(own + 1) && !of_another(next))
            .map(|next| next.range.start);
        let targets = scan.branches.iter().flat_map(Branch::jump_targets);
        for &target in targets.chain(&next) {
            let Some(other) = part_at(target).filter(|other| *other != own) else {
                continue;
            };
            if target != functions[other].range.start || is_part(other) {
                let (a, b) = (find(&mut leader, own), find(&mut leader, other));
                // The entry leads: it is no part.
                let (lead, follow) = if is_part(a) { (b, a) } else { (a, b) };
                leader[follow] = lead;
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for part in 0..functions.len() {
        let lead = find(&mut leader, part);
        let group = groups.entry(lead).or_insert_with(|| vec![lead]);
        if part != lead {
            group.push(part);
        }
    }
    groups.into_values().collect()
}

/// The routines that never return, by entry: those known by name, and those whose code has no way
/// out but into such ones.
fn endless(
    groups: &[Vec<usize>],
    functions: &[Function],
    scans: &[Scan],
    callees: &Callees<'_>,
) -> callees::Endless {
    let mut endless = callees::Endless::default();
    // A routine that calls one of the next is found in the next round.
    const ROUNDS: usize = 3;
    for _ in 0..ROUNDS {
        let more: Vec<u64> = groups
            .par_iter()
            .filter(|group| {
                let parts: Vec<_> = group
                    .iter()
                    .map(|&part| (&functions[part].range, &scans[part]))
                    .collect();
                branch::never_returns(&parts, callees, &endless)
            })
            .map(|group| functions[group[0]].range.start)
            .collect();
        if !endless.extend(more) {
            break;
        }
    }
    endless
}
