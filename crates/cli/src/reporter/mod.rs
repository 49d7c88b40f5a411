// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes reports of traces: what `rkcov report` does, and other commands at their end.
//!
//! A command fills a [`Request`]; [`write()`] reads the traces and writes each report to its place.

mod error;
mod format;
mod judge;
mod list;
mod options;
mod percent;
mod runs;
mod watch;

pub use error::Error;
pub(crate) use format::{flagged, flags};
pub use format::{Flag, Format, Wanted};
pub(crate) use list::hexadecimal;
pub use list::List;
pub use options::Options;
pub(crate) use options::{together, Remap};
pub(crate) use percent::Percent;
pub use watch::watch;

use crate::cache;
use crate::config::{self, Choice};
use crate::error::{say, Chain, CLOSED_PIPE};
use crate::look::{Look, Screen};
use crate::pager::Paged;
use crate::progress::Shown;
use crate::since::Changes;
use rkcov::program::limits_are_errors;
use rkcov_report::contexts::Contexts;
use rkcov_report::coverage::{completed, Coverage, Named, View};
use rkcov_report::image::Search;
use rkcov_report::progress::Progress;
use rkcov_report::render::{self, Detail, PcOptions, TextOptions};
use rkcov_report::sources::{Filter, Pattern};
use rkcov_report::trace::{Trace, TraceFile, ADVICE};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Which traces to report, and how.
#[derive(Debug, Default)]
pub struct Request {
    /// Trace files.
    pub files: Vec<PathBuf>,
    /// PCs that are reported like a trace.
    pub list: Option<List>,
    /// Whether to report the valid part of a damaged trace.
    pub salvage: bool,
    /// Formats and where they go; none stands for what the end of the output's path says, or text.
    pub formats: Vec<Wanted>,
    /// Where the report goes whose format does not say it.
    pub output: Option<PathBuf>,
    /// Sources that the user does not want to see.
    pub exclude: Vec<Pattern>,
    /// Sources that the command leaves out besides.
    pub left_out: Vec<Pattern>,
    /// Folders of the project, beside those that the traces name.
    pub project: Vec<PathBuf>,
    /// Folders in debug information, and those in which the sources are.
    pub moved: Vec<(PathBuf, PathBuf)>,
    /// Folders with executables and libraries that were moved.
    pub binaries: Vec<PathBuf>,
    /// What it looks like on a terminal.
    pub screen: Screen,
    /// Whether to say nothing but what went wrong.
    pub quiet: bool,
    /// What to show.
    pub options: Options,
    /// The configuration that completes the options.
    pub choice: Choice,
    /// Whose thresholds count.
    pub thresholds: Thresholds,
}

/// Whose thresholds a report has to reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thresholds {
    /// Those of the options; without any, those of the configuration
    #[default]
    All,
    /// Those of the options
    OfOptions,
    /// Those of the configuration: the options have none
    OfConfiguration,
}

impl Request {
    /// The report of one trace in this format, without further options.
    #[must_use]
    pub fn plain(trace: &Path, format: Format, output: Option<PathBuf>) -> Self {
        Self {
            files: vec![trace.to_owned()],
            formats: vec![format.into()],
            output,
            options: Options {
                allow_missing: true,
                ..Options::default()
            },
            thresholds: Thresholds::OfOptions,
            ..Self::default()
        }
    }

    /// Reads the configuration and completes the request by it. Returns the filters that were asked for: those
    /// of the configuration are for other reports, too.
    fn prepare(&mut self) -> Result<Vec<Pattern>, Error> {
        let config = self.choice.read()?;
        let asked = self.options.filter.clone();
        self.complete(config.report);
        Ok(asked)
    }

    /// Completes it by what the configuration says. Options win over it. Its thresholds are for what it says
    /// itself: not for a part that options choose.
    fn complete(&mut self, config: config::Report) {
        let options = &mut self.options;
        let lines = |wanted: &Wanted| !wanted.format.is_of_pcs();
        let has_lines = self.formats.is_empty() || self.formats.iter().any(lines);
        let whole = has_lines
            && options.filter.is_empty()
            && self.exclude.is_empty()
            && options.thread.is_empty()
            && !options.exclusive
            && !options.contexts.chooses();
        let own = options.fail_under_lines.or(options.fail_under_patch);
        if whole && own.is_none() && self.thresholds == Thresholds::All {
            match options.since {
                None => options.fail_under_lines = config.fail_under_lines,
                Some(_) => options.fail_under_patch = config.fail_under_patch,
            }
            self.thresholds = Thresholds::OfConfiguration;
        }
        fn set<T>(option: &mut Vec<T>, config: Vec<T>) {
            if option.is_empty() {
                *option = config;
            }
        }
        set(&mut options.filter, config.filter);
        set(&mut self.exclude, config.exclude);
        self.exclude.append(&mut self.left_out);
        set(&mut options.remap, config.remap);
        set(&mut self.project, config.project);
        set(&mut self.binaries, config.binaries);
        set(&mut options.debug_dir, config.debug_dir);
        options.all_sources |= config.all_sources;
        options.no_exclusions |= config.no_exclusions;
    }
}

