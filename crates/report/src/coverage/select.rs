// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which streams a question is about.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use super::{is_cut, Coverage, Hits, Parties, StreamSet, StreamSummary};

/// Threads, as a user names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thread {
    /// The first thread of each process.
    Main,
    /// All others.
    Workers,
    /// The thread with this id.
    Id(u32),
    /// Threads with this name, of which Linux keeps 15 bytes, or streams with this label.
    Name(String),
}

impl FromStr for Thread {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "main" => Self::Main,
            "workers" => Self::Workers,
            _ => text
                .parse()
                .map_or_else(|_| Self::Name(text.into()), Self::Id),
        })
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main => f.write_str("main"),
            Self::Workers => f.write_str("workers"),
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Thread {
    /// Whether the stream is of such a thread.
    #[must_use]
    pub fn is(&self, main: bool, tid: u32, name: &str, label: &str) -> bool {
        match self {
            Self::Main => main,
            Self::Workers => !main,
            Self::Id(id) => tid == *id,
            Self::Name(wanted) => {
                // Linux cut the name, or a user took it from where it was cut.
                let cut = is_cut(name) && wanted.starts_with(name)
                    || is_cut(wanted) && name.starts_with(wanted);
                !wanted.is_empty() && (name == wanted || label == wanted || cut)
            }
        }
    }

    fn is_of(&self, stream: &StreamSummary) -> bool {
        let info = &stream.info;
        self.is(info.main, info.tid, &info.name, &info.label)
    }
}

/// No stream is of the threads that were asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no thread {wanted} in the trace; it has {}", listed(.there))]
pub struct UnknownThread {
    wanted: String,
    there: Vec<String>,
}

fn listed(threads: &[String]) -> String {
    const MANY: usize = 20;
    let shown = threads.iter().take(MANY).cloned().collect::<Vec<_>>();
    match threads.len() {
        0 => "no threads at all".to_owned(),
        n if n > MANY => format!("{} and {} more", shown.join(", "), n - MANY),
        _ => shown.join(", "),
    }
}

/// Some streams, and whether others matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The streams.
    pub streams: StreamSet,
    /// Only what ran on no other stream.
    pub exclusive: bool,
}

/// What a selection says of something that has code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It ran as asked.
    Ran,
    /// It did not.
    Missed,
    /// The question is not about it: it ran, but not only, on the selected streams.
    Elsewhere,
    /// What was recorded does not tell.
    Unknown,
}

impl Selection {
    /// All streams, and whoever ran something and has none.
    #[must_use]
    pub fn all(coverage: &Coverage) -> Self {
        Self {
            streams: (0..=coverage.streams.len()).collect(),
            exclusive: false,
        }
    }

    /// The streams of some threads; of all if none is named.
    ///
    /// # Errors
    /// If there is none of one of them.
    pub fn threads(
        coverage: &Coverage,
        threads: &[Thread],
        exclusive: bool,
    ) -> Result<Self, UnknownThread> {
        if threads.is_empty() {
            let all = Self::all(coverage);
            return Ok(Self { exclusive, ..all });
        }
        let mut streams = StreamSet::new();
        for thread in threads {
            let before = streams.len();
            let found = coverage.streams.iter().enumerate();
            let found: StreamSet = found
                .filter(|(_, stream)| thread.is_of(stream))
                .map(|(index, _)| index)
                .collect();
            streams.union(&found);
            if found.is_empty() && streams.len() == before {
                let mut seen = Parties::default();
                let streams = coverage.streams.iter();
                let each_once = streams.filter(|stream| seen.add(stream));
                return Err(UnknownThread {
                    wanted: thread.to_string(),
                    there: each_once.map(StreamSummary::thread).collect(),
                });
            }
        }
        Ok(Self { streams, exclusive })
    }

    /// What it says of something that `hits` ran.
    #[must_use]
    pub fn sees(&self, hits: &Hits) -> Seen {
        let maybe = hits.maybe.meets(&self.streams);
        match (hits.streams.meets(&self.streams), self.exclusive) {
            (true, false) => Seen::Ran,
            (true, true) if hits.streams.is_within(&self.streams) => Seen::Ran,
            (false, false) if maybe => Seen::Unknown,
            (false, false) => Seen::Missed,
            (_, true) if hits.streams.is_empty() && maybe => Seen::Unknown,
            (_, true) if hits.streams.is_empty() => Seen::Missed,
            (_, true) => Seen::Elsewhere,
        }
    }
}
