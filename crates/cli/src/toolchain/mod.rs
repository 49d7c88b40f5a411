// SPDX-License-Identifier: MIT OR Apache-2.0
//! The compilers of this machine: finding one, telling what it is, and what it can instrument.

pub mod find;
pub mod name;
pub mod probe;

pub use find::{find, Program};
pub use probe::{Compiler, Family, Instrumentation};
