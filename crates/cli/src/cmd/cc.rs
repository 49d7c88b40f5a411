// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov cc` and `rkcov c++`: a compiler that instruments what it compiles.

use crate::error::{say, Error};
use crate::toolchain::{find, probe, Compiler};
use crate::wrap::{plan, response, Invocation, Options, Plan, Reason, Request, Runtime};
use crate::{assembler, cache};
use clap::Parser;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::{env, fs, io};

/// Arguments of `rkcov cc` and `rkcov c++`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    own: Own,
    /// The compiler's arguments, passed on unchanged
    #[arg(
        value_name = "[COMPILER] ARGS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    rest: Vec<OsString>,
    /// Print this help; `rkcov cc -- --help` prints the compiler's
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: (),
}

const HELP: &str = "\
rkcov's options come first. All arguments from the first one on that is not an option of rkcov are \
passed to the compiler. rkcov uses the first of these compilers: the value of --compiler; the first \
argument, if it is the name or path of a compiler (gcc, clang-20, aarch64-linux-gnu-g++; ccache and \
other launchers may come before it); $RKCOV_CC or, for `rkcov c++`, $RKCOV_CXX; cc or c++.

On x86-64 and arm64 rkcov replaces the compiler's call at each edge by a check, before the assembler \
runs: it passes -B with a folder that contains its own `as`, which runs the real one, and passes \
-fno-integrated-as to clang. Code that clang compiles with -flto keeps its calls.

rkcov adds arguments and does not change or reorder yours:
  to compile: -fsanitize-coverage=trace-pc (clang: by -Xclang), with --cmp also trace-cmp; -B as said \
above; -g1 (clang: -gline-tables-only) if there is no -g, and behind -g0
  to link: the runtime, and linker options that export its functions to the program's shared libraries
So compile and link with `rkcov cc`: objects that another compiler links lack the runtime, and code \
that another compiler compiled is not recorded. RKCOV_VERBOSE=1 prints the whole command. It adds \
nothing to a command line that compiles no code, compiles for another machine or without a C library, \
or has its own coverage options.

rkcov adds the folder of <rkcov.h> after all other include folders, for programs that are clients of \
their own kcov.

Environment:
  RKCOV_CC, RKCOV_CXX  The compiler
  RKCOV_CCFLAGS        Options of rkcov, used before those on the command line
  RKCOV_VERBOSE        If set, print the command that runs, or why nothing was added to it

A ccache in front of rkcov ignores these variables. With ccache, use options instead.

Examples:
  make CC='rkcov cc'
  CC='rkcov cc clang' CXX='rkcov c++ clang++' cmake -B build
  rkcov cc -O2 -o program main.c";

/// rkcov's own options.
#[derive(Clone, Debug, Default, clap::Args)]
struct Own {
    /// Insert a call at each edge instead of a check: slower; for programs that use the GS register
    /// themselves
    #[arg(long)]
    calls: bool,
    /// No effect: there are no gates any more
    #[arg(long, hide = true)]
    no_gate: bool,
    /// Count at each edge for a fuzzer that reads clang's inline-8bit-counters (libFuzzer, LibAFL), with
    /// any compiler; rkcov's runtime is not linked
    #[arg(long, conflicts_with = "calls")]
    counters: bool,
    /// Record comparisons too, for `rkcov run --mode cmp`: slower
    #[arg(long)]
    cmp: bool,
    /// The compiler to run, by name or path
    #[arg(long, value_name = "PROGRAM")]
    compiler: Option<OsString>,
}

/// `$RKCOV_CCFLAGS`.
#[derive(Debug, Parser)]
#[command(
    name = "RKCOV_CCFLAGS",
    no_binary_name = true,
    disable_help_flag = true
)]
struct FromEnvironment {
    #[command(flatten)]
    own: Own,
}

/// Why the compiler was not run.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no such program.
    #[error(transparent)]
    Find(#[from] find::NotFound),
    /// It is no compiler that rkcov knows.
    #[error(transparent)]
    Probe(#[from] probe::Error),
    /// The system refuses to run it.
    #[error("cannot run {}", .0.display())]
    Exec(OsString, #[source] io::Error),
    /// `$RKCOV_CCFLAGS` makes no sense.
    #[error("RKCOV_CCFLAGS: {0}")]
    Environment(clap::Error),
    /// Counters are asked for, and cannot be had.
    #[error(
        "--counters: {} ({}) cannot make them; gcc for x86-64 can, with an assembler of binutils 2.35 or \
         later, and so can clang",
        .0.display(),
        .1
    )]
    NoCounters(PathBuf, String),
    /// The runtime cannot be unpacked.
    #[error("cannot unpack the runtime")]
    Runtime(#[source] io::Error),
}

impl Failure {
    /// The exit status that a shell has for it.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Find(find::NotFound::Missing(_)) => ExitCode::from(127),
            Self::Find(find::NotFound::NotExecutable(_)) | Self::Exec(..) => ExitCode::from(126),
            Self::Environment(_) => ExitCode::from(2),
            Self::Probe(_) | Self::NoCounters(..) | Self::Runtime(_) => ExitCode::FAILURE,
        }
    }
}

