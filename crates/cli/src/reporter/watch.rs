// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov report --watch`: the report of a run that goes on, drawn again when more is covered.

use super::{coverage, write_prepared, Covered, Error, Format, Reporter, Request};
use crate::error::{say, Chain, CLOSED_PIPE};
use crate::live::{Answer, Run};
use crate::look::Look;
use rkcov::program::wait_until;
use rkcov_report::coverage::Named;
use rkcov_report::progress::Progress;
use rkcov_report::trace::Trace;
use std::io::{self, Write};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// How often a run is asked, at most.
const PAUSE: Duration = Duration::from_millis(500);
/// How many times as long as a report takes no other is made.
const REST: u32 = 4;
/// How long a run may take to begin if there is a trace already.
const GRACE: Duration = Duration::from_secs(1);
/// How long an answer is waited for before the keyboard and the size of the screen are looked at.
const PATIENCE: Duration = Duration::from_millis(20);

/// Shows the report of the trace that a run is writing until the run ends, and then writes the report as
/// [`super::write()`] does.
///
/// # Errors
/// Those of the report; and if the run leaves no trace.
pub fn watch(mut request: Request) -> Result<ExitCode, Error> {
    let asked = request.prepare()?;
    let trace = match &request.files[..] {
        [one] => one.clone(),
        _ => return Err(Error::WatchOne),
    };
    let is_text = |wanted: &super::Wanted| wanted.format == Format::Text && wanted.path.is_none();
    if request.output.is_some() || !request.formats.iter().all(is_text) {
        return Err(Error::WatchFormat);
    }
    let (end, shown, screen) = thread::scope(|scope| {
        let mut watch = Watch {
            scope,
            request: &request,
            trace: &trace,
            state: State::looking(),
            making: None,
            shown: None,
            screen: Screen::new(request.screen.look()),
            end: None,
        };
        let signal = wait_until(None, || watch.step());
        watch.screen.leave();
        if let Some(signal) = signal {
            // Nobody waits for a picture that is being made.
            std::process::exit(128 + signal);
        }
        (watch.end, watch.shown, watch.screen)
    });
    match end {
        None | Some(End::Trace) => write_prepared(&request, &asked),
        Some(End::NoTrace) => {
            if let Some(shown) = shown.filter(|_| screen.is_terminal) {
                // The screen that it was on is gone.
                let text = shown.text(&request, request.screen.look(), &trace);
                let _ = io::stdout().write_all(text.as_bytes());
            }
            Err(Error::NoTrace(trace))
        }
        Some(End::Unread) => Ok(ExitCode::from(CLOSED_PIPE)),
        Some(End::Failed(error)) => Err(error),
    }
}

struct Watch<'scope, 'r> {
    scope: &'scope Scope<'scope, 'r>,
    request: &'r Request,
    trace: &'r Path,
    state: State,
    /// The picture that is being made, in a thread of its own: the keyboard and the screen do not wait for it.
    making: Option<ScopedJoinHandle<'scope, Made>>,
    /// What was last shown.
    shown: Option<Picture>,
    screen: Screen,
    end: Option<End>,
}

/// A picture, unless it would be what is shown already, and how long it took.
type Made = (Result<Option<Picture>, Error>, Duration);

/// Why there is nothing more to watch.
enum End {
    /// The trace is there.
    Trace,
    /// The run has ended, and there is no trace of it.
    NoTrace,
    /// Nobody reads what is shown.
    Unread,
    /// It cannot be shown.
    Failed(Error),
}

enum State {
    /// For a run.
    Looking { since: Instant, said: bool },
    /// At one.
    Watching {
        run: Run,
        /// Whether it owes an answer.
        asked: bool,
        /// It is not asked before.
        next: Instant,
    },
}

impl State {
    fn looking() -> Self {
        Self::Looking {
            since: Instant::now(),
            said: false,
        }
    }
}

