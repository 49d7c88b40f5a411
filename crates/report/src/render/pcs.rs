// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bare PCs, one a line, as kernel fuzzers' tools read them.

use std::io::{self, Write};

use rustc_hash::FxHashSet;

use super::style::{harmless, shown};
use crate::coverage::{Guards, Places, Thread};
use crate::image::Search;
use crate::trace::{ProcessId, Stream, Trace};

/// Which PCs are wanted.
#[derive(Clone, Debug, Default)]
pub struct PcOptions {
    /// Of these threads; of all if none is named.
    pub threads: Vec<Thread>,
    /// Only those that no other thread ran.
    pub exclusive: bool,
    /// Addresses in memory, in the order of the streams and of recording, however often; otherwise
    /// places of files, sorted, each once.
    pub raw: bool,
}

impl PcOptions {
    fn wants(&self, stream: &Stream<'_>) -> bool {
        let info = stream.info();
        let is = |thread: &Thread| thread.is(info.main, info.tid, &info.name, &info.label);
        self.threads.is_empty() || self.threads.iter().any(is)
    }
}

/// Writes PCs, which are return addresses: as places of files, `PATH+0xOFFSET`, which are the same in
/// each run; with [`PcOptions::raw`] as they were recorded, in memory. Where guards were recorded, these
/// are the PCs of their sites. The files of modules are looked for as `search` says.
///
/// # Errors
/// What `to` says.
pub fn pcs(
    traces: &[&Trace<'_>],
    options: &PcOptions,
    search: &Search,
    to: &mut dyn Write,
) -> io::Result<()> {
    if options.raw {
        return each(traces, options, search, &mut |_, _, pc| {
            writeln!(to, "{pc:#x}")
        });
    }
    let guards = Guards::of(traces, search);
    let places: Vec<Places<'_>> = traces.iter().map(|trace| Places::new(trace)).collect();
    let (wanted, elsewhere) = chosen(traces, options, &guards, |(trace, process), pcs| {
        let unique: FxHashSet<u64> = pcs.collect();
        places[trace].of(process, unique)
    });
    let mut unique: Vec<_> = wanted
        .into_iter()
        .collect::<FxHashSet<_>>()
        .into_iter()
        .collect();
    unique.retain(|place| !elsewhere.contains(place));
    unique.sort_unstable();
    for (path, offset) in unique {
        match path {
            Some(path) => writeln!(to, "{}+{offset:#x}", harmless(&shown(path)))?,
            None => writeln!(to, "{offset:#x}")?,
        }
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

/// What `of` makes of the PCs of the streams that are wanted; and of all others, if that matters.
fn chosen<'t, T: Eq + std::hash::Hash>(
    traces: &[&'t Trace<'t>],
    options: &PcOptions,
    guards: &Guards<'_>,
    of: impl Fn((usize, ProcessId), &mut dyn Iterator<Item = u64>) -> Vec<T>,
) -> (Vec<T>, FxHashSet<T>) {
    let mut wanted = Vec::new();
    let mut others = FxHashSet::default();
    for (at, trace) in traces.iter().enumerate() {
        for stream in trace.streams() {
            let is_wanted = options.wants(stream);
            if is_wanted || options.exclusive {
                let found = of((at, stream.info().process), &mut guards.pcs(at, stream));
                if is_wanted {
                    wanted.extend(found);
                } else {
                    others.extend(found);
                }
            }
        }
    }
    (wanted, others)
}
