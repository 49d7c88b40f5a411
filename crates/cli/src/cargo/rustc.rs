// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is added to the command lines of rustc and rustdoc. No input or output here.

use crate::wrap::{Link, Runtime};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// LLVM's pass runs only if it is named: its options alone do nothing. It counts edges, with a
/// number for each, which says at once where a thread's bitmap has it. There is no gate: what is
/// built here is run under a collector from its start, and link-time optimization of Rust code
/// makes gates private to it, so that nobody could open them.
const INSTRUMENTATION: [&str; 3] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-trace-pc-guard",
];

const COMPARISONS: &str = "-Cllvm-args=-sanitizer-coverage-trace-compares";

/// One codegen unit gives the same code in each build; and the lines are to stay where the report
/// looks for them, whatever the profile says.
const FOR_THE_REPORT: [&str; 3] = ["-Ccodegen-units=1", "-Cstrip=none", "-Csplit-debuginfo=off"];

/// Lines, and functions with the names that the linker knows, inlined ones too.
const LINE_TABLES: &str = "-Cdebuginfo=1";

/// Has functions compiled that nothing calls, and the linker leaves them in: they are reported as
/// not run.
const WHAT_NOTHING_CALLS: &str = "-Clink-dead-code";

/// What a command line asks rustc for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// It is for the target: not a build script, a proc macro, or what these use.
    pub target: bool,
    /// It asks something, or compiles nothing.
    pub asks: bool,
    /// It makes, or runs, tests.
    pub tests: bool,
    /// How what it makes is linked, if it is.
    pub link: Option<Link>,
    /// Line numbers are there already.
    pub lines: bool,
    /// Paths that are to be others in what is compiled: `FROM=TO`.
    pub remapped: Vec<OsString>,
}

impl Request {
    /// Reads the arguments of rustc or rustdoc.
    #[must_use]
    pub fn read(args: &[OsString]) -> Self {
        let mut request = Self::default();
        let mut fixed = false;
        let mut types: Vec<String> = Vec::new();
        request.remapped = values_of(args, "--remap-path-prefix");
        let mut rest = args.iter().map(|arg| arg.to_string_lossy());
        while let Some(arg) = rest.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ if arg.starts_with("-C") && arg.len() > 2 => ("-C", Some(arg[2..].to_owned())),
                _ => (&*arg, None),
            };
            let takes_value = [
                "--target",
                "--crate-type",
                "--crate-name",
                "-C",
                "--codegen",
            ];
            let value = match value {
                None if takes_value.contains(&name) => rest
                    .next()
                    .map(|value| value.into_owned())
                    .unwrap_or_default(),
                value => value.unwrap_or_default(),
            };
            match name {
                "--target" => {
                    request.target = true;
                    fixed |= value.contains("-musl");
                }
                "--crate-type" => types.extend(value.split(',').map(str::to_owned)),
                "--crate-name" if value == "___" => request.asks = true,
                "--print" | "-vV" | "-V" | "--version" => request.asks = true,
                "--test" => request.tests = true,
                "-g" => request.lines = true,
                "-C" | "--codegen" => {
                    let (option, value) = value.split_once('=').unwrap_or((&value, ""));
                    match option {
                        "debuginfo" => {
                            request.lines = !["0", "none", "line-directives-only"].contains(&value)
                        }
                        "target-feature" => {
                            for feature in value.split(',') {
                                match feature {
                                    "+crt-static" => fixed = true,
                                    "-crt-static" => fixed = false,
                                    _ => {}
                                }
                            }
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        let is = |wanted: &str| types.iter().any(|found| found == wanted);
        request.link = if request.tests || is("bin") || types.is_empty() {
            Some(if fixed {
                Link::StaticExecutable
            } else {
                Link::Executable
            })
        } else if is("cdylib") || is("dylib") || is("proc-macro") {
            Some(Link::Shared)
        } else {
            None
        };
        request
    }
}

/// The values of an option, as they are.
fn values_of(args: &[OsString], option: &str) -> Vec<OsString> {
    let mut values = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let attached = arg.as_bytes().strip_prefix(option.as_bytes());
        match attached {
            Some([]) => values.extend(rest.next().cloned()),
            Some([b'=', value @ ..]) => values.push(OsStr::from_bytes(value).to_owned()),
            _ => {}
        }
    }
    values
}

/// What is asked of the wrapper for one package.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Its code is instrumented.
    pub instrument: bool,
    /// Comparisons are reported too.
    pub comparisons: bool,
    /// Functions that nothing calls are there, too.
    pub dead_code: bool,
    /// C code is instrumented: build scripts and proc macros may be linked with some.
    pub with_c: bool,
    /// The runtime's files.
    pub runtime: &'a Runtime,
}

/// What is added to a command line of rustc, behind the user's own arguments, where it wins.
#[must_use]
pub fn additions(request: &Request, wish: Wish<'_>) -> Vec<OsString> {
    additions_for(Tool::Rustc, request, wish)
}

fn additions_for(tool: Tool, request: &Request, wish: Wish<'_>) -> Vec<OsString> {
    let mut added = Vec::new();
    if request.asks || !(request.target || wish.with_c) {
        return added;
    }
    if request.target {
        if wish.instrument {
            added.extend(INSTRUMENTATION.map(OsString::from));
            added.extend(wish.comparisons.then(|| COMPARISONS.into()));
            added.extend(wish.dead_code.then(|| WHAT_NOTHING_CALLS.into()));
        }
        added.extend(FOR_THE_REPORT.map(OsString::from));
        if !request.lines {
            added.push(LINE_TABLES.into());
        }
    }
    match request.link {
        // Before rustc's own libraries: libgcc has a function of the name that `--wrap` gives to ours.
        Some(Link::StaticExecutable) if tool == Tool::Rustc => {
            let mut folder = OsString::from("-Lnative=");
            folder.push(wish.runtime.folder());
            added.extend([folder, "-lstatic:+whole-archive,-bundle=rkcov".into()]);
            let options = Runtime::static_options().map(OsString::from);
            let options = options
                .into_iter()
                .flat_map(|option| ["-Xlinker".into(), option]);
            added.extend(options.map(link_argument));
        }
        Some(link) => {
            let mut arguments = wish.runtime.arguments(link, &[]);
            // The runtime comes after rustc's own libraries, and is a user of libc: a linker that goes
            // from left to right has to look there once more. rustc has told it to take shared
            // libraries again, whatever it links.
            if link == Link::StaticExecutable {
                arguments.push("-Wl,-Bstatic".into());
            }
            arguments.push("-lc".into());
            added.extend(arguments.into_iter().map(link_argument));
        }
        None => {}
    }
    added
}

/// Whose command line it is: rustdoc has no `-l`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Rustc,
    Rustdoc,
}

