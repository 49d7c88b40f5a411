// SPDX-License-Identifier: MIT OR Apache-2.0
//! One conformance suite for every kcov.

pub mod history;
pub mod sim;
