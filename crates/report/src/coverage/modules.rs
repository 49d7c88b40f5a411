// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the modules of a process lie in its memory.

use std::collections::HashMap;

use crate::trace::{Module, ProcessId, Trace};

/// The modules of a trace by their process.
pub(crate) struct Modules<'a> {
    of_all: Vec<&'a Module>,
    of_each: HashMap<ProcessId, Vec<&'a Module>>,
}

impl<'a> Modules<'a> {
    pub(crate) fn new(trace: &'a Trace<'_>) -> Self {
        let mut modules = Self {
            of_all: Vec::new(),
            of_each: HashMap::new(),
        };
        for module in trace.modules() {
            match module.process {
                Some(process) => modules.of_each.entry(process).or_default().push(module),
                None => modules.of_all.push(module),
            }
        }
        modules
    }
}

/// The modules of one process by address.
pub(crate) struct ModuleMap<'a> {
    /// Sorted by start.
    modules: Vec<&'a Module>,
    /// Where the module at this place, and all before it, have ended.
    ends: Vec<u64>,
}

pub(crate) enum Place<'a> {
    In(&'a Module),
    Nowhere,
    /// Different modules lay there, one after the other.
    Several,
}

impl<'a> ModuleMap<'a> {
    pub(crate) fn new(of: &Modules<'a>, process: ProcessId) -> Self {
        let own = of.of_each.get(&process).into_iter().flatten();
        let mut modules: Vec<_> = of.of_all.iter().chain(own).copied().collect();
        modules.sort_by_key(|module| module.range.start);
        let ends = modules.iter().scan(0, |end, module| {
            *end = module.range.end.max(*end);
            Some(*end)
        });
        let ends = ends.collect();
        work(modules.len());
        Self { modules, ends }
    }

    /// The modules that may have this address: one, if none lie on top of each other.
    fn around(&self, address: u64) -> &[&'a Module] {
        let before = self.modules.partition_point(|m| m.range.start <= address);
        let ended = self.ends.partition_point(|end| *end <= address);
        let around = self.modules.get(ended..before).unwrap_or(&[]);
        work(around.len() + 1);
        around
    }

    /// The module whose code called and returns to `pc`.
    pub(crate) fn find(&self, pc: u64) -> Place<'a> {
        // The call stands before the return address, which may be the first one of other code.
        let call = pc.wrapping_sub(1);
        let mut found: Option<&'a Module> = None;
        for &module in self.around(call) {
            let text = &module.text;
            let code = text.is_empty() || text.iter().any(|range| range.contains(&call));
            if !module.range.contains(&call) || !code {
                continue;
            }
            match found {
                // A library that was unloaded and loaded again at the same place.
                Some(other)
                    if other.path == module.path
                        && other.build_id == module.build_id
                        && other.bias == module.bias => {}
                Some(_) => return Place::Several,
                None => found = Some(module),
            }
        }
        found.map_or(Place::Nowhere, Place::In)
    }

    /// Whether no module has code at `address`, before it, or both.
    pub(super) fn is_data(&self, address: u64) -> bool {
        matches!(self.find(address), Place::Nowhere)
    }

    /// The module that has data at `address`: of one whose text alone is known, data is behind it.
    pub(super) fn with_data(&self, address: u64) -> Option<&'a Module> {
        let after = self.modules.partition_point(|m| m.range.start <= address);
        let found = *self.modules.get(after.checked_sub(1)?)?;
        // One that was unloaded may have lain at the same place.
        let mut others = self.modules[..after - 1].iter().rev();
        let same_place = |other: &&&Module| other.range.start == found.range.start;
        let others = others.by_ref().take_while(same_place);
        let other = others
            .into_iter()
            .any(|other| (&other.path, &other.build_id) != (&found.path, &found.build_id));
        (!other).then_some(found)
    }
}

/// So many modules are looked at. Tests count them: a clock would measure the machine.
fn work(modules: usize) {
    #[cfg(test)]
    tests::WORK.set(tests::WORK.get() + modules);
    #[cfg(not(test))]
    let _ = modules;
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// How many modules this thread has looked at.
        pub(in crate::coverage) static WORK: Cell<usize> = const { Cell::new(0) };
    }
}
