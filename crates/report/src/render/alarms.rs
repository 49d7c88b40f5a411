// SPDX-License-Identifier: MIT OR Apache-2.0
//! What speaks against the numbers of a report, in words for people.

use super::style::{harmless, number, plural};
use crate::coverage::{Alarm, View};

/// What was dropped, lost or overwritten.
pub(super) fn alarms(view: &View<'_>) -> Vec<String> {
    view.alarms().iter().map(said).collect()
}

fn said(alarm: &Alarm) -> String {
    match alarm {
        Alarm::Dropped(drops) => {
            let parts: Vec<String> = drops
                .iter()
                .map(|drops| format!("{} ({})", number(drops.count), drops.reason))
                .collect();
            format!(
                "DROPPED: {}. More ran than is shown; record into larger buffers, or each PC once \
                 (--mode unique)",
                parts.join(", ")
            )
        }
        Alarm::Lost(loss) => format!("LOST: {}", harmless(&loss.to_string())),
        Alarm::NoModule(pcs) => format!("{} belong to no known module", plural(*pcs, "PC")),
        Alarm::NoName(pcs) => format!("{} have neither line nor function", plural(*pcs, "PC")),
        Alarm::Overwritten(threads) => format!(
            "the program overwrote the buffers of {}: their records may be wrong",
            plural(*threads, "thread")
        ),
        Alarm::Blank(records) => format!(
            "{} of finished threads are blank: the program overwrote their buffers",
            plural(*records, "record")
        ),
        Alarm::Unfinished(name) => format!("{} is unfinished: its end is missing", harmless(name)),
    }
}

/// How much the sources themselves keep out of the numbers.
pub(super) fn excluded(view: &View<'_>) -> Option<String> {
    let excluded = &view.coverage.excluded;
    let (lines, files) = (excluded.count() as u64, excluded.lines.len() as u64);
    let (lines, files) = (plural(lines, "line"), plural(files, "file"));
    (!excluded.lines.is_empty())
        .then(|| format!("excluded by marks in the sources: {lines} in {files}"))
}
