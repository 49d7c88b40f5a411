// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who ran a place, and what they ran before it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};

use serde::Serialize;

use super::style::{harmless, head, number, plural, shown, Role, Style};
use crate::coverage::{
    before, ContextKey, Coverage, Hits, Named, Parties, Step, StreamIndex, StreamSet, ThreadKey,
};
use crate::image::Search;
use crate::place::Place;
use crate::trace::{ContextId, Mode};

/// Grows when something changes that a reader could have relied on.
const VERSION: u32 = 1;

/// What traces say of the places that somebody asked about.
#[derive(Debug, Serialize)]
pub struct Answer {
    version: u32,
    mode: &'static str,
    places: Vec<About>,
}

/// What traces say of a place.
#[derive(Debug, Serialize)]
struct About {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Function>,
    state: &'static str,
    /// How often it was recorded; not if each thread records a place once.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// The text of the line, if the source is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Who ran it.
    ran: Vec<Who>,
    /// Who may have run it.
    unknown: Vec<Who>,
}

#[derive(Debug, Serialize)]
struct Function {
    name: String,
    first: u32,
    last: u32,
}

/// A thread, in one context.
#[derive(Debug, Serialize)]
pub(super) struct Who {
    trace: String,
    pid: u32,
    command: String,
    tid: u32,
    thread: String,
    /// The contexts, the outermost first.
    contexts: Vec<ContextName>,
    /// The thread that made it, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by: Option<u32>,
    /// The process that made its process, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<u32>,
    /// The functions that it was in before, in the order of time, if the order was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Vec<Before>>,
    /// Which thread it is, and which context it is in.
    #[serde(skip)]
    keys: (ThreadKey, Option<ContextKey>),
}

#[derive(Debug, Serialize)]
struct ContextName {
    kind: String,
    name: String,
}

#[derive(Debug, Serialize)]
struct Before {
    function: String,
    path: String,
    line: u32,
}

impl From<Step> for Before {
    fn from(step: Step) -> Self {
        Self {
            function: step.function,
            path: shown(&step.path),
            line: step.line,
        }
    }
}

/// How an answer looks to people.
#[derive(Clone, Copy, Debug)]
pub struct ShowOptions {
    /// Columns to fit into.
    pub width: usize,
    /// Colour or not.
    pub style: Style,
    /// All threads of a place, however many.
    pub all: bool,
}

impl Answer {
    /// Looks places up in a coverage of `traces`.
    #[must_use]
    pub fn of(
        coverage: &Coverage,
        places: &[Place<'_>],
        traces: &[Named<'_>],
        search: &Search,
    ) -> Self {
        Self {
            version: VERSION,
            mode: coverage.mode.name(),
            places: places
                .iter()
                .map(|place| About::of(coverage, place, traces, search))
                .collect(),
        }
    }

    /// Writes it as JSON; `docs/show.schema.json` says what stands where.
    ///
    /// # Errors
    /// What `to` says.
    pub fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *to, self)?;
        writeln!(to)
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// What `to` says.
    pub fn text(&self, options: &ShowOptions, to: &mut dyn Write) -> io::Result<()> {
        for (nth, place) in self.places.iter().enumerate() {
            if nth > 0 {
                writeln!(to)?;
            }
            place.text(options, to)?;
        }
        Ok(())
    }
}

impl About {
    fn of(coverage: &Coverage, place: &Place<'_>, traces: &[Named<'_>], search: &Search) -> Self {
        let (mut ran, mut maybe) = (StreamSet::new(), StreamSet::new());
        let mut count = 0;
        for Hits {
            streams,
            count: times,
            maybe: may,
        } in place.hits()
        {
            ran.union(streams);
            maybe.union(may);
            count = count.max(*times);
        }
        let function = place.function(coverage);
        let mut steps = function.map_or_else(BTreeMap::new, |function| {
            let traces: Vec<_> = traces.iter().map(|named| named.trace).collect();
            before(&traces, search, (place.path(), &function.name), &ran)
        });
        let state = if !ran.is_empty() {
            "covered"
        } else if !maybe.is_empty() {
            "unknown"
        } else {
            "uncovered"
        };
        let line = match place {
            Place::Line { line, .. } => Some(*line),
            Place::Function { .. } | Place::File { .. } => None,
        };
        let text = line.and_then(|line| {
            let text = fs::read(place.path()).ok()?;
            let line = text.split(|byte| *byte == b'\n').nth(line as usize - 1)?;
            Some(String::from_utf8_lossy(line).trim().to_owned())
        });
        let counted = coverage.mode != Mode::Unique && !ran.is_empty();
        Self {
            path: shown(place.path()),
            line,
            function: function.map(|function| Function {
                name: function.name.to_string(),
                first: function.lines.0,
                last: function.lines.1,
            }),
            state,
            // Of a whole file, this would be that of any line.
            count: (counted && !matches!(place, Place::File { .. })).then_some(count),
            text,
            unknown: maybe
                .iter()
                .filter(|stream| !ran.contains(*stream))
                .filter_map(|stream| Who::of(coverage, stream, None))
                .collect(),
            ran: ran
                .iter()
                .filter_map(|stream| Who::of(coverage, stream, steps.remove(&stream)))
                .collect(),
        }
    }

