// SPDX-License-Identifier: MIT OR Apache-2.0
//! The compiler wrapper's decisions, without any input or output of their own.
//!
//! A command line becomes a [`Request`] (what it asks the compiler for), the request and what the
//! compiler can do become a [`Plan`] (what is to be added, or why nothing is). The user's arguments
//! stay as they are and in their order; ours go before them, where no option of theirs can take
//! ours for its value, and where theirs win if the two speak of the same thing.

pub mod invocation;
pub mod language;
pub mod plan;
pub mod request;
pub mod response;
pub mod runtime;

pub use invocation::{Invocation, Options};
pub use plan::{plan, Link, Plan, Reason};
pub use request::Request;
pub use runtime::Runtime;
