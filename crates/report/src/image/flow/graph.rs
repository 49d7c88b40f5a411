// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks of a routine, the ways between them, and what follows from some of them having run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::callees::{Callee, Callees, Endless};
use super::x86::{is_filler, Branch, Kind, Scan};

/// What is known of a block: who ran it, how often.
pub(crate) trait Weight: Clone + Default + Send + Sync {
    /// Whether nobody ran it.
    fn is_none(&self) -> bool;
    /// The block has another place that calls back.
    fn same_place(&mut self, other: &Self);
    /// Whoever ran the other block ran this one. Whether that was news.
    fn ran_with(&mut self, other: &Self) -> bool;
    /// The block ran at least as often as these together.
    fn at_least(&mut self, others: &[Self]) -> bool;
    /// Those who are in this one and in `other`.
    fn both(&self, other: &Self) -> Self;
    /// Those who are in this one and not in `other`.
    fn without(&self, other: &Self) -> Self;
}

/// Who recorded what, beside what follows from it.
pub(super) struct Records<'a, W> {
    /// Who recorded a callback of each block.
    pub(super) by: &'a [W],
    /// Who may have run more than was recorded.
    pub(super) lossy: &'a W,
    /// Somebody, no matter who.
    pub(super) someone: &'a W,
}

impl<W: Weight> Records<'_, W> {
    /// Who ran a block with a callback, if `all` but for `others` did. Its records name everybody.
    pub(super) fn rest(&self, block: usize, all: &W, others: &W) -> W {
        let mut ran = all.without(others);
        if self.by[block].is_none() {
            ran.ran_with(self.someone);
        }
        ran
    }

    /// Those of `all` who cannot have run a block with a callback.
    pub(super) fn not_at(&self, block: usize, all: &W) -> W {
        let rest = all.without(&self.by[block]);
        match rest.is_none() {
            true => rest,
            false => rest.without(self.lossy),
        }
    }
}

/// The control flow of a routine.
#[derive(Debug)]
pub(crate) struct Graph {
    /// Sorted; those that only filled space are empty.
    blocks: Vec<Range<u64>>,
    ways: Ways,
}

/// How control gets from block to block.
#[derive(Debug)]
struct Ways {
    successors: Vec<Vec<usize>>,
    predecessors: Vec<Vec<usize>>,
    /// Blocks that the routine is entered at.
    entries: Vec<usize>,
    /// Blocks that no way leads to: landing pads, which the unwinder enters.
    pads: Vec<usize>,
    /// How control may leave the routine from each block.
    exits: Vec<Exit>,
    /// Blocks with a callback.
    sited: Vec<bool>,
    /// Blocks that end with a call behind which the code may be recorded for somebody else.
    turns: Vec<bool>,
    /// Where the gate of a callback would lead if it were closed, by the block that tests it.
    closed: Vec<Option<usize>>,
    /// The jump that a block ends with, if it always goes to one other block: where the jump stands,
    /// and that block.
    jumps: Vec<Option<(u64, usize)>>,
    /// The two ways on from a block that ends with a conditional jump: where it jumps to, and what
    /// stands behind it. Without those that check the bounds of a table.
    forks: Vec<Option<(usize, usize)>>,
}

/// How control may leave a routine at the end of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    fn calls(&self, block: usize) -> bool {
        self.turns[block] || matches!(self.exits[block], Exit::Call(_) | Exit::Away)
    }

    fn new(blocks: usize) -> Self {
        Self {
            successors: vec![Vec::new(); blocks],
            predecessors: vec![Vec::new(); blocks],
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

    fn add(&mut self, from: usize, to: usize) {
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
            !is_entry(range) && is_filler(callees, range)
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
            let only = ways.predecessors[on] == [block] && !ways.entries.contains(&on);
            only.then_some((*entry, on))
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
                false => open.extend(&ways.successors[block]),
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

    /// What can have run: of the blocks with callbacks only those of which `recorded` says so.
    /// `returns` says of a function whether each call of it came back.
    pub(super) fn possible(
        &self,
        recorded: impl Fn(usize) -> bool,
        returns: impl Fn(u64) -> bool,
    ) -> Possible<'_> {
        let ways = &self.ways;
        let left: Vec<bool> = ways
            .exits
            .iter()
            .map(|exit| match exit {
                Exit::Stays => false,
                Exit::Call(entry) => !returns(*entry),
                Exit::Returns | Exit::Tail(_) | Exit::Away => true,
            })
            .collect();
        let alive = (0..self.len()).map(|block| !ways.sited[block] || recorded(block));
        let mut possible = Possible {
            graph: self,
            alive: alive.collect(),
            roots: Vec::new(),
            left,
            gates: true,
        };
        possible.settle();
        possible
    }

    /// As [`Graph::possible`], where what was recorded does not fit the code: all blocks, and
    /// nothing that is called need return.
    pub(super) fn anything(&self) -> Possible<'_> {
        let exits = self.ways.exits.iter();
        Possible {
            graph: self,
            alive: vec![true; self.len()],
            roots: [&self.ways.entries[..], &self.ways.pads].concat(),
            left: exits.map(|exit| *exit != Exit::Stays).collect(),
            gates: false,
        }
    }
}

