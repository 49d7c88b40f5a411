// SPDX-License-Identifier: MIT OR Apache-2.0
//! Of which code it cannot be said that it did not run, and for whom.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::gather::ImageKey;
use super::{Named, StreamIndex, StreamSet, StreamSummary};
use crate::trace::{ProcessId, Scope};

/// Who may have run more of an image than was recorded.
#[derive(Debug, Default)]
pub(super) struct Lossy {
    /// Of every image.
    everywhere: StreamSet,
    /// Of these images besides.
    images: BTreeMap<ImageKey, StreamSet>,
}

/// Whose processes had an image in their memory.
#[derive(Debug, Default)]
pub(super) struct Loaded(BTreeMap<ImageKey, StreamSet>);

impl Loaded {
    pub(super) fn new(traces: &[Named<'_>]) -> Self {
        let mut loaded = Self::default();
        let mut first = 0;
        for named in traces {
            let own = first..first + named.trace.streams().len();
            first = own.end;
            let mut of_each: HashMap<ProcessId, StreamSet> = HashMap::new();
            for (index, stream) in own.clone().zip(named.trace.streams()) {
                let streams = of_each.entry(stream.info().process).or_default();
                streams.insert(index);
            }
            let all: StreamSet = own.collect();
            for module in named.trace.modules() {
                let streams = match module.process {
                    Some(process) => of_each.get(&process),
                    None => Some(&all),
                };
                if let Some(streams) = streams {
                    let key = (module.path.clone(), module.build_id.clone());
                    loaded.0.entry(key).or_default().union(streams);
                }
            }
        }
        loaded
    }

    /// The streams whose processes had this image.
    pub(super) fn of(&self, image: &ImageKey) -> StreamSet {
        self.0.get(image).cloned().unwrap_or_default()
    }
}

impl Lossy {
    /// What the losses of some traces come to. `streams` are those of all traces, in order. What was
    /// lost of nobody in particular may have been run by any stream of the trace, or by somebody who
    /// has none: that is a stream behind all others.
    pub(super) fn new(traces: &[Named<'_>], streams: &[StreamSummary]) -> Self {
        let each = streams.iter().enumerate();
        let mut lossy = Self {
            everywhere: each
                .filter(|(_, stream)| stream.is_lossy())
                .map(|(index, _)| index)
                .collect(),
            ..Self::default()
        };
        let mut first = 0;
        for named in traces {
            let own = first..first + named.trace.streams().len();
            first = own.end;
            lossy.add(named, own, streams.len());
        }
        lossy
    }

    fn add(&mut self, named: &Named<'_>, own: Range<StreamIndex>, unseen: StreamIndex) {
        let anybody: StreamSet = own.clone().chain([unseen]).collect();
        let mut processes: HashMap<ProcessId, StreamSet> = HashMap::new();
        for loss in named.trace.losses() {
            match loss.scope {
                Scope::Trace => _ = self.everywhere.union(&anybody),
                Scope::Process(process) => {
                    processes.entry(process).or_default().insert(unseen);
                }
                // The streams themselves say so.
                Scope::Stream(_) => {}
                Scope::Module { path, build_id } => {
                    let image = self.images.entry((path, build_id)).or_default();
                    image.union(&anybody);
                }
            }
        }
        if processes.is_empty() {
            return;
        }
        for (index, stream) in own.zip(named.trace.streams()) {
            if let Some(set) = processes.get_mut(&stream.info().process) {
                set.insert(index);
            }
        }
        for module in named.trace.modules() {
            let lost = module.process.and_then(|process| processes.get(&process));
            if let Some(set) = lost {
                let key = (module.path.clone(), module.build_id.clone());
                self.images.entry(key).or_default().union(set);
            }
        }
    }

    /// Who may have run more of an image.
    pub(super) fn of(&self, image: &ImageKey) -> StreamSet {
        let mut set = self.everywhere.clone();
        if let Some(more) = self.images.get(image) {
            set.union(more);
        }
        set
    }
}
