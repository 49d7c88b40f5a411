// SPDX-License-Identifier: MIT OR Apache-2.0
//! A folder with the artifacts, and compilers that know where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder of the test programs.
pub(crate) fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs")
}

/// Runs a command that must succeed, and answers what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = finish(command);
    assert!(output.status.success(), "{}", told(command, &output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command to its end, for at most five minutes.
pub(crate) fn finish(command: &mut Command) -> Output {
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after=5", "300"])
        .arg(command.get_program());
    limited.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    limited
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A command and what became of it.
pub(crate) fn told(command: &Command, output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    format!("{command:?}: {}\n{text}", output.status)
}

/// Instruments with PCs only.
pub(crate) const PCS: &[&str] = &["-fsanitize-coverage=trace-pc"];
/// Instruments with PCs and comparisons.
pub(crate) const COMPARISONS: &[&str] = &["-fsanitize-coverage=trace-pc,trace-cmp"];
/// Instruments nothing.
pub(crate) const PLAIN: &[&str] = &[];

/// The runtime inside of an executable.
pub(crate) const OBJECT: &[&str] = &["rkcov.o", "rkcov-module.o"];
/// The runtime inside of a static executable.
pub(crate) const STATIC: &[&str] = &[
    "-static",
    "-Wl,--wrap=pthread_create",
    "rkcov-static.o",
    "rkcov-module.o",
];
/// The runtime beside a shared object, or beside an executable without one in it.
pub(crate) const LIBRARY: &[&str] = &["rkcov-module.o", "librkcov.so"];

/// What instruments a program, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// gcc, `trace-pc`.
    Gcc,
    /// clang, `trace-pc-guard` behind a gate.
    Clang,
}

impl Compiler {
    /// gcc, and clang if one is installed that has gates.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let is_here = |compiler: &Self| {
            let version = Command::new(compiler.name("-.c")).arg("--version").output();
            version.is_ok_and(|output| output.status.success())
        };
        [Self::Gcc, Self::Clang].into_iter().filter(is_here)
    }

    /// The program that compiles this source.
    pub(crate) fn name(self, source: &str) -> &'static str {
        match (self, source.ends_with(".cc")) {
            (Self::Gcc, false) => "gcc",
            (Self::Gcc, true) => "g++",
            (Self::Clang, false) => "clang-22",
            (Self::Clang, true) => "clang++-22",
        }
    }

    /// The flags that instrument.
    pub(crate) fn instrumentation(self) -> &'static [&'static str] {
        match self {
            Self::Gcc => PCS,
            Self::Clang => &[
                "-Xclang",
                "-fsanitize-coverage-type=3",
                "-Xclang",
                "-fsanitize-coverage-trace-pc-guard",
                "-mllvm",
                "-sanitizer-coverage-gated-trace-callbacks",
            ],
        }
    }
}

