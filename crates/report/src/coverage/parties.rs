// SPDX-License-Identifier: MIT OR Apache-2.0
//! The threads and contexts that streams are of.
//!
//! A thread has a stream for each context that it was in, and one for what it ran in none. Whoever counts
//! threads or contexts does it here.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{Coverage, StreamIndex, StreamSummary};
use crate::trace::{Context, ContextId, ProcessId};

/// A thread: of which trace and process, and its id.
pub(crate) type ThreadKey = (usize, ProcessId, u32);

/// A context, by the number of its trace and its place there.
pub(crate) type ContextKey = (usize, ContextId);

/// The threads and contexts of some streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parties {
    threads: BTreeSet<ThreadKey>,
    contexts: BTreeSet<ContextKey>,
}

impl Parties {
    /// Adds those of a stream. Whether its thread is new.
    pub fn add(&mut self, stream: &StreamSummary) -> bool {
        self.insert(stream.thread_key(), stream.context_key())
    }

    /// Adds a thread, in a context or in none. Whether the thread is new.
    pub(crate) fn insert(&mut self, thread: ThreadKey, context: Option<ContextKey>) -> bool {
        self.contexts.extend(context);
        self.threads.insert(thread)
    }

    /// How many threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// How many contexts.
    #[must_use]
    pub fn contexts(&self) -> usize {
        self.contexts.len()
    }
}

impl<'a> FromIterator<&'a StreamSummary> for Parties {
    fn from_iter<I: IntoIterator<Item = &'a StreamSummary>>(streams: I) -> Self {
        let mut parties = Self::default();
        for stream in streams {
            parties.add(stream);
        }
        parties
    }
}

impl StreamSummary {
    pub(crate) fn thread_key(&self) -> ThreadKey {
        (self.run, self.info.process, self.info.tid)
    }

    /// Whether it is what a thread ran in a context that had ended: it has the handle of one, and is in none.
    #[must_use]
    pub fn is_after_context(&self) -> bool {
        self.info.is_after_context()
    }

    pub(crate) fn context_key(&self) -> Option<ContextKey> {
        self.info.context.map(|id| (self.run, id))
    }
}

impl Coverage {
    /// The context that a stream was recorded in, if it was in one.
    #[must_use]
    pub fn context_of(&self, stream: &StreamSummary) -> Option<&Context> {
        let run = self.runs.get(stream.run)?;
        run.contexts.get(stream.info.context?.index())
    }

    /// The name of the context that a stream was recorded in: that of the context, or the stream's label;
    /// empty if it was in none. What is not UTF-8 is replaced.
    #[must_use]
    pub fn label_of<'a>(&'a self, stream: &'a StreamSummary) -> Cow<'a, str> {
        match self.context_of(stream) {
            Some(context) => String::from_utf8_lossy(&context.name),
            None => Cow::Borrowed(&stream.info.label),
        }
    }

    /// Whether each file that ran is missing or was rebuilt since, so that nothing can be said of lines.
    #[must_use]
    pub fn nothing_remains(&self) -> bool {
        let mut ran = self.images.iter().filter(|image| image.pcs > 0).peekable();
        ran.peek().is_some() && ran.all(|image| image.absence().is_some())
    }

    /// How many contexts of these streams' threads had ended while a thread was in them that went on.
    #[must_use]
    pub fn ended_early(&self, streams: impl IntoIterator<Item = StreamIndex>) -> usize {
        let streams = streams.into_iter();
        let early = streams
            .filter_map(|index| self.streams.get(index))
            .filter(|stream| stream.is_after_context())
            .map(|stream| (stream.run, stream.info.handle));
        early.collect::<BTreeSet<_>>().len()
    }

    /// The threads and contexts of some streams.
    #[must_use]
    pub fn parties(&self, streams: impl IntoIterator<Item = StreamIndex>) -> Parties {
        let streams = streams.into_iter();
        streams
            .filter_map(|index| self.streams.get(index))
            .collect()
    }
}
