// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all ways through a graph have in common. Nodes are numbers; a graph is the nodes that each leads to,
//! or those that lead to each.

use std::collections::BTreeSet;

use smallvec::SmallVec;

/// Some nodes. Most have two neighbours at most, which need no memory of their own.
pub(super) type Nodes = SmallVec<[usize; 2]>;

/// The nodes that can be reached from some, themselves included, on ways that end at `end`.
pub(super) fn between(from: &[usize], end: usize, next: &[Nodes]) -> impl Iterator<Item = usize> {
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
pub(super) fn dominators(
    predecessors: &[Nodes],
    successors: &[Nodes],
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
pub(super) fn postorder(successors: &[Nodes], roots: &[bool]) -> Vec<usize> {
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
