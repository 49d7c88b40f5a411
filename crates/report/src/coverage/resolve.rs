// SPDX-License-Identifier: MIT OR Apache-2.0
//! From addresses of images to lines and functions.

use std::collections::hash_map::Entry;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::gather::{ImageHits, ImageKey};
use super::paths::clean;
use super::{Coverage, Function, Hits, ImageSummary, StreamSet};
use crate::image::{demangled, Image, Search, Symbolizer};

/// Addresses that one worker looks up with debug information of its own.
const PORTION: usize = 8192;

/// An instruction, and who ran it.
struct Spot {
    address: u64,
    hits: Hits,
}

/// What is known of an image's addresses.
pub(super) struct Resolved {
    summary: ImageSummary,
    sources: Sources,
}

/// Lines and functions of one image, or of a portion of its addresses.
#[derive(Default)]
struct Sources {
    lines: FxHashMap<(Arc<str>, u32), Hits>,
    /// By symbol and file.
    functions: FxHashMap<(Arc<str>, Arc<str>), Extent>,
    /// Functions without a line, by symbol.
    bare: FxHashMap<Arc<str>, Hits>,
    /// Addresses of which nothing is known.
    unknown: u64,
}

struct Extent {
    first: u32,
    last: u32,
    hits: Hits,
}

pub(super) fn resolve(images: BTreeMap<ImageKey, ImageHits>, search: &Search) -> Vec<Resolved> {
    let images: Vec<_> = images.into_iter().collect();
    images
        .into_par_iter()
        .map(|((path, build_id), hits)| one(Image::find(&path, &build_id, search), hits))
        .collect()
}

fn one(image: Image, hits: ImageHits) -> Resolved {
    let mut streams = StreamSet::new();
    for hits in hits.addresses.values() {
        streams.union(&hits.streams);
    }
    let mut summary = ImageSummary {
        path: image.path().to_owned(),
        build_id: image.build_id().clone(),
        pcs: hits.addresses.len() as u64,
        streams,
        has_lines: image.has_lines(),
        problems: Vec::new(),
        functions: Vec::new(),
        unknown: 0,
    };
    // What was recorded are return addresses; the call is before them.
    let spots: Vec<Spot> = hits
        .addresses
        .into_iter()
        .map(|(pc, hits)| Spot {
            address: pc.wrapping_sub(1),
            hits,
        })
        .collect();
    let portions: Result<Vec<Sources>, _> = spots
        .par_chunks(PORTION)
        .map(|portion| {
            let mut sources = Sources::default();
            let mut symbolizer = image.symbolizer()?;
            portion
                .iter()
                .for_each(|spot| sources.add(spot, &mut symbolizer));
            Ok(sources)
        })
        .collect();
    let mut sources = Sources::default();
    match portions {
        Ok(portions) => portions
            .into_iter()
            .for_each(|portion| sources.merge(portion)),
        Err(problem) => {
            summary.has_lines = false;
            summary.problems.push(problem);
            sources.unknown = summary.pcs;
        }
    }
    summary.problems.extend(image.into_problems());
    Resolved { summary, sources }
}

impl Sources {
    fn add(&mut self, spot: &Spot, symbolizer: &mut Symbolizer<'_>) {
        let frames = symbolizer.frames(spot.address);
        if frames.is_empty() {
            self.unknown += 1;
        }
        let mut placed = false;
        for frame in &frames {
            let (Some(file), Some(line)) = (&frame.file, frame.line) else {
                continue;
            };
            placed = true;
            let line_hits = self.lines.entry((Arc::clone(file), line));
            line_hits.or_default().merge(&spot.hits);
            if let Some(symbol) = &frame.symbol {
                let key = (Arc::clone(symbol), Arc::clone(file));
                self.functions
                    .entry(key)
                    .and_modify(|extent| extent.add(line, line, &spot.hits))
                    .or_insert_with(|| Extent {
                        first: line,
                        last: line,
                        hits: spot.hits.clone(),
                    });
            }
        }
        if !placed {
            if let Some(symbol) = frames.iter().rev().find_map(|frame| frame.symbol.as_ref()) {
                let hits = self.bare.entry(Arc::clone(symbol)).or_default();
                hits.merge(&spot.hits);
            }
        }
    }

    fn merge(&mut self, other: Self) {
        for (line, hits) in other.lines {
            self.lines.entry(line).or_default().merge(&hits);
        }
        for (key, theirs) in other.functions {
            match self.functions.entry(key) {
                Entry::Occupied(mut mine) => {
                    mine.get_mut().add(theirs.first, theirs.last, &theirs.hits);
                }
                Entry::Vacant(free) => {
                    free.insert(theirs);
                }
            }
        }
        for (symbol, hits) in other.bare {
            self.bare.entry(symbol).or_default().merge(&hits);
        }
        self.unknown += other.unknown;
    }
}

impl Extent {
    fn add(&mut self, first: u32, last: u32, hits: &Hits) {
        self.first = self.first.min(first);
        self.last = self.last.max(last);
        self.hits.merge(hits);
    }
}

/// Puts what images say of the same sources together.
pub(super) fn merge(images: Vec<Resolved>, into: &mut Coverage) {
    let mut functions: BTreeMap<(PathBuf, String), Vec<Extent>> = BTreeMap::new();
    for Resolved {
        mut summary,
        sources,
    } in images
    {
        let mut bare: BTreeMap<String, Hits> = BTreeMap::new();
        for (symbol, hits) in sources.bare {
            bare.entry(demangled(&symbol)).or_default().merge(&hits);
        }
        summary.unknown = sources.unknown;
        summary.functions = bare
            .into_iter()
            .map(|(name, hits)| Function {
                name: name.into(),
                lines: (0, 0),
                hits,
            })
            .collect();
        into.images.push(summary);
        for ((file, line), hits) in sources.lines {
            let file = into.files.entry(clean(&file)).or_default();
            file.lines.entry(line).or_default().merge(&hits);
        }
        for ((symbol, file), extent) in sources.functions {
            let key = (clean(&file), demangled(&symbol));
            functions.entry(key).or_default().push(extent);
        }
    }
    for ((file, name), extents) in functions {
        let file = into.files.entry(file).or_default();
        let name: Arc<str> = name.into();
        file.functions
            .extend(distinct(extents).into_iter().map(|extent| Function {
                name: Arc::clone(&name),
                lines: (extent.first, extent.last),
                hits: extent.hits,
            }));
    }
    for file in into.files.values_mut() {
        file.functions
            .sort_by(|a, b| (a.lines, &a.name).cmp(&(b.lines, &b.name)));
    }
}

/// Functions of one name in one file. What overlaps is one function: copies that the compiler
/// made, instances of a template or generic function. What does not are two, such as closures.
fn distinct(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.sort_by_key(|extent| (extent.first, extent.last));
    let mut distinct: Vec<Extent> = Vec::new();
    for extent in extents {
        match distinct.last_mut() {
            Some(last) if extent.first <= last.last => {
                last.add(extent.first, extent.last, &extent.hits);
            }
            _ => distinct.push(extent),
        }
    }
    distinct
}
