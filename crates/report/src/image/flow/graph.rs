// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks of a routine and the ways between them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::branch::{Branch, Kind, Scan};
use super::callees::{Callee, Callees, Endless};
use super::dominators::Nodes;

/// The control flow of a routine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Graph {
    /// Sorted; those that only filled space are empty.
    pub(super) blocks: Vec<Range<u64>>,
    pub(super) ways: Ways,
}

/// How control gets from block to block.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ways {
    pub(super) successors: Vec<Nodes>,
    pub(super) predecessors: Vec<Nodes>,
    /// Blocks that the routine is entered at.
    pub(super) entries: Vec<usize>,
    /// Blocks that no way leads to: landing pads, which the unwinder enters.
    pub(super) pads: Vec<usize>,
    /// How control may leave the routine from each block.
    pub(super) exits: Vec<Exit>,
    /// Blocks with a callback.
    pub(super) sited: Vec<bool>,
    /// Blocks that end with a call behind which the code may be recorded for somebody else.
    pub(super) turns: Vec<bool>,
    /// Where the gate of a callback would lead if it were closed, by the block that tests it.
    pub(super) closed: Vec<Option<usize>>,
    /// The jump that a block ends with, if it always goes to one other block: where the jump stands,
    /// and that block.
    pub(super) jumps: Vec<Option<(u64, usize)>>,
    /// The two ways on from a block that ends with a conditional jump: where it jumps to, and what
    /// stands behind it. Without those that check the bounds of a table.
    pub(super) forks: Vec<Option<(usize, usize)>>,
}

/// How control may leave a routine at the end of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Exit {
    /// It does not.
    Stays,
    /// Back to the caller.
    Returns,
    /// Through the function at this address, if that does not return.
    Call(u64),
    /// Into the function at this address.
    Tail(u64),
    /// In some other way; whether and how it comes back is not known.
    Away,
}

/// What happens at the end of a block.
struct End {
    /// The instruction.
    at: u64,
    sort: Sort,
    /// Targets in the same routine.
    jumps: Vec<u64>,
    /// Anywhere in the routine.
    anywhere: bool,
    /// Control may go on to the next instruction.
    goes_on: bool,
    turns: bool,
    exit: Exit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Jump,
    Conditional,
    Table,
    Other,
}

impl End {
    fn of(
        branch: &Branch,
        inside: impl Fn(u64) -> bool,
        callees: &Callees<'_>,
        endless: &Endless,
    ) -> Self {
        let (near, far): (Vec<u64>, Vec<u64>) = branch
            .jump_targets()
            .iter()
            .partition(|target| inside(**target));
        let exit = match (&branch.kind, &far[..]) {
            (Kind::Return, _) => Exit::Returns,
            (Kind::Jump(_) | Kind::Conditional(_) | Kind::Table(_), []) | (Kind::Anywhere, _) => {
                Exit::Stays
            }
            (Kind::Conditional(_), [target]) => Exit::Tail(*target),
            (Kind::Jump(_) | Kind::JumpThrough(_), _) => match branch.callee(callees) {
                Some(Callee::Function(entry)) => Exit::Tail(entry),
                Some(Callee::Callback | Callee::Returns | Callee::Turns) => Exit::Returns,
                _ => Exit::Away,
            },
            (Kind::Call(_) | Kind::CallThrough(_), _) => match branch.callee(callees) {
                Some(Callee::Function(entry)) if !endless.contains(entry) => Exit::Call(entry),
                Some(Callee::Turns) => Exit::Stays,
                _ => Exit::Away,
            },
            _ => Exit::Away,
        };
        Self {
            at: branch.at,
            sort: match branch.kind {
                Kind::Jump(_) => Sort::Jump,
                Kind::Conditional(_) => Sort::Conditional,
                Kind::Table(_) | Kind::Anywhere => Sort::Table,
                _ => Sort::Other,
            },
            jumps: near,
            anywhere: matches!(branch.kind, Kind::Anywhere),
            goes_on: branch.goes_on(callees, endless),
            turns: branch.callee(callees) == Some(Callee::Turns),
            exit,
        }
    }
}

