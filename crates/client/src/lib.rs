// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a collector uses.
//!
//! - [`collector`]: owns the memory that whole programs record into, as `rkcov run` does.
//! - [`context`]: pieces of work that have a name.
//! - [`kcov`]: the device itself, that of this process or Linux's, and annotations.
//! - [`program`]: runs a program as if nobody stood between it and the terminal.

pub mod collector;
pub mod context;
pub mod kcov;
pub mod program;

pub use context::Context;