impl Watch<'_, '_> {
    /// Whether that was all.
    fn step(&mut self) -> bool {
        self.end = self.look().unwrap_or_else(|error| Some(End::Failed(error)));
        self.end.is_some()
    }

    fn look(&mut self) -> Result<Option<End>, Error> {
        match &mut self.state {
            State::Looking { since, said } => {
                let run = Run::find(self.trace).map_err(|source| Error::Watch {
                    path: self.trace.to_owned(),
                    source,
                })?;
                if let Some(run) = run {
                    self.state = State::Watching {
                        run,
                        asked: false,
                        next: Instant::now(),
                    };
                } else if since.elapsed() >= GRACE {
                    if self.trace.exists() {
                        return Ok(Some(End::Trace));
                    }
                    if !*said && !self.request.quiet {
                        say(format_args!(
                            "rkcov: waiting for a run that writes {}",
                            self.trace.display()
                        ));
                    }
                    *said = true;
                }
            }
            State::Watching { next, .. } if self.making.is_some() => {
                let done = |making: &mut ScopedJoinHandle<'_, Made>| making.is_finished();
                if let Some(making) = self.making.take_if(done) {
                    let (picture, took) =
                        making.join().unwrap_or_else(|panic| resume_unwind(panic));
                    *next = Instant::now() + PAUSE.max(took * REST);
                    if let Some(picture) = picture? {
                        self.shown = Some(picture);
                        self.screen.stale = true;
                    }
                }
            }
            State::Watching { run, asked, next } => {
                if !*asked && *next <= Instant::now() {
                    run.ask();
                    *asked = true;
                }
                match run.answer(PATIENCE) {
                    Answer::None => {}
                    Answer::Failed => {
                        *asked = false;
                        *next = Instant::now() + PAUSE;
                    }
                    Answer::Snapshot(bytes) => {
                        *asked = false;
                        let (request, trace) = (self.request, self.trace);
                        let shown = self.shown.as_ref().map(|shown| shown.extent);
                        self.making = Some(self.scope.spawn(move || {
                            let began = Instant::now();
                            let picture = picture(request, trace, shown, bytes);
                            (picture, began.elapsed())
                        }));
                    }
                    Answer::Saved => return Ok(Some(End::Trace)),
                    Answer::Gone if self.shown.is_some() => return Ok(Some(End::NoTrace)),
                    // It ended when we came.
                    Answer::Gone => self.state = State::looking(),
                }
            }
        }
        Ok(self.draw())
    }

    /// Draws if there is something new, or a screen of another size.
    fn draw(&mut self) -> Option<End> {
        let shown = self.shown.as_ref()?;
        let look = self.request.screen.look();
        if !self.screen.stale && !self.screen.is_other(&look) {
            return None;
        }
        let text = shown.text(self.request, look, self.trace);
        self.screen.draw(look, &text).err().map(|_| End::Unread)
    }
}

/// What a snapshot says, unless it says what is shown already.
fn picture(
    request: &Request,
    path: &Path,
    shown: Option<Extent>,
    bytes: Vec<u8>,
) -> Result<Option<Picture>, Error> {
    let Some((trace, extent)) = read(&bytes).filter(|(_, extent)| shown != Some(*extent)) else {
        return Ok(None);
    };
    let covered = if extent.records == 0 {
        None
    } else {
        let name = path.display().to_string();
        let named = Named {
            name: &name,
            trace: &trace,
        };
        Some(coverage(request, &[named], &Progress::default())?)
    };
    drop(trace);
    Ok(Some(Picture {
        bytes,
        covered,
        extent,
    }))
}

/// How much a run has recorded. If it is the same, so is the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    records: u64,
    streams: usize,
    processes: usize,
    contexts: usize,
    losses: usize,
}

fn read(bytes: &[u8]) -> Option<(Trace<'_>, Extent)> {
    let trace = Trace::parse(bytes).ok()?;
    let streams = trace.streams();
    let extent = Extent {
        records: streams.iter().map(|stream| stream.info().count).sum(),
        streams: streams.len(),
        processes: trace.processes().len(),
        contexts: trace.contexts().len(),
        losses: trace.losses().count(),
    };
    Some((trace, extent))
}