impl Ways {
    /// Whether a block ends with a call.
    pub(super) fn calls(&self, block: usize) -> bool {
        self.turns[block] || matches!(self.exits[block], Exit::Call(_) | Exit::Away)
    }

    pub(super) fn new(blocks: usize) -> Self {
        Self {
            successors: vec![Nodes::new(); blocks],
            predecessors: vec![Nodes::new(); blocks],
            entries: Vec::new(),
            pads: Vec::new(),
            exits: vec![Exit::Stays; blocks],
            sited: vec![false; blocks],
            turns: vec![false; blocks],
            closed: vec![None; blocks],
            jumps: vec![None; blocks],
            forks: vec![None; blocks],
        }
    }

    pub(super) fn add(&mut self, from: usize, to: usize) {
        if !self.successors[from].contains(&to) {
            self.successors[from].push(to);
            self.predecessors[to].push(from);
        }
    }

    fn add_all(&mut self, from: usize) {
        self.successors[from] = (0..self.successors.len()).collect();
        for predecessors in &mut self.predecessors {
            predecessors.push(from);
        }
    }

    /// Empties blocks that only fill space: behind a jump, before the next block.
    fn drop_filler(&mut self, blocks: &mut [Range<u64>], is_filler: impl Fn(&Range<u64>) -> bool) {
        for (block, range) in blocks.iter_mut().enumerate() {
            if self.predecessors[block].is_empty() && is_filler(range) {
                range.end = range.start;
                for to in std::mem::take(&mut self.successors[block]) {
                    self.predecessors[to].retain(|from| *from != block);
                }
            }
        }
    }

    /// Gates are open while anything is recorded: the ways around callbacks are not taken. `is_jump`
    /// says of a block that it is a jump and nothing else, as between sections of single blocks.
    fn open_gates(&mut self, is_jump: impl Fn(usize) -> bool) {
        for site in (0..self.sited.len()).filter(|block| self.sited[*block]) {
            let mut from: Vec<(usize, usize)> = Vec::new();
            for &block in &self.predecessors[site] {
                from.push(match self.predecessors[block][..] {
                    [before] if is_jump(block) && !self.sited[block] => (before, block),
                    _ => (block, site),
                });
            }
            let forks = |(block, _): &(usize, usize)| {
                self.successors[*block].len() == 2 && !self.sited[*block]
            };
            if from.iter().all(forks) {
                for (block, on) in from {
                    let mut other = self.successors[block].iter().copied();
                    self.closed[block] = other.find(|other| *other != on);
                }
            }
        }
    }
}

