// SPDX-License-Identifier: MIT OR Apache-2.0
//! One conformance suite for every kcov.

pub mod bytes;
pub mod case;
pub mod cases;
pub mod differences;
pub mod faults;
pub mod history;
pub mod hosts;
pub mod live;
pub mod matrix;
pub mod mutants;
pub mod replay;
pub mod result;
pub mod sim;
pub mod stage;
pub mod suite;
pub mod world;
