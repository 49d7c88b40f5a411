// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for people.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::style::{
    harmless, head, number, percent, plural, ranges, shown, tail, width, wrapped, Role, Style,
};
use super::tree::{crate_of, Folder, Totals};
use super::Detail;
use crate::contexts::ended_early;
use crate::coverage::{FileView, Operands, Parties, Seen, StreamSummary, View, NOTHING_REMAINS};
use crate::trace::{Drops, Loss, Mode};

/// What the report for people shows, and how.
#[derive(Clone, Copy, Debug)]
pub struct TextOptions {
    /// Columns to fit into.
    pub width: usize,
    /// Rows to fit into, if there is a screen. What does not fit is shown in less detail.
    pub height: Option<usize>,
    /// All files, whether anything in them ran or not, and whether they fit or not.
    pub all_files: bool,
    /// Colour or not.
    pub style: Style,
    /// With sums only, what follows is left out, whatever it says.
    pub detail: Detail,
    /// The functions of each file, too.
    pub functions: bool,
    /// The text of the lines, too, where it can be read.
    pub source: bool,
    /// All line numbers, however many.
    pub full: bool,
    /// The lines that did not run instead of those that ran.
    pub uncovered: bool,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            width: 100,
            height: None,
            all_files: false,
            style: Style::default(),
            detail: Detail::default(),
            functions: false,
            source: false,
            full: false,
            uncovered: false,
        }
    }
}

/// Rows that line numbers of one file take at most, unless all are wanted.
const LINE_ROWS: usize = 3;