impl Graph {
    /// The blocks of a routine; the first part begins with its entry. A part may be entered at its
    /// beginning if `entered` says so.
    pub(super) fn new(
        parts: &[(&Range<u64>, &Scan)],
        entered: impl Fn(usize) -> bool,
        callees: &Callees<'_>,
        endless: &Endless,
    ) -> Self {
        let inside = |address: u64| parts.iter().any(|(range, _)| range.contains(&address));
        let branches = || parts.iter().flat_map(|(_, scan)| &scan.branches);
        let anywhere = branches().any(|branch| matches!(branch.kind, Kind::Anywhere));
        let mut starts: BTreeSet<u64> = parts.iter().map(|(range, _)| range.start).collect();
        // By the address behind the last instruction of a block.
        let mut ends: BTreeMap<u64, End> = BTreeMap::new();
        for branch in branches() {
            match branch.callee(callees) {
                Some(Callee::Callback) if branch.is_call() => {
                    if anywhere {
                        // Nobody knows where blocks begin, but with a callback many do.
                        starts.insert(branch.at);
                    }
                    continue;
                }
                Some(Callee::Returns) if branch.is_call() => continue,
                _ => {}
            }
            let end = End::of(branch, inside, callees, endless);
            starts.extend(&end.jumps);
            starts.insert(branch.end);
            ends.insert(branch.end, end);
        }
        let mut blocks: Vec<Range<u64>> = Vec::new();
        for (range, scan) in parts {
            let end = scan.end.min(range.end);
            let inner = starts.range(range.start..end.max(range.start));
            let borders: Vec<u64> = inner.copied().chain([end]).collect();
            blocks.extend(borders.windows(2).map(|pair| pair[0]..pair[1]));
        }
        blocks.sort_by_key(|block| block.start);

        let numbers = blocks.iter().enumerate();
        let numbers: BTreeMap<u64, usize> = numbers.map(|(n, block)| (block.start, n)).collect();
        let mut ways = Ways::new(blocks.len());
        for (block, range) in blocks.iter().enumerate() {
            // A block that ends where another begins, without a branch, goes on there.
            let end = ends.get(&range.end);
            for target in end.into_iter().flat_map(|end| &end.jumps) {
                if let Some(to) = numbers.get(target) {
                    ways.add(block, *to);
                }
            }
            if let Some(end) = end {
                ways.exits[block] = end.exit;
                ways.turns[block] = end.turns;
                if end.anywhere {
                    ways.add_all(block);
                }
            }
            if end.is_none_or(|end| end.goes_on) {
                match numbers.get(&range.end) {
                    Some(on) => ways.add(block, *on),
                    // It runs into another function, or what was read ends here.
                    None => ways.exits[block] = Exit::Away,
                }
            }
        }
        for (block, range) in blocks.iter().enumerate() {
            let Some(end) = ends.get(&range.end) else {
                continue;
            };
            let target = end.jumps.first().and_then(|target| numbers.get(target));
            let on = numbers.get(&range.end).copied();
            match (end.sort, target, on) {
                (Sort::Jump, Some(to), _) => ways.jumps[block] = Some((end.at, *to)),
                (Sort::Conditional, Some(to), Some(on)) => {
                    let behind = ends.get(&blocks[on].end);
                    if behind.is_none_or(|end| end.sort != Sort::Table) {
                        ways.forks[block] = Some((*to, on));
                    }
                }
                _ => {}
            }
        }
        for (part, (range, _)) in parts.iter().enumerate() {
            if let Some(entry) = numbers.get(&range.start).filter(|_| entered(part)) {
                ways.entries.push(*entry);
            }
        }
        let entries = ways.entries.clone();
        let is_entry = |range: &Range<u64>| {
            entries
                .iter()
                .any(|at| numbers.get(&range.start) == Some(at))
        };
        ways.drop_filler(&mut blocks, |range| {
            !is_entry(range) && callees.is_filler(range)
        });
        ways.pads = (0..blocks.len())
            .filter(|block| ways.predecessors[*block].is_empty() && !blocks[*block].is_empty())
            .filter(|block| !ways.entries.contains(block))
            .collect();
        Self { blocks, ways }
    }

    /// Tells which blocks have callbacks, and whether these stand behind gates.
    pub(super) fn with_sites(&mut self, sites: impl Iterator<Item = usize>, gated: bool) {
        sites.for_each(|block| self.ways.sited[block] = true);
        if gated {
            let jumps: Vec<bool> = self
                .ways
                .jumps
                .iter()
                .zip(&self.blocks)
                .map(|(jump, block)| jump.is_some_and(|(at, _)| at == block.start))
                .collect();
            self.ways.open_gates(|block| jumps[block]);
        }
    }

    /// Whether a call in it turns.
    pub(super) fn turns(&self) -> bool {
        self.ways.turns.contains(&true)
    }

    /// Tells which functions call what turns.
    pub(super) fn with_turns(&mut self, turns: impl Fn(u64) -> bool) {
        for (block, exit) in self.ways.exits.iter().enumerate() {
            if let Exit::Call(entry) = exit {
                self.ways.turns[block] |= turns(*entry);
            }
        }
    }