/// Ways around a jump. At `-O0` gcc keeps the jump at the end of `while (1)` for its line, but lets
/// conditional jumps to it go where it leads at once.
#[derive(Clone, Debug)]
pub(crate) struct Shortcut<W> {
    /// Where the jump stands.
    pub(crate) at: u64,
    /// Where it leads.
    pub(crate) target: u64,
    /// Who took another way there.
    pub(crate) sure: W,
    /// Who may have.
    pub(crate) maybe: W,
}

/// The part of a routine that can have run.
pub(super) struct Possible<'g> {
    graph: &'g Graph,
    /// Blocks that can have run.
    alive: Vec<bool>,
    /// Blocks that control may come to from nowhere in sight.
    roots: Vec<usize>,
    /// Blocks that control may leave the routine from.
    left: Vec<bool>,
    /// Whether gates are known to be open.
    gates: bool,
}

impl Possible<'_> {
    /// Whether control can go this way.
    fn is_way(&self, from: usize, to: usize) -> bool {
        let closed = self.gates && self.graph.ways.closed[from] == Some(to);
        !closed && self.alive[from] && self.alive[to]
    }

    fn successors(&self, block: usize) -> impl Iterator<Item = usize> + '_ {
        let to = self.graph.ways.successors[block].iter().copied();
        to.filter(move |to| self.is_way(block, *to))
    }

    fn predecessors(&self, block: usize) -> impl Iterator<Item = usize> + '_ {
        let from = self.graph.ways.predecessors[block].iter().copied();
        from.filter(move |from| self.is_way(*from, block))
    }

    /// Leaves only what can be reached, and whence control can go on or leave.
    fn settle(&mut self) {
        let ways = &self.graph.ways;
        loop {
            self.roots = self.ways_in(&ways.entries);
            let mut reached = self.reached();
            let unwinds = |block: usize| {
                reached[block] && self.left[block] && ways.exits[block] != Exit::Returns
            };
            if !ways.pads.is_empty() && (0..reached.len()).any(unwinds) {
                let pads = self.ways_in(&ways.pads);
                self.roots.extend(pads);
                reached = self.reached();
            }
            self.alive = reached;
            let mut changed = false;
            let mut open: Vec<usize> = (0..self.alive.len()).filter(|b| self.alive[*b]).collect();
            while let Some(block) = open.pop() {
                let stuck = self.alive[block]
                    && !self.left[block]
                    && self.successors(block).next().is_none();
                if stuck {
                    let from: Vec<usize> = self.predecessors(block).collect();
                    self.alive[block] = false;
                    changed = true;
                    open.extend(from);
                }
            }
            if !changed {
                break;
            }
        }
        let alive = &self.alive;
        self.roots.retain(|root| alive[*root]);
    }

    fn ways_in(&self, blocks: &[usize]) -> Vec<usize> {
        let blocks = blocks.iter().copied();
        blocks.filter(|block| self.alive[*block]).collect()
    }

    fn reached(&self) -> Vec<bool> {
        let mut reached = vec![false; self.alive.len()];
        let mut open = self.roots.clone();
        while let Some(block) = open.pop() {
            if !std::mem::replace(&mut reached[block], true) {
                open.extend(self.successors(block));
            }
        }
        reached
    }

    /// Whether every call of the routine came back, if `returns` is true of those that it called.
    pub(super) fn returns(&self, returns: impl Fn(u64) -> bool) -> bool {
        let exits = &self.graph.ways.exits;
        let alive = || (0..exits.len()).filter(|block| self.alive[*block]);
        let fine = |block: usize| match exits[block] {
            Exit::Stays | Exit::Returns => true,
            Exit::Call(entry) | Exit::Tail(entry) => returns(entry),
            Exit::Away => false,
        };
        if !alive().all(fine) {
            return false;
        }
        // A loop without an end does not return.
        let mut ends = vec![false; exits.len()];
        let mut open: Vec<usize> = alive()
            .filter(|block| matches!(exits[*block], Exit::Returns | Exit::Tail(_)))
            .collect();
        while let Some(block) = open.pop() {
            if !std::mem::replace(&mut ends[block], true) {
                open.extend(self.predecessors(block));
            }
        }
        alive().all(|block| ends[block])
    }

    pub(super) fn is_alive(&self, block: usize) -> bool {
        self.alive[block]
    }

    /// Blocks that lie on all ways from the beginning to a return of the routine. Whoever came back
    /// from a call of it ran them.
    pub(super) fn on_all_ways_back(&self) -> Vec<usize> {
        let ways = &self.graph.ways;
        let before = Paths::of(self).before;
        let chain = |block| std::iter::successors(Some(block), |at: &usize| before[*at]);
        let mut backs = (0..self.alive.len()).filter(|&block| {
            self.alive[block]
                && match ways.exits[block] {
                    Exit::Returns | Exit::Tail(_) => true,
                    // A jump of which nobody knows where it goes, not a call.
                    Exit::Away => ways.successors[block].is_empty(),
                    Exit::Stays | Exit::Call(_) => false,
                }
        });
        let Some(first) = backs.next() else {
            return Vec::new();
        };
        let mut common: Vec<usize> = chain(first).collect();
        for back in backs {
            let other: BTreeSet<usize> = chain(back).collect();
            common.retain(|block| other.contains(block));
        }
        common
    }

    /// What the lone jump at the end of a block may have been left out for, as compilers do: a
    /// conditional jump to it that went where it leads.
    pub(super) fn shortcut<W: Weight>(&self, block: usize, weights: &[W]) -> Option<Shortcut<W>> {
        let ways = &self.graph.ways;
        let (at, target) = ways.jumps[block]?;
        let mut found = Shortcut {
            at,
            target: self.graph.blocks[target].start,
            sure: W::default(),
            maybe: W::default(),
        };
        for &from in &ways.predecessors[target] {
            match ways.forks[from] {
                Some((to, on)) if to == target && self.alive[from] => {
                    if !self.alive[on] && on != target {
                        found.sure.ran_with(&weights[from]);
                    }
                    found.maybe.ran_with(&weights[from]);
                }
                _ => {}
            }
        }
        (!found.maybe.is_none()).then_some(found)
    }

    /// Adds to `weights`, one for each block, what follows from them, and finds the marks of each.
    pub(super) fn spread<W: Weight>(&self, weights: &mut [W], records: &Records<'_, W>) -> Marks {
        let paths = Paths::of(self);
        let ways = &self.graph.ways;
        let nearest = |from: Option<usize>, next: &[Option<usize>]| {
            std::iter::successors(from, |at| next[*at]).find(|block| ways.sited[*block])
        };
        let blocks = 0..weights.len();
        let above: Vec<Option<usize>> = blocks
            .clone()
            .map(|block| nearest(Some(block), &paths.before))
            .collect();
        paths.spread(weights, &above, ways, records);
        let turns = ways.turns.contains(&true);
        let turned = |block: usize| {
            let mark = above[block]?;
            let mut before = between(&paths.predecessors[block], mark, &paths.predecessors);
            Some(mark != block && (ways.turns[mark] || before.any(|at| ways.turns[at])))
        };
        let below = |block: usize| {
            let mark = nearest(paths.behind[block], &paths.behind)?;
            let turned =
                turns && between(&[block], mark, &paths.successors).any(|at| ways.turns[at]);
            (!turned).then_some(mark)
        };
        Marks {
            below: blocks.clone().map(below).collect(),
            turned: blocks
                .map(|block| turns && turned(block).unwrap_or(false))
                .collect(),
            above,
            before: paths.before,
        }
    }

    /// The nearest callback that all ways to a block lead through, its own excluded.
    pub(super) fn mark_before(&self, block: usize, marks: &Marks) -> Option<usize> {
        marks.before[block].and_then(|before| marks.above[before])
    }

    /// The first block with a callback that all ways from the beginning lead through.
    pub(super) fn first_sited(&self) -> Option<usize> {
        let ways = &self.graph.ways;
        let [entry] = ways.entries[..] else {
            return None;
        };
        let mut at = entry;
        loop {
            if ways.sited[at] {
                return Some(at);
            }
            let mut next = self.successors(at);
            let (Some(to), None) = (next.next(), next.next()) else {
                return None;
            };
            if self.left[at] || ways.turns[at] || to <= at {
                return None;
            }
            at = to;
        }
    }
}

