// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operands of comparisons, by the lines that made them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::gather::ImageKey;
use super::modules::{ModuleMap, Modules, Place};
use super::paths::place;
use super::StreamIndex;
use crate::image::{Image, Search};
use crate::trace::Trace;

/// Two numbers that a program compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The first operand, zero-extended; the constant if there is one.
    pub first: u64,
    /// The second operand, zero-extended.
    pub second: u64,
    /// How many bytes of them were compared.
    pub bytes: u32,
    /// Whether the first stands in the program's code.
    pub constant: bool,
}

/// Pairs, and how often each was recorded.
pub type Operands = BTreeMap<Pair, u64>;

/// The comparisons of one line, by stream.
pub(super) type OfLine = BTreeMap<StreamIndex, Operands>;

/// All that was compared, by source file and line.
pub(super) type Comparisons = BTreeMap<PathBuf, BTreeMap<u32, OfLine>>;

/// Finds the lines of all comparisons in traces that have some.
pub(super) fn of(traces: &[&Trace<'_>], search: &Search) -> Comparisons {
    let mut images: BTreeMap<ImageKey, BTreeMap<u64, OfLine>> = BTreeMap::new();
    let mut index = 0;
    for trace in traces {
        let modules = Modules::new(trace);
        for stream in trace.streams() {
            let map = ModuleMap::new(&modules, stream.info().process);
            for comparison in stream.comparisons() {
                let Place::In(module) = map.find(comparison.pc) else {
                    continue;
                };
                let pair = Pair {
                    first: comparison.arg1,
                    second: comparison.arg2,
                    bytes: comparison.kind.operand_bytes(),
                    constant: comparison.kind.is_const(),
                };
                let key = (module.path.clone(), module.build_id.clone());
                let address = comparison.pc.wrapping_sub(module.bias);
                let at = images.entry(key).or_default().entry(address).or_default();
                *at.entry(index).or_default().entry(pair).or_default() += 1;
            }
            index += 1;
        }
    }
    let mut found = Comparisons::new();
    for ((path, id), addresses) in images {
        let image = Image::find(&path, &id, search);
        let Ok(mut symbolizer) = image.symbolizer() else {
            continue;
        };
        for (address, streams) in addresses {
            let frames = symbolizer.frames(address.wrapping_sub(1));
            let innermost = frames.into_iter().next();
            let Some((file, line)) = innermost.and_then(|frame| Some((frame.file?, frame.line?)))
            else {
                continue;
            };
            let at = found
                .entry(place(Path::new(&file), &search.moved))
                .or_default()
                .entry(line)
                .or_default();
            for (stream, pairs) in streams {
                let all = at.entry(stream).or_default();
                for (pair, count) in pairs {
                    *all.entry(pair).or_default() += count;
                }
            }
        }
    }
    found
}
