// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can have run of a routine, and what follows from some of its blocks having run.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::dominators::{between, dominators, postorder, Nodes};
use super::graph::{Exit, Graph, Ways};

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

impl Graph {
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
                    let from: Nodes = self.predecessors(block).collect();
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
        if !self.alive.contains(&true) {
            return Marks::none(weights.len());
        }
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

impl Marks {
    /// Those of a routine of which nothing can have run.
    fn none(blocks: usize) -> Self {
        Self {
            above: vec![None; blocks],
            below: vec![None; blocks],
            before: vec![None; blocks],
            turned: vec![false; blocks],
        }
    }
}

/// The ways that control can have taken, and what all of them have in common.
struct Paths {
    successors: Vec<Nodes>,
    predecessors: Vec<Nodes>,
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
        let successors: Vec<Nodes> = blocks
            .clone()
            .map(|block| possible.successors(block).collect())
            .collect();
        let predecessors: Vec<Nodes> = blocks
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
        if changed.is_empty() {
            return;
        }
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
                    let others = others.into_iter().map(|other| weights[other].clone());
                    let bound: SmallVec<[W; 2]> = others.collect();
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
    fn only_behind(&self, block: usize) -> Nodes {
        let next = self.successors[block].iter().copied();
        next.filter(|&to| to != block && self.predecessors[to][..] == [block] && !self.entered[to])
            .collect()
    }

    /// Blocks from which control goes on to `block` only: each of their runs is one of it.
    fn only_before(&self, block: usize) -> Nodes {
        let from = self.predecessors[block].iter().copied();
        from.filter(|&from| {
            from != block && self.successors[from][..] == [block] && !self.left[from]
        })
        .collect()
    }
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
    fn all_through(successors: &[Nodes], roots: &[bool], node: usize, gate: usize) -> bool {
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

    /// What a run does with a block.
    #[derive(Clone, Copy, PartialEq)]
    enum Step {
        Runs,
        /// Control goes on behind it.
        Ends,
    }

    /// Runs the routine a few times, each time until it leaves or the choices end. Whether nothing ended where
    /// control stays in the routine.
    fn run_by_chance(
        ways: &Ways,
        choices: &[prop::sample::Index],
        mut does: impl FnMut(usize, Step),
    ) -> bool {
        let mut choices = choices.iter();
        // Where an exception may go on.
        let mut thrown = false;
        while let Some(choice) = choices.next() {
            let pads = ways.pads.iter().filter(|_| thrown);
            let starts: Vec<usize> = ways.entries.iter().chain(pads).copied().collect();
            let mut at = starts[choice.index(starts.len())];
            loop {
                does(at, Step::Runs);
                let next = &ways.successors[at];
                let ways_on = next.len() + usize::from(ways.exits[at] != Exit::Stays);
                // A loop without a way out, or no choices any more.
                if ways_on == 0 {
                    return true;
                }
                let Some(choice) = choices.next() else {
                    return ways.exits[at] != Exit::Stays;
                };
                does(at, Step::Ends);
                match next.get(choice.index(ways_on)) {
                    Some(to) => at = *to,
                    None => break,
                }
            }
            thrown |= ways.exits[at] == Exit::Away;
        }
        true
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
            let mut ran = vec![0_u64; graph.len()];
            let complete = run_by_chance(&graph.ways, &choices, |at, step| {
                ran[at] += u64::from(step == Step::Runs);
            });
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
            let mut stream = 1_u8;
            let mut ever_hidden = false;
            let complete = run_by_chance(ways, &choices, |at, step| match step {
                Step::Runs => ran[at].0 |= stream,
                Step::Ends => {
                    let by_surprise = ways.exits[at] == Exit::Away && hidden[at];
                    ever_hidden |= by_surprise;
                    if ways.turns[at] || by_surprise {
                        stream ^= 3;
                    }
                }
            });
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
