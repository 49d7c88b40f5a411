// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bare PCs, one a line, as kernel fuzzers' tools read them.

use std::io::{self, Write};

use rustc_hash::FxHashSet;

use crate::coverage::{Guards, Thread};
use crate::image::Search;
use crate::trace::{ProcessId, Stream, Trace};

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
    let mut unique: FxHashSet<u64> = FxHashSet::default();
    each(traces, options, search, &mut |_, _, pc| {
        if options.raw {
            writeln!(to, "{pc:#x}")?;
        } else {
            unique.insert(pc);
        }
        Ok(())
    })?;
    let mut unique: Vec<u64> = unique.into_iter().collect();
    unique.sort_unstable();
    for pc in unique {
        writeln!(to, "{pc:#x}")?;
    }
    Ok(())
}

/// Gives `to` the PCs that are wanted, with the number of their trace and their process, in the order of the
/// streams and of recording, however often.
pub(super) fn each(
    traces: &[&Trace<'_>],
    options: &PcOptions,
    search: &Search,
    to: &mut dyn FnMut(usize, ProcessId, u64) -> io::Result<()>,
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
    for (run, stream) in wanted {
        let process = stream.info().process;
        let mut pcs = guards.pcs(run, stream);
        pcs.try_for_each(|pc| match elsewhere.contains(&pc) {
            true => Ok(()),
            false => to(run, process, pc),
        })?;
    }
    Ok(())
}