/// What is added to rustdoc's command line for the tests in documentation. They are gone when they
/// have run, so `runtool` runs them, which keeps them for the report.
#[must_use]
pub fn doctest_additions(request: &Request, wish: Wish<'_>, runtool: &[OsString]) -> Vec<OsString> {
    if !request.target || request.link.is_none() {
        return Vec::new();
    }
    let mut added = additions_for(Tool::Rustdoc, request, wish);
    // There are many, each with the whole of Rust's own debug information.
    added.push("-Clink-arg=-Wl,--compress-debug-sections=zlib".into());
    let options = std::iter::once("--test-runtool").chain(std::iter::repeat(RUNTOOL_ARG));
    for (option, word) in options.zip(runtool) {
        added.extend([option.into(), word.clone()]);
    }
    added
}

const RUNTOOL_ARG: &str = "--test-runtool-arg";

/// Rustdoc's arguments without what names the program that runs the tests, and that program with its
/// arguments: cargo gives it if the user has configured a runner. Ours runs it.
#[must_use]
pub fn without_runtool(args: &[OsString]) -> (Vec<OsString>, Vec<OsString>) {
    let mut kept = Vec::new();
    let mut runner = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let attached = |option: &str| {
            let value = arg.as_bytes().strip_prefix(option.as_bytes())?;
            let value = value.strip_prefix(b"=")?;
            Some(OsStr::from_bytes(value).to_owned())
        };
        let is = |option: &str| arg == option;
        if is("--test-runtool") || is(RUNTOOL_ARG) {
            let value = rest.next().cloned().unwrap_or_default();
            runner.insert(if is(RUNTOOL_ARG) { runner.len() } else { 0 }, value);
        } else if let Some(value) = attached("--test-runtool") {
            runner.insert(0, value);
        } else if let Some(value) = attached(RUNTOOL_ARG) {
            runner.push(value);
        } else {
            kept.push(arg.clone());
        }
    }
    (kept, runner)
}

fn link_argument(arg: OsString) -> OsString {
    let mut option = OsString::from("-Clink-arg=");
    option.push(arg);
    option
}
