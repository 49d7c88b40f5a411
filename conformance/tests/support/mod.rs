// SPDX-License-Identifier: MIT OR Apache-2.0
//! Agents on the kcov of a process, compiled here.

use std::path::{Path, PathBuf};
use std::process::Command;

use rkcov_conformance::live::program::Program;

/// A folder with the runtime's artifacts and with agents.
pub(crate) struct Workshop(tempfile::TempDir);

/// The sources of agents.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("agent")
}

impl Workshop {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        rkcov_artifacts::install(folder.path()).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the compiler. Words that are names of sources, or of files in the folder, stand for
    /// those.
    fn compile(&self, output: &str, words: &[&str]) -> PathBuf {
        let output = self.path(output);
        let mut gcc = Command::new("gcc");
        gcc.args(["-g", "-O1", "-pthread", "-Wall", "-Wextra", "-Werror", "-I"]);
        gcc.arg(self.0.path()).arg("-o").arg(&output);
        // The header that is not installed.
        gcc.arg("-idirafter")
            .arg(sources().join("../../crates/artifacts/include"));
        for word in words {
            let places = [sources().join(word), self.path(word)];
            match places.iter().find(|place| place.is_file()) {
                Some(place) => gcc.arg(place),
                None => gcc.arg(word),
            };
        }
        gcc.arg(format!("-Wl,-rpath,{}", self.0.path().display()));
        let made = gcc.output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{gcc:?}: {said}");
        output
    }

    /// An agent by the name of its host.
    fn agent(&self, name: &str, words: &str) -> Program {
        let words: Vec<_> = words.split_whitespace().collect();
        Program::new(self.compile(name, &words))
    }

    /// The whole runtime in the program; markers have guards.
    pub(crate) fn in_executable(&self) -> Program {
        self.agent(
            "process",
            "-DGUARDS agent.c device-process.c subject.c subject.S rkcov.o rkcov-module.o",
        )
    }

    /// The same, built for a sanitizer.
    pub(crate) fn sanitized(&self, sanitizer: &str) -> Program {
        let words = "-DGUARDS agent.c device-process.c subject.c subject.S rkcov.o rkcov-module.o";
        self.agent(sanitizer, &format!("-fsanitize={sanitizer} {words}"))
    }

    /// The same without a dynamic linker; markers have no guards.
    pub(crate) fn in_static_executable(&self) -> Program {
        self.agent(
            "process-static",
            "agent.c device-process.c subject.c subject.S rkcov-static.o rkcov-module.o
             -static -Wl,--wrap=pthread_create",
        )
    }

    /// The whole runtime in a program in Rust, which calls it through the crate `rkcov`; markers
    /// have guards.
    pub(crate) fn in_rust(&self) -> Program {
        let object = self.compile("subject.o", &["-DGUARDS", "-c", "subject.S"]);
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(name);
        }
        cargo.args(["rustc", "--quiet", "--package", "rkcov-agent"]);
        cargo.args(["--example", "process", "--target-dir"]);
        cargo.arg(&target).current_dir(sources()).arg("--");
        for linked in [&object, &self.path("rkcov.o")] {
            cargo.arg(format!("-Clink-arg={}", linked.display()));
        }
        for exported in ["*kcov_*", "subject_*"] {
            cargo.arg(format!("-Clink-arg=-Wl,--export-dynamic-symbol={exported}"));
        }
        let made = cargo.output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{cargo:?}: {said}");
        // Of its own, since the next build takes the place of this one.
        let program = self.path("process-rust");
        std::fs::copy(target.join("debug/examples/process"), &program).unwrap();
        Program::new(program)
    }

    /// Annotated code as a library of its own.
    fn subject(&self) {
        let words = "-fPIC -shared subject.c subject.S rkcov-module.o librkcov.so";
        let words: Vec<_> = words.split_whitespace().collect();
        self.compile("libsubject.so", &words);
    }

    /// The runtime is a library, and so is the annotated code.
    pub(crate) fn in_library(&self) -> Program {
        self.subject();
        self.agent(
            "process-library",
            "agent.c device-process.c libsubject.so rkcov-module.o librkcov.so",
        )
    }

    /// A program that knows nothing of the runtime, but calls a library that is annotated.
    pub(crate) fn preloaded(&self) -> Program {
        self.subject();
        let mut program = self.agent(
            "preload",
            "-DPRELOADED agent.c device-file.c libsubject.so -Wl,--allow-shlib-undefined",
        );
        let preload = self.path(rkcov_artifacts::PRELOAD.name);
        program.environment = vec![("LD_PRELOAD".into(), preload.into())];
        program
    }
}
