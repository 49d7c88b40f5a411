// SPDX-License-Identifier: MIT OR Apache-2.0
//! What follows the table: code without lines, what the numbers rest on, and what is missing.

use std::io;

use super::super::alarms::alarms;
use super::super::style::{harmless, number, plural, shown, width, wrapped, Role};
use super::super::Detail;
use super::{Page, LINE_ROWS};
use crate::contexts::ended_early;
use crate::coverage::{Parties, Seen, StreamSummary, View};
use crate::trace::Mode;

impl Page<'_> {
    /// Functions of images whose lines are not known.
    pub(super) fn bare_functions(&mut self, view: &View<'_>) -> io::Result<()> {
        let style = self.options.style;
        for image in &view.coverage.images {
            let ran: Vec<_> = image
                .functions
                .iter()
                .filter(|function| view.selection.sees(&function.hits) == Seen::Ran)
                .collect();
            if ran.is_empty() {
                continue;
            }
            writeln!(self.to)?;
            let heading = format!(
                "{}: {} that ran, lines not known",
                harmless(&shown(&image.path)),
                plural(ran.len() as u64, "function"),
            );
            writeln!(self.to, "{}", style.paint(Role::Heading, heading))?;
            if self.options.detail == Detail::Sums {
                continue;
            }
            let names: Vec<String> = ran.iter().map(|f| harmless(&f.name)).collect();
            let mut rows = wrapped(&names, self.options.width.saturating_sub(2));
            if !self.options.full && !self.options.functions && rows.len() > LINE_ROWS {
                rows.truncate(LINE_ROWS);
                rows.push("…".to_owned());
            }
            for row in rows {
                writeln!(self.to, "  {row}")?;
            }
        }
        Ok(())
    }

    pub(super) fn folded(&mut self, view: &View<'_>) -> io::Result<()> {
        if view.folded.is_empty() {
            return Ok(());
        }
        let parts: Vec<String> = view
            .folded
            .iter()
            .map(|(outside, count)| {
                let lines = plural(count.lines as u64, "line");
                let files = plural(count.files as u64, "file");
                format!("{outside} ({lines} in {files})")
            })
            .collect();
        let folded = format!("folded: {}; --all-sources shows them", parts.join(", "));
        writeln!(self.to)?;
        self.paragraph(&folded, Role::Aside)
    }

    /// What the numbers rest on, and whether something is missing.
    pub(super) fn facts(&mut self, view: &View<'_>) -> io::Result<()> {
        let coverage = view.coverage;
        let selected: Vec<&StreamSummary> = view
            .selection
            .streams
            .iter()
            .filter_map(|stream| coverage.streams.get(stream))
            .collect();
        let pcs = view.pcs();
        let records = selected
            .iter()
            .fold(0_u64, |sum, stream| sum.saturating_add(stream.records));
        let recorded = match coverage.mode {
            Mode::Trace | Mode::Unique => {
                format!("{} in {}", plural(pcs, "PC"), plural(records, "record"))
            }
            Mode::Cmp => format!("{} at {}", plural(records, "comparison"), plural(pcs, "PC")),
        };
        let processes: usize = coverage.runs.iter().map(|run| run.processes).sum();
        let process = match processes {
            1 => "1 process".to_owned(),
            n => format!("{} processes", number(n as u64)),
        };
        let parties: Parties = selected.iter().copied().collect();
        let contexts = match parties.contexts() {
            0 => String::new(),
            n => format!(", {}", plural(n as u64, "context")),
        };
        writeln!(self.to)?;
        writeln!(
            self.to,
            "{recorded} · {} · {} · {} of {process}{contexts}",
            plural(view.functions_ran() as u64, "function"),
            plural(view.lines_ran() as u64, "line"),
            plural(parties.threads() as u64, "thread"),
        )?;
        let early = coverage.ended_early(view.selection.streams.iter()) as u64;
        if let Some(text) = ended_early(early) {
            self.paragraph(&text, Role::Aside)?;
        }
        let unknown: u64 = view
            .files
            .iter()
            .map(|file| file.unknown.len() as u64)
            .sum();
        if unknown > 0 && !view.selection.exclusive {
            let text = format!(
                "{} with code may have run or not: nothing recorded tells. They are among the lines \
                 with code, not among those that ran",
                plural(unknown, "line"),
            );
            self.paragraph(&text, Role::Aside)?;
        }
        self.missing(view)
    }

    fn missing(&mut self, view: &View<'_>) -> io::Result<()> {
        let coverage = view.coverage;
        let alarms = alarms(view);
        if coverage.mode != Mode::Cmp {
            let images = coverage.images.iter();
            let without = images.filter(|image| {
                image.has_lines
                    && image.sites.is_none()
                    && image.streams.meets(&view.selection.streams)
            });
            for image in without {
                let text = format!(
                    "uncovered lines of {} cannot be determined: its code has no call of the \
                     instrumentation",
                    harmless(&shown(&image.path)),
                );
                self.paragraph(&text, Role::Aside)?;
            }
        }
        if alarms.is_empty() {
            writeln!(self.to, "nothing was dropped")?;
        }
        for alarm in alarms {
            self.paragraph(&alarm, Role::Alarm)?;
        }
        Ok(())
    }

    pub(super) fn paragraph(&mut self, text: &str, role: Role) -> io::Result<()> {
        let mut row = String::new();
        let mut rows = Vec::new();
        for word in text.split(' ') {
            if !row.is_empty() && width(&row) + 1 + width(word) > self.options.width {
                rows.push(std::mem::take(&mut row));
            }
            if !row.is_empty() {
                row.push(' ');
            }
            row.push_str(word);
        }
        rows.push(row);
        for row in rows {
            writeln!(self.to, "{}", self.options.style.paint(role, row))?;
        }
        Ok(())
    }
}