    fn text(&self, options: &ShowOptions, to: &mut dyn Write) -> io::Result<()> {
        let style = options.style;
        let name = match (&self.line, &self.function) {
            (Some(line), _) => format!("{}:{line}", self.path),
            (None, Some(function)) => {
                format!("{} {}:{}", function.name, self.path, function.first)
            }
            (None, None) => self.path.clone(),
        };
        let role = match self.state {
            "covered" => Role::Good,
            "uncovered" => Role::Poor,
            _ => Role::Aside,
        };
        let times = match self.count {
            Some(1) => ", once".to_owned(),
            Some(count) => format!(", {} times", number(count)),
            None => String::new(),
        };
        writeln!(
            to,
            "{}: {}{times}",
            style.paint(Role::Heading, harmless(&name)),
            style.paint(role, self.state)
        )?;
        if let Some(text) = self.text.as_ref().filter(|text| !text.is_empty()) {
            let text = head(&harmless(text), options.width.saturating_sub(4).max(16));
            writeln!(to, "    {}", style.paint(Role::Aside, text))?;
        }
        if let (Some(_), Some(function)) = (self.line, &self.function) {
            let (name, first, last) = (&function.name, function.first, function.last);
            writeln!(to, "in {}, lines {first} to {last}", harmless(name))?;
        }
        who(&self.ran, "covered by", options, to)?;
        who(&self.unknown, "perhaps covered by", options, to)
    }
}

/// The rows of some threads.
fn who(all: &[Who], what: &str, options: &ShowOptions, to: &mut dyn Write) -> io::Result<()> {
    /// Threads that are listed, unless all are wanted.
    const FEW: usize = 20;
    if all.is_empty() {
        return Ok(());
    }
    let mut parties = Parties::default();
    for (thread, context) in all.iter().map(|one| one.keys) {
        parties.insert(thread, context);
    }
    let contexts = match parties.contexts() {
        0 => String::new(),
        n => format!(" in {}", plural(n as u64, "context")),
    };
    let threads = plural(parties.threads() as u64, "thread");
    writeln!(to, "{what} {threads}{contexts}:")?;
    let few = if options.all { usize::MAX } else { FEW };
    let mut last = None;
    for one in all.iter().take(few) {
        let row = harmless(&format!("  {}", one.row()));
        // What a thread ran after one context and after another are two streams.
        let is_bare = one.before.is_none() && one.contexts.is_empty();
        if is_bare && last.replace(row.clone()).as_ref() == Some(&row) {
            continue;
        }
        writeln!(to, "{}", head(row.trim_end(), options.width.max(16)))?;
        let Some(before) = &one.before else { continue };
        let steps: Vec<String> = before
            .iter()
            .map(|step| {
                let name = step.path.rsplit('/').next().unwrap_or_default();
                format!("{} ({name}:{})", step.function, step.line)
            })
            .collect();
        let steps = match steps.is_empty() {
            true => "nothing".to_owned(),
            false => steps.join(" → "),
        };
        let text = format!("    before it: {}", harmless(&steps));
        writeln!(to, "{}", options.style.paint(Role::Aside, text))?;
    }
    match all.len().saturating_sub(few) {
        0 => Ok(()),
        more => writeln!(to, "  and {} more; --all lists them", number(more as u64)),
    }
}

impl Who {
    /// It, its contexts and its process, in one row.
    pub(super) fn row(&self) -> String {
        let mut row = self.thread.clone();
        for context in &self.contexts {
            row.push_str(&format!(" · {} {}", context.kind, context.name));
        }
        if let Some(tid) = self.made_by {
            row.push_str(&format!(" · made by thread {tid}"));
        }
        row.push_str(&format!(" · process {}", self.pid));
        if let Some(parent) = self.parent {
            row.push_str(&format!(" (of {parent})"));
        }
        row.push_str(&format!(" {}", self.command));
        row
    }

    /// The stream, if it is one: what nobody was recorded for has none.
    pub(super) fn of(
        coverage: &Coverage,
        index: StreamIndex,
        steps: Option<Vec<Step>>,
    ) -> Option<Self> {
        let stream = coverage.streams.get(index)?;
        let run = coverage.runs.get(stream.run)?;
        let command = stream.process.command.iter();
        let known = |number: u32| Some(number).filter(|number| *number != 0);
        Some(Self {
            trace: run.name.clone(),
            pid: stream.process.pid,
            command: command
                .map(|arg| arg.to_string_lossy())
                .collect::<Vec<_>>()
                .join(" "),
            tid: stream.info.tid,
            thread: stream.thread(),
            keys: (stream.thread_key(), stream.context_key()),
            contexts: contexts(run, stream.info.context),
            made_by: known(stream.info.creator),
            parent: known(stream.process.parent),
            before: steps.map(|steps| steps.into_iter().map(Before::from).collect()),
        })
    }
}

fn contexts(run: &crate::coverage::Run, innermost: Option<ContextId>) -> Vec<ContextName> {
    let mut names = Vec::new();
    let mut next = innermost;
    // A parent stands before its children.
    while let Some(context) = next.and_then(|id| run.contexts.get(id.index())) {
        names.push(ContextName {
            kind: context.kind.to_string(),
            name: String::from_utf8_lossy(&context.name).into_owned(),
        });
        next = context.parent;
    }
    names.reverse();
    names
}
