// SPDX-License-Identifier: MIT OR Apache-2.0
//! What threads ran before they came to a function, where traces have the order.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

use super::gather::ImageKey;
use super::modules::{ModuleMap, Modules, Place};
use super::paths::place;
use super::{StreamIndex, StreamSet};
use crate::image::{demangled, Image, Problem, Search, Symbolizer};
use crate::trace::{Mode, Stream, Trace};

/// Functions before another one that are kept.
const KEPT: usize = 6;

/// A function that a thread was in, and where it was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The function.
    pub function: String,
    /// Its source.
    pub path: PathBuf,
    /// The line on which it was last.
    pub line: u32,
}

/// The functions that each of some streams was in before it first came to `function` in the source `path`: the
/// last few, in the order of time. Nothing of a stream whose order was not recorded.
#[must_use]
pub fn before(
    traces: &[&Trace<'_>],
    search: &Search,
    (path, function): (&Path, &str),
    streams: &StreamSet,
) -> BTreeMap<StreamIndex, Vec<Step>> {
    let all = traces.iter().flat_map(|trace| {
        let streams = trace.streams().iter();
        streams.map(move |stream| (*trace, stream))
    });
    let wanted = all
        .enumerate()
        .filter(|(index, (trace, _))| streams.contains(*index) && trace.info().mode == Mode::Trace);
    let wanted: Vec<_> = wanted.collect();
    let mut images: BTreeMap<ImageKey, Image> = BTreeMap::new();
    for module in wanted.iter().flat_map(|(_, (trace, _))| trace.modules()) {
        let key = (module.path.clone(), module.build_id.clone());
        images
            .entry(key)
            .or_insert_with_key(|(path, id)| Image::find_module(path, id, search));
    }
    let mut places = Places {
        symbolizers: images
            .iter()
            .map(|(key, image)| (key.clone(), image.symbolizer()))
            .collect(),
        search,
        known: FxHashMap::default(),
    };
    wanted
        .into_iter()
        .map(|(index, (trace, stream))| {
            let map = ModuleMap::new(&Modules::new(trace), stream.info().process);
            (index, places.before(stream, &map, (path, function)))
        })
        .collect()
}

/// What PCs stand for.
struct Places<'a> {
    symbolizers: BTreeMap<ImageKey, Result<Symbolizer<'a>, Problem>>,
    search: &'a Search,
    /// The functions of addresses in an image, the innermost first.
    known: FxHashMap<(ImageKey, u64), Vec<Step>>,
}

impl Places<'_> {
    fn before(
        &mut self,
        stream: &Stream<'_>,
        map: &ModuleMap<'_>,
        (path, function): (&Path, &str),
    ) -> Vec<Step> {
        let mut steps: VecDeque<Step> = VecDeque::new();
        for pc in stream.pcs() {
            let Place::In(module) = map.find(pc) else {
                continue;
            };
            let key = (module.path.clone(), module.build_id.clone());
            // The call stands before the return address.
            let address = pc.wrapping_sub(module.bias).wrapping_sub(1);
            let frames = self.frames(key, address);
            if frames
                .iter()
                .any(|step| step.function == function && step.path == path)
            {
                break;
            }
            let Some(step) = frames.first() else {
                continue;
            };
            match steps.back_mut() {
                Some(last) if last.function == step.function && last.path == step.path => {
                    last.line = step.line;
                }
                _ => steps.push_back(step.clone()),
            }
            if steps.len() > KEPT {
                steps.pop_front();
            }
        }
        steps.into()
    }

    fn frames(&mut self, key: ImageKey, address: u64) -> &[Step] {
        let symbolizers = &mut self.symbolizers;
        let moved = &self.search.moved;
        self.known
            .entry((key, address))
            .or_insert_with_key(|(key, address)| {
                let Some(Ok(symbolizer)) = symbolizers.get_mut(key) else {
                    return Vec::new();
                };
                let frames = symbolizer.frames(*address).into_iter();
                frames
                    .filter_map(|frame| {
                        Some(Step {
                            function: demangled(&frame.symbol?),
                            path: place(Path::new(&frame.file?), moved),
                            line: frame.line?,
                        })
                    })
                    .collect()
            })
    }
}
