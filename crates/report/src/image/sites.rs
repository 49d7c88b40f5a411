// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of sites of an image: what its code has in the place of callbacks' calls.

use std::ops::Range;

use iced_x86::Instruction;
use object::{Architecture, Object, ObjectSection, ObjectSegment, SegmentFlags};
use rkcov_abi::sites::{self, arm64, Site};

use super::elf::ElfFile;

/// The checks and the stores of an image. An image whose callbacks are all called has none.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    sections: Sections,
    /// The guards of stores and their PCs, by guard.
    stores: Vec<(u64, u64)>,
    /// Where checks go to call, sorted. What stands there is of no function.
    cold: Vec<u64>,
}

/// Where the bytes and the guards of sites are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sections {
    checked: Option<Range<u64>>,
    /// On x86-64 alone.
    guards: Option<Range<u64>>,
}

impl Sections {
    pub(crate) fn new(object: &object::File<'_>) -> Self {
        let has_guards = match object.architecture() {
            Architecture::X86_64 => true,
            Architecture::Aarch64 => false,
            _ => return Self::default(),
        };
        let range = |name| {
            let section = object.section_by_name(name)?;
            let start = section.address();
            let end = start.checked_add(section.size())?;
            (start < end).then_some(start..end)
        };
        Self {
            checked: range(sites::CHECKED),
            guards: range(sites::GUARDS).filter(|_| has_guards),
        }
    }

    /// Whether the image may have sites.
    pub(crate) const fn any(&self) -> bool {
        self.checked.is_some() || self.guards.is_some()
    }

    /// Whether what looks like a site is one.
    fn has(&self, site: &Site) -> bool {
        match site {
            Site::Check(check) => is_in(&self.checked, check.byte),
            Site::Store(store) => is_in(&self.guards, store.guard),
        }
    }

    /// Whether an instruction's operand is a guard.
    pub(crate) fn is_guard(&self, instruction: &Instruction) -> bool {
        let guards = self.guards.as_ref();
        instruction.is_ip_rel_memory_operand()
            && guards.is_some_and(|guards| guards.contains(&instruction.ip_rel_memory_address()))
    }

    /// The site that `code`, which lies at `at`, begins with.
    pub(crate) fn at(&self, code: &[u8], at: u64) -> Option<Site> {
        let site = sites::at(code, at).filter(|_| self.any())?;
        self.has(&site).then_some(site)
    }

    /// The check that arm64 code begins with, which lies at `at`.
    pub(crate) fn arm64_at(&self, code: &[u8], at: u64) -> Option<arm64::Check> {
        self.checked.as_ref()?;
        arm64::Check::read(code, at).filter(|check| is_in(&self.checked, check.byte))
    }
}

fn is_in(section: &Option<Range<u64>>, address: u64) -> bool {
    let section = section.as_ref();
    section.is_some_and(|section| section.contains(&address))
}

impl Sites {
    pub(crate) fn new(binary: &ElfFile) -> Self {
        let Some(object) = binary.object() else {
            return Self::default();
        };
        let mut all = Self {
            sections: Sections::new(&object),
            ..Self::default()
        };
        // Checks of arm64 code have no cold parts.
        if !all.sections.any() || object.architecture() != Architecture::X86_64 {
            return all;
        }
        for segment in object.segments() {
            let SegmentFlags::Elf { p_flags, .. } = segment.flags() else {
                continue;
            };
            let code = segment.data().unwrap_or_default();
            if !p_flags.contains(object::elf::PF_X) {
                continue;
            }
            for site in sites::find_by(code, segment.address(), memchr::memchr) {
                match site {
                    _ if !all.sections.has(&site) => {}
                    Site::Check(check) => all.cold.push(check.cold),
                    Site::Store(store) => all.stores.push((store.guard, store.pc())),
                }
            }
        }
        all.stores.sort_unstable();
        all.cold.sort_unstable();
        all
    }

    /// The PCs of the stores into the guard at this address: one, but where code was copied.
    pub(crate) fn stores_into(&self, guard: u64) -> impl Iterator<Item = u64> + '_ {
        let first = self.stores.partition_point(|(other, _)| *other < guard);
        let stores = self.stores[first..].iter();
        stores
            .take_while(move |(other, _)| *other == guard)
            .map(|(_, pc)| *pc)
    }

    /// The PCs of stores and their guards, by PC: of guards that one place alone stores into.
    pub(crate) fn sole_stores(&self) -> Vec<(u64, u64)> {
        let groups = self.stores.chunk_by(|a, b| a.0 == b.0);
        let sole = groups.filter_map(|group| match group {
            [(guard, pc)] => Some((*pc, *guard)),
            _ => None,
        });
        let mut sole: Vec<_> = sole.collect();
        sole.sort_unstable();
        sole
    }

    /// What is left of a range of code without that at its end which checks go to.
    pub(super) fn hot(&self, range: &Range<u64>) -> Range<u64> {
        let first = self.cold.partition_point(|cold| *cold < range.start);
        let end = self.cold.get(first).map_or(range.end, |cold| *cold);
        range.start..range.end.min(end)
    }
}
