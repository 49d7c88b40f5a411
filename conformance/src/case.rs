// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the suite is made of.

use crate::stage::{Checked, Stage};

/// A requirement on every kcov.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Group and name, such as `errno.sizes`.
    pub id: &'static str,
    /// What must hold.
    pub text: &'static str,
}

/// One test of one clause.
#[derive(Clone, Copy)]
pub struct Case {
    /// The clause's id and a name of its own, such as `errno.sizes.0`.
    pub id: &'static str,
    /// What it shows.
    pub title: &'static str,
    body: Body,
}

#[derive(Clone, Copy)]
enum Body {
    Text(&'static str),
    Code(fn(&mut Stage<'_>) -> Checked),
}

impl Case {
    /// A case that is told in full by its text.
    #[must_use]
    pub const fn text(id: &'static str, title: &'static str, text: &'static str) -> Self {
        Self {
            id,
            title,
            body: Body::Text(text),
        }
    }

    /// A case that needs more than that.
    #[must_use]
    pub const fn code(
        id: &'static str,
        title: &'static str,
        code: fn(&mut Stage<'_>) -> Checked,
    ) -> Self {
        Self {
            id,
            title,
            body: Body::Code(code),
        }
    }

    /// The id of its clause: all but the last part of its own.
    #[must_use]
    pub fn clause(&self) -> &'static str {
        self.id.rsplit_once('.').map_or("", |(clause, _)| clause)
    }

    /// Plays it.
    ///
    /// # Errors
    /// Why it did not come to its end.
    pub fn play(&self, stage: &mut Stage<'_>) -> Checked {
        match self.body {
            Body::Text(text) => stage.tell(text),
            Body::Code(code) => code(stage),
        }
    }
}