/// A folder of one test, with the artifacts in it.
pub(crate) struct Lab(tempfile::TempDir);

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        rkcov_artifacts::install(folder.path()).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Compiles a source of the test programs (or of a path) into an object.
    pub(crate) fn object(&self, compiler: &str, source: &str, flags: &[&str]) -> PathBuf {
        let source = programs().join(source);
        let stem = source.file_stem().and_then(OsStr::to_str).unwrap();
        let object = self.path(&format!("{stem}-{}.o", flags.concat().replace('/', "_")));
        let mut command = Command::new(compiler);
        command
            .args([
                "-g", "-O1", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Werror",
            ])
            .arg("-I")
            .arg(self.0.path())
            // The header that is not installed.
            .arg("-idirafter")
            .arg(programs().join("../../include"));
        succeed(
            command
                .args(flags)
                .arg("-c")
                .arg(&source)
                .arg("-o")
                .arg(&object),
        );
        object
    }

    /// Links `objects` into `name`. Arguments that are names of artifacts stand for those.
    pub(crate) fn link(
        &self,
        compiler: &str,
        name: &str,
        objects: &[PathBuf],
        arguments: &[&str],
    ) -> PathBuf {
        let file = self.path(name);
        let mut command = Command::new(compiler);
        command.args(["-g", "-pthread"]).args(objects);
        for argument in arguments {
            let artifact = self.path(argument);
            if !argument.starts_with('-') && artifact.exists() {
                command.arg(artifact);
            } else {
                command.arg(argument);
            }
        }
        // libc ends a static program that says where it looks for libraries.
        if !arguments.iter().any(|flag| flag.starts_with("-static")) {
            command.arg(format!("-Wl,-rpath,{}", self.0.path().display()));
        }
        succeed(command.arg("-o").arg(&file));
        file
    }

    /// An instrumented executable of one source, with the runtime as `runtime` says.
    pub(crate) fn program(&self, source: &str, runtime: &[&str]) -> PathBuf {
        let compiler = if source.ends_with(".cc") {
            "g++"
        } else {
            "gcc"
        };
        let name = source.rsplit_once('.').map_or(source, |(stem, _)| stem);
        let object = self.object(compiler, source, PCS);
        self.link(compiler, name, &[object], runtime)
    }

    /// A program that is a client by `client.h`. `flags` are for compiler and linker.
    pub(crate) fn client(
        &self,
        compiler: Compiler,
        source: &str,
        runtime: &[&str],
        flags: &[&str],
    ) -> PathBuf {
        let stem = source.rsplit_once('.').map_or(source, |(stem, _)| stem);
        let instrumented = [compiler.instrumentation(), flags].concat();
        let objects = [
            self.object(compiler.name(source), source, &instrumented),
            // What gcc generates at link time it instruments all alike.
            self.object(
                compiler.name("client.c"),
                "client.c",
                &[flags, &["-fno-lto"]].concat(),
            ),
        ];
        let arguments = [runtime, flags].concat();
        self.link(compiler.name(source), stem, &objects, &arguments)
    }

    /// An instrumented shared library of one source.
    pub(crate) fn library(&self, source: &str, flags: &[&str]) -> PathBuf {
        let stem = source.rsplit_once('.').map_or(source, |(stem, _)| stem);
        let object = self.object("gcc", source, flags);
        let arguments = [&["-shared", "-Wl,-z,defs"], LIBRARY].concat();
        self.link("gcc", &format!("lib{stem}.so"), &[object], &arguments)
    }

    /// Has `program` find a kcov at Linux's path, and `libraries` before its others.
    pub(crate) fn preload(&self, program: &Path, libraries: &[&Path]) -> Command {
        let ours = self.path(rkcov_artifacts::PRELOAD.name);
        let all: Vec<_> = [ours.as_path()]
            .iter()
            .chain(libraries)
            .map(|p| p.as_os_str())
            .collect();
        let mut command = Command::new(program);
        command
            .env("LD_PRELOAD", all.join(OsStr::new(":")))
            .current_dir(self.0.path());
        command
    }
}

/// What `client_print()` printed: the functions of each of its lists.
pub(crate) fn covered(printed: &str) -> BTreeMap<&str, BTreeSet<String>> {
    let mut lists = BTreeMap::<_, BTreeMap<_, BTreeSet<u64>>>::new();
    for line in printed.lines() {
        let mut fields = line.split(' ');
        let mut next = || fields.next().unwrap_or_else(|| panic!("{line}"));
        let (what, module, offset) = (next(), next(), next());
        let offset = u64::from_str_radix(offset.trim_start_matches("0x"), 16).unwrap();
        let of_module = lists.entry(what).or_default().entry(module).or_default();
        of_module.insert(offset);
    }
    let named = |modules: BTreeMap<&str, BTreeSet<u64>>| {
        let each = modules.into_iter();
        each.flat_map(|(module, pcs)| functions(Path::new(module), 0, pcs))
            .collect()
    };
    lists
        .into_iter()
        .map(|(what, modules)| (what, named(modules)))
        .collect()
}

/// What [`covered`] should answer.
pub(crate) fn lists<const N: usize>(
    expected: [(&'static str, &[&str]); N],
) -> BTreeMap<&'static str, BTreeSet<String>> {
    let named = |functions: &[&str]| functions.iter().map(|f| (*f).to_owned()).collect();
    expected
        .map(|(what, functions)| (what, named(functions)))
        .into()
}

/// The functions that `pcs`, addresses in `module` at the address `bias`, lie in.
pub(crate) fn functions(
    module: &Path,
    bias: u64,
    pcs: impl IntoIterator<Item = u64>,
) -> Vec<String> {
    let mut command = Command::new("addr2line");
    command.arg("--functions").arg("--exe").arg(module);
    // A PC is a return address: the call stands before it.
    command.args(
        pcs.into_iter()
            .map(|pc| format!("{:#x}", pc.wrapping_sub(bias).wrapping_sub(1))),
    );
    let printed = succeed(&mut command);
    printed.lines().step_by(2).map(str::to_owned).collect()
}
