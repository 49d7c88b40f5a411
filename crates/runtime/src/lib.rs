// SPDX-License-Identifier: MIT OR Apache-2.0
//! What instrumented programs call: the userspace host of rkcov.
//!
//! Compilers put calls of the [`callbacks`] into a program. Each thread has a block of
//! thread-local storage (`tls`) that says what it records, and most callbacks find there that
//! it is nothing. `rkcov run` supplies slots in its own memory (`run`).
//!
//! This crate has no allocator, no std and no panicking path. `rkcov-artifacts` makes an object
//! file and a shared library of it, with `--cfg rkcov_object`; as a plain crate it serves tests.

#![cfg_attr(not(test), no_std)]

pub mod api;
pub mod callbacks;
pub mod closing;
mod device;
#[cfg(test)]
mod faults;
pub mod linkage;
mod lock;
pub mod maps;
mod mark;
pub mod modules;
mod patch;
pub mod preload;
mod record;
mod run;
mod save;
mod sections;
pub mod spawn;
pub mod start;
mod stores;
mod sys;
pub mod threads;
mod tls;
