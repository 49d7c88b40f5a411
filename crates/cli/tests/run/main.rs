// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov run` on real programs, from end to end.

mod binaries;
mod command;
mod damaged;
mod environments;
mod killed;
mod linking;
mod modes;
mod output;
mod processes;
mod sanitizers;
mod support;
mod threads;
