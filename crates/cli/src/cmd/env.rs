// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov env`: the compiler variables for a build system.

use crate::error::{say, Error};
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
    /// The C compiler that rkcov runs
    #[arg(long, value_name = "PROGRAM")]
    cc: Option<String>,
    /// The C++ compiler that rkcov runs
    #[arg(long, value_name = "PROGRAM")]
    cxx: Option<String>,
    /// Insert a call at each edge, like `rkcov cc --calls`
    #[arg(long)]
    calls: bool,
    /// No effect: there are no gates any more
    #[arg(long, hide = true)]
    no_gate: bool,
    /// Record comparisons too, like `rkcov cc --cmp`
    #[arg(long)]
    cmp: bool,
}

const HELP: &str = "\
Examples:
  eval \"$(rkcov env)\" && ./configure && make
  eval \"$(rkcov env --cc clang --cxx clang++)\" && cmake -B build
  rkcov env --format make >rkcov.mk    (then in a makefile: include rkcov.mk)
  rkcov env --format cmake >rkcov.cmake && cmake -B build --toolchain rkcov.cmake
  rkcov env --format meson >rkcov.ini && meson setup --native-file rkcov.ini build";

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For a shell's eval
    Sh,
    /// For make's include
    Make,
    /// A toolchain file of CMake
    Cmake,
    /// A native file of Meson
    Meson,
    /// A JSON object of strings
    Json,
}

/// Why the variables cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Build systems split the variables at white space, quotes or not.
    #[error(
        "CC cannot contain {}: the path has white space; use --format cmake or meson",
        .0.display()
    )]
    WhiteSpace(PathBuf),
    /// A path that is not Unicode cannot be written down.
    #[error("{} is not Unicode", .0.display())]
    NotUnicode(PathBuf),
    /// The path of this program is not known.
    #[error("cannot determine the path of the rkcov command")]
    Ourselves(#[source] io::Error),
}

/// Prints the variables.
///
/// # Errors
/// Standard output cannot be written to, or this program's path cannot stand in a variable.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    if args.no_gate {
        say("rkcov: --no-gate has no effect: there are no gates any more");
    }
    let program = env::current_exe().map_err(Failure::Ourselves)?;
    let compilers = [
        words(&program, "cc", args, args.cc.as_deref())?,
        words(&program, "c++", args, args.cxx.as_deref())?,
    ];
    if args.format.splits_at_white_space() && compilers[0][0].contains(char::is_whitespace) {
        return Err(Failure::WhiteSpace(program).into());
    }
    io::stdout().write_all(Shown(args.format, &compilers).to_string().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The words that stand in a compiler's place.
fn words(
    program: &Path,
    wrapper: &str,
    args: &Args,
    compiler: Option<&str>,
) -> Result<Vec<String>, Failure> {
    let text = program
        .to_str()
        .ok_or_else(|| Failure::NotUnicode(program.to_owned()))?;
    let compiler = compiler.map(|name| format!("--compiler={name}"));
    let words = [
        Some(text),
        Some(wrapper),
        args.calls.then_some("--calls"),
        args.cmp.then_some("--cmp"),
        compiler.as_deref(),
    ];
    Ok(words.into_iter().flatten().map(str::to_owned).collect())
}

impl Format {
    /// Whether what reads it makes words of a variable's text.
    fn splits_at_white_space(self) -> bool {
        !matches!(self, Self::Cmake | Self::Meson)
    }

    /// The name of the C compiler's variable, and of the C++ compiler's.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Sh | Self::Make | Self::Json => ["CC", "CXX"],
            Self::Cmake => ["CMAKE_C_COMPILER", "CMAKE_CXX_COMPILER"],
            Self::Meson => ["c", "cpp"],
        }
    }
}

/// The words of the C and of the C++ compiler, as a format has them.
struct Shown<'a>(Format, &'a [Vec<String>; 2]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(format, compilers) = self;
        let variables = format.names().into_iter().zip(*compilers);
        match format {
            Format::Sh => variables.into_iter().try_for_each(|(name, words)| {
                let text = words.join(" ").replace('\'', r"'\''");
                writeln!(f, "export {name}='{text}'")
            }),
            Format::Make => variables.into_iter().try_for_each(|(name, words)| {
                let text = words.join(" ").replace('$', "$$").replace('#', r"\#");
                writeln!(f, "export {name} := {text}")
            }),
            // A list: the program, and what stands before the compiler's own arguments. In brackets
            // nothing has a meaning but their end.
            Format::Cmake => variables.into_iter().try_for_each(|(name, words)| {
                let list: String = words
                    .iter()
                    .map(|word| format!(" [==[{word}]==]"))
                    .collect();
                writeln!(f, "set({name}{list})")
            }),
            Format::Meson => {
                writeln!(f, "[binaries]")?;
                variables.into_iter().try_for_each(|(name, words)| {
                    let quoted = |word: &String| {
                        format!("'{}'", word.replace('\\', r"\\").replace('\'', r"\'"))
                    };
                    let list: Vec<String> = words.iter().map(quoted).collect();
                    writeln!(f, "{name} = [{}]", list.join(", "))
                })
            }
            Format::Json => {
                let object: serde_json::Map<String, serde_json::Value> = variables
                    .into_iter()
                    .map(|(name, words)| (name.to_owned(), words.join(" ").into()))
                    .collect();
                writeln!(f, "{:#}", serde_json::Value::from(object))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: Format, program: &str) -> String {
        let compiler = |wrapper: &str| vec![program.to_owned(), wrapper.to_owned()];
        Shown(format, &[compiler("cc"), compiler("c++")]).to_string()
    }

    #[test]
    fn each_format_quotes_as_its_reader_unquotes() {
        let program = "/it's/$a#b/rkcov";
        assert_eq!(
            shown(Format::Sh, program),
            "export CC='/it'\\''s/$a#b/rkcov cc'\nexport CXX='/it'\\''s/$a#b/rkcov c++'\n"
        );
        assert_eq!(
            shown(Format::Make, program),
            "export CC := /it's/$$a\\#b/rkcov cc\nexport CXX := /it's/$$a\\#b/rkcov c++\n"
        );
        assert_eq!(
            shown(Format::Cmake, program),
            "set(CMAKE_C_COMPILER [==[/it's/$a#b/rkcov]==] [==[cc]==])\n\
             set(CMAKE_CXX_COMPILER [==[/it's/$a#b/rkcov]==] [==[c++]==])\n"
        );
        assert_eq!(
            shown(Format::Meson, program),
            "[binaries]\nc = ['/it\\'s/$a#b/rkcov', 'cc']\ncpp = ['/it\\'s/$a#b/rkcov', 'c++']\n"
        );
        let json: serde_json::Value = serde_json::from_str(&shown(Format::Json, program)).unwrap();
        assert_eq!(json["CC"], "/it's/$a#b/rkcov cc");
    }

    #[test]
    fn options_come_before_the_compiler() {
        let args = Args {
            format: Format::Sh,
            cc: None,
            cxx: None,
            calls: true,
            no_gate: true,
            cmp: true,
        };
        let program = Path::new("/bin/rkcov");
        let words = words(program, "cc", &args, Some("clang")).unwrap();
        assert_eq!(
            words.join(" "),
            "/bin/rkcov cc --calls --cmp --compiler=clang"
        );
    }
}
