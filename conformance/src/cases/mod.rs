// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every clause, and every case of it.

mod buffer;
mod compare;
mod context;
mod end;
mod errno;
mod life;
mod map;
mod refuse;
mod section;
mod world;

pub use crate::case::{Case, Clause};

/// What must hold of every kcov.
pub fn clauses() -> impl Iterator<Item = &'static Clause> {
    groups().into_iter().flat_map(|(clauses, _)| clauses)
}

/// What shows it.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    groups().into_iter().flat_map(|(_, cases)| cases)
}

fn groups() -> [(&'static [Clause], &'static [Case]); 10] {
    [
        (errno::CLAUSES, errno::CASES),
        (map::CLAUSES, map::CASES),
        (end::CLAUSES, end::CASES),
        (refuse::CLAUSES, refuse::CASES),
        (section::CLAUSES, section::CASES),
        (context::CLAUSES, context::CASES),
        (buffer::CLAUSES, buffer::CASES),
        (life::CLAUSES, life::CASES),
        (compare::CLAUSES, compare::CASES),
        (world::CLAUSES, world::CASES),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_case_has_a_clause_and_every_clause_a_case() {
        let clauses: BTreeSet<_> = clauses().map(|clause| clause.id).collect();
        let shown: BTreeSet<_> = cases().map(Case::clause).collect();
        assert_eq!(clauses, shown);
    }

    #[test]
    fn ids_are_unique_and_well_over_a_hundred() {
        let ids: BTreeSet<_> = cases().map(|case| case.id).collect();
        assert_eq!(ids.len(), cases().count());
        assert!(ids.len() > 150, "{}", ids.len());
    }
}
