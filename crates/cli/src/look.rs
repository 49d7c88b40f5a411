// SPDX-License-Identifier: MIT OR Apache-2.0
//! How wide and how coloured a command's output is.

use crate::pager::Paged;
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

/// How people want it on their terminal.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Screen {
    /// When to use colours
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Terminal"
    )]
    pub color: Color,
    /// Do not show what is longer than the screen in a pager: PAGER, or less
    #[arg(long, help_heading = "Terminal")]
    pub no_pager: bool,
}

impl Default for Screen {
    /// For commands that have no such options: they use no pager.
    fn default() -> Self {
        Self {
            color: Color::default(),
            no_pager: true,
        }
    }
}

impl Screen {
    /// How standard output looks.
    #[must_use]
    pub fn look(self) -> Look {
        Look::of(self.color, Some(&io::stdout()))
    }

    /// Standard output, for people: through a pager if it has more rows than the screen.
    pub(crate) fn paged(self) -> Paged {
        Paged::new(self.look().height.filter(|_| !self.no_pager))
    }
}

/// How wide and how coloured.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Rows of the terminal, if it is one.
    pub height: Option<usize>,
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
            height: size.map(|(_, rows)| usize::from(rows.0)),
            style: Style { colour },
        }
    }
}
