// SPDX-License-Identifier: MIT OR Apache-2.0
//! DynamoRIO's drcov, version 2: what plugins of disassemblers read.
//!
//! A PC that was recorded lies in the block that ran. Where that block begins and ends is not known here, so
//! each place stands for one byte: the first of the instruction at the PC.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use super::pcs::{each, PcOptions};
use super::style::harmless;
use crate::image::Search;
use crate::trace::{Module, Trace};

/// Writes the places that were recorded as drcov.
///
/// # Errors
/// What `to` says.
pub fn drcov(
    traces: &[&Trace<'_>],
    options: &PcOptions,
    search: &Search,
    to: &mut dyn Write,
) -> io::Result<()> {
    let mut modules: Vec<(&Path, u64, u64)> = Vec::new();
    let mut blocks: BTreeSet<(u16, u32)> = BTreeSet::new();
    each(traces, options, search, &mut |run, process, pc| {
        let inside = |module: &&Module| {
            module.process.is_none_or(|id| id == process)
                && module.range.contains(&(pc.wrapping_sub(1)))
        };
        let Some(module) = traces[run].modules().iter().find(inside) else {
            return Ok(());
        };
        let entry = (&*module.path, module.range.start, module.range.end);
        let at = modules.iter().position(|one| *one == entry);
        let at = at.unwrap_or_else(|| {
            modules.push(entry);
            modules.len() - 1
        });
        // The format has 16 bits for a module and 32 for a place in it.
        if let (Ok(module), Ok(place)) = (u16::try_from(at), u32::try_from(pc - entry.1)) {
            blocks.insert((module, place));
        }
        Ok(())
    })?;
    writeln!(to, "DRCOV VERSION: 2")?;
    writeln!(to, "DRCOV FLAVOR: rkcov")?;
    writeln!(to, "Module Table: version 2, count {}", modules.len())?;
    writeln!(to, "Columns: id, base, end, entry, path")?;
    for (id, (path, start, end)) in modules.iter().enumerate() {
        let path = harmless(&path.to_string_lossy());
        writeln!(
            to,
            "{id:3}, {start:#018x}, {end:#018x}, 0x0000000000000000, {path}"
        )?;
    }
    writeln!(to, "BB Table: {} bbs", blocks.len())?;
    for (module, place) in blocks {
        to.write_all(&place.to_le_bytes())?;
        to.write_all(&1_u16.to_le_bytes())?;
        to.write_all(&module.to_le_bytes())?;
    }
    Ok(())
}