/// The callbacks around each block, from which follows who can have run it.
pub(super) struct Marks {
    /// The nearest one that all ways to the block lead through, its own included.
    pub(super) above: Vec<Option<usize>>,
    /// The nearest one that all ways from the block lead through, if nothing turns on the way.
    pub(super) below: Vec<Option<usize>>,
    /// The nearest block that all ways to it lead through.
    before: Vec<Option<usize>>,
    /// Whether something turned before the block, behind the callbacks above it.
    pub(super) turned: Vec<bool>,
}

/// The ways that control can have taken, and what all of them have in common.
struct Paths {
    successors: Vec<Vec<usize>>,
    predecessors: Vec<Vec<usize>>,
    entered: Vec<bool>,
    left: Vec<bool>,
    /// The next block through which all ways to each lead.
    before: Vec<Option<usize>>,
    /// The next block through which all ways from each lead.
    behind: Vec<Option<usize>>,
}

impl Paths {
    fn of(possible: &Possible<'_>) -> Self {
        let blocks = 0..possible.alive.len();
        let successors: Vec<Vec<usize>> = blocks
            .clone()
            .map(|block| possible.successors(block).collect())
            .collect();
        let predecessors: Vec<Vec<usize>> = blocks
            .clone()
            .map(|block| possible.predecessors(block).collect())
            .collect();
        let mut entered = vec![false; blocks.len()];
        possible.roots.iter().for_each(|root| entered[*root] = true);
        let mut left = possible.left.clone();
        // From a loop without an end, no way leads anywhere: it must not make what stands beside it
        // look like the only way on.
        let mut ends_somewhere = vec![false; blocks.len()];
        for block in postorder(&predecessors, &left) {
            ends_somewhere[block] = true;
        }
        for (left, ends) in left.iter_mut().zip(ends_somewhere) {
            *left |= !ends;
        }
        let before = dominators(&predecessors, &successors, &entered);
        let behind = dominators(&successors, &predecessors, &left);
        Self {
            successors,
            predecessors,
            entered,
            left,
            before,
            behind,
        }
    }

