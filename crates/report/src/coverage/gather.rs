// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the words of streams to addresses of images.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::guards::Guards;
use super::modules::{ModuleMap, Modules, Place};
use super::{Hits, Lost, StreamIndex};
use crate::image::Search;
use crate::progress::Progress;
use crate::trace::{BuildId, Mode, ProcessId, Stream, Trace};

/// Streams that are counted at once.
const BATCH: usize = 256;

/// What identifies an image among traces: two builds at one path are two images.
pub(crate) type ImageKey = (PathBuf, BuildId);

/// The return addresses of one image that were recorded, as addresses in the file.
#[derive(Debug, Default)]
pub(super) struct ImageHits {
    pub(super) addresses: BTreeMap<u64, Hits>,
}

/// All that was recorded, by image.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) images: BTreeMap<ImageKey, ImageHits>,
    /// PCs of each stream that belong to no image.
    pub(super) lost: Vec<Lost>,
    /// Different PCs of each stream.
    pub(super) pcs: Vec<u64>,
}

/// The PCs of a stream of the trace `run` and how often each was recorded.
fn counted(stream: &Stream<'_>, run: usize, mode: Mode, guards: &Guards<'_>) -> Vec<(u64, u64)> {
    let mut counts: FxHashMap<u64, u64> = FxHashMap::default();
    for pc in guards.pcs(run, stream) {
        *counts.entry(pc).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    if mode == Mode::Unique {
        // Beyond the bitmap a PC may stand more than once, which means nothing.
        counts.iter_mut().for_each(|(_, count)| *count = 1);
    }
    counts.sort_unstable();
    counts
}

/// Gathers the streams of all traces, numbered in order.
pub(super) fn gather(traces: &[&Trace<'_>], search: &Search, progress: &Progress) -> Gathered {
    let guards = Guards::of(traces, search);
    let streams: Vec<(usize, &Stream<'_>)> = traces
        .iter()
        .enumerate()
        .flat_map(|(at, trace)| trace.streams().iter().map(move |stream| (at, stream)))
        .collect();
    progress.expect_threads(streams.len());
    let mut all = Gathered::default();
    // Images in which nothing ran may have code that could have.
    for module in traces.iter().flat_map(|trace| trace.modules()) {
        let key = (module.path.clone(), module.build_id.clone());
        all.images.entry(key).or_default();
    }
    let modules: Vec<Modules<'_>> = traces.iter().map(|trace| Modules::new(trace)).collect();
    let mut maps: HashMap<(usize, ProcessId), ModuleMap<'_>> = HashMap::new();
    // All streams at once would take more memory than their trace.
    for batch in streams.chunks(BATCH) {
        let counts: Vec<Vec<(u64, u64)>> = batch
            .par_iter()
            .map(|(at, stream)| counted(stream, *at, traces[*at].info().mode, &guards))
            .collect();
        for ((at, stream), counts) in batch.iter().zip(&counts) {
            let process = stream.info().process;
            let map = maps
                .entry((*at, process))
                .or_insert_with(|| ModuleMap::new(&modules[*at], process));
            let index = all.pcs.len();
            all.pcs.push(counts.len() as u64);
            all.lost.push(all_of(index, counts, map, &mut all.images));
        }
        progress.threads_done(batch.len());
    }
    all
}

fn all_of(
    stream: StreamIndex,
    counts: &[(u64, u64)],
    map: &ModuleMap<'_>,
    images: &mut BTreeMap<ImageKey, ImageHits>,
) -> Lost {
    let mut lost = Lost::default();
    let mut at = 0;
    while let Some(&(pc, _)) = counts.get(at) {
        match map.find(pc) {
            Place::Nowhere => {
                lost.nowhere += 1;
                at += 1;
            }
            Place::Several => {
                lost.ambiguous += 1;
                at += 1;
            }
            Place::In(module) => {
                // Neighbours mostly lie in the same module: look its image up once for them.
                let key = (module.path.clone(), module.build_id.clone());
                let image = images.entry(key).or_default();
                while let Some(&(pc, count)) = counts.get(at) {
                    if !matches!(map.find(pc), Place::In(m) if std::ptr::eq(m, module)) {
                        break;
                    }
                    let address = pc.wrapping_sub(module.bias);
                    image
                        .addresses
                        .entry(address)
                        .or_default()
                        .add(stream, count);
                    at += 1;
                }
            }
        }
    }
    lost
}

/// Finds the files that the PCs of a trace are of.
pub(crate) struct Places<'a>(Modules<'a>);

impl<'a> Places<'a> {
    pub(crate) fn new(trace: &'a Trace<'_>) -> Self {
        Self(Modules::new(trace))
    }

    /// The file of each PC of a process, and the address in it; without a file, the address in memory.
    pub(crate) fn of(
        &self,
        process: ProcessId,
        pcs: impl IntoIterator<Item = u64>,
    ) -> Vec<(Option<&'a Path>, u64)> {
        let map = ModuleMap::new(&self.0, process);
        let place = |pc: u64| match map.find(pc) {
            Place::In(module) => (Some(&*module.path), pc.wrapping_sub(module.bias)),
            Place::Nowhere | Place::Several => (None, pc),
        };
        pcs.into_iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::modules::tests::WORK;
    use crate::trace::{Info, Module, Process, StreamInfo, Writer};

    /// What many of something does to a trace.
    #[derive(Clone, Copy, Debug)]
    enum Many {
        /// Processes that have run the same program, each with its own copy of the module.
        Processes,
        /// Copies of a module in one process, as a program has that loads and closes plugins.
        Modules,
        /// Threads of one process, which has few modules.
        Threads,
    }

    impl Many {
        fn trace(self, n: u64) -> Vec<u8> {
            let mut writer = Writer::new(Vec::new(), &Info::new(Mode::Trace)).unwrap();
            let mut process = writer.process(&Process::default()).unwrap();
            for number in 0..n {
                if number > 0 && matches!(self, Self::Processes) {
                    process = writer.process(&Process::default()).unwrap();
                }
                let copy = match self {
                    Self::Processes | Self::Modules => number,
                    Self::Threads => number % 4,
                };
                let bias = copy << 12;
                let module = Module {
                    process: Some(process),
                    path: "/p".into(),
                    build_id: BuildId(vec![1]),
                    bias,
                    range: bias + 0x1000..bias + 0x2000,
                    text: Vec::new(),
                };
                if copy == number {
                    writer.module(&module).unwrap();
                }
                let stream = StreamInfo {
                    count: 3,
                    ..StreamInfo::new(process)
                };
                let pcs = [0x1234, 0x1238, 0x1300].map(|pc| bias + pc);
                writer.stream(&stream, pcs).unwrap();
            }
            writer.finish().unwrap()
        }
    }

    /// How many modules were looked at for each stream.
    #[track_caller]
    fn looked_at(many: Many, n: u64) -> usize {
        let bytes = many.trace(n);
        let trace = Trace::parse(&bytes).unwrap();
        WORK.set(0);
        let gathered = gather(&[&trace], &Search::default(), &Progress::default());
        let image = &gathered.images[&("/p".into(), BuildId(vec![1]))];
        let hits = &image.addresses[&0x1234];
        assert_eq!((image.addresses.len(), hits.count), (3, n), "{many:?}");
        assert_eq!(hits.streams.len() as u64, n, "{many:?}");
        WORK.get()
    }

    #[test]
    fn work_is_in_proportion_to_what_was_recorded() {
        const FEW: u64 = 500;
        for many in [Many::Processes, Many::Modules, Many::Threads] {
            let [few, four_times] = [FEW, 4 * FEW].map(|n| looked_at(many, n));
            assert!(few >= 3 * FEW as usize, "{many:?}: {few}");
            assert!(four_times <= 4 * few, "{many:?}: {few}, {four_times}");
        }
    }
}
