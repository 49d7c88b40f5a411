// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for people.

mod facts;
mod file;

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::alarms::excluded;
use super::style::{harmless, head, number, percent, plural, shown, tail, width, Role, Style};
use super::tree::{crate_of, Folder, Totals};
use super::Detail;
use crate::coverage::{FileView, Parties, View, NOTHING_REMAINS};
use crate::trace::Mode;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::{Coverage, Named, Selection};
    use crate::image::Search;
    use crate::sources::Filter;
    use crate::trace::{DropReason, Drops, Info, StreamInfo, Trace, Writer};

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
