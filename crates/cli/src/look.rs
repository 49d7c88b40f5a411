// SPDX-License-Identifier: MIT OR Apache-2.0
//! How wide and how coloured a command's output is.

use rkcov_report::render::Style;
use std::io::{self, IsTerminal};

/// Columns of what does not go to a terminal.
const WIDTH: usize = 100;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How wide and how coloured.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Colour or not.
    pub style: Style,
}

impl Look {
    /// `out` is where the output goes, unless that is a file.
    #[must_use]
    pub fn of(color: Color, out: Option<&io::Stdout>) -> Self {
        let terminal = out.is_some_and(IsTerminal::is_terminal);
        let colour = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
                terminal
                    && set("NO_COLOR").is_none()
                    && set("TERM").is_some_and(|term| term != "dumb")
            }
        };
        let size = out
            .filter(|_| terminal)
            .and_then(terminal_size::terminal_size_of);
        Self {
            width: size.map_or(WIDTH, |(columns, _)| usize::from(columns.0)),
            style: Style { colour },
        }
    }
}