    /// The functions that are called, or gone over to, as far as they are known.
    pub(super) fn callees(&self) -> impl Iterator<Item = u64> + '_ {
        self.ways.exits.iter().filter_map(|exit| match exit {
            Exit::Call(entry) | Exit::Tail(entry) => Some(*entry),
            _ => None,
        })
    }

    /// The calls of known functions, and the block behind each that control comes to from there
    /// only: who ran it came back from the function.
    pub(super) fn returned_to(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        let ways = &self.ways;
        let calls = ways.exits.iter().enumerate();
        calls.filter_map(|(block, exit)| {
            let Exit::Call(entry) = exit else { return None };
            let [on] = ways.successors[block][..] else {
                return None;
            };
            let only = ways.predecessors[on][..] == [block] && !ways.entries.contains(&on);
            only.then_some((*entry, on))
        })
    }

    /// Whether all that refers to blocks refers to some of its own, and both directions of its ways tell the same:
    /// what was read from a file may not.
    pub(super) fn is_sound(&self) -> bool {
        let ways = &self.ways;
        let count = self.blocks.len();
        let lengths = [
            ways.successors.len(),
            ways.predecessors.len(),
            ways.exits.len(),
            ways.sited.len(),
            ways.turns.len(),
            ways.closed.len(),
            ways.jumps.len(),
            ways.forks.len(),
        ];
        let successors = ways.successors.iter().flatten().copied();
        let ends = ways.entries.iter().chain(&ways.pads).copied();
        let jumps = ways.jumps.iter().flatten().map(|(_, to)| *to);
        let forks = ways.forks.iter().flatten().flat_map(|(to, on)| [*to, *on]);
        let closed = ways.closed.iter().flatten().copied();
        let mut blocks = successors
            .chain(ends)
            .chain(jumps)
            .chain(forks)
            .chain(closed);
        let within = lengths == [count; 8] && blocks.all(|block| block < count);
        let sorted = self.blocks.is_sorted_by_key(|block| block.start);
        if !within || !sorted || self.blocks.iter().any(|block| block.start > block.end) {
            return false;
        }
        let mut backwards = vec![Nodes::new(); count];
        for (from, successors) in ways.successors.iter().enumerate() {
            successors.iter().for_each(|to| backwards[*to].push(from));
        }
        backwards
            .iter_mut()
            .zip(&ways.predecessors)
            .all(|(expected, found)| {
                expected.dedup();
                let mut found = found.clone();
                found.dedup();
                *expected == found
            })
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.blocks.iter().cloned()
    }

    /// The block that the instruction at `address` is part of.
    pub(super) fn block_of(&self, address: u64) -> Option<usize> {
        let after = self.blocks.partition_point(|block| block.start <= address);
        (0..after)
            .rev()
            .take(2)
            .find(|block| self.blocks[*block].contains(&address))
    }

    /// The blocks with callbacks that the routine comes to first.
    pub(super) fn first(&self) -> Vec<usize> {
        let ways = &self.ways;
        let mut first = Vec::new();
        let mut seen = vec![false; self.len()];
        let mut open = ways.entries.clone();
        while let Some(block) = open.pop() {
            if std::mem::replace(&mut seen[block], true) {
                continue;
            }
            match ways.sited[block] {
                true => first.push(block),
                false => open.extend_from_slice(&ways.successors[block]),
            }
        }
        first.sort_unstable();
        first
    }

    /// How control may leave the routine at the end of a block.
    pub(super) fn exit(&self, block: usize) -> Exit {
        self.ways.exits[block]
    }

    /// The blocks behind a block.
    pub(super) fn behind(&self, block: usize) -> &[usize] {
        &self.ways.successors[block]
    }

    /// Whether a block has a callback.
    pub(super) fn is_sited(&self, block: usize) -> bool {
        self.ways.sited[block]
    }

    /// The address of the last byte of a block.
    pub(super) fn last_byte(&self, block: usize) -> u64 {
        self.blocks[block].end.saturating_sub(1)
    }
}
