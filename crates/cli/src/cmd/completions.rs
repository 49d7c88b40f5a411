// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov completions`: what a shell needs to complete this command.

use crate::error::Error;
use crate::manual;
use clap_complete::Shell;
use std::io::{self, Write};
use std::process::ExitCode;

/// Arguments of `rkcov completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The shell to complete for
    #[arg(value_enum)]
    shell: Shell,
}

const HELP: &str = "\
`rkcov install` installs the completions of bash, zsh and fish, also those of cargo-rkcov. zsh completes \
`cargo rkcov` with them; cargo's completions for bash and fish know no commands of others, so only \
`cargo-rkcov` is completed there.

Examples:
  eval \"$(rkcov completions bash)\"
  rkcov completions fish > ~/.config/fish/completions/rkcov.fish";

/// Prints the completions.
///
/// # Errors
/// Nobody reads them.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    io::stdout().write_all(&manual::completions(args.shell))?;
    Ok(ExitCode::SUCCESS)
}
