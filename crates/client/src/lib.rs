// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a collector uses.
//!
//! - [`collector`]: owns the memory that whole programs record into, as `rkcov run` does.
//! - [`kcov`]: the device itself, that of this process or Linux's, and annotations.
//! - [`program`]: runs a program as if nobody stood between it and the terminal.

pub mod collector;
pub mod kcov;
pub mod program;
