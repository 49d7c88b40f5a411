// SPDX-License-Identifier: MIT OR Apache-2.0
//! DynamoRIO's drcov, version 2: what plugins of disassemblers read.
//!
//! A PC that was recorded lies in the block that ran. Where that block begins and ends is not known here, so
//! each place stands for one byte: the first of the instruction at the PC.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::Path;

use super::pcs::{each, PcOptions};
use super::style::harmless;
use crate::image::{Image, Search};
use crate::trace::{BuildId, Module, Trace};

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
    let mut bases: HashMap<(&Path, &BuildId), Option<u64>> = HashMap::new();
    let mut blocks: BTreeSet<(u16, u32)> = BTreeSet::new();
    each(traces, options, search, &mut |run, process, pc| {
        let inside = |module: &&Module| {
            module.process.is_none_or(|id| id == process)
                && module.range.contains(&(pc.wrapping_sub(1)))
        };
        let Some(module) = traces[run].modules().iter().find(inside) else {
            return Ok(());
        };
        // A disassembler counts from where the file begins in memory, which is before its code.
        let header = bases
            .entry((&module.path, &module.build_id))
            .or_insert_with(|| Image::header(&module.path, &module.build_id, search));
        let base = header.map_or(module.range.start, |at| at.wrapping_add(module.bias));
        let entry = (&*module.path, base, module.range.end);
        let at = modules.iter().position(|one| *one == entry);
        let at = at.unwrap_or_else(|| {
            modules.push(entry);
            modules.len() - 1
        });
        // The format has 16 bits for a module and 32 for a place in it.
        let place = u32::try_from(pc.wrapping_sub(base));
        if let (Ok(module), Ok(place)) = (u16::try_from(at), place) {
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
