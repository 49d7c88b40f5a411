// SPDX-License-Identifier: MIT OR Apache-2.0
//! Futures that are polled in a context or in a section.

use crate::context::{Context, Entered};
use crate::kcov::{section, Section};
use rkcov_abi::Handle;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

/// What a future is polled and dropped in.
#[derive(Debug)]
pub(crate) enum Place {
    Context(Context),
    Section(Handle),
}

/// The thread is there until this is dropped.
#[allow(dead_code, reason = "held only")]
enum Guard<'p> {
    Context(Entered<'p>),
    Section(Section),
}

impl Place {
    fn enter(&self) -> Guard<'_> {
        match self {
            Self::Context(context) => Guard::Context(context.enter()),
            Self::Section(handle) => Guard::Section(section(*handle)),
        }
    }
}

/// A future in a context or in a section: see [`Context::instrument`] and
/// [`kcov::instrument`](crate::kcov::instrument).
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Instrumented<F> {
    /// Pinned with this. Taken out, never moved, to be dropped.
    future: Option<F>,
    place: Place,
}

impl<F> Instrumented<F> {
    pub(crate) fn new(place: Place, future: F) -> Self {
        Self {
            future: Some(future),
            place,
        }
    }
}

impl<F: Future> Future for Instrumented<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        // SAFETY: the future is not moved: it is pinned again below, and dropped where it is.
        let this = unsafe { self.get_unchecked_mut() };
        let _in = this.place.enter();
        match &mut this.future {
            // SAFETY: it is pinned with `self`.
            Some(future) => unsafe { Pin::new_unchecked(future) }.poll(cx),
            // Only while this is dropped.
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Instrumented<F> {
    fn drop(&mut self) {
        let _in = self.place.enter();
        // Dropped in its place, as pinned things are.
        self.future = None;
    }
}
