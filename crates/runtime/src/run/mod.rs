// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov run`: a collector outside of the process owns the memory that threads record into.
//!
//! A process finds the collector by its environment when it starts. Its threads take a slot each
//! when they first run instrumented code; see [`attach`]. A forked child does so anew.

mod collector;
pub(crate) mod contexts;
mod join;
mod slots;

pub(crate) use collector::{
    add_module, is_active, lose, map_stores, modules_now, publish_stores, store_callback,
    wants_each_once,
};
pub(crate) use join::start;
pub(crate) use slots::{
    attach, count_full, exiting, forked, grow, leave, maker, need_bitmap, of_child, renamed,
};