    /// `above` has, for each block, the nearest one with a callback that all ways to it lead through.
    fn spread<W: Weight>(
        &self,
        weights: &mut [W],
        above: &[Option<usize>],
        ways: &Ways,
        records: &Records<'_, W>,
    ) {
        let mut changed: Vec<usize> = (0..weights.len())
            .filter(|block| !weights[*block].is_none())
            .collect();
        while let Some(block) = changed.pop() {
            if let Some(implied) = self.before[block] {
                let ran = self.ran_before(block, implied, weights, above, ways, records);
                if weights[implied].ran_with(&ran) {
                    changed.push(implied);
                }
            }
            if let Some(implied) = self.behind[block] {
                let ran = self.ran_behind(block, implied, weights, ways, records);
                if weights[implied].ran_with(&ran) {
                    changed.push(implied);
                }
            }
        }
        // The bounds settle within a few rounds; where they do not, they are bounds all the same.
        const ROUNDS: usize = 64;
        for _ in 0..ROUNDS {
            let mut news = false;
            for block in 0..weights.len() {
                for others in [self.only_behind(block), self.only_before(block)] {
                    let bound: Vec<W> = others
                        .into_iter()
                        .map(|other| weights[other].clone())
                        .collect();
                    news |= weights[block].at_least(&bound);
                }
            }
            if !news {
                break;
            }
        }
    }

    /// Who ran `implied`, through which all ways to `block` lead: those who ran `block`, but for those whose
    /// records began in between. Somebody else ran it for them.
    fn ran_before<W: Weight>(
        &self,
        block: usize,
        implied: usize,
        weights: &[W],
        above: &[Option<usize>],
        ways: &Ways,
        records: &Records<'_, W>,
    ) -> W {
        let all = &weights[block];
        let Some(mark) = above[implied] else {
            return all.clone();
        };
        let began = records.not_at(mark, all);
        // Records begin in calls.
        let called = || {
            ways.calls(implied)
                || between(&self.predecessors[block], implied, &self.predecessors)
                    .any(|at| ways.calls(at))
        };
        if began.is_none() || mark != implied && !called() {
            return all.clone();
        }
        match ways.sited[implied] {
            true => records.rest(implied, all, &began),
            false => {
                let mut ran = all.without(&began);
                ran.ran_with(records.someone);
                ran
            }
        }
    }

