// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `cargo rkcov` command, and what stands in the place of rustc, rustdoc and cc in its builds.

use std::process::ExitCode;

fn main() -> ExitCode {
    rkcov_cli::cmd::cargo::main(std::env::args_os().collect())
}
