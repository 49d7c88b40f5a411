// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov run` on real programs, from end to end.

mod binaries;
mod clients;
mod command;
mod contexts;
mod damaged;
mod environments;
mod group;
#[path = "../here/mod.rs"]
mod here;
mod killed;
mod linking;
mod listeners;
mod losses;
mod modes;
mod modules;
mod output;
mod processes;
mod python;
mod sanitizers;
mod support;
mod threads;
mod unwinding;
