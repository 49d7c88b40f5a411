// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports: what a view or a trace looks like to people and to other tools.

mod html;
mod json;
mod lcov;
mod pcs;
mod style;
mod text;
mod tree;

pub use html::{html, html_folder};
pub use json::json;
pub use lcov::lcov;
pub use pcs::{pcs, PcOptions};
pub use style::Style;
pub use text::{text, TextOptions};

/// How much a report says of each file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Its lines and functions.
    #[default]
    Each,
    /// How many of them ran.
    Sums,
}