/// The language that a wrapper's compiler is of when nothing names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `rkcov cc`.
    C,
    /// `rkcov c++`.
    Cxx,
}

impl Language {
    /// The words that name the compiler when the command line does not.
    fn compiler(self) -> Vec<OsString> {
        let (variable, name) = match self {
            Self::C => ("RKCOV_CC", "cc"),
            Self::Cxx => ("RKCOV_CXX", "c++"),
        };
        match env::var_os(variable) {
            Some(value) if !value.is_empty() => words(&value),
            _ => vec![name.into()],
        }
    }
}

fn words(text: &OsStr) -> Vec<OsString> {
    text.as_bytes()
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| OsStr::from_bytes(word).to_owned())
        .collect()
}

/// Becomes the compiler. Comes back only if that fails.
///
/// # Errors
/// The compiler cannot be found, understood or run.
pub fn run(args: Args, language: Language) -> Result<ExitCode, Error> {
    match exec(args.own, args.rest, language)? {}
}

/// Becomes the compiler, in whose place a program of the name `cc` or `c++` was run: all of `args`
/// are the compiler's, and which it is the environment says.
///
/// # Errors
/// As [`run`].
pub fn stand_in(args: &[OsString], language: Language) -> Result<Infallible, Error> {
    Ok(exec(Own::default(), args.to_vec(), language)?)
}

fn exec(own: Own, rest: Vec<OsString>, language: Language) -> Result<Infallible, Failure> {
    let own = own.or(Own::from_environment()?);
    let invocation = match own.compiler {
        Some(compiler) => Invocation::of(compiler, rest),
        None => Invocation::read(rest, || language.compiler()),
    };
    let program = find(&invocation.compiler)?;
    let expanded = response::expand(&invocation.args, read_regular_file);
    let request = Request::read(&expanded);
    let options = Options {
        calls: own.calls,
        counters: own.counters,
        comparisons: own.cmp,
    };
    if own.no_gate {
        say("rkcov: --no-gate has no effect: there are no gates any more");
    }
    let compiler = Compiler::of(&program)?;
    let plan = plan(&request, &compiler, env::consts::ARCH, options);

    // One of the user's own folders may have an assembler in it.
    let users_assembler = || {
        let mut folders = request.tool_folders.iter().peekable();
        folders.peek()?;
        let options: Vec<OsString> = folders.map(|f| assembler::option(f.as_ref())).collect();
        probe::assembler_of(&program.path, &options)
    };

    let verbose = env::var_os("RKCOV_VERBOSE").is_some_and(|value| !value.is_empty());
    let mut variables = Vec::new();
    let compiler_args = match plan {
        Plan::Leave(Reason::NoCounters) => {
            return Err(Failure::NoCounters(program.path, compiler.to_string()))
        }
        Plan::Leave(reason) => {
            if verbose {
                say(format_args!("rkcov: nothing added: {reason}"));
            }
            invocation.args.clone()
        }
        Plan::Add {
            front,
            after,
            header,
            assembles,
            link,
        } => {
            let runtime = Runtime::in_dir(&cache::runtime().map_err(Failure::Runtime)?);
            let mut ours: Vec<OsString> = front.into_iter().map(OsString::from).collect();
            // Without the folder the calls stay.
            if let Some(Ok(folder)) = assembles.map(assembler::folder) {
                ours.push(assembler::option(&folder));
                variables = compiler.assembler_variables(&program.path, users_assembler());
            }
            if header {
                ours.extend(runtime.header());
            }
            if let Some(link) = link {
                ours.extend(runtime.arguments(link, &expanded));
            }
            invocation.with(ours, after)
        }
    };

    // The compiler's own path instead of a search, but its name as it was given: compilers look at
    // it, and print it.
    let mut command = match invocation.launchers.split_first() {
        None => {
            let mut command = Command::new(&program.path);
            command.arg0(&invocation.compiler);
            command
        }
        Some((launcher, others)) => {
            let mut command = Command::new(find(launcher)?.path);
            command
                .arg0(launcher)
                .args(others)
                .arg(&invocation.compiler);
            command
        }
    };
    command.args(compiler_args).envs(variables);
    if verbose {
        say(format_args!("rkcov: {command:?}"));
    }
    let error = command.exec();
    Err(Failure::Exec(command.get_program().to_owned(), error))
}

/// The contents of a response file. Pipes can be read once only, and that is the compiler's to do.
fn read_regular_file(path: &OsStr) -> Option<Vec<u8>> {
    let regular = fs::metadata(path).is_ok_and(|found| found.is_file());
    regular.then(|| fs::read(path).ok()).flatten()
}

impl Own {
    fn from_environment() -> Result<Self, Failure> {
        let value = env::var_os("RKCOV_CCFLAGS").unwrap_or_default();
        FromEnvironment::try_parse_from(words(&value))
            .map(|parsed| parsed.own)
            .map_err(Failure::Environment)
    }

    /// These options, and where they say nothing, `other`.
    fn or(self, other: Self) -> Self {
        Self {
            calls: self.calls || other.calls,
            no_gate: self.no_gate || other.no_gate,
            counters: self.counters || other.counters,
            cmp: self.cmp || other.cmp,
            compiler: self.compiler.or(other.compiler),
        }
    }
}
