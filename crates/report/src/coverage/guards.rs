// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records that are addresses of guards.
//!
//! A store says that it ran by a byte of its guard. Who collects such bytes knows no PCs: the record is
//! then the address of the guard, in the data of its module, and the code of the module's file says
//! from where it is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use super::gather::ImageKey;
use super::modules::{ModuleMap, Modules};
use crate::image::{Image, Search, Sites};
use crate::trace::{Mode, Module, ProcessId, Stream, Trace};

/// What records of some traces mean that are no PCs.
#[derive(Default)]
pub(crate) struct Guards<'a> {
    /// The processes of each trace that has such records.
    maps: HashMap<(usize, ProcessId), ModuleMap<'a>>,
    /// The images that such records may be of.
    sites: BTreeMap<ImageKey, Sites>,
}

fn key(module: &Module) -> ImageKey {
    (module.path.clone(), module.build_id.clone())
}

impl<'a> Guards<'a> {
    /// Looks for such records, and reads the files of their modules.
    pub(crate) fn of(traces: &[&'a Trace<'_>], search: &Search) -> Self {
        let mut all = Self::default();
        let mut wanted = BTreeSet::new();
        for (run, trace) in traces.iter().enumerate() {
            // In other modes every site calls.
            if trace.info().mode != Mode::Unique {
                continue;
            }
            let modules = Modules::new(trace);
            for stream in trace.streams() {
                let process = stream.info().process;
                let map = all
                    .maps
                    .entry((run, process))
                    .or_insert_with(|| ModuleMap::new(&modules, process));
                let data = stream.pcs().filter(|pc| map.is_data(*pc));
                wanted.extend(data.filter_map(|pc| map.with_data(pc)).map(key));
            }
        }
        if wanted.is_empty() {
            return Self::default();
        }
        let sites = wanted.into_par_iter().map(|key| {
            let sites = Image::sites(&key.0, &key.1, search);
            (key, sites)
        });
        all.sites = sites.collect::<Vec<_>>().into_iter().collect();
        all
    }

    /// The PCs of a stream of the trace `run`. What is no guard is taken for a PC.
    pub(crate) fn pcs<'s, 't>(
        &'s self,
        run: usize,
        stream: &'s Stream<'t>,
    ) -> impl Iterator<Item = u64> + use<'s, 'a, 't> {
        let map = self.maps.get(&(run, stream.info().process));
        stream.pcs().flat_map(move |word| {
            let stores = map.map(|map| self.stores(map, word)).unwrap_or_default();
            let itself = stores.is_empty().then_some(word);
            stores.into_iter().chain(itself)
        })
    }

    /// The PCs of the stores that write to the guard at `word`.
    fn stores(&self, map: &ModuleMap<'_>, word: u64) -> Vec<u64> {
        if !map.is_data(word) {
            return Vec::new();
        }
        let Some(module) = map.with_data(word) else {
            return Vec::new();
        };
        let Some(sites) = self.sites.get(&key(module)) else {
            return Vec::new();
        };
        let bias = module.bias;
        let stores = sites.stores_into(word.wrapping_sub(bias));
        stores.map(|pc| pc.wrapping_add(bias)).collect()
    }
}
