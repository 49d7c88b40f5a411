// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports: what a view or a trace looks like to people and to other tools.

mod alarms;
mod badge;
mod cobertura;
mod diff;
mod drcov;
mod github;
mod html;
mod json;
mod lcov;
mod operands;
mod paths;
mod pcs;
mod show;
mod story;
mod style;
#[cfg(feature = "parquet")]
mod table;
mod teamscale;
mod text;
mod tree;
mod xml;

pub use badge::badge;
pub use cobertura::cobertura;
pub use diff::Difference;
pub use drcov::drcov;
pub use github::{github, markdown};
pub use html::{html, html_folder};
pub use json::json;
pub use lcov::{lcov, lcov_by_context};
pub use operands::{Compared, OperandOptions};
pub use pcs::{pcs, PcOptions};
pub use show::{Answer, ShowOptions};
pub use story::{story, story_json, StoryOptions};
pub use style::Style;
#[cfg(feature = "parquet")]
pub use table::Table;
pub use teamscale::teamscale;
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