/// Writes the reports, as the request says and, where it says nothing, the configuration.
///
/// # Errors
/// A trace cannot be read, or a report cannot be written.
pub fn write(mut request: Request) -> Result<ExitCode, Error> {
    let asked = request.prepare()?;
    write_prepared(&request, &asked)
}

/// [`write()`] for a request that is complete. `asked` are the filters that the user asked for.
fn write_prepared(request: &Request, asked: &[Pattern]) -> Result<ExitCode, Error> {
    if request.options.exclusive && request.options.thread.is_empty() && !request.options.by_thread
    {
        return Err(Error::Exclusive);
    }
    let wanted = places(request)?;
    if request.options.since.is_some() && wanted.iter().any(|one| one.format == Format::Html) {
        return Err(Error::SinceHtml);
    }
    refuse(request, &wanted)?;
    let files = request
        .files
        .iter()
        .map(TraceFile::open)
        .collect::<Result<Vec<_>, _>>()?;
    let list = match &request.list {
        Some(list) => Some((list.pcs.display().to_string(), list::trace_of(list)?)),
        None => None,
    };
    let mut names: Vec<String> = files
        .iter()
        .map(|f| f.path().display().to_string())
        .collect();
    let mut traces = Vec::new();
    for file in &files {
        traces.push(if request.salvage {
            let (trace, wrong) = file.salvage()?;
            if let Some(wrong) = wrong {
                // Its advice is to do what was done.
                let text = Chain(&wrong).to_string();
                let (text, _) = text.split_once(ADVICE).unwrap_or((&text, ""));
                warn(&format_args!("{text}; the report is of what comes before"));
            }
            trace
        } else {
            file.trace()?
        });
    }
    if let Some((name, bytes)) = &list {
        names.push(name.clone());
        traces.push(Trace::parse(bytes).map_err(|error| Error::Read {
            path: name.into(),
            source: io::Error::other(error),
        })?);
    }
    let named: Vec<Named<'_>> = names
        .iter()
        .zip(&traces)
        .map(|(name, trace)| Named { name, trace })
        .collect();
    let shown = Shown::new(request.quiet);
    let covered = if wanted.iter().all(|wanted| wanted.format.is_of_pcs()) {
        None
    } else {
        let covered = coverage(request, &named, shown.progress())?;
        let images = covered.coverage.images.iter();
        for problem in images.flat_map(|image| &image.problems) {
            warn(problem);
        }
        for misplaced in &covered.coverage.excluded.misplaced {
            warn(misplaced);
        }
        Some(covered)
    };
    if let Some(covered) = &covered {
        warn_of_filters(asked, &covered.coverage);
    }
    let reporter = Reporter::new(request, &named, covered.as_ref())?;
    let mut shown = Some(shown);
    for Wanted { format, path } in &wanted {
        if let Some(folder) = folder(*format, path.as_deref()) {
            limits_are_errors();
            let page = folder.join("index.html");
            reporter
                .write_folder(&folder)
                .map_err(|source| Error::Write {
                    path: folder,
                    source,
                })?;
            if !request.quiet {
                drop(shown.take());
                warn(&page.display());
            }
            continue;
        }
        match path {
            Some(path) => {
                let failed = |source| Error::Write {
                    path: path.clone(),
                    source,
                };
                limits_are_errors();
                let file = File::create(path).map_err(failed)?;
                let mut to = BufWriter::new(file);
                let look = Look::of(request.screen.color, None);
                reporter.write(*format, &look, &mut to).map_err(failed)?;
                to.flush().map_err(failed)?;
            }
            None => {
                drop(shown.take());
                match reporter.print(*format) {
                    Ok(()) => {}
                    // Whoever reads has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        return Ok(ExitCode::from(CLOSED_PIPE));
                    }
                    Err(source) => {
                        let path = "standard output".into();
                        return Err(Error::Write { path, source });
                    }
                }
            }
        }
    }
    reporter.judged()?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses formats that are not for what is asked, or not for where they would go.