/// What a run had covered when it was asked.
struct Picture {
    bytes: Vec<u8>,
    /// `None` as long as nothing was recorded.
    covered: Option<Covered>,
    extent: Extent,
}

impl Picture {
    /// For a screen of this size: a line that says what it is, and the report.
    fn text(&self, request: &Request, look: Look, path: &Path) -> String {
        let mut text = format!("{}: the run goes on\n", path.display());
        let name = path.display().to_string();
        let report = match (&self.covered, read(&self.bytes)) {
            (Some(covered), Some((trace, _))) => {
                let named = [Named {
                    name: &name,
                    trace: &trace,
                }];
                let mut report = Vec::new();
                // One row is taken.
                let look = Look {
                    height: look.height.map(|height| height.saturating_sub(1)),
                    ..look
                };
                let written = Reporter::new(request, &named, Some(covered)).and_then(|reporter| {
                    let path = PathBuf::from("standard output");
                    let failed = |source| Error::Write { path, source };
                    reporter
                        .write(Format::Text, &look, &mut report)
                        .map_err(failed)
                });
                match written {
                    Ok(()) => String::from_utf8_lossy(&report).into_owned(),
                    // A context or a thread that is asked for may come yet.
                    Err(error) => format!("{}\n", Chain(&error)),
                }
            }
            _ => "No instrumented code has run yet.\n".to_owned(),
        };
        text.push_str(&report);
        text
    }
}

/// Where pictures are shown: a screen of its own on a terminal, so that what was there before comes back; or
/// one after the other, if it is no terminal or one that knows no escape codes.
struct Screen {
    is_terminal: bool,
    entered: bool,
    size: (usize, Option<usize>),
    stale: bool,
}

/// Another screen, without a cursor, that cuts lines off instead of wrapping them.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const TOP: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

impl Screen {
    fn new(look: Look) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self {
            is_terminal: look.height.is_some() && !dumb,
            entered: false,
            size: (look.width, look.height),
            stale: false,
        }
    }

    fn is_other(&self, look: &Look) -> bool {
        self.size != (look.width, look.height)
    }

    fn draw(&mut self, look: Look, text: &str) -> io::Result<()> {
        self.size = (look.width, look.height);
        self.stale = false;
        let mut out = io::stdout().lock();
        let height = look.height.filter(|_| self.is_terminal);
        let Some(height) = height else {
            writeln!(out, "{text}")?;
            return out.flush();
        };
        let mut drawn = String::new();
        if !self.entered {
            drawn.push_str(ENTER);
            self.entered = true;
        }
        drawn.push_str(TOP);
        drawn.push_str(&rows(text, height).join("\r\n"));
        drawn.push_str(CLEAR_BELOW);
        out.write_all(drawn.as_bytes())?;
        out.flush()
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.entered) {
            let mut out = io::stdout().lock();
            let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The rows of a text on a screen of some rows.
fn rows(text: &str, height: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let shown = if lines.len() <= height {
        lines.len()
    } else {
        height.saturating_sub(1)
    };
    let mut rows: Vec<String> = lines
        .iter()
        .take(shown)
        .map(|line| format!("{line}{CLEAR_LINE}"))
        .collect();
    if shown < lines.len() {
        let more = lines.len() - shown;
        rows.push(format!("… {more} more rows do not fit{CLEAR_LINE}"));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_the_screen_is_counted() {
        let text = "one\ntwo\nthree\n";
        let shown = |height| rows(text, height).join("|").replace(CLEAR_LINE, "");
        assert_eq!(shown(3), "one|two|three");
        assert_eq!(shown(2), "one|… 2 more rows do not fit");
        assert_eq!(shown(0), "… 3 more rows do not fit");
    }
}
