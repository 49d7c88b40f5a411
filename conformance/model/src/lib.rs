// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules of kcov as a small, slow, obvious program, and the language in which histories are
//! told to it and to every other kcov.
//!
//! - [`op`]: what can happen, one [`Op`] at a time.
//! - [`script`]: the same as text, one line an operation.
//! - [`host`]: what a kcov must be able to do to be told a history: the trait [`Host`].
//! - [`model`]: the reference [`Model`], itself a host.
//!
//! The model was written from the description of the rules and never from `rkcov-core`; only
//! numbers and layouts come from `rkcov-abi`. It keeps to vectors and maps, looks everything up
//! again each time, and has no counters that could be wrong: who is alive is found by asking who
//! is referred to.

#![forbid(unsafe_code)]

pub mod host;
pub mod model;
pub mod op;
pub mod script;

pub use host::{Drops, Host, Need, Nesting, Outcome, Traits, Trouble};
pub use model::Model;
pub use op::{Act, Call, Context, File, Map, Op, RemoteCall, Spawn, Step, Task};
