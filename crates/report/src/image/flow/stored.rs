// SPDX-License-Identifier: MIT OR Apache-2.0
//! The form in which a [`Flow`] is stored for the next report.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Calls, Flow, Routine};

/// Routines that are read together, by one of the threads.
const TOGETHER: usize = 1024;

/// All but the routines.
#[derive(Serialize, Deserialize)]
struct Rest<C> {
    calls: C,
    /// As in [`Flow`], sorted.
    sites: Vec<(u64, (usize, usize))>,
    callbacks: Vec<(u64, u64)>,
}

impl Flow {
    /// Its parts as bytes. `None` if [`Flow::from_parts`] would refuse them.
    pub(crate) fn parts(&self) -> Option<Vec<Vec<u8>>> {
        if !self.is_sound() {
            return None;
        }
        let mut sites: Vec<_> = self.sites.iter().map(|(pc, site)| (*pc, *site)).collect();
        let mut callbacks: Vec<_> = self.callbacks.iter().map(|(at, to)| (*at, *to)).collect();
        sites.sort_unstable();
        callbacks.sort_unstable();
        let rest = Rest {
            calls: &self.calls,
            sites,
            callbacks,
        };
        let mut parts = vec![postcard::to_stdvec(&rest).ok()?];
        for routines in self.routines.chunks(TOGETHER) {
            parts.push(postcard::to_stdvec(routines).ok()?);
        }
        Some(parts)
    }

    /// Reads [`Flow::parts`]. `None` if they are not those of a flow.
    pub(crate) fn from_parts(parts: &[&[u8]]) -> Option<Self> {
        let (rest, routines) = parts.split_first()?;
        let read = || {
            let routines = routines.par_iter().map(|part| {
                let routines: Vec<Routine> = postcard::from_bytes(part).ok()?;
                let sound = routines.iter().all(|routine| routine.graph.is_sound());
                sound.then_some(routines)
            });
            routines.collect::<Option<Vec<_>>>()
        };
        let rest = || postcard::from_bytes::<Rest<Calls>>(rest).ok();
        let (rest, routines) = rayon::join(rest, read);
        let rest = rest?;
        let flow = Self {
            routines: routines?.into_iter().flatten().collect(),
            calls: rest.calls,
            sites: rest.sites.into_iter().collect(),
            callbacks: rest.callbacks.into_iter().collect(),
        };
        flow.refers_within().then_some(flow)
    }

    fn is_sound(&self) -> bool {
        let mut routines = self.routines.iter();
        routines.all(|routine| routine.graph.is_sound()) && self.refers_within()
    }

    /// Whether all that refers to routines and their blocks refers to some that are there.
    fn refers_within(&self) -> bool {
        let calls = &self.calls;
        let count = calls.callers.len();
        let callers = calls.callers.iter().flatten();
        let mut numbers = calls.numbers.values().chain(&calls.never).chain(callers);
        let mut sites = self.sites.values();
        self.routines.len() <= count
            && calls.turning.len() == count
            && numbers.all(|number| *number < count)
            && sites.all(|(routine, block)| {
                let routine = self.routines.get(*routine);
                routine.is_some_and(|routine| *block < routine.graph.len())
            })
    }
}
