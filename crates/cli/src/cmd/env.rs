// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov env`: what a build system has to be told.

use crate::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fmt};

/// Arguments of `rkcov env`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// How to write the variables
    #[arg(long, value_enum, default_value_t = Format::Sh)]
    format: Format,
    /// The C compiler behind rkcov
    #[arg(long, value_name = "PROGRAM")]
    cc: Option<String>,
    /// The C++ compiler behind rkcov
    #[arg(long, value_name = "PROGRAM")]
    cxx: Option<String>,
    /// Build without gates, as `rkcov cc --no-gate`
    #[arg(long)]
    no_gate: bool,
    /// Build with comparisons, as `rkcov cc --cmp`
    #[arg(long)]
    cmp: bool,
}

const HELP: &str = "\
Examples:
  eval \"$(rkcov env)\" && ./configure && make
  eval \"$(rkcov env --cc clang --cxx clang++)\" && cmake -B build
  rkcov env --format make >rkcov.mk    (then in a makefile: include rkcov.mk)";

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For a shell's eval
    Sh,
    /// For make's include
    Make,
    /// An object of strings
    Json,
}

/// Why the variables cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Build systems split the variables at white space, quotes or not.
    #[error("{} cannot stand in CC: there is white space in it", .0.display())]
    WhiteSpace(PathBuf),
    /// The path of this program is not known.
    #[error("cannot tell where rkcov is")]
    Ourselves(#[source] io::Error),
}

/// Prints the variables.
///
/// # Errors
/// Standard output cannot be written to, or this program's path cannot stand in a variable.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let program = env::current_exe().map_err(Failure::Ourselves)?;
    let variables = [
        ("CC", command(&program, "cc", args, args.cc.as_deref())?),
        ("CXX", command(&program, "c++", args, args.cxx.as_deref())?),
    ];
    io::stdout().write_all(Variables(args.format, &variables).to_string().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The words that stand in a compiler's place.
fn command(
    program: &Path,
    wrapper: &str,
    args: &Args,
    compiler: Option<&str>,
) -> Result<String, Failure> {
    let text = program
        .to_str()
        .filter(|path| !path.contains(char::is_whitespace))
        .ok_or_else(|| Failure::WhiteSpace(program.to_owned()))?;
    let compiler = compiler.map(|name| format!("--compiler={name}"));
    let words = [
        Some(text),
        Some(wrapper),
        args.no_gate.then_some("--no-gate"),
        args.cmp.then_some("--cmp"),
        compiler.as_deref(),
    ];
    Ok(words.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

struct Variables<'a>(Format, &'a [(&'a str, String)]);

impl fmt::Display for Variables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Format::Sh => self.1.iter().try_for_each(|(name, value)| {
                writeln!(f, "export {name}='{}'", value.replace('\'', r"'\''"))
            }),
            Format::Make => self.1.iter().try_for_each(|(name, value)| {
                writeln!(
                    f,
                    "export {name} := {}",
                    value.replace('$', "$$").replace('#', r"\#")
                )
            }),
            Format::Json => {
                let object: serde_json::Map<String, serde_json::Value> = self
                    .1
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
                    .collect();
                writeln!(f, "{:#}", serde_json::Value::from(object))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: Format, value: &str) -> String {
        Variables(format, &[("CC", value.to_owned())]).to_string()
    }

    #[test]
    fn each_format_quotes_as_its_reader_unquotes() {
        let value = "/it's/$a#b/rkcov cc";
        assert_eq!(
            shown(Format::Sh, value),
            "export CC='/it'\\''s/$a#b/rkcov cc'\n"
        );
        assert_eq!(
            shown(Format::Make, value),
            "export CC := /it's/$$a\\#b/rkcov cc\n"
        );
        let json: serde_json::Value = serde_json::from_str(&shown(Format::Json, value)).unwrap();
        assert_eq!(json["CC"], value);
    }

    #[test]
    fn options_come_before_the_compiler() {
        let args = Args {
            format: Format::Sh,
            cc: None,
            cxx: None,
            no_gate: true,
            cmp: true,
        };
        let program = Path::new("/bin/rkcov");
        let words = command(program, "cc", &args, Some("clang")).unwrap();
        assert_eq!(words, "/bin/rkcov cc --no-gate --cmp --compiler=clang");
        let spaced = Path::new("/my bin/rkcov");
        assert!(command(spaced, "cc", &args, None).is_err());
    }
}