fn refuse(request: &Request, wanted: &[Wanted]) -> Result<(), Error> {
    let has = |format| wanted.iter().find(|one| one.format == format);
    let rows = |one: &Wanted| {
        matches!(
            one.format,
            Format::Text | Format::Json | Format::Lcov | Format::Teamscale | Format::Parquet
        )
    };
    if request.options.contexts.by.is_some() {
        if !wanted.iter().all(rows) {
            return Err(Error::ByContext);
        }
    } else if has(Format::Teamscale).is_some() {
        return Err(Error::OnlyByContext);
    }
    match has(Format::Parquet) {
        None if request.options.run_name.is_some() => Err(Error::RunName),
        Some(_) if cfg!(not(feature = "parquet")) => Err(Error::NoParquet),
        Some(one) if one.path.is_none() && io::stdout().is_terminal() => Err(Error::Terminal),
        _ => Ok(()),
    }
}

/// The reports that are wanted, and where each goes: at most one to standard output.
fn places(request: &Request) -> Result<Vec<Wanted>, Error> {
    let mut wanted = request.formats.clone();
    if wanted.is_empty() {
        let of_path = request.output.as_deref().and_then(Format::of_path);
        wanted.push(of_path.unwrap_or(Format::Text).into());
    }
    let mut open = wanted.iter_mut().filter(|wanted| wanted.path.is_none());
    match (open.next(), open.next(), &request.output) {
        (_, Some(_), _) => return Err(Error::OnePlace),
        (Some(one), None, output) => one.path.clone_from(output),
        (None, None, Some(output)) => return Err(Error::NothingLeft(output.clone())),
        (None, None, None) => {}
    }
    Ok(wanted)
}

/// Where the files of modules may be.
fn search(request: &Request) -> Search {
    let mut search = cache::search(&request.binaries);
    let named = request
        .options
        .remap
        .iter()
        .map(|remap| (remap.from.clone(), remap.to.clone()));
    search
        .moved
        .extend(named.chain(request.moved.iter().cloned()));
    search
        .debug_dirs
        .splice(0..0, request.options.debug_dir.iter().cloned());
    search
}

/// What ran, and which sources are shown.
struct Covered {
    coverage: Coverage,
    filter: Filter,
}

/// What the traces say of sources, under the names that the user gives them.
fn coverage(
    request: &Request,
    traces: &[Named<'_>],
    progress: &Progress,
) -> Result<Covered, Error> {
    let mut coverage = Coverage::watched(traces, &search(request), progress)?;
    let filter = filter(request, &coverage);
    if !request.options.no_exclusions {
        coverage.exclude(&filter);
    }
    Ok(Covered { coverage, filter })
}

/// Says which patterns no source matches.
fn warn_of_filters(filters: &[Pattern], coverage: &Coverage) {
    if coverage.files.is_empty() {
        return;
    }
    let matches = |filter: &&Pattern| coverage.files.keys().any(|path| filter.matches(path));
    let without = filters.iter().filter(|filter| !matches(filter));
    for text in without.filter_map(Pattern::text) {
        warn(&format_args!("no source matches {text}"));
    }
}

/// Which sources are shown.
fn filter(request: &Request, coverage: &Coverage) -> Filter {
    let filter = Filter {
        only: request.options.filter.clone(),
        exclude: request.exclude.clone(),
        all: request.options.all_sources,
        project: request.project.clone(),
        ..Filter::default()
    };
    completed(filter, &[coverage])
}

/// The folder that a report is, if it is one.
fn folder(format: Format, path: Option<&Path>) -> Option<PathBuf> {
    if format != Format::Html {
        return None;
    }
    let is_page = |path: &Path| {
        let end = path.extension();
        end.is_some_and(|end| end.eq_ignore_ascii_case("html") || end.eq_ignore_ascii_case("htm"))
    };
    match path {
        // A device or a pipe takes one file.
        Some(path) if is_page(path) || path.exists() && !path.is_dir() => None,
        Some(path) => Some(path.to_owned()),
        None => Some(PathBuf::from("rkcov-html")),
    }
}

/// Writes reports of the same traces.
struct Reporter<'a> {
    request: &'a Request,
    #[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "for tables"))]
    named: &'a [Named<'a>],
    traces: Vec<&'a Trace<'a>>,
    /// Nothing if only PCs are wanted.
    view: Option<View<'a>>,
    threads: Vec<View<'a>>,
    /// If there is to be a row for each.
    contexts: Option<Contexts<'a>>,
    filter: Filter,
    /// If only these lines are shown.
    #[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "for tables"))]
    changes: Option<Changes>,
}

