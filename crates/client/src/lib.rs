// SPDX-License-Identifier: MIT OR Apache-2.0
//! kcov clients, annotations, and collectors of whole programs.
//!
//! - [`kcov`]: the kcov device, of this process or of Linux, and annotations.
//! - [`context`]: named pieces of work.
//!
//! With the feature `collector`:
//!
//! - `collector`: the memory that whole programs record into, as in `rkcov run`.
//! - `program`: runs a program transparently, with signals and job control of the terminal.

#[cfg(feature = "collector")]
pub mod collector;
pub mod context;
mod future;
pub mod kcov;
#[cfg(feature = "collector")]
pub mod program;

pub use context::Context;
