// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run recorded, and what it means.
//!
//! [`trace`] is the file between a collector and everybody else. [`image`] finds the executables
//! and libraries that ran and says what their addresses mean. [`coverage`] puts both together:
//! files, lines, functions, and the streams that ran each. [`sources`] decides which files a report
//! shows, and [`render`] shows them. [`exclusions`] are lines that nobody wants counted. [`place`] finds
//! the lines and functions that a user names.

pub mod contexts;
pub mod coverage;
pub mod exclusions;
pub mod image;
pub mod place;
pub mod progress;
pub mod render;
pub mod sources;
pub mod story;
pub mod trace;