/// Writes the report: what ran, file by file, and what the numbers rest on. With `threads`, the
/// views of single threads, it has a table for each of them instead of one for all.
///
/// # Errors
/// What `to` says.
pub fn text(
    view: &View<'_>,
    threads: &[View<'_>],
    options: &TextOptions,
    to: &mut dyn Write,
) -> io::Result<()> {
    let mut page = Page {
        options,
        shape: Shape::WHOLE,
        to,
    };
    if threads.is_empty() {
        page.fitted(view)?;
    }
    for thread in threads {
        page.thread(thread)?;
        page.table(thread)?;
        writeln!(page.to)?;
    }
    page.bare_functions(view)?;
    page.folded(view)?;
    page.facts(view)?;
    match excluded(view) {
        Some(text) => page.paragraph(&format!("{text}; --no-exclusions counts them"), Role::Aside),
        None => Ok(()),
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

struct Page<'o> {
    options: &'o TextOptions,
    shape: Shape,
    to: &'o mut dyn Write,
}

/// How much of the table is shown.
#[derive(Clone, Copy)]
struct Shape {
    /// Rows that line numbers of a file take at most.
    line_rows: usize,
    /// Levels of folders that are open.
    depth: usize,
}

impl Shape {
    const WHOLE: Self = Self {
        line_rows: LINE_ROWS,
        depth: usize::MAX,
    };
}

/// The columns of the table.
struct Columns {
    name: usize,
    functions: usize,
    lines: usize,
    percent: bool,
}

impl Columns {
    /// Where the line numbers begin.
    fn numbers(&self) -> usize {
        self.name + 2 + self.functions + 2 + self.lines + if self.percent { 6 } else { 0 } + 2
    }
}

impl Page<'_> {
    fn nothing(&mut self, view: &View<'_>) -> io::Result<()> {
        let nothing = view.coverage.streams.iter().all(|stream| stream.pcs == 0);
        let why = if nothing && view.coverage.mode == Mode::Cmp {
            "No comparison was recorded: was the program built with `rkcov cc --cmp`?"
        } else if nothing {
            "Nothing was recorded: was the program built with `rkcov cc`?"
        } else if view.coverage.nothing_remains() {
            NOTHING_REMAINS
        } else if view.selection.exclusive {
            "No lines that ran on these threads only."
        } else {
            "No lines to show."
        };
        writeln!(self.to, "{why}")
    }

    /// The heading of a thread's table.
    fn thread(&mut self, view: &View<'_>) -> io::Result<()> {
        let streams = view.selection.streams.iter();
        let streams = streams.filter_map(|index| view.coverage.streams.get(index));
        let mut seen = Parties::default();
        for stream in streams.filter(|stream| seen.add(stream)) {
            let command: Vec<_> = stream
                .process
                .command
                .iter()
                .map(|arg| arg.to_string_lossy())
                .collect();
            let heading = format!(
                "thread {} of process {} {}",
                stream.thread(),
                stream.process.pid,
                command.join(" "),
            );
            let heading = head(harmless(&heading).trim_end(), self.options.width);
            writeln!(
                self.to,
                "{}",
                self.options.style.paint(Role::Heading, heading)
            )?;
        }
        Ok(())
    }

    /// The table, in as much detail as fits the screen.
    fn fitted(&mut self, view: &View<'_>) -> io::Result<()> {
        /// What follows the table.
        const BELOW: usize = 8;
        let options = self.options;
        let asked = options.all_files
            || options.full
            || options.functions
            || options.source
            || options.uncovered
            || options.detail == Detail::Sums;
        let Some(height) = options.height.filter(|_| !asked) else {
            return self.table(view);
        };
        let deepest = Folder::tree(&view.files).1.depth();
        let levels = (1..=deepest).rev().map(|depth| Shape {
            line_rows: 1,
            depth,
        });
        let narrow = Shape {
            line_rows: 1,
            ..Shape::WHOLE
        };
        let shapes: Vec<Shape> = [Shape::WHOLE, narrow].into_iter().chain(levels).collect();
        let mut table = Vec::new();
        for shape in shapes {
            table.clear();
            let mut page = Page {
                options,
                shape,
                to: &mut table,
            };
            page.table(view)?;
            self.shape = shape;
            let rows = table.iter().filter(|byte| **byte == b'\n').count();
            if rows + BELOW <= height {
                break;
            }
        }
        self.to.write_all(&table)?;
        if self.shape.depth != Shape::WHOLE.depth {
            let text = "some folders are not opened, to fit the screen; --all-files opens them";
            self.paragraph(text, Role::Aside)?;
        }
        Ok(())
    }

    /// Whether a file has a row.
    fn is_listed(&self, file: &FileView<'_>) -> bool {
        let ran = file.lines_ran() > 0 || file.functions_ran() > 0 || !file.comparisons.is_empty();
        let options = self.options;
        ran || options.all_files || options.uncovered || options.detail == Detail::Sums
    }

    /// One line for the files that have no row.
    fn left_out(&mut self, view: &View<'_>) -> io::Result<()> {
        let mut totals = Totals::default();
        let mut files = 0;
        for file in view.files.iter().filter(|file| !self.is_listed(file)) {
            totals.add(Totals::of(file));
            files += 1;
        }
        if files == 0 {
            return Ok(());
        }
        let text = format!(
            "not listed, because nothing in them ran: {} with {} and {}; --all-files lists them",
            plural(files, "file"),
            plural(totals.functions, "function"),
            plural(totals.lines, "line"),
        );
        self.paragraph(&text, Role::Aside)
    }

    fn table(&mut self, view: &View<'_>) -> io::Result<()> {
        if view.files.is_empty() {
            return self.nothing(view);
        }
        let (base, tree) = Folder::tree(&view.files);
        let totals = tree.totals();
        let percent = view.files.iter().any(|file| file.complete);
        let number_width = |heading: &str, ran: u64, all: u64| {
            let text = if percent {
                format!("{}/{}", number(ran), number(all))
            } else {
                number(ran)
            };
            width(heading).max(width(&text))
        };
        let mut columns = Columns {
            name: longest_name(&tree, 0, &|file| self.is_listed(file)).max(width("total")),
            functions: number_width("functions", totals.functions_ran, totals.functions),
            lines: number_width("lines", totals.lines_ran, totals.lines),
            percent,
        };
        let share = (self.options.width * 45 / 100).max(16);
        columns.name = columns.name.min(share);

        let style = self.options.style;
        let base = harmless(&shown(&base));
        if !base.is_empty() {
            writeln!(self.to, "{}", style.paint(Role::Heading, base))?;
        }
        let ran = if self.options.detail == Detail::Sums {
            ""
        } else if view.coverage.mode == Mode::Cmp {
            "lines with comparisons that ran"
        } else if self.options.uncovered {
            "lines that did not run"
        } else if view.selection.exclusive {
            "lines that ran nowhere else"
        } else {
            "lines that ran"
        };
        let heading = format!(
            "{:name$}  {:>functions$}  {:>lines$}{}  {ran}",
            "",
            "functions",
            "lines",
            if percent { "     %" } else { "" },
            name = columns.name,
            functions = columns.functions,
            lines = columns.lines,
        );
        writeln!(self.to, "{}", style.paint(Role::Aside, heading.trim_end()))?;
        self.folder(&tree, 0, &columns)?;
        if view.files.len() > 1 {
            self.row("total", 0, Role::Heading, totals, &columns)?;
            writeln!(self.to)?;
        }
        self.left_out(view)?;
        self.crates(view, &columns)
    }

    /// A row for each Rust package, if there are several.
    fn crates(&mut self, view: &View<'_>, columns: &Columns) -> io::Result<()> {
        let mut crates: BTreeMap<String, Totals> = BTreeMap::new();
        for file in &view.files {
            if let Some(package) = crate_of(file.path) {
                crates.entry(package).or_default().add(Totals::of(file));
            }
        }
        if crates.len() < 2 {
            return Ok(());
        }
        let heading = self.options.style.paint(Role::Aside, "by crate");
        writeln!(self.to, "\n{heading}")?;
        for (name, totals) in crates {
            self.row(&harmless(&name), 0, Role::Folder, totals, columns)?;
            writeln!(self.to)?;
        }
        Ok(())
    }

    fn folder(
        &mut self,
        folder: &Folder<'_, '_>,
        depth: usize,
        columns: &Columns,
    ) -> io::Result<()> {
        for (name, inner) in &folder.folders {
            if !inner.any(&|file| self.is_listed(file)) {
                continue;
            }
            let name = format!("{}/", harmless(name));
            self.row(&name, depth, Role::Folder, inner.totals(), columns)?;
            writeln!(self.to)?;
            if depth + 1 < self.shape.depth {
                self.folder(inner, depth + 1, columns)?;
            }
        }
        for (name, file) in &folder.files {
            if !self.is_listed(file) {
                continue;
            }
            self.file(&harmless(name), file, depth, columns)?;
        }
        Ok(())
    }

    fn row(
        &mut self,
        name: &str,
        depth: usize,
        role: Role,
        totals: Totals,
        columns: &Columns,
    ) -> io::Result<()> {
        let style = self.options.style;
        let indent = 2 * depth.min(columns.name / 4);
        let name = tail(name, columns.name - indent);
        let space = columns.name - indent - width(&name);
        write!(
            self.to,
            "{:indent$}{}{:space$}",
            "",
            style.paint(role, name),
            ""
        )?;
        let of = |ran: u64, all: u64| {
            if totals.partial {
                number(ran)
            } else {
                format!("{}/{}", number(ran), number(all))
            }
        };
        write!(
            self.to,
            "  {:>functions$}  {:>lines$}",
            of(totals.functions_ran, totals.functions),
            of(totals.lines_ran, totals.lines),
            functions = columns.functions,
            lines = columns.lines,
        )?;
        if columns.percent {
            if totals.partial || totals.lines == 0 {
                write!(self.to, "      ")?;
            } else {
                let role = match totals.lines_ran * 100 / totals.lines {
                    75.. => Role::Good,
                    40..75 => Role::Middling,
                    _ => Role::Poor,
                };
                write!(
                    self.to,
                    " {}",
                    style.paint(
                        role,
                        format_args!("{:>5}", percent(totals.lines_ran, totals.lines))
                    )
                )?;
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        name: &str,
        file: &FileView<'_>,
        depth: usize,
        columns: &Columns,
    ) -> io::Result<()> {
        self.row(name, depth, Role::Heading, Totals::of(file), columns)?;
        if self.options.detail == Detail::Sums {
            return writeln!(self.to);
        }
        let wanted = |count: u64| (count == 0) == self.options.uncovered;
        let lines = file.lines.iter().filter(|(_, count)| wanted(**count));
        let numbers = ranges(lines.map(|(line, _)| *line));
        let at = columns.numbers();
        let mut rows = wrapped(&numbers, self.options.width.saturating_sub(at).max(12));
        let most = if self.options.full {
            usize::MAX
        } else {
            self.shape.line_rows
        };
        if rows.len() > most {
            rows.truncate(most);
            if let Some(last) = rows.last_mut() {
                // The end of the last row makes place for the mark.
                while width(last) + 2 > self.options.width.saturating_sub(at).max(12) {
                    match last.rfind(' ') {
                        Some(space) => last.truncate(space),
                        None => break,
                    }
                }
                last.push_str(" …");
            }
        }
        for (nth, row) in rows.iter().enumerate() {
            let indent = if nth == 0 { 2 } else { at };
            write!(self.to, "{:indent$}{row}", "")?;
            writeln!(self.to)?;
        }
        if rows.is_empty() {
            writeln!(self.to)?;
        }
        if self.options.functions {
            self.functions(file, depth + 1)?;
        }
        if self.options.source {
            self.source(file)?;
        }
        for (line, comparisons) in &file.comparisons {
            self.comparisons(*line, comparisons, depth + 1)?;
        }
        Ok(())
    }

    /// The operands that were compared at a line.
    fn comparisons(&mut self, line: u32, all: &Operands, depth: usize) -> io::Result<()> {
        /// Pairs that are shown of a line, unless all are wanted.
        const FEW: usize = 4;
        let few = if self.options.full { usize::MAX } else { FEW };
        let mut pairs: Vec<String> = all
            .iter()
            .take(few)
            .map(|(pair, count)| {
                let constant = if pair.constant { " (constant)" } else { "" };
                let times = if *count > 1 {
                    format!(" ×{count}")
                } else {
                    String::new()
                };
                format!("{:#x}{constant} {:#x}{times}", pair.first, pair.second)
            })
            .collect();
        if all.len() > few {
            pairs.push(format!("and {} more", number((all.len() - few) as u64)));
        }
        let indent = 2 * depth;
        writeln!(self.to, "{:indent$}{line}: {}", "", pairs.join(", "))
    }

    fn functions(&mut self, file: &FileView<'_>, depth: usize) -> io::Result<()> {
        let style = self.options.style;
        let known = file.functions.iter();
        let known = known.map(|(function, count)| match count {
            0 => (*function, '-', Role::Poor),
            _ => (*function, '+', Role::Good),
        });
        let unknown: &[_] = if file.complete {
            &file.unknown_functions
        } else {
            &[]
        };
        let unknown = unknown.iter().map(|function| (*function, '?', Role::Aside));
        let mut all: Vec<_> = known.chain(unknown).collect();
        all.sort_by_key(|(function, ..)| function.lines);
        for (function, mark, role) in all {
            let (first, last) = function.lines;
            let lines = ranges([first, last]).join("-");
            let indent = 2 * depth;
            let space = self
                .options
                .width
                .saturating_sub(indent + lines.len() + 4)
                .max(8);
            // The beginning of a function's name says most.
            let name = head(&harmless(&function.name), space);
            writeln!(
                self.to,
                "{:indent$}{} {name} {}",
                "",
                style.paint(role, mark),
                style.paint(Role::Aside, lines),
            )?;
        }
        Ok(())
    }

    fn source(&mut self, file: &FileView<'_>) -> io::Result<()> {
        let style = self.options.style;
        let text = match std::fs::read(file.path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                let why = format!("    source not available: {error}");
                return writeln!(self.to, "{}", style.paint(Role::Aside, why));
            }
        };
        let lines: Vec<&str> = text.lines().collect();
        let digits = lines.len().to_string().len();
        let mut before = 0;
        let unknown: &[u32] = if file.complete { &file.unknown } else { &[] };
        let mut numbers: Vec<u32> = if self.options.uncovered {
            let lines = file.lines.iter().filter(|(_, count)| **count == 0);
            lines.map(|(line, _)| *line).collect()
        } else {
            file.lines.keys().chain(unknown).copied().collect()
        };
        numbers.sort_unstable();
        // What stands between two lines must not be one that ran.
        let left_out = |line: &u32| {
            self.options.uncovered && (file.lines.contains_key(line) || unknown.contains(line))
        };
        for (line, shown) in with_context(&numbers, left_out) {
            let Some(text) = (line as usize).checked_sub(1).and_then(|at| lines.get(at)) else {
                continue;
            };
            if before != 0 && before + 1 != line {
                writeln!(
                    self.to,
                    "{}",
                    style.paint(Role::Aside, format_args!("{:>digits$} ⋮", ""))
                )?;
            }
            before = line;
            let (mark, role) = match file.lines.get(&line).filter(|_| shown) {
                Some(0) => ('-', Role::Poor),
                Some(_) => ('+', Role::Good),
                None if unknown.contains(&line) => ('?', Role::Aside),
                None => (' ', Role::Aside),
            };
            let text = harmless(&text.replace('\t', "    "));
            let line = format!("{line:>digits$} {mark} {text}");
            writeln!(self.to, "{}", style.paint(role, line.trim_end()))?;
        }
        writeln!(self.to)
    }

    /// Functions of images whose lines are not known.
    fn bare_functions(&mut self, view: &View<'_>) -> io::Result<()> {
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

    fn folded(&mut self, view: &View<'_>) -> io::Result<()> {
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
    fn facts(&mut self, view: &View<'_>) -> io::Result<()> {
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

    fn paragraph(&mut self, text: &str, role: Role) -> io::Result<()> {
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

/// What speaks against the numbers of a view: what was dropped, lost or overwritten.
pub(super) fn alarms(view: &View<'_>) -> Vec<String> {
    let coverage = view.coverage;
    let selected = view.selection.streams.iter();
    let selected: Vec<&StreamSummary> = selected
        .filter_map(|index| coverage.streams.get(index))
        .collect();
    let mut alarms: Vec<String> = Vec::new();
    let losses = coverage.losses(&view.selection);
    let (drops, others): (Vec<Loss>, Vec<Loss>) =
        losses.into_iter().partition(|loss| loss.reason.is_drop());
    let drops = Drops::sums(&drops.iter().map(Drops::from).collect::<Vec<_>>());
    if !drops.is_empty() {
        let parts: Vec<String> = drops
            .iter()
            .map(|drops| format!("{} ({})", number(drops.count), drops.reason))
            .collect();
        alarms.push(format!(
            "DROPPED: {}. More ran than is shown; record into larger buffers, or each PC once \
             (--mode unique)",
            parts.join(", ")
        ));
    }
    for loss in others {
        alarms.push(format!("LOST: {}", harmless(&loss.to_string())));
    }
    let count = |what: fn(&StreamSummary) -> u64| selected.iter().map(|s| what(s)).sum::<u64>();
    let lost = count(|stream| stream.lost.nowhere + stream.lost.ambiguous);
    if lost > 0 {
        alarms.push(format!("{} belong to no known module", plural(lost, "PC")));
    }
    let unknown: u64 = coverage.images.iter().map(|image| image.unknown).sum();
    if unknown > 0 {
        alarms.push(format!(
            "{} have neither line nor function",
            plural(unknown, "PC")
        ));
    }
    let overwritten = selected.iter().copied().filter(|stream| stream.count_lost);
    let overwritten = overwritten.collect::<Parties>().threads() as u64;
    if overwritten > 0 {
        alarms.push(format!(
            "the program overwrote the buffers of {}: their records may be wrong",
            plural(overwritten, "thread")
        ));
    }
    let unwritten = count(|stream| {
        if stream.info.finished {
            stream.unwritten
        } else {
            0
        }
    });
    if unwritten > 0 {
        alarms.push(format!(
            "{} of finished threads are blank: the program overwrote their buffers",
            plural(unwritten, "record")
        ));
    }
    for run in coverage.runs.iter().filter(|run| !run.finished) {
        alarms.push(format!(
            "{} is unfinished: its end is missing",
            harmless(&run.name)
        ));
    }
    alarms
}

/// Columns that the names of files and folders take.
fn longest_name(
    folder: &Folder<'_, '_>,
    depth: usize,
    is_listed: &dyn Fn(&FileView<'_>) -> bool,
) -> usize {
    let folders = folder.folders.iter();
    let folders = folders.filter(|(_, inner)| inner.any(is_listed));
    let folders = folders.map(|(name, inner)| {
        let own = 2 * depth + width(name) + 1;
        own.max(longest_name(inner, depth + 1, is_listed))
    });
    let files = folder.files.iter().filter(|(_, file)| is_listed(file));
    let files = files.map(|(name, _)| 2 * depth + width(name));
    folders.chain(files).max().unwrap_or(0)
}

/// The lines to print of a file: those with code, and what stands in small gaps between them.
fn with_context(lines: &[u32], left_out: impl Fn(&u32) -> bool) -> Vec<(u32, bool)> {
    const GAP: u32 = 4;
    let mut all = Vec::new();
    let mut before: Option<u32> = None;
    for &line in lines {
        if let Some(before) = before.filter(|before| line - before <= GAP + 1) {
            if !(before + 1..line).any(|between| left_out(&between)) {
                all.extend((before + 1..line).map(|between| (between, false)));
            }
        }
        all.push((line, true));
        before = Some(line);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::{Coverage, Named, Selection};
    use crate::image::Search;
    use crate::sources::Filter;
    use crate::trace::{DropReason, Info, StreamInfo, Trace, Writer};

    /// A trace may say any number. Found by the fuzz target `trace`.
    #[test]
    fn drops_without_end_are_no_overflow() {
        let mut writer = Writer::new(Vec::new(), &Info::new(Mode::Trace)).unwrap();
        let process = writer.process(&Default::default()).unwrap();
        let drops = Drops {
            reason: DropReason::Full,
            count: u64::MAX - 1,
        };
        for _ in 0..2 {
            let stream = StreamInfo {
                drops: vec![drops],
                ..StreamInfo::new(process)
            };
            writer.stream(&stream, []).unwrap();
            writer.drops(Some(process), &[drops, drops]).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let trace = Trace::parse(&bytes).unwrap();
        let named = Named {
            name: "overflow",
            trace: &trace,
        };
        let search = Search {
            debug_dirs: Vec::new(),
            binaries: Vec::new(),
            ..Search::default()
        };
        let coverage = Coverage::new(&[named], &search).unwrap();
        let filter = Filter::default();
        let all = Selection::threads(&coverage, &[], false).unwrap();
        let view = View::new(&coverage, all, &filter);
        let mut page = Vec::new();
        text(&view, &[], &TextOptions::default(), &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(
            page.contains("DROPPED: 18,446,744,073,709,551,615 ("),
            "{page}"
        );
    }
}
