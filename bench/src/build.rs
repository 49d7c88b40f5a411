// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sources of what is measured, its input, and how both benches build it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::shell::{self, Error};
use xtask::{demo, root, sources, target_dir, work_dir};

/// The clang that is measured: one that has gates.
pub(crate) const CLANG: &str = "clang-22";

/// A library under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Inflates, in C.
    Zlib,
    /// Parses and writes JSON, in C.
    CJson,
    /// Inflates, in Rust.
    MinizOxide,
    /// Parses and writes JSON, in Rust.
    SerdeJson,
}

impl Program {
    pub(crate) const IN_C: [Self; 2] = [Self::Zlib, Self::CJson];
    pub(crate) const IN_RUST: [Self; 2] = [Self::MinizOxide, Self::SerdeJson];

    /// The name in the rows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::CJson => "cJSON",
            Self::MinizOxide => "miniz_oxide",
            Self::SerdeJson => "serde_json",
        }
    }

    /// The program of `bench/rust` that has it, and the packages that it is made of.
    pub(crate) fn in_rust(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::SerdeJson => (
                "json",
                &["serde_json", "serde_core", "itoa", "memchr", "zmij"],
            ),
            _ => ("inflate", &["miniz_oxide", "adler2"]),
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::CJson => "cjson",
            _ => "zlib",
        }
    }

    /// The files of the library that its work needs, and what calls them.
    fn files(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::CJson => (&["cJSON.c"], "cjson.c"),
            _ => (
                &[
                    "adler32.c",
                    "crc32.c",
                    "inffast.c",
                    "inflate.c",
                    "inftrees.c",
                    "zutil.c",
                ],
                "zlib.c",
            ),
        }
    }
}

/// What all builds need.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Where everything is built.
    pub(crate) out: PathBuf,
    /// The runtime, as files.
    pub(crate) artifacts: PathBuf,
    /// The folder of rkcov's commands.
    commands: PathBuf,
}

impl Bench {
    /// Fetches the sources in C, builds rkcov, and makes the files that are worked on: the C sources
    /// of zlib, several times over, packed; and the same lines as JSON. rkcov is compiled for speed if
    /// it is a part of what is measured.
    ///
    /// # Errors
    /// The sources cannot be had, or something does not build.
    pub(crate) fn prepare(rkcov_runs: bool) -> Result<Self, Error> {
        let out = work_dir("bench");
        fs::create_dir_all(&out)?;
        let artifacts = out.join("artifacts");
        rkcov_artifacts::install(&artifacts)?;
        let commands = match rkcov_runs {
            false => demo::build_rkcov()?.with_file_name(""),
            true => {
                let mut build = Command::new("cargo");
                build.args(["build", "--quiet", "--release", "--package", "rkcov-cli"]);
                shell::run(build.current_dir(root()))?;
                target_dir().join("release")
            }
        };
        let bench = Self {
            out,
            artifacts,
            commands,
        };
        bench.make_inputs()?;
        Ok(bench)
    }

    /// The file that a program works on.
    pub(crate) fn input(&self, program: Program) -> PathBuf {
        self.out.join(match program {
            Program::Zlib | Program::MinizOxide => "packed.zlib",
            Program::CJson | Program::SerdeJson => "lines.json",
        })
    }

