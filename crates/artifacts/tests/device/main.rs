// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device inside of a process, in programs that are compiled here.

mod builds;
mod documentation;
mod ends;
mod examples;
mod interface;
mod preload;
mod processes;
mod rounds;
mod rust;
mod sanitizers;
mod signals;
mod steps;
mod support;