    /// Who ran `implied`, through which all ways from `block` lead: those who ran `block`, unless something
    /// may have turned in between.
    fn ran_behind<W: Weight>(
        &self,
        block: usize,
        implied: usize,
        weights: &[W],
        ways: &Ways,
        records: &Records<'_, W>,
    ) -> W {
        let all = &weights[block];
        if ways.sited[implied] {
            let ended = records.not_at(implied, all);
            if ended.is_none() {
                return all.clone();
            }
            return records.rest(implied, all, &ended);
        }
        let turns = ways.turns.contains(&true)
            && between(&[block], implied, &self.successors).any(|at| ways.turns[at]);
        match turns {
            true => records.someone.clone(),
            false => all.clone(),
        }
    }

    /// Blocks that control comes to from `block` only: each of their runs is one of it.
    fn only_behind(&self, block: usize) -> Vec<usize> {
        let next = self.successors[block].iter().copied();
        next.filter(|&to| to != block && self.predecessors[to] == [block] && !self.entered[to])
            .collect()
    }

    /// Blocks from which control goes on to `block` only: each of their runs is one of it.
    fn only_before(&self, block: usize) -> Vec<usize> {
        let from = self.predecessors[block].iter().copied();
        from.filter(|&from| from != block && self.successors[from] == [block] && !self.left[from])
            .collect()
    }
}

/// The nodes that can be reached from some, themselves included, on ways that end at `end`.
fn between(from: &[usize], end: usize, next: &[Vec<usize>]) -> impl Iterator<Item = usize> {
    let mut seen = BTreeSet::new();
    let mut open = from.to_vec();
    while let Some(at) = open.pop() {
        if at != end && seen.insert(at) {
            open.extend(&next[at]);
        }
    }
    seen.into_iter()
}

/// For each node, the nearest one through which all ways from `roots` to it lead, by the method of
/// Cooper, Harvey and Kennedy; `None` where only the beginning is common, or no way leads there.
fn dominators(
    predecessors: &[Vec<usize>],
    successors: &[Vec<usize>],
    roots: &[bool],
) -> Vec<Option<usize>> {
    let count = predecessors.len();
    // A node before all roots, numbered behind the others.
    let top = count;
    let order = postorder(successors, roots);
    let mut rank = vec![usize::MAX; count + 1];
    for (at, node) in order.iter().enumerate() {
        rank[*node] = at;
    }
    rank[top] = order.len();
    let mut nearest: Vec<Option<usize>> = vec![None; count + 1];
    nearest[top] = Some(top);
    let mut changed = true;
    while changed {
        changed = false;
        for &node in order.iter().rev() {
            let root = roots[node].then_some(top);
            let from = predecessors[node].iter().copied().chain(root);
            let mut common: Option<usize> = None;
            for from in from.filter(|from| nearest[*from].is_some()) {
                common = Some(match common {
                    None => from,
                    Some(other) => meet(&nearest, &rank, from, other),
                });
            }
            if nearest[node] != common {
                nearest[node] = common;
                changed = true;
            }
        }
    }
    nearest.truncate(count);
    nearest
        .into_iter()
        .map(|node| node.filter(|node| *node != top))
        .collect()
}

fn meet(nearest: &[Option<usize>], rank: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        let deeper = if rank[a] < rank[b] { &mut a } else { &mut b };
        match nearest[*deeper] {
            Some(above) => *deeper = above,
            None => return *deeper,
        }
    }
    a
}

