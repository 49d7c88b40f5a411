// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds small programs, runs them under `rkcov run`, and looks into the traces.

use object::{Object, ObjectSymbol, SymbolKind};
use rkcov_report::trace::{Mode, ProcessId, Stream, Trace, TraceFile};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// The command under test.
pub(crate) const RKCOV: &str = env!("CARGO_BIN_EXE_rkcov");

/// A folder of a test's own, with the runtime in it.
pub(crate) struct Lab {
    folder: TempDir,
}

/// What instruments a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// gcc, `trace-pc` and `trace-cmp`.
    Gcc,
    /// clang, `trace-pc-guard` behind a gate, and `trace-cmp`.
    Clang,
}

impl Compiler {
    /// gcc, and clang if one is installed that has gates.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Self::Gcc, Self::Clang]
            .into_iter()
            .filter(|compiler| compiler.command().is_some())
    }

    pub(crate) fn command(self) -> Option<Command> {
        match self {
            Self::Gcc => Some(Command::new("gcc")),
            Self::Clang => {
                let versions = (20..30).rev().map(|n| format!("clang-{n}"));
                let there = |name: &String| {
                    let version = Command::new(name).arg("--version").output();
                    version.is_ok_and(|output| output.status.success())
                };
                versions.into_iter().find(there).map(Command::new)
            }
        }
    }

    fn instrumentation(self) -> &'static [&'static str] {
        match self {
            Self::Gcc => &["-fsanitize-coverage=trace-pc,trace-cmp"],
            Self::Clang => &[
                "-Xclang",
                "-fsanitize-coverage-type=3",
                "-Xclang",
                "-fsanitize-coverage-trace-pc-guard",
                "-Xclang",
                "-fsanitize-coverage-trace-cmp",
                "-mllvm",
                "-sanitizer-coverage-gated-trace-callbacks",
            ],
        }
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        rkcov_artifacts::install(&folder.path().join("runtime")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn artifact(&self, name: &str) -> PathBuf {
        self.path("runtime").join(name)
    }

    /// Compiles `tests/run/programs/NAME.c`, instrumented.
    pub(crate) fn object(&self, compiler: Compiler, name: &str, flags: &[&str]) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/run/programs")
            .join(name)
            .with_extension("c");
        let object = self.path(&format!("{name}-{compiler:?}.o"));
        let mut cc = compiler.command().expect("the compiler is installed");
        cc.args(["-g", "-O1", "-fPIC", "-Wall", "-Werror", "-c"]);
        cc.args(compiler.instrumentation()).args(flags);
        succeed(cc.arg(source).arg("-o").arg(&object));
        object
    }

    /// Links with gcc.
    pub(crate) fn link<S: AsRef<OsStr>>(&self, name: &str, arguments: &[S]) -> PathBuf {
        let file = self.path(name);
        succeed(Command::new("gcc").args(arguments).arg("-o").arg(&file));
        file
    }

    /// Compiles and links `tests/run/programs/NAME.c` as an executable with the runtime in it.
    pub(crate) fn program(&self, compiler: Compiler, name: &str) -> PathBuf {
        let object = self.object(compiler, name, &[]);
        let runtime = self.artifact("rkcov.o");
        self.link(
            name,
            &[
                object.as_os_str(),
                runtime.as_os_str(),
                OsStr::new("-pthread"),
            ],
        )
    }

    /// `rkcov run` with a trace file of its own; arguments are to follow.
    pub(crate) fn run(&self, mode: Mode) -> Run {
        let trace = self.path("trace.rkcov");
        let mut command = Command::new(RKCOV);
        command
            .args(["run", "--mode", mode.name(), "-o"])
            .arg(&trace);
        command.stdin(Stdio::null());
        Run { command, trace }
    }
}

/// A run of `rkcov run` that is being put together.
pub(crate) struct Run {
    pub(crate) command: Command,
    trace: PathBuf,
}

impl Run {
    /// Runs a program to its end.
    pub(crate) fn of<S: AsRef<OsStr>>(self, program: &Path, arguments: &[S]) -> Ran {
        self.start(program, arguments).end()
    }

    /// Starts a program, its output in pipes.
    pub(crate) fn start<S: AsRef<OsStr>>(mut self, program: &Path, arguments: &[S]) -> Running {
        let command = self.command.arg("--").arg(program).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running {
            child: command.spawn().unwrap(),
            trace: self.trace,
        }
    }
}

/// A run that is under way.
pub(crate) struct Running {
    pub(crate) child: Child,
    trace: PathBuf,
}

impl Running {
    /// Waits for the end.
    pub(crate) fn end(self) -> Ran {
        Ran {
            output: self.child.wait_with_output().unwrap(),
            trace: TraceFile::open(self.trace).unwrap(),
        }
    }
}

/// A run that has ended.
pub(crate) struct Ran {
    pub(crate) output: Output,
    trace: TraceFile,
}

impl Ran {
    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.output.stdout).unwrap()
    }

    pub(crate) fn stderr(&self) -> &str {
        std::str::from_utf8(&self.output.stderr).unwrap()
    }

    /// What was said on standard error, without the folder of the lab in it.
    pub(crate) fn said_without_paths(&self) -> String {
        let folder = self.trace.path().parent().unwrap();
        self.stderr().replace(folder.to_str().unwrap(), "LAB")
    }

    pub(crate) fn trace(&self) -> Trace<'_> {
        self.trace.trace().unwrap()
    }

    /// Asserts that the program exited with `status` and gives the trace.
    #[track_caller]
    pub(crate) fn exited(&self, status: i32) -> Trace<'_> {
        assert_eq!(self.output.status.code(), Some(status), "{}", self.stderr());
        self.trace()
    }
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Finds the function that a PC is in.
pub(crate) struct Symbols<'t> {
    trace: &'t Trace<'t>,
    files: BTreeMap<PathBuf, Vec<(u64, u64, String)>>,
}

impl<'t> Symbols<'t> {
    pub(crate) fn new(trace: &'t Trace<'t>) -> Self {
        let mut files = BTreeMap::new();
        for module in trace.modules() {
            files
                .entry(module.path.clone())
                .or_insert_with(|| functions_of(&module.path));
        }
        Self { trace, files }
    }

    /// The function that `pc`, a return address, returns to.
    pub(crate) fn function(&self, process: ProcessId, pc: u64) -> Option<&str> {
        let mut modules = self.trace.modules().iter();
        let module = modules
            .find(|m| m.process == Some(process) && m.text.iter().any(|text| text.contains(&pc)))?;
        let address = (pc - 1).wrapping_sub(module.bias);
        self.files[&module.path]
            .iter()
            .find(|(start, end, _)| (start..end).contains(&&address))
            .map(|(_, _, name)| name.as_str())
    }

    /// The functions of a stream. Every PC must be in one.
    #[track_caller]
    pub(crate) fn of(&self, stream: &Stream<'_>) -> BTreeSet<&str> {
        let process = stream.info().process;
        stream
            .pcs()
            .map(|pc| {
                self.function(process, pc)
                    .unwrap_or_else(|| panic!("{pc:#x} is in no function"))
            })
            .collect()
    }
}

fn functions_of(path: &Path) -> Vec<(u64, u64, String)> {
    let Ok(bytes) = fs::read(path) else {
        return Vec::new();
    };
    let file = object::File::parse(&*bytes).unwrap();
    file.symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
        .map(|symbol| {
            let (start, size) = (symbol.address(), symbol.size());
            (start, start + size, symbol.name().unwrap().to_owned())
        })
        .collect()
}
