// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contexts: named pieces of work.
//!
//! `rkcov run` records each context separately, so that a report can show the code of one test or
//! request. If nobody collects in this process, a context has no number, its name is not built, and
//! entering it does nothing.
//!
//! ```
//! # fn answer(path: &str) -> usize { path.len() }
//! let path = "/users/7";
//! let request = rkcov::Context::request(format_args!("GET {path}"));
//! let _in = request.enter();
//! answer(path);
//! ```

pub use crate::future::Instrumented;
use crate::future::Place;
use crate::kcov::device::function;
use rkcov_abi::Handle;
use std::ffi::{c_char, c_int};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

/// The runtime's functions for contexts in this process: see `rkcov.h`.
#[derive(Debug)]
struct Runtime {
    context: unsafe extern "C" fn(u32, *const c_char, usize) -> u64,
    are_wanted: unsafe extern "C" fn() -> c_int,
    enter: unsafe extern "C" fn(u64),
    leave: unsafe extern "C" fn(),
    end: unsafe extern "C" fn(u64),
}

impl Runtime {
    /// The runtime of this process. If `dlopen()` loads it, that must happen before the first context.
    fn of_process() -> Option<&'static Self> {
        static FOUND: OnceLock<Option<Runtime>> = OnceLock::new();
        FOUND.get_or_init(Self::find).as_ref()
    }

    fn find() -> Option<Self> {
        // SAFETY: `rkcov.h` declares each with the type of its field.
        unsafe {
            Some(Self {
                context: function(c"__rkcov_context")?,
                are_wanted: function(c"__rkcov_contexts_wanted")?,
                enter: function(c"__rkcov_enter")?,
                leave: function(c"__rkcov_leave")?,
                end: function(c"__rkcov_end")?,
            })
        }
    }

    /// The runtime of this process, if somebody collects.
    fn collecting() -> Option<&'static Self> {
        // SAFETY: takes nothing.
        Self::of_process().filter(|runtime| unsafe { (runtime.are_wanted)() } != 0)
    }
}

/// The kind of work that a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// A test.
    Test = 1,
    /// A request to a server.
    Request = 2,
    /// A job, such as of a queue.
    Job = 3,
    /// An input.
    Input = 4,
    /// Anything else.
    User = 5,
}

/// A named piece of work. Clones refer to the same context. It ends when the last clone is dropped,
/// including everything that was [wrapped](Context::wrap) or [instrumented](Context::instrument). Code
/// that threads still run in it afterwards is unattributed.
#[derive(Clone, Debug)]
pub struct Context {
    work: Option<Arc<Work>>,
}

#[derive(Debug)]
struct Work {
    runtime: &'static Runtime,
    handle: u64,
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: takes any number.
        unsafe { (self.runtime.end)(self.handle) };
    }
}

impl Context {
    /// Creates a context of this kind. The name is built only if somebody collects. Contexts with the
    /// same name are different contexts. The parent is the context that the calling thread is in.
    #[must_use]
    pub fn new(kind: Kind, name: impl fmt::Display) -> Self {
        let Some(runtime) = Runtime::collecting() else {
            return Self { work: None };
        };
        let name = name.to_string();
        // SAFETY: the name's bytes.
        let handle = unsafe { (runtime.context)(kind as u32, name.as_ptr().cast(), name.len()) };
        Self {
            work: Some(Arc::new(Work { runtime, handle })),
        }
    }

    /// A test.
    #[must_use]
    pub fn test(name: impl fmt::Display) -> Self {
        Self::new(Kind::Test, name)
    }

    /// A request to a server.
    #[must_use]
    pub fn request(name: impl fmt::Display) -> Self {
        Self::new(Kind::Request, name)
    }

    /// A job, such as of a queue.
    #[must_use]
    pub fn job(name: impl fmt::Display) -> Self {
        Self::new(Kind::Job, name)
    }

    /// An input.
    #[must_use]
    pub fn input(name: impl fmt::Display) -> Self {
        Self::new(Kind::Input, name)
    }

    /// Its handle, for a client that collects only this context. `None` if nobody collected when the
    /// context was created, or if there was no room for it.
    #[must_use]
    pub fn handle(&self) -> Option<Handle> {
        Handle::from_raw(self.work.as_ref()?.handle)
    }

    /// Enters the context: until the returned guard is dropped, the code that the calling thread runs is
    /// recorded for this context. Threads that it creates meanwhile begin in the context.
    pub fn enter(&self) -> Entered<'_> {
        if let Some(work) = &self.work {
            // SAFETY: takes any number.
            unsafe { (work.runtime.enter)(work.handle) };
        }
        Entered {
            context: self,
            bound_to_thread: PhantomData,
        }
    }

    /// Runs `f` in the context.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let _in = self.enter();
        f()
    }

    /// Wraps `f` so that it runs in the context on any thread: for queues of thread pools.
    pub fn wrap<F: FnOnce() -> R, R>(&self, f: F) -> impl FnOnce() -> R + use<F, R> {
        let context = self.clone();
        move || context.run(f)
    }

    /// Wraps a future so that it is polled and dropped in the context, on any thread.
    pub fn instrument<F: Future>(&self, future: F) -> Instrumented<F> {
        Instrumented::new(Place::Context(self.clone()), future)
    }

    /// Ends the context, even if other clones exist.
    pub fn end(self) {
        if let Some(work) = &self.work {
            // SAFETY: takes any number.
            unsafe { (work.runtime.end)(work.handle) };
        }
    }
}

/// A guard: the calling thread is in a context until it is dropped, also during a panic. It cannot move
/// to another thread. Drop nested guards in reverse order.
///
/// ```compile_fail,E0277
/// fn goes_elsewhere<T: Send>() {}
/// goes_elsewhere::<rkcov::context::Entered<'static>>();
/// ```
#[derive(Debug)]
#[must_use = "the thread leaves the context when this is dropped"]
pub struct Entered<'c> {
    context: &'c Context,
    bound_to_thread: PhantomData<*const ()>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(work) = &self.context.work {
            // SAFETY: takes nothing.
            unsafe { (work.runtime.leave)() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{self, Poll};

    struct Panics;

    impl fmt::Display for Panics {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("nobody collects: the name is not needed")
        }
    }

    #[test]
    fn nobody_collects() {
        let context = Context::request(Panics);
        assert_eq!(context.handle(), None);
        assert_eq!(context.run(|| 5), 5);
        assert_eq!(context.wrap(|| 6)(), 6);
        let mut future = std::pin::pin!(context.instrument(std::future::ready(7)));
        let mut cx = task::Context::from_waker(task::Waker::noop());
        assert_eq!(future.as_mut().poll(&mut cx), Poll::Ready(7));
        context.end();
    }
}
