// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov install` and `rkcov uninstall`: the runtime for those who link without the wrapper.

use crate::error::Error;
use crate::install::Tree;
use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `rkcov install`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// The library folder, below the prefix
    #[arg(long, value_name = "DIR", default_value = "lib")]
    libdir: PathBuf,
    /// Install only the runtime: no commands, manual pages or completions
    #[arg(long)]
    no_command: bool,
}

/// Where files are installed.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The folder that contains bin, include, lib and share
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Install below this folder instead of /, to build a package
    #[arg(long, value_name = "DIR")]
    destdir: Option<PathBuf>,
}

const HELP: &str = "\
`rkcov cc` works without this command: it contains the runtime. Use `rkcov install` for programs that
are clients of their own kcov and are not built with `rkcov cc`.

  bin/rkcov, bin/cargo-rkcov     the commands
  include/rkcov.h                the interface for C and C++
  lib/librkcov.so.0, librkcov.a  the runtime
  lib/pkgconfig/rkcov.pc         compiler and linker flags
  lib/rkcov/                     the runtime as object files, and the library for LD_PRELOAD
  share/man/man1/                a manual page for each command
  share/                         completions for bash, zsh and fish
  share/rkcov/manifest           the list of installed files, for `rkcov uninstall`

Examples:
  rkcov install && ldconfig
  cc -fsanitize-coverage=trace-pc client.c $(pkg-config --cflags --libs rkcov)
  cc -static -fsanitize-coverage=trace-pc client.c $(pkg-config --static --cflags --libs rkcov)

  docs/kcov.md describes the flags for Rust programs under 'Building a client'.

  rkcov install --prefix ~/.local
  export PKG_CONFIG_PATH=~/.local/lib/pkgconfig LD_LIBRARY_PATH=~/.local/lib";

/// Installs, and says what.
///
/// # Errors
/// A file cannot be written, or the prefix cannot stand in `rkcov.pc`.
pub fn install(args: &Args) -> Result<ExitCode, Error> {
    let commands = if args.no_command {
        Vec::new()
    } else {
        commands()?
    };
    let files = args.place.tree()?.install(&args.libdir, &commands)?;
    said("installed", files, &args.place)
}

/// This program and `cargo-rkcov`, which stands beside it.
fn commands() -> Result<Vec<(&'static str, PathBuf)>, crate::install::Error> {
    let rkcov = env::current_exe().map_err(crate::install::Error::Ourselves)?;
    let cargo = rkcov.with_file_name("cargo-rkcov");
    if !cargo.is_file() {
        return Err(crate::install::Error::Sibling(cargo));
    }
    Ok(vec![("rkcov", rkcov), ("cargo-rkcov", cargo)])
}

/// Removes what the manifest names, and says how much it was.
///
/// # Errors
/// There is no manifest, or a file cannot be removed.
pub fn uninstall(place: &Place) -> Result<ExitCode, Error> {
    said("removed", place.tree()?.uninstall()?, place)
}

fn said(what: &str, files: usize, place: &Place) -> Result<ExitCode, Error> {
    let prefix = place.prefix.display();
    writeln!(io::stdout(), "{what} {files} files under {prefix}")?;
    Ok(ExitCode::SUCCESS)
}

impl Place {
    fn tree(&self) -> Result<Tree, crate::install::Error> {
        Tree::new(&self.prefix, self.destdir.as_deref())
    }
}