    /// How often it does so in one run: a tenth of a second or so without instrumentation.
    pub(crate) fn repeat(program: Program) -> &'static str {
        match program {
            Program::Zlib | Program::MinizOxide => "10",
            Program::CJson | Program::SerdeJson => "4",
        }
    }

    fn make_inputs(&self) -> Result<(), Error> {
        let zlib = sources::debian("zlib")?;
        let mut files: Vec<PathBuf> = fs::read_dir(&zlib)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_, std::io::Error>>()?;
        files.retain(|path| path.extension().is_some_and(|e| e == "c" || e == "h"));
        files.sort();
        let mut plain = Vec::new();
        for file in files {
            plain.extend(fs::read(file)?);
        }
        let input = self.out.join("plain");
        fs::write(&input, plain.repeat(3))?;
        // Python has zlib and JSON in it, and is where there is a compiler.
        let program = "
import json, sys, zlib
plain = open(sys.argv[1], 'rb').read()
open(sys.argv[2], 'wb').write(zlib.compress(plain, 6))
lines = plain.decode('latin-1').splitlines()
with open(sys.argv[3], 'w') as out:
    for at in range(0, len(lines), 200):
        piece = lines[at:at + 200]
        values = [dict(line=at + i, text=text, share=len(text) / 80, words=text.split(),
                       blank=not text, of=None) for i, text in enumerate(piece)]
        out.write(json.dumps(values) + '\\n')
";
        let mut python = Command::new("python3");
        python.args(["-c", program]).arg(input);
        python.arg(self.input(Program::Zlib));
        shell::run(python.arg(self.input(Program::CJson)))
    }

    /// One of rkcov's commands.
    pub(crate) fn command(&self, name: &str) -> PathBuf {
        self.commands.join(name)
    }

    /// The folder of the benches' own sources.
    pub(crate) fn here(folder: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
    }

    /// Compiles a library in C, and what calls it, into `folder`, with the compiler and the flags
    /// that `cc` begins with.
    ///
    /// # Errors
    /// It does not compile.
    pub(crate) fn compile_library(
        &self,
        program: Program,
        cc: &[&str],
        folder: &Path,
    ) -> Result<Vec<PathBuf>, Error> {
        let source = sources::debian(program.source())?;
        let (files, work) = program.files();
        let files = files.iter().map(|file| source.join(file));
        files
            .chain([Self::here("c").join(work)])
            .map(|file| self.compile(&file, cc, folder, &["-I", &source.to_string_lossy()]))
            .collect()
    }

    /// Compiles a file into `folder`, with `-O2`.
    ///
    /// # Errors
    /// It does not compile.
    pub(crate) fn compile(
        &self,
        source: &Path,
        cc: &[&str],
        folder: &Path,
        flags: &[&str],
    ) -> Result<PathBuf, Error> {
        fs::create_dir_all(folder)?;
        let object = folder.join(source.file_name().unwrap_or_default());
        let object = object.with_extension(if source.starts_with(Self::here("c")) {
            "bench.o"
        } else {
            "o"
        });
        let mut command = self.compiler(cc);
        // The libraries are written in the C of their day; its warnings are not ours.
        command
            .args(["-O2", "-w", "-c", "-DHAVE_UNISTD_H"])
            .args(flags);
        command.arg("-I").arg(&self.artifacts);
        // gcov writes beside the object, by the name that it was compiled to.
        shell::run(
            command
                .arg(source)
                .arg("-o")
                .arg(&object)
                .current_dir(folder),
        )?;
        Ok(object)
    }

    /// The compiler, and the flags, of these words; the first may be rkcov.
    pub(crate) fn compiler(&self, cc: &[&str]) -> Command {
        let mut command = match cc {
            ["rkcov", ..] => Command::new(self.command("rkcov")),
            _ => Command::new(cc[0]),
        };
        command.args(&cc[1..]);
        command
    }

    /// Cargo on the programs in Rust, with these flags for all that is built for the target, which
    /// is this machine.
    pub(crate) fn cargo(&self, folder: &Path, rustflags: &str) -> Command {
        let mut cargo = Self::in_rust(Path::new("cargo"), folder);
        cargo.env("RUSTFLAGS", rustflags);
        cargo
    }

    /// The same by `cargo rkcov`.
    pub(crate) fn cargo_rkcov(&self, folder: &Path) -> Command {
        let mut cargo = Self::in_rust(&self.command("cargo-rkcov"), folder);
        cargo.arg("rkcov");
        cargo
    }

    fn in_rust(program: &Path, folder: &Path) -> Command {
        let mut cargo = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_") && name != "CARGO_HOME"
                || name.starts_with("RUSTC_")
                || name == "RUSTFLAGS"
            {
                cargo.env_remove(&*name);
            }
        }
        cargo
            .current_dir(Self::here("rust"))
            .env("CARGO_TARGET_DIR", folder);
        cargo
    }
}

/// The host, as Rust names it.
pub(crate) fn host() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
