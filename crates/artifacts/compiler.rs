// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C compiler that the runtime is built with.

use std::process::Command;

/// The compiler that `$CC` names, before which a launcher may stand (`ccache gcc`).
pub(crate) fn compiler(named: Option<&str>) -> Command {
    let mut words = named.unwrap_or_default().split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("cc"));
    command.args(words);
    command
}
