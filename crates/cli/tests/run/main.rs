// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov run` on real programs, from end to end.

mod killed;
mod processes;
mod support;
