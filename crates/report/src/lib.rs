// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run recorded, and what it means.
//!
//! [`trace`] is the file between a collector and everybody else.

pub mod trace;
