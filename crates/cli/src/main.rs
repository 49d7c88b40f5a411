// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `rkcov` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    rkcov_cli::main(std::env::args_os().collect())
}
