// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks of a routine, the ways between them, and what follows from some of them having run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::callees::{Callees, Endless};
use super::x86::{is_filler, Kind, Scan};

/// What is known of a block: who ran it, how often.
pub(crate) trait Weight: Clone + Default + Send + Sync {
    /// The block has another place that calls back.
    fn same_place(&mut self, other: &Self);
    /// Whoever ran the other block ran this one. Whether that was news.
    fn ran_with(&mut self, other: &Self) -> bool;
    /// The block ran at least as often as these together.
    fn at_least(&mut self, others: &[Self]) -> bool;
}

/// The control flow of a routine.
#[derive(Debug)]
pub(crate) struct Graph {
    /// Sorted; those that only filled space are empty.
    blocks: Vec<Range<u64>>,
    ways: Ways,
    /// The next block through which all ways to each lead.
    before: Vec<Option<usize>>,
    /// The next block through which all ways from each lead.
    behind: Vec<Option<usize>>,
}

/// How control gets from block to block.
#[derive(Debug)]
struct Ways {
    successors: Vec<Vec<usize>>,
    predecessors: Vec<Vec<usize>>,
    /// Blocks that control may come to from nowhere in sight.
    entered: Vec<bool>,
    /// Blocks that control may leave the routine from.
    left: Vec<bool>,
}

/// What happens at the end of a block.
struct End {
    /// Targets in the same routine.
    jumps: Vec<u64>,
    /// Control may go on to the next instruction.
    goes_on: bool,
    /// Control may leave the routine.
    leaves: bool,
}

impl Ways {
    fn new(blocks: usize) -> Self {
        Self {
            successors: vec![Vec::new(); blocks],
            predecessors: vec![Vec::new(); blocks],
            entered: vec![false; blocks],
            left: vec![false; blocks],
        }
    }