impl<'a> Reporter<'a> {
    fn new(
        request: &'a Request,
        traces: &'a [Named<'a>],
        covered: Option<&'a Covered>,
    ) -> Result<Self, Error> {
        let mut reporter = Self {
            request,
            named: traces,
            traces: traces.iter().map(|named| named.trace).collect(),
            view: None,
            threads: Vec::new(),
            contexts: None,
            filter: Filter::default(),
            changes: None,
        };
        let Some(Covered { coverage, filter }) = covered else {
            return Ok(reporter);
        };
        let options = &request.options;
        let contexts = options.contexts.selection(coverage)?;
        let selection = together(coverage, contexts, &options.thread, options.exclusive)?;
        let mut view = View::new(coverage, selection, filter);
        if let Some(rev) = &request.options.since {
            let changes = Changes::since(rev)?;
            changes.restrict(&mut view);
            reporter.changes = Some(changes);
        }
        if request.options.by_thread {
            reporter.threads = view.by_thread(filter);
        }
        if request.options.contexts.by.is_some() {
            reporter.contexts = Some(Contexts::of(coverage, filter)?);
        }
        reporter.view = Some(view);
        reporter.filter = filter.clone();
        Ok(reporter)
    }

    /// Writes a report to standard output, for people through a pager if it has more rows than the screen.
    fn print(&self, format: Format) -> io::Result<()> {
        let screen = self.request.screen;
        let out = match format {
            Format::Text => screen.paged(),
            _ => Paged::plain(),
        };
        let mut to = BufWriter::new(out);
        self.write(format, &screen.look(), &mut to)?;
        let out = to.into_inner().map_err(io::IntoInnerError::into_error)?;
        out.finish()
    }

    fn write_folder(&self, folder: &Path) -> io::Result<()> {
        match &self.view {
            Some(view) => render::html_folder(view, &self.filter, folder),
            None => Ok(()),
        }
    }

    fn write(&self, format: Format, look: &Look, to: &mut dyn Write) -> io::Result<()> {
        let request = self.request;
        let options = &request.options;
        let detail = if options.summary_only {
            Detail::Sums
        } else {
            Detail::Each
        };
        let view = match &self.view {
            Some(view) if !format.is_of_pcs() => view,
            _ => {
                let options = PcOptions {
                    threads: options.thread.clone(),
                    exclusive: options.exclusive,
                    raw: options.raw,
                };
                let search = search(request);
                return match format {
                    Format::Drcov => render::drcov(&self.traces, &options, &search, to),
                    _ => render::pcs(&self.traces, &options, &search, to),
                };
            }
        };
        if let Some(contexts) = &self.contexts {
            return match format {
                Format::Lcov => render::lcov_by_context(view, contexts, &self.filter, detail, to),
                Format::Json => contexts.json(to),
                Format::Teamscale => render::teamscale(view, contexts, to),
                Format::Parquet => self.table(view, to),
                _ => contexts.text(to),
            };
        }
        match format {
            Format::Lcov if options.by_thread => {
                let mut threads = self.threads.iter();
                threads.try_for_each(|one| render::lcov(one, detail, to))
            }
            Format::Lcov => render::lcov(view, detail, to),
            Format::Json => render::json(view, detail, to),
            Format::Html => render::html(view, &self.filter, to),
            Format::Cobertura => render::cobertura(view, detail, to),
            Format::Github => render::github(view, to).and_then(|()| summary(view)),
            Format::Markdown => render::markdown(view, to),
            Format::Badge => render::badge(view, to),
            Format::Parquet => self.table(view, to),
            Format::Text | Format::Pcs | Format::Drcov | Format::Teamscale => {
                let options = TextOptions {
                    width: look.width,
                    height: look.height,
                    all_files: options.all_files,
                    style: look.style,
                    detail,
                    functions: options.functions,
                    source: options.source,
                    full: options.full,
                    uncovered: options.uncovered,
                };
                render::text(view, &self.threads, &options, to)
            }
        }
    }
}

/// Adds to the summary of the workflow's step, if one is kept.
fn summary(view: &View<'_>) -> io::Result<()> {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let file = File::options().append(true).create(true).open(path)?;
    let mut to = BufWriter::new(file);
    render::markdown(view, &mut to)?;
    to.flush()
}

fn warn(what: &dyn std::fmt::Display) {
    say(format_args!("rkcov: {what}"));
}
