// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bare PCs, one a line, as kernel fuzzers' tools read them.

use std::io::{self, Write};

use rustc_hash::FxHashSet;

use crate::coverage::{Guards, Thread};
use crate::image::Search;
use crate::trace::{Stream, Trace};

/// Which PCs are wanted.
#[derive(Clone, Debug, Default)]
pub struct PcOptions {
    /// Of these threads; of all if none is named.
    pub threads: Vec<Thread>,
    /// Only those that no other thread ran.
    pub exclusive: bool,
    /// In the order of the streams and of recording, however often; otherwise sorted, each once.
    pub raw: bool,
}

impl PcOptions {
    fn wants(&self, stream: &Stream<'_>) -> bool {
        let info = stream.info();
        let is = |thread: &Thread| thread.is(info.main, info.tid, &info.name, &info.label);
        self.threads.is_empty() || self.threads.iter().any(is)
    }
}

/// Writes PCs: return addresses in memory, as they were recorded, or those of sites whose guards were.
/// The files of modules are looked for as `search` says.
///
/// # Errors
/// What `to` says.
pub fn pcs(
    traces: &[&Trace<'_>],
    options: &PcOptions,
    search: &Search,
    to: &mut dyn Write,
) -> io::Result<()> {
    let guards = Guards::of(traces, search);
    let (wanted, others): (Vec<_>, Vec<_>) = traces
        .iter()
        .enumerate()
        .flat_map(|(run, trace)| trace.streams().iter().map(move |stream| (run, stream)))
        .partition(|(_, stream)| options.wants(stream));
    let elsewhere: FxHashSet<u64> = if options.exclusive {
        others
            .iter()
            .flat_map(|(run, stream)| guards.pcs(*run, stream))
            .collect()
    } else {
        FxHashSet::default()
    };
    let pcs = wanted
        .iter()
        .flat_map(|(run, stream)| guards.pcs(*run, stream))
        .filter(|pc| !elsewhere.contains(pc));
    if options.raw {
        for pc in pcs {
            writeln!(to, "{pc:#x}")?;
        }
    } else {
        let mut unique: Vec<u64> = pcs.collect::<FxHashSet<_>>().into_iter().collect();
        unique.sort_unstable();
        for pc in unique {
            writeln!(to, "{pc:#x}")?;
        }
    }
    Ok(())
}