    fn add(&mut self, from: usize, to: usize) {
        if !self.successors[from].contains(&to) {
            self.successors[from].push(to);
            self.predecessors[to].push(from);
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
}

impl Graph {
    /// The blocks of a routine; the first part begins with its entry.
    pub(super) fn new(
        parts: &[(&Range<u64>, &Scan)],
        callees: &Callees<'_>,
        endless: &Endless,
    ) -> Self {
        let entry = parts.first().map_or(0, |(range, _)| range.start);
        let inside = |address: u64| parts.iter().any(|(range, _)| range.contains(&address));
        let mut starts: BTreeSet<u64> = parts.iter().map(|(range, _)| range.start).collect();
        // By the address behind the last instruction of a block.
        let mut ends: BTreeMap<u64, End> = BTreeMap::new();
        let mut anywhere = false;
        for branch in parts.iter().flat_map(|(_, scan)| &scan.branches) {
            let goes_on = branch.goes_on(callees, endless);
            if branch.is_call() && goes_on {
                continue;
            }
            anywhere |= matches!(branch.kind, Kind::Anywhere);
            let (near, far): (Vec<u64>, Vec<u64>) = branch
                .jump_targets()
                .iter()
                .partition(|target| inside(**target));
            starts.extend(&near);
            starts.insert(branch.end);
            let end = End {
                leaves: !far.is_empty() || near.is_empty() && !goes_on,
                goes_on,
                jumps: near,
            };
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
            ways.left[block] = end.is_some_and(|end| end.leaves);
            if end.is_none_or(|end| end.goes_on) {
                match numbers.get(&range.end) {
                    Some(on) => ways.add(block, *on),
                    // It runs into another function, or what was read ends here.
                    None => ways.left[block] = true,
                }
            }
        }
        ways.drop_filler(&mut blocks, |range| {
            range.start != entry && is_filler(callees, range)
        });
        for (block, range) in blocks.iter().enumerate() {
            // Landing pads, which the unwinder enters, are jumped to from nowhere.
            let alone = ways.predecessors[block].is_empty();
            ways.entered[block] = anywhere || alone || range.start == entry;
        }
        Self::of(blocks, ways)
    }

    fn of(blocks: Vec<Range<u64>>, mut ways: Ways) -> Self {
        // From a loop without an end, no way leads anywhere: it must not make what stands beside it
        // look like the only way on.
        let mut ends_somewhere = vec![false; blocks.len()];
        for block in postorder(&ways.predecessors, &ways.left) {
            ends_somewhere[block] = true;
        }
        for (left, ends) in ways.left.iter_mut().zip(ends_somewhere) {
            *left |= !ends;
        }
        let before = dominators(&ways.predecessors, &ways.successors, &ways.entered);
        let behind = dominators(&ways.successors, &ways.predecessors, &ways.left);
        Self {
            blocks,
            ways,
            before,
            behind,
        }
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

    /// Adds to `weights`, one for each block, what follows from them.
    pub(crate) fn spread<W: Weight>(&self, weights: &mut [W]) {
        let mut changed: Vec<usize> = (0..self.len()).collect();
        while let Some(block) = changed.pop() {
            for implied in [self.before[block], self.behind[block]]
                .into_iter()
                .flatten()
            {
                let weight = weights[block].clone();
                if weights[implied].ran_with(&weight) {
                    changed.push(implied);
                }
            }
        }
        // The bounds settle within a few rounds; where they do not, they are bounds all the same.
        const ROUNDS: usize = 64;
        for _ in 0..ROUNDS {
            let mut news = false;
            for block in 0..self.len() {
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

    /// Blocks that control comes to from `block` only: each of their runs is one of it.
    fn only_behind(&self, block: usize) -> Vec<usize> {
        let ways = &self.ways;
        let next = ways.successors[block].iter().copied();
        next.filter(|&to| to != block && ways.predecessors[to] == [block] && !ways.entered[to])
            .collect()
    }

    /// Blocks from which control goes on to `block` only: each of their runs is one of it.
    fn only_before(&self, block: usize) -> Vec<usize> {
        let ways = &self.ways;
        let from = ways.predecessors[block].iter().copied();
        from.filter(|&from| from != block && ways.successors[from] == [block] && !ways.left[from])
            .collect()
    }
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
    /// and `left` ones leave it.
    fn graph(blocks: usize, edges: &[(usize, usize)], left: &[usize]) -> Graph {
        let mut ways = Ways::new(blocks);
        for &(from, to) in edges {
            ways.add(from, to);
        }
        for block in 0..blocks {
            ways.entered[block] = block == 0 || ways.predecessors[block].is_empty();
            ways.left[block] = left.contains(&block) || ways.successors[block].is_empty();
        }
        Graph::of((0..blocks as u64).map(|n| n * 8..n * 8 + 8).collect(), ways)
    }

    /// How often a block ran, at least; 0 if it is not known to have run.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Count(u64);

    impl Weight for Count {
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
    }

    fn spread(graph: &Graph, hits: &[(usize, u64)]) -> Vec<u64> {
        let mut weights = vec![Count(0); graph.len()];
        for &(block, count) in hits {
            weights[block] = Count(count);
        }
        graph.spread(&mut weights);
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
            let ways = &graph.ways;
            let found = dominators(&ways.predecessors, &ways.successors, &ways.entered);
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

        /// Runs the routine by chance a few times, to its end, and records some of the blocks.
        #[test]
        fn nothing_is_said_to_have_run_that_did_not(
            graph in any_graph(),
            choices in proptest::collection::vec(any::<prop::sample::Index>(), 1..60),
            recorded in proptest::collection::vec(any::<bool>(), 9),
        ) {
            let ways = &graph.ways;
            let mut ran = vec![0_u64; graph.len()];
            let mut choices = choices.iter();
            'runs: loop {
                let mut counts = ran.clone();
                let roots: Vec<usize> = (0..graph.len()).filter(|n| ways.entered[*n]).collect();
                let Some(choice) = choices.next() else { break };
                let mut at = roots[choice.index(roots.len())];
                loop {
                    counts[at] += 1;
                    let next = &ways.successors[at];
                    let ways_on = next.len() + usize::from(ways.left[at]);
                    let Some(choice) = choices.next() else { break 'runs };
                    match next.get(choice.index(ways_on)) {
                        Some(to) => at = *to,
                        None => break,
                    }
                }
                ran = counts;
            }
            let hits: Vec<(usize, u64)> =
                (0..graph.len()).filter(|n| recorded[*n]).map(|n| (n, ran[n])).collect();
            let said = spread(&graph, &hits);
            for block in 0..graph.len() {
                prop_assert!(said[block] <= ran[block], "{}: {:?} {:?}", block, said, ran);
            }
        }
    }
}
