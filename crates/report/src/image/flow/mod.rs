// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a recorded PC says of the code around it.
//!
//! A compiler calls back once for each basic block at best; clang leaves out blocks that follow
//! from others. So the lines of the calls alone are only a part of what ran. The machine code tells
//! the rest: each function is taken apart into blocks, and if a block ran, then so did every block
//! through which all ways to it lead, and every block through which all ways from it lead. The
//! places of the calls also say which code *could* have been recorded, and so what did not run.
//!
//! Two things are taken for granted that code can break: that a call returns, unless it is known
//! that it never does, and that a block once begun is run to its end. Where a jump goes through a
//! table that cannot be read, nothing is concluded beyond the block itself.

mod callees;
mod graph;
mod x86;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use object::{Architecture, Object};
use rayon::prelude::*;

use super::elf::{ElfFile, Function};
use callees::{Callee, Callees};
use graph::Graph;
pub(crate) use graph::Weight;
use x86::{Branch, Scan};

/// The instrumented code of an image.
#[derive(Debug)]
pub(crate) struct Flow {
    routines: Vec<Routine>,
    /// Return addresses of callbacks: the routine, and the block that calls.
    sites: HashMap<u64, (usize, usize)>,
}

/// A function with all of its parts: compilers put what seldom runs elsewhere.
#[derive(Debug)]
struct Routine {
    graph: Graph,
}

/// A piece of code and who ran it.
pub(crate) struct Piece<W> {
    pub(crate) range: Range<u64>,
    pub(crate) weight: W,
}

impl Flow {
    /// Takes the code of an image apart. `None` if none of it is instrumented, or if it is of a
    /// processor that is not known here.
    pub(crate) fn new(binary: &ElfFile, functions: &[Function]) -> Option<Self> {
        let object = binary.object()?;
        if object.architecture() != Architecture::X86_64 {
            return None;
        }
        let callees = Callees::new(&object, functions);
        if !callees.has_callbacks() {
            return None;
        }
        let scans: Vec<Scan> = functions
            .par_iter()
            .map(|function| x86::scan(&callees, &function.range))
            .collect();
        let groups = groups(functions, &scans);
        let endless = endless(&groups, functions, &scans, &callees);

        let found: Vec<(Routine, Found)> = groups
            .par_iter()
            .filter(|group| group.iter().any(|&part| scans[part].calls_back(&callees)))
            .map(|group| routine(group, functions, &scans, &callees, &endless))
            .collect();
        let mut flow = Self {
            routines: Vec::new(),
            sites: HashMap::new(),
        };
        let mut tails: HashMap<u64, (usize, usize)> = HashMap::new();
        for (routine, found) in found {
            let number = flow.routines.len();
            flow.routines.push(routine);
            let sites = found.sites.into_iter();
            flow.sites
                .extend(sites.map(|(pc, block)| (pc, (number, block))));
            tails.extend(found.tail.map(|(entry, block)| (entry, (number, block))));
        }
        flow.tail_calls(&scans, &callees, &tails);
        (!flow.sites.is_empty()).then_some(flow)
    }

    /// A callback that a function ends with becomes a jump, and what is recorded is the place that
    /// called the function. Such a place is a site of the function's block, too.
    fn tail_calls(
        &mut self,
        scans: &[Scan],
        callees: &Callees<'_>,
        tails: &HashMap<u64, (usize, usize)>,
    ) {
        for branch in scans.iter().flat_map(|scan| &scan.branches) {
            if let Some(Callee::Function(entry)) = branch.callee(callees) {
                if let Some(block) = tails.get(&entry) {
                    self.sites.entry(branch.end).or_insert(*block);
                }
            }
        }
    }

    /// How many places call back.
    pub(crate) fn sites(&self) -> usize {
        self.sites.len()
    }

    /// All instrumented code, with what follows from the weights of recorded PCs; the default
    /// weight for what did not run. What is left in `hits` are PCs that no place here accounts for.
    pub(crate) fn spread<W: Weight>(&self, hits: &mut BTreeMap<u64, W>) -> Vec<Piece<W>> {
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
        self.routines
            .par_iter()
            .zip(weights)
            .flat_map_iter(|(routine, mut weights)| {
                routine.graph.spread(&mut weights);
                let blocks = routine.graph.blocks().zip(weights);
                blocks
                    .map(|(range, weight)| Piece { range, weight })
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

/// What a routine calls back with.
struct Found {
    /// Return addresses, and the blocks of the calls.
    sites: Vec<(u64, usize)>,
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
    let graph = Graph::new(&parts, callees, endless);
    let mut sites = Vec::new();
    let mut tails = Vec::new();
    for branch in parts.iter().flat_map(|(_, scan)| &scan.branches) {
        if branch.callee(callees) == Some(Callee::Callback) {
            let Some(block) = graph.block_of(branch.at) else {
                continue;
            };
            if branch.is_call() {
                sites.push((branch.end, block));
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
    (Routine { graph }, Found { sites, tail })
}

/// Which functions are parts of one routine: those that jump into each other's middle, and a
/// `.cold` part with what jumps to it. The first of a group has its entry.
fn groups(functions: &[Function], scans: &[Scan]) -> Vec<Vec<usize>> {
    let part_at = |address: u64| {
        let after = functions.partition_point(|f| f.range.start <= address);
        let part = after.checked_sub(1)?;
        functions[part].range.contains(&address).then_some(part)
    };
    let is_cold = |part: usize| functions[part].name.contains(".cold");
    let mut leader: Vec<usize> = (0..functions.len()).collect();
    fn find(leader: &mut [usize], mut part: usize) -> usize {
        while leader[part] != part {
            leader[part] = leader[leader[part]];
            part = leader[part];
        }
        part
    }
    for (own, scan) in scans.iter().enumerate() {
        for &target in scan.branches.iter().flat_map(Branch::jump_targets) {
            let Some(other) = part_at(target).filter(|other| *other != own) else {
                continue;
            };
            if target != functions[other].range.start || is_cold(other) {
                let (a, b) = (find(&mut leader, own), find(&mut leader, other));
                // The entry leads: it is not cold.
                let (lead, follow) = if is_cold(a) { (b, a) } else { (a, b) };
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
                x86::never_returns(&parts, callees, &endless)
            })
            .map(|group| functions[group[0]].range.start)
            .collect();
        if !endless.extend(more) {
            break;
        }
    }
    endless
}