/// The nodes that can be reached from roots, each behind those that it leads to.
fn postorder(successors: &[Vec<usize>], roots: &[bool]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut seen = vec![false; successors.len()];
    let mut open: Vec<(usize, usize)> = Vec::new();
    for root in (0..successors.len()).filter(|node| roots[*node]) {
        if !std::mem::replace(&mut seen[root], true) {
            open.push((root, 0));
        }
        while let Some((node, next)) = open.last_mut() {
            match successors[*node].get(*next) {
                Some(&to) => {
                    *next += 1;
                    if !std::mem::replace(&mut seen[to], true) {
                        open.push((to, 0));
                    }
                }
                None => {
                    order.push(*node);
                    open.pop();
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A routine of blocks 0.. that is entered at 0, with these ways; blocks without a successor
    /// return, and `left` ones may leave it in some other way.
    fn graph(blocks: usize, edges: &[(usize, usize)], left: &[usize]) -> Graph {
        let mut ways = Ways::new(blocks);
        for &(from, to) in edges {
            ways.add(from, to);
        }
        ways.entries = vec![0];
        for block in 0..blocks {
            if block > 0 && ways.predecessors[block].is_empty() {
                ways.pads.push(block);
            }
            ways.exits[block] = match (left.contains(&block), &ways.successors[block][..]) {
                (true, _) => Exit::Away,
                (false, []) => Exit::Returns,
                (false, _) => Exit::Stays,
            };
        }
        let blocks = (0..blocks as u64).map(|n| n * 8..n * 8 + 8).collect();
        Graph { blocks, ways }
    }

    /// How often a block ran, at least; 0 if it is not known to have run.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Count(u64);

    impl Weight for Count {
        fn is_none(&self) -> bool {
            self.0 == 0
        }

        fn same_place(&mut self, other: &Self) {
            self.0 = self.0.max(other.0);
        }

        fn ran_with(&mut self, other: &Self) -> bool {
            let news = self.0 == 0 && other.0 > 0;
            self.0 = self.0.max(u64::from(news));
            news
        }

        fn at_least(&mut self, others: &[Self]) -> bool {
            let bound = others.iter().map(|other| other.0).sum();
            let news = bound > self.0;
            self.0 = self.0.max(bound);
            news
        }

        fn both(&self, other: &Self) -> Self {
            Self(self.0.min(other.0))
        }

        fn without(&self, other: &Self) -> Self {
            Self(if other.0 > 0 { 0 } else { self.0 })
        }
    }

    fn spread(graph: &Graph, hits: &[(usize, u64)]) -> Vec<u64> {
        let mut weights = vec![Count(0); graph.len()];
        for &(block, count) in hits {
            weights[block] = Count(count);
        }
        let by = weights.clone();
        let records = Records {
            by: &by,
            lossy: &Count(0),
            someone: &Count(1),
        };
        graph.anything().spread(&mut weights, &records);
        weights.into_iter().map(|count| count.0).collect()
    }

    #[test]
    fn a_branch_that_ran_implies_its_fork_and_its_join() {
        // 0 -> 1 | 2 -> 3
        let diamond = graph(4, &[(0, 1), (0, 2), (1, 3), (2, 3)], &[]);
        assert_eq!(spread(&diamond, &[(1, 5)]), [5, 5, 0, 5]);
        assert_eq!(spread(&diamond, &[(1, 5), (2, 3)]), [8, 5, 3, 8]);
        assert_eq!(spread(&diamond, &[(3, 7)]), [1, 0, 0, 7]);
        assert_eq!(spread(&diamond, &[]), [0; 4]);
    }

    #[test]
    fn a_callback_behind_a_gate_implies_both_sides_of_it() {
        // 0 tests the gate, 1 calls back, 2 is what the callback stands for, 3 calls back, 4 returns.
        let gated = graph(5, &[(0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4)], &[]);
        assert_eq!(spread(&gated, &[(1, 2), (3, 9)]), [2, 2, 9, 9, 9]);
    }

    #[test]
    fn what_may_leave_implies_nothing_behind_it() {
        let leaving = graph(3, &[(0, 1), (1, 2)], &[1]);
        assert_eq!(spread(&leaving, &[(0, 1)]), [1, 1, 0]);
    }

    #[test]
    fn a_loop_without_an_end_does_not_imply_what_stands_beside_it() {
        // 0 -> 1 <-> 2, or 0 -> 3
        let server = graph(4, &[(0, 1), (1, 2), (2, 1), (0, 3)], &[]);
        assert_eq!(spread(&server, &[(0, 1)]), [1, 0, 0, 0]);
        assert_eq!(spread(&server, &[(2, 4)])[..2], [1, 4]);
    }

    #[test]
    fn a_landing_pad_implies_nothing_before_it() {
        // 2 is jumped to from nowhere.
        let pads = graph(4, &[(0, 1), (2, 3), (1, 3)], &[]);
        assert_eq!(spread(&pads, &[(2, 1)]), [0, 0, 1, 1]);
    }

    /// Whether all ways from roots to `node` lead through `gate`.
    fn all_through(successors: &[Vec<usize>], roots: &[bool], node: usize, gate: usize) -> bool {
        let mut open: Vec<usize> = (0..roots.len())
            .filter(|n| roots[*n] && *n != gate)
            .collect();
        let mut seen = vec![false; roots.len()];
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                open.extend(successors[at].iter().filter(|to| **to != gate));
            }
        }
        !seen[node]
    }

    prop_compose! {
        fn any_graph()(
            blocks in 1..9_usize,
            edges in proptest::collection::vec((0..9_usize, 0..9_usize), 0..20),
            left in proptest::collection::vec(0..9_usize, 0..2),
        ) -> Graph {
            let edges: Vec<_> =
                edges.into_iter().map(|(a, b)| (a % blocks, b % blocks)).collect();
            graph(blocks, &edges, &left)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn dominators_are_those_of_the_definition(graph in any_graph()) {
            let ways = Paths::of(&graph.anything());
            let found = &ways.before;
            for node in 0..graph.len() {
                let through = |gate| all_through(&ways.successors, &ways.entered, node, gate);
                if all_through(&ways.successors, &ways.entered, node, usize::MAX) {
                    prop_assert_eq!(found[node], None, "no way leads to {}", node);
                    continue;
                }
                let all: Vec<usize> = (0..graph.len()).filter(|g| *g != node && through(*g)).collect();
                // The chain of nearest ones holds all of them and nothing else.
                let chain: BTreeSet<usize> =
                    std::iter::successors(found[node], |at| found[*at]).collect();
                prop_assert_eq!(chain, all.into_iter().collect::<BTreeSet<_>>());
            }
        }

        /// Runs the routine by chance a few times; some of the blocks have callbacks.
        #[test]
        fn nothing_false_is_said(
            graph in any_graph(),
            choices in proptest::collection::vec(any::<prop::sample::Index>(), 1..60),
            sited in proptest::collection::vec(any::<bool>(), 9),
        ) {
            let mut graph = graph;
            graph.with_sites((0..graph.len()).filter(|block| sited[*block]), false);
            let ways = &graph.ways;
            let mut ran = vec![0_u64; graph.len()];
            let mut choices = choices.iter();
            // Where an exception may go on.
            let mut thrown = false;
            let mut complete = true;
            'runs: while let Some(choice) = choices.next() {
                let pads = ways.pads.iter().filter(|_| thrown);
                let starts: Vec<usize> = ways.entries.iter().chain(pads).copied().collect();
                let mut at = starts[choice.index(starts.len())];
                loop {
                    ran[at] += 1;
                    let next = &ways.successors[at];
                    let ways_on = next.len() + usize::from(ways.exits[at] != Exit::Stays);
                    // A loop without a way out, or no choices any more.
                    if ways_on == 0 { break 'runs }
                    let Some(choice) = choices.next() else {
                        complete = ways.exits[at] != Exit::Stays;
                        break 'runs;
                    };
                    match next.get(choice.index(ways_on)) {
                        Some(to) => at = *to,
                        None => break,
                    }
                }
                thrown |= ways.exits[at] == Exit::Away;
            }
            // What ends nowhere is not taken into account.
            prop_assume!(complete);
            let mut weights: Vec<Count> = ran
                .iter()
                .zip(&sited)
                .map(|(ran, sited)| Count(if *sited { *ran } else { 0 }))
                .collect();
            let recorded = weights.clone();
            let possible = graph.possible(|block| recorded[block].0 > 0, |_| true);
            let records = Records { by: &recorded, lossy: &Count(0), someone: &Count(1) };
            possible.spread(&mut weights, &records);
            for block in 0..graph.len() {
                prop_assert!(weights[block].0 <= ran[block], "{block}: {weights:?} {ran:?}");
                prop_assert!(ran[block] == 0 || possible.is_alive(block), "{block}: {ran:?}");
            }
        }

        /// As before, but what runs is recorded for one or the other of two streams: calls turn to the other.
        #[test]
        fn nothing_false_is_said_of_either_stream(
            graph in any_graph(),
            choices in proptest::collection::vec(any::<prop::sample::Index>(), 1..60),
            sited in proptest::collection::vec(any::<bool>(), 9),
            turns in proptest::collection::vec(any::<bool>(), 9),
            // Of what leaves the routine in ways that nobody knows, some turn, too.
            hidden in proptest::collection::vec(any::<bool>(), 9),
        ) {
            let mut graph = graph;
            graph.with_sites((0..graph.len()).filter(|block| sited[*block]), false);
            for (block, turns) in turns.iter().enumerate().take(graph.len()) {
                graph.ways.turns[block] = *turns && graph.ways.exits[block] == Exit::Stays;
            }
            let ways = &graph.ways;
            let mut ran = vec![Set(0); graph.len()];
            let mut choices = choices.iter();
            let mut complete = true;
            let mut stream = 1_u8;
            let mut thrown = false;
            let mut ever_hidden = false;
            'runs: while let Some(choice) = choices.next() {
                let pads = ways.pads.iter().filter(|_| thrown);
                let starts: Vec<usize> = ways.entries.iter().chain(pads).copied().collect();
                let mut at = starts[choice.index(starts.len())];
                loop {
                    ran[at].0 |= stream;
                    let next = &ways.successors[at];
                    let ways_on = next.len() + usize::from(ways.exits[at] != Exit::Stays);
                    if ways_on == 0 { break 'runs }
                    let Some(choice) = choices.next() else {
                        complete = ways.exits[at] != Exit::Stays;
                        break 'runs;
                    };
                    let by_surprise = ways.exits[at] == Exit::Away && hidden[at];
                    ever_hidden |= by_surprise;
                    if ways.turns[at] || by_surprise {
                        stream ^= 3;
                    }
                    match next.get(choice.index(ways_on)) {
                        Some(to) => at = *to,
                        None => break,
                    }
                }
                thrown |= ways.exits[at] == Exit::Away;
            }
            prop_assume!(complete);
            let mut weights: Vec<Set> = ran
                .iter()
                .zip(&sited)
                .map(|(ran, sited)| if *sited { *ran } else { Set(0) })
                .collect();
            let recorded = weights.clone();
            let possible = graph.possible(|block| recorded[block].0 > 0, |_| true);
            let records = Records { by: &recorded, lossy: &Set(0), someone: &Set(4) };
            let marks = possible.spread(&mut weights, &records);
            for block in 0..graph.len() {
                let said = weights[block].0;
                prop_assert!(said == 0 || ran[block].0 != 0, "{block}: {weights:?} {ran:?}");
                prop_assert!(ran[block].0 == 0 || possible.is_alive(block), "{block}: {ran:?}");
                let can = |mark: Option<usize>| mark.map_or(7, |mark| recorded[mark].0);
                if !ever_hidden && ran[block].0 != 0 {
                    let below = can(marks.below[block]);
                    prop_assert_eq!(ran[block].0 & !below, 0, "{}: {:?} {:?}", block, &recorded, &ran);
                    if !marks.turned[block] {
                        let above = can(marks.above[block]);
                        prop_assert_eq!(ran[block].0 & !above, 0, "{}: {:?} {:?}", block, &recorded, &ran);
                    }
                }
            }
        }
    }

    /// Streams 1 and 2, and 4 for somebody.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    struct Set(u8);

    impl Weight for Set {
        fn is_none(&self) -> bool {
            self.0 == 0
        }

        fn same_place(&mut self, other: &Self) {
            self.0 |= other.0;
        }

        fn ran_with(&mut self, other: &Self) -> bool {
            let news = other.0 & !self.0 != 0;
            self.0 |= other.0;
            news
        }

        fn at_least(&mut self, _: &[Self]) -> bool {
            false
        }

        fn both(&self, other: &Self) -> Self {
            Self(self.0 & other.0)
        }

        fn without(&self, other: &Self) -> Self {
            Self(self.0 & !other.0)
        }
    }

    fn spread_of_streams(graph: &Graph, hits: &[(usize, u8)]) -> (Vec<u8>, Marks) {
        let mut weights = vec![Set(0); graph.len()];
        for &(block, streams) in hits {
            weights[block] = Set(streams);
        }
        let by = weights.clone();
        let records = Records {
            by: &by,
            lossy: &Set(0),
            someone: &Set(4),
        };
        let possible = graph.possible(|block| by[block].0 > 0, |_| true);
        let marks = possible.spread(&mut weights, &records);
        (weights.into_iter().map(|set| set.0).collect(), marks)
    }

    #[test]
    fn what_ran_before_a_stream_began_is_somebodys() {
        // 0 calls back, 1 calls what begins a section, 2 and 3 are in it, 3 calls back, 4 returns.
        let mut begins = graph(5, &[(0, 1), (1, 2), (2, 3), (3, 4)], &[]);
        begins.with_sites([0, 3].into_iter(), false);
        begins.ways.turns[1] = true;
        let (weights, marks) = spread_of_streams(&begins, &[(0, 1), (3, 2)]);
        assert_eq!(weights, [1, 1 | 4, 2 | 4, 2, 2]);
        assert_eq!(marks.turned, [false, false, true, false, false]);
        // Whoever began it in a function that nobody knows.
        begins.ways.turns[1] = false;
        begins.ways.exits[1] = Exit::Away;
        let (weights, _) = spread_of_streams(&begins, &[(0, 1), (3, 2)]);
        assert_eq!(weights, [1, 1 | 4, 2, 2, 2]);
    }

    #[test]
    fn what_runs_after_a_stream_ended_is_somebodys() {
        // 0 calls back and ends a section, 1 and 2 are behind it.
        let mut ends = graph(3, &[(0, 1), (1, 2)], &[]);
        ends.with_sites([0].into_iter(), false);
        ends.ways.turns[0] = true;
        let (weights, marks) = spread_of_streams(&ends, &[(0, 1)]);
        assert_eq!(weights, [1, 4, 4]);
        assert_eq!(marks.turned, [false, true, true]);
    }
}
