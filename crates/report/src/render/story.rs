// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who called whom, for people and for programs.

use std::io::{self, Write};

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::show::Who;
use super::style::{harmless, head, number, plural, shown, Role, Style};
use crate::coverage::Coverage;
use crate::story::{Begin, Story, Thread, What};

/// Grows when something changes that a reader could have relied on.
const VERSION: u32 = 1;

/// How a story is told.
#[derive(Clone, Copy, Debug)]
pub struct StoryOptions {
    /// Columns to fit into.
    pub width: usize,
    /// Colour or not.
    pub style: Style,
    /// How many calls a call that is shown may be in; deeper ones are counted.
    pub depth: usize,
}

/// Tells a story to people.
///
/// # Errors
/// What `to` says.
pub fn story(
    coverage: &Coverage,
    story: &Story,
    options: &StoryOptions,
    to: &mut dyn Write,
) -> io::Result<()> {
    for (nth, thread) in story.threads.iter().enumerate() {
        if nth > 0 {
            writeln!(to)?;
        }
        heading(coverage, story, thread, options, to)?;
        for row in story.rows(thread, options.depth) {
            let indent = 2 * row.depth;
            let text = harmless(&text(&row.what));
            let role = match row.what {
                What::Call { begin, .. } if begin != Begin::Inlined => None,
                _ => Some(Role::Aside),
            };
            let room = options.width.saturating_sub(indent).max(24);
            let text = head(&text, room);
            match role {
                Some(role) => {
                    writeln!(to, "{:indent$}{}", "", options.style.paint(role, text))?;
                }
                None => writeln!(to, "{:indent$}{text}", "")?,
            }
        }
    }
    Ok(())
}

fn heading(
    coverage: &Coverage,
    story: &Story,
    thread: &Thread,
    options: &StoryOptions,
    to: &mut dyn Write,
) -> io::Result<()> {
    let (Some(who), Some(stream)) = (
        Who::of(coverage, thread.stream, None),
        coverage.streams.get(thread.stream),
    ) else {
        return Ok(());
    };
    let title = head(&harmless(&who.row()), options.width.max(16));
    writeln!(to, "{}", options.style.paint(Role::Heading, title))?;
    let calls = plural(story.calls(thread), "call");
    let records = plural(stream.records, "record");
    let facts = format!("{calls} in {records}");
    writeln!(to, "{}", options.style.paint(Role::Aside, facts))?;
    if thread.unknown > 0 {
        let text = format!(
            "{} of code that is not known",
            plural(thread.unknown, "record")
        );
        writeln!(to, "{}", options.style.paint(Role::Alarm, text))?;
    }
    if stream.is_lossy() {
        let text = "more ran than was recorded: what follows has gaps, or no end";
        writeln!(to, "{}", options.style.paint(Role::Alarm, text))?;
    }
    Ok(())
}

fn text(what: &What<'_>) -> String {
    match what {
        What::Call {
            function,
            begin,
            times,
        } => {
            let mut text = function.name.clone();
            if let Some((path, line)) = &function.place {
                let path = shown(path);
                let name = path.rsplit('/').next().unwrap_or_default();
                text.push_str(&format!(" ({name}:{line})"));
            }
            match begin {
                Begin::Called => {}
                Begin::Inlined => text.push_str(" inlined"),
                Begin::Underway => text.push_str(" underway"),
            }
            if *times > 1 {
                text.push_str(&format!(" ×{}", number(*times)));
            }
            text
        }
        What::Repeat { times } => format!("{} times:", number(*times)),
        What::Deeper { calls } => format!("… {} deeper", plural(*calls, "call")),
    }
}

#[derive(Serialize)]
struct Told<'a> {
    version: u32,
    threads: Vec<One<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    #[serde(flatten)]
    who: Who,
    records: u64,
    calls: u64,
    /// Records of code that is not known.
    unknown: u64,
    /// Whether nothing is missing.
    whole: bool,
    rows: Rows<'a>,
}

/// The rows, made while they are written.
struct Rows<'a> {
    story: &'a Story,
    thread: &'a Thread,
    depth: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Call {
        depth: usize,
        function: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
        begin: &'static str,
        times: u64,
    },
    Repeat {
        depth: usize,
        repeat: u64,
    },
    Deeper {
        depth: usize,
        deeper: u64,
    },
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(None)?;
        for row in self.story.rows(self.thread, self.depth) {
            let depth = row.depth;
            rows.serialize_element(&match row.what {
                What::Call {
                    function,
                    begin,
                    times,
                } => Entry::Call {
                    depth,
                    function: &function.name,
                    path: function.place.as_ref().map(|(path, _)| shown(path)),
                    line: function.place.as_ref().map(|(_, line)| *line),
                    begin: match begin {
                        Begin::Called => "called",
                        Begin::Inlined => "inlined",
                        Begin::Underway => "underway",
                    },
                    times,
                },
                What::Repeat { times } => Entry::Repeat {
                    depth,
                    repeat: times,
                },
                What::Deeper { calls } => Entry::Deeper {
                    depth,
                    deeper: calls,
                },
            })?;
        }
        rows.end()
    }
}

/// Writes a story as JSON; `docs/trace.schema.json` says what stands where.
///
/// # Errors
/// What `to` says.
pub fn story_json(
    coverage: &Coverage,
    story: &Story,
    depth: usize,
    to: &mut dyn Write,
) -> io::Result<()> {
    let one = |thread| one(coverage, story, thread, depth);
    let told = Told {
        version: VERSION,
        threads: story.threads.iter().filter_map(one).collect(),
    };
    serde_json::to_writer(&mut *to, &told)?;
    writeln!(to)
}

fn one<'a>(
    coverage: &Coverage,
    story: &'a Story,
    thread: &'a Thread,
    depth: usize,
) -> Option<One<'a>> {
    let stream = coverage.streams.get(thread.stream)?;
    Some(One {
        who: Who::of(coverage, thread.stream, None)?,
        records: stream.records,
        calls: story.calls(thread),
        unknown: thread.unknown,
        whole: !stream.is_lossy(),
        rows: Rows {
            story,
            thread,
            depth,
        },
    })
}
